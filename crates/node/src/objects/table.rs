//! Finds an object's entry by its id.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crucial_object::ObjectId;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::entry::ObjectEntry;
use crate::replication::PartitionId;
use crate::sync::{AtomicUsize, LockMutant, RwLock};

/// Entries by their ids. A set holds just the references, as there may be millions.
#[derive(Default)]
pub(crate) struct EntrySet(HashTable<Arc<ObjectEntry>>);

/// Ids are SHA-256 output, so a part of one is a hash. The first part is not used, since it is alike within a shard.
fn hash(id: &ObjectId) -> u64 {
    let mut part = [0; 8];
    part.copy_from_slice(&id.0[8..]);
    u64::from_le_bytes(part)
}

impl EntrySet {
    pub fn find(&self, id: &ObjectId) -> Option<&Arc<ObjectEntry>> {
        self.0.find(hash(id), |entry| entry.id == *id)
    }

    /// Inserts an entry, in place of one of the same id.
    pub fn insert(&mut self, entry: Arc<ObjectEntry>) {
        let id = entry.id;
        let place = self
            .0
            .entry(hash(&id), |other| other.id == id, |other| hash(&other.id));
        match place {
            Entry::Occupied(mut place) => *place.get_mut() = entry,
            Entry::Vacant(place) => drop(place.insert(entry)),
        }
    }

    pub fn remove(&mut self, id: &ObjectId) -> Option<Arc<ObjectEntry>> {
        let place = self.0.find_entry(hash(id), |entry| entry.id == *id).ok()?;
        Some(place.remove().0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<ObjectEntry>> {
        self.0.iter()
    }

    /// The ids, in rising order, so that a run of the simulation is the same each time.
    pub fn ids(&self) -> Vec<ObjectId> {
        let mut ids: Vec<_> = self.iter().map(|entry| entry.id).collect();
        ids.sort_unstable();
        ids
    }
}

const SHARDS: usize = 64;

/// All objects of a server. Its locks are held for one look-up each.
pub(crate) struct ObjectTable {
    shards: Vec<RwLock<EntrySet>>,
    len: AtomicUsize,
    partitions: usize,
}

impl ObjectTable {
    pub fn new(partitions: usize) -> ObjectTable {
        ObjectTable {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            len: AtomicUsize::new(0),
            partitions,
        }
    }

    fn shard(&self, id: &ObjectId) -> &RwLock<EntrySet> {
        // By the first bits, as partitions are, so that a partition is in one shard.
        &self.shards[(usize::from(id.0[0]) * SHARDS) >> u8::BITS]
    }

    pub fn find(&self, id: &ObjectId) -> Option<Arc<ObjectEntry>> {
        self.shard(id).read().find(id).cloned()
    }

    /// The entry of an object, which is made if it is missing.
    pub fn find_or_insert(&self, id: &ObjectId) -> Arc<ObjectEntry> {
        if let Some(entry) = self.find(id) {
            return entry;
        }
        let mut shard = self.shard(id).write();
        let second = shard.find(id);
        if let Some(entry) = second.filter(|_| !LockMutant::NoSecondLook.is_planted()) {
            return entry.clone();
        }
        let entry = ObjectEntry::absent(*id);
        shard.insert(entry.clone());
        self.len.fetch_add(1, Ordering::Relaxed);
        entry
    }

    /// Takes just this entry out of the table.
    pub fn remove(&self, entry: &Arc<ObjectEntry>) {
        let mut shard = self.shard(&entry.id).write();
        if shard.find(&entry.id).is_some_and(|other| {
            Arc::ptr_eq(entry, other) || LockMutant::RemoveAnyEntry.is_planted()
        }) {
            shard.remove(&entry.id);
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The ids of a partition's objects, in rising order.
    pub fn of_partition(&self, id: PartitionId) -> Vec<ObjectId> {
        // A partition begins in one shard, and ends in the same one or, where there are few partitions, in a later one.
        let first = id.index() * SHARDS / self.partitions;
        let last = ((id.index() + 1) * SHARDS).div_ceil(self.partitions);
        let is_mine = |object: &ObjectId| PartitionId::of(object, self.partitions) == id;
        self.ids_of(first..last, |entry| is_mine(&entry.id))
    }

    /// The ids of all objects, in rising order.
    pub fn all(&self) -> Vec<ObjectId> {
        self.ids_of(0..SHARDS, |_| true)
    }

    /// The ids of the objects that may be of a type, in rising order.
    pub fn of_type(&self, name: &str) -> Vec<ObjectId> {
        self.ids_of(0..SHARDS, |entry| entry.may_be_of(name))
    }

    fn ids_of(
        &self,
        shards: std::ops::Range<usize>,
        is_wanted: impl Fn(&ObjectEntry) -> bool,
    ) -> Vec<ObjectId> {
        let mut ids = Vec::new();
        for shard in &self.shards[shards] {
            let shard = shard.read();
            let wanted = shard.iter().filter(|entry| is_wanted(entry));
            ids.extend(wanted.map(|entry| entry.id));
        }
        ids.sort_unstable();
        ids
    }

    /// The completion records of all objects. An object in somebody's hands counts as if it had none.
    pub fn records(&self) -> usize {
        let of = |shard: &RwLock<EntrySet>| -> usize {
            shard.read().iter().map(|entry| entry.records()).sum()
        };
        self.shards.iter().map(of).sum()
    }

    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}
