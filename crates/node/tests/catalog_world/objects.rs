//! Objects, which are made and deleted by the primaries of their partitions, and move with these.

use crucial_node::catalog::Peer;
use crucial_node::replication::{Assignment, Command, NodeId, PartitionId};
use rand::Rng;

use super::shell::{Object, TYPES};
use super::{Event, PARTITIONS, Server, World};

impl World {
    /// A server that runs and is the member that the control group takes it for.
    fn member(&self, node: NodeId) -> Option<&Server> {
        let view = self.control.view();
        let server = self.servers.get(&node)?;
        let is_member = view.has(node, server.peer.incarnation);
        (server.is_alive && is_member).then_some(server)
    }

    fn primary_of(&self, partition: PartitionId) -> Option<NodeId> {
        let node = self.control.view().primary(partition)?;
        Some(self.member(node)?.peer.node)
    }

    pub(super) fn change_objects(&mut self) {
        let partition = PartitionId(self.random.random_range(0..PARTITIONS as u16));
        let kind = self.random.random_range(0..TYPES);
        let (is_stubborn, makes, moves) = (self.chance(10), self.chance(60), self.chance(50));
        let Some(node) = self.primary_of(partition) else {
            return;
        };
        if moves {
            return self.begin_move(partition, node);
        }
        self.numbers += 1;
        let number = self.numbers;
        let modules = self.modules.clone();
        let server = self.servers.get_mut(&node).unwrap();
        // An object that comes from another server may need any module.
        let wanted = modules[usize::from(kind)].id;
        server.catalog.want(&wanted);
        if makes {
            let object = Object {
                number,
                partition,
                kind,
                module: wanted,
                is_stubborn,
            };
            server.shell.make_object(object, &modules);
        } else {
            let mut objects = server.shell.objects.iter();
            let last = objects.rfind(|object| object.partition == partition);
            if let Some(number) = last.map(|object| object.number) {
                self.forget(|object| object.number == number);
            }
        }
        self.drain(node);
    }

    fn forget(&mut self, is_gone: impl Fn(&Object) -> bool) {
        for server in self.servers.values_mut() {
            server.shell.objects.retain(|object| !is_gone(object));
        }
    }

    /// The primary of a partition gives another server copies of its objects.
    fn begin_move(&mut self, partition: PartitionId, from: NodeId) {
        let index = self.random.random_range(0..self.servers.len());
        let to = *self.servers.keys().nth(index).unwrap();
        let (Some(source), Some(target)) = (self.member(from), self.member(to)) else {
            return;
        };
        let objects = source.shell.objects.iter();
        let objects: Vec<_> = objects
            .filter(|object| object.partition == partition)
            .cloned()
            .collect();
        let has_code = |object: &Object| target.shell.code.contains(&object.module);
        let is_there = |object: &Object| {
            target
                .shell
                .objects
                .iter()
                .any(|o| o.number == object.number)
        };
        if from == to || !objects.iter().all(has_code) || objects.iter().any(is_there) {
            return;
        }
        let (source, target) = (source.peer, target.peer);
        self.servers
            .get_mut(&to)
            .unwrap()
            .shell
            .objects
            .extend(objects);
        let delay_ms = self.random.random_range(0..=3 * self.shape.delay_ms);
        self.after(delay_ms, Event::EndMove(partition, source, target));
    }

    /// The other server becomes the partition's primary, unless something has come between.
    pub(super) fn end_move(&mut self, partition: PartitionId, source: Peer, target: Peer) {
        let is_member =
            |world: &World, peer: Peer| world.member(peer.node).is_some_and(|one| one.peer == peer);
        let is_primary = self.primary_of(partition) == Some(source.node);
        let assignment = Assignment {
            rank: 0,
            node: target.node,
        };
        let moves = is_primary && is_member(self, source) && is_member(self, target);
        if moves {
            // Made or deleted meanwhile.
            let objects = self.servers[&source.node].shell.objects.clone();
            let news = objects
                .into_iter()
                .filter(|object| object.partition == partition);
            let modules = self.modules.clone();
            let shell = &mut self.servers.get_mut(&target.node).unwrap().shell;
            let known: Vec<_> = shell.objects.iter().map(|object| object.number).collect();
            let news: Vec<_> = news
                .filter(|object| !known.contains(&object.number))
                .collect();
            if news
                .iter()
                .all(|object| shell.code.contains(&object.module))
            {
                shell.objects.extend(news);
                shell.take_over(partition, &modules);
                self.apply(&Command::Reconfigure {
                    partition,
                    epoch: self.control.view().configuration(partition).epoch,
                    assignments: vec![(assignment, target.incarnation)],
                });
                self.report.handed_over += 1;
            }
        }
        // The other servers forget the partition.
        let primary = self.primary_of(partition);
        for server in self.servers.values_mut() {
            if Some(server.peer.node) != primary {
                let objects = &mut server.shell.objects;
                objects.retain(|object| object.partition != partition);
            }
        }
    }
}
