//! Uploaded modules, pushed, replaced and removed all the while, and objects of their types.
//!
//! The module has the types of the conformance list. This executable is the servers as well, and must not have them
//! natively, so its calls name type and methods.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crucial::ObjectId;
use crucial_client::Client;
use crucial_object::caller::{self, Call, CallNames, Caller, Lifetime, Mode, Open};
use crucial_object::encode;
use crucial_object::{MethodId, decode};
use crucial_testing::{Error, Executable, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::worker::{Context, Outcome, Seen, Workers};

/// The uploaded type of the objects, and its fields: bytes and a number.
const TYPE: &str = "conformance::types::Probe";

/// The objects of uploaded types.
const OBJECTS: usize = 8;

/// The longest pause between two pushes: a compiler on each server is what a push costs.
const PAUSE_MS_MAX: u64 = 4000;

/// How long a request about modules is repeated while it is refused.
const PATIENCE: Duration = Duration::from_secs(120);

/// The pause before it is repeated.
const RETRY: Duration = Duration::from_millis(200);

/// How many versions replace each other before the module is removed.
const VERSIONS: u32 = 4;

/// The objects, which both threads use.
struct Objects {
    /// Each with the sum that was acknowledged.
    all: Mutex<Vec<(Seen, i64)>>,
    generation: AtomicU64,
    /// Whose run the objects belong to; does not say goodbye, so that they stay until the cluster ends.
    owner: Arc<Client>,
}

/// Builds the module, pushes it, and starts two threads: one calls objects of its types, the other pushes new versions,
/// and now and then removes the objects and the module.
///
/// # Errors
///
/// If the module cannot be built or pushed.
pub fn start(workers: &mut Workers, context: &Context) -> Result<()> {
    let module = build()?;
    let objects = Arc::new(Objects {
        all: Mutex::default(),
        generation: AtomicU64::new(0),
        owner: context.entry.client(0)?,
    });
    push(&objects.owner, &module, 0, false)?;
    objects.create_all(context, &mut objects.all())?;
    let called = objects.clone();
    workers.start(context, "uploaded types".to_owned(), move |context| {
        called.call_all(context)
    })?;
    workers.start(context, "modules".to_owned(), move |context| {
        replace_modules(context, &objects, &module)
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
    let mut types = pushed.module.types.iter();
    match types.any(|known| known.name == TYPE) {
        true => Ok(pushed.module.id),
        false => Err(crucial::Error::Other(format!(
            "the module has no {TYPE}: {:?}",
            pushed.module.types
        ))),
    }
}

/// Makes a request that servers refuse, without an effect, when another joins or dies meanwhile. If the server that sees to
/// the request is taken for dead itself, the request is unavailable and may have had its effect: made again, it succeeds all
/// the same. Gives how many times a request was made in vain.
fn insist<T>(mut request: impl FnMut() -> crucial::Result<T>) -> Result<(T, u64)> {
    let begun = Instant::now();
    let mut refused = 0;
    loop {
        match request() {
            Ok(done) => return Ok((done, refused)),
            Err(
                crucial::Error::Refused { reason } | crucial::Error::Unavailable { reason, .. },
            ) if begun.elapsed() > PATIENCE => {
                return Err(Error::Late(PATIENCE, format!("modules change: {reason}")));
            }
            Err(crucial::Error::Refused { .. } | crucial::Error::Unavailable { .. }) => {
                refused += 1;
                // Back-off: no client is told when the servers have agreed on who is there.
                std::thread::sleep(RETRY);
            }
            Err(error) => {
                let kind = error.kind();
                return Err(Error::Wrong(format!("modules: {kind} ({error})")));
            }
        }
    }
}

fn replace_modules(context: &Context, objects: &Objects, module: &[u8]) -> Result<String> {
    let mut random = ChaCha8Rng::seed_from_u64(context.seed ^ 0x30d);
    let (mut version, mut removals, mut refusals) = (0, 0, 0);
    while !context.is_over() {
        version += 1;
        let (current, refused) = insist(|| push(&objects.owner, module, version, true))?;
        refusals += refused;
        if version % VERSIONS == 0 {
            version += 1;
            refusals += objects.remove_module(context, current, (module, version))?;
            removals += 1;
        }
        // Pushes at random times, since no event is waited for: they are to meet faults.
        std::thread::sleep(Duration::from_millis(random.random_range(0..PAUSE_MS_MAX)));
    }
    Ok(format!(
        "modules: {version} versions pushed, {removals} times removed, {refusals} times refused"
    ))
}

impl Objects {
    fn all(&self) -> MutexGuard<'_, Vec<(Seen, i64)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, context: &Context, generation: u64) -> crucial::Result<ObjectId> {
        let opened = self.owner.open(&Open {
            type_name: TYPE,
            key: Some(&format!("uploaded-{generation}")),
            lifetime: Lifetime::Run,
            mode: Mode::FindOrCreate,
            replicas: context.replicas,
            state: &encode(&(Vec::<u8>::new(), 0_i64))?,
        })?;
        Ok(opened.object)
    }

    fn create(&self, context: &Context) -> Result<(Seen, i64)> {
        let next = || self.generation.fetch_add(1, Ordering::Relaxed);
        let made = context.create(&mut 0, |_| self.open(context, next()));
        let (object, since) = made?;
        Ok((Seen { object, since }, 0))
    }

    fn create_all(&self, context: &Context, all: &mut Vec<(Seen, i64)>) -> Result<()> {
        for _ in 0..OBJECTS {
            all.push(self.create(context)?);
        }
        Ok(())
    }

    fn call_all(&self, context: &Context) -> Result<String> {
        let mut random = ChaCha8Rng::seed_from_u64(context.seed ^ 0xca11);
        let mut calls = 0_u64;
        while !context.is_over() {
            let which = random.random_range(0..OBJECTS);
            let value = random.random_range(1..100);
            // No call goes on while the module is removed.
            let mut all = self.all();
            // Empty after the other thread has failed between removal and push: its error is the one that counts.
            let Some((seen, sum)) = all.get_mut(which) else {
                break;
            };
            let (name, object) = (format!("uploaded object {which}"), seen.object);
            match context.call(&name, seen, || add(object, value))? {
                Outcome::Done(now) if now != *sum + value => {
                    return Err(Error::Wrong(format!(
                        "{name} was {}, and {sum} was acknowledged",
                        now - value
                    )));
                }
                Outcome::Done(now) => *sum = now,
                Outcome::Lost => {
                    // An object that is lost is one of its module until it is deleted.
                    self.owner.delete(object)?;
                    all[which] = self.create(context)?;
                }
            }
            calls += 1;
        }
        Ok(format!("uploaded objects: {calls} calls"))
    }

    fn modules_of_type(&self) -> Result<Vec<[u8; 32]>> {
        let mut modules = self.owner.modules()?;
        modules.retain(|module| module.types.iter().any(|ty| ty.name == TYPE));
        Ok(modules.into_iter().map(|module| module.id).collect())
    }

    /// Removes the objects and the module, and pushes `next` and makes the objects anew. Gives how many times the
    /// servers refused.
    fn remove_module(
        &self,
        context: &Context,
        module: [u8; 32],
        next: (&[u8], u32),
    ) -> Result<u64> {
        let mut all = self.all();
        for (seen, _) in all.drain(..) {
            self.owner.delete(seen.object)?;
        }
        let (_, mut removals) = insist(|| self.owner.remove_module(module))?;
        // One that was replaced stays until the next push if its removal takes too long, and its types are there then.
        for older in self.modules_of_type()? {
            removals += insist(|| self.owner.remove_module(older))?.1;
        }
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        match self.open(context, generation) {
            Err(crucial::Error::UnknownType { .. }) => {}
            other => {
                let left = self.modules_of_type()?.len();
                return Err(Error::Wrong(format!(
                    "{TYPE} is there without its module: {other:?}; {left} modules have it"
                )));
            }
        }
        let (_, pushes) = insist(|| push(&self.owner, next.0, next.1, false))?;
        self.create_all(context, &mut all)?;
        Ok(removals + pushes)
    }
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
