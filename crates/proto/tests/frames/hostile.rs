//! What becomes of bytes that are no frames, or other frames than were written. The last two tests give the fuzz target's
//! harness a few thousand pseudo-random inputs, the same at each run: random bytes, and valid frames with a few bytes changed.

use bytes::{Bytes, BytesMut};
use crucial_object::{Error, ObjectId, Sequence};
use crucial_proto::frame::{
    FRAME_BYTES_MAX, LENGTH_BYTES, Request, Response, decode_request, decode_response, peek_length,
    split, write_cancel, write_reply,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::golden::{golden_errors, golden_requests, golden_responses, unhex};
use crate::hostile_input::{self, check_request, check_response, write_response};

fn valid_frames() -> Vec<Vec<u8>> {
    let requests = golden_requests()
        .into_iter()
        .map(|(_, golden)| unhex(golden));
    let responses = golden_responses()
        .into_iter()
        .map(|(_, golden)| unhex(golden));
    let errors = golden_errors().into_iter().map(|(error, _)| {
        let mut out = Vec::new();
        let reply = Response::Reply {
            sequence: Sequence(1),
            result: Err(error),
        };
        write_response(&reply, &mut out).unwrap();
        out
    });
    requests.chain(responses).chain(errors).collect()
}

#[test]
fn every_truncation_decodes_or_is_refused() {
    for frame in valid_frames() {
        for end in LENGTH_BYTES..frame.len() {
            let cut = Bytes::copy_from_slice(&frame[LENGTH_BYTES..end]);
            let _ = decode_request(cut.clone());
            let _ = decode_response(cut);
            // The length tells that there is more to come.
            let mut buffer = BytesMut::from(&frame[..end]);
            assert_eq!(split(&mut buffer, FRAME_BYTES_MAX), Ok(None));
            assert_eq!(buffer.len(), end, "what is not a frame stays");
        }
    }
}

#[test]
fn every_change_of_one_byte_decodes_or_is_refused() {
    for frame in valid_frames() {
        for position in 0..frame.len() {
            for byte in 0..=u8::MAX {
                let mut changed = frame.clone();
                changed[position] = byte;
                let mut buffer = BytesMut::from(&changed[..]);
                let Ok(Some(body)) = split(&mut buffer, FRAME_BYTES_MAX) else {
                    continue;
                };
                if let Ok(request) = decode_request(body.clone()) {
                    check_request(&request);
                }
                if let Ok(response) = decode_response(body) {
                    check_response(&response);
                }
            }
        }
    }
}

#[test]
fn requests_are_refused_with_the_reason() {
    let reason = |bytes: &str| {
        let error = decode_request(unhex(bytes).into()).unwrap_err();
        let Error::Protocol { detail } = error else {
            panic!("{error}");
        };
        detail
    };
    assert!(reason("").contains("too early"));
    assert!(reason("01 4855434c4149580000").contains("no Crucial client"));
    assert!(reason("01 4352554349414c00 0200 ff").contains("hello"));
    assert!(reason("07 0000000000000000 0000000000000000").contains("start at 1"));
    assert!(reason("07 0100000000000000 0200000000000000").contains("acknowledgement 2"));
    assert!(reason("07 0100000000000000 0100000000000000 00").contains("too many"));
    assert!(reason("63 0100000000000000 0100000000000000").contains("unknown kind 99"));
}

#[test]
fn a_hello_of_another_version_is_recognised_and_not_read() {
    let hello = decode_request(unhex("01 4352554349414c00 0100 ff").into());
    let expected = Request::Hello {
        version: 1,
        hello: None,
    };
    assert_eq!(hello, Ok(expected));
}

#[test]
fn an_error_that_is_not_known_fails_its_call_and_no_more() {
    let reply = decode_response(unhex("83 0500000000000000 7f 01 61").into());
    let Ok(Response::Reply {
        sequence: Sequence(5),
        result: Err(Error::Protocol { .. }),
    }) = reply
    else {
        panic!("{reply:?}");
    };
}

#[test]
fn lengths_of_zero_or_over_the_limit_are_refused() {
    for (length, limit) in [
        (0, FRAME_BYTES_MAX),
        (u32::MAX, FRAME_BYTES_MAX),
        (101, 100),
    ] {
        let mut buffer = BytesMut::from(&length.to_le_bytes()[..]);
        let error = split(&mut buffer, limit).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
    assert_eq!(peek_length(&100u32.to_le_bytes(), 100), Ok(Some(100)));
    assert_eq!(peek_length(&[0, 0, 0], 100), Ok(None));
}

/// How many inputs a test with random ones takes.
const INPUTS: usize = 5_000;

fn bytes(random: &mut ChaCha8Rng, length: usize) -> Vec<u8> {
    random.random_iter().take(length).collect()
}

#[test]
fn frames_survive_random_bytes() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..INPUTS {
        let length = random.random_range(0..300);
        hostile_input::frame(&bytes(&mut random, length));
    }
}

#[test]
fn frames_survive_changed_frames() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for _ in 0..INPUTS {
        let mut stream = bytes(&mut random, 1);
        for _ in 0..random.random_range(1..=4) {
            let sequence = Sequence(random.random_range(1..=9));
            let length = random.random_range(0..40);
            let bytes = bytes(&mut random, length);
            let object = ObjectId([7; 16]);
            let error = Error::Other("why".to_owned());
            match random.random_range(0..3) {
                0 => write_cancel(sequence, object, &mut stream),
                1 => write_reply(sequence, Ok(&bytes), &mut stream),
                _ => write_reply(sequence, Err(&error), &mut stream),
            }
            .unwrap();
        }
        for _ in 0..random.random_range(0..4) {
            let position = random.random_range(0..stream.len());
            stream[position] = random.random();
        }
        hostile_input::frame(&stream);
    }
}

#[test]
fn a_list_of_too_many_calls_in_flight_is_refused_before_it_takes_memory() {
    let list = |waiting: &[u8], count: u32| {
        // The last sequence, the length of the list as a varint, the list.
        let mut frame = vec![9, 0xff, 0xff, 0xff, 0x7f];
        let mut rest = count;
        while rest >= 0x80 {
            frame.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        frame.push(rest as u8);
        frame.extend_from_slice(waiting);
        decode_request(frame.into())
    };
    assert!(matches!(list(&[1, 2, 3], 3), Ok(Request::InFlight(_))));
    // A number that stands twice takes room and says nothing.
    assert!(matches!(list(&[1, 1, 1], 3), Err(Error::Protocol { .. })));
    for count in [(1 << 20) + 1, 64 << 20] {
        let refused = list(&vec![1; count], count as u32);
        let Err(Error::LimitExceeded { limit, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(limit, "CALLS_IN_FLIGHT_MAX");
    }
}
