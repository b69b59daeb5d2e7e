//! A harness for bytes that nobody vouches for. The fuzz target `frame` in `fuzz/` and
//! `hostile.rs` run the same one.

use bytes::BytesMut;
use crucial_object::{Error, Result};
use crucial_proto::frame::{self, Response};

/// Largest frame that the harness lets `split` take: small, so that the limit is met as well.
const FRAME_BYTES_MAX: usize = 4096;

/// The bytes of a connection, arriving in any pieces: frames or a clean error come out. What decodes
/// encodes again, to something that decodes to the same.
pub fn frame(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else {
        return;
    };
    let mut whole = BytesMut::from(stream);
    let frames = frames(&mut whole);
    let mut pieces = BytesMut::new();
    let mut piecemeal = Vec::new();
    let mut failed = false;
    let mut rest = stream;
    let mut state = u64::from(seed);
    while !rest.is_empty() && !failed {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (piece, later) = rest.split_at(rest.len().min(1 + (state >> 33) as usize % 40));
        pieces.extend_from_slice(piece);
        rest = later;
        let (more, error) = self::frames(&mut pieces);
        piecemeal.extend(more);
        failed = error;
    }
    assert_eq!(
        (piecemeal, failed),
        frames,
        "frames depend on how they were cut"
    );
    for bytes in frames.0 {
        if let Ok(request) = frame::decode_request(bytes.clone()) {
            check_request(&request);
        }
        if let Ok(response) = frame::decode_response(bytes) {
            check_response(&response);
        }
    }
}

/// All frames, and whether the rest is malformed.
fn frames(buffer: &mut BytesMut) -> (Vec<bytes::Bytes>, bool) {
    let mut frames = Vec::new();
    loop {
        match frame::split(buffer, FRAME_BYTES_MAX) {
            Ok(Some(bytes)) => frames.push(bytes),
            Ok(None) => return (frames, false),
            Err(Error::Protocol { .. }) => return (frames, true),
            Err(other) => panic!("not a protocol error: {other}"),
        }
    }
}

/// Appends any request.
pub fn write_request(request: &frame::Request, out: &mut Vec<u8>) -> Result<()> {
    use frame::{Operation, Request};
    match request {
        Request::Hello {
            hello: Some(hello), ..
        } => frame::write_hello(hello, out),
        // A hello of another version: nobody writes it here.
        Request::Hello { hello: None, .. } => Ok(()),
        Request::Cancel { sequence, object } => frame::write_cancel(*sequence, *object, out),
        Request::InFlight(in_flight) => frame::write_in_flight(in_flight, out),
        Request::Routes(version) => frame::write_known_routes(*version, out),
        Request::Numbered {
            sequence,
            acked,
            operation: Operation::Call(call),
        } => {
            let call = frame::CallFrame {
                sequence: *sequence,
                acked: *acked,
                object: call.object,
                method: call.method,
                timeout_ms: call.timeout_ms,
                args: &call.args,
            };
            frame::write_call(&call, out)
        }
        Request::Numbered {
            sequence,
            acked,
            operation,
        } => frame::write_operation(*sequence, *acked, operation, out),
    }
}

/// Appends any response.
pub fn write_response(response: &Response, out: &mut Vec<u8>) -> Result<()> {
    match response {
        Response::Welcome(welcome) => frame::write_welcome(welcome, out),
        Response::Routes(routes) => frame::write_routes(routes, out),
        Response::Moved { sequence, routes } => frame::write_moved(*sequence, *routes, out),
        Response::Refused(error) => frame::write_refused(error, out),
        Response::Reply { sequence, result } => {
            let result = result.as_ref().map(|bytes| &bytes[..]);
            frame::write_reply(*sequence, result, out)
        }
    }
}

/// The one frame that was written.
pub fn only_frame(written: &[u8]) -> bytes::Bytes {
    let mut buffer = BytesMut::from(written);
    let bytes = frame::split(&mut buffer, frame::FRAME_BYTES_MAX).unwrap();
    assert!(buffer.is_empty());
    bytes.unwrap()
}

/// A request reads as it was written.
pub fn check_request(request: &frame::Request) {
    let mut out = Vec::new();
    write_request(request, &mut out).unwrap();
    if !out.is_empty() {
        assert_eq!(
            frame::decode_request(only_frame(&out)).as_ref(),
            Ok(request)
        );
    }
}

/// A response reads as it was written.
pub fn check_response(response: &Response) {
    let mut out = Vec::new();
    write_response(response, &mut out).unwrap();
    assert_eq!(
        frame::decode_response(only_frame(&out)).as_ref(),
        Ok(response)
    );
}
