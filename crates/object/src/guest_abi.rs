//! The interface between a server and an uploaded module: version 1. `docs/modules.md` is the page.
//!
//! A module is a WebAssembly library that exports the functions of [`exports`] and its memory. One instance of
//! it holds one object. Bytes travel through one buffer in the module's memory: the server asks for it
//! ([`BUFFER`](exports::BUFFER)), fills it, and calls; what a function returns is the place and length of its reply.

use serde::{Deserialize, Serialize};

/// The version of this interface.
pub const VERSION: u32 = 1;

/// The functions that a module exports.
pub mod exports {
    /// `() -> u32`: the [version](super::VERSION) that the module was built for.
    pub const ABI: &str = "crucial_abi";
    /// `()`: once, before all that follow.
    pub const START: &str = "crucial_start";
    /// `(length: u32) -> u32`: a buffer of this length; where it is.
    pub const BUFFER: &str = "crucial_buffer";
    /// `() -> reply`: the module's types, a postcard sequence of [`TypeDescription`](super::TypeDescription)s.
    pub const TYPES: &str = "crucial_types";
    /// `(name_length: u32, version: u32) -> reply`: makes the object. The buffer: the type's name, its encoded state.
    /// `version`: 0 if this version of the type has encoded it, 1 if an older one has, 2 if it comes from a program and
    /// is to be validated.
    pub const RESTORE: &str = "crucial_restore";
    /// `(index: u32, caller: u64, ticket_length: u32) -> reply`: polls a method. The buffer: the ticket (its
    /// length [`NO_TICKET`](super::NO_TICKET) for none), the encoded arguments. The reply: the ticket's length
    /// (`u32`, little endian), the ticket, the encoded result.
    pub const DISPATCH: &str = "crucial_dispatch";
    /// `(index: u32, ticket_length: u32) -> reply`: takes a parked call back. The buffer: the ticket.
    pub const CANCEL: &str = "crucial_cancel";
    /// `(session: u64) -> reply`: a session that changed the object has ended.
    pub const DEPART: &str = "crucial_depart";
    /// `() -> u32`: which parked calls the last change wakes: 0 all, 1 the first, 2 none.
    pub const WAKE: &str = "crucial_wake";
    /// `() -> reply`: the encoded state.
    pub const SAVE: &str = "crucial_save";
}

/// The only import of a module: `crucial.panic(place: u32, length: u32)`. The bytes are a postcard
/// tuple of two strings: the message and the place. The module ends the call with a trap behind it.
pub const IMPORT: (&str, &str) = ("crucial", "panic");

/// The length of a ticket that is not there.
pub const NO_TICKET: u32 = u32::MAX;

/// The first byte of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The method is done; what follows is the result.
    Done = 0,
    /// The method waits.
    Pending = 1,
    /// The method failed; what follows is a postcard `Error`.
    Failed = 2,
}

impl Status {
    /// The status with this number.
    pub fn of(byte: u8) -> Option<Status> {
        [Status::Done, Status::Pending, Status::Failed]
            .into_iter()
            .find(|status| *status as u8 == byte)
    }
}

/// A shared type of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeDescription {
    /// Its name on servers.
    pub name: String,
    /// Whether the end of a session that has changed an object concerns it.
    pub tracks_sessions: bool,
    /// Its methods, by index.
    pub methods: Vec<MethodDescription>,
}

/// A method of a shared type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodDescription {
    /// Its name.
    pub name: String,
    /// Whether it changes the object.
    pub writes: bool,
    /// Whether it can wait.
    pub waits: bool,
}

/// Place and length of a reply, as one number.
pub const fn pack(place: u32, length: u32) -> u64 {
    (place as u64) << 32 | length as u64
}

/// And back.
pub const fn unpack(reply: u64) -> (u32, u32) {
    ((reply >> 32) as u32, reply as u32)
}
