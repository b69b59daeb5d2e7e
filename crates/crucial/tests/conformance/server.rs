//! The servers that the rows use, as processes: lone servers, or clusters.
//!
//! By default a row that starts a server gets a lone one of its own, and all other rows use the server that is embedded
//! in this process, as users do. With `CONFORMANCE_SERVERS=3` every row uses a cluster of three servers. Starting a
//! cluster takes a second, so rows that give their servers the same options share one, each in a namespace of its own.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crucial::Config;
use crucial_client::Client;
use crucial_object::RunId;
use crucial_proto::Endpoints;
use crucial_proto::frame::{OpenMode, OpenRequest};
use libtest_mimic::Failed;

use crate::place::{self, Servers};
use crate::program::Program;
use crate::proxy::Proxies;

/// How many servers each row uses.
const SERVERS: &str = "CONFORMANCE_SERVERS";

/// How long a cluster may take until all its partitions are where they belong, on a busy machine.
const WHOLE_PATIENCE: Duration = Duration::from_secs(60);

/// How often a cluster is asked whether it is whole.
const LOOK: Duration = Duration::from_millis(20);

/// The lease between the servers of a cluster: long enough that no server misses it because 800 workers start at the same
/// time on two cores.
const SERVER_LEASE_MS: &str = "4000";

/// A client's lease for which a row can wait.
pub const SHORT_LEASE: [&str; 2] = ["--lease-ms", "1000"];

/// Makes frames so small that a row can fill one, yet a cluster of three still fits into one when it is inspected.
pub const SMALL_FRAMES: [&str; 2] = ["--frame-bytes-max", "40000"];

/// The clusters that rows share, with their options.
static SHARED: Mutex<Vec<(Vec<String>, Arc<Group>)>> = Mutex::new(Vec::new());

/// Most namespaces that are tried until a row's objects are not at the first server.
const NAMESPACES_MAX: usize = 10_000;

/// The number of the next namespace.
static NAMESPACE: AtomicU64 = AtomicU64::new(0);

/// How many servers each row uses.
pub fn count() -> usize {
    let count = std::env::var(SERVERS).map_or(Ok(1), |count| count.parse());
    count.expect("CONFORMANCE_SERVERS is a number")
}

/// Whether the rows use clusters.
pub fn is_cluster() -> bool {
    count() > 1
}

/// The processes that serve what this process and its workers use.
pub fn processes() -> Result<Vec<u32>, Failed> {
    match is_cluster() {
        true => Ok(Server::start(&[])?.processes()),
        false => Ok(vec![std::process::id()]),
    }
}

/// Ends the clusters that rows share.
pub fn end_shared() {
    SHARED.lock().unwrap().clear();
}

/// The processes of a lone server, or of all servers of a cluster.
struct Group {
    members: Vec<Member>,
    /// Where the servers of a cluster keep their identities.
    directory: Option<tempfile::TempDir>,
}

struct Member {
    process: Mutex<Program>,
    /// Where it listens.
    listen: String,
    /// Where others reach it.
    address: String,
    /// Its whole command.
    arguments: Vec<String>,
}

/// A lone server or a cluster, with a namespace for one row.
pub struct Server {
    group: Arc<Group>,
    /// The addresses, as in `CRUCIAL_CLUSTER`.
    pub address: String,
    /// The namespace of the row's persistent objects.
    pub namespace: String,
}

/// What a group is started with.
struct Plan<'a> {
    /// The executable and its first words, up to `server`.
    command: &'a [String],
    options: &'a [&'a str],
    proxies: Option<&'a Proxies>,
}

impl Server {
    /// A lone server on a free port, or a cluster that the row shares with others.
    pub fn start(options: &[&str]) -> Result<Server, Failed> {
        if !is_cluster() {
            return Server::fresh(options);
        }
        let mut shared = SHARED.lock().unwrap();
        let group = match shared.iter().find(|(known, _)| known == options) {
            Some((_, group)) => group.clone(),
            None => {
                let group = Arc::new(Group::start(&own_command()?, options)?);
                let options = options.iter().map(|option| (*option).to_owned());
                shared.push((options.collect(), group.clone()));
                group
            }
        };
        drop(shared);
        Ok(Server::of(group))
    }

    /// A lone server or a cluster that only this row uses, so that it can count what is there, and kill servers.
    pub fn fresh(options: &[&str]) -> Result<Server, Failed> {
        Server::fresh_of(&own_command()?, options)
    }

    /// The same, of another executable.
    pub fn fresh_of(command: &[String], options: &[&str]) -> Result<Server, Failed> {
        Ok(Server::of(Arc::new(Group::start(command, options)?)))
    }

    /// The same, where clients go to each server through a proxy.
    pub fn behind_proxies(options: &[&str]) -> Result<(Server, Proxies), Failed> {
        let proxies = Proxies::start(count())?;
        let group = Group::start_by(&Plan {
            command: &own_command()?,
            options,
            proxies: Some(&proxies),
        })?;
        Ok((Server::of(Arc::new(group)), proxies))
    }

    fn of(group: Arc<Group>) -> Server {
        let number = NAMESPACE.fetch_add(1, Ordering::Relaxed);
        Server {
            address: group.addresses(),
            group,
            namespace: format!("row-{number}"),
        }
    }

    /// The same, with a namespace in which the persistent objects of these types and keys are not at the server that
    /// clients name first, where there are several.
    pub fn elsewhere(mut self, objects: &[(&str, &str)]) -> Result<Server, Failed> {
        if !is_cluster() {
            return Ok(self);
        }
        let client = self.client()?;
        let servers = Servers::of(&client);
        client.goodbye()?;
        let name = format!("row-{}", NAMESPACE.fetch_add(1, Ordering::Relaxed));
        let mut names = (0..NAMESPACES_MAX).map(|number| format!("{name}-{number}"));
        let id = |namespace: &str, (type_name, key): (&str, &str)| {
            let request = OpenRequest {
                type_name: type_name.to_owned(),
                key: key.to_owned(),
                persistent: true,
                mode: OpenMode::Find,
                replicas: 0,
                state: Vec::new(),
            };
            request.object(&RunId([0; 16]), namespace)
        };
        let is_elsewhere = |namespace: &String| {
            let mut ids = objects.iter().map(|object| id(namespace, *object));
            ids.all(|object| !servers.is_first(&object))
        };
        let namespace = names.find(is_elsewhere);
        self.namespace = namespace.ok_or("no namespace whose objects are elsewhere")?;
        for object in objects {
            let is_first = servers.is_first(&id(&self.namespace, *object));
            place::note(format!("{object:?}"), is_first);
        }
        Ok(self)
    }

    /// The address of a server that is not the first of the row, where there are several.
    pub fn last(&self) -> &str {
        &self.member(count() - 1).address
    }

    fn member(&self, index: usize) -> &Member {
        &self.group.members[index]
    }

    /// The processes.
    pub fn processes(&self) -> Vec<u32> {
        let members = self.group.members.iter();
        members
            .map(|member| member.process.lock().unwrap().id())
            .collect()
    }

    /// A program of this executable that uses the server.
    pub fn command(&self, program: &str) -> Result<Command, Failed> {
        let mut command = Program::command(program)?;
        command.envs(self.environment());
        Ok(command)
    }

    /// The environment of a program that uses the server.
    pub fn environment(&self) -> [(&'static str, &str); 2] {
        [
            ("CRUCIAL_CLUSTER", &self.address),
            ("CRUCIAL_NAMESPACE", &self.namespace),
        ]
    }

    /// Runs a program against it; what it printed.
    pub fn run(&self, program: &str) -> Result<String, Failed> {
        Program::start_command(self.command(program)?)?.output()
    }

    /// Lets this process and its workers use the server.
    pub fn use_here(&self) -> Result<(), Failed> {
        let mut config = Config::from_env()?;
        config.cluster = Some(self.address.parse()?);
        if is_cluster() {
            let client = self.client()?;
            place::set_here(&client);
            client.goodbye()?;
        }
        Ok(crucial::init(config)?)
    }

    /// A new client, with a run of its own.
    pub fn client(&self) -> Result<Arc<Client>, Failed> {
        self.client_in(&self.namespace)
    }

    /// A new client of another namespace.
    pub fn client_in(&self, namespace: &str) -> Result<Arc<Client>, Failed> {
        connect(&self.address, namespace)
    }

    /// The place of the server that is the primary of the objects with a key.
    pub fn primary(&self, key: &str) -> Result<usize, Failed> {
        let client = self.client()?;
        let objects = client.object_infos(None, 1, Some(key.to_owned()))?;
        let cluster = client.cluster_info()?;
        let node = objects.first().and_then(|object| object.servers.first());
        let node = node.ok_or_else(|| format!("no object {key:?}"))?;
        let mut members = cluster.members.iter();
        let member = members.find(|member| member.node == *node);
        let mut places = self.group.members.iter();
        let place = places.position(|place| member.is_some_and(|m| m.address == place.address));
        place.ok_or_else(|| format!("no server {node}").into())
    }

    /// As `kill -9` of one of the servers.
    pub fn kill(&self, index: usize) -> Result<(), Failed> {
        self.member(index).process.lock().unwrap().kill()
    }

    /// Starts a server again that was killed, and waits until the cluster is whole.
    pub fn restart(&self, index: usize) -> Result<(), Failed> {
        let member = self.member(index);
        let (process, _) = launch(&member.arguments, &member.listen)?;
        *member.process.lock().unwrap() = process;
        self.group.wait_whole()
    }

    /// As `kill` of the server that [`last`](Self::last) names; the exit status.
    pub fn terminate_last(&self) -> Result<Option<i32>, Failed> {
        let mut process = self.member(count() - 1).process.lock().unwrap();
        process.signal(rustix::process::Signal::TERM)?;
        process.wait()
    }
}

/// This executable as a server.
fn own_command() -> Result<Vec<String>, Failed> {
    let executable = std::env::current_exe()?;
    Ok(vec![
        executable.to_string_lossy().into_owned(),
        "crucial".to_owned(),
        "server".to_owned(),
    ])
}

fn connect(address: &str, namespace: &str) -> Result<Arc<Client>, Failed> {
    let endpoints: Endpoints = address.parse()?;
    let mut config = crucial_client::Config::new(endpoints.first().clone());
    config.seeds = endpoints.others().to_vec();
    config.namespace = namespace.to_owned();
    config.replicas = Config::from_env()?.replicas;
    Ok(Client::connect(config)?)
}

/// Starts one server; where it listens.
fn launch(arguments: &[String], listen: &str) -> Result<(Program, String), Failed> {
    let mut command = Command::new(&arguments[0]);
    command
        .args(&arguments[1..])
        .args(["--listen", listen])
        .env_remove("CRUCIAL_CLUSTER");
    let mut process = Program::start_command(command)?;
    let line = process.line()?;
    let address = line
        .strip_prefix("crucial server ready at ")
        .ok_or_else(|| format!("not a readiness line: {line:?}"))?;
    Ok((process, address.to_owned()))
}

impl Group {
    fn start(command: &[String], options: &[&str]) -> Result<Group, Failed> {
        Group::start_by(&Plan {
            command,
            options,
            proxies: None,
        })
    }

    fn start_by(plan: &Plan) -> Result<Group, Failed> {
        let mut group = Group {
            members: Vec::new(),
            directory: match is_cluster() {
                true => Some(tempfile::tempdir()?),
                false => None,
            },
        };
        for index in 0..count() {
            let member = group.member(plan, index)?;
            group.members.push(member);
        }
        group.wait_whole()?;
        Ok(group)
    }

    /// Starts the server of a place; all but the first join the first.
    fn member(&self, plan: &Plan, index: usize) -> Result<Member, Failed> {
        let mut arguments = plan.command.to_vec();
        let mut add = |name: &str, value: &str| {
            arguments.extend([name.to_owned(), value.to_owned()]);
        };
        let mut listen = "127.0.0.1:0".to_owned();
        let mut reached = None;
        if let Some(proxies) = plan.proxies {
            // A server that joins is reached at once, so the way to it is there before it.
            let free = std::net::TcpListener::bind(&listen)?.local_addr()?;
            listen = free.to_string();
            proxies.forward_to(index, &listen);
            reached = Some(proxies.addresses[index].clone());
        }
        if let Some(directory) = &self.directory {
            let data = directory.path().join(index.to_string());
            add("--data", &data.to_string_lossy());
            add("--server-lease-ms", SERVER_LEASE_MS);
            add("--threads", "1");
            add("--spin-us", "0");
            if let Some(first) = self.members.first() {
                add("--join", &first.address);
            }
            if let Some(reached) = &reached {
                add("--advertise", reached);
            }
        }
        arguments.extend(plan.options.iter().map(|option| (*option).to_owned()));
        let (process, listen) = launch(&arguments, &listen)?;
        Ok(Member {
            process: Mutex::new(process),
            address: reached.unwrap_or_else(|| listen.clone()),
            listen,
            arguments,
        })
    }

    fn addresses(&self) -> String {
        let addresses = self.members.iter().map(|member| member.address.as_str());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Waits until each server knows of all others, may serve, and has the partitions that it should have.
    fn wait_whole(&self) -> Result<(), Failed> {
        if self.members.len() == 1 {
            return Ok(());
        }
        let client = connect(&self.addresses(), "whole")?;
        let started = Instant::now();
        loop {
            let infos = client.cluster_infos()?;
            let is_whole = infos.len() == self.members.len()
                && infos.iter().all(|info| {
                    info.has_lease
                        && info.members.len() == self.members.len()
                        && info.view == infos[0].view
                        && info.partitions.iter().all(|partition| partition.is_settled)
                });
            if is_whole {
                return Ok(client.goodbye()?);
            }
            if started.elapsed() > WHOLE_PATIENCE {
                return Err(format!("not whole after {WHOLE_PATIENCE:?}: {infos:?}").into());
            }
            std::thread::sleep(LOOK);
        }
    }
}
