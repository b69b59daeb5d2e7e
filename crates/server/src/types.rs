//! The types that a server executes: those linked into it, and uploaded ones.

use crucial_core::frame::ModuleInfo;
use crucial_object::{Error, Result, TypeInfo, registry};
use parking_lot::{Mutex, MutexGuard};

use crate::Config;

#[cfg(feature = "modules")]
pub(crate) use uploaded::Types;

#[cfg(not(feature = "modules"))]
pub(crate) use linked::Types;

/// A type, and a newer version of it.
pub(crate) struct Version {
    pub old: &'static TypeInfo,
    pub new: &'static TypeInfo,
}

#[cfg(not(feature = "modules"))]
mod linked {
    use super::*;

    /// The types linked into this executable.
    #[derive(Default)]
    pub(crate) struct Types {
        pushing: Mutex<()>,
    }

    /// There are none here.
    pub(crate) enum Newcomer {}

    impl Newcomer {
        pub fn versions(&self) -> &[Version] {
            match *self {}
        }
    }

    impl Types {
        pub fn new(_: &Config) -> Types {
            Types::default()
        }

        pub fn find(&self, name: &str) -> Option<&'static TypeInfo> {
            registry::find(name)
        }

        pub fn pushing(&self) -> MutexGuard<'_, ()> {
            self.pushing.lock()
        }

        pub fn compile(&self, _: &[u8], _: bool) -> Result<Newcomer> {
            Err(Error::Refused {
                reason: "this server was built without modules: start one with the crucial binary"
                    .to_owned(),
            })
        }

        pub fn take_in(&self, newcomer: &Newcomer) {
            match *newcomer {}
        }

        pub fn settle(&self, newcomer: &Newcomer) -> ModuleInfo {
            match *newcomer {}
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
    use std::path::PathBuf;
    use std::sync::{Arc, OnceLock};

    use super::*;
    use crucial_modules::{Engine, Limits, Module, ModuleId, Refused};
    use crucial_object::guest_abi::TypeDescription;
    use crucial_object::{Access, Method};
    use hashbrown::HashMap;
    use parking_lot::RwLock;

    /// The types linked into this executable, and those of modules.
    pub(crate) struct Types {
        limits: Limits,
        cache: Option<PathBuf>,
        engine: OnceLock<Engine>,
        /// Held while a module is taken in.
        pushing: Mutex<()>,
        uploaded: RwLock<Uploaded>,
    }

    #[derive(Default)]
    struct Uploaded {
        modules: Vec<Arc<Module>>,
        types: HashMap<String, (&'static TypeInfo, Arc<Module>)>,
    }

    /// A module on its way in.
    pub(crate) struct Newcomer {
        module: Arc<Module>,
        /// Its types; none if the module was here already.
        types: Vec<&'static TypeInfo>,
        /// Those of them that take the place of others.
        versions: Vec<Version>,
        /// The modules whose types they are.
        replaced: Vec<Arc<Module>>,
    }

    impl Newcomer {
        pub fn versions(&self) -> &[Version] {
            &self.versions
        }
    }

    impl Types {
        pub fn new(config: &Config) -> Types {
            Types {
                limits: config.module_limits.clone(),
                cache: config.module_cache.clone(),
                engine: OnceLock::new(),
                pushing: Mutex::default(),
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

        /// Modules are taken in one after the other.
        pub fn pushing(&self) -> MutexGuard<'_, ()> {
            self.pushing.lock()
        }

        /// Compiles a module, which takes a while, and sees whose place its types would take. They have not yet.
        pub fn compile(&self, bytes: &[u8], replace: bool) -> Result<Newcomer> {
            let there = {
                let uploaded = self.uploaded.read();
                let mut modules = uploaded.modules.iter();
                modules
                    .find(|module| module.id() == ModuleId::of(bytes))
                    .cloned()
            };
            let is_there = there.is_some();
            let module = match there {
                Some(module) => module,
                None => self.engine()?.compile(bytes).map_err(refused)?,
            };
            let mut newcomer = Newcomer {
                module: module.clone(),
                types: Vec::new(),
                versions: Vec::new(),
                replaced: Vec::new(),
            };
            let uploaded = self.uploaded.read();
            let is_current = |info: &TypeDescription| {
                let of = uploaded.types.get(&info.name);
                of.is_some_and(|(_, of)| of.id() == module.id())
            };
            if is_there && own_types(&module).all(is_current) {
                return Ok(newcomer);
            }
            for info in own_types(&module) {
                let new = leak(&module, info);
                newcomer.types.push(new);
                let Some((old, other)) = uploaded.types.get(&info.name) else {
                    continue;
                };
                if !replace {
                    return Err(Error::Refused {
                        reason: format!(
                            "the type {} is there already, from module {}, which has {} objects: `crucial push \
                             --replace` moves them to the new version; or remove that module first",
                            info.name,
                            other.id(),
                            other.objects(),
                        ),
                    });
                }
                newcomer.versions.push(Version { old, new });
                if !newcomer
                    .replaced
                    .iter()
                    .any(|module| Arc::ptr_eq(module, other))
                {
                    newcomer.replaced.push(other.clone());
                }
            }
            Ok(newcomer)
        }

        /// Objects that are made from here on are of its types.
        pub fn take_in(&self, newcomer: &Newcomer) {
            if newcomer.types.is_empty() {
                return;
            }
            let mut uploaded = self.uploaded.write();
            for info in &newcomer.types {
                let entry = (*info, newcomer.module.clone());
                uploaded.types.insert(info.name.to_owned(), entry);
            }
            uploaded
                .modules
                .retain(|module| module.id() != newcomer.module.id());
            uploaded.modules.push(newcomer.module.clone());
        }

        /// What has moved has moved: modules that nobody needs any more go.
        pub fn settle(&self, newcomer: &Newcomer) -> ModuleInfo {
            let mut uploaded = self.uploaded.write();
            let Uploaded { modules, types } = &mut *uploaded;
            let is_replaced = |module: &Arc<Module>| {
                newcomer
                    .replaced
                    .iter()
                    .any(|other| Arc::ptr_eq(other, module))
            };
            let is_needed = |module: &Arc<Module>| {
                module.objects() > 0 || types.values().any(|(_, of)| Arc::ptr_eq(of, module))
            };
            modules.retain(|module| !is_replaced(module) || is_needed(module));
            describe(&newcomer.module)
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
            let engine = Engine::new(self.limits.clone(), self.cache.as_deref())?;
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
            hot: module.hot() as u64,
            heated: module.heated(),
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
        let restore = move |state: &[u8], age| match maker.upgrade() {
            Some(module) => module.restore(name, state, age),
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
