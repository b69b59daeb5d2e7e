//! The engine: the WebAssembly runtime, its clock, and the limits and the cache that all modules share.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::cache::Cache;
use crate::hot::HotObjects;
use crate::limits::Limits;
use crate::nan;

/// The granularity at which methods that run for too long are noticed.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Compiles and runs modules. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasm: wasmtime::Engine,
    pub(crate) limits: Arc<Limits>,
    pub(crate) hot: Arc<HotObjects>,
    pub(crate) cache: Option<Arc<Cache>>,
    _clock: Arc<Clock>,
}

/// Keeps the clock's thread alive: the thread ends after the engine is dropped.
struct Clock;

impl Engine {
    /// Returns an engine with these limits. Compiled modules are kept in the directory `cache`, if it is given.
    ///
    /// # Errors
    ///
    /// If this machine cannot run compiled WebAssembly, or no thread can be started.
    pub fn new(limits: Limits, cache: Option<&Path>) -> std::io::Result<Engine> {
        let mut config = wasmtime::Config::new();
        config
            .epoch_interruption(true)
            // `nan::canonicalize` makes NaNs canonical at less cost.
            .cranelift_nan_canonicalization(false)
            .wasm_features(nan::FEATURES.complement(), false)
            .max_wasm_stack(512 << 10);
        let wasm = wasmtime::Engine::new(&config).map_err(std::io::Error::other)?;
        let clock = Arc::new(Clock);
        start_clock(&wasm, Arc::downgrade(&clock))?;
        Ok(Engine {
            wasm,
            hot: Arc::new(HotObjects::new(&limits)?),
            cache: cache.map(|directory| Arc::new(Cache::new(directory))),
            limits: Arc::new(limits),
            _clock: clock,
        })
    }

    /// The number of objects that have an instance in memory.
    pub fn instances(&self) -> usize {
        self.hot.len()
    }
}

fn start_clock(wasm: &wasmtime::Engine, clock: Weak<Clock>) -> std::io::Result<()> {
    let wasm = wasm.weak();
    crucial_local::thread::start("crucial-epochs", move || {
        while clock.strong_count() > 0 {
            std::thread::sleep(TICK);
            let Some(wasm) = wasm.upgrade() else { return };
            wasm.increment_epoch();
        }
    })?;
    Ok(())
}
