//! What `#[shared]` implements: how a type is called by name.

use std::any::Any;
use std::task::Poll;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{decode_arguments, encode_into, encode_result};
use crate::proxy::Proxy;
use crate::{MethodId, Result};

/// A type of shared objects as its users see it: its name, its methods and its proxy.
/// Implemented by `#[shared]`.
pub trait SharedType: 'static {
    /// The type's name on servers: by default its path, `crate::module::Type`.
    const NAME: &'static str;
    /// Its remote methods. A method is called by its [id](Method::id).
    const METHODS: &'static [Method];
    /// What `Shared<Self>` dereferences to: one method for each remote method, which makes the call.
    type Proxy: Proxy;
    /// What `Shared::<Self>::deferred` returns: the same methods, each giving a [`Pending`](crate::Pending).
    type Deferred: Proxy;
}

/// A type of shared objects as a server sees it: how to execute a method. Implemented by `#[shared]`
/// (for a generic type: with [`Opaque`](crate::Opaque) for each parameter).
pub trait Object: SharedType + Serialize + DeserializeOwned + Send {
    /// Executes the method `Self::METHODS[index]` and appends its encoded result to `out`.
    /// `ticket` is the parked call's memory, `None` at the first poll.
    fn dispatch(
        &mut self,
        index: usize,
        args: &[u8],
        ticket: &mut Ticket,
        out: &mut Vec<u8>,
    ) -> Result<Flow>;

    /// Takes back what the parked call `index` did at its first poll; it is not polled again.
    fn cancel(&mut self, index: usize, ticket: Ticket) -> Result<()> {
        let _ = (index, ticket);
        Ok(())
    }

    /// Which parked calls the change that just happened can complete.
    fn wake(&self) -> Wake {
        Wake::All
    }
}

/// A remote method, as both sides know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name in the source.
    pub name: &'static str,
    /// Its name on the wire.
    pub id: MethodId,
    /// Whether it changes the object.
    pub access: Access,
    /// Whether it can wait (its result is a `Poll`).
    pub waits: bool,
}

impl Method {
    /// Describes a method.
    pub const fn new(name: &'static str, access: Access, waits: bool) -> Method {
        Method {
            name,
            id: MethodId::of(name),
            access,
            waits,
        }
    }
}

/// Whether a method changes its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `&self`: executed again if it is repeated, at any replica.
    Read,
    /// `&mut self`: executed once.
    Write,
}

/// How a dispatch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With a result.
    Ready,
    /// It waits; poll it again after a change.
    Pending,
}

/// Which parked calls a change wakes. A method `#[wake] fn wake(&self) -> Wake` in the `#[shared]`
/// impl narrows it; it is asked after each change, and after each parked call that completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Poll all of them, in the order in which they came. The default.
    All,
    /// Poll them in the order in which they came, and stop at the first that still waits.
    First,
    /// Poll none.
    None,
}

/// The memory of a parked call: its `#[ticket]`, encoded.
pub type Ticket = Option<Vec<u8>>;

/// A type that is linked into this executable.
pub struct TypeInfo {
    /// [`SharedType::NAME`].
    pub name: &'static str,
    /// [`SharedType::METHODS`].
    pub methods: &'static [Method],
    /// Makes an instance from its encoded state.
    pub restore: fn(&[u8]) -> Result<Box<dyn Instance>>,
}

impl TypeInfo {
    /// Describes `T`.
    pub const fn of<T: Object>() -> TypeInfo {
        TypeInfo {
            name: T::NAME,
            methods: T::METHODS,
            restore: restore::<T>,
        }
    }

    /// The index of the method `id`.
    pub fn method_index(&self, id: MethodId) -> Option<usize> {
        self.methods.iter().position(|method| method.id == id)
    }
}

impl std::fmt::Debug for TypeInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TypeInfo")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Decodes the state of a `T`.
#[doc(hidden)]
pub fn restore<T: Object>(state: &[u8]) -> Result<Box<dyn Instance>> {
    let value: T = decode_arguments(T::NAME, state)?;
    Ok(Box::new(value))
}

/// A live object of any type. What a server holds.
pub trait Instance: Any + Send {
    /// See [`Object::dispatch`].
    fn dispatch(
        &mut self,
        index: usize,
        args: &[u8],
        ticket: &mut Ticket,
        out: &mut Vec<u8>,
    ) -> Result<Flow>;
    /// See [`Object::cancel`].
    fn cancel(&mut self, index: usize, ticket: Ticket) -> Result<()>;
    /// See [`Object::wake`].
    fn wake(&self) -> Wake;
    /// Appends the encoded state, from which [`TypeInfo::restore`] makes an equal instance.
    fn save(&self, out: &mut Vec<u8>) -> Result<()>;
}

impl<T: Object> Instance for T {
    fn dispatch(
        &mut self,
        index: usize,
        args: &[u8],
        ticket: &mut Ticket,
        out: &mut Vec<u8>,
    ) -> Result<Flow> {
        Object::dispatch(self, index, args, ticket, out)
    }

    fn cancel(&mut self, index: usize, ticket: Ticket) -> Result<()> {
        Object::cancel(self, index, ticket)
    }

    fn wake(&self) -> Wake {
        Object::wake(self)
    }

    fn save(&self, out: &mut Vec<u8>) -> Result<()> {
        encode_into(self, out)
    }
}

/// Ends the dispatch of a waiting method.
#[doc(hidden)]
pub fn flow<R, W: Serialize>(
    poll: Poll<R>,
    wire: impl FnOnce(R) -> Result<W>,
    out: &mut Vec<u8>,
) -> Result<Flow> {
    match poll {
        Poll::Ready(result) => {
            encode_result(&wire(result)?, out)?;
            Ok(Flow::Ready)
        }
        Poll::Pending => Ok(Flow::Pending),
    }
}
