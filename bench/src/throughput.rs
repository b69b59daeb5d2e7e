//! P3, preliminary: 1 KB values, many connections in a closed loop, one server core.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use crucial::Shared;
use crucial_client::{Client, Config};
use crucial_object::{MethodId, ObjectId, Sequence, SessionId, caller, encode};
use crucial_proto::Endpoint;
use crucial_proto::frame::{self, CallFrame, Hello};
use rustix::thread::CpuSet;
use serde_bytes::ByteBuf;

use crate::Error;
use crate::closed_loop::{ClosedLoop, Dialogue};
use crate::redis::{self, Redis};
use crate::server::Server;
use crate::value::{VALUE_BYTES, Value};

#[derive(Args)]
pub struct Options {
    /// Connections, each with one request in flight
    #[arg(long, default_value_t = 200)]
    connections: usize,
    /// Objects (Redis: keys), of 1 KB each
    #[arg(long, default_value_t = 800)]
    objects: usize,
    /// Rounds, in which the servers alternate
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds of get and of put on each server in each round
    #[arg(long, default_value_t = 1000)]
    milliseconds: u64,
}

/// The core of the measured server. The load comes from another core.
const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;

#[derive(Clone, Copy)]
enum Kind {
    Get,
    Put,
}

/// A connection to a Crucial server, without the client library.
struct CrucialDialogue {
    objects: Arc<Vec<ObjectId>>,
    kind: Kind,
    index: usize,
    /// The encoded arguments of a put.
    arguments: Arc<Vec<u8>>,
    sequence: u64,
}

impl Dialogue for CrucialDialogue {
    fn request(&mut self, turn: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        self.sequence += 1;
        let (method, args) = match self.kind {
            Kind::Get => (MethodId::of("get"), &[][..]),
            Kind::Put => (MethodId::of("put"), &self.arguments[..]),
        };
        let call = CallFrame {
            sequence: Sequence(self.sequence),
            acked: Sequence(self.sequence),
            object: self.objects[pick(self.index, turn, self.objects.len())],
            method,
            timeout_ms: 0,
            args,
        };
        Ok(frame::write_call(&call, out)?)
    }

    fn reply_length(&mut self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        let length = frame::peek_length(bytes, frame::FRAME_BYTES_MAX)?;
        let whole = length.map(|length| frame::LENGTH_BYTES + length);
        let Some(whole) = whole.filter(|whole| *whole <= bytes.len()) else {
            return Ok(None);
        };
        // The reply to a get contains the value; the reply to a put is only the frame's head.
        let is_value = whole > VALUE_BYTES;
        if self.sequence > 0 && is_value != matches!(self.kind, Kind::Get) {
            let frame = bytes[frame::LENGTH_BYTES..whole].to_vec();
            return Err(format!("unexpected: {:?}", frame::decode_response(frame.into())?).into());
        }
        Ok(Some(whole))
    }
}

/// A connection to Redis.
struct RedisDialogue {
    objects: usize,
    kind: Kind,
    index: usize,
    value: Arc<Vec<u8>>,
}

impl Dialogue for RedisDialogue {
    fn request(&mut self, turn: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        let key = key(pick(self.index, turn, self.objects));
        match self.kind {
            Kind::Get => redis::write_command(&[b"GET", key.as_bytes()], out),
            Kind::Put => redis::write_command(&[b"SET", key.as_bytes(), &self.value], out),
        }
        Ok(())
    }

    fn reply_length(&mut self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        redis::reply_length(bytes)
    }
}

fn key(index: usize) -> String {
    format!("value:{index:05}")
}

/// The object of a connection's request: all objects equally often, in a scattered order.
fn pick(index: usize, turn: u64, objects: usize) -> usize {
    let mixed = (turn + 1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add((index as u64).wrapping_mul(0xD1B5_4A32_D192_ED03));
    (mixed >> 33) as usize % objects
}

/// Connections for one kind of request to one server, with their measurements.
struct Load<D> {
    name: String,
    process: u32,
    connections: ClosedLoop<D>,
    answered: u64,
    seconds: f64,
    cpu_seconds: f64,
}

impl<D: Dialogue> Load<D> {
    fn new(name: String, process: u32, connections: ClosedLoop<D>) -> Load<D> {
        Load {
            name,
            process,
            connections,
            answered: 0,
            seconds: 0.0,
            cpu_seconds: 0.0,
        }
    }

    fn round(&mut self, time: Duration) -> Result<(), Error> {
        let before = cpu_seconds(self.process)?;
        self.answered += self.connections.run(time)?;
        self.cpu_seconds += cpu_seconds(self.process)? - before;
        self.seconds += time.as_secs_f64();
        Ok(())
    }

    /// Prints a line, and returns requests per second and CPU time per request.
    fn print(&self) -> (f64, f64) {
        let per_second = self.answered as f64 / self.seconds;
        let cpu_us = self.cpu_seconds * 1e6 / self.answered as f64;
        println!(
            "{:44} {per_second:>9.0} {cpu_us:>9.2} {:>8.0} %",
            self.name,
            100.0 * self.cpu_seconds / self.seconds
        );
        (per_second, cpu_us)
    }
}

/// The CPU time of a process so far: fields 14 and 15 of `/proc/PID/stat`.
fn cpu_seconds(process: u32) -> Result<f64, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit(')').next().ok_or("no stat")?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || -> Result<u64, Error> { Ok(fields.next().ok_or("no stat")?.parse()?) };
    let ticks = ticks()? + ticks()?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A Crucial server with its objects and the client that owns them.
struct Crucial {
    server: Server,
    client: Arc<Client>,
    objects: Arc<Vec<ObjectId>>,
    _handles: Vec<Shared<Value>>,
}

impl Crucial {
    fn start(spin_us: u32, flags: &[&str], options: &Options) -> Result<Crucial, Error> {
        let server = Server::start_with(spin_us, Some(SERVER_CORE), flags)?;
        let client = Client::connect(Config::new(server.endpoint.clone()))?;
        let handles: Vec<Shared<Value>> = caller::with(client.clone(), || {
            (0..options.objects)
                .map(|_| Shared::new(Value::new(7)))
                .collect::<crucial::Result<_>>()
        })?;
        Ok(Crucial {
            server,
            client,
            objects: Arc::new(handles.iter().map(Shared::id).collect()),
            _handles: handles,
        })
    }

    fn load(
        &self,
        name: &str,
        kind: Kind,
        options: &Options,
    ) -> Result<Load<CrucialDialogue>, Error> {
        let Endpoint::Tcp { host, port } = &self.server.endpoint else {
            return Err("the server must listen on TCP".into());
        };
        let address = SocketAddr::new(host.parse()?, *port);
        let arguments = Arc::new(encode(&(ByteBuf::from(vec![8; VALUE_BYTES]),))?);
        let dialogues = (0..options.connections).map(|index| {
            let dialogue = CrucialDialogue {
                objects: self.objects.clone(),
                kind,
                index,
                arguments: arguments.clone(),
                sequence: 0,
            };
            (dialogue, Some(self.hello(kind, index)))
        });
        let connections = ClosedLoop::connect(address, dialogues)?;
        Ok(Load::new(name.to_owned(), self.server.id(), connections))
    }

    fn hello(&self, kind: Kind, index: usize) -> Vec<u8> {
        let hello = Hello {
            session: SessionId(1 + 2 * index as u64 + kind as u64),
            run: self.client.run(),
            owner: false,
            namespace: self.client.namespace().to_owned(),
            attempt: None,
            // A client that goes by older routes is told to look again.
            routes: self.client.routes().version,
            fences: 0,
        };
        let mut bytes = Vec::new();
        frame::write_hello(&hello, &mut bytes).expect("a hello can be encoded");
        bytes
    }
}

fn redis_load(server: &Redis, kind: Kind, options: &Options) -> Result<Load<RedisDialogue>, Error> {
    let value = Arc::new(vec![8; VALUE_BYTES]);
    let dialogues = (0..options.connections).map(|index| {
        let dialogue = RedisDialogue {
            objects: options.objects,
            kind,
            index,
            value: value.clone(),
        };
        (dialogue, None)
    });
    let connections = ClosedLoop::connect(server.address(), dialogues)?;
    Ok(Load::new("Redis".to_owned(), server.id(), connections))
}

/// Measures.
pub fn run(options: &Options) -> Result<(), Error> {
    if options.connections == 0 || options.objects == 0 {
        return Err("--connections and --objects must be at least 1".into());
    }
    let cores = std::thread::available_parallelism()?.get();
    if cores <= LOAD_CORE {
        return Err("the measurement needs two cores: one for the server, one for the load".into());
    }
    let redis = Redis::start_on(Some(SERVER_CORE))?;
    let mut setup = redis.connect()?;
    for index in 0..options.objects {
        setup.request(&[b"SET", key(index).as_bytes(), &[7; VALUE_BYTES]])?;
    }
    let crucial = [
        ("Crucial, as shipped", Crucial::start(50, &[], options)?),
        (
            "Crucial, without spinning",
            Crucial::start(0, &[], options)?,
        ),
        (
            "Crucial, without spinning, at least once",
            Crucial::start(0, &["--at-least-once"], options)?,
        ),
    ];
    let mut load_cores = CpuSet::new();
    load_cores.set(LOAD_CORE);
    rustix::thread::sched_setaffinity(None, &load_cores)?;

    println!(
        "{} connections, {} objects of {VALUE_BYTES} bytes; server on core {SERVER_CORE}, load on core {LOAD_CORE} of {cores}",
        options.connections, options.objects
    );
    println!(
        "{:44} {:>9} {:>9} {:>10}",
        "", "calls/s", "CPU µs", "server CPU"
    );
    for kind in [Kind::Get, Kind::Put] {
        measure(kind, &redis, &crucial, options)?;
    }
    Ok(())
}

fn measure(
    kind: Kind,
    redis: &Redis,
    crucial: &[(&str, Crucial)],
    options: &Options,
) -> Result<(), Error> {
    let time = Duration::from_millis(options.milliseconds);
    let mut of_redis = redis_load(redis, kind, options)?;
    let mut of_crucial = crucial
        .iter()
        .map(|(name, crucial)| crucial.load(name, kind, options))
        .collect::<Result<Vec<_>, Error>>()?;
    for _ in 0..options.rounds {
        of_redis.round(time)?;
        for load in &mut of_crucial {
            load.round(time)?;
        }
    }
    println!(
        "{} 1 KB",
        match kind {
            Kind::Get => "get",
            Kind::Put => "put",
        }
    );
    let (redis_rate, redis_cpu) = of_redis.print();
    let mut costs = Vec::new();
    for load in &of_crucial {
        let (rate, cpu) = load.print();
        println!(
            "{:44} {:>8.2}× {:>8.2}×",
            "  as a multiple of Redis",
            rate / redis_rate,
            cpu / redis_cpu
        );
        costs.push(cpu);
    }
    if let [_, with, without] = costs[..] {
        println!(
            "  completion records: {:+.1} % of CPU time (P14: at most 5 %)",
            100.0 * (with / without - 1.0)
        );
    }
    Ok(())
}
