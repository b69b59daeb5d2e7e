//! The same calls give the same bytes on every server, whether an object is hot all the time or heated for its call.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crucial_client::{Client, Config};
use crucial_modules::{Limits, Source};
use crucial_object::caller::{Call, CallNames, Caller, Lifetime, Mode, Open};
use crucial_object::{Error, MethodId, ObjectId, encode};
use crucial_server::{Parts, Server};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CALLS: usize = 100_000;
const OBJECTS: usize = 24;
/// What the second server holds in memory of them.
const INSTANCES: usize = 16;
/// Calls on their way at the same time.
const WINDOW: usize = 200;

fn module() -> Vec<u8> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/tests/guest/Cargo.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_crucial"))
        .args(["build", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("determinism"))
        .output()
        .unwrap();
    assert!(output.status.success());
    std::fs::read(String::from_utf8_lossy(&output.stdout).trim()).unwrap()
}

/// A server that keeps at most `instances_max` objects as instances, with the objects.
struct Subject {
    server: Server,
    client: Arc<Client>,
    objects: Vec<ObjectId>,
}

impl Subject {
    fn new(module: &[u8], instances_max: usize) -> Subject {
        let config = crucial_server::Config {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ..crucial_server::Config::default()
        };
        let limits = Limits {
            instances_max,
            ..Limits::default()
        };
        let parts = Parts {
            types: Arc::new(Source::new(limits, None)),
            ..Parts::default()
        };
        let server = Server::start_with(config, parts).unwrap();
        let client = Client::connect(Config::new(server.endpoints()[0].clone())).unwrap();
        client.push_module(module.to_vec(), false).unwrap();
        let account = encode(&(0i64, None::<u64>, Vec::<u64>::new())).unwrap();
        let vector = encode(&vec![0.5f64; 30]).unwrap();
        let objects = (0..OBJECTS).map(|index| {
            let (type_name, state) = match index % 2 {
                0 => ("guest::Account", &account),
                _ => ("guest::Vector", &vector),
            };
            let opened = client.open(&Open {
                type_name,
                key: None,
                lifetime: Lifetime::Run,
                mode: Mode::FindOrCreate,
                replicas: 1,
                state,
            });
            opened.unwrap().object
        });
        Subject {
            objects: objects.collect(),
            server,
            client,
        }
    }

    /// What all calls gave, in their order.
    fn run(&self, calls: &[(usize, &'static str, Vec<u8>)]) -> Vec<Result<Vec<u8>, Error>> {
        let start = |(object, method, args): &(usize, &'static str, Vec<u8>)| {
            let call = Call {
                object: self.objects[*object],
                method: MethodId::of(method),
                names: CallNames {
                    type_name: "guest",
                    method,
                },
                timeout: None,
                args,
            };
            self.client.start(&call).unwrap()
        };
        let mut results = Vec::new();
        for some in calls.chunks(WINDOW) {
            let started: Vec<_> = some.iter().map(start).collect();
            results.extend(started.into_iter().map(|mut call| call.wait()));
        }
        results
    }

    /// How many objects are in memory as instances, and how often one was heated.
    fn heat(&self) -> (u64, u64) {
        let modules = self.client.modules().unwrap();
        (modules[0].hot, modules[0].heated)
    }

    fn states(&self) -> Vec<Vec<u8>> {
        let state = |id: &ObjectId| self.server.state(*id).unwrap().unwrap();
        self.objects.iter().map(state).collect()
    }
}

/// Calls of all kinds, with numbers that are no numbers among them.
fn calls() -> Vec<(usize, &'static str, Vec<u8>)> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let strange = [
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        f64::from_bits(0x7ff0_0000_0000_0001),
        1e308,
        5e-324,
    ];
    let calls = (0..CALLS).map(|_| {
        let object = random.random_range(0..OBJECTS);
        let (method, args) = match (object % 2, random.random_range(0..4)) {
            (0, 0) => ("take", encode(&(random.random_range(0..1000i64),))),
            (0, 1) => {
                let factor = strange[random.random_range(0..strange.len())];
                ("product", encode(&(factor, random.random_range(0..5u64))))
            }
            (0, _) => ("deposit", encode(&(random.random_range(0..100i64),))),
            (_, 0) => ("sum", encode(&())),
            _ => {
                // Rarely, as it stays.
                let value = |random: &mut ChaCha8Rng| match random.random_range(0..3000) {
                    0 => strange[random.random_range(0..strange.len())],
                    _ => random.random_range(-140.0..140.0),
                };
                let values: Vec<f64> = (0..30).map(|_| value(&mut random)).collect();
                ("add", encode(&(values,)))
            }
        };
        (object, method, args.unwrap())
    });
    calls.collect()
}

#[test]
fn two_servers_have_the_same_bytes_after_a_hundred_thousand_calls() {
    let module = module();
    let (hot, cold) = (
        Subject::new(&module, 1000),
        Subject::new(&module, INSTANCES),
    );
    let calls = calls();
    // Results first: what a caller sees.
    let (ours, theirs) = (hot.run(&calls), cold.run(&calls));
    let errors = ours.iter().filter(|result| result.is_err()).count();
    assert!(errors > 100 && errors < CALLS / 2, "{errors}");
    for ((one, other), call) in ours.iter().zip(&theirs).zip(&calls) {
        assert_eq!(one, other, "{call:?}");
    }
    assert_eq!(hot.states(), cold.states());
    // The one has had all objects in memory all the time, the other has cooled each many times.
    assert_eq!(hot.heat(), (OBJECTS as u64, 0));
    let (instances, heated) = cold.heat();
    assert!(instances <= 2 * INSTANCES as u64, "{instances}");
    assert!(heated > 100 * OBJECTS as u64, "{heated}");
}
