//! How a server asks whoever leads the control group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crucial_cluster::Command;
use openraft::Raft;
use tokio::sync::mpsc;

use crate::group::Shared;
use crate::question::{Answer, Question, encode};
use crate::store::Group as Types;

/// Proposals of so long go to the leader together.
const BATCH: Duration = Duration::from_millis(3);

/// Commands in one proposal.
const BATCH_MAX: usize = 2_000;

/// Proposals that wait to be carried to the leader. What is above is lost.
pub(crate) const PROPOSALS_MAX: usize = 16_384;

/// How long a leader may take to answer a proposal.
pub(crate) const PROPOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many addresses are tried for one question.
const HOPS_MAX: usize = 5;

impl Shared {
    /// Asks whoever leads. The answer is none of [`Answer::Elsewhere`]; an error says what was tried last.
    pub async fn ask(&self, raft: &Raft<Types>, question: &Question) -> Result<Answer, String> {
        let bytes = encode(question);
        let timeout = match question {
            Question::Propose(_) => PROPOSE_TIMEOUT,
            _ => self.config.timing.heartbeat_timeout(),
        };
        let mut last = "no server of the cluster is known".to_owned();
        let mut candidates = self.candidates(raft).await;
        let mut tried = BTreeSet::new();
        while let Some(address) = candidates.pop() {
            if tried.len() == HOPS_MAX || !tried.insert(address.clone()) {
                continue;
            }
            match self.ask_one(&address, &bytes, timeout).await {
                Ok(Answer::Elsewhere(leader)) => {
                    last = "nobody leads the control group just now".to_owned();
                    candidates.extend(leader);
                }
                Ok(answer) => return Ok(answer),
                Err(why) => last = format!("{address}: {why}"),
            }
        }
        Err(last)
    }

    async fn ask_one(
        &self,
        address: &str,
        question: &[u8],
        timeout: Duration,
    ) -> Result<Answer, String> {
        if address == self.config.address {
            let question = postcard::from_bytes(question).map_err(|error| error.to_string())?;
            let answered = tokio::time::timeout(timeout, self.answer(question));
            return answered.await.map_err(|_| "no answer in time".to_owned());
        }
        let asked = self.links.ask(address, None, question, timeout).await;
        let answer = asked.map_err(|error| error.to_string())?;
        postcard::from_bytes(&answer).map_err(|error| error.to_string())
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
    pub async fn carry(self: Arc<Self>, mut proposed: mpsc::Receiver<Vec<Command>>) {
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
