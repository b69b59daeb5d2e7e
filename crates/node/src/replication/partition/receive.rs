//! Messages from other nodes.

use crucial_object::ObjectId;

use super::requests::Requests;
use super::state::{Action, Partition, Phase, Primary, Role};
use super::stream::{Incoming, UNASSIGNED};
use crate::replication::mutant::Mutant;
use crate::replication::{Entry, Epoch, Holding, Lifecycle, Message, NodeId};

impl<R> Partition<R> {
    /// A message about this partition came.
    pub fn receive(
        &mut self,
        from: NodeId,
        message: Message,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
        let epoch = message.epoch();
        let takes_older = Mutant::NoSeal.is_planted() && !self.is_primary();
        if epoch < self.sealed && !takes_older {
            return;
        }
        if epoch > self.sealed {
            // There is another primary: its messages came before the view.
            self.sealed = epoch;
            self.step_down(out);
        }
        match message {
            Message::Collect { rank, .. } => {
                self.collected = Some(rank);
                self.follow(epoch);
                out.push(Action::Digest(from));
            }
            Message::Stream {
                base,
                first,
                entries,
                ..
            } => self.take_in(from, epoch, base, first, entries, out),
            Message::Digest { holding, .. } => self.learn(from, epoch, holding, out),
            Message::Accepted { upto, .. } => self.acknowledged(from, epoch, upto, now_ms, out),
            Message::Diverged { object, .. } => {
                if self.primary_in(epoch).is_some() {
                    out.push(Action::Repair(from, object));
                }
            }
        }
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
        let accepted = incoming.accept(base, first, entries);
        let Some(upto) = incoming.upto() else { return };
        for entry in accepted {
            match entry {
                Entry::Reset { rank } => {
                    out.push(Action::Clear);
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
                    let rank = self.rank.unwrap_or(UNASSIGNED);
                    out.push(Action::Follow(from, rank, entry));
                }
            }
        }
        out.push(Action::Send(from, Message::Accepted { epoch, upto }));
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
        holding: Vec<Holding>,
        out: &mut Vec<Action<R>>,
    ) {
        let Some(primary) = self.primary_in(epoch) else {
            return;
        };
        if let Phase::Collecting { missing, .. } = &primary.phase
            && missing.contains(&from)
        {
            out.push(Action::Reconcile(from, holding));
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
        let Some(primary) = self.primary_in(epoch) else {
            return;
        };
        if let Some(stream) = primary.streams.get_mut(&from) {
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
    /// it that is still on its way must find that it was executed. The other assignments need not know: if they come to
    /// serve, requests from before are refused.
    pub fn record(&mut self, done: Lifecycle) {
        self.done.record(Some(done));
    }

    /// The number of the last change.
    pub fn last(&self) -> u64 {
        self.issued
    }

    /// The list of what this server holds, for the primary of its epoch. `holding`: all objects of the partition.
    pub fn digest(&self, holding: Vec<Holding>) -> Message {
        Message::Digest {
            epoch: self.sealed,
            holding,
        }
    }
}
