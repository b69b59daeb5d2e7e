//! How packets travel, and what becomes of connections.

use crucial_node::DialId;
use crucial_node::replication::NodeId;
use rand::Rng;

use crate::event::Event;
use crate::events::MS;
use crate::places::{has, is_client};
use crate::process::{LEASE_MS, Process};
use crate::wire::{Dial, End, Packet};
use crate::world::World;

impl World {
    /// Sends something, which may be lost; whether it will arrive.
    pub fn travel(&mut self, from: u64, to: u64, event: Event) -> bool {
        if self.is_cut(from, to) {
            return false;
        }
        let copies = match self.random.random_range(0..1000) {
            chance if chance < self.loss_per_mille => 0,
            chance if chance < 2 * self.loss_per_mille => 2,
            _ => 1,
        };
        if copies == 2 {
            let delay_us = self.delay(from, to);
            self.after(delay_us, event.clone());
        }
        if copies > 0 {
            let delay_us = self.delay(from, to);
            self.after(delay_us, event);
        }
        copies > 0
    }

    pub fn is_cut(&self, from: u64, to: u64) -> bool {
        let mut faults = self.faults.values();
        faults.any(|fault| has(&fault.cut, from, to))
    }

    pub fn delay(&mut self, from: u64, to: u64) -> u64 {
        let slow_ms = match has(&self.slow, from, to) {
            true => LEASE_MS * 9 / 10,
            false => 0,
        };
        match self.random.random_range(0..200) {
            // Nobody waits so long for a connection between servers.
            0 if is_client(from) => self.random.random_range(1..10_000) * MS,
            0 => self.random.random_range(1..2_000) * MS,
            _ if slow_ms > 0 => self.random.random_range(0..slow_ms) * MS,
            1..10 => self.random.random_range(1..200) * MS,
            _ => self.random.random_range(100..5_000),
        }
    }

    /// A node dials another one.
    pub fn dial(&mut self, from: &Process, dial: DialId, to: (NodeId, u64)) {
        self.links += 1;
        let id = from.node.id();
        let dial = Dial {
            link: self.links,
            id: dial,
        };
        let hello = from.node.peer_hello((to.0.0, to.1));
        let is_cut = self.is_cut(id.0, to.0.0) || self.is_cut(to.0.0, id.0);
        let target = self.process(to.0).map(|process| process.node.incarnation());
        match target {
            Some(incarnation) if !is_cut => {
                let delay_us = self.delay(id.0, to.0.0);
                let packet = Packet::PeerHello(dial, hello);
                self.after(delay_us, Event::ToNode(to.0, incarnation, packet));
            }
            _ => {
                let delay_us = self.random.random_range(1..300) * MS;
                let packet = Packet::PeerReply(dial, hello, false);
                self.after(delay_us, Event::ToNode(id, from.began, packet));
            }
        }
    }

    /// Whether a node that was dialed takes the link.
    pub fn reply_to_peer(&mut self, packet: &Packet, is_accepted: bool) {
        let &Packet::PeerHello(dial, hello) = packet else {
            return;
        };
        let from = NodeId(hello.from);
        let Some(began) = self.process(from).map(|process| process.began) else {
            return;
        };
        let delay_us = self.random.random_range(100..5_000);
        let packet = Packet::PeerReply(dial, hello, is_accepted);
        self.after(delay_us, Event::ToNode(from, began, packet));
    }

    /// A connection of a process breaks, at this end soon, and at the other end when it is noticed there.
    pub fn break_connection(&mut self, process: &Process, end: End) {
        let id = process.node.id();
        let delay_us = match self.random.random_range(0..10) {
            0 => self.random.random_range(1..500) * MS,
            _ => self.random.random_range(100..5_000),
        };
        self.after(
            delay_us,
            Event::ToNode(id, process.began, Packet::Closed(end)),
        );
        let other_end = match end {
            End::Client(stream) => return self.close_stream(stream),
            End::Incoming(link) => End::Outgoing(link),
            End::Outgoing(link) => End::Incoming(link),
        };
        if let Some(other) = process.peer_at(end) {
            self.close_at(other, other_end);
        }
    }

    /// A node notices that a connection is closed.
    fn close_at(&mut self, id: NodeId, end: End) {
        let Some(began) = self.process(id).map(|process| process.began) else {
            return;
        };
        let delay_us = self.random.random_range(1..300) * MS;
        self.after(delay_us, Event::ToNode(id, began, Packet::Closed(end)));
    }

    /// A process has ended: other nodes notice it.
    pub fn break_links_to(&mut self, id: NodeId) {
        let mut broken = Vec::new();
        for (other, host) in &self.hosts {
            if let Some(process) = &host.process {
                let ends = process.open_ends();
                let ends = ends.filter(|end| process.peer_at(*end) == Some(id));
                broken.extend(ends.map(|end| (*other, end)));
            }
        }
        for (other, end) in broken {
            self.close_at(other, end);
        }
    }
}
