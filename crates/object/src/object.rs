//! The traits that `#[shared]` implements: how a type is called by name.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;
use std::task::Poll;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Ticket, decode_arguments, encode_into};
use crate::method::Method;
use crate::proxy::{Proxy, Target};
use crate::signature::TypeParameter;
use crate::{Error, MethodId, ObjectId, Result, SessionId};

/// A type of shared objects as its users see it: its name, its methods and its proxy.
/// Implemented by `#[shared]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a shared type",
    label = "no shared object is a `{Self}`",
    note = "put `#[shared]` on the `impl` block with its remote methods: `#[shared] impl {Self} {{ .. }}`"
)]
pub trait SharedType: Sized + 'static {
    /// The type's name on servers: by default its path, `crate::module::Type`.
    const NAME: &'static str;
    /// Its remote methods. A method is called by its [id](Method::id).
    const METHODS: &'static [Method];
    /// The parameters of a generic type, in their order.
    const PARAMETERS: &'static [TypeParameter] = &[];
    /// The name, for a generic type followed by the kinds of value that its parameters are: `crucial::Map<String, i64>`. An
    /// object is opened by it, so that one of other values is refused. With [`Opaque`](crate::Opaque) as a parameter it is
    /// one of any: a `Map<String, Opaque>` can be counted, whatever its values are.
    fn full_name() -> Cow<'static, str> {
        Cow::Borrowed(Self::NAME)
    }
    /// The value, as an object begins with it.
    #[doc(hidden)]
    fn state(&self) -> Result<Vec<u8>>;
    /// The target to which `Shared<Self>` dereferences: one method for each remote method, which makes the call.
    type Proxy: Proxy;
    /// The result of `Shared::<Self>::deferred`: the same methods, each giving a [`Pending`](crate::Pending).
    type Deferred: Proxy;
}

/// The [full name](SharedType::full_name) of a generic type.
#[doc(hidden)]
pub fn full_name(name: &'static str, kinds: &[Cow<'static, str>]) -> Cow<'static, str> {
    Cow::Owned(format!("{name}<{}>", kinds.join(", ")))
}

impl Target {
    /// The object `id`, of the type `T`, with its key if it has one.
    pub fn new<T: SharedType>(id: ObjectId, key: Option<Arc<str>>) -> Target {
        Target::with_type_name(id, key, T::NAME)
    }
}

/// A value that a server can hold and copy to another: every one that serde writes and reads back whole. The trait exists
/// for the compiler's message.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a shared object",
    label = "not a serde type",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it; for a generic type, with bounds that \
            `crucial::Opaque` meets: `#[serde(bound = \"T: crucial::Element\")]`"
)]
pub trait State: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> State for T {}

/// A type of shared objects as a server sees it: how to execute a method. Implemented by `#[shared]`
/// (for a generic type: with [`Opaque`](crate::Opaque) for each parameter).
pub trait Object: SharedType + State + Send {
    /// Whether the end of a session that has changed the object [concerns it](Object::on_session_end).
    const TRACKS_SESSIONS: bool = false;

    /// Decodes the state of an object that an older version of the type has encoded.
    fn restore_older(state: &[u8]) -> Result<Self>
    where
        Self: Sized,
    {
        decode_arguments(Self::NAME, state)
    }

    /// Looks at a value that a program makes an object of. Its fields can have any values of their types.
    ///
    /// # Errors
    ///
    /// What cannot be so: the object is not made.
    fn validate(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    /// Executes a method. A pending one waits, and is polled again after a change.
    fn dispatch(&mut self, invocation: Invocation<'_>) -> Result<Poll<()>>;

    /// Takes back what a parked call of `Self::METHODS[index]` did at its first poll; it is not polled
    /// again.
    fn cancel(&mut self, index: usize, ticket: Ticket) -> Result<()> {
        let _ = (index, ticket);
        Ok(())
    }

    /// A session that has changed the object has ended: what it holds here comes back.
    fn on_session_end(&mut self, session: SessionId) {
        let _ = session;
    }

    /// Which parked calls the change that just happened can complete.
    fn wake(&self) -> Wake {
        Wake::All
    }
}

/// One poll of a method.
#[derive(Debug)]
pub struct Invocation<'a> {
    /// Which: `METHODS[index]`.
    pub index: usize,
    /// The encoded tuple of arguments.
    pub args: &'a [u8],
    /// Whose call it is.
    pub caller: SessionId,
    /// Whether it was polled before, and waits: it is not refused any more, as nobody would repeat it.
    pub again: bool,
    /// The call's memory, `None` at its first poll.
    pub ticket: &'a mut Ticket,
    /// Where the encoded result is appended.
    pub out: &'a mut Vec<u8>,
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

/// A type that this process can execute: linked into the executable, or uploaded.
pub struct TypeInfo {
    /// [`SharedType::NAME`].
    pub name: &'static str,
    /// [`SharedType::METHODS`].
    pub methods: &'static [Method],
    /// [`SharedType::PARAMETERS`]; none of an uploaded type, which says nothing of them.
    pub parameters: &'static [TypeParameter],
    /// [`Object::TRACKS_SESSIONS`].
    pub tracks_sessions: bool,
    /// The module whose code it is, the SHA-256 of its bytes; [`None`]: it is linked into the executable.
    pub module: Option<[u8; 32]>,
    maker: Maker,
}

/// The code that makes instances of a type.
enum Maker {
    Linked(fn(&[u8], EncodingVersion) -> Restored),
    Uploaded(Box<Restore>),
}

type Restore = dyn Fn(&[u8], EncodingVersion) -> Restored + Send + Sync;
type Restored = Result<Box<dyn Instance>>;

/// The version of a type that has encoded a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodingVersion {
    /// The one that decodes it, in a program that makes an object of it. So the state is [validated](Object::validate).
    Initial,
    /// The one that decodes it.
    Same,
    /// Another one, before it.
    Older,
}

impl TypeInfo {
    /// Describes `T`.
    pub const fn of<T: Object>() -> TypeInfo {
        TypeInfo {
            name: T::NAME,
            methods: T::METHODS,
            parameters: T::PARAMETERS,
            tracks_sessions: T::TRACKS_SESSIONS,
            module: None,
            maker: Maker::Linked(restore::<T>),
        }
    }

    /// Describes an uploaded type, of which `restore` makes an instance from its encoded state. A description
    /// lives as long as the process, as objects refer to it.
    pub fn uploaded(
        name: &'static str,
        methods: &'static [Method],
        tracks_sessions: bool,
        module: [u8; 32],
        restore: Box<Restore>,
    ) -> TypeInfo {
        TypeInfo {
            name,
            methods,
            parameters: &[],
            tracks_sessions,
            module: Some(module),
            maker: Maker::Uploaded(restore),
        }
    }

    /// Makes an instance from its encoded state.
    pub fn restore(&self, state: &[u8], version: EncodingVersion) -> Result<Box<dyn Instance>> {
        match &self.maker {
            Maker::Linked(restore) => restore(state, version),
            Maker::Uploaded(restore) => restore(state, version),
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
pub fn restore<T: Object>(state: &[u8], version: EncodingVersion) -> Result<Box<dyn Instance>> {
    let value: T = match version {
        EncodingVersion::Initial => {
            let value: T = decode_arguments(T::NAME, state)?;
            value.validate().map_err(|detail| Error::BadArguments {
                what: format!("a new {}", T::NAME),
                detail,
            })?;
            value
        }
        EncodingVersion::Same => decode_arguments(T::NAME, state)?,
        EncodingVersion::Older => T::restore_older(state)?,
    };
    Ok(Box::new(value))
}

/// Decodes the state of a `P`, which becomes a `T`; or that of a `T`, if it is not that of a `P`.
#[doc(hidden)]
pub fn restore_previous<P: DeserializeOwned, T: Object + From<P>>(state: &[u8]) -> Result<T> {
    match decode_arguments::<P>(T::NAME, state) {
        Ok(previous) => Ok(previous.into()),
        Err(_) => decode_arguments(T::NAME, state),
    }
}

/// A live object of any type. What a server holds.
pub trait Instance: Any + Send {
    /// See [`Object::dispatch`].
    fn dispatch(&mut self, invocation: Invocation<'_>) -> Result<Poll<()>>;
    /// See [`Object::cancel`].
    fn cancel(&mut self, index: usize, ticket: Ticket) -> Result<()>;
    /// See [`Object::on_session_end`].
    fn on_session_end(&mut self, session: SessionId);
    /// See [`Object::wake`].
    fn wake(&mut self) -> Wake;
    /// Appends the encoded state, from which [`TypeInfo::restore`] makes an equal instance.
    fn save(&mut self, out: &mut Vec<u8>) -> Result<()>;
}

impl<T: Object> Instance for T {
    fn dispatch(&mut self, invocation: Invocation<'_>) -> Result<Poll<()>> {
        Object::dispatch(self, invocation)
    }

    fn cancel(&mut self, index: usize, ticket: Ticket) -> Result<()> {
        Object::cancel(self, index, ticket)
    }

    fn on_session_end(&mut self, session: SessionId) {
        Object::on_session_end(self, session);
    }

    fn wake(&mut self) -> Wake {
        Object::wake(self)
    }

    fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        encode_into(self, out)
    }
}

/// Ends the dispatch of a waiting method.
#[doc(hidden)]
pub fn finish_poll<R>(poll: Poll<R>, encode: impl FnOnce(R) -> Result<()>) -> Result<Poll<()>> {
    match poll {
        Poll::Ready(result) => encode(result).map(Poll::Ready),
        Poll::Pending => Ok(Poll::Pending),
    }
}

/// The result of a `#[fallible]` method that waits.
#[doc(hidden)]
pub fn poll_ok<R>(poll: Poll<Result<R>>) -> Result<Poll<R>> {
    match poll {
        Poll::Ready(result) => Ok(Poll::Ready(result?)),
        Poll::Pending => Ok(Poll::Pending),
    }
}
