//! Frames of every kind, made up: each reads as it was written, however its stream is cut.

use bytes::{Bytes, BytesMut};
use crucial_object::{Error, MethodId, ObjectId, RunId, Sequence, SessionId, ThreadId};
use crucial_proto::frame::{
    Attempt, CallRequest, FRAME_BYTES_MAX, Fence, Hello, InFlight, OpenMode, OpenRequest,
    Operation, Request, Response, RouteServer, Routes, Welcome, decode_request, split,
};
use proptest::prelude::*;

use crate::golden::{golden_errors, numbered};
use crate::hostile_input::{check_request, check_response, write_request};

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from)
}

fn object() -> impl Strategy<Value = ObjectId> {
    any::<[u8; 16]>().prop_map(ObjectId)
}

fn operation() -> impl Strategy<Value = Operation> {
    let mode = prop_oneof![
        Just(OpenMode::Find),
        Just(OpenMode::FindOrCreate),
        Just(OpenMode::Recreate)
    ];
    let call = (object(), any::<u32>(), any::<u32>(), bytes());
    let open = (
        ".{0,20}",
        ".{0,20}",
        any::<bool>(),
        mode,
        any::<u8>(),
        bytes(),
    );
    prop_oneof![
        call.prop_map(|(object, method, timeout_ms, args)| {
            Operation::Call(CallRequest {
                object,
                method: MethodId(method),
                timeout_ms,
                args,
            })
        }),
        open.prop_map(|(type_name, key, persistent, mode, replicas, state)| {
            Operation::Open(OpenRequest {
                type_name,
                key,
                persistent,
                mode,
                replicas,
                state: state.into(),
            })
        }),
        object().prop_map(Operation::Delete),
        object().prop_map(Operation::ClearPoison),
        Just(Operation::Ping),
        Just(Operation::Goodbye),
        Just(Operation::ClearNamespace),
        Just(Operation::Modules),
        any::<[u8; 32]>().prop_map(Operation::RemoveModule),
        any::<u64>().prop_map(Operation::ForgetLost),
        (
            any::<bool>(),
            any::<bool>(),
            prop::collection::vec(any::<u8>(), 0..50)
        )
            .prop_map(|(replace, check, module)| Operation::Push {
                replace,
                check,
                module: module.into(),
            }),
        attempt().prop_map(Operation::Begin),
        any::<([u8; 16], u32)>().prop_map(|(thread, before)| {
            Operation::Fence(Fence {
                thread: ThreadId(thread),
                before,
            })
        }),
    ]
}

fn attempt() -> impl Strategy<Value = Attempt> {
    (any::<[u8; 16]>(), any::<u32>(), any::<bool>()).prop_map(|(thread, number, exactly_once)| {
        Attempt {
            thread: ThreadId(thread),
            number,
            exactly_once,
        }
    })
}

fn request() -> impl Strategy<Value = Request> {
    let sequences = (1..=u64::MAX).prop_flat_map(|sequence| (Just(sequence), 0..=sequence));
    let hello = (
        any::<u64>(),
        any::<[u8; 16]>(),
        any::<bool>(),
        ".{0,20}",
        prop::option::of(attempt()),
        any::<u64>(),
        any::<u32>(),
    );
    prop_oneof![
        hello.prop_map(
            |(session, run, owner, namespace, attempt, routes, fences)| Request::Hello {
                version: 2,
                hello: Some(Hello {
                    session: SessionId(session),
                    run: RunId(run),
                    owner,
                    namespace,
                    attempt,
                    routes,
                    fences,
                }),
            }
        ),
        any::<u64>().prop_map(Request::Routes),
        (sequences, operation())
            .prop_map(|((sequence, acked), operation)| { numbered(sequence, acked, operation) }),
        prop::collection::btree_set(any::<u64>(), 0..20).prop_map(|waiting| {
            let last = Sequence(waiting.last().copied().unwrap_or(0));
            let waiting = waiting.into_iter().map(Sequence).collect();
            Request::InFlight(InFlight { last, waiting })
        }),
        (any::<u64>(), object()).prop_map(|(sequence, object)| Request::Cancel {
            sequence: Sequence(sequence),
            object,
        }),
    ]
}

fn error() -> impl Strategy<Value = Error> {
    let chosen = prop::sample::select(golden_errors()).prop_map(|(error, _)| error);
    prop_oneof![chosen, ".{0,40}".prop_map(Error::Other)]
}

fn routes() -> impl Strategy<Value = Routes> {
    let server = (any::<u64>(), any::<u64>(), ".{0,20}");
    let server = server.prop_map(|(node, incarnation, address)| RouteServer {
        node,
        incarnation,
        address,
    });
    let lists = (
        prop::collection::vec(server, 0..4),
        prop::collection::vec(any::<u16>(), 0..20),
    );
    (any::<u64>(), any::<u64>(), lists).prop_map(|(cluster, version, (servers, primaries))| {
        Routes {
            cluster,
            version,
            servers,
            primaries,
        }
    })
}

fn response() -> impl Strategy<Value = Response> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>());
    let welcome = (any::<bool>(), numbers, routes());
    let result = prop_oneof![bytes().prop_map(Ok), error().prop_map(Err)];
    prop_oneof![
        welcome.prop_map(|(resumed, numbers, routes)| {
            let (lease_ms, frame_bytes_max, features, node) = numbers;
            Response::Welcome(Welcome {
                resumed,
                lease_ms,
                frame_bytes_max,
                features,
                node,
                routes,
            })
        }),
        routes().prop_map(Response::Routes),
        (any::<u64>(), any::<u64>()).prop_map(|(sequence, routes)| Response::Moved {
            sequence: Sequence(sequence),
            routes,
        }),
        (any::<u64>(), result).prop_map(|(sequence, result)| Response::Reply {
            sequence: Sequence(sequence),
            result,
        }),
        error().prop_map(Response::Refused),
    ]
}

proptest! {
    #[test]
    fn requests_read_as_they_were_written(request in request()) {
        check_request(&request);
    }

    #[test]
    fn responses_read_as_they_were_written(response in response()) {
        check_response(&response);
    }

    #[test]
    fn a_stream_gives_the_same_frames_however_it_is_cut(
        requests in prop::collection::vec(request(), 1..8),
        cuts in prop::collection::vec(1usize..60, 1..40),
    ) {
        let mut stream = Vec::new();
        for request in &requests {
            write_request(request, &mut stream).unwrap();
        }
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        let mut rest = &stream[..];
        for size in cuts.iter().cycle() {
            let (piece, later) = rest.split_at((*size).min(rest.len()));
            buffer.extend_from_slice(piece);
            while let Some(frame) = split(&mut buffer, FRAME_BYTES_MAX).unwrap() {
                read.push(decode_request(frame).unwrap());
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(read, requests);
    }
}
