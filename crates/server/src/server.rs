//! A running server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crucial_local::SocketFile;
use crucial_node::control_group::{ControlGroup, Member};
use crucial_node::replication::{BATCH_BYTES_MAX, Grant, Incarnation, Timing, View};
use crucial_node::{Input, Limits, Millis, Node, Outputs, REPLICAS_MAX};
use crucial_object::ObjectId;
use crucial_proto::Endpoint;

use crate::event_loop::Loops;
use crate::io::{Io, Purpose};
use crate::listener::Bound;
use crate::lone::Lone;
use crate::queues::Queues;
use crate::shell::{Setup, Shell};
use crate::start::{Config, Parts, StartError};
use crate::{timers, watchdog};

/// Shortest lease of a client.
const LEASE_MIN: Duration = Duration::from_millis(100);

/// More than what a message between servers has besides what it carries.
const PEER_HEADER_BYTES: usize = 64 << 10;

/// How often a starting server looks whether it serves.
const START_LOOK: Duration = Duration::from_millis(1);

/// Counts of what a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What its node holds.
    pub node: crucial_node::Status,
    /// Threads, of all that the server has: loops, timers, watchdog, and those in long methods.
    pub threads: usize,
}

/// A running server. Dropping it stops it.
pub struct Server {
    shell: Arc<Shell>,
    endpoints: Vec<Endpoint>,
    /// The watchdog, which ends after the loops, and the timers.
    threads: Vec<JoinHandle<()>>,
    loops: usize,
    /// Names questions to the node.
    tokens: AtomicU64,
    /// Socket files, removed at the end.
    _files: Vec<SocketFile>,
}

impl Server {
    /// Starts a server that is alone and takes no modules; when this returns it can be connected to.
    pub fn start(config: Config) -> Result<Server, StartError> {
        Server::start_with(config, Parts::default())
    }

    /// Starts a server with these parts; when this returns it can be connected to, and is a member of its cluster.
    pub fn start_with(config: Config, parts: Parts) -> Result<Server, StartError> {
        check(&config)?;
        let mut bound = Bound::default();
        for endpoint in &config.listen {
            bound.listen(endpoint)?;
        }
        let control: Arc<dyn ControlGroup> = match parts.control {
            Some(control) => control,
            None => Arc::new(Lone::new()?),
        };
        let ios = ios(config.threads, bound.listeners)?;
        let wakers = ios.iter().map(Io::waker).collect::<Result<_, _>>()?;
        let shell = Shell::new(Setup {
            node: Node::new(node_config(&config, &*control)?),
            limits: config.limits,
            spin: config.spin,
            control,
            types: parts.types,
            queues: Queues::new(wakers),
        });
        shell.input(Input::Cluster(shell.control.cluster()));
        let loops = Loops::new(shell.clone(), ios);
        let mut server = Server {
            shell,
            endpoints: bound.endpoints,
            threads: Vec::new(),
            loops: loops.loops.len(),
            tokens: AtomicU64::new(0),
            _files: bound.files,
        };
        for index in 0..server.loops {
            loops.start(index)?;
        }
        server.threads.push(watchdog::start(&loops)?);
        server.threads.push(timers::start(&server.shell)?);
        // If the server cannot become a member it stops as it is dropped.
        server.join()?;
        Ok(server)
    }

    /// Makes the server a member, and waits until it serves.
    fn join(&self) -> Result<(), StartError> {
        let member = Arc::new(Membership(Arc::downgrade(&self.shell)));
        let control = &self.shell.control;
        control
            .start(member, &self.endpoints)
            .map_err(StartError::Cluster)?;
        while !self.shell.node.is_serving(self.shell.now()) {
            if let Some(reason) = self.shell.wait_failed(START_LOOK) {
                return Err(StartError::Cluster(reason));
            }
        }
        Ok(())
    }

    /// Leaves the cluster: what this server holds goes to the others first. Blocks until that is done, or for so
    /// long; whether it is done. The last server of a cluster has nobody to give anything to.
    pub fn leave(&self, patience: Duration) -> bool {
        self.shell.control.leave(patience)
    }

    /// Has `notify` called once when the server cannot go on, for instance since its control group has failed; at once if
    /// it cannot already. It is called on a thread of the server, and must not stop the server.
    pub fn on_failure(&self, notify: impl FnOnce() + Send + 'static) {
        self.shell.on_failure(Box::new(notify));
    }

    /// Why the server cannot go on; `None` while it can.
    pub fn failure(&self) -> Option<String> {
        self.shell.failure()
    }

    /// Where it listens, with the ports that it got.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Counts of what the server has now. Takes a look at every object.
    pub fn status(&self) -> Status {
        Status {
            node: self.shell.node.status(),
            threads: self.loops + self.threads.len() + self.shell.long_methods(),
        }
    }

    /// The encoded state of an object, between two of its calls; `None` if it has none of that id. Blocks while a
    /// method of the object runs.
    pub fn state(&self, id: ObjectId) -> Option<crucial_object::Result<Vec<u8>>> {
        let token = self.tokens.fetch_add(1, Ordering::Relaxed);
        let (answer, state) = mpsc::channel();
        self.shell.saves.lock().insert(token, answer);
        let mut out = Outputs::new();
        self.shell.node.save(id, token, self.shell.now(), &mut out);
        self.shell.finish(&mut out);
        // The sender is dropped only behind the answer.
        state.recv().ok().flatten()
    }

    /// Stops it: closes its connections, and waits for its threads, but not for methods that run long.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shell.control.stop();
        self.shell.stop();
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
        self.shell.sockets.close();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn check(config: &Config) -> Result<(), StartError> {
    if config.listen.is_empty() {
        return Err(StartError::Config("`listen` is empty".to_owned()));
    }
    if config.lease < LEASE_MIN {
        return Err(StartError::Config(format!(
            "a lease of {:?} is below {LEASE_MIN:?}: clients could not keep it",
            config.lease
        )));
    }
    let Limits {
        frame_bytes_max,
        peer_frame_bytes_max,
        ..
    } = config.limits;
    let needed = frame_bytes_max.max(BATCH_BYTES_MAX) + PEER_HEADER_BYTES;
    if peer_frame_bytes_max < needed {
        return Err(StartError::Config(format!(
            "peer_frame_bytes_max is {peer_frame_bytes_max}, and calls of frame_bytes_max = {frame_bytes_max} have to get from server to server: make it at least {needed}"
        )));
    }
    if !(1..=REPLICAS_MAX).contains(&config.min_replicas) {
        return Err(StartError::Config(format!(
            "min_replicas is {}: it is at least 1 and at most {REPLICAS_MAX}",
            config.min_replicas
        )));
    }
    Ok(())
}

fn node_config(
    config: &Config,
    control: &dyn ControlGroup,
) -> Result<crucial_node::Config, StartError> {
    if control.is_alone() && config.min_replicas > 1 {
        return Err(StartError::Config(format!(
            "min_replicas is {}, and this server is alone, so that changes would wait for ever: start a cluster with --join, or leave it out",
            config.min_replicas
        )));
    }
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
    let seed = u64::from_le_bytes(seed);
    let lease_ms = control.lease_ms();
    Ok(crucial_node::Config {
        limits: config.limits.clone(),
        timing: Timing {
            min_replicas: config.min_replicas,
            ..Timing::of_lease(lease_ms)
        },
        client_lease_ms: config.lease.as_millis() as Millis,
        at_least_once: config.at_least_once,
        is_alone: control.is_alone(),
        ..crucial_node::Config::new(control.node(), lease_ms, seed)
    })
}

/// The sources that each loop polls; the first loop has the listeners, and the last one is the control group's.
fn ios(threads: usize, listeners: Vec<crate::listener::Listener>) -> std::io::Result<Vec<Io>> {
    let count = match threads {
        0 => std::thread::available_parallelism().map_or(1, Into::into),
        threads => threads,
    };
    let mut listeners = Some(listeners);
    let work = (0..count).map(|_| Io::new(listeners.take().unwrap_or_default(), Purpose::Work));
    let control = std::iter::once_with(|| Io::new(Vec::new(), Purpose::Control));
    work.chain(control).collect()
}

/// The server, as its control group sees it.
struct Membership(Weak<Shell>);

impl Membership {
    fn input(&self, input: Input) {
        if let Some(shell) = self.0.upgrade() {
            shell.input(input);
        }
    }
}

impl Member for Membership {
    fn now(&self) -> Millis {
        self.0.upgrade().map_or(0, |shell| shell.now())
    }

    fn on_cluster(&self, cluster: u64) {
        self.input(Input::Cluster(cluster));
    }

    fn on_view(&self, cluster: u64, view: Arc<View>) {
        if let Some(shell) = self.0.upgrade() {
            shell.mailbox.put_view(cluster, view);
        }
    }

    fn on_lease(&self, grant: Grant) {
        self.input(Input::Lease(grant));
    }

    fn on_evicted(&self) {
        tracing::warn!(
            "this server was taken for dead by the others: what it held is theirs, and it begins anew"
        );
        self.input(Input::Evicted);
    }

    fn begin(&self, incarnation: Incarnation) {
        self.input(Input::Incarnation(incarnation));
    }

    fn on_failure(&self, reason: String) {
        tracing::error!(reason, "this server cannot be part of the cluster any more");
        if let Some(shell) = self.0.upgrade() {
            shell.fail(reason);
        }
    }
}
