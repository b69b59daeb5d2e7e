//! E1: a call delivered twice executes once. A18: malformed requests harm no other client.

use crucial::collections::Map;
use crucial::sync::{AtomicI64, Barrier};
use crucial::{Error, SharedType};
use crucial_object::encode;
use crucial_proto::frame::Response;
use libtest_mimic::Trial;

use crate::Outcome;
use crate::raw::{Raw, call};
use crate::server::{SMALL_FRAMES, Server};
use crate::trials;
use crate::types::Probe;
use crate::uploaded;

pub fn trials() -> Vec<Trial> {
    trials![
        e01_a_call_delivered_twice_executes_once,
        e01_a_panic_delivered_twice_happened_once,
        e01_a_waiting_call_delivered_twice_waits_once,
        a18_unknown_names_and_wrong_arguments,
        a18_wrong_calls_of_user_types,
        a18_garbage_and_endless_frames,
        a18_a_client_killed_in_mid_frame,
    ]
}

fn e01_a_call_delivered_twice_executes_once() -> Outcome {
    let server = Server::start(&[])?;
    let mut client = Raw::hello(&server, 1, false)?;
    let counter = client.make(1, &AtomicI64::new(10))?;
    let add = call(2, counter, "fetch_add", &encode(&(5i64,))?);
    // Twice on one connection, and once more on the next.
    client.send(&[add.clone(), add.clone()].concat())?;
    assert_eq!(client.reply(2)??, encode(&10i64)?);
    assert_eq!(client.reply(2)??, encode(&10i64)?);
    let mut client = Raw::hello(&server, 1, true)?;
    client.send(&add)?;
    assert_eq!(client.reply(2)??, encode(&10i64)?);
    client.send(&call(3, counter, "load", &[]))?;
    assert_eq!(client.reply(3)??, encode(&15i64)?);
    Ok(())
}

fn e01_a_panic_delivered_twice_happened_once() -> Outcome {
    let server = Server::start(&[])?;
    let mut client = Raw::hello(&server, 2, false)?;
    let probe = client.make(1, &Probe::default())?;
    let explode = call(2, probe, "explode", &encode(&(5i64,))?);
    client.send(&[explode.clone(), explode].concat())?;
    for _ in 0..2 {
        match client.reply(2)? {
            Err(Error::Panicked { message, .. }) => assert_eq!(message, "exploded at 5"),
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

fn e01_a_waiting_call_delivered_twice_waits_once() -> Outcome {
    let server = Server::start(&[])?;
    let mut client = Raw::hello(&server, 3, false)?;
    let barrier = client.make(1, &Barrier::new(3))?;
    let wait = call(2, barrier, "wait", &[]);
    client.send(&[wait.clone(), wait.clone()].concat())?;
    let mut client = Raw::hello(&server, 3, true)?;
    client.send(&wait)?;
    client.send(&call(3, barrier, "waiting", &[]))?;
    assert_eq!(client.reply(3)??, encode(&1u64)?);
    Ok(())
}

fn a18_unknown_names_and_wrong_arguments() -> Outcome {
    let server = Server::start(&[])?;
    let mut client = Raw::hello(&server, 4, false)?;
    match client.open(1, "no::such::Type", &[])? {
        Err(Error::UnknownType { type_name }) => assert_eq!(type_name, "no::such::Type"),
        other => panic!("{other:?}"),
    }
    match client.open(2, "crucial::AtomicI64", &[0xff; 20])? {
        Err(Error::BadArguments { what, .. }) => assert_eq!(what, "crucial::AtomicI64"),
        other => panic!("{other:?}"),
    }
    let counter = client.make(3, &AtomicI64::new(7))?;
    client.send(&call(4, counter, "fetch_and_run", &[]))?;
    match client.reply(4)? {
        Err(Error::UnknownMethod { known, .. }) => assert!(known.contains("fetch_add"), "{known}"),
        other => panic!("{other:?}"),
    }
    // Too few bytes, too many, none that mean a number.
    for (sequence, args) in [(5, vec![]), (6, vec![2, 2]), (7, vec![0xff; 11])] {
        client.send(&call(sequence, counter, "fetch_add", &args))?;
        match client.reply(sequence)? {
            Err(Error::BadArguments { what, .. }) => assert_eq!(what, "AtomicI64::fetch_add"),
            other => panic!("{other:?}"),
        }
    }
    client.send(&call(8, counter, "load", &[]))?;
    assert_eq!(client.reply(8)??, encode(&7i64)?);
    Ok(())
}

fn a18_wrong_calls_of_user_types() -> Outcome {
    let server = uploaded::server()?;
    let mut client = Raw::hello(&server, 10, false)?;
    // Not a state, but its beginning.
    let cut = client.open(1, Probe::NAME, &[5, 1])?;
    assert!(matches!(cut, Err(Error::BadArguments { .. })), "{cut:?}");
    let probe = client.make(2, &Probe::default())?;
    client.send(&call(3, probe, "subtract", &[]))?;
    match client.reply(3)? {
        Err(Error::UnknownMethod { known, .. }) => assert!(known.contains("divide"), "{known}"),
        other => panic!("{other:?}"),
    }
    for (sequence, args) in [(4, vec![]), (5, vec![2, 2]), (6, vec![0xff; 11])] {
        client.send(&call(sequence, probe, "add", &args))?;
        match client.reply(sequence)? {
            Err(Error::BadArguments { what, .. }) => assert_eq!(what, "Probe::add"),
            other => panic!("{other:?}"),
        }
    }
    client.send(&call(7, probe, "add", &encode(&(0i64,))?))?;
    assert_eq!(client.reply(7)??, encode(&0i64)?);
    Ok(())
}

fn refusal(client: &mut Raw) -> Result<Error, libtest_mimic::Failed> {
    match client.receive()? {
        Response::Refused(error) => Ok(error),
        other => Err(format!("not refused: {other:?}").into()),
    }
}

fn a18_garbage_and_endless_frames() -> Outcome {
    let server = Server::start(&SMALL_FRAMES)?;
    let mut good = Raw::hello(&server, 5, false)?;
    let map = good.make(1, &Map::<String, u8>::new())?;

    // HTTP, a wrong magic, a frame of 4 GB, one of none, and a request before the hello.
    let strangers: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[11, 0, 0, 0, 1, b'C', b'R', b'U', b'X', 0, 0, 0, 0, 1, 0],
        &[0xff, 0xff, 0xff, 0xff, 1],
        &[0, 0, 0, 0],
        &call(1, map, "len", &[]),
    ];
    for bytes in strangers {
        let mut stranger = Raw::connect(&server)?;
        stranger.send(bytes)?;
        assert_eq!(refusal(&mut stranger)?.kind(), crucial::ErrorKind::Protocol);
        assert!(stranger.is_closed());
    }
    // A wrong version gets told.
    let mut old = Raw::connect(&server)?;
    old.send(&[
        11, 0, 0, 0, 1, b'C', b'R', b'U', b'C', b'I', b'A', b'L', 0, 99, 0,
    ])?;
    assert!(refusal(&mut old)?.to_string().contains("version 99"));
    // And after the hello: a frame over the limit, an unknown kind, a truncated call.
    for (session, bytes) in [
        (6, vec![0x41, 0x42, 0x0f, 0, 2]),
        (
            7,
            vec![
                17, 0, 0, 0, 77, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
            ],
        ),
        (8, vec![2, 0, 0, 0, 2, 1]),
    ] {
        let mut client = Raw::hello(&server, session, false)?;
        client.send(&bytes)?;
        assert_eq!(refusal(&mut client)?.kind(), crucial::ErrorKind::Protocol);
        assert!(client.is_closed());
    }
    good.send(&call(2, map, "len", &[]))?;
    assert_eq!(good.reply(2)??, encode(&0u64)?);
    Ok(())
}

fn a18_a_client_killed_in_mid_frame() -> Outcome {
    let server = Server::start(&[])?;
    let mut client = Raw::hello(&server, 9, false)?;
    let counter = client.make(1, &AtomicI64::new(0))?;
    let add = call(2, counter, "fetch_add", &encode(&(1i64,))?);
    for cut in 1..add.len() {
        client.send(&add[..cut])?;
        drop(client);
        client = Raw::hello(&server, 9, true)?;
    }
    client.send(&add)?;
    assert_eq!(client.reply(2)??, encode(&0i64)?);
    client.send(&call(3, counter, "load", &[]))?;
    assert_eq!(client.reply(3)??, encode(&1i64)?);
    Ok(())
}
