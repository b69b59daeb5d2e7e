//! A stream of entries from a primary to one other node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crucial_object::ObjectId;

use super::lacking::Lacking;
use crate::replication::mutant::Mutant;
use crate::replication::{Entry, Epoch, Image, ImageBody, Lacks, NodeId, Replica};

/// The sender's side.
pub(super) struct Outgoing {
    /// The rank of the receiver's assignment; [`UNASSIGNED`] if it has none.
    pub rank: u8,
    /// Whether its acknowledgement is needed.
    pub required: bool,
    /// Not acknowledged; the first is number `base`.
    entries: VecDeque<Entry>,
    /// About how many bytes they take.
    bytes: usize,
    base: u64,
    /// The number of the first that was not sent.
    unsent: u64,
    sent_ms: u64,
    /// When something was heard, or sent after a time in which nothing was to be heard.
    heard_ms: u64,
    was_idle: bool,
    lacking: Lacking,
}

/// Whole objects in one message, which are large.
const INSTALLS_MAX: usize = 8;

/// Bytes in one message, but for its first entry. A message much longer than this would hold up those of all other
/// partitions, and one longer than a frame may be would never arrive.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// Above the rank of every object.
pub(super) const UNASSIGNED: u8 = u8::MAX;

impl Outgoing {
    /// To a node with an assignment.
    pub fn new(rank: u8, now_ms: u64) -> Outgoing {
        Outgoing {
            rank,
            required: rank != UNASSIGNED,
            entries: VecDeque::new(),
            bytes: 0,
            base: 1,
            unsent: 1,
            sent_ms: now_ms,
            heard_ms: now_ms,
            was_idle: false,
            lacking: Lacking::new(now_ms),
        }
    }

    /// Appends an entry; gives its number.
    pub fn push(&mut self, entry: Entry) -> u64 {
        let number = self.last() + 1;
        self.lacking.note(&entry, number);
        self.bytes += entry.size();
        self.entries.push_back(entry);
        number
    }

    /// Appends an object as it is, or a note in place of one that cannot be sent; gives the number of the entry.
    pub fn send(&mut self, object: ObjectId, replica: &Replica, image: Image) -> u64 {
        let is_unsent = replica.is_full() && matches!(image.body, ImageBody::Lost);
        if is_unsent && Mutant::DropsUnencodable.is_planted() {
            return self.push(Entry::Drop {
                object,
                done: None,
                tombstones: Vec::new(),
            });
        }
        let number = self.install(object, image);
        if is_unsent {
            self.lacking.set_unsent(object);
        }
        number
    }

    /// The receiver has everything up to an entry, but for these. Gives what is new of them.
    pub fn set_refused(&mut self, upto: u64, lacks: Lacks) -> Vec<ObjectId> {
        let mut coming = BTreeMap::new();
        if !lacks.objects.is_empty() {
            let numbered = (self.base..).zip(&self.entries);
            for (number, entry) in numbered.filter(|(number, _)| *number > upto) {
                if let Entry::Install { object, .. } = entry {
                    coming.insert(*object, number);
                }
            }
        }
        self.lacking.set_refused(upto, lacks, &coming)
    }

    /// What the receiver does not have though it should.
    pub fn lacking(&self) -> &Lacking {
        &self.lacking
    }

    pub fn lacking_mut(&mut self) -> &mut Lacking {
        &mut self.lacking
    }

    /// Appends an object as it is; gives the number of the entry.
    pub fn install(&mut self, object: ObjectId, image: Image) -> u64 {
        self.push(Entry::Install {
            object,
            image: Box::new(image),
            done: None,
            tombstones: Vec::new(),
        })
    }

    /// The number of the last entry.
    pub fn last(&self) -> u64 {
        self.base + self.entries.len() as u64 - 1
    }

    /// The last that was acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.base - 1
    }

    /// About how many bytes are not acknowledged.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// About how many bytes wait behind the first that is not acknowledged, which may be of any size.
    pub fn backlog(&self) -> usize {
        self.bytes - self.entries.front().map_or(0, Entry::size)
    }

    /// How many are not acknowledged.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn acknowledge(&mut self, upto: u64, now_ms: u64) {
        let count = upto
            .saturating_add(1)
            .saturating_sub(self.base)
            .min(self.entries.len() as u64);
        if count > 0 || self.entries.is_empty() {
            // A receiver that answers, and takes nothing, is of no use.
            self.heard_ms = now_ms;
        }
        if count > 0 {
            // The entry that is first now has not been on its way for longer.
            self.sent_ms = now_ms;
        }
        let acknowledged = self.entries.drain(..count as usize);
        self.bytes -= acknowledged.map(|entry| entry.size()).sum::<usize>();
        self.base += count;
        self.unsent = self.unsent.max(self.base);
        self.was_idle = self.entries.is_empty();
    }

    /// In a new epoch, where the receiver's assignment is of this rank: all that is not acknowledged is sent again.
    pub fn begin_again(&mut self, rank: u8) {
        self.rank = rank;
        self.required = true;
        // The receiver must not take up again what it is not to have any more.
        for entry in &mut self.entries {
            match entry {
                Entry::Rank { rank: told } => *told = rank,
                Entry::Install { image, .. } if image.replicas <= rank => **image = image.stub(),
                _ => {}
            }
        }
        self.bytes = self.entries.iter().map(Entry::size).sum();
        // The receiver may have been on its way to another rank.
        self.push(Entry::Rank { rank });
        if Mutant::NoRepetitionInNewEpoch.is_planted() {
            self.give_up();
        }
        self.unsent = self.base;
    }

    /// Drops all entries that are not acknowledged.
    pub fn give_up(&mut self) {
        self.base += self.entries.len() as u64;
        self.entries.clear();
        self.bytes = 0;
        self.unsent = self.base;
    }

    /// Counts silence from now on: nothing was to be heard before.
    pub fn hear_from(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// Sends again what is not acknowledged.
    pub fn send_again(&mut self) {
        self.unsent = self.base;
    }

    /// Sends again what was sent long ago.
    pub fn repeat(&mut self, now_ms: u64, repeat_ms: u64) {
        let is_due =
            now_ms.saturating_sub(self.sent_ms) >= repeat_ms || Mutant::RepeatsAtOnce.is_planted();
        if self.unsent > self.base && is_due {
            self.unsent = self.base;
        }
    }

    /// The base, and the next entries to be sent with the number of the first.
    pub fn next_batch(&mut self, max: usize, now_ms: u64) -> Option<(u64, u64, Vec<Entry>)> {
        let skip = (self.unsent - self.base) as usize;
        let (mut installs, mut bytes) = (0, 0);
        let fits = |entry: &&Entry| {
            let is_first = bytes == 0;
            installs += usize::from(matches!(entry, Entry::Install { .. }));
            bytes += entry.size();
            is_first || (installs <= INSTALLS_MAX && bytes <= BATCH_BYTES_MAX)
        };
        let entries = self.entries.iter().skip(skip).take(max).take_while(fits);
        let entries: Vec<_> = entries.cloned().collect();
        if entries.is_empty() {
            return None;
        }
        if std::mem::take(&mut self.was_idle) {
            self.heard_ms = now_ms;
        }
        let first = self.unsent;
        self.unsent += entries.len() as u64;
        if first == self.base {
            // Later entries do not put off the repetition of this one.
            self.sent_ms = now_ms;
        }
        Some((self.base, first, entries))
    }

    /// Asserts what must hold of it.
    pub fn check(&self) {
        self.lacking.check(self.last());
        let bytes: usize = self.entries.iter().map(Entry::size).sum();
        assert_eq!(
            self.bytes, bytes,
            "the count of unacknowledged bytes is wrong"
        );
        assert!(
            self.base >= 1 && self.base <= self.unsent,
            "entries were acknowledged that were not sent"
        );
        assert!(
            self.unsent <= self.base + self.entries.len() as u64,
            "entries were sent that there are not"
        );
    }

    /// Whether it should have acknowledged something long ago.
    pub fn is_silent(&self, now_ms: u64, silence_ms: u64) -> bool {
        !self.entries.is_empty() && now_ms.saturating_sub(self.heard_ms) >= silence_ms
    }
}

/// The place of an entry in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPlace {
    /// The primary that sent it.
    pub from: NodeId,
    /// In which epoch.
    pub epoch: Epoch,
    /// Its number.
    pub number: u64,
    /// The rank of the receiver by then.
    pub rank: u8,
}

/// The receiver's side.
pub(super) struct Incoming {
    pub epoch: Epoch,
    /// The number of the entry that is to come; `None` before the first.
    next: Option<u64>,
    /// Entries that bring objects which are not in their places yet.
    installing: BTreeSet<u64>,
}

impl Incoming {
    pub fn new(epoch: Epoch) -> Incoming {
        Incoming {
            epoch,
            next: None,
            installing: BTreeSet::new(),
        }
    }

    /// An entry brings an object, which takes a moment.
    pub fn begin_install(&mut self, number: u64) {
        self.installing.insert(number);
    }

    /// An object is in its place, or cannot be kept. Whether there is more to acknowledge.
    pub fn end_install(&mut self, number: u64) -> bool {
        let was_first = self.installing.first() == Some(&number);
        self.installing.remove(&number);
        was_first
    }

    /// Those of the entries whose turn it is, with their numbers.
    pub fn accept(
        &mut self,
        base: u64,
        first: u64,
        entries: Vec<Entry>,
    ) -> impl Iterator<Item = (u64, Entry)> + use<> {
        // Numbers begin at 1; whatever else comes is no reason to end.
        let (base, first) = (base.max(1), first.max(1));
        let next = self.next.map_or(base, |next| next.max(base));
        let end = first.saturating_add(entries.len() as u64);
        // Behind a gap nothing is accepted: what is in it comes again, and what is behind it as well.
        let skip = if first <= next {
            next - first
        } else {
            end - first
        };
        if first <= next {
            self.next = Some(next.max(end));
        } else {
            self.next = Some(next);
        }
        let numbers = first..;
        numbers.zip(entries).skip(skip as usize)
    }

    /// The last that may be acknowledged.
    pub fn upto(&self) -> Option<u64> {
        let next = self.next?;
        Some(
            self.installing
                .first()
                .map_or(next, |first| next.min(*first))
                - 1,
        )
    }
}
