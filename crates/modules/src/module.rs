//! A compiled module.

use std::sync::Arc;

use crucial_object::guest_abi::{IMPORT, TypeDescription, VERSION, exports};
use crucial_object::{Age, Error, Instance, Result, decode};
use wasmtime::{ExternType, Linker, ValType};

use crate::hot::Counts;
use crate::instance::{Guest, Uploaded};
use crate::{Engine, ModuleId, Refused, nan};

/// A compiled module: its types, and how to make objects of them.
pub struct Module {
    id: ModuleId,
    size: usize,
    types: Vec<TypeDescription>,
    engine: Engine,
    /// Held by each of its objects.
    alive: Arc<()>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) pre: wasmtime::InstancePre<crate::instance::Host>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Module {
    pub(crate) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Module, Refused> {
        let max = engine.limits.module_bytes_max;
        if bytes.len() > max {
            return Err(Refused::TooLarge {
                bytes: bytes.len(),
                max,
            });
        }
        let id = ModuleId::of(bytes);
        let cached = engine
            .cache
            .as_ref()
            .and_then(|cache| cache.load(engine, id));
        let is_cached = cached.is_some();
        let compiled = match cached {
            Some(compiled) => compiled,
            None => {
                let bytes =
                    nan::canonical(bytes).map_err(|error| Refused::Invalid(error.to_string()))?;
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
            .func_wrap(IMPORT.0, IMPORT.1, crate::instance::panicked)
            .map_err(|error| Refused::Invalid(error.to_string()))?;
        let pre = linker
            .instantiate_pre(&compiled)
            .map_err(|error| Refused::Invalid(format!("{error:#}")))?;
        let mut module = Module {
            id,
            size: bytes.len(),
            types: Vec::new(),
            engine: engine.clone(),
            alive: Arc::new(()),
            counts: Arc::default(),
            pre,
        };
        module.types = module.ask_types()?;
        // One that runs.
        if let (false, Some(cache)) = (is_cached, &engine.cache) {
            cache.store(id, &compiled);
        }
        Ok(module)
    }

    fn ask_types(&self) -> Result<Vec<TypeDescription>, Refused> {
        let started = |error: Error| Refused::Start(error.to_string());
        let mut guest = Guest::new(self).map_err(started)?;
        let version = guest.version().map_err(started)?;
        if version != VERSION {
            return Err(Refused::Version {
                version,
                ours: VERSION,
            });
        }
        decode(&guest.types().map_err(started)?).map_err(started)
    }

    /// Its id.
    pub fn id(&self) -> ModuleId {
        self.id
    }

    /// Its size before it was compiled, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Its types; those of the library, which each module contains, too.
    pub fn types(&self) -> &[TypeDescription] {
        &self.types
    }

    /// How many objects of its types there are.
    pub fn objects(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }

    pub(crate) fn alive(&self) -> Arc<()> {
        self.alive.clone()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Makes an object of its type `name` from its encoded state.
    pub fn restore(
        self: &Arc<Self>,
        name: &str,
        state: &[u8],
        age: Age,
    ) -> Result<Box<dyn Instance>> {
        Ok(Box::new(Uploaded::restore(self, name, state, age)?))
    }
}

fn check_exports(module: &wasmtime::Module) -> Result<(), Refused> {
    use ValType::{I32, I64};
    let functions: [(&str, &[ValType], &[ValType]); 10] = [
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
    let are = |types: &mut dyn ExactSizeIterator<Item = ValType>, wanted: &[ValType]| {
        types.len() == wanted.len() && types.zip(wanted).all(|(one, other)| one.matches(other))
    };
    for (name, parameters, results) in functions {
        match module.get_export(name) {
            Some(ExternType::Func(function))
                if are(&mut function.params(), parameters)
                    && are(&mut function.results(), results) => {}
            _ => return Err(Refused::Export { name }),
        }
    }
    match module.get_export("memory") {
        Some(ExternType::Memory(_)) => Ok(()),
        _ => Err(Refused::Export { name: "memory" }),
    }
}
