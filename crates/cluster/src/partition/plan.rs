//! Time, and the way to where placement wants the partition.

use super::join::Join;
use super::{Action, Partition, Phase, Proposal, Role};
use crate::placement::wanted;
use crate::{Command, Message, NodeId, Seat, View};

impl<R> Partition<R> {
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
    pub(super) fn plan(&mut self, view: &View, now_ms: u64, out: &mut Vec<Action<R>>) {
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
        } else {
            reign.planned = view.version;
        }
    }

    /// Proposes to go on without seats that acknowledge nothing; whether there are any.
    pub(super) fn without_silent(
        &mut self,
        view: &View,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) -> bool {
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

    pub(super) fn propose(
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
}
