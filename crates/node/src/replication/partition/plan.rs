//! Time, and the way to where placement wants the partition.

use super::assignment::collect;
use super::join::Join;
use super::state::{Action, Partition, Phase, Proposal, Role};
use crate::replication::mutant::Mutant;
use crate::replication::placement::wanted;
use crate::replication::{Assignment, Command, NodeId, View};

impl<R> Partition<R> {
    /// Time has passed.
    pub fn tick(&mut self, view: &View, now_ms: u64, out: &mut Vec<Action<R>>) {
        let timing = self.timing;
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let epoch = primary.epoch;
        if let Phase::Collecting {
            missing, asked_ms, ..
        } = &mut primary.phase
            && now_ms.saturating_sub(*asked_ms) >= timing.repeat_ms
        {
            *asked_ms = now_ms;
            out.extend(collect(epoch, &primary.assignments, missing));
        }
        if let Some(proposal) = &mut primary.proposal
            && now_ms.saturating_sub(proposal.said_ms) >= timing.repeat_ms
        {
            proposal.said_ms = now_ms;
            out.push(Action::Propose(proposal.command.clone()));
        }
        for (node, stream) in &mut primary.streams {
            stream.repeat(now_ms, timing.repeat_ms);
            let again = stream.lacking_mut().try_again(now_ms, timing.pauses_ms());
            out.extend(
                again
                    .into_iter()
                    .map(|object| Action::Repair(*node, object)),
            );
        }
        self.flush(now_ms, out);
        self.plan(view, now_ms, out);
        if !Mutant::NoReleaseAfterJoin.is_planted() {
            self.release(out);
        }
    }

    /// Takes the next step to where placement wants the partition.
    pub(super) fn plan(&mut self, view: &View, now_ms: u64, out: &mut Vec<Action<R>>) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        if view.configuration(self.id).epoch != primary.epoch || primary.proposal.is_some() {
            return;
        }
        match primary.phase {
            Phase::Serving => {}
            Phase::HandingOver => {
                // The node that was to take over is gone.
                primary.phase = Phase::Serving;
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
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let wanted = wanted(self.id, view, self.replicas_max);
        let is_leaving = view.members.get(&self.me).is_some_and(|me| me.leaving);
        if let Some(join) = &primary.join {
            let as_wanted = Assignment {
                rank: join.rank,
                node: join.node,
            };
            if !wanted.contains(&as_wanted) {
                primary.end_join();
            } else if primary.would_lose(join.rank, join.node, is_leaving) {
                return primary.end_join_for_now(now_ms, &self.timing);
            } else if primary.is_joined() {
                let mut assignments = primary.assignments.clone();
                assignments.retain(|assignment| assignment.node != as_wanted.node);
                assignments.push(as_wanted);
                return self.propose(assignments, view, now_ms, out);
            } else {
                return self.go_on_copying(out);
            }
        }
        let lacks = wanted.iter().find(|assignment| {
            let present = primary
                .assignments
                .iter()
                .find(|present| present.node == assignment.node);
            present.is_none_or(|present| present.rank > assignment.rank)
        });
        if let Some(assignment) = lacks {
            let backoff = primary.backoff.get(&assignment.node);
            if backoff.is_some_and(|backoff| now_ms < backoff.until_ms)
                || primary.would_lose(assignment.rank, assignment.node, is_leaving)
            {
                return;
            }
            if let Some(member) = view.members.get(&assignment.node)
                && let Some(slot) = self.join_slots.take()
            {
                self.joins += 1;
                let join = Join::new(self.joins, (*assignment, member.incarnation), slot);
                primary.begin_join(join, self.done.all(), now_ms);
                out.push(Action::List);
                self.flush(now_ms, out);
            }
            return;
        }
        if !wanted.is_empty() && wanted != primary.assignments {
            if primary.would_lose(0, wanted[0].node, is_leaving) {
                return;
            }
            if wanted[0].node != self.me {
                primary.phase = Phase::HandingOver;
                out.push(Action::Close);
            }
            self.propose(wanted, view, now_ms, out);
        } else {
            primary.planned = view.version;
        }
    }

    /// Proposes to go on without assignments that acknowledge nothing; whether there are any.
    pub(super) fn without_silent(
        &mut self,
        view: &View,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) -> bool {
        let silence_ms = self.timing.silence_ms;
        let backlog_max = self.timing.unacknowledged_bytes_max;
        let Role::Primary(primary) = &mut self.role else {
            return false;
        };
        let is_silent = |node: NodeId| {
            let stream = primary.streams.get(&node);
            stream.is_some_and(|stream| stream.is_silent(now_ms, silence_ms))
        };
        let mut assignments = primary.assignments.clone();
        assignments.retain(|assignment| !is_silent(assignment.node));
        if assignments.len() < primary.assignments.len() {
            self.propose(assignments, view, now_ms, out);
            return true;
        }
        let is_behind = |node: NodeId| {
            let stream = primary.streams.get(&node);
            stream.is_some_and(|stream| stream.backlog() > backlog_max)
        };
        let is_useless = |node: NodeId| is_silent(node) || is_behind(node);
        if primary
            .join
            .as_ref()
            .is_some_and(|join| is_useless(join.node))
        {
            primary.end_join_for_now(now_ms, &self.timing);
        }
        false
    }

    pub(super) fn propose(
        &mut self,
        assignments: Vec<Assignment>,
        view: &View,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let life = |assignment: &Assignment| {
            Some((*assignment, view.members.get(&assignment.node)?.incarnation))
        };
        let command = Command::Reconfigure {
            partition: self.id,
            epoch: primary.epoch,
            assignments: assignments.iter().filter_map(life).collect(),
        };
        out.push(Action::Propose(command.clone()));
        primary.proposal = Some(Proposal {
            command,
            said_ms: now_ms,
        });
    }
}
