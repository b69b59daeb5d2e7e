//! What a server does to be a member, and to stay one: it finds its cluster, joins it, says that it lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crucial_cluster::{Command, Incarnation, Refusal, View, ViewVersion};
use openraft::{BasicNode, Raft};
use tokio::sync::mpsc;

use crate::group::{GroupError, Shared, Stage};
use crate::identity::random;
use crate::question::{Answer, Question, encode};
use crate::store::Group as Types;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Proposals of so long go to the leader together.
const BATCH: Duration = Duration::from_millis(3);

/// Commands in one proposal.
const BATCH_MAX: usize = 2_000;

/// How long a leader may take to answer a proposal.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many addresses are tried for one question.
const HOPS_MAX: usize = 4;

impl Shared {
    /// Finds the cluster that this server is part of, or is to be; or founds it.
    pub async fn find_cluster(&self, raft: &Raft<Types>) -> Result<(), GroupError> {
        let own = self.identity.lock().cluster();
        let is_initialized = raft.is_initialized().await;
        if is_initialized.map_err(|error| GroupError::Stopped(error.to_string()))? && own != 0 {
            return self.set_cluster(own);
        }
        if self.config.join.is_empty() {
            return self.found(raft).await;
        }
        let started = Instant::now();
        loop {
            let (found, tried) = self.look(own).await?;
            if let Some(cluster) = found {
                return self.set_cluster(cluster);
            }
            let is_first = self.config.join.first() == Some(&self.config.address);
            if is_first && own == 0 {
                return self.found(raft).await;
            }
            if started.elapsed() > self.config.join_patience {
                return Err(GroupError::Nobody {
                    patience: self.config.join_patience,
                    tried,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn found(&self, raft: &Raft<Types>) -> Result<(), GroupError> {
        let own = self.identity.lock().cluster();
        self.set_cluster(if own == 0 { random() } else { own })?;
        let me = BTreeMap::from([(self.node.0, BasicNode::new(self.config.address.clone()))]);
        let founded = raft.initialize(me).await;
        founded.map_err(|error| GroupError::Stopped(error.to_string()))
    }

    /// Asks the seeds which cluster they are part of; what came of it, in words, too.
    async fn look(&self, own: u64) -> Result<(Option<u64>, String), GroupError> {
        let mut tried = Vec::new();
        for address in self.seeds().await {
            if address == self.config.address {
                continue;
            }
            match self.links.who(&address).await {
                Ok(welcome) if welcome.cluster == 0 => {
                    tried.push(format!("{address} is part of none yet"));
                }
                Ok(welcome) if welcome.node == self.node.0 => {}
                Ok(welcome) if own != 0 && welcome.cluster != own => {
                    return Err(GroupError::AnotherCluster {
                        own,
                        theirs: welcome.cluster,
                        address,
                    });
                }
                Ok(welcome) => return Ok((Some(welcome.cluster), String::new())),
                Err(error) => tried.push(format!("{address}: {error}")),
            }
        }
        Ok((None, tried.join("; ")))
    }

    /// All addresses of the seeds: a name may stand for several.
    async fn seeds(&self) -> Vec<String> {
        let mut addresses = Vec::new();
        for seed in &self.config.join {
            match tokio::net::lookup_host(seed).await {
                Ok(found) => {
                    let found: Vec<_> = found.map(|address| address.to_string()).collect();
                    // One address is called as it is written, as servers know themselves by that.
                    match found.len() {
                        0 | 1 => addresses.push(seed.clone()),
                        _ => addresses.extend(found),
                    }
                }
                // It says why when it is connected to.
                Err(_) => addresses.push(seed.clone()),
            }
        }
        addresses
    }

    /// Lives one life after the other.
    pub async fn live(self: &Arc<Self>, raft: &Raft<Types>) -> Result<(), GroupError> {
        let mut incarnation = self.identity.lock().incarnation();
        loop {
            self.links.begin_life(incarnation);
            self.member.begin(incarnation);
            self.join(raft, incarnation).await?;
            match self.stay(raft, incarnation).await? {
                After::Dismissed => {
                    self.set_stage(Stage::Dismissed);
                    return Ok(());
                }
                After::Over => {
                    self.member.over();
                    incarnation = self.identity.lock().begin_life()?;
                }
            }
        }
    }

    /// Joins, and waits until this server knows a view in which it is a member.
    async fn join(&self, raft: &Raft<Types>, incarnation: Incarnation) -> Result<(), GroupError> {
        let join = Command::Join {
            node: self.node,
            incarnation,
            address: self.config.address.clone(),
        };
        let started = Instant::now();
        // Another life of this server may have a lease still, and a new leader waits for one more.
        let patience =
            self.config.join_patience + Duration::from_millis(4 * self.config.timing.wait_ms());
        let mut last = String::new();
        while !self.view().has(self.node, incarnation) {
            if let Some(error) = failure(raft) {
                return Err(error);
            }
            match self.ask(raft, &Question::Propose(vec![join.clone()])).await {
                Ok(Answer::Proposed(results)) => match results.into_iter().next() {
                    Some(Err(refusal @ Refusal::InUse { .. })) => last = refusal.to_string(),
                    Some(Err(refusal)) => return Err(GroupError::Refused(refusal.to_string())),
                    _ => {}
                },
                Ok(Answer::Failed(why)) => last = why,
                Ok(_) => last = "nobody leads the control group just now".to_owned(),
                Err(why) => last = why,
            }
            if started.elapsed() > patience {
                return Err(GroupError::Refused(last));
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.set_stage(Stage::Member);
        Ok(())
    }

    /// Says that this server lives, until its life is over.
    async fn stay(
        &self,
        raft: &Raft<Types>,
        incarnation: Incarnation,
    ) -> Result<After, GroupError> {
        let pause = Duration::from_millis(self.config.timing.heartbeat_ms);
        let mut views = self.store.views();
        let mut has_said_leave = false;
        loop {
            if let Some(error) = failure(raft) {
                return Err(error);
            }
            let view: Arc<View> = views.borrow_and_update().clone();
            self.member.view(view.clone());
            let leaving = self.leaving.load(Ordering::Acquire);
            if !view.has(self.node, incarnation) {
                return Ok(if leaving {
                    After::Dismissed
                } else {
                    After::Over
                });
            }
            if leaving && !has_said_leave {
                has_said_leave = self.say_leave(raft, incarnation).await;
            }
            if self.heartbeat(raft, incarnation, view.version).await {
                return Ok(if leaving {
                    After::Dismissed
                } else {
                    After::Over
                });
            }
            // A new view is told at once.
            let _ = tokio::time::timeout(pause, views.changed()).await;
        }
    }

    /// Whether the group has heard that this server leaves.
    async fn say_leave(&self, raft: &Raft<Types>, incarnation: Incarnation) -> bool {
        let leave = Command::Leave {
            node: self.node,
            incarnation,
        };
        let asked = self.ask(raft, &Question::Propose(vec![leave])).await;
        matches!(asked, Ok(Answer::Proposed(_)))
    }

    /// Whether this life is over.
    async fn heartbeat(
        &self,
        raft: &Raft<Types>,
        incarnation: Incarnation,
        view: ViewVersion,
    ) -> bool {
        let question = Question::Heartbeat {
            node: self.node,
            incarnation,
            sent_ms: self.member.now_ms(),
            view,
        };
        match self.ask(raft, &question).await {
            Ok(Answer::Grant(grant)) => {
                self.member.granted(grant);
                false
            }
            Ok(Answer::Over) => true,
            _ => false,
        }
    }

    /// Asks whoever leads.
    async fn ask(&self, raft: &Raft<Types>, question: &Question) -> Result<Answer, String> {
        let bytes = encode(question);
        let timeout = match question {
            Question::Propose(_) => PROPOSE_TIMEOUT,
            _ => Duration::from_millis(self.config.timing.lease_ms / 2),
        };
        let mut last = "nobody is known".to_owned();
        let mut candidates = self.candidates(raft).await;
        let mut hops = 0;
        while let Some(address) = candidates.pop() {
            hops += 1;
            if hops > HOPS_MAX {
                break;
            }
            let answer = if address == self.config.address {
                let question = postcard::from_bytes(&bytes).map_err(|error| error.to_string())?;
                // One that took itself for the leader, and is none, would never know.
                match tokio::time::timeout(timeout, self.answer(question)).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        last = "this server itself did not answer".to_owned();
                        continue;
                    }
                }
            } else {
                match self.links.ask(&address, None, &bytes, timeout).await {
                    Ok(answer) => {
                        postcard::from_bytes(&answer).map_err(|error| error.to_string())?
                    }
                    Err(error) => {
                        last = format!("{address}: {error}");
                        continue;
                    }
                }
            };
            match answer {
                Answer::Elsewhere(Some(leader)) => candidates.push(leader),
                Answer::Elsewhere(None) => {
                    last = "nobody leads the control group just now".to_owned()
                }
                answer => return Ok(answer),
            }
        }
        Err(last)
    }

    /// Who may lead, the most likely one last.
    async fn candidates(&self, raft: &Raft<Types>) -> Vec<String> {
        let metrics = raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let address = |id: &u64| membership.get_node(id).map(|node| node.addr.clone());
        let mut candidates = match metrics.current_leader {
            Some(_) => Vec::new(),
            None => self.seeds().await,
        };
        candidates.retain(|seed| *seed != self.config.address);
        candidates.extend(membership.voter_ids().filter_map(|id| address(&id)));
        // Not always in the same order.
        if candidates.len() > 1 {
            let turn = (self.now_ms() / 10) as usize % candidates.len();
            candidates.rotate_left(turn);
        }
        candidates.extend(metrics.current_leader.and_then(|leader| address(&leader)));
        candidates
    }

    /// Carries proposals to the leader, several at a time.
    pub async fn carry(self: Arc<Self>, mut proposed: mpsc::UnboundedReceiver<Vec<Command>>) {
        let Some(raft) = self.raft.get().cloned() else {
            return;
        };
        while let Some(first) = proposed.recv().await {
            tokio::time::sleep(BATCH).await;
            let mut batch = first;
            while batch.len() < BATCH_MAX
                && let Ok(more) = proposed.try_recv()
            {
                batch.extend(more);
            }
            // What is lost is proposed again by who wants it.
            if let Err(error) = self.ask(&raft, &Question::Propose(batch)).await {
                tracing::debug!(error, "proposals were lost");
            }
        }
    }
}

/// What came after a life.
enum After {
    Over,
    Dismissed,
}

/// Why the consensus library has stopped, if it has.
fn failure(raft: &Raft<Types>) -> Option<GroupError> {
    let metrics = raft.metrics().borrow().clone();
    let stopped = metrics.running_state.err()?;
    Some(GroupError::Stopped(stopped.to_string()))
}
