//! Finds an object by its id.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crucial_object::ObjectId;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::RwLock;

use crate::slot::Slot;

const SHARDS: usize = 64;

/// All objects of a server. Its locks are held for one look-up each.
pub(crate) struct Table {
    shards: Vec<RwLock<HashTable<Arc<Slot>>>>,
    len: AtomicUsize,
}

/// Ids are SHA-256 output, so a part of one is a hash.
fn hash(id: &ObjectId) -> u64 {
    let mut part = [0; 8];
    part.copy_from_slice(&id.0[..8]);
    u64::from_le_bytes(part)
}

impl Table {
    pub fn new() -> Table {
        Table {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            len: AtomicUsize::new(0),
        }
    }

    fn shard(&self, id: &ObjectId) -> &RwLock<HashTable<Arc<Slot>>> {
        &self.shards[usize::from(id.0[15]) % SHARDS]
    }

    pub fn find(&self, id: &ObjectId) -> Option<Arc<Slot>> {
        let shard = self.shard(id).read();
        shard.find(hash(id), |slot| slot.id == *id).cloned()
    }

    /// Puts `slot` into the table unless there is one of that id; whether it did.
    pub fn insert(&self, slot: Arc<Slot>) -> bool {
        let id = slot.id;
        let mut shard = self.shard(&id).write();
        match shard.entry(hash(&id), |slot| slot.id == id, |slot| hash(&slot.id)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(slot);
                self.len.fetch_add(1, Ordering::Relaxed);
                true
            }
        }
    }

    /// Puts `slot` into the table; gives the one whose place it takes.
    pub fn replace(&self, slot: Arc<Slot>) -> Option<Arc<Slot>> {
        let id = slot.id;
        let mut shard = self.shard(&id).write();
        match shard.entry(hash(&id), |slot| slot.id == id, |slot| hash(&slot.id)) {
            Entry::Occupied(mut place) => Some(std::mem::replace(place.get_mut(), slot)),
            Entry::Vacant(place) => {
                place.insert(slot);
                self.len.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    pub fn remove(&self, id: &ObjectId) -> Option<Arc<Slot>> {
        let mut shard = self.shard(id).write();
        let place = shard.find_entry(hash(id), |slot| slot.id == *id).ok()?;
        let (removed, _) = place.remove();
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(removed)
    }

    /// The completion records of all objects.
    pub fn records(&self) -> usize {
        let of = |shard: &RwLock<HashTable<Arc<Slot>>>| -> usize {
            shard.read().iter().map(|slot| slot.records()).sum()
        };
        self.shards.iter().map(of).sum()
    }

    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}
