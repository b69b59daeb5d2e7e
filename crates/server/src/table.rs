//! Finds an object by its id.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crucial_object::ObjectId;
use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::slot::Slot;

/// Ids are SHA-256 output, so a part of one is a hash.
type Map = HashMap<ObjectId, Arc<Slot>, foldhash::fast::RandomState>;

const SHARDS: usize = 64;

/// All objects of a server. Its locks are held for one look-up each.
pub(crate) struct Table {
    shards: Vec<RwLock<Map>>,
    len: AtomicUsize,
}

impl Table {
    pub fn new() -> Table {
        Table {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            len: AtomicUsize::new(0),
        }
    }

    fn shard(&self, id: &ObjectId) -> &RwLock<Map> {
        &self.shards[usize::from(id.0[15]) % SHARDS]
    }

    pub fn find(&self, id: &ObjectId) -> Option<Arc<Slot>> {
        self.shard(id).read().get(id).cloned()
    }

    /// Puts `slot` into the table unless there is one of that id; gives the one that is there then.
    pub fn insert(&self, slot: Arc<Slot>) -> Result<(), Arc<Slot>> {
        let mut shard = self.shard(&slot.id).write();
        if let Some(present) = shard.get(&slot.id) {
            return Err(present.clone());
        }
        shard.insert(slot.id, slot);
        self.len.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Puts `slot` into the table; gives the one whose place it takes.
    pub fn replace(&self, slot: Arc<Slot>) -> Option<Arc<Slot>> {
        let previous = self.shard(&slot.id).write().insert(slot.id, slot);
        if previous.is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        previous
    }

    pub fn remove(&self, id: &ObjectId) -> Option<Arc<Slot>> {
        let removed = self.shard(id).write().remove(id);
        if removed.is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// The completion records of all objects.
    pub fn records(&self) -> usize {
        let of = |shard: &RwLock<Map>| -> usize {
            shard.read().values().map(|slot| slot.records()).sum()
        };
        self.shards.iter().map(of).sum()
    }

    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}
