//! Finds an object by its id.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crucial_cluster::PartitionId;
use crucial_object::ObjectId;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::RwLock;

use crate::slot::Slot;

/// Objects by their ids. It holds just the references, as there may be millions.
#[derive(Default)]
pub(crate) struct Slots(HashTable<Arc<Slot>>);

/// Ids are SHA-256 output, so a part of one is a hash. Not the first part: that is alike within a shard.
fn hash(id: &ObjectId) -> u64 {
    let mut part = [0; 8];
    part.copy_from_slice(&id.0[8..]);
    u64::from_le_bytes(part)
}

impl Slots {
    pub fn find(&self, id: &ObjectId) -> Option<&Arc<Slot>> {
        self.0.find(hash(id), |slot| slot.id == *id)
    }

    /// Puts `slot` in; gives the one whose place it takes.
    pub fn replace(&mut self, slot: Arc<Slot>) -> Option<Arc<Slot>> {
        let id = slot.id;
        let entry = self
            .0
            .entry(hash(&id), |other| other.id == id, |other| hash(&other.id));
        match entry {
            Entry::Occupied(mut place) => Some(std::mem::replace(place.get_mut(), slot)),
            Entry::Vacant(place) => {
                place.insert(slot);
                None
            }
        }
    }

    pub fn remove(&mut self, id: &ObjectId) -> Option<Arc<Slot>> {
        let place = self.0.find_entry(hash(id), |slot| slot.id == *id).ok()?;
        Some(place.remove().0)
    }

    /// Holds of `id` what `table` holds: the object of that id, or none. Whoever changes the table says so
    /// afterwards here, so that the last to say it leaves both alike, however creations and deletions of
    /// one id overtake each other.
    pub fn follow(&mut self, id: ObjectId, table: &Table) {
        match table.find(&id) {
            Some(slot) => drop(self.replace(slot)),
            None => drop(self.remove(&id)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.0.iter()
    }
}

const SHARDS: usize = 64;

/// All objects of a server. Its locks are held for one look-up each.
pub(crate) struct Table {
    shards: Vec<RwLock<Slots>>,
    len: AtomicUsize,
}

impl Table {
    pub fn new() -> Table {
        Table {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            len: AtomicUsize::new(0),
        }
    }

    fn shard(&self, id: &ObjectId) -> &RwLock<Slots> {
        // By the first bits, as partitions are, so that a partition is in one shard.
        &self.shards[(usize::from(id.0[0]) * SHARDS) >> u8::BITS]
    }

    pub fn find(&self, id: &ObjectId) -> Option<Arc<Slot>> {
        self.shard(id).read().find(id).cloned()
    }

    /// Puts `slot` into the table unless there is one of that id; whether it did.
    pub fn insert(&self, slot: Arc<Slot>) -> bool {
        let mut shard = self.shard(&slot.id).write();
        if shard.find(&slot.id).is_some() {
            return false;
        }
        shard.replace(slot);
        self.len.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Puts `slot` into the table; gives the one whose place it takes.
    pub fn replace(&self, slot: Arc<Slot>) -> Option<Arc<Slot>> {
        let previous = self.shard(&slot.id).write().replace(slot);
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

    /// The place of an object, which is made if there is none.
    pub fn find_or_absent(&self, id: &ObjectId) -> Arc<Slot> {
        if let Some(slot) = self.find(id) {
            return slot;
        }
        let mut shard = self.shard(id).write();
        if let Some(slot) = shard.find(id) {
            return slot.clone();
        }
        let slot = Slot::absent(*id);
        shard.replace(slot.clone());
        self.len.fetch_add(1, Ordering::Relaxed);
        slot
    }

    /// Takes just this place out of the table.
    pub fn forget(&self, slot: &Arc<Slot>) {
        let mut shard = self.shard(&slot.id).write();
        if shard
            .find(&slot.id)
            .is_some_and(|other| Arc::ptr_eq(slot, other))
        {
            shard.remove(&slot.id);
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The objects of a partition, of so many.
    pub fn of_partition(&self, id: PartitionId, partitions: usize) -> Vec<Arc<Slot>> {
        // A partition begins in one shard, and ends in the same one or, where there are few, in a later one.
        let first = id.index() * SHARDS / partitions;
        let last = ((id.index() + 1) * SHARDS).div_ceil(partitions);
        let of = |shard: &RwLock<Slots>| -> Vec<_> {
            let shard = shard.read();
            let mine = |slot: &&Arc<Slot>| PartitionId::of(&slot.id, partitions) == id;
            shard.iter().filter(mine).cloned().collect()
        };
        self.shards[first..last].iter().flat_map(of).collect()
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<Slot>> {
        let of = |shard: &RwLock<Slots>| -> Vec<_> { shard.read().iter().cloned().collect() };
        self.shards.iter().flat_map(of).collect()
    }

    /// The objects of a type.
    pub fn of_type(&self, name: &str) -> Vec<Arc<Slot>> {
        let of = |shard: &RwLock<Slots>| -> Vec<_> {
            let shard = shard.read();
            shard
                .iter()
                .filter(|slot| slot.may_be_of(name))
                .cloned()
                .collect()
        };
        self.shards.iter().flat_map(of).collect()
    }

    /// The completion records of all objects.
    pub fn records(&self) -> usize {
        let of = |shard: &RwLock<Slots>| -> usize {
            shard.read().iter().map(|slot| slot.records()).sum()
        };
        self.shards.iter().map(of).sum()
    }

    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}
