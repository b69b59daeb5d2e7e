//! The leader's work: it grants leases in response to heartbeats, expires servers that have become silent, and ends the
//! pauses of those that were expired again and again. What it decides, and why that is safe, is in [`LeaderTerm`]; here are
//! the library's checks and commits that this rests on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crucial_node::replication::{
    Command, Decision, HeartbeatAnswer, Instance, LeaderTerm, LeaderTiming,
};
use openraft::raft::AppendEntriesResponse;
use openraft::{Raft, ServerState};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::check::Known;
use crate::config::PROPOSE_TIMEOUT;
use crate::message::{Request, Response};
use crate::shared::{LeadershipCheck, Shared};
use crate::store::Group as Types;

/// Rounds of the leader's work during one lease.
const ROUNDS_PER_LEASE: u64 = 10;

/// After this number of rounds without a successful leadership check, the leader was cut off or its process was suspended, and
/// heartbeats may have been lost: the failure detector restarts.
const LOST_ROUNDS: u64 = 4;

/// Time limit for the first entry of a term: as long as the disks of two servers may take, one after the other. The leader
/// grants no lease before.
const FIRST_ENTRY_TIMEOUT: Duration = Duration::from_secs(10);

impl Shared {
    /// Handles a request of a server of the group.
    pub async fn respond(&self, request: Request) -> Response {
        let Some(raft) = self.raft.get() else {
            return Response::NotLeader(None);
        };
        if let Err(why) = self.check(raft, &request) {
            tracing::warn!(
                why,
                "refusing a message of another server: it is damaged or forged"
            );
            return Response::Failed(format!("the message is damaged or forged: {why}"));
        }
        match request {
            Request::Append(_) | Request::Vote(_) | Request::Snapshot(_) => {
                let response = self.respond_to_library(raft, request).await;
                response.unwrap_or_else(|error| Response::Failed(error.to_string()))
            }
            Request::Heartbeat {
                node,
                incarnation,
                sent_ms,
            } => self.grant(raft, (node, incarnation), sent_ms).await,
            Request::Propose(commands) => self.commit(raft, commands).await,
            Request::Progress => Response::Progress(self.store.last_log_id()),
            Request::Rescue { .. } | Request::Adopt { .. } => Response::Failed(
                "only an operator, or a rescued server, may ask for this".to_owned(),
            ),
        }
    }

    /// Responds to a message of the consensus library, when what the response promises is on disk. A heartbeat promises
    /// nothing new, and its response does not wait.
    async fn respond_to_library(
        &self,
        raft: &Raft<Types>,
        request: Request,
    ) -> io::Result<Response> {
        match request {
            Request::Append(rpc) => {
                let last = rpc.entries.last().map(|entry| entry.log_id);
                let last = last.or(rpc.prev_log_id);
                let response = raft.append_entries(rpc).await;
                if let (Ok(AppendEntriesResponse::Success), Some(last)) = (&response, last) {
                    self.store.entry_written(last).await?;
                }
                Ok(Response::Append(response))
            }
            Request::Vote(rpc) => {
                let response = raft.vote(rpc).await;
                if response.as_ref().is_ok_and(|vote| vote.vote_granted) {
                    self.store.all_written().await?;
                }
                Ok(Response::Vote(response))
            }
            Request::Snapshot(rpc) => {
                let response = raft.install_snapshot(rpc).await;
                self.store.all_written().await?;
                Ok(Response::Snapshot(response))
            }
            _ => Err(io::Error::other("no message of the consensus library")),
        }
    }

    /// Whether a request may be handled.
    fn check(&self, raft: &Raft<Types>, request: &Request) -> Result<(), String> {
        let known = Known {
            term: raft.metrics().borrow().current_term,
            committed: self.store.committed(),
            decided: &|index| self.store.log_id(index),
            partitions: self.config.partitions,
        };
        known.check(request)
    }

    /// The response of a server that does not lead.
    fn not_leader(&self, raft: &Raft<Types>) -> Response {
        let metrics = raft.metrics().borrow().clone();
        let leader = metrics
            .current_leader
            .filter(|leader| *leader != self.node.0);
        let membership = metrics.membership_config.membership();
        let address = leader.and_then(|leader| membership.get_node(&leader).cloned());
        Response::NotLeader(address.map(|node| node.addr))
    }

    /// Grants a lease in response to a heartbeat. The order matters: the heartbeat is recorded before the leadership
    /// check, and the view is read after the check.
    async fn grant(&self, raft: &Raft<Types>, instance: Instance, sent_ms: u64) -> Response {
        let recorded = match &mut *self.leader_term.lock() {
            Some(leader_term) => leader_term.record_heartbeat(instance, sent_ms, self.now_ms()),
            None => return self.not_leader(raft),
        };
        let Some(heartbeat) = recorded else {
            return Response::Failed("the expiry of this incarnation was proposed".to_owned());
        };
        let leads = self.check_leadership().await;
        let view = self.view();
        let answer = match &*self.leader_term.lock() {
            Some(leader_term) => leader_term.answer(heartbeat, leads, &view),
            None => HeartbeatAnswer::NotLeader,
        };
        match answer {
            HeartbeatAnswer::Granted(grant) => Response::Grant(grant),
            HeartbeatAnswer::NoMember => {
                let votes = self.store.voters().contains(&instance.0.0);
                Response::Evicted { votes }
            }
            HeartbeatAnswer::NotLeader => self.not_leader(raft),
        }
    }

    fn has_committed(&self, term: u64) -> bool {
        let leader_term = self.leader_term.lock();
        let leader_term = leader_term
            .as_ref()
            .filter(|current| current.term() == term);
        leader_term.is_some_and(LeaderTerm::has_committed)
    }

    /// Whether this server was the leader at some time after the call.
    async fn check_leadership(&self) -> bool {
        let (check, result) = oneshot::channel();
        self.leadership_checks.send(check).is_ok() && result.await.unwrap_or(false)
    }

    /// Runs leadership checks in batches: one round of the library serves all checks that were requested before the
    /// round began.
    pub async fn run_leadership_checks(
        self: Arc<Self>,
        mut checks: mpsc::UnboundedReceiver<LeadershipCheck>,
    ) {
        let Some(raft) = self.raft.get().cloned() else {
            return;
        };
        while let Some(first) = checks.recv().await {
            let mut batch = vec![first];
            while let Ok(next) = checks.try_recv() {
                batch.push(next);
            }
            let confirmed = raft.ensure_linearizable();
            let timeout = self.config.timing.heartbeat_timeout();
            let confirmed = tokio::time::timeout(timeout, confirmed).await;
            let leads = matches!(confirmed, Ok(Ok(_)));
            for check in batch {
                // The receiver may have stopped waiting.
                let _ = check.send(leads);
            }
        }
    }

    async fn commit(&self, raft: &Raft<Types>, commands: Vec<Command>) -> Response {
        if let Some(command) = commands.iter().find(|command| is_leaders(command)) {
            return Response::Failed(format!("only the leader itself may propose {command:?}"));
        }
        let decision = Decision {
            term: None,
            commands,
        };
        // Without a time limit, a leader that is cut off would wait for ever and fill its limit of requests.
        let written = tokio::time::timeout(PROPOSE_TIMEOUT, raft.client_write(decision)).await;
        match written {
            Ok(Ok(written)) => Response::Proposed(written.data),
            Ok(Err(error)) => match error.forward_to_leader() {
                Some(_) => self.not_leader(raft),
                None => Response::Failed(error.to_string()),
            },
            Err(_) => {
                Response::Failed("a majority of the voters did not respond in time".to_owned())
            }
        }
    }

    /// Does the leader's work whenever this server leads.
    pub async fn lead(self: Arc<Self>) {
        let Some(raft) = self.raft.get().cloned() else {
            return;
        };
        let pause = Duration::from_millis(self.round_ms());
        let mut first_entry: Option<JoinHandle<()>> = None;
        loop {
            tokio::time::sleep(pause).await;
            let Some(term) = leads(&raft).await else {
                *self.leader_term.lock() = None;
                continue;
            };
            let is_new = self.begin_term(term);
            let is_written = first_entry.as_ref().is_none_or(JoinHandle::is_finished);
            if is_new || is_written && !self.has_committed(term) {
                // The rounds go on meanwhile: their leadership checks are heartbeats.
                let commit = self.clone().commit_first_entry(raft.clone(), term);
                first_entry = Some(tokio::spawn(commit));
            }
            let leads = self.check_leadership().await;
            self.judge_members(&raft, term, leads);
        }
    }

    /// The time between two rounds of the leader's work.
    fn round_ms(&self) -> u64 {
        (self.config.timing.lease_ms / ROUNDS_PER_LEASE).max(10)
    }

    /// Begins a term, unless it has begun before.
    fn begin_term(&self, term: u64) -> bool {
        let mut leader_term = self.leader_term.lock();
        let present = leader_term.as_ref().map(LeaderTerm::term);
        let is_new = present != Some(term);
        if is_new {
            let timing = LeaderTiming {
                wait_ms: self.config.timing.wait_ms(),
                lost_ms: LOST_ROUNDS * self.round_ms(),
            };
            *leader_term = Some(LeaderTerm::new(term, timing, self.now_ms()));
        }
        is_new
    }

    /// Commits an entry of this term.
    async fn commit_first_entry(self: Arc<Self>, raft: Raft<Types>, term: u64) {
        let decision = Decision {
            term: Some(term),
            commands: Vec::new(),
        };
        let written = raft.client_write(decision);
        let written = tokio::time::timeout(FIRST_ENTRY_TIMEOUT, written).await;
        let Ok(Ok(written)) = written else { return };
        if let Some(leader_term) = &mut *self.leader_term.lock() {
            leader_term.first_entry_committed(written.log_id.leader_id.get_term(), self.now_ms());
        }
    }

    /// Expires the servers whose leases have ended, and ends the pauses that are over.
    fn judge_members(&self, raft: &Raft<Types>, term: u64, leads: bool) {
        let (view, wait_ms) = (self.view(), self.config.timing.wait_ms());
        let within = Duration::from_millis(wait_ms);
        let responds = |(node, incarnation)| self.links.has_responded(node, incarnation, within);
        let commands = match &mut *self.leader_term.lock() {
            Some(leader_term) if leader_term.term() == term => {
                leader_term.round(leads, &view, self.now_ms(), responds)
            }
            _ => return,
        };
        for command in &commands {
            match command {
                Command::Expire { .. } => {
                    tracing::warn!(?command, "a server was silent for longer than its lease");
                }
                _ => tracing::info!(?command, "a server was not silent for a while"),
            }
        }
        if commands.is_empty() {
            return;
        }
        let decision = Decision {
            term: Some(term),
            commands,
        };
        let raft = raft.clone();
        // The leader's rounds must not wait for the commit.
        tokio::spawn(async move {
            let written = raft.client_write(decision);
            if let Ok(Err(error)) = tokio::time::timeout(PROPOSE_TIMEOUT, written).await {
                tracing::debug!(%error, "cannot commit the leader's decision; it, or a later leader, will make it again");
            }
        });
    }
}

/// Whether a command rests on the leader's clock.
fn is_leaders(command: &Command) -> bool {
    matches!(
        command,
        Command::Expire { .. } | Command::EndDamping { .. } | Command::ForgetExpiries { .. }
    )
}

/// The term in which this server leads.
pub(crate) async fn leads(raft: &Raft<Types>) -> Option<u64> {
    let term = raft.with_raft_state(|state| {
        let leads = state.server_state == ServerState::Leader;
        leads.then(|| state.vote_ref().leader_id().get_term())
    });
    term.await.ok().flatten()
}
