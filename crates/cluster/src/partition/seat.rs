//! What a view does to this server's part.

use std::collections::{BTreeMap, VecDeque};

use super::requests::Requests;
use super::stream::Outgoing;
use super::{Action, Partition, Phase, Reign, Role};
use crate::mutant::Mutant;
use crate::{Command, Configuration, Entry, Epoch, Message, NodeId, View, ViewVersion};

impl<R> Partition<R> {
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

    pub(super) fn take_seat(
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

    pub(super) fn clear(&mut self, out: &mut Vec<Action<R>>) {
        if self.level.take().is_some() {
            out.push(Action::Clear);
        }
        self.done = Requests::default();
    }

    pub(super) fn become_backup(&mut self, seat: u8, epoch: Epoch, out: &mut Vec<Action<R>>) {
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
    pub(super) fn resign(&mut self, out: &mut Vec<Action<R>>) {
        if self.is_primary() {
            self.role = Role::Idle;
            // Nobody waits for them here any more: the clients ask the new primary.
            self.released = self.issued;
            out.push(Action::Close);
        }
    }

    pub(super) fn reign(
        &mut self,
        configuration: &Configuration,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
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
            planned: ViewVersion::default(),
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
    pub(super) fn go_on(
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
        reign.planned = ViewVersion::default();
        reign
            .streams
            .retain(|node, _| configuration.level(*node).is_some());
        for seat in &configuration.seats[1..] {
            if let Some(stream) = reign.streams.get_mut(&seat.node) {
                stream.begin_again(seat.level);
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
    pub(super) fn forget_departed(&mut self, view: &View) {
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
}
