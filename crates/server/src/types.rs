//! The types that a server executes: those linked into it, and uploaded ones.

use crucial_core::frame::ModuleInfo;
use crucial_object::{Error, Result, TypeInfo, registry};
use parking_lot::{Mutex, MutexGuard};

use crate::Config;

#[cfg(feature = "modules")]
pub(crate) use uploaded::{Newcomer, Types};

#[cfg(not(feature = "modules"))]
pub(crate) use linked::{Newcomer, Types};

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

        pub fn replaced(&self) -> Vec<[u8; 32]> {
            match *self {}
        }

        pub fn describe(&self) -> ModuleInfo {
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

        pub fn find_of(&self, name: &str, module: Option<[u8; 32]>) -> Option<&'static TypeInfo> {
            registry::find(name).filter(|_| module.is_none())
        }

        pub fn has(&self, _: &[u8; 32]) -> bool {
            false
        }

        pub fn is_current(&self, _: &[u8; 32]) -> bool {
            false
        }

        pub fn has_types_of(&self, _: &[u8; 32]) -> bool {
            false
        }

        pub fn would_replace(&self, _: &[u8; 32]) -> bool {
            false
        }

        pub fn hold(&self, bytes: &[u8]) -> Result<ModuleInfo> {
            self.compile(bytes, true)
                .map(|newcomer| newcomer.describe())
        }

        pub fn let_go(&self, _: &[u8; 32]) {}

        pub fn fill(&self, _: &[[u8; 32]]) {}

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
        /// Held while one is compiled, so that it is once.
        compiling: Mutex<()>,
        uploaded: RwLock<Uploaded>,
    }

    #[derive(Default)]
    struct Uploaded {
        /// Those whose code may be needed: also of objects that another server has not moved to newer code yet.
        held: Vec<Held>,
        /// The types that new objects are of.
        types: HashMap<String, (&'static TypeInfo, Arc<Module>)>,
    }

    /// A module, and its types.
    #[derive(Clone)]
    struct Held {
        module: Arc<Module>,
        types: Vec<&'static TypeInfo>,
    }

    impl Uploaded {
        fn held(&self, id: &[u8; 32]) -> Option<&Held> {
            self.held.iter().find(|held| held.module.id().0 == *id)
        }

        /// Whether new objects are of all its types.
        fn are_current(&self, held: &Held) -> bool {
            held.types.iter().all(|info| {
                let of = self.types.get(info.name);
                of.is_some_and(|(_, of)| Arc::ptr_eq(of, &held.module))
            })
        }

        /// Whether an object is of it, or a new one would be.
        fn uses(&self, module: &Arc<Module>) -> bool {
            let mut types = self.types.values();
            module.objects() > 0 || types.any(|(_, of)| Arc::ptr_eq(of, module))
        }
    }

    /// A module on its way in.
    pub(crate) struct Newcomer {
        held: Held,
        /// Its types; none if the module was here already.
        types: Vec<&'static TypeInfo>,
        /// Those of them that take the place of others.
        versions: Vec<Version>,
    }

    impl Newcomer {
        pub fn versions(&self) -> &[Version] {
            &self.versions
        }

        /// The modules whose types it replaces.
        pub fn replaced(&self) -> Vec<[u8; 32]> {
            let old = self
                .versions
                .iter()
                .filter_map(|version| version.old.module);
            let mut ids: Vec<_> = old.collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        }

        pub fn describe(&self) -> ModuleInfo {
            describe(&self.held.module)
        }
    }

    impl Types {
        pub fn new(config: &Config) -> Types {
            Types {
                limits: config.module_limits.clone(),
                cache: config.module_cache.clone(),
                engine: OnceLock::new(),
                pushing: Mutex::default(),
                compiling: Mutex::default(),
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

        /// The type of an object that was made by a module's code; [`None`]: by the executable's own.
        pub fn find_of(&self, name: &str, module: Option<[u8; 32]>) -> Option<&'static TypeInfo> {
            let Some(id) = module else {
                return registry::find(name);
            };
            let uploaded = self.uploaded.read();
            let types = &uploaded.held(&id)?.types;
            types.iter().find(|info| info.name == name).copied()
        }

        /// Whether a module's code is here.
        pub fn has(&self, id: &[u8; 32]) -> bool {
            self.uploaded.read().held(id).is_some()
        }

        /// Whether new objects are of all its types.
        pub fn is_current(&self, id: &[u8; 32]) -> bool {
            let uploaded = self.uploaded.read();
            let held = uploaded.held(id);
            held.is_some_and(|held| uploaded.are_current(held))
        }

        /// Whether another module has some of its types by now.
        pub fn would_replace(&self, id: &[u8; 32]) -> bool {
            let uploaded = self.uploaded.read();
            let types = uploaded.held(id).map_or(&[][..], |held| &held.types);
            let mut current = types
                .iter()
                .filter_map(|info| uploaded.types.get(info.name));
            current.any(|(info, _)| info.module != Some(*id))
        }

        /// Whether new objects are of some of its types.
        pub fn has_types_of(&self, id: &[u8; 32]) -> bool {
            let uploaded = self.uploaded.read();
            let mut types = uploaded.types.values();
            types.any(|(info, _)| info.module == Some(*id))
        }

        /// Compiles a module, which takes a while, and keeps its code, for objects that come from other servers. New
        /// objects are not of its types yet.
        pub fn hold(&self, bytes: &[u8]) -> Result<ModuleInfo> {
            Ok(describe(&self.held(bytes)?.module))
        }

        /// A module is not to be taken in: it goes, unless something is of it.
        pub fn let_go(&self, id: &[u8; 32]) {
            let mut uploaded = self.uploaded.write();
            let unused = uploaded
                .held(id)
                .is_some_and(|held| !uploaded.uses(&held.module));
            if unused {
                uploaded.held.retain(|held| held.module.id().0 != *id);
            }
        }

        fn held(&self, bytes: &[u8]) -> Result<Held> {
            let id = ModuleId::of(bytes).0;
            let known = || self.uploaded.read().held(&id).cloned();
            if let Some(held) = known() {
                return Ok(held);
            }
            let _once = self.compiling.lock();
            if let Some(held) = known() {
                return Ok(held);
            }
            let module = self.engine()?.compile(bytes).map_err(refused)?;
            let types = own_types(&module).map(|info| leak(&module, info));
            let held = Held {
                types: types.collect(),
                module,
            };
            self.uploaded.write().held.push(held.clone());
            Ok(held)
        }

        /// Modules are taken in one after the other.
        pub fn pushing(&self) -> MutexGuard<'_, ()> {
            self.pushing.lock()
        }

        /// Compiles a module, which takes a while, and sees whose place its types would take. They have not yet.
        pub fn compile(&self, bytes: &[u8], replace: bool) -> Result<Newcomer> {
            let held = self.held(bytes)?;
            let id = held.module.id().0;
            let newcomer = self.newcomer(held, replace);
            if newcomer.is_err() {
                self.let_go(&id);
            }
            newcomer
        }

        fn newcomer(&self, held: Held, replace: bool) -> Result<Newcomer> {
            let mut newcomer = Newcomer {
                held: held.clone(),
                types: Vec::new(),
                versions: Vec::new(),
            };
            let uploaded = self.uploaded.read();
            if uploaded.are_current(&held) {
                return Ok(newcomer);
            }
            for new in held.types {
                newcomer.types.push(new);
                let Some((old, other)) = uploaded.types.get(new.name) else {
                    continue;
                };
                if std::ptr::eq(*old, new) {
                    continue;
                }
                if !replace {
                    return Err(Error::Refused {
                        reason: format!(
                            "the type {} is there already, from module {}, which has {} objects: `crucial push \
                             --replace` moves them to the new version; or remove that module first",
                            new.name,
                            other.id(),
                            other.objects(),
                        ),
                    });
                }
                newcomer.versions.push(Version { old, new });
            }
            Ok(newcomer)
        }

        /// Objects that are made from here on are of its types.
        pub fn take_in(&self, newcomer: &Newcomer) {
            if newcomer.types.is_empty() {
                return;
            }
            let mut uploaded = self.uploaded.write();
            let Held { module, .. } = &newcomer.held;
            for info in &newcomer.types {
                let entry = (*info, module.clone());
                uploaded.types.insert(info.name.to_owned(), entry);
            }
            let id = module.id();
            uploaded.held.retain(|held| held.module.id() != id);
            uploaded.held.push(newcomer.held.clone());
        }

        /// What has moved has moved: modules whose types it has replaced go, if nothing is of them any more.
        pub fn settle(&self, newcomer: &Newcomer) -> ModuleInfo {
            for id in newcomer.replaced() {
                self.let_go(&id);
            }
            newcomer.describe()
        }

        /// The modules that something is of, or would be.
        pub fn modules(&self) -> Vec<ModuleInfo> {
            let uploaded = self.uploaded.read();
            let used = uploaded
                .held
                .iter()
                .filter(|held| uploaded.uses(&held.module));
            used.map(|held| describe(&held.module)).collect()
        }

        /// Types that nobody has are those of the last of these modules that has them.
        pub fn fill(&self, modules: &[[u8; 32]]) {
            let mut uploaded = self.uploaded.write();
            let held: Vec<_> = modules
                .iter()
                .rev()
                .filter_map(|id| uploaded.held(id).cloned())
                .collect();
            for Held { module, types } in held {
                for info in types {
                    let types = &mut uploaded.types;
                    if !types.contains_key(info.name) {
                        types.insert(info.name.to_owned(), (info, module.clone()));
                    }
                }
            }
        }

        /// Removes a module; whether there was one.
        pub fn remove(&self, id: &[u8; 32]) -> Result<bool> {
            let mut uploaded = self.uploaded.write();
            let Some(held) = uploaded.held(id).cloned() else {
                return Ok(false);
            };
            let objects = held.module.objects();
            if objects > 0 {
                return Err(Error::Refused {
                    reason: format!("{objects} objects of its types live: delete them first"),
                });
            }
            uploaded.held.retain(|held| held.module.id().0 != *id);
            uploaded
                .types
                .retain(|_, (_, of)| !Arc::ptr_eq(of, &held.module));
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
            module.id().0,
            Box::new(restore),
        )))
    }
}
