//! Three servers in one process, and a client by hand: what they say on the wire.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_control::{Voter, VoterConfig};
use crucial_object::{MethodId, ObjectId, RunId, Sequence, SessionId, decode, encode};
use crucial_proto::frame::{
    self, CallFrame, Hello, OpenMode, OpenRequest, Operation, Response, Routes,
};
use crucial_server::{Config, Parts, Server};

const PATIENCE: Duration = Duration::from_secs(30);

fn server(directory: &std::path::Path, join: &[String]) -> Server {
    let mut config = VoterConfig::new(directory.to_owned());
    config.join = join.to_vec();
    let parts = Parts {
        control: Some(Arc::new(Voter::open(config).unwrap())),
        ..Parts::default()
    };
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        threads: 1,
        spin: Duration::ZERO,
        ..Config::default()
    };
    Server::start_with(config, parts).unwrap()
}

fn address(server: &Server) -> String {
    server.endpoints()[0].to_string()
}

/// A connection to one server.
struct Raw {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Raw {
    fn connect(address: &str, session: u64, routes: u64) -> (Raw, Routes) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let hello = Hello {
            session: SessionId(session),
            run: RunId([7; 16]),
            owner: true,
            namespace: "default".to_owned(),
            attempt: None,
            routes,
            fences: 0,
        };
        let mut bytes = Vec::new();
        frame::write_hello(&hello, &mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut raw = Raw {
            stream,
            buffer: BytesMut::new(),
        };
        match raw.read() {
            Response::Welcome(welcome) => (raw, welcome.routes),
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self) -> Response {
        let mut scratch = [0; 65536];
        loop {
            if let Some(frame) = frame::split(&mut self.buffer, 1 << 30).unwrap() {
                return frame::decode_response(frame).unwrap();
            }
            let count = self.stream.read(&mut scratch).unwrap();
            assert!(count > 0, "the server closed the connection");
            self.buffer.extend_from_slice(&scratch[..count]);
        }
    }

    fn ask(&mut self, bytes: &[u8]) -> Response {
        self.stream.write_all(bytes).unwrap();
        loop {
            match self.read() {
                Response::Routes(_) => {}
                other => return other,
            }
        }
    }
}

/// A client that makes a new connection for each request, to whoever is the primary.
struct Client {
    seeds: Vec<String>,
    session: u64,
    sequence: u64,
}

impl Client {
    fn routes(&self) -> Routes {
        let routes = self
            .seeds
            .iter()
            .filter(|seed| TcpStream::connect(seed).is_ok());
        routes
            .map(|seed| Raw::connect(seed, self.session, 0).1)
            .max_by_key(|routes| routes.version)
            .expect("a server")
    }

    fn request(&mut self, object: ObjectId, write: impl Fn(Sequence, &mut Vec<u8>)) -> Vec<u8> {
        self.sequence += 1;
        let started = Instant::now();
        loop {
            let routes = self.routes();
            let primary = routes
                .primary(routes.partition(&object))
                .map(|server| server.address.clone());
            if let Some(primary) = primary
                && TcpStream::connect(&primary).is_ok()
            {
                let (mut raw, _) = Raw::connect(&primary, self.session, routes.version);
                let mut bytes = Vec::new();
                write(Sequence(self.sequence), &mut bytes);
                match raw.ask(&bytes) {
                    Response::Reply { result, .. } => return result.unwrap().to_vec(),
                    Response::Moved { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            assert!(started.elapsed() < PATIENCE, "no answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn open(&mut self, key: &str, replicas: u8) -> ObjectId {
        let open = OpenRequest {
            type_name: "crucial::AtomicI64".to_owned(),
            key: key.to_owned(),
            persistent: true,
            mode: OpenMode::FindOrCreate,
            replicas,
            state: encode(&0i64).unwrap(),
        };
        let object = open.object(&RunId([7; 16]), "default");
        let operation = Operation::Open(open);
        self.request(object, |sequence, out| {
            frame::write_operation(sequence, sequence, &operation, out).unwrap();
        });
        object
    }

    fn add(&mut self, object: ObjectId, more: i64) -> i64 {
        let args = encode(&(more,)).unwrap();
        let result = self.request(object, |sequence, out| {
            let call = CallFrame {
                sequence,
                acked: sequence,
                object,
                method: MethodId::of("fetch_add"),
                timeout_ms: 0,
                args: &args,
            };
            frame::write_call(&call, out).unwrap();
        });
        decode(&result).unwrap()
    }
}

#[test]
fn three_servers_hold_objects_together_and_one_may_die() {
    let directory = tempfile::tempdir().unwrap();
    let first = server(&directory.path().join("1"), &[]);
    let seeds = vec![address(&first)];
    let second = server(&directory.path().join("2"), &seeds);
    let third = server(&directory.path().join("3"), &seeds);
    let seeds = vec![address(&first), address(&second), address(&third)];
    let mut client = Client {
        seeds: seeds.clone(),
        session: 5,
        sequence: 0,
    };
    let spread = |routes: &Routes| {
        (0..3).all(|place| routes.primaries.iter().filter(|at| **at == place).count() > 250)
    };
    let started = Instant::now();
    while !spread(&client.routes()) {
        assert!(
            started.elapsed() < PATIENCE,
            "the partitions are not spread"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("spread after {:?}", started.elapsed());
    let objects: Vec<_> = (0..12)
        .map(|index| client.open(&format!("o{index}"), 2))
        .collect();
    for (index, object) in objects.iter().enumerate() {
        assert_eq!(client.add(*object, index as i64 + 1), 0);
    }
    for (index, object) in objects.iter().enumerate() {
        assert_eq!(client.add(*object, 100), index as i64 + 1);
    }
    // Its process does not die, but nobody hears of it any more.
    let dead = seeds[2].clone();
    third.stop();
    client.seeds.retain(|seed| *seed != dead);
    let started = Instant::now();
    for (index, object) in objects.iter().enumerate() {
        assert_eq!(client.add(*object, 1000), index as i64 + 101);
    }
    println!("after the death: {:?}", started.elapsed());
    let again = server(&directory.path().join("3"), &seeds[..1]);
    client.seeds.push(address(&again));
    for (index, object) in objects.iter().enumerate() {
        assert_eq!(client.add(*object, 1), index as i64 + 1101);
    }
    assert!(again.leave(PATIENCE));
}
