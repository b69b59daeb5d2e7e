//! Rounds: a task for each of a group of objects, and what follows when all are through.

use std::collections::{BTreeMap, BTreeSet};

use crucial_object::{Error, ObjectId, Result};
use crucial_proto::frame::{ObjectInfo, ReplicaInfo};

use crate::ids::ModuleId;
use crate::objects::{RequestContext, RoundId};
use crate::replication::{Epoch, Holding, NodeId, PartitionId};
use crate::sync::Mutex;

/// The purpose of a round, and what its objects have contributed so far.
#[derive(Debug)]
pub(crate) enum RoundKind {
    /// The digest that a new primary has asked for.
    Digest {
        partition: PartitionId,
        epoch: Epoch,
        to: NodeId,
        holdings: Vec<Holding>,
        /// The objects that are not through.
        open: BTreeSet<ObjectId>,
    },
    /// Objects are removed that a client wants gone, or for nobody.
    Remove {
        context: Option<RequestContext>,
        removed: u64,
    },
    /// Objects are listed for a client.
    Objects {
        context: RequestContext,
        max: usize,
        infos: Vec<ObjectInfo>,
    },
    /// Replicas are listed for a client.
    Replicas {
        context: RequestContext,
        infos: Vec<ReplicaInfo>,
    },
    /// Objects say whether they can move to a module's types.
    CheckMove { failure: Option<Error> },
    /// Objects move to a module's types.
    Move {
        module: ModuleId,
        moved: u64,
        left: u64,
        reason: Option<String>,
        /// The modules whose types it took over.
        replaced: Vec<ModuleId>,
    },
    /// An object's state is wanted by the shell.
    Save {
        token: u64,
        state: Option<Result<Vec<u8>>>,
    },
}

/// The contribution of one object.
#[derive(Debug)]
pub(crate) enum Contribution {
    /// Nothing, as it is gone, or not one that is meant.
    Nothing,
    Holding(Holding),
    /// The object is not here, and a digest does not name it.
    Absent(ObjectId),
    Removed,
    Object(ObjectInfo),
    Replica(ReplicaInfo),
    Moved(ObjectId, Result<()>),
    Saved(Result<Vec<u8>>),
}

#[derive(Debug)]
struct Round {
    left: usize,
    kind: RoundKind,
}

/// Rounds that go on.
#[derive(Default)]
pub(crate) struct Rounds(Mutex<Open>);

#[derive(Default)]
struct Open {
    last: u64,
    rounds: BTreeMap<u64, Round>,
}

impl Rounds {
    /// Begins a round of this many objects, which is at least one.
    pub fn begin(&self, kind: RoundKind, left: usize) -> RoundId {
        let mut open = self.0.lock();
        open.last += 1;
        let id = open.last;
        open.rounds.insert(id, Round { left, kind });
        RoundId(id)
    }

    /// A round will not end, as this server has lost what its objects were to do.
    pub fn forget(&self, id: RoundId) {
        self.0.lock().rounds.remove(&id.0);
    }

    /// Ends a round for which nobody waits any longer. Gives it, with the number of objects that are left.
    pub fn give_up(&self, id: RoundId) -> Option<(RoundKind, usize)> {
        let round = self.0.lock().rounds.remove(&id.0)?;
        Some((round.kind, round.left))
    }

    /// Whether a round goes on.
    pub fn goes_on(&self, id: RoundId) -> bool {
        self.0.lock().rounds.contains_key(&id.0)
    }

    /// What a digest that is being made says so far: what is held, and the objects that are not through. `None`: no such
    /// digest is being made.
    pub fn digest_so_far(
        &self,
        partition: PartitionId,
        epoch: Epoch,
        to: NodeId,
    ) -> Option<(Vec<Holding>, Vec<ObjectId>)> {
        let open = self.0.lock();
        let mut kinds = open.rounds.values().map(|round| &round.kind);
        kinds.find_map(|kind| match kind {
            RoundKind::Digest {
                partition: p,
                epoch: e,
                to: t,
                holdings,
                open,
            } if (*p, *e, *t) == (partition, epoch, to) => {
                Some((holdings.clone(), open.iter().copied().collect()))
            }
            _ => None,
        })
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.lock().rounds.len()
    }

    /// An object is through. Gives the round when it was the last one.
    pub fn step(&self, id: RoundId, contribution: Contribution) -> Option<RoundKind> {
        let mut open = self.0.lock();
        let round = open.rounds.get_mut(&id.0)?;
        round.kind.add(contribution);
        round.left -= 1;
        if round.left > 0 {
            return None;
        }
        open.rounds.remove(&id.0).map(|round| round.kind)
    }
}

impl RoundKind {
    fn add(&mut self, contribution: Contribution) {
        match (self, contribution) {
            (RoundKind::Digest { holdings, open, .. }, Contribution::Holding(holding)) => {
                open.remove(&holding.object);
                holdings.push(holding);
            }
            (RoundKind::Digest { open, .. }, Contribution::Absent(object)) => {
                open.remove(&object);
            }
            (RoundKind::Remove { removed, .. }, Contribution::Removed) => *removed += 1,
            (RoundKind::Objects { infos, .. }, Contribution::Object(info)) => infos.push(info),
            (RoundKind::Replicas { infos, .. }, Contribution::Replica(info)) => infos.push(info),
            (RoundKind::CheckMove { failure, .. }, Contribution::Moved(_, Err(error))) => {
                failure.get_or_insert(error);
            }
            (RoundKind::Move { left, reason, .. }, Contribution::Moved(object, Err(error))) => {
                tracing::warn!(%object, %error, "an object keeps its old code");
                *left += 1;
                *reason = Some(error.to_string());
            }
            (RoundKind::Move { moved, .. }, Contribution::Moved(..)) => *moved += 1,
            (RoundKind::Save { state, .. }, Contribution::Saved(saved)) => *state = Some(saved),
            _ => {}
        }
    }
}
