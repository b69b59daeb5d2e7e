//! Threads that park, and are unparked from anywhere.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::thread as local;
use std::time::Duration;

use crucial_object::drop_in::Token;
use crucial_object::{Error, Shared, held};
use crucial_runtime::thread as native;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::remote::must;

/// The name of a thread's token: unlike any other in the run.
type Name = [u8; 16];

/// A thread, as [`std::thread::Thread`]: of this process, or a cloud thread. It travels as the one that it names.
#[derive(Clone)]
pub struct Thread {
    name: Option<Arc<str>>,
    place: Place,
}

#[derive(Clone)]
enum Place {
    /// A thread of this process; it has a name when others know it.
    Here(local::Thread, Arc<OnceLock<Name>>),
    There(Name),
}

/// Tells threads apart, as [`std::thread::ThreadId`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ThreadId(Id);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Id {
    Here(local::ThreadId),
    There(Name),
}

thread_local! {
    static NAME: RefCell<Arc<OnceLock<Name>>> = RefCell::default();
}

/// The thread that calls this function.
pub fn current() -> Thread {
    if let Some(thread) = native::current() {
        return Thread {
            name: Some(thread.name().into()),
            place: Place::There(thread.id().0),
        };
    }
    let thread = local::current();
    Thread {
        name: thread.name().map(Arc::from),
        place: Place::Here(thread, NAME.with_borrow(Clone::clone)),
    }
}

#[track_caller]
fn token(name: &Name) -> Shared<Token> {
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    must(Shared::named(format!("token of {name}"), Token::default()))
}

/// Blocks until the thread is unparked. Can end without a cause.
#[track_caller]
pub fn park() {
    if let Some(refusal) = held::refusal_to_wait("park") {
        panic!("{refusal}");
    }
    match current().shared_name() {
        None => local::park(),
        Some(name) => must(token(&name).take()),
    }
}

/// As [`park`], for no longer than `limit`.
#[track_caller]
pub fn park_timeout(limit: Duration) {
    if let Some(refusal) = held::refusal_to_wait("park") {
        panic!("{refusal}");
    }
    match current().shared_name() {
        None => local::park_timeout(limit),
        Some(name) => match token(&name).with_timeout(limit).take() {
            Err(Error::TimedOut { .. }) => {}
            taken => must(taken),
        },
    }
}

impl Thread {
    pub(super) fn of<R: serde::de::DeserializeOwned>(handle: &native::JoinHandle<R>) -> Thread {
        Thread {
            name: Some(handle.name().into()),
            place: Place::There(handle.id().map_or([0; 16], |id| id.0)),
        }
    }

    fn shared_name(&self) -> Option<Name> {
        match &self.place {
            Place::Here(_, name) => name.get().copied(),
            Place::There(name) => Some(*name),
        }
    }

    /// The thread's name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The thread's id.
    pub fn id(&self) -> ThreadId {
        ThreadId(match &self.place {
            Place::Here(thread, _) => Id::Here(thread.id()),
            Place::There(name) => Id::There(*name),
        })
    }

    /// Lets the thread go on from [`park`], now or when it parks next.
    #[track_caller]
    pub fn unpark(&self) {
        match (&self.place, self.shared_name()) {
            (Place::Here(thread, _), None) => thread.unpark(),
            (_, Some(name)) => must(token(&name).give()),
            (Place::There(name), None) => must(token(name).give()),
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("name", &self.name())
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl Serialize for Thread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = match &self.place {
            Place::Here(thread, name) => {
                let name = *name.get_or_init(|| must(random()));
                // If it has parked here, it parks at its token from now on.
                thread.unpark();
                name
            }
            Place::There(name) => *name,
        };
        (self.name.as_deref(), name).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Thread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Thread, D::Error> {
        let (name, place) = <(Option<String>, Name)>::deserialize(deserializer)?;
        Ok(Thread {
            name: name.map(Arc::from),
            place: Place::There(place),
        })
    }
}

fn random() -> crucial_object::Result<Name> {
    let mut name = Name::default();
    getrandom::fill(&mut name).map_err(Error::other)?;
    Ok(name)
}
