//! What this server says of itself and its cluster, for people and tools.

use std::sync::{Arc, mpsc};

use crucial_cluster::placement::wanted;
use crucial_cluster::{Body, Checksum, Home, PartitionId, Replica, View};
use crucial_core::frame::{
    ClusterInfo, Inspect, MemberInfo, ObjectInfo, PartitionInfo, ReplicaInfo,
};
use crucial_object::{Error, ObjectId, Result, encode};

use super::act::replica_of;
use super::{Cluster, REPLICAS_MAX};
use crate::service::{Effects, Service};
use crate::slot::{Event, Held, Slot};

/// So many objects are listed in one answer.
const OBJECTS_MAX: usize = 10_000;

impl Service {
    /// Answers a question about this server.
    pub fn inspect(&self, inspect: &Inspect, effects: &mut Effects<'_>) -> Result<Vec<u8>> {
        let Some(cluster) = &self.cluster else {
            return Err(Error::Refused {
                reason:
                    "this server is alone, and no part of a cluster: start it with --data DIRECTORY"
                        .to_owned(),
            });
        };
        match inspect {
            Inspect::Cluster => encode(&self.cluster_info(cluster)),
            Inspect::Objects { after, max, key } => {
                let max = OBJECTS_MAX.min(*max as usize);
                encode(&self.object_infos(cluster, *after, max, key.as_deref(), effects))
            }
            Inspect::Replicas { max } => {
                let max = OBJECTS_MAX.min(*max as usize);
                encode(&self.replica_infos(max, effects))
            }
        }
    }

    /// What there is here of all objects.
    fn replica_infos(&self, max: usize, effects: &mut Effects<'_>) -> Vec<ReplicaInfo> {
        let (found, all) = mpsc::channel();
        for slot in self.table.all().into_iter().take(max) {
            let found = found.clone();
            let look = Box::new(
                move |_: &Service, slot: &Arc<Slot>, held: &mut Held, _: &mut Effects<'_>| {
                    let Some(replica) = replica_of(held) else {
                        return;
                    };
                    let image = replica
                        .is_full()
                        .then(|| replica.image(0).and_then(|i| encode(&i)));
                    let info = ReplicaInfo {
                        id: slot.id,
                        version: (replica.version.epoch.0, replica.version.change),
                        checksum: image.map(|image| Checksum::of(&image.unwrap_or_default())),
                    };
                    // Who asked may have stopped waiting.
                    let _ = found.send(info);
                },
            );
            self.offer(slot.id, Event::Look(look), effects);
        }
        drop(found);
        self.run_jobs(effects);
        effects.flush();
        all.into_iter().collect()
    }

    fn cluster_info(&self, cluster: &Cluster) -> ClusterInfo {
        let view = cluster.view();
        let (leader, voters) = cluster
            .control
            .get()
            .map_or((None, Vec::new()), |control| control.voters());
        let members = view.members.iter().map(|(node, member)| MemberInfo {
            node: node.0,
            incarnation: member.incarnation.0,
            address: member.address.clone(),
            leaving: member.leaving,
        });
        let partitions = view.partitions().map(|id| {
            let configuration = view.configuration(id);
            let seats = configuration.seats.iter();
            PartitionInfo {
                epoch: configuration.epoch.0,
                seats: seats.map(|seat| (seat.level, seat.node.0)).collect(),
                is_settled: configuration.seats == wanted(id, &view, REPLICAS_MAX),
            }
        });
        ClusterInfo {
            cluster: cluster.cluster(),
            node: cluster.me.0,
            view: view.version.0,
            has_lease: cluster.has_lease(self.now_ms()),
            objects: self.table.len() as u64,
            leader: leader.map(|node| node.0),
            voters: voters.into_iter().map(|node| node.0).collect(),
            members: members.collect(),
            partitions: partitions.collect(),
        }
    }

    /// The objects of which this server is the primary.
    fn object_infos(
        &self,
        cluster: &Cluster,
        after: Option<ObjectId>,
        max: usize,
        key: Option<&str>,
        effects: &mut Effects<'_>,
    ) -> Vec<ObjectInfo> {
        let view = cluster.view();
        let mut infos = Vec::new();
        // Ids begin with their partition, so partitions are in the order of ids.
        for id in cluster.ids() {
            if view.primary(id) != Some(cluster.me) {
                continue;
            }
            let slots = self.table.of_partition(id, cluster.shares.len());
            let mut ids: Vec<_> = slots.iter().map(|slot| slot.id).collect();
            ids.retain(|id| after.is_none_or(|after| *id > after));
            ids.sort_unstable();
            infos.extend(self.infos(&view, id, ids, key.map(str::to_owned), effects));
            if infos.len() >= max {
                infos.truncate(max);
                break;
            }
        }
        infos
    }

    fn infos(
        &self,
        view: &Arc<View>,
        partition: PartitionId,
        ids: Vec<ObjectId>,
        key: Option<String>,
        effects: &mut Effects<'_>,
    ) -> Vec<ObjectInfo> {
        let (found, all) = mpsc::channel();
        for id in ids {
            let (found, view, key) = (found.clone(), view.clone(), key.clone());
            let look = Box::new(
                move |_: &Service, _: &Arc<Slot>, held: &mut Held, _: &mut Effects<'_>| {
                    let Some(replica) = replica_of(held) else {
                        return;
                    };
                    if key.is_none_or(|key| key == replica.origin.key) {
                        // Who asked may have stopped waiting.
                        let _ = found.send(info_of(id, partition, replica, &view));
                    }
                },
            );
            self.offer(id, Event::Look(look), effects);
        }
        drop(found);
        self.run_jobs(effects);
        effects.flush();
        let mut infos: Vec<_> = all.into_iter().collect();
        infos.sort_unstable_by_key(|info| info.id);
        infos
    }
}

fn info_of(id: ObjectId, partition: PartitionId, replica: &mut Replica, view: &View) -> ObjectInfo {
    let seats = view.configuration(partition).seats.iter();
    let holders = seats.filter(|seat| seat.level < replica.replicas);
    let servers = holders.map(|seat| seat.node.0).collect();
    let (version, is_lost) = (replica.version, matches!(replica.body, Body::Lost));
    let (replicas, origin) = (replica.replicas, (*replica.origin).clone());
    let cell = replica.cell();
    ObjectInfo {
        id,
        type_name: origin.type_name,
        key: origin.key,
        home: match origin.home {
            Home::Run(run) => format!("run/{run}"),
            Home::Namespace(name) => format!("ns/{name}"),
        },
        partition: partition.0,
        replicas,
        servers,
        is_lost,
        version: (version.epoch.0, version.change),
        parked: cell.as_ref().map_or(0, |cell| cell.parked_len() as u64),
        records: cell.as_ref().map_or(0, |cell| cell.records_len() as u64),
    }
}
