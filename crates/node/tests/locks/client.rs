//! A client: a session with its connection, its requests and their replies.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use crucial_node::{Connection, Input};
use crucial_object::caller::Lifetime;
use crucial_object::{
    Error, MethodId, ObjectId, Result, RunId, Sequence, SessionId, ThreadId, decode, encode,
};
use crucial_proto::frame::{
    Attempt, CallRequest, Hello, OpenMode, OpenRequest, Operation, Request, Response, VERSION,
    object_id,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::shell::{Shell, Thread};

/// The namespace of all objects.
const NAMESPACE: &str = "locks";

/// An object of a test, by its type, its name and its first state.
#[derive(Clone, Debug)]
pub struct Named {
    pub id: ObjectId,
    type_name: &'static str,
    key: String,
    state: Vec<u8>,
}

impl Named {
    pub fn new(type_name: &'static str, key: &str, state: &impl Serialize) -> Named {
        let lifetime = Lifetime::Persistent;
        Named {
            id: object_id(lifetime, &RunId([0; 16]), NAMESPACE, type_name, key),
            type_name,
            key: key.to_owned(),
            state: encode(state).unwrap(),
        }
    }

    pub fn open(&self, mode: OpenMode) -> Operation {
        Operation::Open(OpenRequest {
            type_name: self.type_name.to_owned(),
            key: self.key.clone(),
            persistent: true,
            mode,
            replicas: 2,
            state: self.state.clone(),
        })
    }

    pub fn call(&self, method: &str, args: &impl Serialize) -> Operation {
        self.call_within(0, method, args)
    }

    /// A call that waits for no longer than this; 0: for ever.
    pub fn call_within(&self, timeout_ms: u32, method: &str, args: &impl Serialize) -> Operation {
        Operation::Call(CallRequest {
            object: self.id,
            method: MethodId::of(method),
            timeout_ms,
            args: encode(args).unwrap().into(),
        })
    }

    pub fn delete(&self) -> Operation {
        Operation::Delete(self.id)
    }
}

/// A client at one server.
#[derive(Clone)]
pub struct Client {
    pub session: SessionId,
    pub connection: Arc<Connection>,
    shell: Arc<Shell>,
    last: u64,
}

impl Client {
    /// Connects, and says hello.
    pub fn connect(thread: &mut Thread, session: u64) -> Client {
        let hello = hello(SessionId(session), thread);
        Client::begin(thread, hello, 0)
    }

    /// Connects with routes of this version.
    pub fn connect_by(thread: &mut Thread, session: u64, routes: u64) -> Client {
        let hello = hello(SessionId(session), thread);
        Client::begin(thread, Hello { routes, ..hello }, 0)
    }

    /// Connects as this attempt of an exactly-once thread.
    pub fn attempt(thread: &mut Thread, number: u32) -> Client {
        let id = ThreadId([1; 16]);
        let attempt = Attempt {
            thread: id,
            number,
            exactly_once: true,
        };
        let hello = Hello {
            attempt: Some(attempt),
            ..hello(id.session(), thread)
        };
        Client::begin(thread, hello, 0)
    }

    /// Connects once more in the same session.
    pub fn reconnect(&self, thread: &mut Thread) -> Client {
        let hello = Hello {
            ..hello(self.session, thread)
        };
        Client::begin(thread, hello, self.last)
    }

    fn begin(thread: &mut Thread, hello: Hello, last: u64) -> Client {
        let shell = thread.shell.clone();
        let connection = Connection::new(shell.open());
        let session = hello.session;
        thread.input(Input::Connected(connection.clone()));
        let hello = Request::Hello {
            version: VERSION,
            hello: Some(hello),
        };
        thread.input(Input::Request(connection.clone(), hello));
        Client {
            session,
            connection,
            shell,
            last,
        }
    }

    /// Sends a request. Gives its sequence.
    pub fn send(&mut self, thread: &mut Thread, operation: Operation) -> Sequence {
        self.last += 1;
        self.repeat(thread, self.last, operation);
        Sequence(self.last)
    }

    /// Sends the request of this sequence, perhaps once more.
    pub fn repeat(&self, thread: &mut Thread, sequence: u64, operation: Operation) {
        let request = Request::Numbered {
            sequence: Sequence(sequence),
            acked: Sequence(1),
            operation,
        };
        thread.input(Input::Request(self.connection.clone(), request));
    }

    /// Takes a call back.
    pub fn cancel(&self, thread: &mut Thread, sequence: Sequence, object: &Named) {
        let cancel = Request::Cancel {
            sequence,
            object: object.id,
        };
        thread.input(Input::Request(self.connection.clone(), cancel));
    }

    /// All replies on its connection.
    pub fn replies(&self) -> BTreeMap<Sequence, Result<Bytes>> {
        let mut replies = BTreeMap::new();
        for response in self.shell.sent(&self.connection) {
            if let Response::Reply { sequence, result } = response {
                let before = replies.insert(sequence, result);
                assert!(
                    before.is_none(),
                    "{:?} {sequence:?} has two replies",
                    self.session
                );
            }
        }
        replies
    }

    /// The reply to a request, if it has come.
    pub fn reply(&self, sequence: Sequence) -> Option<Result<Bytes>> {
        self.replies().remove(&sequence)
    }

    /// The result of a request that has to have its reply.
    pub fn result<T: DeserializeOwned>(&self, sequence: Sequence) -> Result<T> {
        let reply = self.reply(sequence);
        let reply = reply.unwrap_or_else(|| panic!("{:?} {sequence:?} has no reply", self.session));
        decode(&reply?)
    }

    /// Sends a request that is answered at once. Gives its result.
    pub fn ask<T: DeserializeOwned>(
        &mut self,
        thread: &mut Thread,
        operation: Operation,
    ) -> Result<T> {
        let sequence = self.send(thread, operation);
        self.result(sequence)
    }

    /// The requests that were not executed where they were sent.
    pub fn moved(&self) -> Vec<Sequence> {
        let sent = self.shell.sent(&self.connection).into_iter();
        sent.filter_map(|response| match response {
            Response::Moved { sequence, .. } => Some(sequence),
            _ => None,
        })
        .collect()
    }
}

/// The hello of a client that has a run of its own, and the newest routes.
fn hello(session: SessionId, thread: &Thread) -> Hello {
    let mut run = [0; 16];
    run[..8].copy_from_slice(&session.0.to_le_bytes());
    Hello {
        session,
        run: RunId(run),
        owner: true,
        namespace: NAMESPACE.to_owned(),
        attempt: None,
        routes: thread.shell.node.view().routes_version.0,
        fences: 0,
    }
}

/// Whether a request has failed as its object is gone, or was not there.
pub fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Lost { .. } | Error::NotFound { .. })
}
