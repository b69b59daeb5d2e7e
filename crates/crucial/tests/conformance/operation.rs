//! G: a server as its operator sees it.

use std::time::Duration;

use crucial::Error;
use crucial::sync::{AtomicI64, Barrier};
use crucial_object::encode;
use crucial_proto::frame::Response;
use libtest_mimic::Trial;

use crate::Outcome;
use crate::raw::{Raw, call};
use crate::server::Server;
use crate::trials;
use crate::types::Probe;

pub fn trials() -> Vec<Trial> {
    trials![
        g01_each_limit_is_kept_and_named,
        g02_a_server_says_when_it_is_ready_and_ends_well,
    ]
}

/// The limit that an error names.
fn limit_of<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::LimitExceeded { limit, .. }) => limit,
        other => panic!("no limit: {other:?}"),
    }
}

fn g01_each_limit_is_kept_and_named() -> Outcome {
    // Connections of the other servers of a cluster do not count.
    let server = Server::fresh(&["--connections-max", "20"])?;
    let mut open = Vec::new();
    let refused = loop {
        let mut client = Raw::connect(&server)?;
        match client.greet(open.len() as u64 + 1)? {
            Response::Welcome(_) => open.push(client),
            Response::Refused(error) => break error,
            other => panic!("{other:?}"),
        }
        assert!(open.len() <= 20);
    };
    assert_eq!(limit_of::<()>(Err(refused)), "connections_max");
    assert!(open.len() > 1, "only {} connections", open.len());
    drop(open);

    let server = Server::fresh(&["--objects-max", "1", "--parked-calls-max", "1"])?;
    let mut client = Raw::hello(&server, 1, false)?;
    let barrier = client.make(1, &Barrier::new(9))?;
    let second = client.open(2, "crucial::AtomicI64", &encode(&AtomicI64::new(0))?)?;
    assert_eq!(limit_of(second), "objects_max");
    client.send(&call(3, barrier, "wait", &[]))?;
    client.send(&call(4, barrier, "wait", &[]))?;
    assert_eq!(limit_of(client.reply(4)?), "parked_calls_max");

    let server = Server::fresh(&["--queued-calls-max", "2", "--frame-bytes-max", "40000"])?;
    let mut client = Raw::hello(&server, 1, false)?;
    let probe = client.make(1, &Probe::default())?;
    let time = encode(&(Duration::from_millis(300),))?;
    client.send(&call(2, probe, "sleep", &time))?;
    for sequence in 3..=5 {
        client.send(&call(sequence, probe, "process", &[]))?;
    }
    // Two queue; the third is refused at once, before the first has its turn.
    assert_eq!(limit_of(client.reply(5)?), "queued_calls_max");
    for sequence in 2..=4 {
        client.reply(sequence)??;
    }
    // A request over the limit ends the connection; what was executed before has its reply.
    let bytes = encode(&(0i64, "x".repeat(40_000)))?;
    client.send(&call(6, probe, "explode", &encode(&(1i64,))?))?;
    assert!(matches!(client.reply(6)?, Err(Error::Panicked { .. })));
    client.send(&call(7, probe, "add", &bytes))?;
    match client.receive()? {
        Response::Refused(error) => assert!(error.to_string().contains("frame_bytes_max")),
        other => panic!("{other:?}"),
    }
    Ok(())
}

fn g02_a_server_says_when_it_is_ready_and_ends_well() -> Outcome {
    let server = Server::fresh(&[])?;
    // `fresh` has seen the readiness line, so a client can connect at once.
    let mut client = Raw::hello(&server, 1, false)?;
    client.make(1, &AtomicI64::new(0))?;
    assert_eq!(server.terminate_last()?, Some(0));
    assert!(client.is_closed());
    Ok(())
}
