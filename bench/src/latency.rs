//! P1: a small call over loopback, one client thread, side by side with Redis.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use crucial::Shared;
use crucial::collections::Map;
use crucial::sync::AtomicI64;
use crucial_client::{Client, Config};
use crucial_core::Endpoint;
use crucial_object::caller;

use crate::Error;
use crate::redis::{Connection, Redis};
use crate::sample::{Sample, print_head};

#[derive(Args)]
pub struct Options {
    /// Calls of each kind in each round
    #[arg(long, default_value_t = 3000)]
    calls: usize,
    /// Rounds, in which Crucial and Redis take turns
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Fails if a small call takes longer than this, as a share of a Redis GET (p50, TCP, as shipped)
    #[arg(long)]
    check: Option<f64>,
}

/// A server process of this executable.
struct Server {
    process: Child,
    endpoint: Endpoint,
}

impl Server {
    fn start(spin_us: u32) -> Result<Server, Error> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([
                "crucial",
                "server",
                "--listen",
                "127.0.0.1:0",
                "--threads",
                "1",
            ])
            .args(["--spin-us", &spin_us.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default();
        Ok(Server {
            endpoint: address.parse()?,
            process,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A way to a server, and what was measured on it.
struct Way {
    name: &'static str,
    client: Arc<Client>,
    counter: Shared<AtomicI64>,
    map: Shared<Map<u32, Vec<u8>>>,
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
        let (counter, map) = caller::with(client.clone(), || {
            (Shared::new(AtomicI64::new(0)), Shared::new(Map::new()))
        });
        Ok(Way {
            name,
            client,
            counter: counter?,
            map: map?,
            load: Sample::default(),
            add: Sample::default(),
            get: Sample::default(),
            put: Sample::default(),
        })
    }

    fn round(&mut self, calls: usize, value: &[u8]) -> crucial::Result<()> {
        caller::with(self.client.clone(), || {
            self.load.measure(calls, || self.counter.load().map(drop))?;
            self.add
                .measure(calls, || self.counter.fetch_add(1).map(drop))?;
            self.put
                .measure(calls, || self.map.insert(1, value.to_vec()).map(drop))?;
            self.get.measure(calls, || self.map.get(&1).map(drop))
        })
    }

    fn print(&mut self) {
        println!("Crucial, {}", self.name);
        self.load.print("  load (read)");
        self.add.print("  fetch_add (write, with its record)");
        self.get.print("  get 1 KB");
        self.put.print("  insert 1 KB");
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

    fn print(&mut self) {
        println!("Redis, TCP");
        self.get.print("  GET");
        self.incr.print("  INCR");
        self.get_1k.print("  GET 1 KB");
        self.set_1k.print("  SET 1 KB");
    }
}

/// Measures, and tells whether the goal is met.
pub fn run(options: &Options) -> Result<bool, Error> {
    let redis_server = Redis::start()?;
    let mut redis = redis_server.connect()?;
    redis.request(&[b"SET", b"small", b"1"])?;
    let (shipped, sleeping) = (Server::start(50)?, Server::start(0)?);
    let mut ways = [
        Way::new("TCP, as shipped (spins where it pays)", &shipped, 50, false)?,
        Way::new("TCP, without spinning", &sleeping, 0, false)?,
        Way::new("Unix socket, as shipped", &shipped, 50, true)?,
        Way::new("Unix socket, without spinning", &sleeping, 0, true)?,
    ];
    let value = vec![7; 1024];
    let mut of_redis = RedisSamples::default();
    for _ in 0..options.rounds {
        of_redis.round(&mut redis, options.calls, &value)?;
        for way in &mut ways {
            way.round(options.calls, &value)?;
        }
    }

    print_head();
    of_redis.print();
    for way in &mut ways {
        way.print();
    }
    let get = of_redis.get.percentile_us(50);
    println!("p50 of a small read, as a share of a Redis GET:");
    for way in &mut ways {
        println!(
            "  {:42} {:>9.2}",
            way.name,
            way.load.percentile_us(50) / get
        );
    }
    let ratio = ways[0].load.percentile_us(50) / get;
    Ok(options.check.is_none_or(|goal| ratio <= goal))
}
