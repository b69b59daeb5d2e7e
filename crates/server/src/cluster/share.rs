//! This server's part in one partition, and the requests that wait for it.

use crucial_cluster::{
    Epoch, Gate, Incarnation, NodeId, Partition, PartitionId, Timing, ViewVersion,
};
use crucial_object::ObjectId;

use super::{Cluster, Reply};
use crate::slot::{Arrival, Event};

pub(super) struct Share {
    pub id: PartitionId,
    pub partition: Partition<Reply>,
    /// What waits until the partition is served here, or is known not to be.
    waiting: Vec<(ObjectId, Event)>,
    /// While what has waited is tried again: what came behind it.
    behind: Option<Vec<(ObjectId, Event)>>,
    /// Rounds that go on before calls may be executed. Until they are through an object may look whole that is not, and what
    /// came from the last primary may wait in an object's line.
    pub settling: usize,
    /// In which life of the server it was made: what was begun in another is nothing to it.
    pub life: Incarnation,
}

/// In which reign of this server something is executed: one that has ended meanwhile makes it void.
#[derive(Clone, Copy)]
pub(super) struct Reign {
    pub since: ViewVersion,
    pub epoch: Epoch,
}

/// Whether something may be executed.
pub(super) enum Admission {
    /// In this reign.
    Now(Reign),
    /// The primary is here, or is to be soon.
    Later,
    /// Not here.
    Elsewhere,
}

impl Share {
    pub fn new(
        id: PartitionId,
        me: (NodeId, Incarnation),
        replicas_max: u8,
        timing: Timing,
    ) -> Share {
        Share {
            id,
            partition: Partition::new(id, me, replicas_max, timing),
            waiting: Vec::new(),
            behind: None,
            settling: 0,
            life: me.1,
        }
    }

    /// What to do with a request.
    pub fn admit(&self, cluster: &Cluster, arrival: &Arrival, now_ms: u64) -> Admission {
        let is_behind = !self.waiting.is_empty() || self.behind.is_some();
        if is_behind && !arrival.again {
            return Admission::Later;
        }
        if arrival.routes > cluster.version().0 {
            // Its client knows more than this server does.
            return Admission::Later;
        }
        self.admit_by(cluster, ViewVersion(arrival.routes), now_ms)
    }

    /// What to do with something that this server does by itself.
    pub fn admit_own(&self, cluster: &Cluster, now_ms: u64) -> Admission {
        self.admit_by(cluster, ViewVersion(u64::MAX), now_ms)
    }

    fn admit_by(&self, cluster: &Cluster, view: ViewVersion, now_ms: u64) -> Admission {
        let since = self.partition.reign_since();
        match (self.partition.gate(view), since) {
            (Gate::Moved, _) | (_, None) => Admission::Elsewhere,
            (Gate::Wait, _) => Admission::Later,
            (Gate::Serve, _) if self.settling > 0 || !cluster.has_lease(now_ms) => Admission::Later,
            (Gate::Serve, Some(since)) => Admission::Now(Reign {
                since,
                epoch: self.partition.epoch(),
            }),
        }
    }

    /// Whether a reign goes on.
    pub fn reigns(&self, reign: Reign) -> bool {
        self.partition.reign_since() == Some(reign.since)
    }

    /// Whether what waits would be served.
    pub fn is_open(&self, cluster: &Cluster, now_ms: u64) -> bool {
        matches!(self.admit_own(cluster, now_ms), Admission::Now(_))
    }

    /// Lets something wait; gives it back if too much does.
    pub fn wait(
        &mut self,
        cluster: &Cluster,
        object: ObjectId,
        event: Event,
        waiting_max: usize,
    ) -> Option<Event> {
        let is_again = event.arrival().is_some_and(|arrival| arrival.again);
        let list = match &mut self.behind {
            Some(behind) if !is_again => behind,
            _ => &mut self.waiting,
        };
        if list.len() >= waiting_max && event.arrival().is_some() {
            return Some(event);
        }
        list.push((object, event));
        cluster.request_waits();
        None
    }

    /// Whether something waits that nobody tries just now.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() && self.behind.is_none()
    }

    /// Takes what waits, to be tried again in this order; what comes meanwhile comes behind it. `None`: somebody
    /// tries already.
    pub fn begin_again(&mut self) -> Option<Vec<(ObjectId, Event)>> {
        if self.behind.is_some() {
            return None;
        }
        self.behind = Some(Vec::new());
        let mut waiting = std::mem::take(&mut self.waiting);
        for (_, event) in &mut waiting {
            if let Some(arrival) = event.arrival_mut() {
                arrival.again = true;
            }
        }
        Some(waiting)
    }

    /// All were tried. Some of them may wait again, and others behind them, as the result says.
    pub fn tried_again(&mut self) -> bool {
        let behind = self.behind.take().unwrap_or_default();
        let more_came = !behind.is_empty();
        self.waiting.extend(behind);
        more_came
    }
}
