//! The client: one session with a server, shared by all threads of a process.
//!
//! A blocking call is made by the calling thread itself: it writes its frame, and waits for the reply
//! on the socket, or, while another thread does that, for that thread to hand it its reply. No third
//! thread is involved. In the order in which a call meets them:
//!
//! - [`Client`]: implements [`Caller`], numbers calls, and keeps them until they are answered.
//! - `socket`: bytes out and in.
//! - `reader`: one thread at a time reads for all (leader), the others wait (followers).
//! - `handshake`: connects, and connects again; calls in flight are sent again, and executed once.
//! - `keeper`: signs of life, and replies for async tasks.
//!
//! ```
//! use crucial_client::{Client, Config};
//! use crucial_object::{Shared, caller, sync::AtomicI64};
//! use crucial_server::Server;
//!
//! let server = Server::start(crucial_server::Config {
//!     listen: vec!["127.0.0.1:0".parse()?],
//!     ..Default::default()
//! })?;
//! let client = Client::connect(Config::new(server.endpoints()[0].clone()))?;
//! caller::with(client, || {
//!     let hits = Shared::new(AtomicI64::new(1))?;
//!     hits.fetch_add(2)
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use crucial_core::Endpoint;
use crucial_core::frame::{
    self, Attempt, CallFrame, InFlight as CallsInFlight, ModuleInfo, OpenRequest, Operation, Pushed,
};
use crucial_object::caller::{Call, Caller, InFlight, Lifetime, Open, Opened};
use crucial_object::{Error, ObjectId, Result, RunId, Sequence, SessionId, ThreadId, decode};
use parking_lot::{Mutex, MutexGuard};

mod handshake;
mod keeper;
mod pending;
mod reader;
mod socket;

use keeper::Keeper;
use pending::Slot;
use reader::Reader;
use socket::Socket;

/// Calls that a client may have in flight.
pub const CALLS_IN_FLIGHT_MAX: usize = 1 << 20;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server.
    pub endpoint: Endpoint,
    /// The application run; a random one by default.
    pub run: RunId,
    /// Whether the run ends with this client, or with another.
    pub owner: bool,
    /// The namespace of persistent objects.
    pub namespace: String,
    /// For how long calls are held while the server can not be reached; then they fail with
    /// [`Error::Unavailable`].
    pub patience: Duration,
    /// How long a thread spins before it sleeps, when that has proved worth while lately. Zero: never.
    pub spin: Duration,
    /// Whether a server on this machine is reached over its Unix socket, if it has one.
    pub local_socket: bool,
    /// The attempt of an exactly-once thread whose session this client takes up: calls get the results of
    /// the same calls of earlier attempts. Nothing of it is acknowledged until the thread is fenced.
    pub exactly_once: Option<Attempt>,
    /// The modules that this program has with it. They are pushed when the server does not know a type.
    pub modules: Option<Modules>,
}

/// Gives modules, as their bytes.
pub type Modules = fn() -> Result<Vec<Vec<u8>>>;

impl Config {
    /// A client that owns a run of its own.
    pub fn new(endpoint: Endpoint) -> Config {
        Config {
            endpoint,
            run: RunId(random()),
            owner: true,
            namespace: "default".to_owned(),
            patience: Duration::from_secs(30),
            spin: default_spin(),
            local_socket: true,
            exactly_once: None,
            modules: None,
        }
    }
}

fn default_spin() -> Duration {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => Duration::from_micros(50),
        _ => Duration::ZERO,
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

/// A session with a server.
pub struct Client {
    config: Config,
    session: SessionId,
    /// The present connection.
    socket: Mutex<Arc<Socket>>,
    /// What is not answered yet. Held for a moment, never while anything is sent.
    calls: Mutex<Calls>,
    /// Held by the thread that reads for all.
    reader: Mutex<Reader>,
    /// Threads that wait, of which the reading one makes one its successor when it has its reply.
    followers: Mutex<Vec<Arc<Slot>>>,
    /// Tasks that wait, for whom the keeper reads.
    tasks: AtomicUsize,
    keeper: Keeper,
    /// Told by the server.
    frame_bytes_max: AtomicUsize,
    lease_ms: AtomicU64,
    anonymous: AtomicU64,
    /// The cloud thread that this process runs.
    attempt: Mutex<Option<Attempt>>,
    /// Whether the program's modules were pushed; held meanwhile.
    pushed: Mutex<bool>,
    /// Why there are no calls any more.
    ended: OnceLock<Error>,
    this: Weak<Client>,
}

/// Calls in flight.
struct Calls {
    /// The last number given out.
    last: u64,
    in_flight: BTreeMap<u64, Arc<Slot>>,
    /// The last number when the server was told exactly what is in flight.
    told: u64,
    /// Nothing is acknowledged: another attempt may ask for it again.
    keep_all: bool,
}

/// How many numbers may be given out behind one that waits for long, until the server is told exactly
/// what is in flight: then it can forget the results of the others.
const TELL_AFTER: u64 = 1024;

impl Calls {
    /// The lowest number that is not answered; everything below is acknowledged.
    fn acked(&self) -> Sequence {
        if self.keep_all {
            return Sequence(1);
        }
        let first = self.in_flight.keys().next();
        Sequence(first.copied().unwrap_or(self.last + 1))
    }

    /// A call is not made. Where numbers are positions, it keeps its own.
    fn skip(&mut self) {
        self.last += u64::from(self.keep_all);
    }

    /// What the server is to be told, if it is time.
    fn take_report(&mut self) -> Option<CallsInFlight> {
        if self.keep_all {
            return None;
        }
        // In proportion, so that telling costs each call a constant.
        let patience = TELL_AFTER.max(2 * self.in_flight.len() as u64);
        let held_up = self.last.saturating_sub(self.acked().0) >= patience;
        if !held_up || self.last - self.told < patience {
            return None;
        }
        self.told = self.last;
        Some(CallsInFlight {
            last: Sequence(self.last),
            waiting: self.in_flight.keys().copied().map(Sequence).collect(),
        })
    }
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if nobody answers there; [`Error::Protocol`] if it is no Crucial server
    /// of this version.
    pub fn connect(config: Config) -> Result<Arc<Client>> {
        let attempt = config.exactly_once;
        let session = match attempt {
            Some(attempt) => attempt.thread.session(),
            None => SessionId(u64::from_le_bytes(random())),
        };
        let (socket, welcome, rest) = handshake::connect(&config, session, false, attempt)?;
        let client = Arc::new_cyclic(|this| Client {
            config,
            session,
            socket: Mutex::new(Arc::new(socket)),
            calls: Mutex::new(Calls {
                last: 0,
                in_flight: BTreeMap::new(),
                told: 0,
                keep_all: attempt.is_some(),
            }),
            reader: Mutex::new(Reader::new(rest)),
            followers: Mutex::default(),
            tasks: AtomicUsize::new(0),
            keeper: Keeper::default(),
            frame_bytes_max: AtomicUsize::new(welcome.frame_bytes_max as usize),
            lease_ms: AtomicU64::new(welcome.lease_ms),
            anonymous: AtomicU64::new(0),
            attempt: Mutex::new(attempt),
            pushed: Mutex::default(),
            ended: OnceLock::new(),
            this: this.clone(),
        });
        keeper::start(&client)?;
        Ok(client)
    }

    /// Where the server is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.config.endpoint
    }

    /// The run that this client belongs to.
    pub fn run(&self) -> RunId {
        self.config.run
    }

    /// The namespace of its persistent objects.
    pub fn namespace(&self) -> &str {
        &self.config.namespace
    }

    /// Ends the session: with an owner, the run and its objects. Calls that still wait end on the
    /// server. Later calls fail with [`Error::Cancelled`].
    pub fn goodbye(&self) -> Result<()> {
        // There is no connecting again from here on.
        self.end(Error::Cancelled);
        match self.request(&Operation::Goodbye) {
            // The server may close the connection before its answer is read.
            Ok(_) | Err(Error::Cancelled) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn end(&self, reason: Error) {
        let _ = self.ended.set(reason);
        self.keeper.stop();
    }

    /// Whether no call of this client can succeed any more: it said goodbye, or was fenced.
    pub fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// This process runs a cloud thread from here on: an older attempt of it, wherever it is, can change
    /// nothing more, and what it held comes back.
    ///
    /// # Errors
    ///
    /// [`Error::Fenced`] if it was cancelled, or a newer attempt has begun.
    pub fn begin_thread(&self, attempt: Attempt) -> Result<()> {
        *self.attempt.lock() = Some(attempt);
        self.request(&Operation::Begin(attempt)).map(drop)
    }

    /// No attempt of this cloud thread can change anything any more, wherever it runs; what it held
    /// comes back, and what is recorded of it goes. (A method that one is executing on a server at this
    /// moment may still end.)
    pub fn fence_thread(&self, thread: ThreadId) -> Result<()> {
        self.request(&Operation::Fence(thread)).map(drop)
    }

    /// The same, without waiting for it.
    pub fn fence_thread_soon(&self, thread: ThreadId) -> Result<()> {
        self.post(&Operation::Fence(thread))
    }

    /// Removes an object, without waiting for it.
    pub fn delete_soon(&self, object: ObjectId) -> Result<()> {
        self.post(&Operation::Delete(object))
    }

    /// Uploads a module of shared types, which then run on the server. With `replace` they may be new versions of
    /// types that are there, whose objects then move to the new code.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the reason; then all is as it was.
    pub fn push_module(&self, bytes: Vec<u8>, replace: bool) -> Result<Pushed> {
        let module = bytes.into();
        decode(&self.request(&Operation::Push { replace, module })?)
    }

    /// Pushes the program's own modules, once; whether it has any.
    fn push_own_modules(&self) -> Result<bool> {
        // The calls of an exactly-once thread are numbered by what the thread does.
        let Some(modules) = self
            .config
            .modules
            .filter(|_| self.config.exactly_once.is_none())
        else {
            return Ok(false);
        };
        let mut pushed = self.pushed.lock();
        let modules = modules()?;
        let any = !modules.is_empty();
        if !*pushed {
            for module in modules {
                self.push_module(module, false)?;
            }
            *pushed = true;
        }
        Ok(any)
    }

    /// The modules that were uploaded.
    pub fn modules(&self) -> Result<Vec<ModuleInfo>> {
        decode(&self.request(&Operation::Modules)?)
    }

    /// Removes a module; whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] while there are objects of its types.
    pub fn remove_module(&self, id: [u8; 32]) -> Result<bool> {
        decode(&self.request(&Operation::RemoveModule(id))?)
    }

    /// Makes a round trip.
    pub fn ping(&self) -> Result<()> {
        self.request(&Operation::Ping).map(drop)
    }

    /// Cuts the connection, as a network would. The next call connects again.
    #[doc(hidden)]
    pub fn break_connection(&self) {
        self.socket().fail();
    }

    fn socket(&self) -> Arc<Socket> {
        self.socket.lock().clone()
    }

    fn request(&self, operation: &Operation) -> Result<Vec<u8>> {
        let slot = self.send_operation(operation)?;
        self.wait(&slot)
    }

    /// Sends a request whose answer nobody waits for. It is sent again if need be, as any other.
    fn post(&self, operation: &Operation) -> Result<()> {
        self.send_operation(operation).map(drop)
    }

    fn send_operation(&self, operation: &Operation) -> Result<Arc<Slot>> {
        let mut bytes = Vec::new();
        frame::write_operation(Sequence(0), Sequence(0), operation, &mut bytes)?;
        self.send(bytes, ObjectId([0; 16]))
    }

    fn begin(&self, call: &Call<'_>) -> Result<Arc<Slot>> {
        let mut bytes = Vec::new();
        let timeout_ms = call.timeout.map_or(0, |timeout| {
            u32::try_from(timeout.as_millis())
                .unwrap_or(u32::MAX)
                .max(1)
        });
        frame::write_call(
            &CallFrame {
                sequence: Sequence(0),
                acked: Sequence(0),
                object: call.object,
                method: call.method,
                timeout_ms,
                args: call.args,
            },
            &mut bytes,
        )?;
        self.send(bytes, call.object)
    }

    /// Numbers a frame and sends it.
    fn send(&self, mut bytes: Vec<u8>, object: ObjectId) -> Result<Arc<Slot>> {
        let max = self.frame_bytes_max.load(Ordering::Relaxed);
        if bytes.len() - frame::LENGTH_BYTES > max {
            self.calls.lock().skip();
            return Err(Error::LimitExceeded {
                limit: "frame_bytes_max".to_owned(),
                max: max as u64,
                detail: format!("a request of {} bytes: send it in parts", bytes.len()),
            });
        }
        let (slot, report) = {
            let mut calls = self.calls.lock();
            if calls.in_flight.len() >= CALLS_IN_FLIGHT_MAX {
                calls.skip();
                return Err(Error::LimitExceeded {
                    limit: "CALLS_IN_FLIGHT_MAX".to_owned(),
                    max: CALLS_IN_FLIGHT_MAX as u64,
                    detail: "wait for some calls before starting more".to_owned(),
                });
            }
            let acked = calls.acked();
            calls.last += 1;
            let sequence = Sequence(calls.last);
            frame::set_numbers(&mut bytes, sequence, acked.min(sequence));
            let slot = Arc::new(Slot::new(sequence, object, bytes));
            calls.in_flight.insert(sequence.0, slot.clone());
            (slot, calls.take_report())
        };
        if let Some(in_flight) = report {
            let mut bytes = Vec::new();
            frame::write_in_flight(&in_flight, &mut bytes)?;
            self.write(&bytes);
        }
        self.write(&slot.frame);
        Ok(slot)
    }

    /// Writes a frame. If the connection is broken the frame is sent on the next one.
    fn write(&self, frame: &[u8]) {
        let socket = self.socket();
        if socket.write(frame) {
            return;
        }
        // The server takes no more for now; perhaps because it waits for us to read.
        while socket.has_unsent() {
            match self.reader.try_lock() {
                Some(mut reader) => {
                    self.read_once(&mut reader);
                    self.pass_on(reader);
                }
                None => socket.wait_writable(),
            }
        }
    }

    /// Withdraws a call.
    fn cancel(&self, slot: &Slot) {
        let mut bytes = Vec::new();
        if frame::write_cancel(slot.sequence, slot.object, &mut bytes).is_ok() {
            self.write(&bytes);
        }
    }

    fn pass_on(&self, reader: MutexGuard<'_, Reader>) {
        drop(reader);
        let mut followers = self.followers.lock();
        while let Some(follower) = followers.pop() {
            if follower.lead() {
                return;
            }
        }
    }
}

impl Caller for Client {
    fn call(&self, call: &Call<'_>) -> Result<Vec<u8>> {
        let slot = self.begin(call)?;
        self.wait(&slot)
    }

    fn start(&self, call: &Call<'_>) -> Result<Box<dyn InFlight>> {
        let slot = self.begin(call)?;
        let client = self.this.upgrade().expect("it is borrowed, so it lives");
        Ok(Box::new(Started { client, slot }))
    }

    fn open(&self, open: &Open<'_>) -> Result<Opened> {
        let key = match open.key {
            Some(key) => key.to_owned(),
            // Unique: the session is, and it counts.
            None => {
                let count = self.anonymous.fetch_add(1, Ordering::Relaxed);
                format!("#{:016x}.{count}", self.session.0)
            }
        };
        let request = OpenRequest {
            type_name: open.type_name.to_owned(),
            key,
            persistent: open.lifetime == Lifetime::Persistent,
            mode: open.mode.into(),
            replicas: open.replicas,
            state: open.state.to_vec(),
        };
        let object = request.object(&self.config.run, &self.config.namespace);
        let request = Operation::Open(request);
        let created = match self.request(&request) {
            Err(unknown @ Error::UnknownType { .. }) => {
                if !self.push_own_modules()? {
                    return Err(unknown);
                }
                self.request(&request)
            }
            created => created,
        };
        let created = decode(&created?)?;
        Ok(Opened { object, created })
    }

    fn delete(&self, object: ObjectId) -> Result<bool> {
        decode(&self.request(&Operation::Delete(object))?)
    }

    fn clear_poison(&self, object: ObjectId) -> Result<bool> {
        decode(&self.request(&Operation::ClearPoison(object))?)
    }

    fn clear_namespace(&self) -> Result<u64> {
        decode(&self.request(&Operation::ClearNamespace)?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.keeper.stop();
        self.socket().fail();
    }
}

/// A call that [`Caller::start`] sent.
struct Started {
    client: Arc<Client>,
    slot: Arc<Slot>,
}

impl InFlight for Started {
    fn wait(&mut self) -> Result<Vec<u8>> {
        self.client.wait(&self.slot)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        let polled = self.slot.poll(context, &self.client.tasks);
        if polled.is_pending() {
            self.client.keeper.look();
        }
        polled
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.slot.abandon(&self.client.tasks) {
            self.client.cancel(&self.slot);
        }
    }
}
