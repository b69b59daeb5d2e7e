//! Bytes to frames.

use bytes::{Buf, Bytes, BytesMut};
use crucial_object::{Error, MethodId, ObjectId, Sequence, ThreadId, decode};

use super::{
    CALLS_IN_FLIGHT_MAX, CallRequest, Fence, InFlight, LENGTH_BYTES, MAGIC, Operation, Request,
    Response, VERSION, kind, push,
};

/// Takes the next whole frame (without its length) off `buffer`, if it is there.
///
/// # Errors
///
/// [`Error::Protocol`] if the length is 0 or over `frame_bytes_max`: there is no way to go on.
pub fn split(buffer: &mut BytesMut, frame_bytes_max: usize) -> Result<Option<Bytes>, Error> {
    let Some(length) = peek_length(buffer, frame_bytes_max)? else {
        return Ok(None);
    };
    if buffer.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// The length of the frame at the start of `buffer`, if enough of it is there to tell.
pub fn peek_length(buffer: &[u8], frame_bytes_max: usize) -> Result<Option<usize>, Error> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length == 0 || length > frame_bytes_max {
        return Err(malformed(format!(
            "a frame of {length} bytes, where 1 to {frame_bytes_max} (frame_bytes_max) are allowed"
        )));
    }
    Ok(Some(length))
}

/// Decodes a frame from a client.
pub fn decode_request(mut frame: Bytes) -> Result<Request, Error> {
    let kind = take_u8(&mut frame)?;
    if kind == kind::HELLO {
        return decode_hello(frame);
    }
    if kind == kind::IN_FLIGHT {
        return decode_in_flight(&frame);
    }
    if kind == kind::KNOWN_ROUTES {
        let version = take_u64(&mut frame)?;
        take_end(&frame)?;
        return Ok(Request::Routes(version));
    }
    let sequence = Sequence(take_u64(&mut frame)?);
    if kind == kind::CANCEL {
        let object = take_object(&mut frame)?;
        take_end(&frame)?;
        return Ok(Request::Cancel { sequence, object });
    }
    let acked = Sequence(take_u64(&mut frame)?);
    if sequence.0 == 0 || acked > sequence {
        return Err(malformed(format!(
            "sequence {} with acknowledgement {}: sequences start at 1, and a request is not acknowledged before it is answered",
            sequence.0, acked.0
        )));
    }
    Ok(Request::Numbered {
        sequence,
        acked,
        operation: decode_operation(kind, frame)?,
    })
}

fn decode_hello(mut frame: Bytes) -> Result<Request, Error> {
    let magic = take(&mut frame, MAGIC.len())?;
    if magic[..] != MAGIC {
        return Err(malformed("no Crucial client".to_owned()));
    }
    let version = take_u16(&mut frame)?;
    let hello = if version == VERSION {
        Some(decode(&frame).map_err(|e| malformed(format!("malformed hello: {e}")))?)
    } else {
        None
    };
    Ok(Request::Hello { version, hello })
}

fn decode_in_flight(frame: &[u8]) -> Result<Request, Error> {
    // A varint has at most ten bytes.
    if frame.len() > 10 * (CALLS_IN_FLIGHT_MAX + 2) {
        return Err(too_many_in_flight());
    }
    let in_flight: InFlight =
        decode(frame).map_err(|e| malformed(format!("malformed list of calls in flight: {e}")))?;
    let InFlight { last, waiting } = &in_flight;
    if waiting.len() > CALLS_IN_FLIGHT_MAX {
        return Err(too_many_in_flight());
    }
    if !waiting.is_sorted_by(|one, next| one < next)
        || waiting.last().is_some_and(|highest| highest > last)
    {
        return Err(malformed(
            "calls in flight that are not in rising order, up to the last".to_owned(),
        ));
    }
    Ok(Request::InFlight(in_flight))
}

fn too_many_in_flight() -> Error {
    Error::LimitExceeded {
        limit: "CALLS_IN_FLIGHT_MAX".to_owned(),
        max: CALLS_IN_FLIGHT_MAX as u64,
        detail: "a list of more calls in flight".to_owned(),
    }
}

fn decode_operation(kind: u8, mut frame: Bytes) -> Result<Operation, Error> {
    let operation = match kind {
        kind::CALL => Operation::Call(CallRequest {
            object: take_object(&mut frame)?,
            method: MethodId(take_u32(&mut frame)?),
            timeout_ms: take_u32(&mut frame)?,
            args: std::mem::take(&mut frame),
        }),
        kind::OPEN => Operation::Open(
            decode(&std::mem::take(&mut frame))
                .map_err(|e| malformed(format!("malformed open request: {e}")))?,
        ),
        kind::DELETE => Operation::Delete(take_object(&mut frame)?),
        kind::CLEAR_POISON => Operation::ClearPoison(take_object(&mut frame)?),
        kind::PING => Operation::Ping,
        kind::GOODBYE => Operation::Goodbye,
        kind::BEGIN => Operation::Begin(
            decode(&std::mem::take(&mut frame))
                .map_err(|e| malformed(format!("malformed attempt: {e}")))?,
        ),
        kind::CLEAR_NAMESPACE => Operation::ClearNamespace,
        kind::PUSH => {
            let how = frame.try_get_u8().map_err(|_| short())?;
            if how & !(push::REPLACE | push::CHECK) != 0 {
                return Err(malformed(format!("a push that says {how}")));
            }
            Operation::Push {
                replace: how & push::REPLACE != 0,
                check: how & push::CHECK != 0,
                module: std::mem::take(&mut frame),
            }
        }
        kind::MODULES => Operation::Modules,
        kind::REMOVE_MODULE => {
            let mut id = [0; 32];
            frame.try_copy_to_slice(&mut id).map_err(|_| short())?;
            Operation::RemoveModule(id)
        }
        kind::FORGET_LOST => Operation::ForgetLost(frame.try_get_u64_le().map_err(|_| short())?),
        kind::FENCE => Operation::Fence(Fence {
            thread: ThreadId(take_object(&mut frame)?.0),
            before: frame.try_get_u32_le().map_err(|_| short())?,
        }),
        kind::INSPECT => Operation::Inspect(
            decode(&std::mem::take(&mut frame))
                .map_err(|e| malformed(format!("malformed request to inspect: {e}")))?,
        ),
        other => return Err(malformed(format!("a frame of the unknown kind {other}"))),
    };
    take_end(&frame)?;
    Ok(operation)
}

/// Decodes a frame from a server.
pub fn decode_response(mut frame: Bytes) -> Result<Response, Error> {
    match take_u8(&mut frame)? {
        kind::WELCOME => Ok(Response::Welcome(decode(&frame)?)),
        kind::RESULT => Ok(Response::Reply {
            sequence: Sequence(take_u64(&mut frame)?),
            result: Ok(frame),
        }),
        kind::ERROR => Ok(Response::Reply {
            sequence: Sequence(take_u64(&mut frame)?),
            // A newer server can have errors that are unknown here: the call failed, no more.
            result: Err(decode(&frame).unwrap_or_else(|_| {
                malformed("the call failed with an error that this client does not know".to_owned())
            })),
        }),
        kind::REFUSED => Ok(Response::Refused(decode(&frame)?)),
        kind::ROUTES => Ok(Response::Routes(decode(&frame)?)),
        kind::MOVED => {
            let sequence = Sequence(take_u64(&mut frame)?);
            let routes = take_u64(&mut frame)?;
            take_end(&frame)?;
            Ok(Response::Moved { sequence, routes })
        }
        other => Err(malformed(format!("a frame of the unknown kind {other}"))),
    }
}

pub(super) fn take(frame: &mut Bytes, count: usize) -> Result<Bytes, Error> {
    if frame.len() < count {
        return Err(malformed("a frame that ends too early".to_owned()));
    }
    Ok(frame.split_to(count))
}

pub(super) fn take_u8(frame: &mut Bytes) -> Result<u8, Error> {
    frame.try_get_u8().map_err(|_| short())
}

pub(super) fn take_u16(frame: &mut Bytes) -> Result<u16, Error> {
    frame.try_get_u16_le().map_err(|_| short())
}

fn take_u32(frame: &mut Bytes) -> Result<u32, Error> {
    frame.try_get_u32_le().map_err(|_| short())
}

pub(super) fn take_u64(frame: &mut Bytes) -> Result<u64, Error> {
    frame.try_get_u64_le().map_err(|_| short())
}

fn take_object(frame: &mut Bytes) -> Result<ObjectId, Error> {
    let mut id = [0; 16];
    frame.try_copy_to_slice(&mut id).map_err(|_| short())?;
    Ok(ObjectId(id))
}

fn take_end(frame: &Bytes) -> Result<(), Error> {
    match frame.len() {
        0 => Ok(()),
        more => Err(malformed(format!("a frame with {more} bytes too many"))),
    }
}

fn short() -> Error {
    malformed("a frame that ends too early".to_owned())
}

pub(super) fn malformed(detail: String) -> Error {
    Error::Protocol { detail }
}
