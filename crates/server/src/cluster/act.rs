//! Does what the state machines say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crucial_cluster::{
    Action, Entry, Epoch, Held as Digest, Home, Incarnation, Message, NodeId, PartitionId, Replica,
    ViewVersion,
};
use crucial_object::{ObjectId, SessionId};
use parking_lot::Mutex;

use super::share::Share;
use super::{Cluster, Reply};
use crate::connection::Connection;
use crate::service::{Effects, Job, Service, Then};
use crate::slot::{Event, Held, Item, Look, Offer, Slot};

/// Something to do with each of some objects, each in line with what else happens to it.
type Each = dyn Fn(&Service, &Arc<Slot>, Option<&mut Replica>, &mut Effects<'_>) + Send + Sync;

impl Service {
    /// Hands an event to an object's place. If it is the holder's turn that is a job.
    pub fn offer(&self, object: ObjectId, event: Event, effects: &mut Effects<'_>) {
        // Without a limit it is not given back.
        let _ = self.offer_up_to(usize::MAX, object, event, effects);
    }

    /// The same, if not too many are in line for the object; else it is given back.
    pub fn offer_up_to(
        &self,
        queued_max: usize,
        object: ObjectId,
        mut event: Event,
        effects: &mut Effects<'_>,
    ) -> Option<Event> {
        loop {
            let slot = self.table.find_or_absent(&object);
            match slot.offer(event, queued_max) {
                Offer::Turn(held, event) => {
                    effects.jobs.push_back(Job::Object(slot, held, event));
                    return None;
                }
                Offer::Queued => return None,
                Offer::Full(back) => return Some(*back),
                Offer::Gone(back) => {
                    self.table.forget(&slot);
                    event = *back;
                }
            }
        }
    }

    /// Does what a partition says, under its lock.
    pub(super) fn act(
        &self,
        cluster: &Cluster,
        share: &mut Share,
        actions: Vec<Action<Reply>>,
        effects: &mut Effects<'_>,
    ) {
        let mut actions: VecDeque<_> = actions.into();
        while let Some(action) = actions.pop_front() {
            let mut more = Vec::new();
            self.act_one(cluster, share, action, &mut more, effects);
            for action in more.into_iter().rev() {
                actions.push_front(action);
            }
        }
    }

    fn act_one(
        &self,
        cluster: &Cluster,
        share: &mut Share,
        action: Action<Reply>,
        more: &mut Vec<Action<Reply>>,
        effects: &mut Effects<'_>,
    ) {
        let id = share.id;
        match action {
            Action::Send(to, message) => cluster.say(to, id, &message, effects),
            Action::Propose(command) => cluster.propose(command),
            Action::Follow(from, entry) => {
                if let Some(object) = object_of(&entry) {
                    self.offer(object, Event::Follow(from, Box::new(entry)), effects);
                }
            }
            Action::Clear => {
                for object in self.objects_of(cluster, id) {
                    self.offer(object, Event::Look(Box::new(drop_object)), effects);
                }
            }
            Action::Shed(level) => {
                let shed = move |replica: &mut Replica| replica.shed(level);
                self.for_each(cluster, id, shed, None, effects);
            }
            Action::Lose(level) => {
                share.settling += 1;
                let life = share.life;
                let finally: Then = Box::new(move |service, effects| {
                    service.settled(id, life, effects);
                });
                let lose = move |replica: &mut Replica| replica.lose(level);
                self.for_each(cluster, id, lose, Some(finally), effects);
            }
            Action::Digest(to) => self.digest(cluster, share, to, effects),
            Action::Reconcile(node, there) => {
                self.reconcile(cluster, share, node, there, effects);
            }
            Action::List => {
                let objects = self.objects_of(cluster, id);
                share.partition.copy_list(objects, self.now_ms(), more);
            }
            Action::Copy(objects) => {
                let join = (share.life, share.partition.joins());
                for object in objects {
                    self.offer(object, Event::Look(copy(id, join)), effects);
                }
            }
            Action::Repair(node, object) => {
                self.offer(object, Event::Look(repair(id, node)), effects);
            }
            Action::Open => {
                share.settling += 1;
                for session in share.partition.requesters() {
                    self.sessions.expect(session, None, self.now_ms());
                }
                self.opened(cluster, (id, share.life), effects);
            }
            Action::Close => effects.jobs.push_back(try_again(id)),
            Action::Release(reply) => self.release(cluster, reply, effects),
        }
    }

    fn objects_of(&self, cluster: &Cluster, id: PartitionId) -> Vec<ObjectId> {
        let slots = self.table.of_partition(id, cluster.shares.len());
        slots.iter().map(|slot| slot.id).collect()
    }

    /// Does something with each object of a partition that is here.
    fn for_each(
        &self,
        cluster: &Cluster,
        id: PartitionId,
        act: impl Fn(&mut Replica) + Send + Sync + 'static,
        finally: Option<Then>,
        effects: &mut Effects<'_>,
    ) {
        let each = move |_: &Service,
                         _: &Arc<Slot>,
                         replica: Option<&mut Replica>,
                         _: &mut Effects<'_>| {
            if let Some(replica) = replica {
                act(replica);
            }
        };
        let finally = finally.unwrap_or_else(|| Box::new(|_, _| ()));
        let objects = self.objects_of(cluster, id);
        self.round(objects, Arc::new(each), finally, effects);
    }

    /// Does something with each of these objects, and then something else.
    fn round(
        &self,
        objects: Vec<ObjectId>,
        each: Arc<Each>,
        finally: Then,
        effects: &mut Effects<'_>,
    ) {
        if objects.is_empty() {
            return effects.jobs.push_back(Job::Then(finally));
        }
        let left = Arc::new(AtomicUsize::new(objects.len()));
        let finally = Arc::new(Mutex::new(Some(finally)));
        for object in objects {
            let (each, left, finally) = (each.clone(), left.clone(), finally.clone());
            let look: Look = Box::new(move |service, slot, held, effects| {
                each(service, slot, replica_of(held), effects);
                if left.fetch_sub(1, Ordering::AcqRel) == 1
                    && let Some(finally) = finally.lock().take()
                {
                    effects.jobs.push_back(Job::Then(finally));
                }
            });
            self.offer(object, Event::Look(look), effects);
        }
    }

    /// Says what there is, when all that came has had its effect.
    fn digest(&self, cluster: &Cluster, share: &Share, to: NodeId, effects: &mut Effects<'_>) {
        let (id, epoch) = (share.id, share.partition.epoch());
        let digests: Arc<Mutex<Vec<Digest>>> = Arc::default();
        let list = digests.clone();
        let each = move |_: &Service,
                         slot: &Arc<Slot>,
                         replica: Option<&mut Replica>,
                         _: &mut Effects<'_>| {
            if let Some(replica) = replica {
                list.lock().push(replica.held(slot.id, 0));
            }
        };
        let finally: Then = Box::new(move |service, effects| {
            let Some(cluster) = &service.cluster else {
                return;
            };
            let share = cluster.share(id);
            if share.partition.epoch() == epoch {
                let held = std::mem::take(&mut *digests.lock());
                let message = share.partition.digest(held);
                cluster.say(to, id, &message, effects);
            }
        });
        let objects = self.objects_of(cluster, id);
        self.round(objects, Arc::new(each), finally, effects);
    }

    /// Brings another seat to what is here.
    fn reconcile(
        &self,
        cluster: &Cluster,
        share: &Share,
        node: NodeId,
        there: Vec<Digest>,
        effects: &mut Effects<'_>,
    ) {
        let (id, epoch) = (share.id, share.partition.epoch());
        let there: BTreeMap<_, _> = there.into_iter().map(|held| (held.object, held)).collect();
        let here = self.objects_of(cluster, id);
        let objects: BTreeSet<_> = there.keys().copied().chain(here).collect();
        let each = move |service: &Service,
                         slot: &Arc<Slot>,
                         replica: Option<&mut Replica>,
                         _: &mut Effects<'_>| {
            let held = there.get(&slot.id).copied();
            if replica.is_none() && held.is_none() {
                return;
            }
            service.in_epoch(id, epoch, |share| {
                share.partition.reconcile(node, slot.id, replica, held);
            });
        };
        let finally: Then = Box::new(move |service, effects| {
            let now_ms = service.now_ms();
            service.in_epoch(id, epoch, |share| {
                let mut actions = Vec::new();
                share.partition.reconciled(node, now_ms, &mut actions);
                if let Some(cluster) = &service.cluster {
                    service.act(cluster, share, actions, effects);
                }
            });
        });
        let objects = objects.into_iter().collect();
        self.round(objects, Arc::new(each), finally, effects);
    }

    /// Does something with a share, if it is still in this epoch.
    fn in_epoch(&self, id: PartitionId, epoch: Epoch, act: impl FnOnce(&mut Share)) {
        let Some(cluster) = &self.cluster else { return };
        let mut share = cluster.share(id);
        if share.partition.epoch() == epoch {
            act(&mut share);
        }
    }

    /// A session has ended: nobody will repeat its creations and deletions.
    pub fn end_requester(&self, session: SessionId, effects: &mut Effects<'_>) {
        let Some(cluster) = &self.cluster else { return };
        for id in cluster.ids() {
            let mut share = cluster.share(id);
            if !share.partition.is_primary() {
                continue;
            }
            share.partition.end_session(session);
            let mut actions = Vec::new();
            share.partition.issue(self.now_ms(), &mut actions);
            self.act(cluster, &mut share, actions, effects);
        }
    }

    /// A round is through before which nothing was executed.
    fn settled(&self, id: PartitionId, life: Incarnation, effects: &mut Effects<'_>) {
        let Some(cluster) = &self.cluster else { return };
        let mut share = cluster.share(id);
        if share.life != life {
            return;
        }
        share.settling = share.settling.saturating_sub(1);
        drop(share);
        effects.jobs.push_back(try_again(id));
    }

    /// A partition is served here from now on, as soon as all that came before has had its effect. Who may hold
    /// something of its objects has a lease to turn up.
    fn opened(
        &self,
        cluster: &Cluster,
        (id, life): (PartitionId, Incarnation),
        effects: &mut Effects<'_>,
    ) {
        let each = |service: &Service,
                    slot: &Arc<Slot>,
                    replica: Option<&mut Replica>,
                    effects: &mut Effects<'_>| {
            let Some(replica) = replica else { return };
            let now_ms = service.now_ms();
            for session in replica.clients() {
                service.sessions.expect(session, Some(slot), now_ms);
            }
            if let Some(visit) = replica.cell().and_then(|cell| service.newer(cell.info())) {
                service.offer(slot.id, visit, effects);
            }
            if let Home::Run(run) = replica.origin.home {
                service.sessions.expect_owner(run, now_ms);
            }
        };
        let finally: Then = Box::new(move |service, effects| {
            service.settled(id, life, effects);
        });
        let objects = self.objects_of(cluster, id);
        self.round(objects, Arc::new(each), finally, effects);
    }

    /// Tries again what has waited, in its order.
    pub(super) fn try_again(&self, id: PartitionId, effects: &mut Effects<'_>) {
        let Some(cluster) = &self.cluster else { return };
        // Other jobs come later: one inside another could go deep.
        let others = std::mem::take(&mut effects.jobs);
        loop {
            let Some(waiting) = cluster.share(id).begin_again() else {
                break;
            };
            cluster.requests_go_on(waiting.len());
            for (object, event) in waiting {
                self.offer(object, event, effects);
                self.run_jobs(effects);
            }
            let mut share = cluster.share(id);
            let more_came = share.tried_again();
            let goes = share.is_open(cluster, self.now_ms()) || !share.partition.is_primary();
            if !more_came || !goes {
                break;
            }
        }
        effects.jobs.extend(others);
    }

    /// An answer may go out, if there is a lease.
    pub(super) fn release(&self, cluster: &Cluster, reply: Reply, effects: &mut Effects<'_>) {
        if cluster.has_lease(self.now_ms()) {
            self.deliver(&reply, effects);
        } else {
            cluster.withheld.lock().push(reply);
        }
    }

    /// Sends what had to wait for a lease, and tries again what waits for one.
    pub(super) fn lease_came(&self, cluster: &Cluster, effects: &mut Effects<'_>) {
        if !cluster.has_lease(self.now_ms()) {
            return;
        }
        let withheld = std::mem::take(&mut *cluster.withheld.lock());
        for reply in &withheld {
            self.deliver(reply, effects);
        }
        if cluster.waiting.load(Ordering::Relaxed) > 0 {
            let ids = cluster.ids();
            let waiting = ids.filter(|id| cluster.share(*id).has_waiting());
            effects.jobs.extend(waiting.map(try_again));
        }
    }

    fn deliver(&self, reply: &Reply, effects: &mut Effects<'_>) {
        use crucial_core::Replies;
        let result = reply.result.as_deref();
        effects.reply(reply.call, result);
    }

    /// A message of another server about a partition.
    pub(super) fn take_message(
        &self,
        cluster: &Cluster,
        connection: &Connection,
        (from, heard): (NodeId, ViewVersion),
        (id, message): (PartitionId, Message),
        effects: &mut Effects<'_>,
    ) {
        if self.is_ahead(cluster, &message, heard) {
            // It comes again, when the view with the module may be here.
            return;
        }
        let mut actions = Vec::new();
        let mut share = cluster.share(id);
        if connection.is_closed() {
            // It was said to a life of this server that has ended: its connections are closed before its shares go.
            return;
        }
        share
            .partition
            .receive(from, message, self.now_ms(), &mut actions);
        self.act(cluster, &mut share, actions, effects);
    }
}

fn try_again(id: PartitionId) -> Job {
    Job::Then(Box::new(move |service, effects| {
        service.try_again(id, effects)
    }))
}

fn object_of(entry: &Entry) -> Option<ObjectId> {
    match entry {
        Entry::Apply { object, .. }
        | Entry::Install { object, .. }
        | Entry::Drop { object, .. } => Some(*object),
        // The partition keeps these.
        Entry::Reset { .. } | Entry::Level { .. } | Entry::Done(_) => None,
    }
}

/// What there is of an object here.
pub(super) fn replica_of(held: &mut Held) -> Option<&mut Replica> {
    match held {
        Some(Item::Shared(replica)) => Some(replica),
        _ => None,
    }
}

/// This server does not have it any more.
pub(super) fn drop_object(
    service: &Service,
    slot: &Arc<Slot>,
    held: &mut Held,
    _: &mut Effects<'_>,
) {
    if let Some(replica) = replica_of(held) {
        service
            .sessions
            .forget_object(&replica.origin.home, slot.id);
    }
    *held = None;
}

fn copy(id: PartitionId, join: (Incarnation, u64)) -> Look {
    Box::new(move |service, slot, held, effects| {
        let Some(cluster) = &service.cluster else {
            return;
        };
        let mut share = cluster.share(id);
        if (share.life, share.partition.joins()) != join {
            // It was asked for a join that has ended.
            return;
        }
        share.partition.copy(slot.id, replica_of(held));
        let mut actions = Vec::new();
        share.partition.issue(service.now_ms(), &mut actions);
        service.act(cluster, &mut share, actions, effects);
    })
}

fn repair(id: PartitionId, node: NodeId) -> Look {
    Box::new(move |service, slot, held, effects| {
        let (Some(cluster), Some(replica)) = (&service.cluster, replica_of(held)) else {
            return;
        };
        let mut share = cluster.share(id);
        share.partition.repair(node, slot.id, replica);
        let mut actions = Vec::new();
        share.partition.issue(service.now_ms(), &mut actions);
        service.act(cluster, &mut share, actions, effects);
    })
}
