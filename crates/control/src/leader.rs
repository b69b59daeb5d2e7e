//! What the leader of the control group does: answers heartbeats with leases, finds who has died, says who votes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_cluster::{Command, Grant, Incarnation, NodeId, Roll, View, ViewVersion};
use openraft::{BasicNode, ChangeMembers, Raft, ServerState};

use crate::group::Shared;
use crate::question::{Answer, Question};
use crate::store::Group as Types;

/// A leader's time, from an election on.
pub(crate) struct Reign {
    term: u64,
    roll: Roll,
}

/// The roll is called so often in each lease.
const CALLS_PER_LEASE: u64 = 10;

/// After so many calls that did not come the process was stopped: others may lead, and nobody could be heard.
const STOPPED_CALLS: u32 = 4;

/// How long a change of who votes may take.
const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(2);

impl Shared {
    pub async fn answer(&self, question: Question) -> Answer {
        let Some(raft) = self.raft.get() else {
            return Answer::Elsewhere(None);
        };
        match question {
            Question::Append(rpc) => Answer::Append(raft.append_entries(rpc).await),
            Question::Vote(rpc) => Answer::Vote(raft.vote(rpc).await),
            Question::Snapshot(rpc) => Answer::Snapshot(raft.install_snapshot(rpc).await),
            Question::Heartbeat {
                node,
                incarnation,
                sent_ms,
                view,
            } => self.grant(raft, (node, incarnation), sent_ms, view).await,
            Question::Propose(commands) => self.decide(raft, commands).await,
        }
    }

    /// The leader's address, if another server leads.
    fn elsewhere(&self, raft: &Raft<Types>) -> Answer {
        let metrics = raft.metrics().borrow().clone();
        let leader = metrics
            .current_leader
            .filter(|leader| *leader != self.node.0);
        let membership = metrics.membership_config.membership();
        let address = leader.and_then(|leader| membership.get_node(&leader).cloned());
        Answer::Elsewhere(address.map(|node| node.addr))
    }

    /// A lease for a server that lives. The order matters: it was heard before the leader makes sure that it is the
    /// leader.
    async fn grant(
        &self,
        raft: &Raft<Types>,
        (node, incarnation): (NodeId, Incarnation),
        sent_ms: u64,
        _knows: ViewVersion,
    ) -> Answer {
        match &mut *self.reign.lock() {
            Some(reign) => reign.roll.hear(node, incarnation, self.now_ms()),
            None => return self.elsewhere(raft),
        }
        if raft.ensure_linearizable().await.is_err() {
            return self.elsewhere(raft);
        }
        let view = self.view();
        match view.has(node, incarnation) {
            true => Answer::Grant(Grant {
                sent_ms,
                view: view.version,
            }),
            false => Answer::Over,
        }
    }

    async fn decide(&self, raft: &Raft<Types>, commands: Vec<Command>) -> Answer {
        match raft.client_write(commands).await {
            Ok(written) => Answer::Proposed(written.data),
            Err(error) => match error.forward_to_leader() {
                Some(_) => self.elsewhere(raft),
                None => Answer::Failed(error.to_string()),
            },
        }
    }

    /// Does the leader's work whenever this server leads.
    pub async fn lead(self: Arc<Self>) {
        let Some(raft) = self.raft.get().cloned() else {
            return;
        };
        let pause = Duration::from_millis((self.config.timing.lease_ms / CALLS_PER_LEASE).max(10));
        let mut called = Instant::now();
        loop {
            tokio::time::sleep(pause).await;
            let was_stopped = called.elapsed() > pause * STOPPED_CALLS;
            called = Instant::now();
            let Some(term) = leads(&raft).await else {
                *self.reign.lock() = None;
                continue;
            };
            self.begin_reign(term, was_stopped);
            if raft.ensure_linearizable().await.is_err() {
                continue;
            }
            self.expire(&raft, term).await;
            self.arrange(&raft).await;
        }
    }

    fn begin_reign(&self, term: u64, was_stopped: bool) {
        let mut reign = self.reign.lock();
        let goes_on = reign.as_ref().is_some_and(|reign| reign.term == term);
        if !goes_on || was_stopped {
            // As if all had just been heard.
            let roll = Roll::new(self.now_ms());
            *reign = Some(Reign { term, roll });
        }
    }

    /// Expires the servers whose leases have ended.
    async fn expire(&self, raft: &Raft<Types>, term: u64) {
        let (view, now_ms) = (self.view(), self.now_ms());
        let expired = match &mut *self.reign.lock() {
            Some(reign) if reign.term == term => {
                reign
                    .roll
                    .expired(&view, now_ms, self.config.timing.wait_ms())
            }
            _ => return,
        };
        // This server hears itself like any other; without the others it is none to expire anybody.
        if expired.is_empty() || leads(raft).await != Some(term) {
            return;
        }
        for command in &expired {
            tracing::warn!(?command, "a server was silent for longer than its lease");
        }
        let _ = raft.client_write(expired).await;
    }

    /// Makes the members of the view those of the group, and the right ones of them voters.
    async fn arrange(&self, raft: &Raft<Types>) {
        let view = self.view();
        let metrics = raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership().clone();
        let nodes: BTreeMap<u64, BasicNode> = membership
            .nodes()
            .map(|(id, node)| (*id, node.clone()))
            .collect();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let address = |member: &crucial_cluster::Member| BasicNode::new(member.address.clone());
        for (node, member) in &view.members {
            match nodes.get(&node.0) {
                Some(known) if known.addr == member.address => {}
                Some(_) => {
                    let moved = BTreeMap::from([(node.0, address(member))]);
                    return change(raft, ChangeMembers::SetNodes(moved)).await;
                }
                None => {
                    let added = BTreeMap::from([(node.0, address(member))]);
                    return change(raft, ChangeMembers::AddNodes(added)).await;
                }
            }
        }
        let wanted = wanted_voters(&view, self.node, &voters);
        if !wanted.is_empty() && wanted != voters && wanted.iter().all(|id| nodes.contains_key(id))
        {
            return change(raft, ChangeMembers::ReplaceAllVoters(wanted)).await;
        }
        let gone: BTreeSet<u64> = nodes
            .keys()
            .copied()
            .filter(|id| !voters.contains(id) && !view.members.contains_key(&NodeId(*id)))
            .collect();
        if !gone.is_empty() {
            change(raft, ChangeMembers::RemoveNodes(gone)).await;
        }
    }
}

/// The term in which this server leads.
async fn leads(raft: &Raft<Types>) -> Option<u64> {
    let asked = raft.with_raft_state(|state| {
        let leads = state.server_state == ServerState::Leader;
        leads.then(|| state.vote_ref().leader_id().term)
    });
    asked.await.ok().flatten()
}

async fn change(raft: &Raft<Types>, members: ChangeMembers<u64, BasicNode>) {
    // Who votes no more stays as a listener. What does not come about is tried again.
    let changed = raft.change_membership(members, true);
    match tokio::time::timeout(MEMBERSHIP_TIMEOUT, changed).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the group's members could not be changed"),
        Err(_) => tracing::debug!("a change of the group's members takes long"),
    }
}

/// Who is to vote: an odd number of those that stay, those that do already before others, the leader first.
fn wanted_voters(view: &View, leader: NodeId, present: &BTreeSet<u64>) -> BTreeSet<u64> {
    let mut staying: Vec<NodeId> = view.staying().collect();
    let count = match staying.len() {
        0..3 => 1,
        3..5 => 3,
        _ => 5,
    };
    staying.sort_by_key(|node| (*node != leader, !present.contains(&node.0), node.0));
    staying.into_iter().take(count).map(|node| node.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crucial_cluster::Control;

    fn view(nodes: &[u64], leaving: &[u64]) -> Arc<View> {
        let mut control = Control::new(4);
        for node in nodes {
            let join = Command::Join {
                node: NodeId(*node),
                incarnation: Incarnation(1),
                address: String::new(),
            };
            control.apply(&join).unwrap();
        }
        for node in leaving {
            let leave = Command::Leave {
                node: NodeId(*node),
                incarnation: Incarnation(1),
            };
            control.apply(&leave).unwrap();
        }
        control.view().clone()
    }

    #[test]
    fn voters_are_odd_in_number_and_change_no_more_than_they_must() {
        let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<_>>();
        let wanted = |nodes: &[u64], leaving: &[u64], leader, present: &[u64]| {
            wanted_voters(&view(nodes, leaving), NodeId(leader), &set(present))
        };
        assert_eq!(wanted(&[1], &[], 1, &[1]), set(&[1]));
        assert_eq!(wanted(&[1, 2], &[], 2, &[2]), set(&[2]));
        assert_eq!(wanted(&[1, 2, 3], &[], 2, &[2]), set(&[1, 2, 3]));
        assert_eq!(wanted(&[1, 2, 3, 4], &[], 4, &[2, 3, 4]), set(&[2, 3, 4]));
        assert_eq!(wanted(&[1, 2, 3, 4], &[3], 4, &[2, 3, 4]), set(&[1, 2, 4]));
        assert_eq!(
            wanted(&[1, 2, 3, 4, 5, 6], &[], 6, &[2, 3, 4, 5, 6]),
            set(&[2, 3, 4, 5, 6])
        );
        // A leader that leaves gives its vote away.
        assert_eq!(wanted(&[1, 2], &[1], 1, &[1]), set(&[2]));
    }
}
