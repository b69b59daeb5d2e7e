//! Uploaded modules, pushed, replaced and removed all the while, and objects of their types.
//!
//! The module has the types of the conformance list. This executable is the servers as well, and must not have them
//! natively, so its calls name type and methods.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crucial::{ObjectId, encode};
use crucial_client::Client;
use crucial_object::caller::{self, Call, CallNames, Lifetime, Mode, Open};
use crucial_object::{MethodId, decode};
use crucial_testing::{Error, Executable, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::worker::{Context, Outcome, Seen, Workers};

/// The uploaded type of the objects, and its fields: bytes and a number.
const TYPE: &str = "conformance::Probe";

/// The objects of uploaded types.
const OBJECTS: usize = 8;

/// The longest pause between two pushes: a compiler on each server is what a push costs.
const PAUSE_MS_MAX: u64 = 4000;

/// Builds the module, pushes it, and starts two threads: one calls objects of its types, the other pushes new versions
/// and removes old ones.
///
/// # Errors
///
/// If the module cannot be built or pushed.
pub fn start(workers: &mut Workers, context: &Context) -> Result<()> {
    let module = build()?;
    let client = context.entry.client(0)?;
    push(&client, &module, 0, false)?;
    workers.start(context, "uploaded types".to_owned(), call_objects)?;
    workers.start(context, "modules".to_owned(), move |context| {
        let done = replace_modules(context, &client, &module);
        client.goodbye()?;
        done
    })
}

/// Builds the module of the conformance list's types.
fn build() -> Result<Vec<u8>> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| Error::Io { what, source }
    };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crucial/tests/uploaded");
    let manifest = manifest.join("Cargo.toml");
    let mut build = Executable::this()?.command(&["build", "--manifest-path"]);
    let output = build.arg(manifest).output().map_err(io("crucial build"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Wrong(format!("the module was not built: {said}")));
    }
    let path = String::from_utf8_lossy(&output.stdout);
    std::fs::read(path.trim_end()).map_err(io("the built module"))
}

/// The module in a version of its own: with a custom section that says which.
fn with_version(module: &[u8], version: u32) -> Vec<u8> {
    const NAME: &[u8] = b"version";
    let mut bytes = module.to_vec();
    let size = 1 + NAME.len() + 4;
    bytes.extend([0, size as u8, NAME.len() as u8]);
    bytes.extend(NAME);
    bytes.extend(version.to_le_bytes());
    bytes
}

/// Pushes a version, and returns the module's id.
fn push(client: &Client, module: &[u8], version: u32, replace: bool) -> crucial::Result<[u8; 32]> {
    let pushed = client.push_module(with_version(module, version), replace)?;
    Ok(pushed.module.id)
}

fn replace_modules(context: &Context, client: &Arc<Client>, module: &[u8]) -> Result<String> {
    let mut random = ChaCha8Rng::seed_from_u64(context.seed ^ 0x30d);
    let (mut version, mut pushed, mut removed, mut refused) = (0, 0, 0, 0);
    let mut count = |result: crucial::Result<bool>, done: &mut u64| match result {
        Ok(true) => {
            *done += 1;
            Ok(())
        }
        Ok(false) => Ok(()),
        // A server joined or died meanwhile, so that nothing was changed.
        Err(crucial::Error::Refused { .. } | crucial::Error::Unavailable { .. }) => {
            refused += 1;
            Ok(())
        }
        Err(error) => Err(error),
    };
    while !context.is_over() {
        version += 1;
        let current = push(client, module, version, true);
        let is_new = current.is_ok();
        count(current.clone().map(|_| true), &mut pushed)?;
        // Older versions have neither types nor objects any more, but for objects that could not move.
        for old in client.modules()? {
            let is_old = is_new && current != Ok(old.id) && old.objects == 0;
            if is_old && random.random() {
                count(client.remove_module(old.id), &mut removed)?;
            }
        }
        // Pushes at random times, since no event is waited for: they are to meet faults.
        std::thread::sleep(Duration::from_millis(random.random_range(0..PAUSE_MS_MAX)));
    }
    Ok(format!(
        "modules: {pushed} versions pushed, {removed} removed, {refused} times refused"
    ))
}

fn create(context: &Context, generation: &mut u64) -> Result<(Seen, i64)> {
    let (object, since) = context.create(generation, |generation| {
        let opened = caller::current()?.open(&Open {
            type_name: TYPE,
            key: Some(&format!("uploaded-{generation}")),
            lifetime: Lifetime::Run,
            mode: Mode::FindOrCreate,
            replicas: context.replicas,
            state: &encode(&(Vec::<u8>::new(), 0_i64))?,
        })?;
        Ok(opened.object)
    })?;
    Ok((Seen { object, since }, 0))
}

fn add(object: ObjectId, value: i64) -> crucial::Result<i64> {
    let sum = caller::current()?.call(&Call {
        object,
        method: MethodId::of("add"),
        names: CallNames {
            type_name: TYPE,
            method: "add",
        },
        timeout: None,
        args: &encode(&(value,))?,
    })?;
    decode(&sum)
}

fn call_objects(context: &Context) -> Result<String> {
    let mut random = ChaCha8Rng::seed_from_u64(context.seed ^ 0xca11);
    let (mut generation, mut calls) = (0, 0_u64);
    let mut objects = Vec::new();
    for _ in 0..OBJECTS {
        objects.push(create(context, &mut generation)?);
    }
    while !context.is_over() {
        let which = random.random_range(0..OBJECTS);
        let (seen, sum) = &mut objects[which];
        let (name, object) = (format!("uploaded object {which}"), seen.object);
        let value = random.random_range(1..100);
        match context.call(&name, seen, || add(object, value))? {
            Outcome::Done(now) if now != *sum + value => {
                return Err(Error::Wrong(format!(
                    "{name} was {}, and {sum} was acknowledged",
                    now - value
                )));
            }
            Outcome::Done(now) => *sum = now,
            Outcome::Lost => objects[which] = create(context, &mut generation)?,
        }
        calls += 1;
    }
    Ok(format!("uploaded objects: {calls} calls"))
}
