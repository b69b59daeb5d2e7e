//! Objects that another server does not have though it should: it cannot keep them, or they could not be sent.

use std::collections::{BTreeMap, BTreeSet};

use crucial_object::ObjectId;

use crate::replication::{Entry, Lacks};

/// What the receiver of a stream does not have though it should. It gets no changes of these objects, does not count for
/// them, and is not made the primary.
pub(super) struct Lacking {
    objects: BTreeMap<ObjectId, Lack>,
    /// The version of the receiver's last list.
    version: u64,
    /// When some were sent again, and how long to wait before the next time.
    tried_ms: u64,
    pause_ms: u64,
}

/// Why an object is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// The receiver cannot keep it: it does not know the type, or has other limits.
    Refused,
    /// The user's code could not encode it, or it is too large.
    Unsent,
    /// The entry of this number brings it.
    Coming(u64),
}

/// How many objects are sent again at once.
const AGAIN_MAX: usize = 8;

impl Lacking {
    pub fn new(now_ms: u64) -> Lacking {
        Lacking {
            objects: BTreeMap::new(),
            version: 0,
            tried_ms: now_ms,
            pause_ms: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether the receiver does not have an object.
    pub fn contains(&self, object: &ObjectId) -> bool {
        self.objects.contains_key(object)
    }

    /// Whether changes of an object are of no use to the receiver.
    pub fn is_without(&self, object: &ObjectId) -> bool {
        match self.objects.get(object) {
            None | Some(Lack::Coming(_)) => false,
            Some(Lack::Refused | Lack::Unsent) => true,
        }
    }

    /// The receiver is to have nothing any more.
    pub fn clear(&mut self) {
        self.objects.clear();
    }

    /// An object could not be sent.
    pub fn set_unsent(&mut self, object: ObjectId) {
        self.objects.insert(object, Lack::Unsent);
    }

    /// The receiver has everything up to an entry, but for these. `coming` has the entries behind that one which bring an
    /// object. Gives what is new of them.
    pub fn set_refused(
        &mut self,
        upto: u64,
        lacks: Lacks,
        coming: &BTreeMap<ObjectId, u64>,
    ) -> Vec<ObjectId> {
        let is_outdated = lacks.version < self.version;
        if is_outdated || self.is_empty() && lacks.objects.is_empty() {
            return Vec::new();
        }
        self.version = lacks.version;
        let said: BTreeSet<_> = lacks.objects.into_iter().collect();
        self.objects.retain(|object, lack| match lack {
            // Changes were not sent meanwhile: only an entry that brings the object anew ends that.
            Lack::Unsent | Lack::Refused => true,
            Lack::Coming(number) => *number > upto || said.contains(object),
        });
        let mut news = Vec::new();
        for object in said {
            match self.objects.get_mut(&object) {
                Some(Lack::Coming(number)) if *number <= upto => {
                    self.objects.insert(object, Lack::Refused);
                }
                Some(_) => {}
                None => {
                    let coming = coming.get(&object).copied();
                    let lack = coming.map_or(Lack::Refused, Lack::Coming);
                    self.objects.insert(object, lack);
                    news.push(object);
                }
            }
        }
        news
    }

    /// An entry follows that may bring an object again, or end it.
    pub fn note(&mut self, entry: &Entry, number: u64) {
        if self.is_empty() {
            return;
        }
        match entry {
            Entry::Install { object, .. } => {
                if let Some(lack) = self.objects.get_mut(object) {
                    *lack = Lack::Coming(number);
                }
            }
            Entry::Drop { object, .. } => {
                self.objects.remove(object);
            }
            Entry::Reset { .. } => self.objects.clear(),
            _ => {}
        }
    }

    /// Some objects to be sent again, if it is time to try: after a pause, which grows.
    pub fn try_again(&mut self, now_ms: u64, (least_ms, most_ms): (u64, u64)) -> Vec<ObjectId> {
        if self.is_empty() {
            self.pause_ms = 0;
            self.tried_ms = now_ms;
            return Vec::new();
        }
        if now_ms.saturating_sub(self.tried_ms) < self.pause_ms.max(least_ms) {
            return Vec::new();
        }
        self.tried_ms = now_ms;
        self.pause_ms = (2 * self.pause_ms).clamp(least_ms, most_ms);
        let objects = self.objects.keys();
        let left = objects.filter(|object| self.is_without(object)).copied();
        left.take(AGAIN_MAX).collect()
    }

    /// Asserts what must hold of it, in a stream with this last entry.
    pub fn check(&self, last: u64) {
        for lack in self.objects.values() {
            if let Lack::Coming(number) = lack {
                assert!(
                    *number <= last,
                    "an object comes with an entry that does not exist"
                );
            }
        }
    }
}
