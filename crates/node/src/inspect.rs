//! Information about this server and its cluster, for people and tools.

use crucial_object::{Error, ObjectId};
use crucial_proto::frame::{ClusterInfo, Inspect, MemberInfo, ObjectInfo, PartitionInfo};

use crate::ids::{Millis, REPLICAS_MAX};
use crate::node::Node;
use crate::objects::{RequestContext, RoundId, Task};
use crate::outputs::{ControlInfo, ControlQuery, Output, Outputs};
use crate::replication::placement::wanted;
use crate::replication::{Body, Home, Replica};
use crate::rounds::RoundKind;
use crate::timers::Timer;

/// How many objects are listed in one answer.
const OBJECTS_MAX: usize = 10_000;

/// For how long objects are waited for that a method keeps busy, in milliseconds.
const INSPECT_MAX_MS: Millis = 5_000;

impl Node {
    /// Answers a question about this server.
    pub(crate) fn on_inspect(
        &self,
        context: RequestContext,
        inspect: Inspect,
        now: Millis,
        out: &mut Outputs,
    ) {
        let round = match inspect {
            Inspect::Cluster => {
                out.push(Output::DescribeControl(ControlQuery(context)));
                None
            }
            Inspect::Objects { after, max, key } => {
                let max = OBJECTS_MAX.min(max as usize);
                self.list_objects(context, (after, max, key), out)
            }
            Inspect::Replicas { max } => {
                let mut objects = self.objects.all();
                objects.truncate(OBJECTS_MAX.min(max as usize));
                let kind = RoundKind::Replicas {
                    context,
                    infos: Vec::new(),
                };
                self.round(kind, objects, |_| Task::Checksum, out)
            }
        };
        if let Some(round) = round {
            self.add_timer(now + INSPECT_MAX_MS, Timer::Round(round), out);
        }
    }

    /// Objects have not answered a question in its time: a method that runs there may never end.
    pub(crate) fn give_up_round(&self, round: RoundId, out: &mut Outputs) {
        let Some((kind, left)) = self.rounds.give_up(round) else {
            return;
        };
        if let RoundKind::Objects { context, .. } | RoundKind::Replicas { context, .. } = kind {
            let error = Error::Unavailable {
                address: "the server".to_owned(),
                reason: format!(
                    "{left} objects did not answer within {INSPECT_MAX_MS} ms, as their methods run for long: ask again, or \
                     for others"
                ),
            };
            self.reply(&context, Err(&error), out);
        }
    }

    /// Answers a question about the cluster, with what the control group says of itself.
    pub(crate) fn reply_cluster(
        &self,
        context: &RequestContext,
        control: &ControlInfo,
        now: Millis,
        out: &mut Outputs,
    ) {
        self.reply_encoded(context, &self.cluster_info(control, now), out);
    }

    fn cluster_info(&self, control: &ControlInfo, now: Millis) -> ClusterInfo {
        let view = self.membership.view();
        let members = view.members.iter().map(|(node, member)| MemberInfo {
            node: node.0,
            incarnation: member.incarnation.0,
            address: member.address.clone(),
            leaving: member.leaving,
        });
        let partitions = view.partitions().map(|id| {
            let configuration = view.configuration(id);
            let assignments = configuration.assignments.iter();
            PartitionInfo {
                epoch: configuration.epoch.0,
                assignments: assignments
                    .map(|assignment| (assignment.rank, assignment.node.0))
                    .collect(),
                is_settled: configuration.assignments == wanted(id, &view, REPLICAS_MAX),
                is_amnesic: configuration.is_amnesic(),
            }
        });
        ClusterInfo {
            cluster: self.membership.cluster(),
            node: self.id().0,
            view: view.version.0,
            has_lease: self.membership.has_lease(now),
            objects: self.objects.len() as u64,
            leader: control.leader.map(|node| node.0),
            voters: control.voters.iter().map(|node| node.0).collect(),
            members: members.collect(),
            partitions: partitions.collect(),
        }
    }

    /// Asks for the encoded state of an object. The answer is among the outputs, with this token.
    pub fn save(&self, object: ObjectId, token: u64, now: Millis, out: &mut Outputs) {
        let objects = match self.exists(&object) {
            true => vec![object],
            false => Vec::new(),
        };
        let kind = RoundKind::Save { token, state: None };
        self.round(kind, objects, |_| Task::Save, out);
        self.begin_turns(now, out);
    }

    /// Lists the objects of which this server is the primary, in the order of their ids.
    fn list_objects(
        &self,
        context: RequestContext,
        (after, max, key): (Option<ObjectId>, usize, Option<String>),
        out: &mut Outputs,
    ) -> Option<RoundId> {
        let view = self.membership.view();
        let is_mine = |id: &ObjectId| view.primary(view.partition(id)) == Some(self.id());
        let mut objects = self.objects.all();
        objects.retain(|id| after.is_none_or(|after| *id > after) && is_mine(id));
        if key.is_none() {
            // Objects that are gone meanwhile make an answer shorter than it could be, and never wrong.
            objects.truncate(max);
        }
        let key = key.map(Into::into);
        let kind = RoundKind::Objects {
            context,
            max,
            infos: Vec::new(),
        };
        self.round(kind, objects, |_| Task::Describe(key.clone()), out)
    }

    pub(crate) fn end_objects_round(
        &self,
        context: &RequestContext,
        (mut infos, max): (Vec<ObjectInfo>, usize),
        out: &mut Outputs,
    ) {
        infos.sort_unstable_by_key(|info| info.id);
        infos.truncate(max);
        self.reply_encoded(context, &infos, out);
    }

    /// Describes an object.
    pub(crate) fn describe(&self, id: ObjectId, replica: &mut Replica) -> ObjectInfo {
        let view = self.membership.view();
        let partition = view.partition(&id);
        let part = self.partitions.lock(partition);
        let holders = part.partition.holders(id, replica.replicas);
        drop(part);
        let servers = holders.unwrap_or_default();
        let servers = servers.into_iter().map(|node| node.0).collect();
        let is_lost = matches!(replica.body, Body::Lost);
        let key = replica.key().to_owned();
        let (version, replicas) = (replica.version, replica.replicas);
        let origin = replica.origin.clone();
        let cell = replica.cell();
        ObjectInfo {
            id,
            type_name: origin.type_name.clone(),
            key,
            home: match &origin.home {
                Home::Run(run) => format!("run/{run}"),
                Home::Namespace(name) => format!("ns/{name}"),
            },
            partition: partition.0,
            replicas,
            servers,
            is_lost,
            version: (version.epoch.0, version.change),
            parked: cell.as_ref().map_or(0, |cell| cell.parked_len() as u64),
            records: cell.as_ref().map_or(0, |cell| cell.records_len() as u64),
        }
    }
}
