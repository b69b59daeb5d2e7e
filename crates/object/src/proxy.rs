//! The parts of a generated proxy.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::caller::{self, Call, CallNames, InFlight};
use crate::method::Method;
use crate::{Error, ObjectId, Result, held};

/// The longest time-out that a frame can carry, which has 32 bits for its milliseconds.
const TIMEOUT_MAX: Duration = Duration::from_millis(u32::MAX as u64);

/// A generated proxy: a typed face of a [`Target`].
pub trait Proxy: Sized {
    /// The proxy of `target`.
    fn new(target: Target) -> Self;
    /// The object that it calls.
    fn target(&self) -> &Target;
}

/// An object to call: its id, what people call it, and how long a call may wait.
#[derive(Clone, Debug)]
pub struct Target {
    id: ObjectId,
    key: Option<Arc<str>>,
    type_name: &'static str,
    timeout: Option<Duration>,
}

impl Target {
    pub(crate) fn with_type_name(
        id: ObjectId,
        key: Option<Arc<str>>,
        type_name: &'static str,
    ) -> Target {
        Target {
            id,
            key,
            type_name,
            timeout: None,
        }
    }

    /// The object's id.
    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// Its key; `None` if it is anonymous.
    pub fn key(&self) -> Option<&Arc<str>> {
        self.key.as_ref()
    }

    /// The same object, with calls that wait no longer than `timeout`; for ever if it is longer than 49 days.
    pub fn with_timeout(&self, timeout: Duration) -> Target {
        Target {
            timeout: (timeout <= TIMEOUT_MAX).then_some(timeout),
            ..self.clone()
        }
    }

    /// Calls a method with these encoded arguments, and waits for its result.
    pub fn call<R>(
        &self,
        method: &'static Method,
        args: Result<Vec<u8>>,
        decode: fn(&[u8]) -> Result<R>,
    ) -> Result<R> {
        if method.waits
            && let Some(refusal) = held::refusal_to_wait(method.name)
        {
            return Err(refusal);
        }
        let args = args?;
        let caller = caller::current()?;
        let reply = caller.call(&self.invocation(method, &args));
        self.result(method, reply, decode)
    }

    /// Sends a call with these encoded arguments, and returns at once.
    pub fn start<R>(
        &self,
        method: &'static Method,
        args: Result<Vec<u8>>,
        decode: fn(&[u8]) -> Result<R>,
    ) -> Pending<R> {
        let sent = args.and_then(|args| {
            let caller = caller::current()?;
            caller.start(&self.invocation(method, &args))
        });
        match sent {
            Ok(in_flight) => Pending {
                target: self.clone(),
                method,
                decode,
                state: State::InFlight(in_flight),
            },
            Err(error) => Pending {
                target: self.clone(),
                method,
                decode,
                state: State::Failed(error),
            },
        }
    }

    fn invocation<'a>(&self, method: &Method, args: &'a [u8]) -> Call<'a> {
        Call {
            object: self.id,
            method: method.id,
            names: CallNames {
                type_name: self.type_name,
                method: method.name,
            },
            timeout: self.timeout,
            args,
        }
    }

    /// Decodes a reply, and tells errors about numbers as errors about names.
    fn result<R>(
        &self,
        method: &Method,
        reply: Result<Vec<u8>>,
        decode: fn(&[u8]) -> Result<R>,
    ) -> Result<R> {
        match reply {
            Ok(bytes) => decode(&bytes),
            Err(Error::Lost { .. }) => Err(Error::Lost {
                object: self.to_string(),
            }),
            Err(Error::UnknownMethod {
                type_name, known, ..
            }) => Err(Error::UnknownMethod {
                type_name,
                method: method.name.to_owned(),
                known,
            }),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{} {key:?}", self.type_name),
            None => write!(f, "an anonymous {} ({})", self.type_name, self.id),
        }
    }
}

/// A call in flight, made by a method of [`Shared::deferred`](crate::Shared::deferred).
///
/// The call is already on its way: [`wait`](Pending::wait) for it in a thread, or `.await` it in an
/// async program (any executor). Calls that one thread makes on one object take effect in the order
/// in which it made them.
///
/// Dropping it does not undo the call; a call that is still *waiting* in its object (a barrier, an
/// empty semaphore) is withdrawn. But a call that has just been served is not, even if its result has not
/// arrived: then the permit, or the queue's item, is taken, and nobody has it. So a call that takes something is not
/// to be raced against a timer (`select!`): give it a [time-out](crate::Shared::with_timeout), with which it either takes
/// effect and gives its result, or neither.
#[must_use = "a call fails silently if nobody waits for it"]
pub struct Pending<R> {
    target: Target,
    method: &'static Method,
    decode: fn(&[u8]) -> Result<R>,
    state: State,
}

enum State {
    InFlight(Box<dyn InFlight>),
    Failed(Error),
    Done,
}

impl<R> Pending<R> {
    /// Blocks until the result is there.
    pub fn wait(mut self) -> Result<R> {
        let reply = match std::mem::replace(&mut self.state, State::Done) {
            State::InFlight(mut in_flight) => in_flight.wait(),
            State::Failed(error) => Err(error),
            State::Done => {
                unreachable!("wait consumes the call, and a finished future is not polled")
            }
        };
        self.target.result(self.method, reply, self.decode)
    }
}

impl<R> Future for Pending<R> {
    type Output = Result<R>;

    /// # Panics
    ///
    /// When polled again after it was ready, as other futures do.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R>> {
        let reply = match &mut self.state {
            State::InFlight(in_flight) => std::task::ready!(in_flight.poll(context)),
            State::Failed(error) => Err(error.clone()),
            State::Done => panic!("a Pending was polled after it was ready"),
        };
        self.state = State::Done;
        Poll::Ready(self.target.result(self.method, reply, self.decode))
    }
}

impl<R> std::fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pending({}.{})", self.target, self.method.name)
    }
}
