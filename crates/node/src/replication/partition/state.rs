//! The types of a partition, and what it answers about itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crucial_object::ObjectId;

use super::join::{Join, JoinSlots};
use super::requests::Requests;
use super::stream::{Incoming, Outgoing, StreamPlace, UNASSIGNED};
use crate::cell::CallId;
use crate::replication::control::Command;
use crate::replication::ids::{
    Epoch, Incarnation, NodeId, PartitionId, RoutesVersion, ViewVersion,
};
use crate::replication::message::{Entry, Holding, Message};
use crate::replication::mutant::Mutant;
use crate::replication::view::Assignment;

/// Times, in milliseconds, and bounds.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Interval after which a message without an answer is sent again.
    pub repeat_ms: u64,
    /// A backup that acknowledges nothing for this time loses its assignment.
    pub silence_ms: u64,
    /// Entries on their way to a joining node.
    pub window: usize,
    /// Entries in one message.
    pub batch: usize,
    /// A change goes out when this number of servers have it, or as many as the object has replicas if these are fewer.
    pub min_replicas: u8,
    /// With more bytes of changes on their way, a partition executes nothing more until they have arrived.
    pub unacknowledged_bytes_max: usize,
    /// Nor with more changes than this.
    pub unacknowledged_max: usize,
}

impl Timing {
    /// For servers whose lease lasts this long.
    pub fn of_lease(lease_ms: u64) -> Timing {
        Timing {
            repeat_ms: (lease_ms / 4).max(50),
            silence_ms: lease_ms.saturating_mul(4),
            ..Timing::default()
        }
    }
}

impl Timing {
    /// The shortest and the longest pause before something is tried again that did not work.
    pub(super) fn pauses_ms(&self) -> (u64, u64) {
        (self.silence_ms / 4, 8 * self.silence_ms)
    }
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            repeat_ms: 500,
            silence_ms: 5_000,
            window: 64,
            batch: 256,
            min_replicas: 1,
            unacknowledged_bytes_max: 64 << 20,
            unacknowledged_max: 100_000,
        }
    }
}

/// An action; the server takes them in this order.
#[derive(Debug)]
pub enum Action<R> {
    /// Send it to this node.
    Send(NodeId, Message),
    /// Give it to the control group. It may be lost: it is proposed again.
    Propose(Command),
    /// An entry of a stream came, and is the next for its object: `Apply`, `Install` or `Drop`. What became of an
    /// `Install` is to be told: [`Partition::installed`].
    Follow(StreamPlace, Entry),
    /// A server cannot keep these objects.
    Lacks(NodeId, Vec<ObjectId>),
    /// Forget all objects of the partition.
    Clear,
    /// Objects below this rank go from here.
    Shed(u8),
    /// Objects below this rank are lost: they were elsewhere.
    Lose(u8),
    /// Say what there is, when all entries that came have had their effect: [`Partition::digest`].
    Digest(NodeId),
    /// Bring an assignment to what is here: [`Partition::compare`]. The node holds this, and will say later what it holds of
    /// the other objects.
    Reconcile(NodeId, Vec<Holding>, Vec<ObjectId>),
    /// List the objects of the partition for a join: [`Partition::copy_list`].
    List,
    /// Send these to the joining node: [`Partition::copy`] for each, with it or without; then
    /// [`issue`](Partition::issue).
    Copy(Vec<ObjectId>),
    /// Send this whole to an assignment that has another one: [`Partition::repair`], then [`issue`](Partition::issue).
    Repair(NodeId, ObjectId),
    /// Calls are served from now on.
    Open,
    /// Calls are not served any more.
    Close,
    /// There is room for changes again: what waited is to be admitted.
    Resume,
    /// An answer may go out, if there is a lease.
    Release(R),
}

/// How to treat a request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Execute it.
    Serve,
    /// This is the place, but not yet.
    Wait,
    /// This is not the place, or the client's view is too old.
    Moved,
}

/// A server's part in one partition. Answers are of the type `R`.
pub struct Partition<R> {
    pub(super) id: PartitionId,
    pub(super) me: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) timing: Timing,
    pub(super) replicas_max: u8,
    /// Nothing of an older epoch is taken.
    pub(super) sealed: Epoch,
    /// When a message last raised it above the view, by this node's clock.
    pub(super) sealed_ms: u64,
    /// Of the newest configuration.
    pub(super) configured: Epoch,
    /// Of the newest view, also if that is older than what was sealed.
    pub(super) viewed: Epoch,
    /// Everything above it is here.
    pub(super) rank: Option<u8>,
    /// The rank at which another primary has asked what is here, while this node does not know of that rank. What is
    /// below it is at other nodes from then on.
    pub(super) collected: Option<u8>,
    /// The rank that a primary has told it last, and in which epoch.
    pub(super) told: Option<(Epoch, u8)>,
    pub(super) role: Role<R>,
    /// Creations and deletions that were executed.
    pub(super) done: Requests,
    /// Changes that were issued in this incarnation, as a primary.
    pub(super) issued: u64,
    /// Those of them that all assignments have.
    pub(super) released: u64,
    /// Joins that were begun in this incarnation.
    pub(super) joins: u32,
    /// Whether objects may be gone of which nobody knows.
    pub(super) is_amnesic: bool,
    /// Objects that came and cannot be kept.
    pub(super) lacks: BTreeSet<ObjectId>,
    /// Counts their changes.
    pub(super) lacks_version: u64,
    /// Of all partitions of this server.
    pub(super) join_slots: Arc<JoinSlots>,
}

pub(super) enum Role<R> {
    /// No part, or a backup that has heard nothing yet.
    Idle,
    /// A backup, or a joining node.
    Follower(Incoming),
    Primary(Box<Primary<R>>),
}

/// The state of a primary.
pub(super) struct Primary<R> {
    pub(super) epoch: Epoch,
    pub(super) since: ViewVersion,
    /// The first routes that say so.
    pub(super) known_since: RoutesVersion,
    pub(super) assignments: Vec<Assignment>,
    pub(super) phase: Phase,
    /// Changes in this epoch.
    pub(super) changes: u64,
    /// To the other assignments, and to a joining node.
    pub(super) streams: BTreeMap<NodeId, Outgoing>,
    /// Changes that are not acknowledged by all; the first is number `released + 1`.
    pub(super) pending: VecDeque<Pending<R>>,
    pub(super) join: Option<Join>,
    /// Nodes whose joins came to nothing, and when the next one may begin.
    pub(super) backoff: BTreeMap<NodeId, Backoff>,
    pub(super) proposal: Option<Proposal>,
    /// With this view there is nothing to be planned any more.
    pub(super) planned: ViewVersion,
    /// Too much is on its way: nothing is executed until half of it has arrived.
    pub(super) is_full: bool,
}

/// A pause before a node may join again that has not acknowledged anything.
#[derive(Clone, Copy)]
pub(super) struct Backoff {
    /// Not before this.
    pub until_ms: u64,
    /// The present pause. The next one is twice as long.
    pub pause_ms: u64,
}

pub(super) enum Phase {
    /// The new primary waits for the digests of nodes, and compares.
    Collecting {
        /// The nodes that are not like the primary yet.
        missing: BTreeMap<NodeId, Comparison>,
        asked_ms: u64,
        /// When that began.
        since_ms: u64,
        /// All have sent digests, and what is alike at all of them is served.
        is_open: bool,
    },
    Serving,
    /// The primary has stopped serving, for another one.
    HandingOver,
}

/// How far a node was brought to what the new primary has.
#[derive(Default)]
pub(super) struct Comparison {
    /// The objects that were not compared yet; `None`: it has sent no digest.
    pub(super) left: Option<BTreeSet<ObjectId>>,
    /// Its digest has said of all objects what it holds.
    pub(super) is_whole: bool,
}

impl Comparison {
    pub(super) fn has(&self, object: &ObjectId) -> bool {
        let left = self.left.as_ref();
        left.is_some_and(|left| !left.contains(object))
    }

    pub(super) fn is_through(&self) -> bool {
        self.is_whole && self.left.as_ref().is_some_and(BTreeSet::is_empty)
    }
}

/// A change that is on its way.
pub(super) struct Pending<R> {
    /// Whose acknowledgement of which entry it needs.
    pub(super) needs: Vec<(NodeId, u64)>,
    /// Its object, and how many replicas that has; `None`: it is no object's.
    pub(super) of: Option<(ObjectId, u8)>,
    /// Enough servers have it. It waits for changes of other objects that came before.
    pub(super) is_kept: bool,
    /// Answers that depend on its object.
    pub(super) answers: Vec<R>,
    /// Answers that depend on all changes up to this one.
    pub(super) last_answers: Vec<R>,
}

pub(super) struct Proposal {
    pub(super) command: Command,
    pub(super) said_ms: u64,
}

impl<R> Partition<R> {
    /// No part in a partition.
    pub fn new(
        id: PartitionId,
        (me, incarnation): (NodeId, Incarnation),
        (replicas_max, timing): (u8, Timing),
        join_slots: Arc<JoinSlots>,
    ) -> Self {
        Partition {
            id,
            me,
            incarnation,
            timing,
            replicas_max,
            sealed: Epoch::default(),
            sealed_ms: 0,
            configured: Epoch::default(),
            viewed: Epoch::default(),
            rank: None,
            collected: None,
            told: None,
            role: Role::Idle,
            done: Requests::default(),
            issued: 0,
            released: 0,
            joins: 0,
            is_amnesic: false,
            lacks: BTreeSet::new(),
            lacks_version: 0,
            join_slots,
        }
    }

    /// Whether this server is the primary, in whatever phase.
    pub fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary(_))
    }

    /// Everything above this rank is here.
    pub fn rank(&self) -> u8 {
        self.rank.unwrap_or(UNASSIGNED)
    }

    /// The primary of this server, if it is the primary: the view with which it began.
    pub fn term(&self) -> Option<ViewVersion> {
        match &self.role {
            Role::Primary(primary) => Some(primary.since),
            _ => None,
        }
    }

    /// How many joins were begun so far: what was asked for one is nothing to the next.
    pub fn joins(&self) -> u32 {
        self.joins
    }

    /// Whether an object that is not here may be one that is gone, and of which nobody knows.
    pub fn is_amnesic(&self) -> bool {
        self.is_amnesic
    }

    /// Nothing of an older epoch than this is taken.
    pub fn epoch(&self) -> Epoch {
        self.sealed
    }

    /// The servers that have an object of `replicas`; `None`: this server is not its primary.
    pub fn holders(&self, object: ObjectId, replicas: u8) -> Option<Vec<NodeId>> {
        match &self.role {
            Role::Primary(primary) => Some(primary.holders(object, replicas).collect()),
            _ => None,
        }
    }

    /// Whether something is to be done as time passes.
    pub fn is_busy(&self, view: ViewVersion) -> bool {
        let Role::Primary(primary) = &self.role else {
            return false;
        };
        let is_idle = matches!(primary.phase, Phase::Serving)
            && primary.join.is_none()
            && primary.proposal.is_none()
            && primary.planned >= view
            && primary
                .streams
                .values()
                .all(|stream| stream.len() == 0 && stream.lacking().is_empty());
        !is_idle
    }

    /// How to treat a request to an object from a client that has the routes of this version.
    pub fn gate(&self, routes: RoutesVersion, object: &ObjectId) -> Gate {
        let Role::Primary(primary) = &self.role else {
            return Gate::Moved;
        };
        if routes < primary.known_since {
            return Gate::Moved;
        }
        match &primary.phase {
            Phase::HandingOver if Mutant::ServeInHandOver.is_planted() => Gate::Serve,
            Phase::HandingOver => Gate::Wait,
            Phase::Collecting { is_open: false, .. } => Gate::Wait,
            Phase::Collecting { missing, .. }
                if !missing.values().all(|there| there.has(object))
                    && !Mutant::ServesUncompared.is_planted() =>
            {
                Gate::Wait
            }
            Phase::Collecting { .. } | Phase::Serving if primary.is_full => Gate::Wait,
            Phase::Collecting { .. } | Phase::Serving => Gate::Serve,
        }
    }

    /// The result of a request that was executed before; `Some(None)`: its object was gone.
    pub fn done(&self, call: CallId) -> Option<Option<bool>> {
        self.done.find(call)
    }
}

impl<R> Primary<R> {
    pub(super) fn is_complete(&self) -> bool {
        match &self.phase {
            Phase::Collecting { missing, .. } => missing.is_empty(),
            _ => true,
        }
    }

    pub(super) fn await_all(&mut self, needs: Vec<(NodeId, u64)>, of: Option<(ObjectId, u8)>) {
        self.pending.push_back(Pending {
            needs,
            of,
            is_kept: false,
            answers: Vec::new(),
            last_answers: Vec::new(),
        });
    }

    /// Whether enough servers have an object for its changes to go out.
    pub(super) fn has_enough(&self, of: Option<(ObjectId, u8)>, min_replicas: u8) -> bool {
        let Some((object, replicas)) = of else {
            return true;
        };
        let least = replicas.min(min_replicas);
        least <= 1
            || self.holders(object, replicas).count() >= usize::from(least)
            || Mutant::TooFewReplicas.is_planted()
    }

    /// The servers that have an object, or will have it before it changes.
    pub(super) fn holders(&self, object: ObjectId, replicas: u8) -> impl Iterator<Item = NodeId> {
        let lacks = move |node: &NodeId| {
            let stream = self.streams.get(node);
            stream.is_some_and(|stream| stream.lacking().contains(&object))
        };
        let assigned = self.assignments.iter();
        let assigned = assigned.filter(move |assignment| assignment.rank < replicas);
        let nodes = assigned.map(|assignment| assignment.node);
        nodes.filter(move |node| !lacks(node))
    }

    /// Whether all servers have a change that are to have it now, and whether these are enough.
    pub(super) fn is_kept(&self, pending: &Pending<R>, min_replicas: u8) -> bool {
        let has = |(node, index): &(NodeId, u64)| {
            let stream = self.streams.get(node);
            stream.is_none_or(|stream| stream.acknowledged() >= *index)
        };
        pending.needs.iter().all(has) && self.has_enough(pending.of, min_replicas)
    }

    /// How many bytes are on their way to assigned servers.
    pub(super) fn unacknowledged_bytes(&self) -> usize {
        let assigned = self.streams.values().filter(|stream| stream.required);
        assigned.map(Outgoing::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::{Configuration, Member, View};

    const ME: (NodeId, Incarnation) = (NodeId(1), Incarnation(1));

    fn part_of(me: (NodeId, Incarnation)) -> Partition<()> {
        Partition::new(PartitionId(0), me, (3, Timing::default()), Arc::default())
    }

    /// A view in which this node has the only assignment, since the view `since`.
    fn view(version: u64, since: u64) -> View {
        let mut view = View::new(1);
        view.version = ViewVersion(version);
        let member = Member {
            incarnation: ME.1,
            address: String::new(),
            leaving: false,
        };
        view.members.insert(ME.0, member);
        let assignment = Assignment {
            rank: 0,
            node: ME.0,
        };
        view.configurations[0] = Arc::new(Configuration {
            epoch: Epoch(version),
            since: ViewVersion(since),
            known_since: RoutesVersion(since.saturating_sub(2)),
            assignments: vec![assignment],
            ..Configuration::default()
        });
        view
    }

    #[test]
    fn a_call_that_was_sent_to_an_earlier_primary_is_not_for_this_one() {
        let mut partition = part_of(ME);
        let gate = |partition: &Partition<()>, routes| {
            partition.gate(RoutesVersion(routes), &ObjectId([0; 16]))
        };
        assert_eq!(gate(&partition, 9), Gate::Moved);
        let mut actions = Vec::new();
        partition.on_view(&view(5, 5), 0, &mut actions);
        assert!(actions.iter().any(|action| matches!(action, Action::Open)));
        // The client did not know of this primary: another primary may have executed the call, and its session may
        // have acknowledged the result.
        assert_eq!(gate(&partition, 2), Gate::Moved);
        assert_eq!(gate(&partition, 3), Gate::Serve);
    }

    #[test]
    fn a_view_of_an_earlier_incarnation_gives_no_assignment() {
        let later = (ME.0, Incarnation(2));
        let mut partition = part_of(later);
        partition.on_view(&view(5, 5), 0, &mut Vec::new());
        assert!(!partition.is_primary());
    }
}
