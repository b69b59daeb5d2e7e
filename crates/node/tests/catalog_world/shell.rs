//! What a server has around its catalog: a disk, compiled code, objects.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crucial_node::catalog::{Done, ModuleId, Order, StoreError, Work};
use crucial_node::replication::PartitionId;
use crucial_proto::frame::{ModuleInfo, Pushed};
use rand::Rng;

/// A module of the simulation.
#[derive(Clone, Debug)]
pub struct Module {
    pub id: ModuleId,
    pub bytes: Bytes,
    pub types: Vec<u8>,
    /// Whether it can be compiled.
    pub is_valid: bool,
}

/// Stands for the SHA-256 of some bytes.
pub fn hash(bytes: &[u8]) -> ModuleId {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut id = [0; 32];
    id[..8].copy_from_slice(&hash.to_le_bytes());
    id
}

#[derive(Clone, Debug)]
pub struct Object {
    /// The number of the object: while it moves, two servers have it.
    pub number: u64,
    pub partition: PartitionId,
    pub kind: u8,
    pub module: ModuleId,
    /// Whether the object can move to no other code.
    pub is_stubborn: bool,
}

/// What a server has around its catalog. Only the disk outlives a process.
#[derive(Debug, Default)]
pub struct Shell {
    pub disk: BTreeMap<ModuleId, Bytes>,
    pub code: BTreeSet<ModuleId>,
    pub order: Order,
    pub objects: Vec<Object>,
    /// Modules that were ever installed in this process.
    pub installed: BTreeSet<ModuleId>,
}

/// What goes wrong with a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// The disk takes nothing, or has lost what it had.
    Disk,
}

impl Shell {
    pub fn end_process(&mut self) {
        *self = Shell {
            disk: std::mem::take(&mut self.disk),
            ..Shell::default()
        };
    }

    /// The module that a new object of a type is of.
    pub fn module_of(&self, kind: u8, modules: &[Module]) -> Option<ModuleId> {
        self.order.module_of(|id| has_type(modules, id, kind))
    }

    pub fn make_object(&mut self, mut object: Object, modules: &[Module]) {
        if let Some(module) = self.module_of(object.kind, modules) {
            assert!(self.code.contains(&module));
            object.module = module;
            self.objects.push(object);
        }
    }

    /// Takes the objects of a partition, whose primary this server is from now on.
    pub fn take_over(&mut self, partition: PartitionId, modules: &[Module]) {
        let mut objects = std::mem::take(&mut self.objects);
        for object in &mut objects {
            if object.partition == partition
                && !object.is_stubborn
                && let Some(module) = self.module_of(object.kind, modules)
            {
                object.module = module;
            }
        }
        self.objects = objects;
    }

    /// Does some work, at once.
    pub fn execute(&mut self, work: Work, trouble: Trouble, modules: &[Module]) -> Done {
        match work {
            Work::Load { module } => {
                if trouble == Trouble::Disk {
                    self.disk.remove(&module);
                }
                Done::Loaded(self.disk.get(&module).cloned())
            }
            Work::Store { module, bytes } => Done::Stored(if hash(&bytes) != module {
                Err(StoreError::Damaged)
            } else if trouble == Trouble::Disk {
                Err(StoreError::Disk("the disk is full".to_owned()))
            } else {
                self.disk.insert(module, bytes);
                Ok(())
            }),
            Work::Compile { module, bytes } => {
                assert_eq!(hash(&bytes), module, "only verified bytes are compiled");
                let known = find(modules, &module);
                if !known.is_valid {
                    return Done::Compiled(Err("no WebAssembly".to_owned()));
                }
                self.code.insert(module);
                Done::Compiled(Ok(ModuleInfo::unused(module, bytes.len() as u64)))
            }
            Work::Release { module } => {
                self.disk.remove(&module);
                if self.objects.iter().all(|object| object.module != module) {
                    self.code.remove(&module);
                }
                Done::Released
            }
            Work::Prune { keep } => {
                self.disk.retain(|module, _| keep.contains(module));
                Done::Pruned
            }
            Work::Check { module, replace } => {
                Done::Checked(self.check(find(modules, &module), replace, modules))
            }
            Work::Install { module, order } => {
                Done::Installed(Ok(self.install(find(modules, &module), order, modules)))
            }
            Work::Uninstall { order, .. } => {
                self.order = order;
                Done::Uninstalled
            }
            Work::Retire { module, order } => {
                let objects = self.objects.iter();
                let lives = objects.filter(|object| object.module == module).count();
                if lives > 0 {
                    return Done::Retired(Err(format!("{lives} objects live")));
                }
                self.order = order;
                Done::Retired(Ok(()))
            }
            Work::Restore { order, .. } => {
                self.order = order;
                Done::Restored
            }
        }
    }

    fn check(&self, module: &Module, replace: bool, modules: &[Module]) -> Result<bool, String> {
        assert!(self.code.contains(&module.id));
        for kind in &module.types {
            let mut others = self.order.modules.iter().filter(|id| **id != module.id);
            if !replace && others.any(|id| has_type(modules, id, *kind)) {
                return Err(format!("the type {kind} is there already"));
            }
            let stubborn = |object: &Object| {
                object.kind == *kind && object.module != module.id && object.is_stubborn
            };
            if self.objects.iter().any(stubborn) {
                return Err(format!("an object of {kind} cannot move"));
            }
        }
        let mut types = module.types.iter();
        Ok(types.all(|kind| self.module_of(*kind, modules) == Some(module.id)))
    }

    fn install(&mut self, module: &Module, order: Order, modules: &[Module]) -> Pushed {
        assert!(self.code.contains(&module.id), "what is installed has code");
        let types = module.types.iter();
        let before = types.filter_map(|kind| self.module_of(*kind, modules));
        let mut replaced: Vec<_> = before.filter(|id| *id != module.id).collect();
        self.order = order;
        self.installed.insert(module.id);
        let has_type_still = |id: &ModuleId| {
            let types = find(modules, id).types.iter();
            types
                .map(|kind| self.module_of(*kind, modules))
                .any(|of| of == Some(*id))
        };
        replaced.retain(|id| !has_type_still(id));
        replaced.sort_unstable();
        replaced.dedup();
        let mut pushed = Pushed::of(ModuleInfo::unused(module.id, module.bytes.len() as u64));
        pushed.replaced = replaced;
        for object in &mut self.objects {
            let is_old = module.types.contains(&object.kind) && object.module != module.id;
            if is_old && object.is_stubborn {
                pushed.left += 1;
            } else if is_old {
                object.module = module.id;
                pushed.moved += 1;
            }
        }
        pushed
    }
}

pub fn find<'m>(modules: &'m [Module], id: &ModuleId) -> &'m Module {
    let known = modules.iter().find(|module| module.id == *id);
    known.expect("a module of this simulation")
}

pub fn has_type(modules: &[Module], id: &ModuleId, kind: u8) -> bool {
    find(modules, id).types.contains(&kind)
}

/// Types of objects.
pub const TYPES: u8 = 4;

/// The modules that clients push.
pub fn some_modules(random: &mut impl Rng) -> Vec<Module> {
    let module = |number: u8| {
        let length = random.random_range(1..=60);
        let mut bytes = vec![number; length];
        bytes[0] = number;
        let first = random.random_range(0..TYPES);
        let mut types = vec![first];
        if random.random_ratio(40, 100) {
            types.push((first + 1) % TYPES);
        }
        Module {
            id: hash(&bytes),
            bytes: bytes.into(),
            types,
            is_valid: !random.random_ratio(12, 100),
        }
    };
    (0..5).map(module).collect()
}
