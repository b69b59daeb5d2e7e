//! The inside of an uploaded module: what [`guest_abi`](crate::guest_abi) describes.
//!
//! `unsafe` stands here for what a WebAssembly library needs: functions under names of their own, and the
//! constructors that register the module's types.

#![allow(unsafe_code)]

use std::cell::{RefCell, UnsafeCell};
use std::task::Poll;

use crate::guest_abi::{MethodDescription, NO_TICKET, Status, TypeDescription, VERSION, pack};
use crate::{
    Access, EncodingVersion, Error, Instance, Invocation, Result, SessionId, Wake, encode, registry,
};

thread_local! {
    /// The bytes that the server and the module hand to each other.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The object. A method that traps never returns, and the object is what it left behind then, as with a
/// native one that panicked; so this is no `RefCell`, which would stay borrowed.
struct Place(UnsafeCell<Option<Box<dyn Instance>>>);

// SAFETY: a module has one thread.
unsafe impl Sync for Place {}

static OBJECT: Place = Place(UnsafeCell::new(None));

impl Place {
    /// Lets `f` have the object.
    fn with<R>(&self, f: impl FnOnce(&mut Option<Box<dyn Instance>>) -> R) -> R {
        // SAFETY: it is called by the exported functions only, each once, and the server makes one call at a
        // time; a call that trapped does not go on.
        f(unsafe { &mut *self.0.get() })
    }
}

#[link(wasm_import_module = "crucial")]
unsafe extern "C" {
    #[link_name = "panic"]
    fn host_panic(place: u32, length: u32);
}

unsafe extern "C" {
    fn __wasm_call_ctors();
}

#[unsafe(no_mangle)]
extern "C" fn crucial_abi() -> u32 {
    VERSION
}

#[unsafe(no_mangle)]
extern "C" fn crucial_start() {
    // SAFETY: the linker makes it, and nothing ran before.
    unsafe { __wasm_call_ctors() };
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("a panic without a message");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        if let Ok(bytes) = encode(&(message, place)) {
            // SAFETY: the bytes live until the call returns.
            unsafe { host_panic(bytes.as_ptr() as u32, bytes.len() as u32) };
        }
    }));
}

#[unsafe(no_mangle)]
extern "C" fn crucial_buffer(length: u32) -> u32 {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        buffer.reserve(length as usize);
        // SAFETY: there is as much room, and the server fills it before anything reads it; bytes of a module's
        // memory have values in any case.
        unsafe { buffer.set_len(length as usize) };
        buffer.as_mut_ptr() as u32
    })
}

#[unsafe(no_mangle)]
extern "C" fn crucial_types() -> u64 {
    reply(|_, out| {
        let mut types: Vec<TypeDescription> = registry::types()
            .map(|info| TypeDescription {
                name: info.name.to_owned(),
                tracks_sessions: info.tracks_sessions,
                methods: info
                    .methods
                    .iter()
                    .map(|method| MethodDescription {
                        name: method.name.to_owned(),
                        writes: method.access == Access::Write,
                        waits: method.waits,
                    })
                    .collect(),
            })
            .collect();
        types.sort_by(|one, other| one.name.cmp(&other.name));
        crate::encode_into(&types, out)?;
        Ok(Status::Done)
    })
}

#[unsafe(no_mangle)]
extern "C" fn crucial_restore(name_length: u32, version: u32) -> u64 {
    reply(|input, _| {
        let (name, state) = input.split_at(name_length as usize);
        let name = String::from_utf8_lossy(name);
        let info = registry::find(&name).ok_or_else(|| Error::UnknownType {
            type_name: name.into_owned(),
        })?;
        let version = match version {
            0 => EncodingVersion::Same,
            1 => EncodingVersion::Older,
            _ => EncodingVersion::Initial,
        };
        let object = info.restore(state, version)?;
        OBJECT.with(|place| *place = Some(object));
        Ok(Status::Done)
    })
}

#[unsafe(no_mangle)]
extern "C" fn crucial_dispatch(index: u32, caller: u64, ticket_length: u32) -> u64 {
    reply(|input, out| {
        let (ticket, args) = take_ticket(input, ticket_length);
        let mut ticket = ticket.map(<[u8]>::to_vec);
        let mut result = Vec::new();
        let polled = object(|object| {
            object.dispatch(Invocation {
                index: index as usize,
                args,
                caller: SessionId(caller),
                // The server sees to that.
                again: false,
                ticket: &mut ticket,
                out: &mut result,
            })
        })?;
        let length = ticket
            .as_ref()
            .map_or(NO_TICKET, |ticket| ticket.len() as u32);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&ticket.unwrap_or_default());
        out.extend_from_slice(&result);
        Ok(match polled {
            Poll::Ready(()) => Status::Done,
            Poll::Pending => Status::Pending,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn crucial_cancel(index: u32, ticket_length: u32) -> u64 {
    reply(|input, _| {
        let (ticket, _) = take_ticket(input, ticket_length);
        let ticket = ticket.map(<[u8]>::to_vec);
        object(|object| object.cancel(index as usize, ticket))?;
        Ok(Status::Done)
    })
}

#[unsafe(no_mangle)]
extern "C" fn crucial_depart(session: u64) -> u64 {
    reply(|_, _| {
        object(|object| {
            object.on_session_end(SessionId(session));
            Ok(())
        })?;
        Ok(Status::Done)
    })
}

#[unsafe(no_mangle)]
extern "C" fn crucial_wake() -> u32 {
    let wake = OBJECT.with(|object| object.as_mut().map(|object| object.wake()));
    match wake {
        None | Some(Wake::All) => 0,
        Some(Wake::First) => 1,
        Some(Wake::None) => 2,
    }
}

#[unsafe(no_mangle)]
extern "C" fn crucial_save() -> u64 {
    reply(|_, out| {
        object(|object| object.save(out))?;
        Ok(Status::Done)
    })
}

fn object<R>(f: impl FnOnce(&mut dyn Instance) -> Result<R>) -> Result<R> {
    OBJECT.with(|object| match object {
        Some(object) => f(&mut **object),
        None => Err(Error::Protocol {
            detail: "the module has no object yet".to_owned(),
        }),
    })
}

fn take_ticket(input: &[u8], length: u32) -> (Option<&[u8]>, &[u8]) {
    if length == NO_TICKET {
        return (None, input);
    }
    let (ticket, args) = input.split_at(length as usize);
    (Some(ticket), args)
}

/// Runs `f` on what is in the buffer, and leaves its reply there.
fn reply(f: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<Status>) -> u64 {
    let input = BUFFER.take();
    let mut out = vec![Status::Done as u8];
    match f(&input, &mut out) {
        Ok(status) => out[0] = status as u8,
        Err(error) => {
            out.clear();
            out.push(Status::Failed as u8);
            // An error is a few strings, which can be encoded.
            let _ = crate::encode_into(&error, &mut out);
        }
    }
    let packed = pack(out.as_ptr() as u32, out.len() as u32);
    BUFFER.set(out);
    packed
}
