//! What the expansions of macros ask of a type that travels: a serde type, which is not a lock or cell.
//!
//! Each question is asked once, by [`travels`] and [`is_whole`], with a message that says what to write. Whatever else an
//! expansion does with the type goes through [`Codec`], which compiles for any type.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Ticket, decode, decode_arguments, encode, encode_into};
use crate::{Result, sync};

/// An argument or a result: a serde type. The trait exists for the compiler's message.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel to another machine",
    label = "not a serde type",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, or send something else in its place"
)]
pub trait Travels {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Travels for T {}

/// Compiles for what travels.
#[doc(hidden)]
pub const fn travels<T: Travels>() {}

/// Encodes and decodes a `T`. The method of a `&Codec<T>` is that of [`Encodes`] or [`Decodes`] if serde's traits are there,
/// and otherwise that of a trait without bounds, since a method call prefers the receiver with fewer references. That code
/// never runs: the compiler has refused the type.
#[doc(hidden)]
pub struct Codec<T>(PhantomData<fn() -> T>);

impl<T> Codec<T> {
    /// Of this type.
    #[expect(clippy::new_without_default, reason = "only expansions make one")]
    pub const fn new() -> Codec<T> {
        Codec(PhantomData)
    }

    /// Of the type of this value.
    pub const fn of(_value: &T) -> Codec<T> {
        Codec(PhantomData)
    }
}

/// Encodes a `T`.
#[doc(hidden)]
pub trait Encodes<T> {
    fn encode(&self, value: &T) -> Result<Vec<u8>>;
    fn encode_into(&self, value: &T, out: &mut Vec<u8>) -> Result<()>;
    fn encode_ticket(&self, memory: &Option<T>) -> Result<Ticket>;
}

impl<T: Serialize> Encodes<T> for Codec<T> {
    fn encode(&self, value: &T) -> Result<Vec<u8>> {
        encode(value)
    }

    fn encode_into(&self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        encode_into(value, out)
    }

    /// The ticket of a parked call, put back.
    fn encode_ticket(&self, memory: &Option<T>) -> Result<Ticket> {
        memory.as_ref().map(encode).transpose()
    }
}

/// In place of [`Encodes`] for a type that the compiler has refused.
#[doc(hidden)]
pub trait EncodesRefused<T> {
    fn encode(&self, _value: &T) -> Result<Vec<u8>> {
        unreachable!("{REFUSED}")
    }

    fn encode_into(&self, _value: &T, _out: &mut Vec<u8>) -> Result<()> {
        unreachable!("{REFUSED}")
    }

    fn encode_ticket(&self, _memory: &Option<T>) -> Result<Ticket> {
        unreachable!("{REFUSED}")
    }
}

impl<T> EncodesRefused<T> for &Codec<T> {}

/// Decodes a `T`.
#[doc(hidden)]
pub trait Decodes<T> {
    fn decode(&self, bytes: &[u8]) -> Result<T>;
    fn decode_arguments(&self, method: &str, bytes: &[u8]) -> Result<T>;
    fn decode_ticket(&self, ticket: &Ticket) -> Result<Option<T>>;
}

impl<T: DeserializeOwned> Decodes<T> for Codec<T> {
    fn decode(&self, bytes: &[u8]) -> Result<T> {
        decode(bytes)
    }

    fn decode_arguments(&self, method: &str, bytes: &[u8]) -> Result<T> {
        decode_arguments(method, bytes)
    }

    /// The ticket of a parked call, or `None` at its first poll.
    fn decode_ticket(&self, ticket: &Ticket) -> Result<Option<T>> {
        ticket.as_deref().map(decode).transpose()
    }
}

/// In place of [`Decodes`] for a type that the compiler has refused.
#[doc(hidden)]
pub trait DecodesRefused<T> {
    fn decode(&self, _bytes: &[u8]) -> Result<T> {
        unreachable!("{REFUSED}")
    }

    fn decode_arguments(&self, _method: &str, _bytes: &[u8]) -> Result<T> {
        unreachable!("{REFUSED}")
    }

    fn decode_ticket(&self, _ticket: &Ticket) -> Result<Option<T>> {
        unreachable!("{REFUSED}")
    }
}

impl<T> DecodesRefused<T> for &Codec<T> {}

const REFUSED: &str = "the compiler refuses a type that does not travel";

/// A type that a macro looks at: [`cell`](Look::cell) is a method of its own for each lock and cell, and for all other types
/// that of [`LookAtAny`].
#[doc(hidden)]
pub struct Look<T>(PhantomData<fn() -> T>);

/// What a look has found: `T`, in place of which `Shared<I>` is to be written; or nothing, if `I` is `()`.
#[doc(hidden)]
pub struct Found<T, I>(PhantomData<fn() -> (T, I)>);

impl<T> Look<T> {
    /// At this type.
    #[expect(clippy::new_without_default, reason = "only expansions make one")]
    pub const fn new() -> Look<T> {
        Look(PhantomData)
    }
}

/// What is found in a type that is not a cell.
#[doc(hidden)]
pub trait LookAtAny<T> {
    fn cell(&self) -> Found<T, ()> {
        Found(PhantomData)
    }
}

impl<T> LookAtAny<T> for Look<T> {}

macro_rules! cells {
    ($([$($T:ident)?] $cell:ty => $instead:ty),+ $(,)?) => {
        $(impl$(<$T>)? Look<$cell> {
            #[doc(hidden)]
            pub fn cell(&self) -> Found<$cell, $instead> {
                Found(PhantomData)
            }
        })+
    };
}

cells!(
    [T] std::sync::Mutex<T> => sync::Mutex<T>,
    [T] std::sync::RwLock<T> => sync::RwLock<T>,
    [T] std::cell::Cell<T> => sync::AtomicCell<T>,
    [T] std::cell::RefCell<T> => sync::AtomicCell<T>,
    [] std::sync::atomic::AtomicBool => sync::AtomicBool,
    [] std::sync::atomic::AtomicI8 => sync::AtomicI8,
    [] std::sync::atomic::AtomicI16 => sync::AtomicI16,
    [] std::sync::atomic::AtomicI32 => sync::AtomicI32,
    [] std::sync::atomic::AtomicI64 => sync::AtomicI64,
    [] std::sync::atomic::AtomicIsize => sync::AtomicIsize,
    [] std::sync::atomic::AtomicU8 => sync::AtomicU8,
    [] std::sync::atomic::AtomicU16 => sync::AtomicU16,
    [] std::sync::atomic::AtomicU32 => sync::AtomicU32,
    [] std::sync::atomic::AtomicU64 => sync::AtomicU64,
    [] std::sync::atomic::AtomicUsize => sync::AtomicUsize,
    // The library's own, by value.
    [T] sync::Mutex<T> => sync::Mutex<T>,
    [T] sync::RwLock<T> => sync::RwLock<T>,
    [T] sync::AtomicCell<T> => sync::AtomicCell<T>,
    [T] sync::OnceLock<T> => sync::OnceLock<T>,
    [T] sync::Promise<T> => sync::Promise<T>,
    [] sync::AtomicBool => sync::AtomicBool,
    [] sync::AtomicI8 => sync::AtomicI8,
    [] sync::AtomicI16 => sync::AtomicI16,
    [] sync::AtomicI32 => sync::AtomicI32,
    [] sync::AtomicI64 => sync::AtomicI64,
    [] sync::AtomicIsize => sync::AtomicIsize,
    [] sync::AtomicU8 => sync::AtomicU8,
    [] sync::AtomicU16 => sync::AtomicU16,
    [] sync::AtomicU32 => sync::AtomicU32,
    [] sync::AtomicU64 => sync::AtomicU64,
    [] sync::AtomicUsize => sync::AtomicUsize,
    [] sync::AllReduce => sync::AllReduce,
    [] sync::Barrier => sync::Barrier,
    [] sync::Condvar => sync::Condvar,
    [] sync::Counter => sync::Counter,
    [] sync::Latch => sync::Latch,
    [] sync::Semaphore => sync::Semaphore,
);

/// Nothing was found. The trait exists for the compiler's message.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{T}` would travel as a copy",
    label = "a lock or cell, of which each end would have its own",
    note = "write `Shared<{I}>`, a handle to one object for all ends, and make it with `Shared::new`"
)]
pub trait Whole<T, I> {}

#[diagnostic::do_not_recommend]
impl<T> Whole<T, ()> for Found<T, ()> {}

/// Compiles for what is not a lock or cell.
#[doc(hidden)]
pub const fn is_whole<T, I>(_found: &Found<T, I>)
where
    Found<T, I>: Whole<T, I>,
{
}
