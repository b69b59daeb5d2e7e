//! The shell around a node, without sockets and clocks: what `crucial-server` does with a node, as threads of the scheduler.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use crucial_node::replication::{
    Command, Control, Grant, Incarnation, NodeId, Timing, View, ViewVersion,
};
use crucial_node::{
    Config, Connection, ConnectionId, DialId, Input, Job, Millis, Node, Output, Outputs, Work,
    WorkDone,
};
use crucial_proto::frame::{self, FRAME_BYTES_MAX, Response};
use shuttle::sync::Mutex;

/// Few, so that a schedule has few steps that matter to nobody.
pub const PARTITIONS: usize = 4;

/// So long that it does not end.
pub const LONG_LEASE_MS: Millis = 1 << 40;

/// When a message without an answer is sent again.
pub const REPEAT_MS: Millis = 100;

/// The lease of clients.
pub const CLIENT_LEASE_MS: Millis = 8_000;

/// The time of most events.
pub const NOW: Millis = 1_000;

/// A server's shell.
pub struct Shell {
    pub node: Node,
    sockets: Mutex<Sockets>,
    /// Jobs of threads that execute none.
    posted: Mutex<VecDeque<Job>>,
    waiting: Mutex<Waiting>,
    decided: Mutex<Vec<Command>>,
    /// The last attempt to connect to another server, until it is answered.
    pub dial: Mutex<Option<DialId>>,
}

#[derive(Default)]
struct Sockets {
    opened: u32,
    /// Connections that another server has opened. What the node says on them besides is left out.
    incoming: BTreeSet<ConnectionId>,
    /// The frames that were sent to clients, in this order.
    sent: Vec<(ConnectionId, Response)>,
    /// Connections to other servers, with what was written.
    links: BTreeMap<ConnectionId, Vec<Bytes>>,
}

/// What the thread with the timeouts knows.
struct Waiting {
    /// Until when it waits; `None`: without an end.
    until: Option<Millis>,
    is_woken: bool,
}

/// A thread of a server, with outputs of its own.
pub struct Thread {
    pub shell: Arc<Shell>,
    pub now: Millis,
    out: Outputs,
}

impl Shell {
    pub fn new(id: u64, lease_ms: Millis) -> Arc<Shell> {
        let mut config = Config::new(NodeId(id), lease_ms, 1);
        config.partitions = PARTITIONS;
        config.client_lease_ms = CLIENT_LEASE_MS;
        config.timing = Timing {
            repeat_ms: REPEAT_MS,
            silence_ms: LONG_LEASE_MS,
            ..Timing::default()
        };
        let node = Node::new(config);
        let mut out = Outputs::new();
        node.handle(Input::Cluster(1), 0, &mut out);
        node.handle(Input::Incarnation(Incarnation(1)), 0, &mut out);
        Arc::new(Shell {
            node,
            sockets: Mutex::default(),
            posted: Mutex::default(),
            waiting: Mutex::new(Waiting {
                until: None,
                is_woken: true,
            }),
            decided: Mutex::default(),
            dial: Mutex::default(),
        })
    }

    /// A server that is the only one, and serves.
    pub fn alone() -> Arc<Shell> {
        let shell = Shell::new(1, LONG_LEASE_MS);
        let view = join(&mut Control::new(PARTITIONS), 1);
        let mut thread = Thread::new(&shell, 0);
        thread.input(Input::View(view));
        thread.input(Input::Lease(grant(0)));
        shell
    }

    /// A new id for a connection.
    pub fn open(&self) -> ConnectionId {
        let mut sockets = self.sockets.lock().unwrap();
        sockets.opened += 1;
        ConnectionId {
            index: sockets.opened,
            generation: 0,
        }
    }

    /// A new id for a connection that another server opens.
    pub fn open_incoming(&self) -> ConnectionId {
        let id = self.open();
        self.sockets.lock().unwrap().incoming.insert(id);
        id
    }

    /// Opens or closes a connection to another server.
    pub fn set_link(&self, id: ConnectionId, is_open: bool) {
        let mut sockets = self.sockets.lock().unwrap();
        match is_open {
            true => drop(sockets.links.insert(id, Vec::new())),
            false => drop(sockets.links.remove(&id)),
        }
    }

    /// Takes what was written to a connection to another server.
    pub fn take_written(&self, id: ConnectionId) -> Vec<Bytes> {
        let mut sockets = self.sockets.lock().unwrap();
        sockets
            .links
            .get_mut(&id)
            .map_or_else(Vec::new, std::mem::take)
    }

    /// The frames that were sent on a connection, in their order.
    pub fn sent(&self, connection: &Connection) -> Vec<Response> {
        let sockets = self.sockets.lock().unwrap();
        let sent = sockets.sent.iter();
        sent.filter(|(to, _)| *to == connection.id)
            .map(|(_, response)| response.clone())
            .collect()
    }

    /// Takes the commands for the control group.
    pub fn take_decided(&self) -> Vec<Command> {
        std::mem::take(&mut *self.decided.lock().unwrap())
    }

    /// Writes what queues for another server.
    pub fn drain(&self, to: NodeId) {
        let has_room = |connection| self.sockets.lock().unwrap().links.contains_key(&connection);
        self.node.drain_peer(to, has_room, |connection, bytes| {
            let mut sockets = self.sockets.lock().unwrap();
            if let Some(written) = sockets.links.get_mut(&connection) {
                // The kind of the frame: there is just one.
                written.extend(frames_of(bytes).map(|mut frame| frame.split_off(1)));
            }
        });
    }

    /// What must hold when no thread has anything to do.
    pub fn check(&self) {
        self.node.check();
        let waiting = self.waiting.lock().unwrap();
        let next = self.node.next_timeout().unwrap_or(Millis::MAX);
        assert!(
            waiting.is_woken || waiting.until.unwrap_or(Millis::MAX) <= next,
            "the thread with the timeouts waits until {:?}, and one is due at {next}",
            waiting.until
        );
    }
}

impl Thread {
    pub fn new(shell: &Arc<Shell>, now: Millis) -> Thread {
        Thread {
            shell: shell.clone(),
            now,
            out: Outputs::new(),
        }
    }

    /// Takes in an event, and does all that follows.
    pub fn input(&mut self, input: Input) {
        self.shell.node.handle(input, self.now, &mut self.out);
        self.serve();
    }

    /// Takes in an event, and leaves the jobs that follow to the threads that execute some.
    pub fn input_only(&mut self, input: Input) {
        self.shell.node.handle(input, self.now, &mut self.out);
        self.finish();
    }

    /// Does what is due, and waits until something else is.
    pub fn on_time(&mut self) {
        self.shell.node.handle_timeout(self.now, &mut self.out);
        self.finish();
        let until = self.shell.node.next_timeout();
        let mut waiting = self.shell.waiting.lock().unwrap();
        if !std::mem::take(&mut waiting.is_woken) {
            waiting.until = until;
            return;
        }
        drop(waiting);
        let until = self.shell.node.next_timeout();
        self.shell.waiting.lock().unwrap().until = until;
    }

    fn finish(&mut self) {
        self.flush();
        let mut posted = self.shell.posted.lock().unwrap();
        posted.extend(self.out.jobs.drain(..));
    }

    /// Executes jobs until none is left, of its own and posted ones.
    pub fn serve(&mut self) {
        loop {
            let posted = self.shell.posted.lock().unwrap().pop_front();
            let Some(job) = posted.or_else(|| self.out.jobs.pop_front()) else {
                self.flush();
                match self.out.jobs.is_empty() {
                    true => return,
                    false => continue,
                }
            };
            let done = self.shell.node.execute(job);
            self.shell.node.complete(done, self.now, &mut self.out);
        }
    }

    fn flush(&mut self) {
        loop {
            self.send_frames();
            if self.out.rest.is_empty() {
                return;
            }
            for output in std::mem::take(&mut self.out.rest) {
                self.carry_out(output);
            }
        }
    }

    fn send_frames(&mut self) {
        if self.out.frames.is_empty() {
            return;
        }
        let mut sockets = self.shell.sockets.lock().unwrap();
        self.out.frames.drain(|to, bytes| {
            if !sockets.incoming.contains(&to) {
                let responses =
                    frames_of(bytes).map(|frame| frame::decode_response(frame).unwrap());
                sockets
                    .sent
                    .extend(responses.map(|response| (to, response)));
            }
        });
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Greeted(greeted) => {
                self.send_frames();
                let input = Input::Greeted(greeted);
                self.shell.node.handle(input, self.now, &mut self.out);
            }
            Output::PeerReady(node) => self.shell.drain(node),
            Output::Propose(command) => self.shell.decided.lock().unwrap().push(command),
            Output::Wake => self.shell.waiting.lock().unwrap().is_woken = true,
            Output::Close(_) => self.send_frames(),
            Output::Dial { dial, .. } => *self.shell.dial.lock().unwrap() = Some(dial),
            Output::Start(Work::Prune(_)) => {
                let done = Input::WorkDone(WorkDone::Pruned);
                self.shell.node.handle(done, self.now, &mut self.out);
            }
            output => panic!("no test asks for {output:?}"),
        }
    }
}

fn frames_of(bytes: &[u8]) -> impl Iterator<Item = Bytes> {
    let mut buffer = BytesMut::from(bytes);
    std::iter::from_fn(move || frame::split(&mut buffer, FRAME_BYTES_MAX).unwrap())
}

/// A server joins the cluster. Gives the view.
pub fn join(control: &mut Control, node: u64) -> Arc<View> {
    let join = Command::Join {
        node: NodeId(node),
        incarnation: Incarnation(1),
        address: String::new(),
        lease_ms: LONG_LEASE_MS,
    };
    control.apply(&join).unwrap();
    control.view().clone()
}

pub fn grant(sent_ms: Millis) -> Grant {
    Grant {
        sent_ms,
        view: ViewVersion(1),
    }
}
