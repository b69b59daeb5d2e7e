//! Sessions without sockets.

mod cluster;
mod connections;
mod model;
mod numbers;
mod time;

use bytes::BytesMut;
use crucial_object::{MethodId, ObjectId, Result, RunId, Sequence, SessionId, ThreadId};
use crucial_proto::frame::{
    self, Attempt, CallFrame, Operation, Request as Heard, RouteServer, Routes, Welcome,
};

use super::{Identity, Introduction, Member, Request, Session, Target};

pub const PARTITIONS: usize = 4;
pub const LEASE_MS: u64 = 3000;

pub fn member(node: u64) -> Member {
    Member {
        node,
        incarnation: 1,
    }
}

/// Routes of cluster 7. `primary` gives the node that answers for a partition.
pub fn routes(version: u64, members: &[Member], primary: impl Fn(usize) -> Option<u64>) -> Routes {
    let place = |partition| {
        let node = primary(partition)?;
        members.iter().position(|member| member.node == node)
    };
    let server = |member: &Member| RouteServer {
        node: member.node,
        incarnation: member.incarnation,
        address: format!("server-{}:1", member.node),
    };
    Routes {
        cluster: 7,
        version,
        servers: members.iter().map(server).collect(),
        primaries: (0..PARTITIONS)
            .map(|partition| place(partition).map_or(Routes::NONE, |place| place as u16))
            .collect(),
    }
}

/// Routes of the nodes 1 to `count`, among which the partitions go round.
pub fn even_routes(version: u64, count: u64) -> Routes {
    let members: Vec<Member> = (1..=count).map(member).collect();
    routes(version, &members, |partition| {
        Some(1 + partition as u64 % count)
    })
}

pub fn identity() -> Identity {
    Identity {
        session: SessionId(9),
        run: RunId([1; 16]),
        owner: false,
        namespace: "default".to_owned(),
        is_exactly_once: false,
    }
}

pub fn attempt(number: u32) -> Attempt {
    Attempt {
        thread: ThreadId([5; 16]),
        number,
        exactly_once: false,
    }
}

pub fn begin(identity: Identity, routes: Routes) -> Session<()> {
    Session::new(identity, None, 0, routes, "reached:1").unwrap()
}

/// A session with the nodes 1 to `count`, none of which is connected.
pub fn session(count: u64) -> Session<()> {
    begin(identity(), even_routes(1, count))
}

/// The same, with all of them connected.
pub fn connected(count: u64) -> Session<()> {
    let mut session = session(count);
    for node in 1..=count {
        connect(&mut session, member(node));
    }
    session
}

pub fn welcome(session: &Session<()>, member: Member, resumed: bool) -> Welcome {
    Welcome {
        resumed,
        lease_ms: LEASE_MS,
        frame_bytes_max: 10_000,
        features: 0,
        node: member.node,
        routes: session.table().routes().clone(),
    }
}

pub fn introduce(session: &mut Session<()>, member: Member) -> Introduction {
    assert!(session.begin_connecting(member));
    session.introduce(member).unwrap()
}

/// Connects a server; what it hears behind the hello.
pub fn connect(session: &mut Session<()>, member: Member) -> Vec<Heard> {
    let introduction = introduce(session, member);
    let welcome = welcome(session, member, true);
    let mut out = Vec::new();
    let connected = session.on_connected(member, &introduction, &welcome, 0, &mut out);
    let (_, failed) = connected.unwrap();
    assert!(failed.calls.is_empty());
    heard(&out)
}

/// The connection of a server breaks.
pub fn disconnect(session: &mut Session<()>, member: Member, now_ms: u64) {
    let connection = session.link(member).unwrap().connection;
    let disconnected = session.on_disconnected(member, connection, None, now_ms);
    assert!(disconnected.failed.is_none() && disconnected.reconnect);
}

/// The requests that a server hears.
pub fn heard(bytes: &[u8]) -> Vec<Heard> {
    let mut bytes = BytesMut::from(bytes);
    let mut heard = Vec::new();
    while let Some(frame) = frame::split(&mut bytes, usize::MAX).unwrap() {
        heard.push(frame::decode_request(frame).unwrap());
    }
    assert!(bytes.is_empty());
    heard
}

/// The numbers of requests, and their acknowledgements.
pub fn numbers(heard: &[Heard]) -> Vec<(u64, u64)> {
    let numbers = heard.iter().filter_map(|heard| match heard {
        Heard::Numbered {
            sequence, acked, ..
        } => Some((sequence.0, acked.0)),
        _ => None,
    });
    numbers.collect()
}

pub fn operations(heard: &[Heard]) -> Vec<Operation> {
    let operations = heard.iter().filter_map(|heard| match heard {
        Heard::Numbered { operation, .. } => Some(operation.clone()),
        _ => None,
    });
    operations.collect()
}

/// An object of a partition.
pub fn object(partition: usize, number: u8) -> ObjectId {
    let mut id = [number; 16];
    let first = (partition * (1 << 16) / PARTITIONS) as u16;
    id[..2].copy_from_slice(&first.to_be_bytes());
    ObjectId(id)
}

pub fn call_frame(object: ObjectId) -> Vec<u8> {
    let mut frame = Vec::new();
    let call = CallFrame {
        sequence: Sequence(0),
        acked: Sequence(0),
        object,
        method: MethodId::of("add"),
        timeout_ms: 0,
        args: &[],
    };
    frame::write_call(&call, &mut frame).unwrap();
    frame
}

pub fn request(target: Target, frame: Vec<u8>) -> Request<()> {
    Request {
        target,
        frame,
        is_in_band: false,
        waiter: (),
    }
}

pub struct Called {
    pub sequence: u64,
    /// The requests that its server hears at once, if it is connected.
    pub heard: Vec<Heard>,
    pub connect: bool,
}

pub fn submit(session: &mut Session<()>, target: Target, frame: Vec<u8>) -> Result<Called> {
    let place = session.table().place_for(&target);
    let submitted = session.submit(place, request(target, frame))?;
    let written = match submitted.write {
        true => &submitted.call.frame[..],
        false => &[],
    };
    Ok(Called {
        sequence: submitted.call.sequence.0,
        heard: heard(written),
        connect: submitted.connect,
    })
}

/// Calls a method.
pub fn call(session: &mut Session<()>, object: ObjectId) -> Called {
    submit(session, Target::Object(object), call_frame(object)).unwrap()
}

/// Asks a server something.
pub fn ask(session: &mut Session<()>, member: Member, operation: &Operation) -> Result<Called> {
    let mut frame = Vec::new();
    frame::write_operation(Sequence(0), Sequence(0), operation, &mut frame)?;
    submit(session, Target::Member(member), frame)
}

/// A reply comes on the connection on which the request was sent last.
pub fn reply(session: &mut Session<()>, sequence: u64) {
    let sequence = Sequence(sequence);
    let sent = session.calls.get(sequence).map(|entry| entry.sent);
    assert!(session.on_reply(sequence, sent.unwrap()).is_some());
}

/// Goes by other routes. What the servers at each place hear, and how many calls failed.
pub fn take(session: &mut Session<()>, routes: Routes, now_ms: u64) -> (Vec<Vec<Heard>>, usize) {
    let table = session.newer_table(routes, "reached:1").unwrap().unwrap();
    let rerouted = session.take_table(table, now_ms);
    let frames = rerouted.frames.iter().map(|frames| heard(frames));
    (frames.collect(), rerouted.failed.calls.len())
}
