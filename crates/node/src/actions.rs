//! Does what a partition decides, under its lock: messages queue for peers, objects are offered tasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crucial_object::ObjectId;

use crate::admit::Hand;
use crate::ids::Millis;
use crate::job::Plan;
use crate::node::Node;
use crate::objects::{CallEnd, Event, RoundId, Task};
use crate::outputs::{Output, Outputs};
use crate::partitions::{PartitionState, Reply};
use crate::peer_message::PeerMessage;
use crate::replication::{
    Action, Entry, Home, Incarnation, Message, Mutant, NodeId, PartitionId, Replica,
};
use crate::rounds::{Contribution, RoundKind};
use crate::session::WaitingCall;

impl Node {
    /// Does what a partition decides. Actions that follow from one come before the next one.
    pub(crate) fn act(
        &self,
        part: &mut PartitionState,
        actions: Vec<Action<Reply>>,
        now: Millis,
        out: &mut Outputs,
    ) {
        if actions.is_empty() {
            return;
        }
        let mut actions: VecDeque<_> = actions.into();
        while let Some(action) = actions.pop_front() {
            let mut more = Vec::new();
            self.act_one(part, action, (now, &mut more), out);
            for action in more.into_iter().rev() {
                actions.push_front(action);
            }
        }
    }

    fn act_one(
        &self,
        part: &mut PartitionState,
        action: Action<Reply>,
        (now, more): (Millis, &mut Vec<Action<Reply>>),
        out: &mut Outputs,
    ) {
        let id = part.id;
        match action {
            Action::Send(to, message) => self.send(to, id, message, out),
            Action::Propose(command) => out.push(Output::Propose(command)),
            Action::Follow(place, entry) => {
                if let Some(object) = object_of(&entry) {
                    self.offer(object, Event::Apply(place, Box::new(entry)), out);
                }
            }
            Action::Lacks(node, objects) => {
                tracing::warn!(
                    node = node.0,
                    partition = id.0,
                    object = %objects[0],
                    count = objects.len(),
                    "another server cannot keep objects that it should have, and holds none of their changes: its log says why"
                );
            }
            Action::Clear => self.each_of(id, &Task::Forget, out),
            Action::Shed(rank) => self.each_of(id, &Task::Shed(rank), out),
            Action::Lose(rank) => {
                let task = Task::Lose(rank, part.incarnation);
                self.settle_each(part, &task, out);
            }
            Action::Digest(to) => {
                let epoch = part.partition.epoch();
                // The new primary has waited for a while, and can serve what is through.
                if let Some((holding, open)) = self.rounds.digest_so_far(id, epoch, to) {
                    let message = part.partition.digest(holding, open);
                    return self.send(to, id, message, out);
                }
                let objects = self.objects.of_partition(id);
                let kind = RoundKind::Digest {
                    partition: id,
                    epoch,
                    to,
                    holdings: Vec::new(),
                    open: objects.iter().copied().collect(),
                };
                self.round(kind, objects, |_| Task::Digest, out);
            }
            Action::Reconcile(node, there, open) => {
                let epoch = part.partition.epoch();
                let there: BTreeMap<_, _> = there
                    .into_iter()
                    .map(|holding| (holding.object, holding))
                    .collect();
                let open: BTreeSet<_> = open.into_iter().collect();
                let here = self.objects.of_partition(id).into_iter();
                let all = here
                    .chain(there.keys().copied())
                    .chain(open.iter().copied());
                let all = (all.collect(), &open);
                for object in part.partition.compare(node, all, now, more) {
                    let task = Task::Reconcile(node, epoch, there.get(&object).copied());
                    self.offer(object, Event::Task(task, None), out);
                }
            }
            Action::List => {
                let objects = self.objects.of_partition(id);
                part.partition.copy_list(objects, now, more);
            }
            Action::Copy(objects) => {
                let task = Task::Copy(part.incarnation, part.partition.joins());
                for object in objects {
                    self.offer(object, Event::Task(task.clone(), None), out);
                }
            }
            Action::Repair(node, object) => {
                self.offer(object, Event::Task(Task::Repair(node), None), out);
            }
            Action::Open => self.open_partition(part, now, out),
            Action::Close | Action::Resume => self.retry(part, out),
            Action::Release(reply) => self.release(reply, now, out),
        }
    }

    /// Queues a message about a partition for another server.
    pub(crate) fn send(&self, to: NodeId, id: PartitionId, message: Message, out: &mut Outputs) {
        let message = PeerMessage::Partition(id, self.heard_view(), message);
        self.peers.send(to, message, out);
    }

    /// Gives a task to each object of a partition.
    fn each_of(&self, id: PartitionId, task: &Task, out: &mut Outputs) {
        for object in self.objects.of_partition(id) {
            self.offer(object, Event::Task(task.clone(), None), out);
        }
    }

    /// Gives a task to each of some objects. What follows when all are through is the round's.
    pub(crate) fn round(
        &self,
        kind: RoundKind,
        objects: Vec<ObjectId>,
        task: impl Fn(&ObjectId) -> Task,
        out: &mut Outputs,
    ) -> Option<RoundId> {
        let tasks = objects.into_iter().map(|object| {
            let task = task(&object);
            (object, task)
        });
        self.round_of(kind, tasks.collect(), out)
    }

    /// Gives tasks to objects. The lock of a partition may be held: a round without tasks ends at the end of the input.
    pub(crate) fn round_of(
        &self,
        kind: RoundKind,
        tasks: Vec<(ObjectId, Task)>,
        out: &mut Outputs,
    ) -> Option<RoundId> {
        if tasks.is_empty() {
            out.ended_rounds.push_back(kind);
            return None;
        }
        let round = self.rounds.begin(kind, tasks.len());
        for (object, task) in tasks {
            self.offer(object, Event::Task(task, Some(round)), out);
        }
        Some(round)
    }

    /// Removes objects, each in line with its calls.
    pub(crate) fn remove_all(&self, kind: RoundKind, objects: Vec<ObjectId>, out: &mut Outputs) {
        if objects.is_empty() {
            return out.ended_rounds.push_back(kind);
        }
        let round = self.rounds.begin(kind, objects.len());
        for object in objects {
            self.offer(object, Event::Remove(Some(round)), out);
        }
    }

    /// A task is through. No lock may be held, as that may end its round.
    pub(crate) fn contribute(
        &self,
        round: Option<RoundId>,
        contribution: Contribution,
        now: Millis,
        out: &mut Outputs,
    ) {
        if let Some(round) = round
            && let Some(kind) = self.rounds.step(round, contribution)
        {
            self.end_round(kind, now, out);
        }
    }

    /// All objects of a round are through.
    pub(crate) fn end_round(&self, kind: RoundKind, now: Millis, out: &mut Outputs) {
        match kind {
            RoundKind::Digest {
                partition,
                epoch,
                to,
                holdings,
                ..
            } => {
                let part = self.partitions.lock(partition);
                if part.partition.epoch() == epoch {
                    let message = part.partition.digest(holdings, Vec::new());
                    self.send(to, partition, message, out);
                }
            }
            kind => self.end_request_round(kind, now, out),
        }
    }

    /// Gives a task to each object of a partition, behind which its calls may be executed.
    fn settle_each(&self, part: &mut PartitionState, task: &Task, out: &mut Outputs) {
        for object in self.objects.of_partition(part.id) {
            part.unsettle(object);
            self.offer(object, Event::Task(task.clone(), None), out);
        }
    }

    /// A task of an object is through behind which its calls may be executed.
    fn settle(&self, object: ObjectId, incarnation: Incarnation, out: &mut Outputs) {
        let mut part = self.partitions.lock_of(&object);
        if part.incarnation == incarnation && part.settle(&object) {
            self.retry_object(&mut part, object, out);
        }
    }

    /// A backup was brought to an object as it is here, whose calls may be executed for all that this backup needs.
    pub(crate) fn compared(
        &self,
        part: &mut PartitionState,
        (node, object): (NodeId, ObjectId),
        now: Millis,
        out: &mut Outputs,
    ) {
        let mut actions = Vec::new();
        part.partition.compared(node, &object, now, &mut actions);
        self.act(part, actions, now, out);
        self.retry_object(part, object, out);
    }

    /// A partition is served here from now on, as soon as all that came before has had its effect. Sessions that may hold
    /// something of its objects have a lease to turn up.
    fn open_partition(&self, part: &mut PartitionState, now: Millis, out: &mut Outputs) {
        for session in part.partition.requesters() {
            self.sessions.expect(session, (None, None), now);
        }
        let task = Task::TakeOver(part.incarnation);
        self.settle_each(part, &task, out);
        self.retry(part, out);
    }

    /// Admits again what waits in a partition.
    pub(crate) fn retry(&self, part: &mut PartitionState, out: &mut Outputs) {
        if part.has_waiting() {
            for object in part.waiting_objects() {
                self.retry_object(part, object, out);
            }
        }
    }

    /// Admits again what waits for an object.
    pub(crate) fn retry_object(
        &self,
        part: &mut PartitionState,
        object: ObjectId,
        out: &mut Outputs,
    ) {
        for event in part.take_waiting(&object) {
            self.offer(object, event, out);
        }
    }

    /// A reply may go out, if there is a lease.
    fn release(&self, reply: Reply, now: Millis, out: &mut Outputs) {
        if self.membership.has_lease(now) {
            self.deliver(&reply, out);
        } else {
            self.membership.withhold(reply);
        }
    }

    pub(crate) fn deliver(&self, reply: &Reply, out: &mut Outputs) {
        self.reply_parked(reply.call, reply.result.as_deref(), out);
    }

    /// Admits a task. Gives the user code that it needs, and whether other servers may need an image.
    pub(crate) fn admit_task(
        &self,
        hand: &mut Hand<'_>,
        task: &Task,
        round: Option<RoundId>,
        now: Millis,
        out: &mut Outputs,
    ) -> Option<(Plan, bool)> {
        let planned = self.plan_task(hand, task, now, out);
        match planned {
            Planned::Code(plan, has_followers) => Some((plan, has_followers)),
            Planned::Through(contribution) => {
                if let Task::Lose(_, incarnation) | Task::TakeOver(incarnation) = task {
                    self.settle(hand.id(), *incarnation, out);
                }
                self.contribute(round, contribution, now, out);
                None
            }
        }
    }

    fn plan_task(
        &self,
        hand: &mut Hand<'_>,
        task: &Task,
        now: Millis,
        out: &mut Outputs,
    ) -> Planned {
        let object = hand.id();
        let nothing = Planned::Through(Contribution::Nothing);
        match task {
            Task::Reconcile(node, epoch, there) => {
                let mut part = self.partitions.lock_of(&object);
                if part.partition.epoch() != *epoch {
                    return nothing;
                }
                let here = hand.state.as_ref();
                let rank = part.partition.reconcile(*node, object, here, *there);
                if rank.is_none() {
                    self.compared(&mut part, (*node, object), now, out);
                }
                rank.map_or(nothing, |rank| Planned::Code(Plan::Encode(rank), true))
            }
            Task::Copy(incarnation, join) => {
                let mut part = self.partitions.lock_of(&object);
                // A copy for a join that has ended is not needed.
                if (part.incarnation, part.partition.joins()) != (*incarnation, *join) {
                    return nothing;
                }
                let rank = part.partition.copy(hand.state.as_ref());
                if rank.is_none() {
                    self.issue(&mut part, now, out);
                }
                rank.map_or(nothing, |rank| Planned::Code(Plan::Encode(rank), true))
            }
            task => match &mut *hand.state {
                Some(_) if matches!(task, Task::Forget) => {
                    drop(self.forget(hand));
                    nothing
                }
                Some(replica) => self.plan_with(object, replica, task, now, out),
                None if matches!(task, Task::Digest) => {
                    Planned::Through(Contribution::Absent(object))
                }
                None => nothing,
            },
        }
    }

    /// A task for an object that is here, in full or not.
    fn plan_with(
        &self,
        object: ObjectId,
        replica: &mut Replica,
        task: &Task,
        now: Millis,
        out: &mut Outputs,
    ) -> Planned {
        let contribution = match task {
            Task::Shed(rank) => {
                replica.shed(*rank);
                Contribution::Nothing
            }
            Task::Lose(rank, _) => {
                replica.lose(*rank);
                Contribution::Nothing
            }
            Task::Digest => Contribution::Holding(replica.holding(object, 0)),
            Task::TakeOver(_) => {
                self.take_over(object, replica, now, out);
                Contribution::Nothing
            }
            Task::Repair(node) => {
                let rank = self
                    .partitions
                    .lock_of(&object)
                    .partition
                    .repair_rank(*node, replica);
                match rank {
                    Some(rank) => return Planned::Code(Plan::Encode(rank), true),
                    None => Contribution::Nothing,
                }
            }
            Task::Describe(key) if key.as_ref().is_none_or(|key| **key == *replica.key()) => {
                Contribution::Object(self.describe(object, replica))
            }
            Task::Checksum => return Planned::Code(Plan::Checksum, false),
            Task::Save if replica.is_full() => return Planned::Code(Plan::Save, false),
            Task::CheckMove(old, new) if replica.info().is_some_and(|i| std::ptr::eq(i, *old)) => {
                return Planned::Code(Plan::CheckMove(new), false);
            }
            Task::Move(new)
                if replica
                    .info()
                    .is_some_and(|info| self.supersedes(new, info)) =>
            {
                let part = self.partitions.lock_of(&object);
                // In whatever phase, with a lease or without: the results wait as others do.
                match part.partition.term() {
                    Some(since) => {
                        let has_followers = part.partition.has_followers();
                        return Planned::Code(Plan::Move(new, since), has_followers);
                    }
                    None => Contribution::Nothing,
                }
            }
            _ => Contribution::Nothing,
        };
        Planned::Through(contribution)
    }

    /// This server is the primary of an object from now on.
    fn take_over(&self, object: ObjectId, replica: &Replica, now: Millis, out: &mut Outputs) {
        let run = match replica.origin.home {
            Home::Run(run) => Some(run),
            Home::Namespace(_) => None,
        };
        let clients = match Mutant::NobodyExpected.is_planted() {
            true => Vec::new(),
            false => replica.clients(),
        };
        for session in clients {
            self.sessions.expect(session, (Some(object), run), now);
        }
        for (attempt, call) in replica.waiting_attempts() {
            let waiting = WaitingCall {
                attempt,
                call,
                object,
            };
            if !self.sessions.expect_attempt(waiting) && !Mutant::FencedWaitsOn.is_planted() {
                self.offer(object, Event::EndCall(call, CallEnd::Fenced), out);
            }
        }
        if let Some(newer) = replica.info().and_then(|info| self.newer_code(info))
            && !Mutant::KeepsOldCode.is_planted()
        {
            self.offer(object, Event::Task(Task::Move(newer), None), out);
        }
        if let Some(run) = run {
            self.sessions.expect_owner(run, now);
        }
    }
}

enum Planned {
    /// User code is needed; and whether other servers may need an image.
    Code(Plan, bool),
    /// The task is through.
    Through(Contribution),
}

fn object_of(entry: &Entry) -> Option<ObjectId> {
    match entry {
        Entry::Apply { object, .. }
        | Entry::Install { object, .. }
        | Entry::Drop { object, .. } => Some(*object),
        // The partition keeps these.
        Entry::Reset { .. } | Entry::Rank { .. } | Entry::Done(_) => None,
    }
}
