//! Hash maps whose order depends on a seed that the shell injects: fixed in the simulation, random in production, since
//! clients choose the keys.

use foldhash::fast::FixedState;

pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;
pub(crate) type Set<K> = hashbrown::HashSet<K, FixedState>;

/// Makes maps of one seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashSeed(pub u64);

impl HashSeed {
    pub fn map<K, V>(self) -> Map<K, V> {
        Map::with_hasher(FixedState::with_seed(self.0))
    }

    pub fn set<K>(self) -> Set<K> {
        Set::with_hasher(FixedState::with_seed(self.0))
    }
}
