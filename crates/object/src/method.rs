//! Remote methods, as both sides know them.

use crate::MethodId;
use crate::signature::Signature;

/// A remote method.
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
    /// Its signature as text; [`None`] for a method of an uploaded type.
    pub signature: Option<&'static Signature>,
}

impl Method {
    /// Describes a method.
    pub const fn new(name: &'static str, access: Access, waits: bool) -> Method {
        Method {
            name,
            id: MethodId::of(name),
            access,
            waits,
            signature: None,
        }
    }

    /// The same method with its signature. An uploaded module leaves the text out, as nothing asks it for that.
    pub const fn with_signature(mut self, signature: &'static Signature) -> Method {
        if !cfg!(target_family = "wasm") {
            self.signature = Some(signature);
        }
        self
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
