//! A server under test: what a shell does around a node, in one thread and with a clock that stands.

use std::sync::Arc;

use bytes::Bytes;
use crucial_object::sync::Semaphore;
use crucial_object::{MethodId, ObjectId, Result, RunId, Sequence, SessionId, encode};
use crucial_proto::frame::{
    self, CallRequest, Hello, LENGTH_BYTES, OpenMode, OpenRequest, Operation, Request, Response,
    VERSION,
};

use crate::replication::{
    Assignment, Command, Control, Grant, Incarnation, NodeId, View, ViewVersion,
};
use crate::{
    Config, Connection, ConnectionId, Greeted, Input, Job, Millis, Node, Output, Outputs, Work,
    WorkDone,
};

pub const PARTITIONS: usize = 4;
pub const LEASE_MS: Millis = 1 << 60;
pub const NAMESPACE: &str = "tests";
pub const ME: NodeId = NodeId(1);

/// A server that is the only one of its cluster.
pub struct Server {
    pub node: Arc<Node>,
    pub control: Control,
    pub now: Millis,
    /// Jobs are not executed until somebody does so.
    pub holds_jobs: bool,
    pub jobs: Vec<Job>,
    /// Welcomes are not sent until somebody does so.
    pub holds_greetings: bool,
    pub greetings: Vec<Greeted>,
    /// Work that was begun and has not ended.
    pub works: Vec<Work>,
    /// Outputs that the harness does nothing about.
    pub others: Vec<Output>,
    responses: Vec<(ConnectionId, Response)>,
    closed: Vec<ConnectionId>,
    connections: u32,
    out: Outputs,
}

/// A client's connection.
#[derive(Clone)]
pub struct Client {
    pub connection: Arc<Connection>,
}

pub fn join(node: NodeId) -> Command {
    Command::Join {
        node,
        incarnation: Incarnation(1),
        address: format!("host-{}:1", node.0),
        lease_ms: LEASE_MS,
    }
}

pub fn hello(session: u64) -> Hello {
    Hello {
        session: SessionId(session),
        run: RunId([session as u8; 16]),
        owner: true,
        namespace: NAMESPACE.to_owned(),
        attempt: None,
        routes: 1,
        fences: 0,
    }
}

impl Server {
    /// A server that serves.
    pub fn new() -> Server {
        Server::with(|_| ())
    }

    pub fn with(set: impl FnOnce(&mut Config)) -> Server {
        let mut config = Config::new(ME, LEASE_MS, 1);
        config.partitions = PARTITIONS;
        set(&mut config);
        let mut server = Server {
            node: Arc::new(Node::new(config)),
            control: Control::new(PARTITIONS),
            now: 0,
            holds_jobs: false,
            jobs: Vec::new(),
            holds_greetings: false,
            greetings: Vec::new(),
            works: Vec::new(),
            others: Vec::new(),
            responses: Vec::new(),
            closed: Vec::new(),
            connections: 0,
            out: Outputs::new(),
        };
        server.input(Input::Cluster(7));
        server.input(Input::Incarnation(Incarnation(1)));
        server.decide(&join(ME));
        server.input(Input::Lease(Grant {
            sent_ms: 0,
            view: ViewVersion(1),
        }));
        server
    }

    pub fn view(&self) -> Arc<View> {
        self.control.view().clone()
    }

    /// The control group decides, and the server hears of it.
    pub fn decide(&mut self, command: &Command) {
        self.control.apply(command).unwrap();
        self.input(Input::View(self.view()));
    }

    /// The control group takes this server up again, in its next incarnation.
    pub fn decide_as(&mut self, incarnation: Incarnation) {
        let expire = Command::Expire {
            node: ME,
            incarnation: Incarnation(1),
        };
        self.control.apply(&expire).unwrap();
        self.decide(&Command::Join {
            node: ME,
            incarnation,
            address: "host-1:1".to_owned(),
            lease_ms: LEASE_MS,
        });
    }

    /// Another server is the primary of an object from now on.
    pub fn move_to(&mut self, object: ObjectId, node: NodeId) {
        let mut view = (*self.view()).clone();
        view.version.0 += 1;
        view.routes_version.0 += 1;
        let index = view.partition(&object).index();
        let configuration = Arc::make_mut(&mut view.configurations[index]);
        configuration.epoch.0 += 1;
        configuration.since = view.version;
        configuration.known_since = view.routes_version;
        configuration.assignments = vec![Assignment { rank: 0, node }];
        self.input(Input::View(Arc::new(view)));
    }

    pub fn input(&mut self, input: Input) {
        self.node.handle(input, self.now, &mut self.out);
        self.settle();
    }

    /// Lets time pass, and does what is due meanwhile.
    pub fn pass(&mut self, ms: Millis) {
        let until = self.now + ms;
        while let Some(at) = self.node.next_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now, &mut self.out);
            self.settle();
        }
        self.now = until;
    }

    /// Executes the jobs that were held.
    pub fn execute_jobs(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            self.execute(job);
        }
    }

    pub fn execute(&mut self, job: Job) {
        let done = self.node.execute(job);
        self.node.complete(done, self.now, &mut self.out);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let responses = &mut self.responses;
            self.out.frames.drain(|to, bytes| {
                let mut rest = Bytes::copy_from_slice(bytes);
                while let Some(length) = frame::peek_length(&rest, usize::MAX).unwrap() {
                    let mut one = rest.split_to(LENGTH_BYTES + length);
                    let body = one.split_off(LENGTH_BYTES);
                    let of_peer = frame::peer::decode_frame(body.clone());
                    if !matches!(of_peer, Ok(frame::peer::Frame::Welcome(_))) {
                        responses.push((to, frame::decode_response(body).unwrap()));
                    }
                }
            });
            for output in std::mem::take(&mut self.out.rest) {
                self.carry_out(output);
            }
            if self.holds_jobs {
                self.jobs.extend(self.out.jobs.drain(..));
            } else if let Some(job) = self.out.jobs.pop_front() {
                let done = self.node.execute(job);
                self.node.complete(done, self.now, &mut self.out);
            }
            if self.out.is_empty() {
                break;
            }
        }
        self.node.check();
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Close(connection) => self.closed.push(connection),
            Output::Greeted(greeted) if self.holds_greetings => self.greetings.push(greeted),
            Output::Greeted(greeted) => {
                let greeted = Input::Greeted(greeted);
                self.node.handle(greeted, self.now, &mut self.out);
            }
            Output::Propose(command) => {
                self.control.apply(&command).unwrap();
                let view = Input::View(self.view());
                self.node.handle(view, self.now, &mut self.out);
            }
            Output::Start(work) => self.works.push(work),
            Output::Wake => {}
            other => self.others.push(other),
        }
    }

    /// Work that the shell was given has ended.
    pub fn end_work(&mut self, done: WorkDone) {
        self.input(Input::WorkDone(done));
    }

    pub fn connection(&mut self) -> Arc<Connection> {
        self.connections += 1;
        let id = ConnectionId {
            index: self.connections,
            generation: 1,
        };
        let connection = Connection::new(id);
        self.input(Input::Connected(connection.clone()));
        connection
    }

    /// A client connects and says hello.
    pub fn client(&mut self, session: u64) -> Client {
        self.client_with(hello(session))
    }

    pub fn client_with(&mut self, hello: Hello) -> Client {
        let client = Client {
            connection: self.connection(),
        };
        self.hello(&client, hello);
        client
    }

    pub fn hello(&mut self, client: &Client, hello: Hello) {
        let hello = Request::Hello {
            version: VERSION,
            hello: Some(hello),
        };
        self.input(Input::Request(client.connection.clone(), hello));
    }

    pub fn request(&mut self, client: &Client, sequence: u64, operation: Operation) {
        let request = Request::Numbered {
            sequence: Sequence(sequence),
            acked: Sequence(0),
            operation,
        };
        self.input(Input::Request(client.connection.clone(), request));
    }

    /// Makes a call, which may wait for `timeout_ms`; 0: for as long as need be.
    pub fn call(
        &mut self,
        client: &Client,
        sequence: u64,
        (object, method): (ObjectId, &str),
        (args, timeout_ms): (Vec<u8>, u32),
    ) {
        let call = CallRequest {
            object,
            method: MethodId::of(method),
            timeout_ms,
            args: args.into(),
        };
        self.request(client, sequence, Operation::Call(call));
    }

    /// Creates a persistent counter, with request 1 of the client.
    pub fn counter(&mut self, client: &Client, key: &str) -> ObjectId {
        self.open(
            client,
            1,
            ("crucial::AtomicI64", key),
            encode(&0i64).unwrap(),
        )
    }

    /// Creates a persistent lock, with request 1 of the client.
    pub fn lock(&mut self, client: &Client, key: &str) -> ObjectId {
        let state = encode(&Semaphore::new(1)).unwrap();
        self.open(client, 1, ("crucial::Semaphore", key), state)
    }

    pub fn open(
        &mut self,
        client: &Client,
        sequence: u64,
        (type_name, key): (&str, &str),
        state: Vec<u8>,
    ) -> ObjectId {
        let open = OpenRequest {
            type_name: type_name.to_owned(),
            key: key.to_owned(),
            persistent: true,
            mode: OpenMode::FindOrCreate,
            replicas: 1,
            state,
        };
        self.open_as(client, sequence, open)
    }

    pub fn open_as(&mut self, client: &Client, sequence: u64, open: OpenRequest) -> ObjectId {
        let session = client.connection.session().unwrap();
        let object = open.object(&session.run, &session.namespace);
        self.request(client, sequence, Operation::Open(open));
        object
    }

    /// What came to a client since the last time.
    pub fn take(&mut self, client: &Client) -> Vec<Response> {
        let id = client.connection.id;
        let taken = self.responses.extract_if(.., |(to, _)| *to == id);
        taken.map(|(_, response)| response).collect()
    }

    /// The replies among them.
    pub fn replies(&mut self, client: &Client) -> Vec<(u64, Result<Vec<u8>>)> {
        let taken = self.take(client).into_iter();
        let replies = taken.filter_map(|response| match response {
            Response::Reply { sequence, result } => {
                Some((sequence.0, result.map(|bytes| bytes.to_vec())))
            }
            _ => None,
        });
        replies.collect()
    }

    pub fn is_closed(&self, client: &Client) -> bool {
        self.has_closed(client.connection.id)
    }

    pub fn has_closed(&self, connection: ConnectionId) -> bool {
        self.closed.contains(&connection)
    }
}
