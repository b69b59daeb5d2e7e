//! One operation of a coordinator, and the questions that it asks of members.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use crucial_proto::frame::{ModuleInfo, Pushed};

use super::action::{Outbox, RequestId};
use super::message::{ModuleMessage, OperationId, Peer, Ready, Step};
use crate::ids::ModuleId;
use crate::replication::{NodeId, View, ViewVersion};

/// A client's request.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Push {
        module: ModuleId,
        bytes: Bytes,
        replace: bool,
        check: bool,
    },
    Remove {
        module: ModuleId,
    },
}

impl Wish {
    pub fn size(&self) -> u64 {
        match self {
            Wish::Push { bytes, .. } => bytes.len() as u64,
            Wish::Remove { .. } => 0,
        }
    }
}

/// A question to members, repeated until each has answered or is no member any more.
#[derive(Debug, Default)]
pub(super) struct Round {
    waiting: BTreeSet<Peer>,
    sent_ms: u64,
}

impl Round {
    pub fn new(peers: impl IntoIterator<Item = Peer>, now_ms: u64) -> Round {
        Round {
            waiting: peers.into_iter().collect(),
            sent_ms: now_ms,
        }
    }

    pub fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }

    /// An answer came. Whether it was waited for.
    pub fn answered(&mut self, from: Peer) -> bool {
        self.waiting.remove(&from)
    }

    pub fn on_view(&mut self, view: &View) {
        self.waiting
            .retain(|peer| view.has(peer.node, peer.incarnation));
    }

    pub fn waiting(&self) -> impl Iterator<Item = NodeId> {
        self.waiting.iter().map(|peer| peer.node)
    }

    pub fn send(&self, message: &ModuleMessage, out: &mut Outbox) {
        for node in self.waiting() {
            out.send(node, message.clone());
        }
    }

    /// Sends the question again, if it was sent a while ago.
    pub fn repeat(
        &mut self,
        message: &ModuleMessage,
        (now_ms, repeat_ms): (u64, u64),
        out: &mut Outbox,
    ) {
        if now_ms.saturating_sub(self.sent_ms) >= repeat_ms {
            self.sent_ms = now_ms;
            self.send(message, out);
        }
    }
}

/// How far an operation is.
#[derive(Debug)]
pub(super) enum Phase {
    /// All members are to prepare the step.
    Preparing {
        round: Round,
        answers: BTreeMap<Peer, Result<Ready, String>>,
    },
    /// The control group has the command. Only a view says what became of it.
    Proposed { sent_ms: u64 },
    /// The view has the module, and those that have prepared it are to install it.
    Confirming { round: Round, since: ViewVersion },
    /// Some member still has objects of a replaced module; that is tried again later.
    Pausing { until_ms: u64 },
    /// The operation is over, and all are to forget it.
    Releasing { round: Round, seen: ViewVersion },
}

/// The operation that a coordinator runs.
#[derive(Debug)]
pub(super) struct Operation {
    pub id: OperationId,
    /// The client, until it has its answer.
    pub request: Option<RequestId>,
    pub wish: Wish,
    pub module: ModuleId,
    pub size: u64,
    pub step: Step,
    /// The view that the present attempt rests on.
    pub seen: ViewVersion,
    pub phase: Phase,
    /// Members that were asked to prepare something: they are asked to forget it, too.
    pub asked: BTreeSet<Peer>,
    /// The module, once a member has compiled it.
    pub info: Option<ModuleInfo>,
    /// Whether the step was nothing new to anybody.
    pub was_current: bool,
    /// The outcome for the members' objects.
    pub pushed: Option<Pushed>,
    /// Replaced modules that are to go, with the views in which they came to their places.
    pub sweeps: Vec<(ModuleId, ViewVersion)>,
    pub sweep_until_ms: u64,
    /// Why the step is refused. The client is told when all members have forgotten it.
    pub refused: Option<String>,
    /// When there was progress last.
    pub progress_ms: u64,
}

impl Operation {
    pub fn prepare(&self) -> ModuleMessage {
        ModuleMessage::Prepare {
            operation: self.id,
            seen: self.seen,
            module: self.module,
            size: self.size,
            step: self.step,
        }
    }

    /// Whether the operation removes a module that a push has replaced.
    pub fn is_sweep(&self) -> bool {
        self.pushed.is_some() && matches!(self.step, Step::Remove { .. })
    }

    /// Whether the client only wants to know whether a push would be taken.
    pub fn is_check(&self) -> bool {
        matches!(self.wish, Wish::Push { check: true, .. })
    }

    /// Whom the operation waits for.
    pub fn waits_for(&self) -> String {
        let round = match &self.phase {
            Phase::Preparing { round, .. }
            | Phase::Confirming { round, .. }
            | Phase::Releasing { round, .. } => round,
            Phase::Proposed { .. } | Phase::Pausing { .. } => {
                return "the control group".to_owned();
            }
        };
        let nodes: Vec<_> = round.waiting().map(|node| node.to_string()).collect();
        format!("server {}", nodes.join(", "))
    }
}

/// Adds what became of one member's objects.
pub(super) fn add(all: &mut Option<Pushed>, one: Pushed) {
    let Some(all) = all else {
        *all = Some(one);
        return;
    };
    all.moved += one.moved;
    all.left += one.left;
    all.reason = all.reason.take().or(one.reason);
    all.replaced.extend(one.replaced);
    all.replaced.sort_unstable();
    all.replaced.dedup();
    all.module.objects += one.module.objects;
    all.module.hot += one.module.hot;
    all.module.heated += one.module.heated;
}
