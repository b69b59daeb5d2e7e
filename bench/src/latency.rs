//! P1: a small call over loopback, one client thread, side by side with Redis.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use crucial::Shared;
use crucial::sync::AtomicI64;
use crucial_client::{Client, Config};
use crucial_object::caller;
use serde_bytes::ByteBuf;

use crate::Error;
use crate::redis::{Connection, Redis};
use crate::sample::{Sample, print_head};
use crate::server::Server;
use crate::value::{VALUE_BYTES, Value};

/// P1's goals, as multiples of a Redis GET.
const GOAL: f64 = 1.1;
const STRETCH_GOAL: f64 = 0.3;

#[derive(Args)]
pub struct Options {
    /// Calls of each kind in each round
    #[arg(long, default_value_t = 3000)]
    calls: usize,
    /// Rounds, in which Crucial and Redis alternate
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Exit with an error if a small call takes longer than this multiple of a Redis GET (p50, TCP, as shipped);
    /// 1.1 by default
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "1.1")]
    check: Option<f64>,
}

/// A connection to a server with its measurements.
struct Way {
    name: &'static str,
    client: Arc<Client>,
    counter: Shared<AtomicI64>,
    value: Shared<Value>,
    load: Sample,
    add: Sample,
    get: Sample,
    put: Sample,
}

impl Way {
    fn new(name: &'static str, server: &Server, spin_us: u64, local: bool) -> Result<Way, Error> {
        let mut config = Config::new(server.endpoint.clone());
        config.spin = Duration::from_micros(spin_us);
        config.local_socket = local;
        let client = Client::connect(config)?;
        let (counter, value) = caller::with(client.clone(), || {
            (Shared::new(AtomicI64::new(0)), Shared::new(Value::new(7)))
        });
        Ok(Way {
            name,
            client,
            counter: counter?,
            value: value?,
            load: Sample::default(),
            add: Sample::default(),
            get: Sample::default(),
            put: Sample::default(),
        })
    }

    fn round(&mut self, calls: usize, bytes: &[u8]) -> crucial::Result<()> {
        caller::with(self.client.clone(), || {
            self.load.measure(calls, || self.counter.load().map(drop))?;
            self.add
                .measure(calls, || self.counter.fetch_add(1).map(drop))?;
            self.put
                .measure(calls, || self.value.put(ByteBuf::from(bytes)))?;
            self.get.measure(calls, || self.value.get().map(drop))
        })
    }

    fn print(&self, redis: &RedisSamples) {
        println!("Crucial, {}", self.name);
        self.load.print_beside("  load (read)", &redis.get);
        self.add
            .print_beside("  fetch_add (write, with its record)", &redis.incr);
        self.get.print_beside("  get 1 KB", &redis.get_1k);
        self.put.print_beside("  put 1 KB", &redis.set_1k);
    }
}

#[derive(Default)]
struct RedisSamples {
    get: Sample,
    incr: Sample,
    get_1k: Sample,
    set_1k: Sample,
}

impl RedisSamples {
    fn round(&mut self, redis: &mut Connection, calls: usize, value: &[u8]) -> Result<(), Error> {
        self.get
            .measure(calls, || redis.request(&[b"GET", b"small"]))?;
        self.incr
            .measure(calls, || redis.request(&[b"INCR", b"small"]))?;
        self.set_1k
            .measure(calls, || redis.request(&[b"SET", b"large", value]))?;
        self.get_1k
            .measure(calls, || redis.request(&[b"GET", b"large"]))
    }

    fn print(&self) {
        println!("Redis, TCP");
        self.get.print("  GET");
        self.incr.print("  INCR");
        self.get_1k.print("  GET 1 KB");
        self.set_1k.print("  SET 1 KB");
    }
}

/// Measures. Returns whether the goal is met.
pub fn run(options: &Options) -> Result<bool, Error> {
    if options.calls == 0 || options.rounds == 0 {
        return Err("--rounds and --calls must be at least 1".into());
    }
    let redis_server = Redis::start()?;
    let mut redis = redis_server.connect()?;
    redis.request(&[b"SET", b"small", b"1"])?;
    let (shipped, sleeping) = (Server::start(50, None)?, Server::start(0, None)?);
    let mut ways = [
        Way::new("TCP, as shipped (spins where it pays)", &shipped, 50, false)?,
        Way::new("TCP, without spinning", &sleeping, 0, false)?,
        Way::new("Unix socket, as shipped", &shipped, 50, true)?,
        Way::new("Unix socket, without spinning", &sleeping, 0, true)?,
    ];
    let value = vec![7; VALUE_BYTES];
    let mut of_redis = RedisSamples::default();
    for _ in 0..options.rounds {
        of_redis.round(&mut redis, options.calls, &value)?;
        for way in &mut ways {
            way.round(options.calls, &value)?;
        }
    }

    print_head("to Redis");
    of_redis.print();
    for way in &ways {
        way.print(&of_redis);
    }
    let multiple = ways[0].load.ratio(&of_redis.get);
    println!(
        "\nA small read, TCP, as shipped: {multiple:.2} × Redis GET (p50; goal ≤ {GOAL}, stretch goal ≤ {STRETCH_GOAL})"
    );
    Ok(options.check.is_none_or(|goal| multiple <= goal))
}
