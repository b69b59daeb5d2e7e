//! Signatures as text: what `#[shared]` has read, for people and for clients in other languages.
//!
//! The text is static and nothing on the path of a call looks at it. A client encodes by it: `docs/protocol.md`
//! says how a value of each type travels.

use serde::Serialize;

/// The signature of a remote method, as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The arguments, in the order in which they are encoded.
    pub arguments: &'static [Argument],
    /// The type of the result: without the `Poll` of a method that waits, and without the `Result` of a fallible one.
    pub result: &'static str,
    /// The method is `#[fallible]`: its error becomes the call's error, and is not part of the result.
    pub fallible: bool,
    /// The parameters that the server supplies, in their order behind the arguments.
    pub supplied: &'static [Supplied],
    /// The first paragraph of its documentation.
    pub summary: &'static str,
}

/// An argument of a remote method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// Its name in the source.
    pub name: &'static str,
    /// Its type as it travels: `String` for `&str`, `Vec<T>` for `&[T]`, `T` for `&T`.
    #[serde(rename = "type")]
    pub type_text: &'static str,
}

/// A parameter that is not among the arguments of a call, as the server supplies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Supplied {
    /// `#[caller]`: the session of the call.
    Caller,
    /// `#[ticket]`: the memory of a call that waits.
    Ticket,
}

/// A parameter of a generic shared type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TypeParameter {
    /// Its name in the source.
    pub name: &'static str,
    /// How a value of it travels.
    pub encoding: Encoding,
}

/// How a value of a type parameter travels: as a byte string that the server does not look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The byte string is the value in postcard.
    Sealed,
    /// The byte string is the value in the memcomparable format, so that bytes compare as values do.
    Sorted,
}
