//! Sends requests to the leader of the control group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crucial_node::replication::Command;
use openraft::Raft;
use tokio::sync::mpsc;

use crate::config::PROPOSE_TIMEOUT;
use crate::message::{Request, Response, encode};
use crate::shared::Shared;
use crate::store::Group as Types;

/// How long proposals are collected into a batch.
const BATCH_INTERVAL: Duration = Duration::from_millis(3);

/// Most commands in a batch, after which no further proposal is added.
const BATCH_COMMANDS_MAX: usize = 2_000;

/// Most addresses that are tried for one request.
const HOPS_MAX: usize = 5;

impl Shared {
    /// Sends a request to the leader, and follows redirections. Never returns [`Response::NotLeader`]; an error describes
    /// the last attempt.
    pub async fn request_leader(
        &self,
        raft: &Raft<Types>,
        request: &Request,
    ) -> Result<Response, String> {
        let bytes = encode(request);
        let timeout = match request {
            Request::Propose(_) => PROPOSE_TIMEOUT,
            _ => self.config.timing.heartbeat_timeout(),
        };
        let mut last = "no server of the cluster is known".to_owned();
        let mut candidates = self.candidates(raft).await;
        let mut tried = BTreeSet::new();
        while let Some(address) = candidates.pop() {
            if tried.len() == HOPS_MAX || !tried.insert(address.clone()) {
                continue;
            }
            match self.request_from(&address, &bytes, timeout).await {
                Ok(Response::NotLeader(leader)) => {
                    last = "the control group has no leader at present".to_owned();
                    candidates.extend(leader);
                }
                Ok(response) => return Ok(response),
                Err(why) => last = format!("{address}: {why}"),
            }
        }
        Err(last)
    }

    async fn request_from(
        &self,
        address: &str,
        request: &[u8],
        timeout: Duration,
    ) -> Result<Response, String> {
        if address == self.config.address {
            let request = postcard::from_bytes(request).map_err(|_| malformed("request"))?;
            let response = tokio::time::timeout(timeout, self.respond(request));
            return response.await.map_err(|_| "no response in time".to_owned());
        }
        let response = self.links.request(address, None, request, timeout).await;
        let response = response.map_err(|error| error.to_string())?;
        postcard::from_bytes(&response).map_err(|_| malformed("response"))
    }

    /// The addresses of possible leaders, the most likely one last.
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
        // The order varies, so that a dead server is not always tried first.
        if candidates.len() > 1 {
            let offset = (self.now_ms() / 10) as usize % candidates.len();
            candidates.rotate_left(offset);
        }
        // A server that was taken along knows one server of its new cluster at first.
        candidates.extend(self.rescued.iter().map(|rescued| rescued.by.clone()));
        candidates.extend(metrics.current_leader.and_then(|leader| address(&leader)));
        candidates
    }

    /// Sends proposals to the leader in batches.
    pub async fn send_proposals(self: Arc<Self>, mut proposed: mpsc::Receiver<Vec<Command>>) {
        let Some(raft) = self.raft.get().cloned() else {
            return;
        };
        while let Some(first) = proposed.recv().await {
            tokio::time::sleep(BATCH_INTERVAL).await;
            let mut batch = first;
            while batch.len() < BATCH_COMMANDS_MAX
                && let Ok(more) = proposed.try_recv()
            {
                batch.extend(more);
            }
            // The proposer repeats a lost proposal.
            if let Err(error) = self.request_leader(&raft, &Request::Propose(batch)).await {
                tracing::debug!(error, "cannot send proposals to the leader");
            }
        }
    }
}
/// A message that another version may have written.
fn malformed(what: &str) -> String {
    format!("a malformed {what}: do both servers run the same version?")
}
