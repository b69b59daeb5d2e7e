//! The effect of a new view on this server's assignment.

use std::collections::{BTreeMap, VecDeque};

use super::requests::Requests;
use super::state::{Action, Comparison, Partition, Phase, Primary, Role};
use super::stream::Outgoing;
use crate::replication::mutant::Mutant;
use crate::replication::{
    Assignment, Command, Configuration, Entry, Epoch, Message, NodeId, View, ViewVersion,
};

impl<R> Partition<R> {
    /// A new view came.
    pub fn on_view(&mut self, view: &View, now_ms: u64, out: &mut Vec<Action<R>>) {
        if !view.has(self.me, self.incarnation) {
            // The view's assignments are those of an earlier incarnation.
            return;
        }
        let configuration = view.configuration(self.id);
        self.is_amnesic = configuration.is_amnesic();
        self.viewed = self.viewed.max(configuration.epoch);
        self.drop_outdated(configuration, out);
        // Of an epoch that is over already it takes no assignment: a newer view is on its way.
        if configuration.epoch > self.configured && configuration.epoch >= self.sealed {
            self.configured = configuration.epoch;
            self.sealed = configuration.epoch;
            self.take_assignment(configuration, now_ms, out);
        }
        self.forget_departed(view);
        self.plan(view, now_ms, out);
        if !Mutant::NoReleaseAfterJoin.is_planted() {
            self.release(out);
        }
    }

    /// The partition began anew, without this node: what is here may be older than what others had by then.
    fn drop_outdated(&mut self, configuration: &Configuration, out: &mut Vec<Action<R>>) {
        let emptied = configuration.emptied;
        let is_newer = self.told.is_some_and(|(epoch, _)| epoch >= emptied);
        if emptied > self.configured && !is_newer && !Mutant::KeepsOutdated.is_planted() {
            self.step_down(out);
            self.role = Role::Idle;
            self.clear(out);
        }
    }

    pub(super) fn take_assignment(
        &mut self,
        configuration: &Configuration,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
        match configuration.rank(self.me) {
            Some(_) if configuration.primary() == Some(self.me) => {
                self.primary(configuration, now_ms, out);
            }
            Some(rank) => {
                self.step_down(out);
                self.become_backup(rank, configuration.epoch, out);
            }
            None => {
                self.step_down(out);
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
        if self.rank.take().is_some() {
            out.push(Action::Clear);
        }
        self.collected = None;
        self.clear_lacks();
        self.done = Requests::default();
    }

    pub(super) fn become_backup(&mut self, assignment: u8, epoch: Epoch, out: &mut Vec<Action<R>>) {
        // The primary may have told it of a lower one already: its messages come before the view.
        let rank = match self.told {
            Some((told, rank)) if told >= epoch => rank.min(assignment),
            _ => assignment,
        };
        assert!(
            self.rank.is_some_and(|holding| holding <= rank),
            "{:?} of {:?} at rank {rank} in {epoch:?}, and holds what is above {:?}",
            self.me,
            self.id,
            self.rank
        );
        self.rank = Some(rank);
        self.collected = None;
        let heard = match &self.role {
            Role::Follower(incoming) => incoming.epoch >= epoch,
            _ => false,
        };
        if !heard {
            self.role = Role::Idle;
            // Otherwise what is below its rank may be on its way to a lower one.
            out.push(Action::Shed(rank));
        }
    }

    /// The node is not the primary any more, if it was.
    pub(super) fn step_down(&mut self, out: &mut Vec<Action<R>>) {
        if self.is_primary() {
            self.role = Role::Idle;
            // Nobody waits for them here any more: the clients ask the new primary.
            self.released = self.issued;
            out.push(Action::Close);
        }
    }

    pub(super) fn primary(
        &mut self,
        configuration: &Configuration,
        now_ms: u64,
        out: &mut Vec<Action<R>>,
    ) {
        let old = std::mem::replace(&mut self.role, Role::Idle);
        if let Role::Primary(primary) = old {
            if primary.since == configuration.since {
                return self.go_on(primary, configuration, out);
            }
            out.push(Action::Close);
        }
        let rank = self.rank.max(self.collected.take());
        let rank = match Mutant::BelievesOwnRank.is_planted() {
            true => rank,
            false => rank.max(rank.map(|_| configuration.promoted_from)),
        };
        match rank {
            None | Some(0) => {}
            Some(_) if Mutant::LostComesBack.is_planted() => {}
            Some(rank) => out.push(Action::Lose(rank)),
        }
        self.rank = Some(0);
        self.released = self.issued;
        let others = || configuration.assignments[1..].iter();
        let mut primary = Primary {
            epoch: configuration.epoch,
            since: configuration.since,
            known_since: configuration.known_since,
            assignments: configuration.assignments.clone(),
            phase: Phase::Collecting {
                missing: others()
                    .map(|assignment| (assignment.node, Comparison::default()))
                    .collect(),
                asked_ms: now_ms,
                since_ms: now_ms,
                is_open: false,
            },
            changes: 0,
            streams: BTreeMap::new(),
            pending: VecDeque::new(),
            join: None,
            backoff: BTreeMap::new(),
            proposal: None,
            planned: ViewVersion::default(),
            is_full: false,
        };
        for assignment in others() {
            let mut stream = Outgoing::new(assignment.rank, now_ms);
            stream.push(Entry::Done(self.done.all()));
            primary.streams.insert(assignment.node, stream);
            let collect = Message::Collect {
                epoch: configuration.epoch,
                rank: assignment.rank,
            };
            out.push(Action::Send(assignment.node, collect));
        }
        if primary.is_complete() || Mutant::NoReconciliation.is_planted() {
            primary.phase = Phase::Serving;
            out.push(Action::Open);
        }
        self.role = Role::Primary(primary.into());
        self.flush(now_ms, out);
    }

    /// The primary stays, in another configuration.
    pub(super) fn go_on(
        &mut self,
        mut primary: Box<Primary<R>>,
        configuration: &Configuration,
        out: &mut Vec<Action<R>>,
    ) {
        primary.epoch = configuration.epoch;
        primary.changes = 0;
        primary.assignments = configuration.assignments.clone();
        primary.proposal = None;
        primary.join = None;
        primary.planned = ViewVersion::default();
        let stays = |node: NodeId| configuration.rank(node).is_some();
        primary.backoff.retain(|node, _| !stays(*node));
        primary.streams.retain(|node, _| stays(*node));
        if !Mutant::StaleNeeds.is_planted() {
            // A later stream to the same node has numbers of its own.
            for pending in &mut primary.pending {
                pending.needs.retain(|(node, _)| stays(*node));
            }
        }
        for assignment in &configuration.assignments[1..] {
            if let Some(stream) = primary.streams.get_mut(&assignment.node) {
                stream.begin_again(assignment.rank);
            }
        }
        match &mut primary.phase {
            Phase::Collecting {
                missing, is_open, ..
            } => {
                missing.retain(|node, _| stays(*node));
                for there in missing.values_mut() {
                    *there = Comparison::default();
                }
                out.extend(collect(
                    configuration.epoch,
                    &configuration.assignments,
                    missing,
                ));
                if missing.is_empty() {
                    out.push(served(*is_open));
                    primary.phase = Phase::Serving;
                }
            }
            Phase::HandingOver => {
                primary.phase = Phase::Serving;
                out.push(Action::Open);
            }
            Phase::Serving => {}
        }
        self.role = Role::Primary(primary);
        self.release(out);
    }

    /// Nodes that are no members any more get nothing.
    pub(super) fn forget_departed(&mut self, view: &View) {
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        let gone = |node: NodeId, life| !view.has(node, life);
        if primary
            .join
            .as_ref()
            .is_some_and(|join| gone(join.node, join.incarnation))
        {
            primary.end_join();
        }
        // A proposal with one that is gone is never carried out.
        let is_void = primary.proposal.as_ref().is_some_and(|proposal| {
            matches!(&proposal.command, Command::Reconfigure { assignments, .. }
                if assignments.iter().any(|(assignment, life)| gone(assignment.node, *life)))
        });
        if is_void {
            primary.proposal = None;
        }
    }
}

/// More is served from now on than before; `was_open`: something was.
pub(super) fn served<R>(was_open: bool) -> Action<R> {
    match was_open {
        true => Action::Resume,
        false => Action::Open,
    }
}

/// Asks nodes what they hold, which have not said it of all objects.
pub(super) fn collect<R>(
    epoch: Epoch,
    assignments: &[Assignment],
    missing: &BTreeMap<NodeId, Comparison>,
) -> Vec<Action<R>> {
    let is_asked = |node| missing.get(node).is_some_and(|there| !there.is_whole);
    let asked = assignments
        .iter()
        .filter(|assignment| is_asked(&assignment.node));
    let ask = |assignment: &Assignment| {
        let rank = assignment.rank;
        Action::Send(assignment.node, Message::Collect { epoch, rank })
    };
    asked.map(ask).collect()
}
