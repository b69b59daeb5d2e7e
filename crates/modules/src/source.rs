//! Modules, as a server wants them.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crucial_node::TypeSource;
use crucial_object::guest_abi::TypeDescription;
use crucial_object::{Access, Error, Method, Result, TypeInfo, registry};
use crucial_proto::frame::ModuleInfo;

use crate::engine::Engine;
use crate::limits::Limits;
use crate::module::Module;

/// Compiles modules for a server.
pub struct Source {
    limits: Limits,
    cache: Option<PathBuf>,
    /// Made with the first module, since it has threads.
    engine: OnceLock<Engine>,
}

impl Source {
    /// A source with these limits. Compiled modules are kept in the directory `cache`, if it is given, so that a server
    /// which needs one again has it at once. Nobody but this user may be able to write to the directory.
    pub fn new(limits: Limits, cache: Option<PathBuf>) -> Source {
        Source {
            limits,
            cache,
            engine: OnceLock::new(),
        }
    }

    fn engine(&self) -> Result<&Engine> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = Engine::new(self.limits.clone(), self.cache.as_deref());
        let engine = engine.map_err(|error| Error::Refused {
            reason: format!("this machine cannot run WebAssembly: {error}"),
        })?;
        Ok(self.engine.get_or_init(|| engine))
    }
}

impl TypeSource for Source {
    fn compile(&self, bytes: &[u8]) -> Result<Arc<dyn crucial_node::Module>> {
        let module = self
            .engine()?
            .compile(bytes)
            .map_err(|refused| Error::Refused {
                reason: refused.to_string(),
            })?;
        let types = own_types(&module).map(|info| leak(&module, info)).collect();
        Ok(Arc::new(Installed { module, types }))
    }
}

/// A module with descriptions of its types that live as long as the process, since objects refer to them. There is one for each
/// type of each module that is compiled.
struct Installed {
    module: Arc<Module>,
    types: Vec<&'static TypeInfo>,
}

impl crucial_node::Module for Installed {
    fn id(&self) -> [u8; 32] {
        self.module.id().0
    }

    fn types(&self) -> &[&'static TypeInfo] {
        &self.types
    }

    fn objects(&self) -> usize {
        self.module.objects()
    }

    fn describe(&self) -> ModuleInfo {
        ModuleInfo {
            id: self.module.id().0,
            bytes: self.module.size() as u64,
            types: own_types(&self.module).cloned().collect(),
            objects: self.module.objects() as u64,
            hot: self.module.hot() as u64,
            heated: self.module.heated(),
        }
    }
}

/// The types of a module that this executable does not have itself, as it has those of the library.
fn own_types(module: &Module) -> impl Iterator<Item = &TypeDescription> {
    let types = module.types().iter();
    types.filter(|info| registry::find(&info.name).is_none())
}

fn leak(module: &Arc<Module>, info: &TypeDescription) -> &'static TypeInfo {
    let name: &'static str = info.name.clone().leak();
    let methods = info.methods.iter().map(|method| {
        let access = match method.writes {
            true => Access::Write,
            false => Access::Read,
        };
        Method::new(method.name.clone().leak(), access, method.waits)
    });
    let methods: Vec<Method> = methods.collect();
    let maker = Arc::downgrade(module);
    let restore = move |state: &[u8], version| match maker.upgrade() {
        Some(module) => module.restore(name, state, version),
        None => Err(Error::UnknownType {
            type_name: name.to_owned(),
        }),
    };
    Box::leak(Box::new(TypeInfo::uploaded(
        name,
        methods.leak(),
        info.tracks_sessions,
        module.id().0,
        Box::new(restore),
    )))
}
