//! The leader's choice of the control group's voters among the members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_node::replication::{NodeId, View};
use openraft::{BasicNode, ChangeMembers, Membership, Raft, RaftMetrics};

use crate::leader::leads;
use crate::shared::Shared;
use crate::store::Group as Types;

/// Interval between two checks of the voters.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Time limit for a change of the voters.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(2);

/// Most log entries that a server may lack to become a voter.
const MISSING_ENTRIES_MAX: u64 = 500;

/// How many leases a missing voter keeps its vote if no other server can replace it: it is probably restarting.
const VOTE_RETENTION_LEASES: u64 = 3;

type Change = ChangeMembers<u64, BasicNode>;

impl Shared {
    /// While this server leads, adjusts the group's members and voters to the view.
    pub async fn arrange_all(self: Arc<Self>) {
        let Some(raft) = self.raft.get().cloned() else {
            return;
        };
        let mut fewer_since = None;
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            if leads(&raft).await.is_none() {
                fewer_since = None;
                continue;
            }
            if let Some(next) = self.next_change(&raft, &mut fewer_since) {
                apply_change(&raft, next).await;
            }
        }
    }

    /// The next change to make. Changes are made one at a time.
    fn next_change(&self, raft: &Raft<Types>, fewer_since: &mut Option<Instant>) -> Option<Change> {
        let view = self.view();
        let metrics = raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        if let Some(change) = missing_member(&view, membership) {
            return Some(change);
        }
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let is_ready = |id: u64| self.is_ready(id, &metrics);
        let wanted = wanted_voters(&view, self.node, &voters, is_ready);
        if membership.get_joint_config().len() > 1 {
            // A change has begun, perhaps under another leader, and must be finished first.
            let last = membership.get_joint_config().last().cloned();
            return wanted.or(last).map(Change::ReplaceAllVoters);
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted != voters)
            && self.may_replace(&view, &voters, &wanted, fewer_since)
        {
            return Some(Change::ReplaceAllVoters(wanted));
        }
        let gone: BTreeSet<u64> = membership
            .learner_ids()
            .filter(|id| !view.members.contains_key(&NodeId(*id)))
            .collect();
        (!gone.is_empty()).then_some(Change::RemoveNodes(gone))
    }

    /// Whether the server was heard during the last lease and has nearly the whole log. Any other voter would only
    /// delay decisions.
    fn is_ready(&self, id: u64, metrics: &RaftMetrics<u64, BasicNode>) -> bool {
        let leader_term = self.leader_term.lock();
        let (now_ms, within_ms) = (self.now_ms(), self.config.timing.lease_ms);
        let is_heard = leader_term
            .as_ref()
            .is_some_and(|term| term.was_heard(NodeId(id), now_ms, within_ms));
        if id == self.node.0 {
            return is_heard;
        }
        let matching = metrics.replication.as_ref().and_then(|all| all.get(&id));
        let has = matching.and_then(|has| has.map(|has| has.index));
        let last = metrics.last_log_index.unwrap_or_default();
        is_heard && has.is_some_and(|has| has + MISSING_ENTRIES_MAX >= last)
    }

    /// Whether the voters may be replaced now. The number of voters is not reduced at once, since a restarting server
    /// is missing only for a moment.
    fn may_replace(
        &self,
        view: &View,
        voters: &BTreeSet<u64>,
        wanted: &BTreeSet<u64>,
        fewer_since: &mut Option<Instant>,
    ) -> bool {
        let is_leaving = |id: &u64| {
            let member = view.members.get(&NodeId(*id));
            member.is_some_and(|member| member.leaving)
        };
        if wanted.len() >= voters.len() || voters.iter().any(is_leaving) {
            *fewer_since = None;
            return true;
        }
        let since = *fewer_since.get_or_insert_with(Instant::now);
        since.elapsed().as_millis() as u64 > VOTE_RETENTION_LEASES * self.config.timing.lease_ms
    }
}

/// The change for the first member of the view that the group lacks or knows under another address.
fn missing_member(view: &View, membership: &Membership<u64, BasicNode>) -> Option<Change> {
    view.members.iter().find_map(|(node, member)| {
        let entry = BTreeMap::from([(node.0, BasicNode::new(member.address.clone()))]);
        match membership.get_node(&node.0) {
            Some(known) if known.addr == member.address => None,
            Some(_) => Some(Change::SetNodes(entry)),
            None => Some(Change::AddNodes(entry)),
        }
    })
}

async fn apply_change(raft: &Raft<Types>, change: Change) {
    tracing::info!(?change, "changing the members of the control group");
    // A former voter stays as a learner. A failed change is tried again.
    let changed = raft.change_membership(change, true);
    match tokio::time::timeout(CHANGE_TIMEOUT, changed).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "cannot change the group's members"),
        Err(_) => tracing::debug!("timeout of a change of the group's members"),
    }
}

/// Chooses the voters: an odd number of staying members, the leader first, then present voters, then ready members.
/// `None` if most of the chosen members are not ready, since such a group could decide nothing.
fn wanted_voters(
    view: &View,
    leader: NodeId,
    present: &BTreeSet<u64>,
    is_ready: impl Fn(u64) -> bool,
) -> Option<BTreeSet<u64>> {
    let mut fit: Vec<u64> = view.staying().map(|node| node.0).collect();
    fit.retain(|id| present.contains(id) || is_ready(*id));
    let count = match fit.len() {
        0..3 => 1,
        3..5 => 3,
        _ => 5,
    };
    fit.sort_by_key(|id| (*id != leader.0, !present.contains(id), !is_ready(*id), *id));
    fit.truncate(count);
    let ready = fit.iter().filter(|id| is_ready(**id)).count();
    (2 * ready > count).then(|| fit.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crucial_node::replication::{Command, Control, Incarnation};

    fn view(nodes: &[u64], leaving: &[u64]) -> Arc<View> {
        let mut control = Control::new(4);
        for node in nodes {
            let join = Command::Join {
                node: NodeId(*node),
                incarnation: Incarnation(1),
                address: String::new(),
                lease_ms: 1000,
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

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    /// The wanted voters if all servers but the `late` ones are ready.
    fn wanted(
        (nodes, leaving): (&[u64], &[u64]),
        leader: u64,
        present: &[u64],
        late: &[u64],
    ) -> Option<BTreeSet<u64>> {
        let is_ready = |id: u64| !late.contains(&id);
        wanted_voters(
            &view(nodes, leaving),
            NodeId(leader),
            &set(present),
            is_ready,
        )
    }

    #[test]
    fn the_number_of_voters_is_odd_and_changes_are_minimal() {
        let all_ready = |nodes: &[u64], leaving: &[u64], leader, present: &[u64]| {
            wanted((nodes, leaving), leader, present, &[]).unwrap()
        };
        assert_eq!(all_ready(&[1], &[], 1, &[1]), set(&[1]));
        assert_eq!(all_ready(&[1, 2], &[], 2, &[2]), set(&[2]));
        assert_eq!(all_ready(&[1, 2, 3], &[], 2, &[2]), set(&[1, 2, 3]));
        let four = [1, 2, 3, 4];
        assert_eq!(all_ready(&four, &[], 4, &[2, 3, 4]), set(&[2, 3, 4]));
        assert_eq!(all_ready(&four, &[3], 4, &[2, 3, 4]), set(&[1, 2, 4]));
        let six = [1, 2, 3, 4, 5, 6];
        let five = [2, 3, 4, 5, 6];
        assert_eq!(all_ready(&six, &[], 6, &five), set(&five));
        // A leaving leader is replaced as a voter.
        assert_eq!(all_ready(&[1, 2], &[1], 1, &[1]), set(&[2]));
    }

    #[test]
    fn a_server_that_is_not_ready_gets_no_vote_but_keeps_one() {
        assert_eq!(wanted((&[1, 2, 3], &[]), 1, &[1], &[3]).unwrap(), set(&[1]));
        let present = [1, 2, 3];
        let kept = wanted((&present, &[]), 1, &present, &[3]).unwrap();
        assert_eq!(kept, set(&present));
        // No change if most of the new voters are not ready.
        assert_eq!(wanted((&present, &[]), 1, &present, &[2, 3]), None);
        assert_eq!(wanted((&[1, 2], &[1]), 1, &[1], &[2]), None);
        assert_eq!(wanted((&[], &[]), 1, &[1], &[]), None);
        // The only remaining voter is a ready one.
        let left = wanted((&present, &[1]), 1, &present, &[2]).unwrap();
        assert_eq!(left, set(&[3]));
    }
}
