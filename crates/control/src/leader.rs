//! What the leader of the control group does: answers heartbeats with leases, and finds who has died.
//!
//! That a server's lease has ended when its end is decided rests on this:
//!
//! - A lease counts from the time at which a heartbeat was sent, and the leader notes when it came ([`FailureDetector::hear`])
//!   before it makes sure that it leads. So the leaders of later terms begin later than that.
//! - A leader proposes the end of a life that it has not heard of for longer than a lease and what clocks drift, since
//!   it has begun itself. The entry has an effect in its term only, so nobody else was the leader meanwhile.
//! - From then on it gives this life no lease any more ([`Reign::condemned`]), even if it is heard before it is decided.
//! - What leaders before it have proposed is decided, one way or the other, before it gives its first lease
//!   ([`Reign::is_settled`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_node::replication::{Command, Grant};
use openraft::{Raft, ServerState};
use tokio::sync::{mpsc, oneshot};

use crate::config::PROPOSE_TIMEOUT;
use crate::question::{Answer, Question};
use crate::shared::{Doubt, Shared};
use crate::store::{Decision, Group as Types};
use crate::term::{Life, Reign};

/// The roll is called so often in each lease.
const CALLS_PER_LEASE: u64 = 10;

/// A leader that could not make sure for so many calls that it leads was cut off, or its process stopped: it begins
/// anew with what it has heard.
const LOST_CALLS: u32 = 4;

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
            } => self.grant(raft, (node, incarnation), sent_ms).await,
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
    /// leader, and the view is read after that.
    async fn grant(&self, raft: &Raft<Types>, life: Life, sent_ms: u64) -> Answer {
        let heard = match &mut *self.reign.lock() {
            Some(reign) => reign.hear(life, self.now_ms()).then_some(reign.term),
            None => return self.elsewhere(raft),
        };
        let Some(term) = heard else {
            return Answer::Failed("it is being taken for dead".to_owned());
        };
        if !self.confirm().await || !self.is_settled(term) {
            return self.elsewhere(raft);
        }
        let view = self.view();
        if !view.has(life.0, life.1) {
            let votes = self.store.voters().contains(&life.0.0);
            return Answer::Over { votes };
        }
        Answer::Grant(Grant {
            sent_ms,
            view: view.version,
        })
    }

    fn is_settled(&self, term: u64) -> bool {
        let reign = self.reign.lock();
        let reign = reign.as_ref().filter(|reign| reign.term == term);
        reign.is_some_and(|reign| reign.is_settled)
    }

    /// Makes sure that this server leads, at some time after the call.
    async fn confirm(&self) -> bool {
        let (doubt, answer) = oneshot::channel();
        self.doubts.send(doubt).is_ok() && answer.await.unwrap_or(false)
    }

    /// Makes sure for many at once: for those that have asked before it begins.
    pub async fn confirm_all(self: Arc<Self>, mut doubts: mpsc::UnboundedReceiver<Doubt>) {
        let Some(raft) = self.raft.get().cloned() else {
            return;
        };
        while let Some(first) = doubts.recv().await {
            let mut asked = vec![first];
            while let Ok(next) = doubts.try_recv() {
                asked.push(next);
            }
            let confirmed = raft.ensure_linearizable();
            let patience = self.config.timing.heartbeat_timeout();
            let confirmed = tokio::time::timeout(patience, confirmed).await;
            let leads = matches!(confirmed, Ok(Ok(_)));
            for doubt in asked {
                // Who asked may have stopped waiting.
                let _ = doubt.send(leads);
            }
        }
    }

    async fn decide(&self, raft: &Raft<Types>, commands: Vec<Command>) -> Answer {
        if commands
            .iter()
            .any(|command| matches!(command, Command::Expire { .. }))
        {
            return Answer::Failed("only the leader itself may take a server for dead".to_owned());
        }
        let decision = Decision {
            term: None,
            commands,
        };
        // A leader that is cut off waits for ever, and could take no other questions in the end.
        let written = tokio::time::timeout(PROPOSE_TIMEOUT, raft.client_write(decision)).await;
        match written {
            Ok(Ok(written)) => Answer::Proposed(written.data),
            Ok(Err(error)) => match error.forward_to_leader() {
                Some(_) => self.elsewhere(raft),
                None => Answer::Failed(error.to_string()),
            },
            Err(_) => Answer::Failed("most of those that vote did not answer in time".to_owned()),
        }
    }

    /// Does the leader's work whenever this server leads.
    pub async fn lead(self: Arc<Self>) {
        let Some(raft) = self.raft.get().cloned() else {
            return;
        };
        let pause = Duration::from_millis((self.config.timing.lease_ms / CALLS_PER_LEASE).max(10));
        let mut confirmed = Instant::now();
        loop {
            tokio::time::sleep(pause).await;
            let Some(term) = leads(&raft).await else {
                *self.reign.lock() = None;
                continue;
            };
            self.begin_reign(term);
            if !self.confirm().await {
                continue;
            }
            let was_lost = confirmed.elapsed() > pause * LOST_CALLS;
            confirmed = Instant::now();
            if !self.is_settled(term) {
                self.settle(&raft, term).await;
            } else if was_lost {
                self.begin_again(term);
            } else {
                self.expire(&raft, term);
            }
        }
    }

    fn begin_reign(&self, term: u64) {
        let mut reign = self.reign.lock();
        if reign.as_ref().is_none_or(|reign| reign.term != term) {
            *reign = Some(Reign::new(term, self.now_ms()));
        }
    }

    fn begin_again(&self, term: u64) {
        if let Some(reign) = &mut *self.reign.lock()
            && reign.term == term
        {
            reign.begin_again(self.now_ms());
        }
    }

    /// Has an entry of this term decided. A server that has led before, and was started again, leads on in its term,
    /// and may have forgotten what was decided.
    async fn settle(&self, raft: &Raft<Types>, term: u64) {
        let decision = Decision {
            term: Some(term),
            commands: Vec::new(),
        };
        let patience = Duration::from_millis(self.config.timing.lease_ms);
        let written = tokio::time::timeout(patience, raft.client_write(decision)).await;
        let Ok(Ok(written)) = written else { return };
        if let Some(reign) = &mut *self.reign.lock()
            && reign.term == term
            && written.log_id.leader_id.get_term() == term
        {
            reign.is_settled = true;
            // Nobody was given a lease until now.
            reign.begin_again(self.now_ms());
        }
    }

    /// Expires the servers whose leases have ended.
    fn expire(&self, raft: &Raft<Types>, term: u64) {
        let (view, wait_ms) = (self.view(), self.config.timing.wait_ms());
        let expired = match &mut *self.reign.lock() {
            Some(reign) if reign.term == term => reign.expired(&view, self.now_ms(), wait_ms),
            _ => return,
        };
        if expired.is_empty() {
            return;
        }
        for command in &expired {
            tracing::warn!(?command, "a server was silent for longer than its lease");
        }
        let decision = Decision {
            term: Some(term),
            commands: expired,
        };
        let raft = raft.clone();
        // The roll is called on meanwhile.
        tokio::spawn(async move {
            let written = raft.client_write(decision);
            if let Ok(Err(error)) = tokio::time::timeout(PROPOSE_TIMEOUT, written).await {
                tracing::debug!(%error, "another leader is to find who has died");
            }
        });
    }
}

/// The term in which this server leads.
pub(crate) async fn leads(raft: &Raft<Types>) -> Option<u64> {
    let asked = raft.with_raft_state(|state| {
        let leads = state.server_state == ServerState::Leader;
        leads.then(|| state.vote_ref().leader_id().get_term())
    });
    asked.await.ok().flatten()
}
