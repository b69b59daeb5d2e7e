//! The types that a server executes: those linked into it, and uploaded ones.

use crucial_core::frame::ModuleInfo;
use crucial_object::{Result, TypeInfo, registry};

#[cfg(feature = "modules")]
pub(crate) use uploaded::Types;

#[cfg(not(feature = "modules"))]
pub(crate) use linked::Types;

#[cfg(not(feature = "modules"))]
mod linked {
    use super::*;
    use crucial_object::Error;

    /// The types linked into this executable.
    pub(crate) struct Types;

    impl Types {
        pub fn new() -> Types {
            Types
        }

        pub fn find(&self, name: &str) -> Option<&'static TypeInfo> {
            registry::find(name)
        }

        pub fn push(&self, _: &[u8]) -> Result<ModuleInfo> {
            Err(Error::Refused {
                reason: "this server was built without modules: start one with the crucial binary"
                    .to_owned(),
            })
        }

        pub fn modules(&self) -> Vec<ModuleInfo> {
            Vec::new()
        }

        pub fn remove(&self, _: &[u8; 32]) -> Result<bool> {
            Ok(false)
        }
    }
}

#[cfg(feature = "modules")]
mod uploaded {
    use std::sync::{Arc, OnceLock};

    use super::*;
    use crucial_modules::{Engine, Limits, Module, Refused};
    use crucial_object::guest_abi::TypeDescription;
    use crucial_object::{Access, Error, Method};
    use hashbrown::HashMap;
    use parking_lot::RwLock;

    /// The types linked into this executable, and those of modules.
    pub(crate) struct Types {
        engine: OnceLock<Engine>,
        uploaded: RwLock<Uploaded>,
    }

    #[derive(Default)]
    struct Uploaded {
        modules: Vec<Arc<Module>>,
        types: HashMap<String, (&'static TypeInfo, Arc<Module>)>,
    }

    impl Types {
        pub fn new() -> Types {
            Types {
                engine: OnceLock::new(),
                uploaded: RwLock::default(),
            }
        }

        /// A linked type comes before an uploaded one of its name.
        pub fn find(&self, name: &str) -> Option<&'static TypeInfo> {
            registry::find(name).or_else(|| {
                let uploaded = self.uploaded.read();
                uploaded.types.get(name).map(|(info, _)| *info)
            })
        }

        /// Takes a module in. It takes as long as compiling takes.
        pub fn push(&self, bytes: &[u8]) -> Result<ModuleInfo> {
            let module = self.engine()?.compile(bytes).map_err(refused)?;
            let mut uploaded = self.uploaded.write();
            if let Some(there) = uploaded.modules.iter().find(|m| m.id() == module.id()) {
                return Ok(describe(there));
            }
            let own: Vec<_> = own_types(&module).collect();
            for info in &own {
                if let Some((_, other)) = uploaded.types.get(&info.name) {
                    return Err(Error::Refused {
                        reason: format!(
                            "the type {} is there already, from module {}: remove that first",
                            info.name,
                            other.id()
                        ),
                    });
                }
            }
            for info in own {
                let entry = (leak(&module, info), module.clone());
                uploaded.types.insert(info.name.clone(), entry);
            }
            uploaded.modules.push(module.clone());
            Ok(describe(&module))
        }

        pub fn modules(&self) -> Vec<ModuleInfo> {
            let uploaded = self.uploaded.read();
            uploaded
                .modules
                .iter()
                .map(|module| describe(module))
                .collect()
        }

        /// Removes a module; whether there was one.
        pub fn remove(&self, id: &[u8; 32]) -> Result<bool> {
            let mut uploaded = self.uploaded.write();
            let Some(position) = uploaded.modules.iter().position(|m| m.id().0 == *id) else {
                return Ok(false);
            };
            let objects = uploaded.modules[position].objects();
            if objects > 0 {
                return Err(Error::Refused {
                    reason: format!("{objects} objects of its types live: delete them first"),
                });
            }
            let module = uploaded.modules.remove(position);
            uploaded
                .types
                .retain(|_, (_, of)| !Arc::ptr_eq(of, &module));
            Ok(true)
        }

        fn engine(&self) -> Result<&Engine> {
            if let Some(engine) = self.engine.get() {
                return Ok(engine);
            }
            let engine = Engine::new(Limits::default(), None)?;
            Ok(self.engine.get_or_init(|| engine))
        }
    }

    fn refused(refused: Refused) -> Error {
        Error::Refused {
            reason: refused.to_string(),
        }
    }

    /// The types of a module that this executable does not have itself, as it has those of the library.
    fn own_types(module: &Module) -> impl Iterator<Item = &TypeDescription> {
        let types = module.types().iter();
        types.filter(|info| registry::find(&info.name).is_none())
    }

    fn describe(module: &Module) -> ModuleInfo {
        ModuleInfo {
            id: module.id().0,
            bytes: module.size() as u64,
            types: own_types(module).cloned().collect(),
            objects: module.objects() as u64,
        }
    }

    /// A description that lives as long as the process: objects refer to it. There is one for each type of each
    /// module that is taken in.
    fn leak(module: &Arc<Module>, info: &TypeDescription) -> &'static TypeInfo {
        let name: &'static str = info.name.clone().leak();
        let methods: Vec<Method> = info
            .methods
            .iter()
            .map(|method| {
                let access = if method.writes {
                    Access::Write
                } else {
                    Access::Read
                };
                Method::new(method.name.clone().leak(), access, method.waits)
            })
            .collect();
        let maker = Arc::downgrade(module);
        let restore = move |state: &[u8]| match maker.upgrade() {
            Some(module) => module.restore(name, state),
            None => Err(Error::UnknownType {
                type_name: name.to_owned(),
            }),
        };
        Box::leak(Box::new(TypeInfo::uploaded(
            name,
            methods.leak(),
            info.attends,
            Box::new(restore),
        )))
    }
}
