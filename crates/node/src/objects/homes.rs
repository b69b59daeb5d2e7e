//! Which objects belong to an application run or to a namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use crucial_object::{ObjectId, RunId};

use super::entry::ObjectEntry;
use super::table::EntrySet;
use crate::replication::{Home, Origin};
use crate::sync::Mutex;

/// How many origins of a home are shared. Clients choose the kinds of parameters, and so how many there are.
const ORIGINS_MAX: usize = 1000;

/// The objects of each home, and one [`Origin`] for all objects of a home and type.
#[derive(Default)]
pub(crate) struct Homes {
    runs: Mutex<BTreeMap<RunId, Residents>>,
    namespaces: Mutex<BTreeMap<String, Residents>>,
}

#[derive(Default)]
struct Residents {
    objects: EntrySet,
    origins: BTreeMap<String, Arc<Origin>>,
}

impl Homes {
    fn with<T>(&self, home: &Home, act: impl FnOnce(&mut Residents) -> T) -> T {
        match home {
            Home::Run(run) => act(self.runs.lock().entry(*run).or_default()),
            Home::Namespace(name) => {
                let mut namespaces = self.namespaces.lock();
                match namespaces.get_mut(name) {
                    Some(residents) => act(residents),
                    None => act(namespaces.entry(name.clone()).or_default()),
                }
            }
        }
    }

    /// The one copy of an origin. Objects share it, since there may be millions of one home and type.
    pub fn intern(&self, origin: Origin) -> Arc<Origin> {
        let home = origin.home.clone();
        self.with(&home, |residents| {
            match residents.origins.get(&origin.type_name) {
                Some(known) => known.clone(),
                None if residents.origins.len() >= ORIGINS_MAX => Arc::new(origin),
                None => {
                    let shared = Arc::new(origin);
                    let name = shared.type_name.clone();
                    residents.origins.insert(name, shared.clone());
                    shared
                }
            }
        })
    }

    /// An object is here.
    pub fn insert(&self, home: &Home, entry: &Arc<ObjectEntry>) {
        self.with(home, |residents| residents.objects.insert(entry.clone()));
    }

    /// An object is not here any more.
    pub fn remove(&self, home: &Home, id: &ObjectId) {
        match home {
            Home::Run(run) => {
                if let Some(residents) = self.runs.lock().get_mut(run) {
                    residents.objects.remove(id);
                }
            }
            Home::Namespace(name) => {
                if let Some(residents) = self.namespaces.lock().get_mut(name) {
                    residents.objects.remove(id);
                }
            }
        }
        self.prune(home);
    }

    /// An object was not made after all: a home without objects is forgotten.
    pub fn prune(&self, home: &Home) {
        match home {
            Home::Run(run) => {
                let mut runs = self.runs.lock();
                if runs.get(run).is_some_and(Residents::is_empty) {
                    runs.remove(run);
                }
            }
            Home::Namespace(name) => {
                let mut namespaces = self.namespaces.lock();
                if namespaces.get(name).is_some_and(Residents::is_empty) {
                    namespaces.remove(name);
                }
            }
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.runs.lock().len() + self.namespaces.lock().len()
    }

    /// The objects of a run, in the order of their ids.
    pub fn of_run(&self, run: &RunId) -> Vec<ObjectId> {
        let runs = self.runs.lock();
        runs.get(run)
            .map_or_else(Vec::new, |residents| residents.objects.ids())
    }

    /// The objects of a namespace, in the order of their ids.
    pub fn of_namespace(&self, name: &str) -> Vec<ObjectId> {
        let namespaces = self.namespaces.lock();
        let residents = namespaces.get(name);
        residents.map_or_else(Vec::new, |residents| residents.objects.ids())
    }

    /// Forgets all homes: this server has lost its objects.
    pub fn clear(&self) {
        self.runs.lock().clear();
        self.namespaces.lock().clear();
    }
}

impl Residents {
    fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}
