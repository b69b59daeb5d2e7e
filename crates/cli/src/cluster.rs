//! `crucial cluster`: the servers, partitions and objects of a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;
use crucial_object::{Error, ObjectId, Result};
use crucial_proto::frame::{ClusterInfo, ObjectInfo};
use crucial_runtime::runtime;
use serde_json::{Value, json};

use super::rescue;
use super::value::{Answer, reachable, within};

/// Inspects clusters.
#[derive(Subcommand)]
pub enum Clusters {
    /// Inspects a cluster
    Cluster {
        #[command(subcommand)]
        operation: ClusterOperation,
    },
}

/// How long the cluster may take to decide that something is forgotten.
const FORGET_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Subcommand)]
pub enum ClusterOperation {
    /// Its servers, and whether all partitions have all of their replicas
    Status,
    /// A line for each server: identity, address, partitions as primary and as backup, roles
    Nodes,
    /// A line for each partition: number, epoch, its servers with the primary first
    Partitions,
    /// A line for each object: type, key, home, servers
    Objects {
        /// The largest number of objects to print
        #[arg(long, default_value_t = 1000, value_parser = within(1..=10_000u32))]
        max: u32,
        /// Print only objects after this one, in the order of ids
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Frees the names of persistent objects that are gone with all of their replicas. Until then nobody can create an
    /// object in place of one that may be gone, but by `recreate`
    Forget,
    /// Has a server go on without the servers that do not answer, when these are gone for ever and the control group has no
    /// majority without them. Without a confirmation it only says what would be lost
    Rescue {
        /// The server that is to go on, HOST:PORT: it runs, and has not been restarted since the others were lost
        #[arg(value_name = "HOST:PORT", value_parser = reachable)]
        server: String,
        /// Do it. The servers that do not answer can never come back, and what only they had is lost
        #[arg(long)]
        yes_lose_what_only_they_had: bool,
    },
    /// The servers of the objects with a key
    Where {
        /// The key
        key: String,
    },
}

impl Clusters {
    /// Whether the command talks to the cluster as a client does. One that has to be rescued serves no client.
    pub fn needs_client(&self) -> bool {
        let Clusters::Cluster { operation } = self;
        !matches!(operation, ClusterOperation::Rescue { .. })
    }

    pub fn run(self) -> Result<Answer> {
        let Clusters::Cluster { operation } = self;
        if let ClusterOperation::Rescue {
            server,
            yes_lose_what_only_they_had,
        } = operation
        {
            return rescue::run(&server, yes_lose_what_only_they_had);
        }
        let client = runtime::current()?.client().clone();
        match operation {
            ClusterOperation::Status => Ok(status(&client.cluster_info()?)),
            ClusterOperation::Nodes => Ok(nodes(&client.cluster_info()?)),
            ClusterOperation::Partitions => Ok(partitions(&client.cluster_info()?)),
            ClusterOperation::Objects { max, after } => {
                let after = after.map(|id| parse_id(&id)).transpose()?;
                let infos = client.object_infos(after, max, None)?;
                Ok(objects(&client.cluster_info()?, &infos))
            }
            ClusterOperation::Forget => {
                let partitions = client.forget_lost(FORGET_PATIENCE)?;
                let forgotten = json!({ "partitions": partitions });
                Ok(Answer::of(forgotten).with_lines(|value| vec![json!([value["partitions"]])]))
            }
            ClusterOperation::Rescue { .. } => unreachable!("needs no client"),
            ClusterOperation::Where { key } => {
                let infos = client.object_infos(None, 10_000, Some(key))?;
                match infos.is_empty() {
                    true => Ok(Answer::maybe(None::<String>)),
                    false => Ok(objects(&client.cluster_info()?, &infos)),
                }
            }
        }
    }
}

fn parse_id(text: &str) -> Result<ObjectId> {
    let bad = || Error::Config {
        detail: format!("{text:?} is not an object id: 32 hexadecimal digits are expected"),
    };
    if text.len() != 32 {
        return Err(bad());
    }
    let value = u128::from_str_radix(text, 16).map_err(|_| bad())?;
    Ok(ObjectId(value.to_be_bytes()))
}

/// A server's identity, as it is printed.
fn node_name(node: u64) -> String {
    format!("{node:016x}")
}

/// For each server, the number of partitions as primary and as backup.
fn partition_counts(info: &ClusterInfo) -> BTreeMap<u64, (usize, usize)> {
    let mut counts = BTreeMap::new();
    for partition in &info.partitions {
        for (rank, (_, node)) in partition.assignments.iter().enumerate() {
            let (primary, backup): &mut (usize, usize) = counts.entry(*node).or_default();
            *if rank == 0 { primary } else { backup } += 1;
        }
    }
    counts
}

/// The roles of a server.
fn roles(info: &ClusterInfo, node: u64, leaving: bool) -> Vec<&'static str> {
    let mut roles = Vec::new();
    if info.leader == Some(node) {
        roles.push("leader");
    }
    if info.voters.contains(&node) {
        roles.push("voter");
    }
    if leaving {
        roles.push("leaving");
    }
    roles
}

fn status(info: &ClusterInfo) -> Answer {
    let partitions = || info.partitions.iter();
    let without = partitions()
        .filter(|partition| partition.assignments.is_empty())
        .count();
    let moving = partitions()
        .filter(|partition| !partition.is_settled)
        .count();
    let amnesic = partitions()
        .filter(|partition| partition.is_amnesic)
        .count();
    let state = match (without, moving) {
        (0, 0) => "whole",
        (0, _) => "moving",
        _ => "incomplete",
    };
    Answer::of(json!({
        "cluster": node_name(info.cluster),
        "state": state,
        "view": info.view,
        "servers": info.members.len(),
        "leader": info.leader.map(node_name),
        "voters": info.voters.iter().copied().map(node_name).collect::<Vec<_>>(),
        "partitions": info.partitions.len(),
        "partitions_without_server": without,
        "partitions_on_the_move": moving,
        "partitions_with_lost_objects": amnesic,
        "answered_by": node_name(info.node),
        "answerer_serves": info.has_lease,
    }))
    .with_lines(|value| {
        let fields = value.as_object().into_iter().flatten();
        fields.map(|(name, value)| json!([name, value])).collect()
    })
}

fn nodes(info: &ClusterInfo) -> Answer {
    let counts = partition_counts(info);
    let nodes = info.members.iter().map(|member| {
        let (primary, backup) = counts.get(&member.node).copied().unwrap_or_default();
        json!({
            "node": node_name(member.node),
            "incarnation": member.incarnation,
            "address": member.address,
            "primary_of": primary,
            "backup_of": backup,
            "roles": roles(info, member.node, member.leaving),
        })
    });
    rows(
        nodes.collect(),
        &["node", "address", "primary_of", "backup_of", "roles"],
    )
}

fn partitions(info: &ClusterInfo) -> Answer {
    let partitions = info
        .partitions
        .iter()
        .enumerate()
        .map(|(number, partition)| {
            let assignments = partition.assignments.iter();
            json!({
                "partition": number,
                "epoch": partition.epoch,
                "servers": assignments.map(|(_, node)| node_name(*node)).collect::<Vec<_>>(),
            })
        });
    rows(partitions.collect(), &["partition", "epoch", "servers"])
}

fn objects(cluster: &ClusterInfo, infos: &[ObjectInfo]) -> Answer {
    let address = |node: &u64| {
        let member = cluster.members.iter().find(|member| member.node == *node);
        member.map_or_else(|| node_name(*node), |member| member.address.clone())
    };
    let objects = infos.iter().map(|info| {
        json!({
            "id": info.id.to_string(),
            "type": info.type_name,
            "key": info.key,
            "home": info.home,
            "partition": info.partition,
            "replicas": info.replicas,
            "servers": info.servers.iter().map(address).collect::<Vec<_>>(),
            "lost": info.is_lost,
            "epoch": info.version.0,
            "change": info.version.1,
            "parked": info.parked,
            "records": info.records,
        })
    });
    rows(
        objects.collect(),
        &["type", "key", "home", "servers", "lost"],
    )
}

/// JSON objects, which are printed as lines of the named fields.
fn rows(values: Vec<Value>, fields: &'static [&'static str]) -> Answer {
    Answer::of(values).with_lines(move |value| {
        let rows = value.as_array().into_iter().flatten();
        let row = |row: &Value| {
            let cells = fields.iter().map(|field| match &row[*field] {
                Value::Array(items) => {
                    let items = items.iter().map(|item| item.as_str().unwrap_or_default());
                    items.collect::<Vec<_>>().join(",").into()
                }
                Value::Bool(true) => (*field).into(),
                Value::Bool(false) => "".into(),
                other => other.clone(),
            });
            Value::Array(cells.collect())
        };
        rows.map(row).collect()
    })
}
