//! The types that a server executes: those linked into it, and those of modules.

use std::collections::BTreeSet;
use std::sync::Arc;

use crucial_object::{Error, Result, TypeInfo, registry};
use crucial_proto::frame::ModuleInfo;

use crate::catalog::Order;
use crate::hash::{HashSeed, Map};
use crate::ids::ModuleId;
use crate::replication::Checksum;
use crate::sync::RwLock;

/// Stands for the name of a type in what servers tell each other.
pub(crate) fn name_hash(name: &str) -> u64 {
    Checksum::of(name.as_bytes())
}

/// The types that are linked into this executable.
pub(crate) fn linked() -> BTreeSet<u64> {
    registry::types().map(|info| name_hash(info.name)).collect()
}

/// Where modules are compiled. The program injects it: WebAssembly in production, native code in the simulation.
pub trait TypeSource: Send + Sync {
    /// Compiles a module, which takes a while.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the module is not valid, or this server takes none.
    fn compile(&self, bytes: &[u8]) -> Result<Arc<dyn Module>>;
}

/// A compiled module.
pub trait Module: Send + Sync {
    /// The SHA-256 of its bytes.
    fn id(&self) -> ModuleId;
    /// Its types that are not linked into the executable.
    fn types(&self) -> &[&'static TypeInfo];
    /// How many objects are of its types.
    fn objects(&self) -> usize;
    /// The module's description.
    fn describe(&self) -> ModuleInfo;
}

/// The source of a server that takes no modules.
pub struct NoModules;

impl TypeSource for NoModules {
    fn compile(&self, _: &[u8]) -> Result<Arc<dyn Module>> {
        Err(Error::Refused {
            reason: "this server takes no modules: run `crucial server`".to_owned(),
        })
    }
}

/// The types of a server. The lock is held for a look-up.
pub(crate) struct Types(RwLock<Uploaded>);

struct Uploaded {
    /// Those whose code may be needed, also for objects that another server has not moved to newer code yet.
    retained: Vec<Arc<dyn Module>>,
    /// The types of new objects.
    current: Map<&'static str, (&'static TypeInfo, Arc<dyn Module>)>,
}

impl Uploaded {
    fn find(&self, id: &ModuleId) -> Option<&Arc<dyn Module>> {
        self.retained.iter().find(|module| module.id() == *id)
    }

    /// Whether an object is of it, or a new one would be.
    fn uses(&self, module: &Arc<dyn Module>) -> bool {
        module.objects() > 0 || self.has_current(&module.id())
    }

    fn has_current(&self, id: &ModuleId) -> bool {
        let mut current = self.current.values();
        current.any(|(_, of)| of.id() == *id)
    }

    fn apply(&mut self, order: &Order) {
        self.current.clear();
        for module in &self.retained {
            for info in module.types() {
                let has_type = |id: &ModuleId| {
                    let module = self.find(id);
                    module.is_some_and(|m| m.types().iter().any(|other| other.name == info.name))
                };
                if order.module_of(has_type) == Some(module.id()) {
                    self.current.insert(info.name, (info, module.clone()));
                }
            }
        }
    }
}

impl Types {
    pub fn new(seed: HashSeed) -> Types {
        Types(RwLock::new(Uploaded {
            retained: Vec::new(),
            current: seed.map(),
        }))
    }

    /// The type of a new object. A linked type comes before an uploaded one of its name.
    pub fn find(&self, name: &str) -> Option<&'static TypeInfo> {
        registry::find(name).or_else(|| {
            let uploaded = self.0.read();
            uploaded.current.get(name).map(|(info, _)| *info)
        })
    }

    /// The type of an object that was made by a module's code; `None`: by the executable's own.
    pub fn find_of(&self, name: &str, module: Option<ModuleId>) -> Option<&'static TypeInfo> {
        let Some(id) = module else {
            return registry::find(name);
        };
        let uploaded = self.0.read();
        let mut types = uploaded.find(&id)?.types().iter();
        types.find(|info| info.name == name).copied()
    }

    /// Whether a module's code is here.
    pub fn has(&self, id: &ModuleId) -> bool {
        self.0.read().find(id).is_some()
    }

    /// Whether new objects are of all its types.
    pub fn is_current(&self, id: &ModuleId) -> bool {
        let uploaded = self.0.read();
        let Some(module) = uploaded.find(id) else {
            return false;
        };
        module.types().iter().all(|info| {
            let current = uploaded.current.get(info.name);
            current.is_some_and(|(_, of)| of.id() == *id)
        })
    }

    /// Keeps a module's code, for objects that come from other servers. New objects are not of its types yet.
    pub fn retain(&self, module: Arc<dyn Module>) {
        let mut uploaded = self.0.write();
        if uploaded.find(&module.id()).is_none() {
            uploaded.retained.push(module);
        }
    }

    /// Lets a module go, unless an object is of it or a new one would be.
    pub fn release(&self, id: &ModuleId) {
        let mut uploaded = self.0.write();
        let is_used = uploaded
            .find(id)
            .is_some_and(|module| uploaded.uses(module));
        if !is_used {
            uploaded.retained.retain(|module| module.id() != *id);
        }
    }

    /// The types of a module that would take the place of others, each with the present one.
    ///
    /// # Errors
    ///
    /// The reason, if some would, and `replace` is false.
    pub fn replaced_by(
        &self,
        id: &ModuleId,
        replace: bool,
    ) -> std::result::Result<Vec<(&'static TypeInfo, &'static TypeInfo)>, String> {
        let uploaded = self.0.read();
        let types = uploaded.find(id).map_or(&[][..], |module| module.types());
        let mut replaced = Vec::new();
        for new in types.iter().copied() {
            let Some((old, other)) = uploaded.current.get(new.name) else {
                continue;
            };
            if std::ptr::eq(*old, new) {
                continue;
            }
            if !replace {
                return Err(format!(
                    "the type {} is there already, from module {}, which has {} objects: `crucial push --replace` \
                     moves them to the new version; or remove that module first",
                    new.name,
                    hex(&other.id()),
                    other.objects(),
                ));
            }
            replaced.push((*old, new));
        }
        Ok(replaced)
    }

    /// The types of a module.
    pub fn of_module(&self, id: &ModuleId) -> Vec<&'static TypeInfo> {
        let uploaded = self.0.read();
        let module = uploaded.find(id);
        module.map_or_else(Vec::new, |module| module.types().to_vec())
    }

    /// New objects are of the types that the order gives from now on.
    pub fn apply(&self, order: &Order) {
        self.0.write().apply(order);
    }

    /// The same, if no object of the module lives.
    ///
    /// # Errors
    ///
    /// The reason, if one does.
    pub fn retire(&self, id: &ModuleId, order: &Order) -> std::result::Result<(), String> {
        let mut uploaded = self.0.write();
        match uploaded.find(id).map_or(0, |module| module.objects()) {
            0 => {
                uploaded.apply(order);
                Ok(())
            }
            objects => Err(format!(
                "{objects} objects of its types live: delete them first"
            )),
        }
    }

    /// The modules that an object is of, or a new one would be.
    pub fn modules(&self) -> Vec<ModuleInfo> {
        let uploaded = self.0.read();
        let used = uploaded
            .retained
            .iter()
            .filter(|module| uploaded.uses(module));
        used.map(|module| module.describe()).collect()
    }

    /// The description of a module.
    pub fn describe(&self, id: &ModuleId) -> Option<ModuleInfo> {
        self.0.read().find(id).map(|module| module.describe())
    }

    /// Whether new objects are of some of its types.
    pub fn has_current(&self, id: &ModuleId) -> bool {
        self.0.read().has_current(id)
    }
}

/// An id as people write it.
pub(crate) fn hex(id: &ModuleId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
