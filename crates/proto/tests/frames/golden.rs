//! Each kind of frame with its bytes, which `docs/protocol.md` shows.

use std::time::Duration;

use bytes::Bytes;
use crucial_object::{Error, MethodId, ObjectId, RunId, Sequence, SessionId, ThreadId, encode};
use crucial_proto::frame::{
    Attempt, CallRequest, FRAME_BYTES_MAX, Fence, Hello, InFlight, Inspect, OpenMode, OpenRequest,
    Operation, Request, Response, RouteServer, Routes, Welcome, decode_request, decode_response,
    set_acked, set_numbers,
};

use crate::hostile_input::{only_frame, write_request, write_response};

const PAGE: &str = include_str!("../../../../docs/protocol.md");

const HITS: &str = "75cbe32a7ebad6f84851aac762f3c493";

pub fn numbered(sequence: u64, acked: u64, operation: Operation) -> Request {
    Request::Numbered {
        sequence: Sequence(sequence),
        acked: Sequence(acked),
        operation,
    }
}

fn hits() -> ObjectId {
    ObjectId::of("ns/default", "crucial::AtomicI64", "hits")
}

fn open_hits() -> OpenRequest {
    OpenRequest {
        type_name: "crucial::AtomicI64".to_owned(),
        key: "hits".to_owned(),
        persistent: true,
        mode: OpenMode::FindOrCreate,
        replicas: 0,
        state: encode(&40i64).unwrap(),
    }
}

/// Each kind of request, with its bytes.
pub fn golden_requests() -> Vec<(Request, &'static str)> {
    let hello = Hello {
        session: SessionId(300),
        run: RunId([0x11; 16]),
        owner: true,
        namespace: "default".to_owned(),
        attempt: None,
        routes: 0,
        fences: 0,
    };
    let attempt = Attempt {
        thread: ThreadId([0x22; 16]),
        number: 2,
        exactly_once: false,
    };
    let call = CallRequest {
        object: hits(),
        method: MethodId::of("fetch_add"),
        timeout_ms: 0,
        args: encode(&(2i64,)).unwrap().into(),
    };
    vec![
        (
            Request::Hello {
                version: 2,
                hello: Some(hello),
            },
            "29000000 01 4352554349414c00 0200 ac02 11111111111111111111111111111111 01 07 64656661756c74 00 00 00",
        ),
        (
            numbered(2, 2, Operation::Call(call)),
            "2a000000 02 0200000000000000 0200000000000000 @ 8fe33060 00000000 04",
        ),
        (
            numbered(1, 1, Operation::Open(open_hits())),
            "2e000000 03 0100000000000000 0100000000000000 12 6372756369616c3a3a41746f6d6963493634 04 68697473 01 01 00 01 50",
        ),
        (
            numbered(3, 3, Operation::Delete(hits())),
            "21000000 04 0300000000000000 0300000000000000 @",
        ),
        (
            numbered(4, 3, Operation::ClearPoison(hits())),
            "21000000 05 0400000000000000 0300000000000000 @",
        ),
        (
            Request::Cancel {
                sequence: Sequence(5),
                object: hits(),
            },
            "19000000 06 0500000000000000 @",
        ),
        (
            Request::InFlight(InFlight {
                last: Sequence(300),
                waiting: vec![Sequence(5), Sequence(299)],
            }),
            "07000000 09 ac02 02 05 ab02",
        ),
        (Request::Routes(300), "09000000 10 2c01000000000000"),
        (
            numbered(6, 6, Operation::Ping),
            "11000000 07 0600000000000000 0600000000000000",
        ),
        (
            numbered(7, 7, Operation::Goodbye),
            "11000000 08 0700000000000000 0700000000000000",
        ),
        (
            numbered(8, 8, Operation::Begin(attempt)),
            "23000000 0a 0800000000000000 0800000000000000 22222222222222222222222222222222 02 00",
        ),
        (
            numbered(
                9,
                9,
                Operation::Fence(Fence {
                    thread: ThreadId([0x22; 16]),
                    before: Fence::ALL,
                }),
            ),
            "25000000 0b 0900000000000000 0900000000000000 22222222222222222222222222222222 ffffffff",
        ),
        (
            numbered(10, 10, Operation::ClearNamespace),
            "11000000 0c 0a00000000000000 0a00000000000000",
        ),
        (
            numbered(
                11,
                11,
                Operation::Push {
                    replace: true,
                    check: false,
                    module: Bytes::from_static(b"\0asm"),
                },
            ),
            "16000000 0d 0b00000000000000 0b00000000000000 01 0061736d",
        ),
        (
            numbered(12, 12, Operation::Modules),
            "11000000 0e 0c00000000000000 0c00000000000000",
        ),
        (
            numbered(
                14,
                14,
                Operation::Inspect(Inspect::Objects {
                    after: None,
                    max: 300,
                    key: Some("hits".to_owned()),
                }),
            ),
            "1b000000 11 0e00000000000000 0e00000000000000 01 00 ac02 01 04 68697473",
        ),
        (
            numbered(13, 13, Operation::RemoveModule([0x33; 32])),
            "31000000 0f 0d00000000000000 0d00000000000000 3333333333333333333333333333333333333333333333333333333333333333",
        ),
        (
            numbered(15, 15, Operation::ForgetLost(258)),
            "19000000 12 0f00000000000000 0f00000000000000 0201000000000000",
        ),
    ]
}

/// Each kind of response, with its bytes.
pub fn golden_responses() -> Vec<(Response, &'static str)> {
    vec![
        (
            Response::Welcome(Welcome {
                resumed: false,
                lease_ms: 10_000,
                frame_bytes_max: FRAME_BYTES_MAX as u64,
                features: 0,
                node: 2,
                routes: Routes {
                    cluster: 3,
                    version: 1,
                    servers: vec![RouteServer {
                        node: 2,
                        incarnation: 1,
                        address: String::new(),
                    }],
                    primaries: vec![0],
                },
            }),
            "13000000 81 00 904e 8080808001 00 02 03 01 01 02 01 00 01 00",
        ),
        (
            Response::Routes(Routes {
                cluster: 1,
                version: 300,
                servers: vec![RouteServer {
                    node: 2,
                    incarnation: 3,
                    address: "a:1".to_owned(),
                }],
                primaries: vec![0, Routes::NONE],
            }),
            "10000000 85 01 ac02 01 02 03 03 613a31 02 00 ffff03",
        ),
        (
            Response::Moved {
                sequence: Sequence(2),
                routes: 300,
            },
            "11000000 86 0200000000000000 2c01000000000000",
        ),
        (
            Response::Reply {
                sequence: Sequence(2),
                result: Ok(encode(&40i64).unwrap().into()),
            },
            "0a000000 82 0200000000000000 50",
        ),
        (
            Response::Reply {
                sequence: Sequence(5),
                result: Err(Error::Cancelled),
            },
            "0a000000 83 0500000000000000 09",
        ),
        (
            Response::Refused(Error::Protocol {
                detail: "no".to_owned(),
            }),
            "05000000 84 0d 02 6e6f",
        ),
    ]
}

/// Each error, with its bytes. A new one goes to the end.
pub fn golden_errors() -> Vec<(Error, &'static str)> {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(str::to_owned);
    let after = Duration::new(300, 5);
    vec![
        (Error::Lost { object: a.clone() }, "00 01 61"),
        (
            Error::NotFound {
                type_name: a.clone(),
                key: b.clone(),
            },
            "01 01 61 01 62",
        ),
        (
            Error::UnknownType {
                type_name: a.clone(),
            },
            "02 01 61",
        ),
        (
            Error::UnknownMethod {
                type_name: a.clone(),
                method: b.clone(),
                known: c.clone(),
            },
            "03 01 61 01 62 01 63",
        ),
        (
            Error::BadArguments {
                what: a.clone(),
                detail: b.clone(),
            },
            "04 01 61 01 62",
        ),
        (
            Error::Encoding {
                what: a.clone(),
                detail: b.clone(),
            },
            "05 01 61 01 62",
        ),
        (
            Error::Panicked {
                what: a.clone(),
                message: b.clone(),
                location: c.clone(),
            },
            "06 01 61 01 62 01 63",
        ),
        (
            Error::Poisoned {
                what: a.clone(),
                message: b.clone(),
                location: c.clone(),
            },
            "07 01 61 01 62 01 63",
        ),
        (Error::TimedOut { after }, "08 ac02 05"),
        (Error::Cancelled, "09"),
        (
            Error::LimitExceeded {
                limit: a.clone(),
                max: 300,
                detail: b.clone(),
            },
            "0a 01 61 ac02 01 62",
        ),
        (
            Error::Unavailable {
                address: a.clone(),
                reason: b.clone(),
            },
            "0b 01 61 01 62",
        ),
        (Error::SessionExpired, "0c"),
        (Error::Protocol { detail: a.clone() }, "0d 01 61"),
        (Error::Nested, "0e"),
        (
            Error::WorkerDied {
                thread: a.clone(),
                reason: b.clone(),
                output: vec![c, d],
            },
            "0f 01 61 01 62 02 01 63 01 64",
        ),
        (
            Error::TimeLimit {
                thread: a.clone(),
                limit: after,
            },
            "10 01 61 ac02 05",
        ),
        (
            Error::MemoryLimit {
                thread: a.clone(),
                limit_mb: 300,
            },
            "11 01 61 ac02",
        ),
        (
            Error::Platform {
                thread: a.clone(),
                reason: b,
            },
            "12 01 61 01 62",
        ),
        (Error::Config { detail: a.clone() }, "13 01 61"),
        (Error::Other(a.clone()), "14 01 61"),
        (Error::OutOfBounds { index: 5, len: 4 }, "15 05 04"),
        (Error::Broken { what: a.clone() }, "16 01 61"),
        (Error::LockLost { token: 300 }, "17 ac02"),
        (Error::Fenced, "18"),
        (
            Error::Diverged {
                thread: a.clone(),
                position: 2,
                recorded: a.clone(),
                now: a,
            },
            "19 01 61 02 01 61 01 61",
        ),
        (
            Error::Refused {
                reason: "a".to_owned(),
            },
            "1a 01 61",
        ),
    ]
}

/// Bytes, as the page writes them: in hexadecimal, with spaces, and `@` for the id of `hits`.
pub fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.replace('@', HITS).split_whitespace().collect();
    let byte = |i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fails if the page does not show these bytes.
fn assert_on_the_page(golden: &str) {
    let written = golden.replace('@', HITS);
    assert!(
        PAGE.contains(&written),
        "docs/protocol.md does not show {written}"
    );
}

#[test]
fn requests_have_their_golden_bytes_and_the_page_shows_them() {
    for (request, golden) in golden_requests() {
        let mut out = Vec::new();
        write_request(&request, &mut out).unwrap();
        assert_eq!(hex(&out), hex(&unhex(golden)), "{request:?}");
        assert_eq!(decode_request(only_frame(&unhex(golden))), Ok(request));
        assert_on_the_page(golden);
    }
}

#[test]
fn responses_have_their_golden_bytes_and_the_page_shows_them() {
    for (response, golden) in golden_responses() {
        let mut out = Vec::new();
        write_response(&response, &mut out).unwrap();
        assert_eq!(hex(&out), hex(&unhex(golden)), "{response:?}");
        assert_eq!(decode_response(only_frame(&unhex(golden))), Ok(response));
        assert_on_the_page(golden);
    }
}

#[test]
fn errors_have_their_golden_numbers_and_the_page_lists_them() {
    for (number, (error, golden)) in golden_errors().into_iter().enumerate() {
        assert_eq!(
            hex(&encode(&error).unwrap()),
            hex(&unhex(golden)),
            "{error:?}"
        );
        let row = format!("| {number} | `{}` |", error.kind());
        assert!(PAGE.contains(&row), "docs/protocol.md has no row {row}");
    }
}

#[test]
fn the_page_shows_the_ids_that_it_describes() {
    assert_eq!(hits().to_string(), HITS);
    for name in ["fetch_add", "load", "get", "wait"] {
        let line = format!("`{name}` | `{:#010x}`", MethodId::of(name).0);
        assert!(
            PAGE.contains(&line),
            "docs/protocol.md does not show {line}"
        );
    }
    let run = RunId([0x11; 16]);
    let anonymous = open_hits();
    let ephemeral = OpenRequest {
        persistent: false,
        ..anonymous
    };
    let id = ephemeral.object(&run, "default").to_string();
    assert!(PAGE.contains(&id), "docs/protocol.md does not show {id}");
}

#[test]
fn the_numbers_of_a_frame_are_replaced_in_place() {
    for (request, golden) in golden_requests() {
        let Request::Numbered { operation, .. } = request else {
            continue;
        };
        let mut frame = unhex(golden);
        set_numbers(&mut frame, Sequence(300), Sequence(200));
        let expected = numbered(300, 200, operation.clone());
        assert_eq!(decode_request(only_frame(&frame)), Ok(expected));
        set_acked(&mut frame, Sequence(250));
        let expected = numbered(300, 250, operation);
        assert_eq!(decode_request(only_frame(&frame)), Ok(expected));
    }
}

#[test]
fn frames_are_appended_to_what_is_there() {
    let mut stream = vec![1, 2, 3];
    let request = golden_requests().remove(6).0;
    write_request(&request, &mut stream).unwrap();
    assert_eq!(stream[..3], [1, 2, 3]);
    assert_eq!(decode_request(only_frame(&stream[3..])), Ok(request));
}
