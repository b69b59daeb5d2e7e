//! State that all threads of a server share: the node, and how its outputs are carried out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use crucial_local::Clock;
use crucial_node::control_group::ControlGroup;
use crucial_node::replication::{Incarnation, NodeId};
use crucial_node::{DialId, Input, Limits, Node, Output, Outputs, TypeSource, Work};
use crucial_object::Result;
use parking_lot::{Condvar, Mutex};

use crate::dial;
use crate::mailbox::Mailbox;
use crate::queues::Queues;
use crate::socket::{Socket, Sockets, Stream};
use crate::work::Workshop;

/// A peer's connection takes no more while this many bytes wait to be written to it.
const PEER_UNSENT_MAX: usize = 4 << 20;

/// Answers to [`Node::save`], by their tokens.
type Saves = HashMap<u64, Sender<Option<Result<Vec<u8>>>>>;

/// Why the server cannot go on, if it cannot.
#[derive(Default)]
struct Failure {
    reason: Option<String>,
    /// To be called then.
    notify: Option<Box<dyn FnOnce() + Send>>,
}

pub(crate) struct Shell {
    pub node: Node,
    pub limits: Limits,
    /// How long a loop spins before it sleeps.
    pub spin: Duration,
    pub control: Arc<dyn ControlGroup>,
    workshop: Workshop,
    pub sockets: Sockets,
    pub queues: Queues,
    pub mailbox: Mailbox,
    pub saves: Mutex<Saves>,
    clock: Clock,
    stopping: AtomicBool,
    long_methods: AtomicUsize,
    failure: Mutex<Failure>,
    failed: Condvar,
}

/// The parts of a shell.
pub(crate) struct Setup {
    pub node: Node,
    pub limits: Limits,
    pub spin: Duration,
    pub control: Arc<dyn ControlGroup>,
    pub types: Arc<dyn TypeSource>,
    pub queues: Queues,
}

impl Shell {
    pub fn new(setup: Setup) -> Arc<Shell> {
        let workshop = Workshop {
            types: setup.types,
            modules: setup.control.modules(),
        };
        Arc::new(Shell {
            node: setup.node,
            limits: setup.limits,
            spin: setup.spin,
            control: setup.control,
            workshop,
            sockets: Sockets::default(),
            queues: setup.queues,
            mailbox: Mailbox::default(),
            saves: Mutex::default(),
            clock: Clock::new(),
            stopping: AtomicBool::new(false),
            long_methods: AtomicUsize::new(0),
            failure: Mutex::default(),
            failed: Condvar::new(),
        })
    }

    /// The time of this server: from its start, and never back.
    pub fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Takes in an event on a thread that executes nothing, and carries out what follows.
    pub fn input(self: &Arc<Shell>, input: Input) {
        let mut out = Outputs::new();
        self.node.handle(input, self.now(), &mut out);
        self.finish(&mut out);
    }

    /// Carries out outputs on a thread that executes nothing, as that may take long: jobs go to the loops.
    pub fn finish(self: &Arc<Shell>, out: &mut Outputs) {
        self.flush(out);
        self.queues.post(out.jobs.drain(..));
    }

    /// Sends frames, and carries out the rest but for jobs.
    pub fn flush(self: &Arc<Shell>, out: &mut Outputs) {
        loop {
            self.send_frames(out);
            if out.rest.is_empty() {
                return;
            }
            for output in std::mem::take(&mut out.rest) {
                self.carry_out(output, out);
            }
        }
    }

    fn send_frames(&self, out: &mut Outputs) {
        out.frames.drain(|to, bytes| {
            if let Some(socket) = self.sockets.find(to) {
                socket.send(bytes);
            }
        });
    }

    fn carry_out(self: &Arc<Shell>, output: Output, out: &mut Outputs) {
        match output {
            Output::Close(connection) => {
                // Frames that were appended before it come first.
                self.send_frames(out);
                if let Some(socket) = self.sockets.find(connection) {
                    socket.close_when_sent();
                }
            }
            Output::Greeted(greeted) => {
                // The welcome comes first.
                self.send_frames(out);
                self.node.handle(Input::Greeted(greeted), self.now(), out);
            }
            Output::PeerReady(node) => self.drain_peer(node),
            Output::Dial {
                dial,
                node,
                incarnation,
                address,
            } => self.dial(dial, (node, incarnation), address, out),
            Output::Propose(command) => self.control.propose(command),
            Output::Start(work) => self.start_work(work),
            Output::DescribeControl(query) => {
                let info = Input::ControlInfo(query, self.control.info());
                self.node.handle(info, self.now(), out);
            }
            Output::Saved(token, state) => {
                if let Some(waiting) = self.saves.lock().remove(&token) {
                    // Whoever asked may have stopped waiting.
                    let _ = waiting.send(state);
                }
            }
            Output::Wake => self.mailbox.wake(),
        }
    }

    fn dial(
        self: &Arc<Shell>,
        dial: DialId,
        (node, incarnation): (NodeId, Incarnation),
        address: String,
        out: &mut Outputs,
    ) {
        let hello = self.node.peer_hello((node.0, incarnation.0));
        let shell = self.clone();
        let done = move |stream: Option<Stream>| match stream {
            Some(stream) => {
                let socket = shell.sockets.insert(stream, Some(hello));
                shell.input(Input::PeerUp(socket.connection.clone(), dial));
                shell.queues.assign(socket);
            }
            None => shell.input(Input::PeerDown(node, dial)),
        };
        if let Err(error) = dial::start(address, hello, done) {
            tracing::error!(%error, "no thread to connect to another server");
            self.node
                .handle(Input::PeerDown(node, dial), self.now(), out);
        }
    }

    fn start_work(self: &Arc<Shell>, work: Work) {
        let shell = self.clone();
        let done = move |done| shell.input(Input::WorkDone(done));
        if let Err(error) = self.workshop.start(work, done) {
            self.fail(error.to_string());
        }
    }

    /// Sends messages that queue for another server, as much as its connection takes.
    pub fn drain_peer(&self, node: NodeId) {
        let has_room = |connection| {
            let socket = self.sockets.find(connection);
            socket.is_some_and(|socket| socket.unsent() < PEER_UNSENT_MAX)
        };
        self.node.drain_peer(node, has_room, |connection, frames| {
            if let Some(socket) = self.sockets.find(connection) {
                socket.send(frames);
            }
        });
    }

    /// A socket's buffer has room again.
    pub fn on_drained(&self, socket: &Socket) {
        if let Some(node) = self.node.on_drained(&socket.connection) {
            self.drain_peer(node);
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Makes all threads end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.mailbox.wake();
        self.queues.wake();
    }

    pub fn long_methods(&self) -> usize {
        self.long_methods.load(Ordering::Relaxed)
    }

    /// Takes one of the places for long methods; false if all are taken.
    pub fn begin_long_method(&self) -> bool {
        let less_than_max = |count| (count < self.limits.long_methods_max).then_some(count + 1);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        self.long_methods
            .fetch_update(set, get, less_than_max)
            .is_ok()
    }

    pub fn end_long_method(&self) {
        self.long_methods.fetch_sub(1, Ordering::Relaxed);
    }

    /// The server cannot go on. The first reason counts.
    pub fn fail(&self, reason: String) {
        let notify = {
            let mut failure = self.failure.lock();
            failure.reason.get_or_insert(reason);
            failure.notify.take()
        };
        self.failed.notify_all();
        if let Some(notify) = notify {
            notify();
        }
    }

    /// Calls `notify` when the server cannot go on, or now, if it cannot already.
    pub fn on_failure(&self, notify: Box<dyn FnOnce() + Send>) {
        let mut failure = self.failure.lock();
        match failure.reason {
            None => failure.notify = Some(notify),
            Some(_) => {
                drop(failure);
                notify();
            }
        }
    }

    /// Why the server cannot go on.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().reason.clone()
    }

    /// The same, and waits for so long at most until it cannot.
    pub fn wait_failed(&self, patience: Duration) -> Option<String> {
        let mut failure = self.failure.lock();
        let is_missing = |failure: &mut Failure| failure.reason.is_none();
        self.failed
            .wait_while_for(&mut failure, is_missing, patience);
        failure.reason.clone()
    }
}
