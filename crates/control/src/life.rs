//! What a server does to be a member, and to stay one: it joins its cluster, and says that it lives.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crucial_node::replication::{Command, Grant, Incarnation, Refusal, View};
use openraft::Raft;
use tokio::sync::watch;

use crate::config::GroupError;
use crate::question::{Answer, Question};
use crate::shared::{Shared, Stage};
use crate::store::Group as Types;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a server that has joined waits to learn of it, before it joins again.
const VIEW_PATIENCE: Duration = Duration::from_millis(2_000);

/// How many leases another life of the server may last on. One has to end, and each new leader waits for one more.
const LEASES_OF_ANOTHER_MAX: u64 = 5;

/// What came after a life.
enum After {
    /// It was taken for dead.
    Over,
    /// It has left.
    Dismissed,
}

/// What came of joining.
enum Joined {
    Member,
    Over,
}

/// What a heartbeat was answered with.
enum Heard {
    Granted(Grant),
    /// This life is none of a member; it may still have a vote.
    Over {
        votes: bool,
    },
    Nothing,
}

/// How it goes with joining.
struct Tries {
    started: Instant,
    /// Since when other lives are in the way.
    refused: Option<Instant>,
    last: String,
}

impl Shared {
    /// Lives one life after the other.
    pub async fn live(self: &Arc<Self>, raft: &Raft<Types>) -> Result<(), GroupError> {
        let mut incarnation = self.identity.lock().incarnation();
        // A server that was a member has a vote, perhaps, that others need: it does not give up.
        let mut patience = Some(self.config.join_patience);
        loop {
            self.links.begin_life(incarnation);
            self.member.begin(incarnation);
            if let Joined::Member = self.join(raft, incarnation, patience).await? {
                patience = None;
                if let After::Dismissed = self.stay(raft, incarnation).await {
                    self.set_stage(Stage::Dismissed);
                    return Ok(());
                }
            }
            self.member.over();
            incarnation = self.identity.lock().begin_life()?;
        }
    }

    /// Joins, and waits until this server knows a view in which it is a member.
    async fn join(
        &self,
        raft: &Raft<Types>,
        incarnation: Incarnation,
        patience: Option<Duration>,
    ) -> Result<Joined, GroupError> {
        let join = Command::Join {
            node: self.node,
            incarnation,
            address: self.config.address.clone(),
            lease_ms: self.config.timing.lease_ms,
        };
        let question = Question::Propose(vec![join]);
        let mut tries = Tries {
            started: Instant::now(),
            refused: None,
            last: String::new(),
        };
        while !self.view().has(self.node, incarnation) {
            match self.ask(raft, &question).await {
                Ok(Answer::Proposed(results)) => match results.into_iter().next() {
                    Some(Ok(_)) => {
                        if let Joined::Over = self.await_view(raft, incarnation).await {
                            return Ok(Joined::Over);
                        }
                        tries.last = "it has joined, and was not told of it".to_owned();
                    }
                    Some(Err(refusal @ (Refusal::InUse { .. } | Refusal::OtherLease { .. }))) => {
                        self.wait_for_others(&mut tries, &refusal)?
                    }
                    Some(Err(Refusal::Evicted { .. })) => return Ok(Joined::Over),
                    Some(Err(refusal)) => return Err(GroupError::Refused(refusal.to_string())),
                    None => tries.last = "the leader has changed".to_owned(),
                },
                Ok(Answer::Failed(why)) | Err(why) => tries.last = why,
                Ok(_) => tries.last = "an answer to another question".to_owned(),
            }
            if let Some(patience) = patience
                && tries.refused.is_none()
                && tries.started.elapsed() > patience
            {
                let last = tries.last;
                return Err(GroupError::NoLeader { patience, last });
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(Joined::Member)
    }

    /// Another life of this server is a member, or others with another lease: those that are gone end with their
    /// leases.
    fn wait_for_others(&self, tries: &mut Tries, refusal: &Refusal) -> Result<(), GroupError> {
        let since = *tries.refused.get_or_insert_with(Instant::now);
        let wait_ms = LEASES_OF_ANOTHER_MAX * self.config.timing.wait_ms();
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

    /// It has joined, and is to learn of it. Until then it says that it lives, or it would be taken for dead.
    async fn await_view(&self, raft: &Raft<Types>, incarnation: Incarnation) -> Joined {
        let pause = Duration::from_millis(self.config.timing.heartbeat_ms);
        let started = Instant::now();
        let mut views = self.store.views();
        while !views.borrow_and_update().has(self.node, incarnation) {
            if let Heard::Over { .. } = self.heartbeat(raft, incarnation).await {
                return Joined::Over;
            }
            if started.elapsed() > VIEW_PATIENCE {
                break;
            }
            let _ = tokio::time::timeout(pause, views.changed()).await;
        }
        Joined::Member
    }

    /// Says that this server lives, until its life is over.
    async fn stay(&self, raft: &Raft<Types>, incarnation: Incarnation) -> After {
        let pause = Duration::from_millis(self.config.timing.heartbeat_ms);
        let mut views = self.store.views();
        let view = views.borrow_and_update().clone();
        let is_member = view.has(self.node, incarnation);
        self.member.view(view);
        if !is_member {
            return After::Over;
        }
        self.set_stage(Stage::Member);
        let mut has_said_leave = false;
        loop {
            let leaving = self.leaving.load(Ordering::Acquire);
            let beat = async {
                if leaving && !has_said_leave {
                    has_said_leave = self.say_leave(raft, incarnation).await;
                }
                let heard = self.heartbeat(raft, incarnation).await;
                if let Heard::Granted(grant) = heard {
                    self.member.granted(grant);
                    tokio::time::sleep(pause).await;
                }
                heard
            };
            let heard = tokio::select! {
                heard = beat => heard,
                () = self.tell_views(&mut views, incarnation) => Heard::Over { votes: true },
            };
            match heard {
                Heard::Granted(_) => {}
                Heard::Over { .. } if !leaving => return After::Over,
                Heard::Over { votes: false } => return After::Dismissed,
                // Others could decide nothing if it went with its vote.
                Heard::Over { votes: true } | Heard::Nothing => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Passes views on as they come, whatever else is waited for. Ends with one that ends this life, unless that is
    /// how it is to end.
    async fn tell_views(&self, views: &mut watch::Receiver<Arc<View>>, incarnation: Incarnation) {
        while views.changed().await.is_ok() {
            let view = views.borrow_and_update().clone();
            let is_member = view.has(self.node, incarnation);
            self.member.view(view);
            if !is_member && !self.leaving.load(Ordering::Acquire) {
                return;
            }
        }
        // It is stopping.
        std::future::pending().await
    }

    /// Whether the group has heard that this server leaves.
    async fn say_leave(&self, raft: &Raft<Types>, incarnation: Incarnation) -> bool {
        let leave = Command::Leave {
            node: self.node,
            incarnation,
        };
        let asked = self.ask(raft, &Question::Propose(vec![leave])).await;
        matches!(asked, Ok(Answer::Proposed(results)) if !results.is_empty())
    }

    async fn heartbeat(&self, raft: &Raft<Types>, incarnation: Incarnation) -> Heard {
        let sent_ms = self.member.now_ms();
        let question = Question::Heartbeat {
            node: self.node,
            incarnation,
            sent_ms,
        };
        match self.ask(raft, &question).await {
            // A lease from any other time would be none.
            Ok(Answer::Grant(grant)) if grant.sent_ms == sent_ms => Heard::Granted(grant),
            Ok(Answer::Over { votes }) => Heard::Over { votes },
            Ok(Answer::Failed(why)) | Err(why) => {
                tracing::debug!(why, "no lease");
                Heard::Nothing
            }
            Ok(_) => Heard::Nothing,
        }
    }
}
