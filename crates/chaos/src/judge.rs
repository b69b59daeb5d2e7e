//! Which objects may be lost when faults overlap, and which not.
//!
//! Time is cut into **episodes**: one begins when the cluster is whole, has some faults, and ends when the cluster is whole
//! again. A server is **unreliable** in an episode if a fault was injected into it, if it left, or if it is another
//! incarnation at the end: then it may have lost what it held, or may have been removed from partitions because it was not
//! reached.
//!
//! An object may be lost in an episode only if all servers that had a replica of it at the episode's begin were unreliable
//! in it. A server that joins can take the place of a replica, so if one joined and was unreliable as well, or a disk was
//! wiped, the judge only demands as many unreliable servers as the object had replicas. The judge does not know in which
//! order the faults of an episode came, nor whether a replica was restored between two of them: it may allow a loss that
//! should not have been. It never allows a wrong or empty value: clients check values, whatever the judge says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crucial_object::ObjectId;
use crucial_proto::frame::ClusterInfo;
use crucial_testing::{Error, Result};

/// The number of an episode.
pub type EpisodeNumber = usize;

/// What was known while the cluster was whole.
#[derive(Clone, Debug, Default)]
struct Placement {
    /// By address: the server's number and incarnation.
    members: BTreeMap<String, (u64, u64)>,
    /// For each partition the ranks and addresses of its servers.
    partitions: Vec<Vec<(u8, String)>>,
}

/// The time between two moments at which the cluster was whole.
#[derive(Clone, Debug, Default)]
struct Episode {
    before: Placement,
    /// Servers that faults were injected into, that left or were begun.
    touched: BTreeSet<String>,
    /// Whether a server's disk was wiped.
    is_wiped: bool,
    after: Option<Placement>,
}

/// A loss that a client has seen. Losses of one partition are the same to the judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Loss {
    partition: usize,
    replicas: u8,
    /// When the object was certainly there.
    since: EpisodeNumber,
    /// When the loss was seen.
    until: EpisodeNumber,
}

#[derive(Debug, Default)]
struct State {
    episodes: Vec<Episode>,
    /// Losses that are not judged yet, each with the name of one object and the number of objects.
    pending: BTreeMap<Loss, (String, u64)>,
    allowed: u64,
    /// Servers that became another incarnation in an episode without a fault of theirs.
    surprises: u64,
}

/// Knows the episodes, and judges losses when the episode in which they were seen has ended.
#[derive(Debug)]
pub struct Judge {
    state: Mutex<State>,
}

impl Placement {
    fn of(info: &ClusterInfo) -> Placement {
        let members = info.members.iter();
        let address = |node: u64| {
            let member = info.members.iter().find(|member| member.node == node);
            member.map_or_else(String::new, |member| member.address.clone())
        };
        let partitions = info.partitions.iter().map(|partition| {
            let servers = partition.assignments.iter();
            servers
                .map(|(rank, node)| (*rank, address(*node)))
                .collect()
        });
        Placement {
            members: members
                .map(|m| (m.address.clone(), (m.node, m.incarnation)))
                .collect(),
            partitions: partitions.collect(),
        }
    }
}

impl Episode {
    /// Servers that are another incarnation, or gone.
    fn changed(&self) -> BTreeSet<&String> {
        let after = self.after.as_ref();
        let members = self.before.members.iter();
        members
            .filter(|(address, member)| {
                after.is_some_and(|after| after.members.get(*address) != Some(*member))
            })
            .map(|(address, _)| address)
            .collect()
    }

    /// Whether an object of a partition may have been lost.
    fn may_lose(&self, partition: usize, replicas: u8) -> bool {
        let mut unreliable = self.changed();
        unreliable.extend(&self.touched);
        let is_new = |address: &String| !self.before.members.contains_key(address);
        let moved = self.is_wiped || self.touched.iter().any(is_new);
        let servers = self.before.partitions.get(partition).into_iter().flatten();
        let mut holders = servers.filter(|(rank, _)| *rank < replicas).peekable();
        match moved || holders.peek().is_none() {
            true => unreliable.len() >= usize::from(replicas),
            false => holders.all(|(_, address)| unreliable.contains(address)),
        }
    }
}

impl Judge {
    /// Begins the first episode.
    pub fn new(whole: &ClusterInfo) -> Judge {
        let mut state = State::default();
        state.begin(whole);
        Judge {
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present episode.
    pub fn now(&self) -> EpisodeNumber {
        self.state().episodes.len() - 1
    }

    /// A fault is injected into a server, or it leaves or is started.
    pub fn touch(&self, address: &str) {
        self.state().last().touched.insert(address.to_owned());
    }

    /// A server's disk is wiped.
    pub fn wipe(&self) {
        self.state().last().is_wiped = true;
    }

    /// A client was told that an object is lost, which was certainly there in the episode `since`. Is judged when the
    /// present episode ends.
    pub fn record_loss(&self, name: &str, object: &ObjectId, replicas: u8, since: EpisodeNumber) {
        let mut state = self.state();
        let partitions = state.last().before.partitions.len();
        let loss = Loss {
            partition: partition(object, partitions),
            replicas,
            since,
            until: state.episodes.len() - 1,
        };
        let pending = state.pending.entry(loss).or_insert((name.to_owned(), 0));
        pending.1 += 1;
    }

    /// The cluster is whole: ends the episode, judges its losses, and begins the next. Gives a line about the losses of
    /// each partition.
    ///
    /// # Errors
    ///
    /// If an object is lost that must not be.
    pub fn end_episode(&self, whole: &ClusterInfo) -> Result<Vec<String>> {
        let mut state = self.state();
        state.last().after = Some(Placement::of(whole));
        let last = state.last();
        let changed = last.changed();
        let surprises = changed
            .into_iter()
            .filter(|a| !last.touched.contains(*a))
            .count();
        state.surprises += surprises as u64;
        let mut lines = Vec::new();
        for (loss, (name, count)) in std::mem::take(&mut state.pending) {
            let episodes = &state.episodes[loss.since..=loss.until];
            let may_lose = |episode: &Episode| episode.may_lose(loss.partition, loss.replicas);
            if !episodes.iter().any(may_lose) {
                return Err(wrong(&loss, &name, count, &state.episodes));
            }
            state.allowed += count;
            lines.push(format!(
                "{name} and {} others of partition {} in episodes {} to {}",
                count - 1,
                loss.partition,
                loss.since,
                loss.until
            ));
        }
        state.begin(whole);
        Ok(lines)
    }

    /// The number of objects that were lost, and may have been.
    pub fn allowed(&self) -> u64 {
        self.state().allowed
    }

    /// How often a server became another incarnation without a fault of its own in the episode: it was too busy, or
    /// another fault reached it.
    pub fn surprises(&self) -> u64 {
        self.state().surprises
    }
}

/// The partition of an object: the first bits of its id.
fn partition(object: &ObjectId, partitions: usize) -> usize {
    let first = u16::from_be_bytes([object.0[0], object.0[1]]);
    usize::from(first) * partitions / (1 << 16)
}

fn wrong(loss: &Loss, name: &str, count: u64, episodes: &[Episode]) -> Error {
    let told = (loss.since..=loss.until).map(|number| {
        let episode = &episodes[number];
        format!(
            "in episode {number} its servers were {:?}, faults were at {:?}, other incarnations {:?}",
            episode.before.partitions.get(loss.partition),
            episode.touched,
            episode.changed()
        )
    });
    let told: Vec<_> = told.collect();
    Error::Wrong(format!(
        "{name} is lost, and {} others of partition {}, with {} replicas: {}",
        count - 1,
        loss.partition,
        loss.replicas,
        told.join("; ")
    ))
}

impl State {
    fn begin(&mut self, whole: &ClusterInfo) {
        self.episodes.push(Episode {
            before: Placement::of(whole),
            ..Episode::default()
        });
    }

    fn last(&mut self) -> &mut Episode {
        let last = self.episodes.last_mut();
        last.expect("`new` has begun one")
    }
}

#[cfg(test)]
mod tests {
    use crucial_proto::frame::{MemberInfo, PartitionInfo};

    use super::*;

    /// Servers a to d in their first incarnations; the only partition is at a, b and c.
    fn whole(incarnations: &[(&str, u64)]) -> ClusterInfo {
        let members = incarnations
            .iter()
            .map(|(address, incarnation)| MemberInfo {
                node: u64::from(address.as_bytes()[0]),
                incarnation: *incarnation,
                address: (*address).to_owned(),
                leaving: false,
            });
        ClusterInfo {
            cluster: 1,
            node: 1,
            view: 1,
            has_lease: true,
            objects: 1,
            leader: None,
            voters: Vec::new(),
            members: members.collect(),
            partitions: vec![PartitionInfo {
                epoch: 1,
                assignments: vec![(0, b'a'.into()), (1, b'b'.into()), (2, b'c'.into())],
                is_settled: true,
                is_amnesic: false,
            }],
        }
    }

    const FIRST: [(&str, u64); 4] = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];

    /// Whether an object of two replicas may be lost in an episode with these faults, and these servers at its end.
    fn may_lose(faults: &[&str], after: &[(&str, u64)]) -> bool {
        let judge = Judge::new(&whole(&FIRST));
        faults.iter().for_each(|address| judge.touch(address));
        judge.record_loss("object", &ObjectId([7; 16]), 2, 0);
        judge.end_episode(&whole(after)).is_ok()
    }

    #[test]
    fn an_object_may_be_lost_only_with_all_of_its_replicas() {
        assert!(!may_lose(&[], &FIRST), "without a fault");
        assert!(!may_lose(&["a"], &FIRST), "its backup had no fault");
        assert!(!may_lose(&["a", "c"], &FIRST), "nor here: c is no replica");
        assert!(!may_lose(&["c", "d"], &FIRST));
        assert!(may_lose(&["a", "b"], &FIRST));
    }

    #[test]
    fn another_incarnation_counts_as_a_fault() {
        let after = [("a", 1), ("b", 2), ("c", 1), ("d", 1)];
        assert!(may_lose(&["a"], &after));
        assert!(!may_lose(&["c"], &after));
        let gone = [("a", 1), ("c", 1), ("d", 1)];
        assert!(may_lose(&["a"], &gone));
    }

    #[test]
    fn a_server_that_joins_and_has_a_fault_makes_it_unknown_where_replicas_were() {
        // The new server may have taken the place of b, and died with a.
        let after = [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)];
        assert!(may_lose(&["a", "e"], &after));
        assert!(!may_lose(&["e"], &after), "one fault loses nothing");
    }

    #[test]
    fn a_loss_is_judged_by_the_episodes_since_the_object_was_there() {
        let judge = Judge::new(&whole(&FIRST));
        judge.touch("a");
        judge.touch("b");
        judge.end_episode(&whole(&FIRST)).expect("nothing is lost");
        // Seen late, but not seen in between.
        judge.record_loss("object", &ObjectId([7; 16]), 2, 0);
        judge.end_episode(&whole(&FIRST)).expect("both died before");
        assert_eq!(judge.allowed(), 1);
        // There after both faults, and lost without any.
        judge.record_loss("object", &ObjectId([7; 16]), 2, 1);
        let error = judge.end_episode(&whole(&FIRST)).expect_err("no fault");
        assert!(error.to_string().contains("object is lost"), "{error}");
    }
}
