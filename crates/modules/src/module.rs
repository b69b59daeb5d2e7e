//! A compiled module.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crucial_object::guest_abi::{IMPORT, TypeDescription, VERSION, exports};
use crucial_object::{Error, Result, decode};
use wasmtime::{ExternType, Linker, ValType};

use crate::engine::Engine;
use crate::error::Refused;
use crate::guest::{self, Guest, GuestTemplate};
use crate::hot::ModuleCounters;
use crate::module_id::ModuleId;
use crate::nan;

/// A compiled module: its types, and how to make objects of them.
pub struct Module {
    id: ModuleId,
    size: usize,
    types: Vec<TypeDescription>,
    /// Each object of the module holds a clone.
    pub(crate) alive: Arc<()>,
    pub(crate) counters: Arc<ModuleCounters>,
    pub(crate) template: GuestTemplate,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Compiles a module, and asks it for its types. This takes some milliseconds, and up to seconds for a large
    /// module.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the reason.
    pub fn compile(&self, bytes: &[u8]) -> Result<Arc<Module>, Refused> {
        Module::compile(self, bytes).map(Arc::new)
    }
}

impl Module {
    fn compile(engine: &Engine, bytes: &[u8]) -> Result<Module, Refused> {
        let max = engine.limits.module_bytes_max;
        if bytes.len() > max {
            return Err(Refused::TooLarge {
                bytes: bytes.len(),
                max,
            });
        }
        if !bytes.starts_with(b"\0asm") {
            return Err(Refused::NotWasm);
        }
        let id = ModuleId::of(bytes);
        let cached = engine
            .cache
            .as_ref()
            .and_then(|cache| cache.load(&engine.wasm, id));
        let is_cached = cached.is_some();
        let compiled = match cached {
            Some(compiled) => compiled,
            None => {
                let bytes = nan::canonicalize(bytes)
                    .map_err(|error| Refused::Invalid(error.to_string()))?;
                wasmtime::Module::from_binary(&engine.wasm, &bytes)
                    .map_err(|error| Refused::Invalid(format!("{error:#}")))?
            }
        };
        if let Some(import) = compiled
            .imports()
            .find(|import| (import.module(), import.name()) != IMPORT)
        {
            return Err(Refused::Import {
                module: import.module().to_owned(),
                name: import.name().to_owned(),
            });
        }
        check_exports(&compiled)?;
        let mut linker = Linker::new(&engine.wasm);
        linker
            .func_wrap(IMPORT.0, IMPORT.1, guest::record_panic)
            .map_err(|error| Refused::Invalid(error.to_string()))?;
        let pre = linker
            .instantiate_pre(&compiled)
            .map_err(|error| Refused::Invalid(format!("{error:#}")))?;
        let mut module = Module {
            id,
            size: bytes.len(),
            types: Vec::new(),
            alive: Arc::new(()),
            counters: Arc::default(),
            template: GuestTemplate {
                engine: engine.clone(),
                pre,
            },
        };
        module.types = module.describe_types()?;
        // Only a module that has run is worth keeping.
        if let (false, Some(cache)) = (is_cached, &engine.cache) {
            cache.store(id, &compiled);
        }
        Ok(module)
    }

    fn describe_types(&self) -> Result<Vec<TypeDescription>, Refused> {
        let failed = |error: Error| Refused::Start(error.to_string());
        let mut guest = Guest::new(&self.template).map_err(failed)?;
        let version = guest.version().map_err(failed)?;
        if version != VERSION {
            return Err(Refused::Version {
                version,
                ours: VERSION,
            });
        }
        decode(&guest.types().map_err(failed)?).map_err(failed)
    }

    /// The module's id.
    pub fn id(&self) -> ModuleId {
        self.id
    }

    /// The module's size before it was compiled, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The module's types, including the library's types, which each module contains.
    pub fn types(&self) -> &[TypeDescription] {
        &self.types
    }

    /// The number of existing objects of the module's types.
    pub fn objects(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }

    /// The number of objects of the module's types that have an instance in memory.
    pub fn hot(&self) -> usize {
        self.counters.hot.load(Ordering::Relaxed)
    }

    /// How many times an object of the module's types was cold when it was called, and was heated.
    pub fn heated(&self) -> u64 {
        self.counters.heated.load(Ordering::Relaxed)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.template.engine
    }
}

fn check_exports(module: &wasmtime::Module) -> Result<(), Refused> {
    use ValType::{I32, I64};
    let functions: [(&'static str, &[ValType], &[ValType]); 10] = [
        (exports::ABI, &[], &[I32]),
        (exports::START, &[], &[]),
        (exports::BUFFER, &[I32], &[I32]),
        (exports::TYPES, &[], &[I64]),
        (exports::RESTORE, &[I32, I32], &[I64]),
        (exports::DISPATCH, &[I32, I64, I32], &[I64]),
        (exports::CANCEL, &[I32, I32], &[I64]),
        (exports::DEPART, &[I64], &[I64]),
        (exports::WAKE, &[], &[I32]),
        (exports::SAVE, &[], &[I64]),
    ];
    let are_equal = |types: &mut dyn ExactSizeIterator<Item = ValType>, expected: &[ValType]| {
        types.len() == expected.len() && types.zip(expected).all(|(one, other)| one.matches(other))
    };
    for (name, parameters, results) in functions {
        match module.get_export(name) {
            Some(ExternType::Func(function))
                if are_equal(&mut function.params(), parameters)
                    && are_equal(&mut function.results(), results) => {}
            _ => return Err(Refused::Export { name }),
        }
    }
    match module.get_export("memory") {
        Some(ExternType::Memory(_)) => Ok(()),
        _ => Err(Refused::Export { name: "memory" }),
    }
}
