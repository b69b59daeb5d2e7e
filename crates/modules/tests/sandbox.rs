//! A module is built, compiled, called, and misused, through the public API.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use crucial_modules::{Engine, Limits, Module, Refused};
use crucial_node::cell::{Call, CallId, Cell, Recording, Turn};
use crucial_object::{
    Access, EncodingVersion, Error, Instance, Invocation, Method, MethodId, Result, Sequence,
    SessionId, Ticket, TypeInfo, decode, encode,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The guest module, built once for all tests.
static GUEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    // Does nothing where it is installed, and where rustup is not there cargo says what is missing.
    let _ = Command::new("rustup")
        .args(["--quiet", "target", "add", "wasm32-unknown-unknown"])
        .status();
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--quiet",
            "--target",
            "wasm32-unknown-unknown",
        ])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", "-C link-arg=--export=__stack_pointer")
        .status()
        .expect("cargo runs");
    assert!(status.success());
    let module = target.join("wasm32-unknown-unknown/release/guest.wasm");
    std::fs::read(module).expect("cargo has built the module")
});

fn engine(limits: Limits) -> Engine {
    Engine::new(limits, None).unwrap()
}

fn module(limits: Limits) -> Arc<Module> {
    engine(limits).compile(&GUEST).unwrap()
}

/// An object whose methods are called by name.
struct Object {
    name: &'static str,
    module: Arc<Module>,
    instance: Box<dyn Instance>,
}

const NAME: &str = "guest::Account";

impl Object {
    fn new(limits: Limits) -> Object {
        let module = module(limits);
        // The fields are cents, holder, heap.
        let state = encode(&(5i64, None::<u64>, Vec::<u64>::new())).unwrap();
        let instance = module.restore(NAME, &state, EncodingVersion::Same).unwrap();
        Object {
            name: NAME,
            module,
            instance,
        }
    }

    fn index(&self, method: &str) -> usize {
        let mut types = self.module.types().iter();
        let info = types.find(|info| info.name == self.name).unwrap();
        info.methods.iter().position(|m| m.name == method).unwrap()
    }

    fn poll<R: DeserializeOwned>(
        &mut self,
        method: &str,
        args: &impl Serialize,
        ticket: &mut Ticket,
    ) -> Result<Option<R>> {
        let mut out = Vec::new();
        let polled = self.instance.dispatch(Invocation {
            index: self.index(method),
            args: &encode(args)?,
            caller: SessionId(7),
            again: ticket.is_some(),
            ticket,
            out: &mut out,
        })?;
        match polled {
            Poll::Ready(()) => decode(&out).map(Some),
            Poll::Pending => Ok(None),
        }
    }

    fn call<R: DeserializeOwned>(&mut self, method: &str, args: &impl Serialize) -> Result<R> {
        let result = self.poll(method, args, &mut None)?;
        Ok(result.expect("the method does not wait"))
    }
}

#[test]
fn a_module_describes_its_types() {
    let module = module(Limits::default());
    let account = module
        .types()
        .iter()
        .find(|info| info.name == NAME)
        .unwrap();
    assert!(account.tracks_sessions);
    let deposit = &account.methods[0];
    assert!(deposit.name == "deposit" && deposit.writes && !deposit.waits);
    assert!(account.methods[2].waits);
    assert!(
        module
            .types()
            .iter()
            .any(|info| info.name == "crucial::Map")
    );
}

#[test]
fn methods_tickets_and_errors_work_as_in_native_objects() {
    let mut account = Object::new(Limits::default());
    assert_eq!(account.call::<i64>("deposit", &(10i64,)), Ok(15));
    assert_eq!(account.call::<i64>("cents", &()), Ok(15));
    assert_eq!(
        account.call::<i64>("take", &(20i64,)),
        Err(Error::from("insufficient funds"))
    );
    let mut ticket = None;
    assert_eq!(
        account.poll::<i64>("withdraw", &(20i64,), &mut ticket),
        Ok(None)
    );
    assert_eq!(ticket, Some(encode(&15i64).unwrap()));
    account.call::<i64>("deposit", &(10i64,)).unwrap();
    assert_eq!(
        account.poll("withdraw", &(20i64,), &mut ticket),
        Ok(Some(15i64))
    );
    assert!(matches!(
        account.call::<i64>("deposit", &("a word",)),
        Err(Error::BadArguments { .. })
    ));
    account.call::<()>("hold", &()).unwrap();
    account.instance.on_session_end(SessionId(8));
    assert_eq!(account.call::<bool>("is_held", &()), Ok(true));
    account.instance.on_session_end(SessionId(7));
    assert_eq!(account.call::<bool>("is_held", &()), Ok(false));

    let mut state = Vec::new();
    account.instance.save(&mut state).unwrap();
    let mut copy = account
        .module
        .restore(NAME, &state, EncodingVersion::Same)
        .unwrap();
    let mut again = Vec::new();
    copy.save(&mut again).unwrap();
    assert_eq!(state, again);
    assert!(matches!(
        account
            .module
            .restore(NAME, &[0xff; 30], EncodingVersion::Same)
            .err(),
        Some(Error::BadArguments { .. })
    ));
    assert!(matches!(
        account
            .module
            .restore("guest::Other", &[], EncodingVersion::Same)
            .err(),
        Some(Error::UnknownType { .. })
    ));
}

fn panic_of(error: Error) -> (String, String) {
    match error {
        Error::Panicked {
            message, location, ..
        } => (message, location),
        other => panic!("{other}"),
    }
}

#[test]
fn a_panic_has_message_and_location_and_keeps_the_state() {
    let mut account = Object::new(Limits::default());
    let (message, location) = panic_of(account.call::<()>("explode", &(9i64,)).unwrap_err());
    assert_eq!(message, "exploded at 9");
    assert!(location.contains("lib.rs:"), "{location}");
    let mut state = Vec::new();
    account.instance.save(&mut state).unwrap();
    assert_eq!(state[0], 18);
}

#[test]
fn methods_over_their_limits_are_stopped() {
    let mut account = Object::new(Limits {
        method_time_max: Duration::from_millis(100),
        instance_bytes_max: 32 << 20,
        ..Limits::default()
    });
    let start = Instant::now();
    let (message, _) = panic_of(account.call::<()>("loop_for_ever", &()).unwrap_err());
    assert!(message.contains("method_time_max"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let (message, _) = panic_of(account.call::<u64>("recurse", &(0u64,)).unwrap_err());
    assert!(message.contains("stack"), "{message}");
    let (message, _) = panic_of(account.call::<()>("allocate_for_ever", &()).unwrap_err());
    assert!(message.contains("instance_bytes_max"), "{message}");
    // The object keeps its state and can be called again, after any number of traps.
    assert_eq!(account.call::<i64>("cents", &()), Ok(5));
    let mut account = Object::new(Limits::default());
    for cents in 0..3000 {
        panic_of(account.call::<()>("explode", &(cents,)).unwrap_err());
        assert_eq!(account.call::<i64>("cents", &()), Ok(cents));
    }
    // Other objects are not affected.
    let mut other = Object::new(Limits::default());
    assert_eq!(other.call::<i64>("deposit", &(1i64,)), Ok(6));
}

#[test]
fn invalid_modules_are_refused_with_the_reason() {
    let engine = engine(Limits {
        module_bytes_max: 4 << 20,
        ..Limits::default()
    });
    let refused = |bytes: &[u8]| engine.compile(bytes).err().unwrap();
    assert!(matches!(refused(b""), Refused::NotWasm));
    assert!(matches!(refused(b"(module)"), Refused::NotWasm));
    assert!(matches!(refused(b"\0asm garbage"), Refused::Invalid(_)));
    assert!(matches!(
        refused(&GUEST[..GUEST.len() / 2]),
        Refused::Invalid(_)
    ));
    assert!(matches!(
        refused(&vec![0; 5 << 20]),
        Refused::TooLarge { .. }
    ));
    // An empty module, and one that imports a clock: (import "env" "now" (func)).
    let empty = b"\0asm\x01\0\0\0";
    assert!(matches!(
        refused(empty),
        Refused::Export {
            name: "crucial_abi"
        }
    ));
    let clock = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x0b\x01\x03env\x03now\0\0";
    match refused(clock) {
        Refused::Import { module, name } => {
            assert_eq!((module.as_str(), name.as_str()), ("env", "now"))
        }
        other => panic!("{other}"),
    }
}

const UNLIMITED: usize = usize::MAX;

/// An object in a cell, as on a server, and other objects that use up the limit: they cannot be saved, so they stay
/// in memory.
struct Crowded {
    cell: Cell,
    others: Vec<Box<dyn Instance>>,
    module: Arc<Module>,
    sequence: u64,
}

impl Crowded {
    fn new(instances_max: usize, instances_bytes_max: usize) -> Crowded {
        let module = module(Limits {
            instances_max,
            instances_bytes_max,
            method_time_max: Duration::from_millis(50),
            ..Limits::default()
        });
        let of_type = module.clone();
        let methods = module.types().iter().find(|info| info.name == NAME);
        let methods = methods.unwrap().methods.iter().map(|method| {
            let access = match method.writes {
                true => Access::Write,
                false => Access::Read,
            };
            Method::new(method.name.clone().leak(), access, method.waits)
        });
        let info = Box::leak(Box::new(TypeInfo::uploaded(
            NAME,
            methods.collect::<Vec<_>>().leak(),
            true,
            module.id().0,
            Box::new(move |state, version| of_type.restore(NAME, state, version)),
        )));
        let state = encode(&(5i64, None::<u64>, Vec::<u64>::new())).unwrap();
        Crowded {
            cell: Cell::new(info, &state).unwrap(),
            others: Vec::new(),
            module,
            sequence: 0,
        }
    }

    /// Makes objects until the limit refuses one more, and returns that error.
    fn use_up_limit(&mut self) -> Error {
        let cents = encode(&0i64).unwrap();
        loop {
            match self
                .module
                .restore("guest::Stuck", &cents, EncodingVersion::Same)
            {
                Ok(other) => self.others.push(other),
                Err(error) => break error,
            }
        }
    }

    /// Makes a call, and returns the results of all calls that it completes.
    fn call(&mut self, session: u64, method: &str, args: &impl Serialize) -> Results {
        self.sequence += 1;
        let id = CallId {
            session: SessionId(session),
            sequence: Sequence(self.sequence),
        };
        let args = encode(args).unwrap();
        let call = Call {
            id,
            acked: Sequence(0),
            recording: Recording::Changes,
            method: MethodId::of(method),
            args: &args,
            attempt: None,
        };
        self.turn(|cell, turn| {
            cell.call(&call, turn);
        })
    }

    fn turn(&mut self, f: impl FnOnce(&mut Cell, &mut Turn<'_>)) -> Results {
        let (mut replies, mut out) = (Results::new(), Vec::new());
        f(&mut self.cell, &mut Turn::new(&mut replies, &mut out));
        replies
    }
}

type Results = Vec<(CallId, Result<Vec<u8>>)>;

#[test]
fn mandatory_work_is_done_beyond_the_limit() {
    let mut crowded = Crowded::new(1, UNLIMITED);
    // Two calls wait, and a session holds the account.
    assert_eq!(crowded.call(1, "withdraw", &(20i64,)), []);
    assert_eq!(crowded.call(2, "withdraw", &(30i64,)), []);
    let cancelled = CallId {
        session: SessionId(2),
        sequence: Sequence(2),
    };
    crowded.call(3, "hold", &());
    let refused = crowded.use_up_limit();
    let is_full = |error: &Error| match error {
        Error::LimitExceeded { limit, max: 1, .. } => limit == "instances_max",
        _ => false,
    };
    assert!(is_full(&refused), "{refused}");
    let instances = crowded.module.hot();
    assert_eq!(instances, crowded.others.len(), "the object is cold");
    // A new call is refused before it has any effect.
    let results = crowded.call(4, "deposit", &(100i64,));
    assert!(
        matches!(&results[..], [(_, Err(error))] if is_full(error)),
        "{results:?}"
    );
    // A session ends and a waiting call is cancelled. After each of these, the waiting calls are polled.
    assert_eq!(
        crowded.turn(|cell, turn| cell.end_session(SessionId(3), turn)),
        []
    );
    let results = crowded.turn(|cell, turn| {
        cell.cancel(cancelled, &Error::Cancelled, turn);
    });
    assert_eq!(results, [(cancelled, Err(Error::Cancelled))]);
    assert_eq!(crowded.cell.parked_len(), 1);
    assert_eq!(crowded.module.hot(), instances, "the object is cold again");
    // With memory available again, the object is not poisoned, and the mandatory work was done.
    crowded.others.clear();
    let results = crowded.call(5, "is_held", &());
    assert_eq!(results[0].1, encode(&false));
    let results = crowded.call(5, "deposit", &(20i64,));
    let results: Vec<_> = results.into_iter().map(|(_, result)| result).collect();
    assert_eq!(results, [encode(&25i64), encode(&5i64)]);
    assert_eq!(crowded.cell.parked_len(), 0);
}

#[test]
fn the_exceeded_limit_is_named() {
    let mut crowded = Crowded::new(UNLIMITED, 2 << 20);
    match crowded.use_up_limit() {
        Error::LimitExceeded { limit, max, .. } => {
            assert_eq!((limit.as_str(), max), ("instances_bytes_max", 2 << 20));
        }
        other => panic!("{other}"),
    }
    let results = crowded.call(1, "cents", &());
    assert!(
        matches!(&results[..], [(_, Err(Error::LimitExceeded { limit, .. }))] if limit == "instances_bytes_max"),
        "{results:?}"
    );
}

/// Makes the same calls on an object that stays hot and on an object that is cooled after every call. Returns the
/// result and the state after each call.
fn hot_and_cooled(name: &'static str) -> [Vec<(Vec<u64>, Vec<u8>)>; 2] {
    let module = module(Limits::default());
    [false, true].map(|is_cooled| {
        let make = |state: &[u8]| module.restore(name, state, EncodingVersion::Same).unwrap();
        let mut object = Object {
            name,
            module: module.clone(),
            // The encoding of an empty map.
            instance: make(&[0]),
        };
        let calls = (0..300u64).map(|call| {
            let key = call * 7919 % 101;
            let mut results = vec![object.call("count", &(key,)).unwrap()];
            if call % 3 == 0 {
                let removed: Option<u64> = object.call("remove", &(key / 2,)).unwrap();
                results.extend(removed);
            }
            results.extend(object.call::<Vec<u64>>("keys", &()).unwrap());
            let mut state = Vec::new();
            object.instance.save(&mut state).unwrap();
            if is_cooled {
                object.instance = make(&state);
            }
            (results, state)
        });
        calls.collect()
    })
}

#[test]
fn an_ordered_object_does_not_depend_on_when_it_was_cooled() {
    let [hot, cooled] = hot_and_cooled("guest::Ordered");
    assert_eq!(hot, cooled);
}

/// docs/modules.md warns of this behaviour: if the test fails, the warning is no longer needed.
#[test]
fn an_object_with_a_hash_map_depends_on_when_it_was_cooled() {
    let [hot, cooled] = hot_and_cooled("guest::Hashed");
    let sorted = |calls: &[(Vec<u64>, Vec<u8>)]| -> Vec<Vec<u64>> {
        let results = calls.iter().map(|(results, _)| {
            let mut results = results.clone();
            results.sort_unstable();
            results
        });
        results.collect()
    };
    assert_eq!(sorted(&hot), sorted(&cooled));
    assert_ne!(hot, cooled);
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages = status.split(' ').nth(1).unwrap();
    pages.parse::<usize>().unwrap() * 4096
}

#[test]
fn a_hundred_thousand_objects_take_less_than_two_gigabytes() {
    const OBJECTS: usize = 100_000;
    let engine = engine(Limits::default());
    let module = engine.compile(&GUEST).unwrap();
    let start = Instant::now();
    let mut objects: Vec<_> = (0..OBJECTS)
        .map(|cents| {
            let state = encode(&(cents as i64, None::<u64>, Vec::<u64>::new())).unwrap();
            let instance = module.restore(NAME, &state, EncodingVersion::Same).unwrap();
            Object {
                name: NAME,
                module: module.clone(),
                instance,
            }
        })
        .collect();
    let made = start.elapsed();
    // Far more objects than may be hot, in an order in which each call finds its object cold.
    let start = Instant::now();
    let mut calls = 0;
    for place in (0..OBJECTS).map(|i| i * 7919 % OBJECTS).take(20_000) {
        assert_eq!(
            objects[place].call::<i64>("deposit", &(1i64,)),
            Ok(place as i64 + 1)
        );
        calls += 1;
    }
    let called = start.elapsed();
    println!(
        "{OBJECTS} made in {made:?}, {calls} heated and called in {called:?}, {} hot, {} MB",
        engine.instances(),
        resident() >> 20
    );
    assert!(resident() < 2 << 30);
    assert!(engine.instances() <= 2 * Limits::default().instances_max + 1);
    assert_eq!(objects[1].call::<i64>("cents", &()), Ok(2));
}

#[test]
fn an_object_that_cannot_be_saved_stays_hot_and_others_are_cooled() {
    let engine = engine(Limits {
        instances_max: 4,
        method_time_max: Duration::from_millis(50),
        ..Limits::default()
    });
    let module = engine.compile(&GUEST).unwrap();
    let make = |type_name: &'static str, state: Vec<u8>| Object {
        name: type_name,
        module: module.clone(),
        instance: module
            .restore(type_name, &state, EncodingVersion::Same)
            .unwrap(),
    };
    let account = |cents: i64| encode(&(cents, None::<u64>, Vec::<u64>::new())).unwrap();
    let mut others: Vec<_> = (0..20).map(|cents| make(NAME, account(cents))).collect();
    let mut stuck: Vec<_> = (0..3i64)
        .map(|cents| make("guest::Stuck", encode(&cents).unwrap()))
        .collect();
    for round in 1..=20 {
        for (cents, other) in others.iter_mut().enumerate() {
            let start = Instant::now();
            assert_eq!(
                other.call::<i64>("deposit", &(1i64,)),
                Ok(cents as i64 + round)
            );
            // No call waits for the objects that cannot be saved.
            assert!(start.elapsed() < Duration::from_secs(1));
        }
    }
    for stuck in &mut stuck {
        let mut out = Vec::new();
        assert!(stuck.instance.save(&mut out).is_err());
    }
}

#[test]
fn compiled_modules_are_cached_where_no_other_user_can_write() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("module-cache");
    let _ = std::fs::remove_dir_all(&directory);
    let compile = || {
        let start = Instant::now();
        let engine = Engine::new(Limits::default(), Some(&directory)).unwrap();
        let module = engine.compile(&GUEST).unwrap();
        let state = encode(&(5i64, None::<u64>, Vec::<u64>::new())).unwrap();
        let instance = module.restore(NAME, &state, EncodingVersion::Same).unwrap();
        let mut object = Object {
            name: NAME,
            module,
            instance,
        };
        assert_eq!(object.call::<i64>("deposit", &(1i64,)), Ok(6));
        start.elapsed()
    };
    let (first, second) = (compile(), compile());
    println!("compiled in {first:?}, read in {second:?}");
    let files = || -> Vec<_> {
        let entries = std::fs::read_dir(&directory).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let [file] = &files()[..] else {
        panic!("{:?}", files());
    };
    let modified = || std::fs::metadata(file).unwrap().modified().unwrap();
    let before = modified();
    // A damaged or truncated file: the module is compiled and written again.
    let whole = std::fs::read(file).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    for wrong in [&changed, &whole[..whole.len() / 2], b""] {
        std::fs::write(file, wrong).unwrap();
        compile();
        assert_eq!(std::fs::read(file).unwrap().len(), whole.len());
    }
    assert!(modified() > before);
    // A directory to which other users can write is not read: the forged file would be loaded otherwise.
    std::fs::write(file, b"forged").unwrap();
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).unwrap();
    compile();
}

#[test]
fn random_arguments_are_errors_or_calls() {
    let mut account = Object::new(Limits {
        method_time_max: Duration::from_millis(20),
        ..Limits::default()
    });
    let methods = ["deposit", "cents", "withdraw", "take", "hold", "is_held"];
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut calls, mut errors) = (0, 0);
    for round in 0..20_000 {
        let length = random.random_range(0..12);
        let args: Vec<u8> = (&mut random).random_iter().take(length).collect();
        let mut ticket = random.random::<bool>().then(|| args.clone());
        let outcome = account.instance.dispatch(Invocation {
            index: account.index(methods[round % methods.len()]),
            args: &args,
            caller: SessionId(random.random()),
            again: random.random(),
            ticket: &mut ticket,
            out: &mut Vec::new(),
        });
        match outcome {
            Ok(_) => calls += 1,
            Err(
                Error::BadArguments { .. }
                | Error::Encoding { .. }
                | Error::Other(_)
                | Error::Panicked { .. },
            ) => errors += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(calls > 1000 && errors > 1000, "{calls} {errors}");
    account.instance.save(&mut Vec::new()).unwrap();
}
