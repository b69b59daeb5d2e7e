//! A server's membership: it joins its cluster, and sends heartbeats to remain a member.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crucial_node::replication::{Command, Grant, Incarnation, Refusal, View};
use openraft::Raft;
use tokio::sync::watch;

use crate::config::GroupError;
use crate::message::{Request, Response};
use crate::shared::{Shared, Stage};
use crate::store::Group as Types;

/// Pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long a server that has joined waits for the view that contains it, before it joins again.
const VIEW_TIMEOUT: Duration = Duration::from_millis(2_000);

/// The number of leases after which another incarnation of the server, or a member with another lease, must have ended
/// if it is dead: its own lease has to end, and each new leader waits for one more.
const OTHERS_LEASES_MAX: u64 = 5;

/// How an incarnation's membership ended.
enum MembershipEnd {
    /// The incarnation was expired.
    Evicted,
    /// The server left.
    Left,
}

/// The result of joining.
enum JoinResult {
    Member,
    Evicted,
}

/// The result of a heartbeat.
enum HeartbeatResult {
    Granted(Grant),
    /// This incarnation is not a member; the server may still have a vote.
    Evicted {
        votes: bool,
    },
    Failed,
}

/// The progress of joining.
struct JoinAttempts {
    started: Instant,
    /// When other members first prevented the join.
    refused: Option<Instant>,
    last: String,
}

impl Shared {
    /// Runs one incarnation after the other.
    pub async fn run_incarnations(self: &Arc<Self>, raft: &Raft<Types>) -> Result<(), GroupError> {
        let mut incarnation = self.identity.lock().incarnation();
        // A server that was a member never gives up, since it may have a vote that the group needs.
        let mut patience = Some(self.config.join_patience);
        // A server of a rescued group keeps what it has, if it is a member still.
        let mut goes_on = self.rescued.is_some() && self.view().has(self.node, incarnation);
        if self.rescued.is_some() {
            patience = None;
            if !goes_on {
                self.member.on_evicted();
                incarnation = self.identity.lock().begin_incarnation()?;
            }
        }
        loop {
            if !std::mem::take(&mut goes_on) {
                self.links.begin_incarnation(incarnation);
                self.member.on_begin(incarnation);
            }
            if let JoinResult::Member = self.join(raft, incarnation, patience).await? {
                patience = None;
                if let MembershipEnd::Left = self.remain_member(raft, incarnation).await {
                    self.set_stage(Stage::Left);
                    return Ok(());
                }
            }
            self.member.on_evicted();
            incarnation = self.identity.lock().begin_incarnation()?;
        }
    }

    /// Joins, and waits until this server knows a view in which it is a member.
    async fn join(
        &self,
        raft: &Raft<Types>,
        incarnation: Incarnation,
        patience: Option<Duration>,
    ) -> Result<JoinResult, GroupError> {
        let join = Command::Join {
            node: self.node,
            incarnation,
            address: self.config.address.clone(),
            lease_ms: self.config.timing.lease_ms,
        };
        let request = Request::Propose(vec![join]);
        let mut attempts = JoinAttempts {
            started: Instant::now(),
            refused: None,
            last: String::new(),
        };
        let mut views = self.store.views();
        while !self.view().has(self.node, incarnation) {
            let joined = views.wait_for(|view| view.has(self.node, incarnation));
            // A decision may take longer than a lease, and the server is a member from then on.
            let response = tokio::select! {
                response = self.request_leader(raft, &request) => response,
                Ok(_) = joined => break,
                () = self.send_heartbeats(raft, incarnation) => break,
            };
            match response {
                Ok(Response::Proposed(results)) => match results.into_iter().next() {
                    Some(Ok(_)) => {
                        if let JoinResult::Evicted = self.await_view(raft, incarnation).await {
                            return Ok(JoinResult::Evicted);
                        }
                        attempts.last =
                            "this server has joined, but did not receive the view".to_owned();
                    }
                    Some(Err(refusal @ (Refusal::InUse { .. } | Refusal::OtherLease { .. }))) => {
                        self.wait_for_others(&mut attempts, &refusal)?
                    }
                    Some(Err(Refusal::Evicted { .. })) => return Ok(JoinResult::Evicted),
                    Some(Err(refusal)) => return Err(GroupError::Refused(refusal.to_string())),
                    None => attempts.last = "the leader has changed".to_owned(),
                },
                Ok(Response::Failed(why)) | Err(why) => attempts.last = why,
                Ok(_) => attempts.last = "the response does not match the request".to_owned(),
            }
            if let Some(patience) = patience
                && attempts.refused.is_none()
                && attempts.started.elapsed() > patience
            {
                let last = attempts.last;
                return Err(GroupError::NoLeader { patience, last });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Ok(JoinResult::Member)
    }

    /// Tolerates for some leases that another incarnation of this server, or members with another lease, prevent the
    /// join: dead ones will be expired.
    fn wait_for_others(
        &self,
        attempts: &mut JoinAttempts,
        refusal: &Refusal,
    ) -> Result<(), GroupError> {
        let since = *attempts.refused.get_or_insert_with(Instant::now);
        let wait_ms = OTHERS_LEASES_MAX * self.config.timing.wait_ms();
        let patience = Duration::from_millis(wait_ms);
        match refusal {
            _ if since.elapsed() <= patience => Ok(()),
            Refusal::InUse { node } => Err(GroupError::Twice {
                node: *node,
                patience,
            }),
            refusal => Err(GroupError::Refused(refusal.to_string())),
        }
    }

    /// Waits for the view in which this server is a member. Meanwhile the server sends heartbeats, since it would be
    /// expired otherwise.
    async fn await_view(&self, raft: &Raft<Types>, incarnation: Incarnation) -> JoinResult {
        let pause = Duration::from_millis(self.config.timing.heartbeat_ms);
        let started = Instant::now();
        let mut views = self.store.views();
        while !views.borrow_and_update().has(self.node, incarnation) {
            if let HeartbeatResult::Evicted { .. } = self.heartbeat(raft, incarnation).await {
                return JoinResult::Evicted;
            }
            if started.elapsed() > VIEW_TIMEOUT {
                break;
            }
            let _ = tokio::time::timeout(pause, views.changed()).await;
        }
        JoinResult::Member
    }

    /// Sends heartbeats until the membership of this incarnation ends.
    async fn remain_member(&self, raft: &Raft<Types>, incarnation: Incarnation) -> MembershipEnd {
        let pause = Duration::from_millis(self.config.timing.heartbeat_ms);
        let mut views = self.store.views();
        let view = views.borrow_and_update().clone();
        let is_member = view.has(self.node, incarnation);
        self.member.on_view(view);
        if !is_member {
            return MembershipEnd::Evicted;
        }
        self.set_stage(Stage::Member);
        let mut has_proposed_leave = false;
        loop {
            let leaving = self.leaving.load(Ordering::Acquire);
            let beat = async {
                if leaving && !has_proposed_leave {
                    has_proposed_leave = self.propose_leave(raft, incarnation).await;
                }
                let result = self.heartbeat(raft, incarnation).await;
                if let HeartbeatResult::Granted(grant) = result {
                    self.granted_ms.store(self.now_ms(), Ordering::Release);
                    self.member.on_grant(grant);
                    tokio::time::sleep(pause).await;
                }
                result
            };
            let result = tokio::select! {
                result = beat => result,
                () = self.forward_views(&mut views, incarnation) => {
                    HeartbeatResult::Evicted { votes: true }
                }
            };
            match result {
                HeartbeatResult::Granted(_) => {}
                HeartbeatResult::Evicted { .. } if !leaving => return MembershipEnd::Evicted,
                HeartbeatResult::Evicted { votes: false } => return MembershipEnd::Left,
                // A leaving server stays while it has a vote, since the group may need the vote for a majority.
                HeartbeatResult::Evicted { votes: true } | HeartbeatResult::Failed => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Forwards new views to the member at once. Returns when a view lacks this incarnation, unless the server is
    /// leaving.
    async fn forward_views(
        &self,
        views: &mut watch::Receiver<Arc<View>>,
        incarnation: Incarnation,
    ) {
        while views.changed().await.is_ok() {
            let view = views.borrow_and_update().clone();
            let is_member = view.has(self.node, incarnation);
            self.member.on_view(view);
            if !is_member && !self.leaving.load(Ordering::Acquire) {
                return;
            }
        }
        // The group is stopping.
        std::future::pending().await
    }

    /// Proposes that this server leaves, and returns whether the proposal is committed.
    async fn propose_leave(&self, raft: &Raft<Types>, incarnation: Incarnation) -> bool {
        let leave = Command::Leave {
            node: self.node,
            incarnation,
        };
        let request = Request::Propose(vec![leave]);
        let response = self.request_leader(raft, &request).await;
        matches!(response, Ok(Response::Proposed(results)) if !results.is_empty())
    }

    /// Sends heartbeats for ever, whatever the responses.
    async fn send_heartbeats(&self, raft: &Raft<Types>, incarnation: Incarnation) {
        loop {
            let pause = Duration::from_millis(self.config.timing.heartbeat_ms);
            // The time between two heartbeats.
            tokio::time::sleep(pause).await;
            self.heartbeat(raft, incarnation).await;
        }
    }

    async fn heartbeat(&self, raft: &Raft<Types>, incarnation: Incarnation) -> HeartbeatResult {
        let sent_ms = self.member.now_ms();
        let request = Request::Heartbeat {
            node: self.node,
            incarnation,
            sent_ms,
        };
        match self.request_leader(raft, &request).await {
            // A grant for another heartbeat would be a lease from another time.
            Ok(Response::Grant(grant)) if grant.sent_ms == sent_ms => {
                HeartbeatResult::Granted(grant)
            }
            Ok(Response::Evicted { votes }) => HeartbeatResult::Evicted { votes },
            Ok(Response::Failed(why)) | Err(why) => {
                tracing::debug!(why, "the heartbeat failed");
                HeartbeatResult::Failed
            }
            Ok(_) => HeartbeatResult::Failed,
        }
    }
}
