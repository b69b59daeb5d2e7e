//! Frames to bytes. Each function appends a frame to a buffer.

use crucial_object::{Error, MethodId, ObjectId, Sequence, encode_into};

use super::{
    Hello, InFlight, LENGTH_BYTES, MAGIC, Operation, Routes, VERSION, Welcome, kind, push,
};

/// Appends a hello.
pub fn write_hello(hello: &Hello, out: &mut Vec<u8>) -> Result<(), Error> {
    write(out, kind::HELLO, |out| {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        encode_into(hello, out)
    })
}

/// A call to be written: [`CallRequest`](super::CallRequest) with borrowed arguments.
#[derive(Clone, Copy, Debug)]
pub struct CallFrame<'a> {
    /// Its number.
    pub sequence: Sequence,
    /// The lowest sequence that the session still waits for.
    pub acked: Sequence,
    /// The object.
    pub object: ObjectId,
    /// The method.
    pub method: MethodId,
    /// For how long it may be parked, in milliseconds; 0: for ever.
    pub timeout_ms: u32,
    /// The encoded arguments.
    pub args: &'a [u8],
}

/// Appends a call.
pub fn write_call(call: &CallFrame<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    out.reserve(LENGTH_BYTES + 41 + call.args.len());
    write(out, kind::CALL, |out| {
        write_numbers(call.sequence, call.acked, out);
        out.extend_from_slice(&call.object.0);
        out.extend_from_slice(&call.method.0.to_le_bytes());
        out.extend_from_slice(&call.timeout_ms.to_le_bytes());
        out.extend_from_slice(call.args);
        Ok(())
    })
}

/// Appends a numbered request that is no call.
///
/// # Panics
///
/// If it is a call: [`write_call`] does that without a copy.
pub fn write_operation(
    sequence: Sequence,
    acked: Sequence,
    operation: &Operation,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let kind = match operation {
        Operation::Call(_) => panic!("a call is written by write_call"),
        Operation::Open(_) => kind::OPEN,
        Operation::Delete(_) => kind::DELETE,
        Operation::ClearPoison(_) => kind::CLEAR_POISON,
        Operation::Ping => kind::PING,
        Operation::Goodbye => kind::GOODBYE,
        Operation::Begin(_) => kind::BEGIN,
        Operation::ClearNamespace => kind::CLEAR_NAMESPACE,
        Operation::Push { .. } => kind::PUSH,
        Operation::Modules => kind::MODULES,
        Operation::RemoveModule(_) => kind::REMOVE_MODULE,
        Operation::ForgetLost(_) => kind::FORGET_LOST,
        Operation::Fence(_) => kind::FENCE,
        Operation::Inspect(_) => kind::INSPECT,
    };
    write(out, kind, |out| {
        write_numbers(sequence, acked, out);
        match operation {
            Operation::Open(open) => encode_into(open, out)?,
            Operation::Delete(object) | Operation::ClearPoison(object) => {
                out.extend_from_slice(&object.0);
            }
            Operation::Begin(attempt) => encode_into(attempt, out)?,
            Operation::Inspect(inspect) => encode_into(inspect, out)?,
            Operation::Fence(fence) => {
                out.extend_from_slice(&fence.thread.0);
                out.extend_from_slice(&fence.before.to_le_bytes());
            }
            Operation::Push {
                replace,
                check,
                module,
            } => {
                let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
                out.push(flag(*replace, push::REPLACE) | flag(*check, push::CHECK));
                out.extend_from_slice(module);
            }
            Operation::RemoveModule(id) => out.extend_from_slice(id),
            Operation::ForgetLost(view) => out.extend_from_slice(&view.to_le_bytes()),
            _ => {}
        }
        Ok(())
    })
}

/// Where the numbers of a request are.
const SEQUENCE_AT: usize = LENGTH_BYTES + 1;
const ACKED_AT: usize = SEQUENCE_AT + 8;

/// Numbers a frame that [`write_call`] or [`write_operation`] made.
pub fn set_numbers(frame: &mut [u8], sequence: Sequence, acked: Sequence) {
    frame[SEQUENCE_AT..ACKED_AT].copy_from_slice(&sequence.0.to_le_bytes());
    set_acked(frame, acked);
}

/// Sets the acknowledgement of such a frame, before it is sent again.
pub fn set_acked(frame: &mut [u8], acked: Sequence) {
    frame[ACKED_AT..ACKED_AT + 8].copy_from_slice(&acked.0.to_le_bytes());
}

/// Appends a withdrawal.
pub fn write_cancel(sequence: Sequence, object: ObjectId, out: &mut Vec<u8>) -> Result<(), Error> {
    write(out, kind::CANCEL, |out| {
        out.extend_from_slice(&sequence.0.to_le_bytes());
        out.extend_from_slice(&object.0);
        Ok(())
    })
}

/// Appends a list of calls in flight.
pub fn write_in_flight(in_flight: &InFlight, out: &mut Vec<u8>) -> Result<(), Error> {
    write(out, kind::IN_FLIGHT, |out| encode_into(in_flight, out))
}

/// Appends the version of the routes by which the following requests are sent.
pub fn write_known_routes(version: u64, out: &mut Vec<u8>) -> Result<(), Error> {
    write(out, kind::KNOWN_ROUTES, |out| {
        out.extend_from_slice(&version.to_le_bytes());
        Ok(())
    })
}

/// Appends newer routes.
pub fn write_routes(routes: &Routes, out: &mut Vec<u8>) -> Result<(), Error> {
    write(out, kind::ROUTES, |out| encode_into(routes, out))
}

/// Appends that a request was not executed here.
pub fn write_moved(sequence: Sequence, routes: u64, out: &mut Vec<u8>) -> Result<(), Error> {
    write(out, kind::MOVED, |out| {
        write_numbers(sequence, Sequence(routes), out);
        Ok(())
    })
}

/// Appends a welcome.
pub fn write_welcome(welcome: &Welcome, out: &mut Vec<u8>) -> Result<(), Error> {
    write(out, kind::WELCOME, |out| encode_into(welcome, out))
}

/// Appends a refusal.
pub fn write_refused(error: &Error, out: &mut Vec<u8>) -> Result<(), Error> {
    write(out, kind::REFUSED, |out| encode_into(error, out))
}

/// Appends a reply.
pub fn write_reply(
    sequence: Sequence,
    result: Result<&[u8], &Error>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let kind = match result {
        Ok(_) => kind::RESULT,
        Err(_) => kind::ERROR,
    };
    write(out, kind, |out| {
        out.extend_from_slice(&sequence.0.to_le_bytes());
        match result {
            Ok(bytes) => out.extend_from_slice(bytes),
            Err(error) => encode_into(error, out)?,
        }
        Ok(())
    })
}

/// Appends a frame; nothing if it cannot be encoded or is longer than a length can say.
pub(super) fn write(
    out: &mut Vec<u8>,
    kind: u8,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.push(kind);
    let written = body(out).and_then(|()| {
        let length = out.len() - start - LENGTH_BYTES;
        u32::try_from(length).map_err(|_| Error::LimitExceeded {
            limit: "frame_bytes_max".to_owned(),
            max: u32::MAX.into(),
            detail: format!("a frame of {length} bytes: send it in parts"),
        })
    });
    match written {
        Ok(length) => {
            out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

fn write_numbers(sequence: Sequence, acked: Sequence, out: &mut Vec<u8>) {
    out.extend_from_slice(&sequence.0.to_le_bytes());
    out.extend_from_slice(&acked.0.to_le_bytes());
}
