//! Messages from other nodes.

use crucial_object::ObjectId;

use super::requests::Requests;
use super::state::{Action, Partition, Phase, Primary, Role};
use super::stream::{Incoming, StreamPlace, UNASSIGNED};
use crate::replication::mutant::Mutant;
use crate::replication::{Command, Entry, Epoch, Holding, Lacks, Lifecycle, Message, NodeId, View};

/// How many objects one message names that cannot be kept.
const LACKS_MAX: usize = 256;

/// How far the epoch of a message may be ahead of the newest view here. What a node is told comes before its view only
/// for a moment. An epoch that is taken up is never left for a lower one: if it does not exist, the control group has to
/// come up to it ([`Partition::surpass`]).
const EPOCHS_AHEAD_MAX: u64 = 16;

impl<R> Partition<R> {
    /// A message about this partition came. One from far ahead of the view is ignored: it comes again.
    pub fn receive(
        &mut self,
        from: NodeId,
        message: Message,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
        let epoch = message.epoch();
        if epoch.0 > self.viewed.0.saturating_add(EPOCHS_AHEAD_MAX) {
            return;
        }
        let takes_older = Mutant::NoSeal.is_planted() && !self.is_primary();
        if epoch < self.sealed && !takes_older {
            return;
        }
        if epoch > self.sealed {
            // There is another primary: its messages came before the view.
            self.sealed = epoch;
            self.sealed_ms = now_ms;
            self.step_down(out);
        }
        match message {
            Message::Collect { rank, .. } => {
                self.collected = Some(rank);
                self.follow(epoch);
                // The digest waits for methods that run long. Until then the primary knows that this node lives.
                self.accept(from, out);
                out.push(Action::Digest(from));
            }
            Message::Stream {
                base,
                first,
                entries,
                ..
            } => self.take_in(from, epoch, base, first, entries, out),
            Message::Digest { holding, open, .. } => self.learn(from, epoch, (holding, open), out),
            Message::Accepted { upto, lacks, .. } => {
                self.learn_lacks((from, epoch), (upto, lacks), out);
                self.acknowledged(from, epoch, upto, now_ms, out);
            }
            Message::Diverged { object, .. } => {
                if self.primary_in(epoch).is_some() {
                    out.push(Action::Repair(from, object));
                }
            }
        }
    }

    /// This node has a lease for a heartbeat that was sent at this time, and at least the view that was the newest then.
    /// Where an epoch was taken up earlier that this view does not know, nobody is in it: a message was wrong. Gives the
    /// command with which the control group comes nearer to it.
    pub fn surpass(&mut self, view: &View, sent_ms: u64) -> Option<Command> {
        let configuration = view.configuration(self.id);
        let is_real = self.sealed <= configuration.epoch || self.sealed_ms >= sent_ms;
        if is_real || !view.has(self.me, self.incarnation) {
            return None;
        }
        // No primary has asked.
        self.collected = None;
        let assignments = configuration.assignments.iter();
        let assignments = assignments.filter_map(|assignment| {
            let member = view.members.get(&assignment.node)?;
            Some((*assignment, member.incarnation))
        });
        Some(Command::Reconfigure {
            partition: self.id,
            epoch: configuration.epoch,
            assignments: assignments.collect(),
        })
    }

    pub(super) fn follow(&mut self, epoch: Epoch) {
        let known = matches!(&self.role, Role::Follower(i) if i.epoch == epoch);
        if !known && !self.is_primary() {
            self.role = Role::Follower(Incoming::new(epoch));
        }
    }

    pub(super) fn take_in(
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
        for (number, entry) in incoming.accept(base, first, entries) {
            match entry {
                Entry::Reset { rank } => {
                    out.push(Action::Clear);
                    self.clear_lacks();
                    self.rank = Some(rank);
                    self.collected = None;
                    self.told = Some((epoch, rank));
                    self.done = Requests::default();
                }
                Entry::Rank { rank } => {
                    if self.rank.is_some_and(|holding| holding < rank) {
                        out.push(Action::Shed(rank));
                    }
                    self.rank = Some(rank);
                    self.collected = None;
                    self.told = Some((epoch, rank));
                }
                Entry::Done(requests) => self.done.replace(requests),
                entry => {
                    match &entry {
                        Entry::Install {
                            done, tombstones, ..
                        }
                        | Entry::Drop {
                            done, tombstones, ..
                        } => {
                            self.done.record(*done);
                            self.done.add_tombstones(tombstones);
                        }
                        _ => {}
                    }
                    match (&entry, &mut self.role) {
                        (Entry::Drop { object, .. }, _) => {
                            let was_lacking = self.lacks.remove(object);
                            self.lacks_version += u64::from(was_lacking);
                        }
                        (Entry::Install { .. }, Role::Follower(incoming)) => {
                            incoming.begin_install(number);
                        }
                        _ => {}
                    }
                    let place = StreamPlace {
                        from,
                        epoch,
                        number,
                        rank: self.rank.unwrap_or(UNASSIGNED),
                    };
                    out.push(Action::Follow(place, entry));
                }
            }
        }
        self.accept(from, out);
    }

    /// Acknowledges what came of a stream.
    fn accept(&self, to: NodeId, out: &mut Vec<Action<R>>) {
        let Role::Follower(incoming) = &self.role else {
            return;
        };
        let upto = incoming.upto().unwrap_or_default();
        let lacks = Lacks {
            version: self.lacks_version,
            objects: self.lacks.iter().take(LACKS_MAX).copied().collect(),
            has_more: self.lacks.len() > LACKS_MAX,
        };
        let epoch = incoming.epoch;
        out.push(Action::Send(to, Message::Accepted { epoch, upto, lacks }));
    }

    /// What an entry of a stream has brought is in its place, or cannot be kept here.
    pub fn installed(
        &mut self,
        place: StreamPlace,
        (object, is_kept): (ObjectId, bool),
        out: &mut Vec<Action<R>>,
    ) {
        let has_changed = match is_kept || Mutant::LackingInSilence.is_planted() {
            true => self.lacks.remove(&object),
            false => self.lacks.insert(object),
        };
        self.lacks_version += u64::from(has_changed);
        if let Role::Follower(incoming) = &mut self.role
            && incoming.epoch == place.epoch
            && (incoming.end_install(place.number) || has_changed)
        {
            self.accept(place.from, out);
        }
    }

    pub(super) fn clear_lacks(&mut self) {
        self.lacks.clear();
        self.lacks_version += 1;
    }

    /// Whether an object came that could not be kept.
    pub fn lacks(&self, object: &ObjectId) -> bool {
        self.lacks.contains(object)
    }

    /// A server has said what it cannot keep.
    fn learn_lacks(
        &mut self,
        (from, epoch): (NodeId, Epoch),
        (upto, lacks): (u64, Lacks),
        out: &mut Vec<Action<R>>,
    ) {
        let Some(primary) = self.primary_in(epoch) else {
            return;
        };
        let Some(stream) = primary.streams.get_mut(&from) else {
            return;
        };
        let joins = primary.join.as_ref().is_some_and(|join| join.node == from);
        if stream.rank == UNASSIGNED && !joins {
            // Of a join that has ended.
            return;
        }
        let news = stream.set_refused(upto, lacks);
        if !news.is_empty() {
            out.push(Action::Lacks(from, news));
        }
    }

    pub(super) fn primary_in(&mut self, epoch: Epoch) -> Option<&mut Primary<R>> {
        match &mut self.role {
            Role::Primary(primary) if primary.epoch == epoch => Some(primary),
            _ => None,
        }
    }

    pub(super) fn learn(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        (holding, open): (Vec<Holding>, Vec<ObjectId>),
        out: &mut Vec<Action<R>>,
    ) {
        let Some(primary) = self.primary_in(epoch) else {
            return;
        };
        if let Phase::Collecting { missing, .. } = &primary.phase
            && missing.get(&from).is_some_and(|there| !there.is_whole)
        {
            out.push(Action::Reconcile(from, holding, open));
        }
    }

    pub(super) fn acknowledged(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        upto: u64,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
        let (_, patience_ms) = self.timing.pauses_ms();
        let Some(primary) = self.primary_in(epoch) else {
            return;
        };
        if let Some(stream) = primary.streams.get_mut(&from) {
            stream.acknowledge(upto, now_ms);
            if let Phase::Collecting {
                missing, since_ms, ..
            } = &primary.phase
                && missing.contains_key(&from)
                && now_ms.saturating_sub(*since_ms) < patience_ms
            {
                stream.hear_from(now_ms);
            }
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
    /// it that is still on its way must find that it was executed. The other assignments need not know: if they come to
    /// serve, requests from before are refused.
    pub fn record(&mut self, done: Lifecycle) {
        self.done.record(Some(done));
    }

    /// The number of the last change.
    pub fn last(&self) -> u64 {
        self.issued
    }

    /// The list of what this server holds, for the primary of its epoch. `holding` and `open`: all objects of the partition,
    /// the latter those whose lines are not through.
    pub fn digest(&self, holding: Vec<Holding>, open: Vec<ObjectId>) -> Message {
        Message::Digest {
            epoch: self.sealed,
            holding,
            open,
        }
    }
}
