//! The client: one session with the servers of a cluster, shared by all threads of a process. A server that is alone is a
//! cluster of one.
//!
//! A blocking call is made by the calling thread itself: it writes its frame, and waits for the reply
//! on the socket, or, while another thread does that, for that thread to hand it its reply. No third
//! thread is involved.
//!
//! - [`Client`]: implements [`Caller`]; `requests` has what else servers can be asked.
//! - `session`: what is sent to whom, and what follows from each response. No I/O.
//! - `io`: sockets, threads, and those that wait.
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

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crucial_object::caller::{Call, Caller, InFlight, Lifetime, Open, Opened};
use crucial_object::{Error, ObjectId, Result, RunId, SessionId, decode};
use crucial_proto::Endpoint;
use crucial_proto::frame::{OpenRequest, Operation};
use parking_lot::Mutex;

mod config;
mod io;
mod requests;
#[doc(hidden)]
pub mod session;

pub use config::{Config, Modules};
pub use session::CALLS_IN_FLIGHT_MAX;

use config::random;
use io::{Net, Pending};
use session::{Identity, Introduction, Session};

/// A session with the servers of a cluster.
pub struct Client {
    net: Arc<Net>,
    session: SessionId,
    anonymous: AtomicU64,
    /// Whether the program's modules were pushed; held meanwhile.
    pushed: Mutex<bool>,
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if no server answers there, nor at the seeds; [`Error::Protocol`] if it is not a Crucial
    /// server of this version.
    pub fn connect(config: Config) -> Result<Arc<Client>> {
        let attempt = config.exactly_once;
        let session = match attempt {
            Some(attempt) => attempt.thread.session(),
            None => SessionId::of_client(u64::from_le_bytes(random())),
        };
        let identity = Identity {
            session,
            run: config.run,
            owner: config.owner,
            namespace: config.namespace.clone(),
            is_exactly_once: attempt.is_some(),
        };
        let introduction = Introduction {
            hello: identity.hello(attempt),
            fences: Vec::new(),
        };
        let (endpoint, dialed) = io::dial_first(&config, &introduction.hello)?;
        let routes = dialed.welcome.routes.clone();
        let member = session::Member::of(&routes, dialed.welcome.node).ok_or_else(no_member)?;
        let state = Session::new(
            identity,
            attempt,
            u64::from_le_bytes(random()),
            routes,
            &endpoint.to_string(),
        )?;
        let net = Net::new(config, state)?;
        let client = Arc::new(Client {
            net,
            session,
            anonymous: AtomicU64::new(0),
            pushed: Mutex::default(),
        });
        let link = client.net.link(member).ok_or_else(no_member)?;
        client.net.attach(&link, &introduction, dialed);
        client.net.connect_wanted();
        io::start_heartbeat(&client.net)?;
        if client.net.has_several() && attempt.is_some_and(|attempt| attempt.number > 1) {
            client.take_over()?;
        }
        Ok(client)
    }

    /// Where the server is: the first that was configured.
    pub fn endpoint(&self) -> &Endpoint {
        &self.net.config.endpoint
    }

    /// Where servers are: the present members of the cluster, and those that were configured. A client that knows
    /// these can connect.
    pub fn seeds(&self) -> Vec<Endpoint> {
        let routes = self.net.routes();
        let servers = routes.servers.iter();
        let members = servers.filter_map(|server| server.address.parse().ok());
        let mut seeds: Vec<Endpoint> = Vec::new();
        for endpoint in members.chain(self.net.config.candidates()) {
            if !seeds.contains(&endpoint) {
                seeds.push(endpoint);
            }
        }
        seeds
    }

    /// The run that this client belongs to.
    pub fn run(&self) -> RunId {
        self.net.config.run
    }

    /// The namespace of its persistent objects.
    pub fn namespace(&self) -> &str {
        &self.net.config.namespace
    }

    /// On how many servers an object is kept that does not say; 0: the servers decide.
    pub fn replicas(&self) -> u8 {
        self.net.config.replicas
    }

    /// Whether no call of this client can succeed any more: it said goodbye, or was fenced.
    pub fn has_ended(&self) -> bool {
        self.net.has_ended()
    }

    /// Removes an object, without waiting for it.
    pub fn delete_soon(&self, object: ObjectId) -> Result<()> {
        self.net.request_soon(&Operation::Delete(object), object)
    }

    /// Pushes the program's own modules, once; whether it has any.
    fn push_own_modules(&self) -> Result<bool> {
        let config = &self.net.config;
        // The calls of an exactly-once thread are numbered by what the thread does.
        let modules = config.modules.filter(|_| config.exactly_once.is_none());
        let Some(modules) = modules else {
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

    /// Cuts the connections, as a network would. The next call connects again.
    #[doc(hidden)]
    pub fn break_connection(&self) {
        self.net.cut_all();
    }
}

fn no_member() -> Error {
    Error::Protocol {
        detail: "the server is not in its own routes".to_owned(),
    }
}

impl Caller for Client {
    fn call(&self, call: &Call<'_>) -> Result<Vec<u8>> {
        let sent = self.net.begin(call)?;
        as_asked(self.net.wait(sent), call.timeout)
    }

    fn start(&self, call: &Call<'_>) -> Result<Box<dyn InFlight>> {
        let started = self.net.begin(call)?.call;
        Ok(Box::new(Started {
            net: self.net.clone(),
            call: started,
            timeout: call.timeout,
        }))
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
            replicas: match open.replicas {
                0 => self.replicas(),
                replicas => replicas,
            },
            state: open.state.to_vec(),
        };
        let object = request.object(&self.run(), self.namespace());
        let request = Operation::Open(request);
        let created = match self.net.request(&request, object) {
            Err(unknown @ Error::UnknownType { .. }) => {
                if !self.push_own_modules()? {
                    return Err(unknown);
                }
                self.net.request(&request, object)
            }
            created => created,
        };
        let created = decode(&created?)?;
        Ok(Opened { object, created })
    }

    fn delete(&self, object: ObjectId) -> Result<bool> {
        decode(&self.net.request(&Operation::Delete(object), object)?)
    }

    fn clear_poison(&self, object: ObjectId) -> Result<bool> {
        decode(&self.net.request(&Operation::ClearPoison(object), object)?)
    }

    fn clear_namespace(&self) -> Result<u64> {
        self.clear_namespaces()
    }
}

/// A call that [`Caller::start`] sent.
struct Started {
    net: Arc<Net>,
    call: Pending,
    timeout: Option<Duration>,
}

/// A result, whose time-out is the one that was asked for: the server counts in milliseconds, and from one on.
fn as_asked(result: Result<Vec<u8>>, timeout: Option<Duration>) -> Result<Vec<u8>> {
    match (result, timeout) {
        (Err(Error::TimedOut { .. }), Some(after)) => Err(Error::TimedOut { after }),
        (result, _) => result,
    }
}

impl InFlight for Started {
    fn wait(&mut self) -> Result<Vec<u8>> {
        as_asked(self.net.wait_for(&self.call), self.timeout)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        let polled = self.call.waiter.poll(context, &self.net.tasks);
        if polled.is_pending() {
            self.net.waker.wake();
        }
        polled.map(|result| as_asked(result, self.timeout))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.call.waiter.abandon(&self.net.tasks) {
            self.net.withdraw(&self.call);
        }
    }
}
