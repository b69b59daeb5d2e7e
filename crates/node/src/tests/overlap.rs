//! Two things that go wrong at once, for one partition: each of these hung, or gave what was old for new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crucial_object::{ObjectId, Sequence, SessionId};

use crate::cell::CallId;
use crate::replication::placement::wanted;
use crate::replication::{
    Action, Assignment, Configuration, Entry, Epoch, Incarnation, Lacks, Member, Message, NodeId,
    Partition, PartitionId, Timing, View, ViewVersion,
};

const ME: NodeId = NodeId(1);
const OBJECT: ObjectId = ObjectId([3; 16]);

/// A partition whose primary placement wants to be this node, and then the second and the third.
const PARTITIONS: usize = 256;

/// The receiver of a stream has everything up to this entry.
pub fn accepted(epoch: Epoch, upto: u64) -> Message {
    let lacks = Lacks::default();
    Message::Accepted { epoch, upto, lacks }
}

pub fn members(nodes: &[u64]) -> BTreeMap<NodeId, Member> {
    let member = |node: &u64| {
        let member = Member {
            incarnation: Incarnation(1),
            address: node.to_string(),
            leaving: false,
        };
        (NodeId(*node), member)
    };
    nodes.iter().map(member).collect()
}

fn in_order(nodes: &[u64]) -> PartitionId {
    let mut view = View::new(PARTITIONS);
    view.members = members(nodes);
    let order: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
    let is_it = |id: &PartitionId| {
        let wanted = wanted(*id, &view, 3).into_iter();
        wanted.map(|assignment| assignment.node).eq(order.clone())
    };
    view.partitions().find(is_it).expect("one of 256")
}

/// A node's part in a partition, and what it has decided.
pub struct Part {
    pub id: PartitionId,
    pub partition: Partition<&'static str>,
    pub actions: Vec<Action<&'static str>>,
    pub now: u64,
}

impl Part {
    fn new(nodes: &[u64]) -> Part {
        Part::with(nodes, Timing::default())
    }

    /// A node has sent a digest by which it is like the primary.
    pub fn compare(&mut self, node: NodeId) {
        let nothing = BTreeSet::new();
        let all = (nothing.clone(), &nothing);
        self.partition
            .compare(node, all, self.now, &mut self.actions);
    }

    /// In this order placement wants the nodes.
    pub fn with(nodes: &[u64], timing: Timing) -> Part {
        let id = in_order(nodes);
        let me = (ME, Incarnation(1));
        Part {
            id,
            partition: Partition::new(id, me, (3, timing), Arc::default()),
            actions: Vec::new(),
            now: 0,
        }
    }

    /// A view of these members, with these nodes assigned: each has the rank of its place.
    pub fn view(&self, version: u64, nodes: &[u64], assigned: &[(u8, u64)]) -> View {
        let mut view = View::new(PARTITIONS);
        view.version = ViewVersion(version);
        view.members = members(nodes);
        let assignment = |(rank, node): &(u8, u64)| Assignment {
            rank: *rank,
            node: NodeId(*node),
        };
        view.configurations[self.id.index()] = Arc::new(Configuration {
            epoch: Epoch(version),
            since: ViewVersion(1),
            assignments: assigned.iter().map(assignment).collect(),
            ..Configuration::default()
        });
        view
    }

    fn set(view: &mut View, id: PartitionId, change: impl FnOnce(&mut Configuration)) {
        change(Arc::make_mut(&mut view.configurations[id.index()]));
    }

    pub fn take(&mut self, view: &View) {
        self.partition.on_view(view, self.now, &mut self.actions);
    }

    pub fn receive(&mut self, from: u64, message: Message) {
        let (now, actions) = (self.now, &mut self.actions);
        self.partition.receive(NodeId(from), message, now, actions);
    }

    /// An object is deleted, and the answer to that waits for whoever has to know.
    fn delete(&mut self, answer: &'static str) {
        let change = self.partition.delete((OBJECT, 3), None, Vec::new());
        self.partition
            .answer_after(change, answer, &mut self.actions);
        self.partition.issue(self.now, &mut self.actions);
    }

    pub fn has_released(&self, answer: &str) -> bool {
        let mut actions = self.actions.iter();
        actions.any(|action| matches!(action, Action::Release(released) if *released == answer))
    }

    /// The ranks below which objects are lost.
    fn lost(&self) -> Vec<u8> {
        let lost = self.actions.iter().filter_map(|action| match action {
            Action::Lose(rank) => Some(*rank),
            _ => None,
        });
        lost.collect()
    }

    fn is_cleared(&self) -> bool {
        self.actions
            .iter()
            .any(|action| matches!(action, Action::Clear))
    }
}

/// Whether an answer waits for no node without an assignment. The stream of a node that has lost its assignment ends, and
/// its next one has numbers of its own.
fn waits_for_no_former_backup() -> bool {
    let mut part = Part::new(&[1, 2, 3]);
    let assigned = [(0, 1), (1, 2), (2, 3)];
    let first = part.view(1, &[1, 2, 3], &assigned);
    part.take(&first);
    for node in [2, 3] {
        part.compare(NodeId(node));
    }
    for _ in 0..20 {
        part.delete("acknowledged by both");
    }
    for node in [2, 3] {
        let epoch = Epoch(1);
        part.receive(node, accepted(epoch, 21));
    }
    assert!(part.has_released("acknowledged by both"));
    part.delete("acknowledged by the third");
    // The second was silent for too long. It joins again at once, and acknowledges nothing of that either.
    let second = part.view(2, &[1, 2, 3], &[(0, 1), (2, 3)]);
    part.take(&second);
    assert!(!part.has_released("acknowledged by the third"));
    let epoch = Epoch(2);
    part.receive(3, accepted(epoch, 100));
    part.has_released("acknowledged by the third")
}

/// Whether an answer that waits for a joining node does not wait for its return.
fn waits_for_no_former_joiner() -> bool {
    let mut part = Part::new(&[1, 2]);
    let alone = part.view(1, &[1], &[(0, 1)]);
    part.take(&alone);
    let mut both = alone.clone();
    both.version = ViewVersion(2);
    both.members = members(&[1, 2]);
    part.take(&both);
    let (now, actions) = (part.now, &mut part.actions);
    part.partition.copy_list(Vec::new(), now, actions);
    part.delete("the joining node has everything, and has to know");
    assert!(!part.has_released("the joining node has everything, and has to know"));
    let mut gone = alone.clone();
    gone.version = ViewVersion(3);
    part.take(&gone);
    part.has_released("the joining node has everything, and has to know")
}

#[test]
fn an_answer_waits_for_nobody_without_a_part_in_the_partition() {
    assert!(waits_for_no_former_backup());
    assert!(waits_for_no_former_joiner());
}

/// How often a node is asked to join that cannot be reached, in a minute.
fn joins_in_a_minute() -> (Part, View) {
    const TICK_MS: u64 = 20;
    let mut part = Part::new(&[1, 2]);
    let view = part.view(1, &[1, 2], &[(0, 1)]);
    part.take(&view);
    for _ in 0..60_000 / TICK_MS {
        part.now += TICK_MS;
        if part.actions.iter().any(|a| matches!(a, Action::List)) {
            let (now, actions) = (part.now, &mut part.actions);
            actions.retain(|action| !matches!(action, Action::List));
            part.partition.copy_list(Vec::new(), now, actions);
        }
        part.partition.tick(&view, part.now, &mut part.actions);
    }
    (part, view)
}

#[test]
fn a_node_that_cannot_be_reached_is_not_asked_to_join_all_the_time() {
    let (mut part, view) = joins_in_a_minute();
    let joins = part.partition.joins();
    assert!((2..=8).contains(&joins), "{joins} joins in a minute");
    // Its first acknowledgement ends that.
    part.now += 60_000;
    part.partition.tick(&view, part.now, &mut part.actions);
    let epoch = Epoch(1);
    let upto = 1_000_000;
    let (now, actions) = (part.now, &mut part.actions);
    part.partition.copy_list(Vec::new(), now, actions);
    part.receive(2, accepted(epoch, upto));
    part.partition.tick(&view, part.now, &mut part.actions);
    let mut proposals = part.actions.iter();
    assert!(proposals.any(|action| matches!(action, Action::Propose(_))));
}

/// The ranks below which objects are lost at a new primary that was told this rank, and was assigned the other one. A
/// backup was on its way to a lower rank, say, and the primary gave that up: it did not wait any more for the backup to
/// have the changes of objects that are below its assignment's rank.
fn lost_at((told_rank, promoted_from): (u8, u8)) -> Vec<u8> {
    let told = |part: &mut Part, rank: u8| {
        part.receive(
            2,
            Message::Stream {
                epoch: Epoch(1),
                base: 1,
                first: 1,
                entries: vec![Entry::Reset { rank }],
            },
        );
    };
    let mut part = Part::new(&[1]);
    told(&mut part, told_rank);
    let mut view = part.view(2, &[1], &[(0, 1)]);
    Part::set(&mut view, part.id, |configuration| {
        configuration.since = ViewVersion(2);
        configuration.promoted_from = promoted_from;
    });
    part.take(&view);
    part.lost()
}

#[test]
fn a_new_primary_lacks_what_its_assignment_did_not_cover_whatever_it_was_told() {
    assert_eq!(lost_at((1, 2)), [2]);
    assert_eq!(lost_at((2, 2)), [2]);
    assert_eq!(lost_at((0, 0)), []);
}

/// Schedules in which these show are so rare that the simulation does not find them.
#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_are_found() {
    use crate::replication::Mutant;

    Mutant::plant(Some(Mutant::StaleNeeds));
    assert!(!waits_for_no_former_backup());
    Mutant::plant(Some(Mutant::NoReleaseAfterJoin));
    assert!(!waits_for_no_former_joiner());
    Mutant::plant(Some(Mutant::JoinsAtOnce));
    assert!(joins_in_a_minute().0.partition.joins() > 8);
    Mutant::plant(Some(Mutant::KeepsOutdated));
    let mut part = Part::new(&[1]);
    let before = part.view(1, &[1], &[(0, 1)]);
    part.take(&before);
    let mut after = part.view(5, &[1], &[(0, 1)]);
    Part::set(&mut after, part.id, |configuration| {
        configuration.since = ViewVersion(5);
        configuration.emptied = Epoch(5);
    });
    part.take(&after);
    assert!(!part.is_cleared());
    Mutant::plant(Some(Mutant::BelievesOwnRank));
    assert_eq!(lost_at((1, 2)), [1]);
    Mutant::plant(None);
}

/// A node that held the partition before nobody was left missed what others did with it meanwhile.
#[test]
fn a_partition_that_begins_anew_has_nothing_from_before() {
    let mut part = Part::new(&[1]);
    let before = part.view(1, &[1], &[(0, 1)]);
    part.take(&before);
    part.actions.clear();
    // In between it lost its assignment, and the one that had it died: this node missed those views.
    let mut after = part.view(5, &[1], &[(0, 1)]);
    Part::set(&mut after, part.id, |configuration| {
        configuration.since = ViewVersion(5);
        configuration.emptied = Epoch(5);
        configuration.amnesic_since = ViewVersion(5);
    });
    part.take(&after);
    assert!(part.is_cleared());
    assert!(part.partition.is_amnesic());
    assert_eq!(part.lost(), []);

    // What it has from the new beginning is the newest.
    part.actions.clear();
    let mut later = part.view(6, &[1, 2], &[(0, 1)]);
    Part::set(&mut later, part.id, |configuration| {
        configuration.since = ViewVersion(5);
        configuration.emptied = Epoch(5);
    });
    part.take(&later);
    assert!(!part.is_cleared());
    assert!(!part.partition.is_amnesic());
}

/// What one message carries is bounded in bytes, and its first entry goes whatever its size: nothing is stuck.
#[test]
fn large_changes_go_in_several_messages() {
    const LARGE: usize = 3 << 20;
    let mut part = Part::new(&[1, 2]);
    let view = part.view(1, &[1, 2], &[(0, 1), (1, 2)]);
    part.take(&view);
    part.compare(NodeId(2));
    part.actions.clear();
    let call = |sequence| CallId {
        session: SessionId(1),
        sequence: Sequence(sequence),
    };
    // The tombstones of a deleted object's calls are what is large here.
    let calls: Vec<CallId> = (0..(LARGE / size_of::<CallId>()) as u64)
        .map(call)
        .collect();
    for _ in 0..6 {
        part.partition.delete((OBJECT, 3), None, calls.clone());
    }
    part.partition.issue(part.now, &mut part.actions);
    let sizes = part.actions.iter().filter_map(|action| match action {
        Action::Send(_, message) => Some(message.size()),
        _ => None,
    });
    let sizes: Vec<usize> = sizes.collect();
    assert_eq!(sizes.len(), 6, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size < 2 * LARGE), "{sizes:?}");
}
