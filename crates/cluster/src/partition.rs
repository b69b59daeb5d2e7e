//! A server's part in one partition.
//!
//! [`Partition`] decides, and says in [`Action`]s what is to be done with objects, messages and answers. It is told of views,
//! messages and time. Objects are not in it, as their methods run outside of any lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crucial_core::{CallId, Change};
use crucial_object::{ObjectId, SessionId};

use crate::mutant::Mutant;
use crate::placement::wanted;
use crate::{
    Command, Configuration, Entry, Epoch, Held, Image, Incarnation, Lifecycle, Message, NodeId, PartitionId,
    Replica, Seat, Version, View, ViewVersion,
};

mod join;
mod requests;
mod stream;

use join::{Join, Stage};
use requests::Requests;
use stream::{Incoming, NO_SEAT, Outgoing};

/// Times, in milliseconds, and bounds.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// What was not answered is sent again after this.
    pub repeat_ms: u64,
    /// A seat that acknowledges nothing for so long loses its seat.
    pub silence_ms: u64,
    /// Entries on their way to a joining node.
    pub window: usize,
    /// Entries in one message.
    pub batch: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            repeat_ms: 500,
            silence_ms: 5_000,
            window: 64,
            batch: 256,
        }
    }
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Action<R> {
    /// Send it to this node.
    Send(NodeId, Message),
    /// Give it to the control group. It may be lost: it is proposed again.
    Propose(Command),
    /// An entry of a stream came, and is the next for its object: `Apply`, `Install` or `Drop`.
    Follow(NodeId, Entry),
    /// Forget all objects of the partition.
    Clear,
    /// Objects below this level go from here.
    Shed(u8),
    /// Objects below this level are lost: they were elsewhere.
    Lose(u8),
    /// Say what there is, when all entries that came have had their effect: [`Partition::digest`].
    Digest(NodeId),
    /// Bring a seat to what is here: [`Partition::reconcile`] for each object here and each that is only there, then
    /// [`Partition::reconciled`].
    Reconcile(NodeId, Vec<Held>),
    /// List the objects of the partition for a join: [`Partition::copy_list`].
    List,
    /// Send these to the joining node: [`Partition::copy`] for each, with it or without; then
    /// [`issue`](Partition::issue).
    Copy(Vec<ObjectId>),
    /// Send this whole to a seat that has another one: [`Partition::repair`], then [`issue`](Partition::issue).
    Repair(NodeId, ObjectId),
    /// Calls are served from now on.
    Open,
    /// Calls are not served any more.
    Close,
    /// An answer may go out, if there is a lease.
    Release(R),
}

/// What to do with a request of a client.
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
    id: PartitionId,
    me: NodeId,
    incarnation: Incarnation,
    timing: Timing,
    replicas_max: u8,
    /// Nothing of an older epoch is taken.
    sealed: Epoch,
    /// Of the newest configuration.
    configured: Epoch,
    /// Everything above it is here.
    level: Option<u8>,
    /// The level that a primary has told it last, and in which epoch.
    told: Option<(Epoch, u8)>,
    role: Role<R>,
    /// Creations and deletions that were executed.
    done: Requests,
    /// Changes that were issued in this process's life, as a primary.
    issued: u64,
    /// Those of them that all seats have.
    released: u64,
    /// Joins that were begun in this process's life.
    joins: u64,
}

enum Role<R> {
    /// No part, or a backup that has heard nothing yet.
    Idle,
    /// A backup, or a joining node.
    Follower(Incoming),
    Primary(Box<Reign<R>>),
}

/// What a primary has.
struct Reign<R> {
    epoch: Epoch,
    since: ViewVersion,
    seats: Vec<Seat>,
    phase: Phase,
    /// Changes in this epoch.
    changes: u64,
    /// To the other seats, and to a joining node.
    streams: BTreeMap<NodeId, Outgoing>,
    /// Changes that are not acknowledged by all; the first is number `released + 1`.
    pending: VecDeque<Pending<R>>,
    join: Option<Join>,
    proposal: Option<Proposal>,
}

enum Phase {
    /// It waits for the digests of these seats.
    Collecting { missing: BTreeSet<NodeId>, asked_ms: u64 },
    Serving,
    /// It has stopped serving, for another primary.
    HandingOver,
}

/// A change that is on its way.
struct Pending<R> {
    /// Whose acknowledgement of which entry it needs.
    needs: Vec<(NodeId, u64)>,
    answers: Vec<R>,
}

struct Proposal {
    command: Command,
    said_ms: u64,
}

impl<R> Partition<R> {
    /// No part in a partition.
    pub fn new(
        id: PartitionId,
        (me, incarnation): (NodeId, Incarnation),
        replicas_max: u8,
        timing: Timing,
    ) -> Self {
        Partition {
            id,
            me,
            incarnation,
            timing,
            replicas_max,
            sealed: Epoch::default(),
            configured: Epoch::default(),
            level: None,
            told: None,
            role: Role::Idle,
            done: Requests::default(),
            issued: 0,
            released: 0,
            joins: 0,
        }
    }

    /// Whether this server is the primary, in whatever phase.
    pub fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary(_))
    }

    /// Everything above this level is here.
    pub fn level(&self) -> u8 {
        self.level.unwrap_or(NO_SEAT)
    }

    /// What to do with a request from a client that has the view of this version.
    pub fn gate(&self, view: ViewVersion) -> Gate {
        let Role::Primary(reign) = &self.role else {
            return Gate::Moved;
        };
        if view < reign.since && !Mutant::NoViewCheck.is_planted() {
            return Gate::Moved;
        }
        match reign.phase {
            Phase::Serving => Gate::Serve,
            Phase::HandingOver if Mutant::ServeInHandOver.is_planted() => Gate::Serve,
            Phase::Collecting { .. } | Phase::HandingOver => Gate::Wait,
        }
    }

    /// The result of a request that was executed before; `Some(None)`: its object was gone.
    pub fn done(&self, call: CallId) -> Option<Option<bool>> {
        self.done.find(call)
    }

    // A view.

    /// A new view came.
    pub fn on_view(&mut self, view: &View, now_ms: u64, out: &mut Vec<Action<R>>) {
        if !view.has(self.me, self.incarnation) {
            // Its seats are those of an earlier life.
            return;
        }
        let configuration = view.configuration(self.id);
        // Of an epoch that is over already it takes no seat: a newer view is on its way.
        if configuration.epoch > self.configured && configuration.epoch >= self.sealed {
            self.configured = configuration.epoch;
            self.sealed = configuration.epoch;
            self.take_seat(configuration, now_ms, out);
        }
        self.forget_departed(view);
        self.plan(view, now_ms, out);
    }

    fn take_seat(
        &mut self,
        configuration: &Configuration,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
        match configuration.level(self.me) {
            Some(_) if configuration.primary() == Some(self.me) => {
                self.reign(configuration, now_ms, out);
            }
            Some(level) => {
                self.resign(out);
                self.become_backup(level, configuration.epoch, out);
            }
            None => {
                self.resign(out);
                let joins = match &self.role {
                    Role::Follower(incoming) => incoming.epoch >= configuration.epoch,
                    _ => false,
                };
                if !joins {
                    self.role = Role::Idle;
                    self.clear(out);
                }
            }
        }
    }

    fn clear(&mut self, out: &mut Vec<Action<R>>) {
        if self.level.take().is_some() {
            out.push(Action::Clear);
        }
        self.done = Requests::default();
    }

    fn become_backup(&mut self, seat: u8, epoch: Epoch, out: &mut Vec<Action<R>>) {
        // The primary may have told it of a lower one already: its messages come before the view.
        let level = match self.told {
            Some((told, level)) if told >= epoch => level.min(seat),
            _ => seat,
        };
        debug_assert!(
            self.level.is_some_and(|held| held <= level),
            "{:?} of {:?} at level {level} in {epoch:?}, and holds what is above {:?}",
            self.me,
            self.id,
            self.level
        );
        self.level = Some(level);
        let heard = match &self.role {
            Role::Follower(incoming) => incoming.epoch >= epoch,
            _ => false,
        };
        if !heard {
            self.role = Role::Idle;
            // Otherwise what is below its level may be on its way to a lower one.
            out.push(Action::Shed(level));
        }
    }

    /// It is not the primary any more, if it was.
    fn resign(&mut self, out: &mut Vec<Action<R>>) {
        if self.is_primary() {
            self.role = Role::Idle;
            // Nobody waits for them here any more: the clients ask the new primary.
            self.released = self.issued;
            out.push(Action::Close);
        }
    }

    fn reign(&mut self, configuration: &Configuration, now_ms: u64, out: &mut Vec<Action<R>>) {
        let old = std::mem::replace(&mut self.role, Role::Idle);
        if let Role::Primary(reign) = old {
            if reign.since == configuration.since {
                return self.go_on(reign, configuration, out);
            }
            out.push(Action::Close);
        }
        match self.level {
            None | Some(0) => {}
            Some(_) if Mutant::LostComesBack.is_planted() => {}
            Some(level) => out.push(Action::Lose(level)),
        }
        self.level = Some(0);
        self.released = self.issued;
        let others = || configuration.seats[1..].iter();
        let mut reign = Reign {
            epoch: configuration.epoch,
            since: configuration.since,
            seats: configuration.seats.clone(),
            phase: Phase::Collecting {
                missing: others().map(|seat| seat.node).collect(),
                asked_ms: now_ms,
            },
            changes: 0,
            streams: BTreeMap::new(),
            pending: VecDeque::new(),
            join: None,
            proposal: None,
        };
        for seat in others() {
            let mut stream = Outgoing::new(seat.level, now_ms);
            stream.push(Entry::Done(self.done.all()));
            reign.streams.insert(seat.node, stream);
            let epoch = configuration.epoch;
            out.push(Action::Send(seat.node, Message::Collect { epoch }));
        }
        if reign.is_complete() || Mutant::NoReconciliation.is_planted() {
            reign.phase = Phase::Serving;
            out.push(Action::Open);
        }
        self.role = Role::Primary(reign.into());
        self.flush(now_ms, out);
    }

    /// The primary stays, in another configuration.
    fn go_on(
        &mut self,
        mut reign: Box<Reign<R>>,
        configuration: &Configuration,
        out: &mut Vec<Action<R>>,
    ) {
        reign.epoch = configuration.epoch;
        reign.changes = 0;
        reign.seats = configuration.seats.clone();
        reign.proposal = None;
        reign.join = None;
        reign
            .streams
            .retain(|node, _| configuration.level(*node).is_some());
        for seat in &configuration.seats[1..] {
            if let Some(stream) = reign.streams.get_mut(&seat.node) {
                stream.level = seat.level;
                stream.required = true;
                stream.begin_again();
                // It may have been on its way to another one.
                stream.push(Entry::Level { level: seat.level });
            }
        }
        match &mut reign.phase {
            Phase::Collecting { missing, .. } => {
                missing.retain(|node| configuration.level(*node).is_some());
                for node in missing.iter() {
                    let epoch = configuration.epoch;
                    out.push(Action::Send(*node, Message::Collect { epoch }));
                }
                if missing.is_empty() {
                    reign.phase = Phase::Serving;
                    out.push(Action::Open);
                }
            }
            Phase::HandingOver => {
                reign.phase = Phase::Serving;
                out.push(Action::Open);
            }
            Phase::Serving => {}
        }
        self.role = Role::Primary(reign);
        self.release(out);
    }

    /// Nodes that are no members any more get nothing.
    fn forget_departed(&mut self, view: &View) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let gone = |node: NodeId, life| !view.has(node, life);
        if reign
            .join
            .as_ref()
            .is_some_and(|join| gone(join.node, join.incarnation))
        {
            reign.end_join();
        }
        // A proposal with one that is gone is never carried out.
        let is_void = reign.proposal.as_ref().is_some_and(|proposal| {
            matches!(&proposal.command, Command::Reconfigure { seats, .. }
                if seats.iter().any(|(seat, life)| gone(seat.node, *life)))
        });
        if is_void {
            reign.proposal = None;
        }
    }

    // Messages.

    /// A message about this partition came.
    pub fn receive(
        &mut self,
        from: NodeId,
        message: Message,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
        let epoch = message.epoch();
        if epoch < self.sealed && !(Mutant::NoSeal.is_planted() && !self.is_primary()) {
            return;
        }
        if epoch > self.sealed {
            // There is another primary: its messages came before the view.
            self.sealed = epoch;
            self.resign(out);
        }
        match message {
            Message::Collect { .. } => {
                self.follow(epoch);
                out.push(Action::Digest(from));
            }
            Message::Stream {
                base,
                first,
                entries,
                ..
            } => self.take_in(from, epoch, base, first, entries, out),
            Message::Digest { held, .. } => self.learn(from, epoch, held, out),
            Message::Accepted { upto, .. } => self.acknowledged(from, epoch, upto, now_ms, out),
            Message::Diverged { object, .. } => {
                if self.reign_of(epoch).is_some() {
                    out.push(Action::Repair(from, object));
                }
            }
        }
    }

    fn follow(&mut self, epoch: Epoch) {
        let known = matches!(&self.role, Role::Follower(i) if i.epoch == epoch);
        if !known && !self.is_primary() {
            self.role = Role::Follower(Incoming::new(epoch));
        }
    }

    fn take_in(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        base: u64,
        first: u64,
        entries: Vec<Entry>,
        out: &mut Vec<Action<R>>,
    ) {
        self.follow(epoch);
        let Role::Follower(incoming) = &mut self.role else {
            return;
        };
        let accepted = incoming.accept(base, first, entries);
        let Some(upto) = incoming.upto() else { return };
        for entry in accepted {
            match entry {
                Entry::Reset { level } => {
                    out.push(Action::Clear);
                    self.level = Some(level);
                    self.told = Some((epoch, level));
                    self.done = Requests::default();
                }
                Entry::Level { level } => {
                    if self.level.is_some_and(|held| held < level) {
                        out.push(Action::Shed(level));
                    }
                    self.level = Some(level);
                    self.told = Some((epoch, level));
                }
                Entry::Done(requests) => self.done.replace(requests),
                entry => {
                    match &entry {
                        Entry::Install { done, .. } => self.done.note(*done),
                        Entry::Drop { done, buried, .. } => {
                            self.done.note(*done);
                            self.done.bury(buried);
                        }
                        _ => {}
                    }
                    out.push(Action::Follow(from, entry));
                }
            }
        }
        out.push(Action::Send(from, Message::Accepted { epoch, upto }));
    }

    fn reign_of(&mut self, epoch: Epoch) -> Option<&mut Reign<R>> {
        match &mut self.role {
            Role::Primary(reign) if reign.epoch == epoch => Some(reign),
            _ => None,
        }
    }

    fn learn(&mut self, from: NodeId, epoch: Epoch, held: Vec<Held>, out: &mut Vec<Action<R>>) {
        let Some(reign) = self.reign_of(epoch) else {
            return;
        };
        if let Phase::Collecting { missing, .. } = &reign.phase
            && missing.contains(&from)
        {
            out.push(Action::Reconcile(from, held));
        }
    }

    fn acknowledged(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        upto: u64,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
        let Some(reign) = self.reign_of(epoch) else {
            return;
        };
        if let Some(stream) = reign.streams.get_mut(&from) {
            stream.acknowledge(upto, now_ms);
        }
        self.release(out);
        self.go_on_copying(out);
        self.flush(now_ms, out);
    }

    /// To the sender of a stream: an object is another one here.
    pub fn diverged(&self, object: ObjectId) -> Message {
        Message::Diverged {
            epoch: self.sealed,
            object,
        }
    }

    /// A request was executed that had no effect here, but could have another time: it found an object, say. A copy of
    /// it that is still on its way must find that it was executed. The other seats need not know: if they come to
    /// serve, requests from before are refused.
    pub fn note(&mut self, done: Lifecycle) {
        self.done.note(Some(done));
    }

    /// The number of the last change.
    pub fn last(&self) -> u64 {
        self.issued
    }

    /// What this server holds, for the primary of its epoch. `held`: all objects of the partition.
    pub fn digest(&self, held: Vec<Held>) -> Message {
        Message::Digest {
            epoch: self.sealed,
            held,
        }
    }

    // A new primary brings the others to what it has.

    /// One object, as it is here (`None`: not at all) and there.
    pub fn reconcile(
        &mut self,
        node: NodeId,
        object: ObjectId,
        here: Option<&mut Replica>,
        there: Option<Held>,
    ) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let Some(stream) = reign.streams.get_mut(&node) else {
            return;
        };
        let Some(replica) = here else {
            stream.push(Entry::Drop {
                object,
                done: None,
                buried: Vec::new(),
            });
            return;
        };
        if there == Some(replica.held(object, stream.level)) {
            return;
        }
        let level = stream.level;
        let Some(index) = install(stream, object, replica, level) else {
            return;
        };
        reign.await_all(vec![(node, index)]);
        self.issued += 1;
        replica.issued = self.issued;
    }

    /// All objects were reconciled with this seat.
    pub fn reconciled(&mut self, node: NodeId, now_ms: u64, out: &mut Vec<Action<R>>) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        if let Phase::Collecting { missing, .. } = &mut reign.phase {
            missing.remove(&node);
            if missing.is_empty() {
                reign.phase = Phase::Serving;
                out.push(Action::Open);
            }
        }
        self.flush(now_ms, out);
        self.release(out);
    }

    // Changes.

    /// An object was created here. It goes to all seats, where it is below their level as a stub.
    pub fn create(&mut self, object: ObjectId, replica: &mut Replica, done: Lifecycle) {
        self.done.note(Some(done));
        let Some(version) = self.next_version() else {
            return;
        };
        replica.birth = version;
        replica.version = version;
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let mut needs = Vec::new();
        for (node, stream) in &mut reign.streams {
            let join = reign.join.as_ref().filter(|join| join.node == *node);
            if stream.level == NO_SEAT && join.is_none() {
                continue;
            }
            let level = join.map_or(stream.level, |join| stream.level.min(join.level));
            let Ok(image) = replica.image(level) else {
                continue;
            };
            let entry = Entry::Install {
                object,
                image: image.into(),
                done: Some(done),
            };
            let index = stream.push(entry);
            if stream.required || join.is_some_and(Join::is_required) {
                needs.push((*node, index));
            }
        }
        if let Some(join) = &reign.join {
            replica.copied = join.number;
        }
        reign.await_all(needs);
        self.issued += 1;
        replica.issued = self.issued;
    }

    /// An object was deleted here, with the records of the calls `buried`. Gives what the answer waits for.
    pub fn delete(&mut self, object: ObjectId, done: Lifecycle, buried: Vec<CallId>) -> u64 {
        self.done.note(Some(done));
        self.done.bury(&buried);
        let Role::Primary(reign) = &mut self.role else {
            return self.issued;
        };
        let mut needs = Vec::new();
        for (node, stream) in &mut reign.streams {
            let join = reign.join.as_ref().filter(|join| join.node == *node);
            if stream.level == NO_SEAT && join.is_none() {
                continue;
            }
            let index = stream.push(Entry::Drop {
                object,
                done: Some(done),
                buried: buried.clone(),
            });
            if stream.required || join.is_some_and(Join::is_required) {
                needs.push((*node, index));
            }
        }
        reign.await_all(needs);
        self.issued += 1;
        self.issued
    }

    /// Drops what is kept of requests that nobody will repeat, if it is time to.
    pub fn purge(&mut self, needed: &dyn Fn(CallId) -> bool) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        if !self.done.purge(needed) {
            return;
        }
        for (node, stream) in &mut reign.streams {
            let joins = reign.join.as_ref().is_some_and(|join| join.node == *node);
            if stream.level != NO_SEAT || joins {
                stream.push(Entry::Done(self.done.all()));
            }
        }
    }

    /// A change was done here, with results of this checksum.
    pub fn change(
        &mut self,
        object: ObjectId,
        replica: &mut Replica,
        change: &Change,
        checksum: u64,
    ) {
        let previous = replica.version;
        let Some(version) = self.next_version() else {
            return;
        };
        replica.version = version;
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let mut needs = Vec::new();
        for (node, stream) in &mut reign.streams {
            let join = reign.join.as_ref().filter(|join| join.node == *node);
            let is_required = if replica.replicas > stream.level {
                stream.required
            } else if join.is_some_and(|join| join.follows(replica)) {
                join.is_some_and(Join::is_required)
            } else {
                continue;
            };
            let index = stream.push(Entry::Apply {
                object,
                previous,
                version,
                change: change.clone(),
                checksum,
            });
            if is_required {
                needs.push((*node, index));
            }
        }
        reign.await_all(needs);
        self.issued += 1;
        replica.issued = self.issued;
    }

    fn next_version(&mut self) -> Option<Version> {
        let Role::Primary(reign) = &mut self.role else {
            return None;
        };
        reign.changes += 1;
        Some(Version {
            epoch: reign.epoch,
            change: reign.changes,
        })
    }

    /// An answer that depends on all changes of an object: it goes out when all seats concerned have them.
    pub fn answer(&mut self, replica: &Replica, answer: R, out: &mut Vec<Action<R>>) {
        self.answer_after(replica.issued, answer, out);
    }

    /// An answer that depends on a change and all before it in this partition.
    pub fn answer_after(&mut self, change: u64, answer: R, out: &mut Vec<Action<R>>) {
        let waits = change.checked_sub(self.released + 1);
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let pending = waits.and_then(|index| reign.pending.get_mut(index as usize));
        match pending {
            Some(pending) if !Mutant::AnswerBeforeBackup.is_planted() => {
                pending.answers.push(answer);
            }
            _ => out.push(Action::Release(answer)),
        }
    }

    /// An answer that depends on nothing that may be lost.
    pub fn answer_read(&mut self, replica: &Replica, answer: R, out: &mut Vec<Action<R>>) {
        if Mutant::ReadUnacknowledged.is_planted() {
            out.push(Action::Release(answer));
        } else {
            self.answer(replica, answer, out);
        }
    }

    /// Sends what was issued, and answers what needs nobody.
    pub fn issue(&mut self, now_ms: u64, out: &mut Vec<Action<R>>) {
        self.release(out);
        self.flush(now_ms, out);
    }

    fn release(&mut self, out: &mut Vec<Action<R>>) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        while let Some(first) = reign.pending.front() {
            let has = |(node, index): &(NodeId, u64)| {
                let stream = reign.streams.get(node);
                stream.is_none_or(|stream| stream.acknowledged() >= *index)
            };
            if !first.needs.iter().all(has) {
                break;
            }
            self.released += 1;
            let done = reign.pending.pop_front();
            for answer in done.into_iter().flat_map(|done| done.answers) {
                out.push(Action::Release(answer));
            }
        }
    }

    /// Sends what was not sent yet.
    fn flush(&mut self, now_ms: u64, out: &mut Vec<Action<R>>) {
        let batch = self.timing.batch;
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let collecting = match &reign.phase {
            Phase::Collecting { missing, .. } => Some(missing),
            _ => None,
        };
        for (node, stream) in &mut reign.streams {
            // Before its digest, nothing may come to a seat that the digest would not tell of.
            if collecting.is_some_and(|missing| missing.contains(node)) {
                continue;
            }
            while let Some((base, first, entries)) = stream.next_batch(batch, now_ms) {
                let message = Message::Stream {
                    epoch: reign.epoch,
                    base,
                    first,
                    entries,
                };
                out.push(Action::Send(*node, message));
            }
        }
    }

    // Time.

    /// Time has passed.
    pub fn tick(&mut self, view: &View, now_ms: u64, out: &mut Vec<Action<R>>) {
        let timing = self.timing;
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let epoch = reign.epoch;
        if let Phase::Collecting { missing, asked_ms } = &mut reign.phase
            && now_ms.saturating_sub(*asked_ms) >= timing.repeat_ms
        {
            *asked_ms = now_ms;
            for node in missing.iter() {
                out.push(Action::Send(*node, Message::Collect { epoch }));
            }
        }
        if let Some(proposal) = &mut reign.proposal
            && now_ms.saturating_sub(proposal.said_ms) >= timing.repeat_ms
        {
            proposal.said_ms = now_ms;
            out.push(Action::Propose(proposal.command.clone()));
        }
        for stream in reign.streams.values_mut() {
            stream.repeat(now_ms, timing.repeat_ms);
        }
        self.flush(now_ms, out);
        self.plan(view, now_ms, out);
    }

    /// Takes the next step to where placement wants the partition.
    fn plan(&mut self, view: &View, now_ms: u64, out: &mut Vec<Action<R>>) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        if view.configuration(self.id).epoch != reign.epoch || reign.proposal.is_some() {
            return;
        }
        match reign.phase {
            Phase::Serving => {}
            Phase::HandingOver => {
                // What it wanted to hand over to is gone.
                reign.phase = Phase::Serving;
                out.push(Action::Open);
            }
            Phase::Collecting { .. } => {
                self.without_silent(view, now_ms, out);
                return;
            }
        }
        if self.without_silent(view, now_ms, out) {
            return;
        }
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let wanted = wanted(self.id, view, self.replicas_max);
        if let Some(join) = &reign.join {
            let as_wanted = Seat {
                level: join.level,
                node: join.node,
            };
            if !wanted.contains(&as_wanted) {
                reign.end_join();
            } else if reign.is_joined() {
                let mut seats = reign.seats.clone();
                seats.retain(|seat| seat.node != as_wanted.node);
                seats.push(as_wanted);
                return self.propose(seats, view, now_ms, out);
            } else {
                return self.go_on_copying(out);
            }
        }
        let lacks = wanted.iter().find(|seat| {
            let present = reign.seats.iter().find(|present| present.node == seat.node);
            present.is_none_or(|present| present.level > seat.level)
        });
        if let Some(seat) = lacks {
            if let Some(member) = view.members.get(&seat.node) {
                self.joins += 1;
                let join = Join::new(self.joins, *seat, member.incarnation);
                reign.begin_join(join, self.done.all(), now_ms);
                out.push(Action::List);
                self.flush(now_ms, out);
            }
            return;
        }
        if !wanted.is_empty() && wanted != reign.seats {
            if wanted[0].node != self.me {
                reign.phase = Phase::HandingOver;
                out.push(Action::Close);
            }
            self.propose(wanted, view, now_ms, out);
        }
    }

    /// Proposes to go on without seats that acknowledge nothing; whether there are any.
    fn without_silent(&mut self, view: &View, now_ms: u64, out: &mut Vec<Action<R>>) -> bool {
        let silence_ms = self.timing.silence_ms;
        let Role::Primary(reign) = &mut self.role else {
            return false;
        };
        let is_silent = |node: NodeId| {
            let stream = reign.streams.get(&node);
            stream.is_some_and(|stream| stream.is_silent(now_ms, silence_ms))
        };
        let mut seats = reign.seats.clone();
        seats.retain(|seat| !is_silent(seat.node));
        if seats.len() < reign.seats.len() {
            self.propose(seats, view, now_ms, out);
            return true;
        }
        let joiner_is_silent = reign.join.as_ref().is_some_and(|j| is_silent(j.node));
        if joiner_is_silent {
            reign.end_join();
        }
        false
    }

    fn propose(
        &mut self,
        seats: Vec<Seat>,
        view: &View,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let life = |seat: &Seat| Some((*seat, view.members.get(&seat.node)?.incarnation));
        let command = Command::Reconfigure {
            partition: self.id,
            epoch: reign.epoch,
            seats: seats.iter().filter_map(life).collect(),
        };
        out.push(Action::Propose(command.clone()));
        reign.proposal = Some(Proposal {
            command,
            said_ms: now_ms,
        });
    }

    // A join.

    /// The objects that there are, for the join that asked for the list.
    pub fn copy_list(&mut self, objects: Vec<ObjectId>, now_ms: u64, out: &mut Vec<Action<R>>) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        if let Some(join) = &mut reign.join
            && matches!(join.stage, Stage::Listing)
        {
            join.stage = Stage::Copying {
                left: objects.into(),
                asked: 0,
            };
        }
        self.go_on_copying(out);
        self.flush(now_ms, out);
    }

    /// Sends one object, as it is now, to the nodes that lack it. `None`: it was deleted meanwhile.
    pub fn copy(&mut self, object: ObjectId, replica: Option<&mut Replica>) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let Some(join) = &mut reign.join else { return };
        if let Stage::Copying { asked, .. } = &mut join.stage {
            *asked = asked.saturating_sub(1);
        }
        let (Some(replica), Some(stream)) = (replica, reign.streams.get_mut(&join.node)) else {
            return;
        };
        // A seat has it, in full or as a stub, and gets only what its new level adds.
        let is_there = stream.level != NO_SEAT
            && (replica.replicas > stream.level || replica.replicas <= join.level);
        if !is_there
            && replica.copied != join.number
            && install(stream, object, replica, join.level).is_some()
        {
            replica.copied = join.number;
        }
    }

    fn go_on_copying(&mut self, out: &mut Vec<Action<R>>) {
        let window = self.timing.window;
        if let Role::Primary(reign) = &mut self.role {
            reign.go_on_copying(window, out);
        }
    }

    /// Sends an object whole to a seat that has another one than it should.
    pub fn repair(&mut self, node: NodeId, object: ObjectId, replica: &mut Replica) {
        let Role::Primary(reign) = &mut self.role else {
            return;
        };
        let Some(stream) = reign.streams.get_mut(&node) else {
            return;
        };
        let level = stream.level;
        install(stream, object, replica, level);
    }

    /// A session has ended: nobody will repeat its requests.
    pub fn end_session(&mut self, session: SessionId) {
        self.done.forget(session);
    }
}

impl<R> Reign<R> {
    fn is_complete(&self) -> bool {
        match &self.phase {
            Phase::Collecting { missing, .. } => missing.is_empty(),
            _ => true,
        }
    }

    fn await_all(&mut self, needs: Vec<(NodeId, u64)>) {
        self.pending.push_back(Pending {
            needs,
            answers: Vec::new(),
        });
    }
}

/// Appends an object to a stream. One that can not be encoded has panicked in the user's code, and stays where it is.
fn install(
    stream: &mut Outgoing,
    object: ObjectId,
    replica: &mut Replica,
    level: u8,
) -> Option<u64> {
    let image: Image = replica.image(level).ok()?;
    Some(stream.push(Entry::Install {
        object,
        image: image.into(),
        done: None,
    }))
}
