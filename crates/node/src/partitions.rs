//! This server's part in each partition, and the requests that wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crucial_object::{Error, ObjectId, Result};

use crate::cell::CallId;
use crate::objects::{Event, RequestContext, RoundId};
use crate::replication::{
    Epoch, Gate, Incarnation, JoinSlots, NodeId, Partition, PartitionId, RoutesVersion, Timing,
    ViewVersion,
};
use crate::sync::{LockMutant, Mutex, MutexGuard};

/// A reply that waits: for acknowledgements, or a lease.
#[derive(Debug)]
pub struct Reply {
    pub(crate) call: CallId,
    pub(crate) result: Result<Vec<u8>>,
}

impl Reply {
    pub(crate) fn new(call: CallId, result: Result<&[u8], &Error>) -> Reply {
        let result = result.map(<[u8]>::to_vec).map_err(Clone::clone);
        Reply { call, result }
    }
}

/// The time during which this server is the primary of a partition. What is executed in a term that has ended meanwhile is
/// void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// The view with which the term began.
    pub since: ViewVersion,
    /// The epoch in which something was admitted.
    pub epoch: Epoch,
}

/// Whether an event may be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Now, in this term.
    Now(Term),
    /// Later: the primary is here, or will be soon.
    Later,
    /// Not here.
    Elsewhere,
}

/// The conditions of the admission of an event, besides its partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// Whether this server may serve now.
    pub has_lease: bool,
}

/// This server's part in one partition.
pub(crate) struct PartitionState {
    pub id: PartitionId,
    pub partition: Partition<Reply>,
    /// Events that wait until the partition is served here, or is known not to be.
    waiting: BTreeMap<ObjectId, Line>,
    waiting_len: usize,
    /// Objects with requests that have waited and are being admitted again. What is newer waits behind them.
    retrying: BTreeMap<ObjectId, Retrying>,
    /// Objects with tasks in their queues behind which calls may be executed, and how many. Until then an object may look
    /// whole that is not, and entries of the last primary may wait in its queue.
    unsettled: BTreeMap<ObjectId, u32>,
    /// The server's incarnation. Callbacks of another incarnation are ignored.
    pub incarnation: Incarnation,
}

/// The events that wait for one object, in this order.
#[derive(Default)]
struct Line {
    /// What this server does by itself, such as the end of a fenced call, which requests behind it must find done; and
    /// requests that wait once more.
    again: VecDeque<Event>,
    newer: VecDeque<Event>,
}

/// The requests of an object that have waited and are being admitted again.
#[derive(Default)]
struct Retrying {
    /// How many are left.
    left: usize,
    /// Something has changed since they were taken out: when none is left, those that wait once more are admitted again.
    /// Before that they would come behind those that are left, which are newer.
    once_more: bool,
}

impl PartitionState {
    pub fn new(
        id: PartitionId,
        me: (NodeId, Incarnation),
        placement: (u8, Timing),
        join_slots: Arc<JoinSlots>,
    ) -> PartitionState {
        PartitionState {
            id,
            partition: Partition::new(id, me, placement, join_slots),
            waiting: BTreeMap::new(),
            waiting_len: 0,
            retrying: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            incarnation: me.1,
        }
    }

    /// Whether a request may be executed. Requests of an object that waits are in line behind each other.
    pub fn admit(
        &mut self,
        object: &ObjectId,
        context: &RequestContext,
        standing: Standing,
    ) -> Admission {
        let must_queue = match context.retried {
            true => self
                .waiting
                .get(object)
                .is_some_and(|line| !line.again.is_empty()),
            false => {
                let is_retrying =
                    self.retrying.contains_key(object) && !LockMutant::NewerOvertakes.is_planted();
                self.waiting.contains_key(object) || is_retrying
            }
        };
        if must_queue {
            return Admission::Later;
        }
        self.admit_by(RoutesVersion(context.routes), object, standing)
    }

    /// Whether something that this server does by itself to an object may be executed.
    pub fn admit_own(&self, object: &ObjectId, standing: Standing) -> Admission {
        self.admit_by(RoutesVersion(u64::MAX), object, standing)
    }

    fn admit_by(&self, routes: RoutesVersion, object: &ObjectId, standing: Standing) -> Admission {
        match (self.partition.gate(routes, object), self.partition.term()) {
            (Gate::Moved, _) | (_, None) => Admission::Elsewhere,
            (Gate::Wait, _) => Admission::Later,
            (Gate::Serve, _) if !standing.has_lease || !self.is_settled(object) => Admission::Later,
            (Gate::Serve, Some(since)) => Admission::Now(Term {
                since,
                epoch: self.partition.epoch(),
            }),
        }
    }

    fn is_settled(&self, object: &ObjectId) -> bool {
        !self.unsettled.contains_key(object)
    }

    /// An object has one more task behind which its calls may be executed.
    pub fn unsettle(&mut self, object: ObjectId) {
        *self.unsettled.entry(object).or_default() += 1;
    }

    /// Such a task is through; whether it was the last one of the object.
    pub fn settle(&mut self, object: &ObjectId) -> bool {
        let Some(tasks) = self.unsettled.get_mut(object) else {
            return false;
        };
        *tasks -= 1;
        let is_last = *tasks == 0;
        if is_last {
            self.unsettled.remove(object);
        }
        is_last
    }

    /// Whether a term goes on.
    pub fn is_in(&self, term: Term) -> bool {
        self.partition.term() == Some(term.since)
    }

    /// Lets an event wait. Gives a request back if too many wait.
    pub fn wait(&mut self, object: ObjectId, event: Event, waiting_max: usize) -> Option<Event> {
        if self.waiting_len >= waiting_max && event.context().is_some() {
            return Some(event);
        }
        let line = self.waiting.entry(object).or_default();
        match event.context() {
            Some(context) if !context.retried => line.newer.push_back(event),
            _ => line.again.push_back(event),
        }
        self.waiting_len += 1;
        None
    }

    pub fn has_waiting(&self) -> bool {
        self.waiting_len > 0
    }

    /// The objects for which something waits.
    pub fn waiting_objects(&self) -> Vec<ObjectId> {
        self.waiting.keys().copied().collect()
    }

    /// Takes out what waits for an object, in its order, to be admitted again; if some of it is being admitted already,
    /// then when that is through.
    pub fn take_waiting(&mut self, object: &ObjectId) -> Vec<Event> {
        if let Some(retrying) = self.retrying.get_mut(object)
            && !LockMutant::RetryOvertakes.is_planted()
        {
            retrying.once_more = true;
            return Vec::new();
        }
        let line = self.waiting.remove(object).unwrap_or_default();
        let mut events: Vec<_> = line.again.into_iter().chain(line.newer).collect();
        self.waiting_len -= events.len();
        for event in &mut events {
            if let Event::Request(context, _) = event {
                context.retried = true;
                self.retrying.entry(*object).or_default().left += 1;
            }
        }
        events
    }

    /// A request that had waited was admitted, or waits once more. True: it was the last one, and what waits by now has to be
    /// admitted again.
    pub fn on_retried(&mut self, object: &ObjectId) -> bool {
        let Some(retrying) = self.retrying.get_mut(object) else {
            return false;
        };
        retrying.left -= 1;
        if retrying.left > 0 {
            return false;
        }
        let once_more = retrying.once_more;
        self.retrying.remove(object);
        let line = self.waiting.get(object);
        line.is_some_and(|line| once_more || line.again.is_empty())
    }

    /// Asserts what must hold of this part.
    pub fn check(&self) {
        let lines = self.waiting.values();
        let waiting: usize = lines.map(|line| line.again.len() + line.newer.len()).sum();
        assert_eq!(
            waiting, self.waiting_len,
            "the count of waiting events is wrong"
        );
        self.partition.check();
    }
}

/// All partitions. A lock is held for moments: while it is, no user code runs, nothing is encoded, nothing is written.
pub(crate) struct Partitions {
    states: Vec<Mutex<PartitionState>>,
    placement: (u8, Timing),
    join_slots: Arc<JoinSlots>,
}

impl Partitions {
    pub fn new(count: usize, me: (NodeId, Incarnation), placement: (u8, Timing)) -> Partitions {
        let join_slots = Arc::<JoinSlots>::default();
        let state = |index| {
            let id = PartitionId(index);
            Mutex::new(PartitionState::new(id, me, placement, join_slots.clone()))
        };
        Partitions {
            states: (0..count as u16).map(state).collect(),
            placement,
            join_slots,
        }
    }

    pub fn len(&self) -> usize {
        self.states.len()
    }

    pub fn ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.states.len() as u16).map(PartitionId)
    }

    /// The partition of an object.
    pub fn id_of(&self, object: &ObjectId) -> PartitionId {
        PartitionId::of(object, self.states.len())
    }

    pub fn lock(&self, id: PartitionId) -> MutexGuard<'_, PartitionState> {
        self.states[id.index()].lock()
    }

    /// Whether somebody has locked one of them.
    #[cfg(test)]
    pub fn is_locked(&self) -> bool {
        self.states.iter().any(|state| state.try_lock().is_none())
    }

    pub fn lock_of(&self, object: &ObjectId) -> MutexGuard<'_, PartitionState> {
        self.lock(self.id_of(object))
    }

    /// This server begins a new incarnation, without a part in any partition. Requests that wait are dropped with their
    /// connections. Gives the rounds of the other events that waited: they will not end.
    pub fn reset(&self, me: (NodeId, Incarnation)) -> Vec<RoundId> {
        let mut rounds = Vec::new();
        for id in self.ids() {
            let new = PartitionState::new(id, me, self.placement, self.join_slots.clone());
            let old = std::mem::replace(&mut *self.lock(id), new);
            let lines = old.waiting.into_values();
            let events = lines.flat_map(|line| line.again.into_iter().chain(line.newer));
            rounds.extend(events.filter_map(|event| event.round()));
        }
        rounds
    }
}
