//! The engine: compiles, and keeps the time.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::hot::Hot;
use crate::{Limits, Module, Refused, nan};

/// Methods that run for too long are noticed at these intervals.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Names a module: the SHA-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleId(pub [u8; 32]);

impl ModuleId {
    /// The id of these bytes.
    pub fn of(bytes: &[u8]) -> ModuleId {
        ModuleId(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleId({self})")
    }
}

/// Compiles modules and runs them. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasm: wasmtime::Engine,
    pub(crate) limits: Arc<Limits>,
    pub(crate) hot: Arc<Hot>,
    pub(crate) cache: Option<Arc<Cache>>,
    _clock: Arc<Clock>,
}

/// Lives as long as the engine; the ticking thread ends with it.
struct Clock;

impl Engine {
    /// An engine with these limits. It keeps compiled modules in the directory `cache`, if there is one.
    ///
    /// # Errors
    ///
    /// If this machine can not run compiled WebAssembly, or gives no thread.
    pub fn new(limits: Limits, cache: Option<&Path>) -> std::io::Result<Engine> {
        let mut config = wasmtime::Config::new();
        config
            .epoch_interruption(true)
            // `nan::canonical` does it.
            .cranelift_nan_canonicalization(false)
            .wasm_features(nan::FEATURES.complement(), false)
            .max_wasm_stack(512 << 10);
        let wasm = wasmtime::Engine::new(&config).map_err(std::io::Error::other)?;
        let clock = Arc::new(Clock);
        tick(&wasm, Arc::downgrade(&clock))?;
        Ok(Engine {
            wasm,
            hot: Arc::new(Hot::new(&limits)?),
            cache: cache.map(|directory| Arc::new(Cache::new(directory))),
            limits: Arc::new(limits),
            _clock: clock,
        })
    }

    /// How many objects have an instance in memory.
    pub fn instances(&self) -> usize {
        self.hot.len()
    }

    /// Compiles a module, and asks it for its types. It takes a while: some milliseconds, up to seconds for a large
    /// one.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the reason.
    pub fn compile(&self, bytes: &[u8]) -> Result<Arc<Module>, Refused> {
        Module::compile(self, bytes).map(Arc::new)
    }
}

fn tick(wasm: &wasmtime::Engine, clock: Weak<Clock>) -> std::io::Result<()> {
    let wasm = wasm.weak();
    std::thread::Builder::new()
        .name("crucial-epochs".to_owned())
        .spawn(move || {
            while clock.strong_count() > 0 {
                std::thread::sleep(TICK);
                let Some(wasm) = wasm.upgrade() else { return };
                wasm.increment_epoch();
            }
        })?;
    Ok(())
}
