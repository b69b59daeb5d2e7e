//! Objects whose type is in a module.
//!
//! An object is hot, as an instance of its module, or cold, as the bytes of its encoded state. A call heats the
//! object; `hot` cools it when too many objects are hot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use crucial_object::{
    EncodingVersion, Error, Instance, Invocation, Result, SessionId, Ticket, Wake,
};
use parking_lot::Mutex;

use crate::guest::Guest;
use crate::hot::{Admission, CoolOutcome, Coolable, Reservation};
use crate::module::Module;

/// An uploaded object, hot or cold.
struct UploadedObject {
    module: Arc<Module>,
    type_name: Arc<str>,
    /// Whether the object was called since the cooling thread last passed.
    used: AtomicBool,
    /// Locked while a call executes and while the object is cooled. Cooling delays only calls of this object.
    state: Mutex<ObjectState>,
}

enum ObjectState {
    Hot(Box<Guest>, Reservation),
    Cold(Box<[u8]>),
}

impl UploadedObject {
    /// Makes a hot object from its encoded state.
    fn new(
        module: &Arc<Module>,
        type_name: &str,
        state: &[u8],
        version: EncodingVersion,
    ) -> Result<Arc<UploadedObject>> {
        let mut reservation = module.engine().hot.reserve(&module.counters)?;
        let guest = Guest::with_object(&module.template, type_name, state, version)?;
        reservation.resize(guest.size());
        let object = Arc::new(UploadedObject {
            module: module.clone(),
            type_name: type_name.into(),
            used: AtomicBool::new(true),
            state: Mutex::new(ObjectState::Hot(Box::new(guest), reservation)),
        });
        object.enqueue_for_cooling();
        Ok(object)
    }

    fn enqueue_for_cooling(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        self.module.engine().hot.add(weak);
    }

    /// Calls `f` with the object's instance, and heats the object first if it is cold.
    fn with<R>(
        self: &Arc<Self>,
        admission: Admission,
        f: impl FnOnce(&mut Guest) -> Result<R>,
    ) -> Result<R> {
        self.used.store(true, Ordering::Relaxed);
        let mut state = self.state.lock();
        if let ObjectState::Cold(bytes) = &*state {
            let hot = &self.module.engine().hot;
            let reservation = match admission {
                Admission::Refusable => hot.reserve(&self.module.counters)?,
                Admission::Mandatory => match hot.try_reserve(&self.module.counters) {
                    Some(reservation) => reservation,
                    None => return self.with_temporary_instance(&mut state, f),
                },
            };
            let guest = self.instantiate(bytes)?;
            *state = ObjectState::Hot(Box::new(guest), reservation);
            self.enqueue_for_cooling();
        }
        match &mut *state {
            ObjectState::Hot(guest, reservation) => {
                let result = f(guest);
                reservation.resize(guest.size());
                if matches!(result, Err(Error::Panicked { .. })) {
                    // After a trap the instance may hold memory that the method took and never released. A new
                    // instance, made from the state that the method left behind, is free of it.
                    let mut bytes = Vec::new();
                    if guest.save(&mut bytes).is_ok() {
                        *state = ObjectState::Cold(bytes.into());
                    }
                }
                result
            }
            ObjectState::Cold(_) => unreachable!("the object was heated above"),
        }
    }

    /// Calls `f` with a temporary instance beyond the limit. If the instance cannot be saved afterwards, the changes
    /// of `f` are lost and the call fails.
    fn with_temporary_instance<R>(
        &self,
        state: &mut ObjectState,
        f: impl FnOnce(&mut Guest) -> Result<R>,
    ) -> Result<R> {
        let ObjectState::Cold(bytes) = state else {
            unreachable!("a hot object has an instance");
        };
        let hot = &self.module.engine().hot;
        let mut reservation = hot.reserve_beyond_limit(&self.module.counters);
        let mut guest = self.instantiate(bytes)?;
        let result = f(&mut guest);
        reservation.resize(guest.size());
        let mut saved = Vec::new();
        match (guest.save(&mut saved), &result) {
            (Ok(()), _) => *bytes = saved.into(),
            (Err(_), Err(_)) => {}
            (Err(error), Ok(_)) => {
                return Err(Error::Panicked {
                    what: self.type_name.to_string(),
                    message: format!("the object cannot be saved: {error}"),
                    location: "its sandbox".to_owned(),
                });
            }
        }
        result
    }

    /// Makes an instance for a cold object.
    fn instantiate(&self, bytes: &[u8]) -> Result<Guest> {
        let guest = Guest::with_object(
            &self.module.template,
            &self.type_name,
            bytes,
            EncodingVersion::Same,
        )?;
        self.module.counters.heated.fetch_add(1, Ordering::Relaxed);
        Ok(guest)
    }

    /// Appends the encoded state. A cold object stays cold.
    fn save(&self, out: &mut Vec<u8>) -> Result<()> {
        match &mut *self.state.lock() {
            ObjectState::Hot(guest, _) => guest.save(out),
            ObjectState::Cold(bytes) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
        }
    }
}

impl Coolable for UploadedObject {
    fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    fn cool(&self) -> CoolOutcome {
        let Some(mut state) = self.state.try_lock() else {
            return CoolOutcome::Busy;
        };
        let ObjectState::Hot(guest, _) = &mut *state else {
            return CoolOutcome::Cold;
        };
        let mut bytes = Vec::new();
        match guest.save(&mut bytes) {
            Ok(()) => {
                *state = ObjectState::Cold(bytes.into());
                CoolOutcome::Cold
            }
            Err(error) => {
                tracing::warn!(type_name = &*self.type_name, %error, "an object cannot be saved and stays in memory");
                CoolOutcome::Unsavable
            }
        }
    }
}

impl Module {
    /// Makes an object of the module's type `name` from its encoded state.
    ///
    /// # Errors
    ///
    /// If the module does not have the type, the state cannot be decoded, or too many objects are in use.
    pub fn restore(
        self: &Arc<Self>,
        name: &str,
        state: &[u8],
        version: EncodingVersion,
    ) -> Result<Box<dyn Instance>> {
        Ok(Box::new(UploadedInstance {
            object: UploadedObject::new(self, name, state, version)?,
            _alive: self.alive.clone(),
        }))
    }
}

/// The server's handle to an uploaded object.
struct UploadedInstance {
    object: Arc<UploadedObject>,
    _alive: Arc<()>,
}

impl Instance for UploadedInstance {
    fn dispatch(&mut self, invocation: Invocation<'_>) -> Result<Poll<()>> {
        let admission = if invocation.again {
            Admission::Mandatory
        } else {
            Admission::Refusable
        };
        self.object.with(admission, |guest| guest.poll(invocation))
    }

    fn cancel(&mut self, index: usize, ticket: Ticket) -> Result<()> {
        self.object
            .with(Admission::Mandatory, |guest| guest.cancel(index, &ticket))
    }

    fn on_session_end(&mut self, session: SessionId) {
        let result = self
            .object
            .with(Admission::Mandatory, |guest| guest.on_session_end(session));
        if let Err(error) = result {
            panic_with(&error);
        }
    }

    fn wake(&mut self) -> Wake {
        let policy = self.object.with(Admission::Mandatory, Guest::wake_policy);
        policy.unwrap_or_else(|error| panic_with(&error))
    }

    fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.object.save(out)
    }
}

/// Panics as a native method would, since the interface has no other way to fail here.
fn panic_with(error: &Error) -> ! {
    std::panic::panic_any(error.to_string())
}
