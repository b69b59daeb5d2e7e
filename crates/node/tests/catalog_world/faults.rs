//! What goes wrong: servers that die, leases that end, connections that are cut.

use crucial_node::catalog::ModuleCatalog;
use crucial_node::replication::NodeId;
use rand::Rng;

use super::{Event, World};

impl World {
    pub(super) fn fault(&mut self) {
        let nodes: Vec<_> = self.servers.keys().copied().collect();
        let node = nodes[self.random.random_range(0..nodes.len())];
        let other = nodes[self.random.random_range(0..nodes.len())];
        match self.random.random_range(0..6) {
            0 | 1 => self.kill(node),
            2 => {
                let peer = self.servers[&node].peer;
                self.after(0, Event::Expire(peer));
            }
            3 => {
                self.cuts.insert((node, other));
            }
            4 => self.cuts.clear(),
            _ => nodes.into_iter().for_each(|node| self.kill(node)),
        }
    }

    fn kill(&mut self, node: NodeId) {
        let server = self.servers.get_mut(&node).unwrap();
        if !server.is_alive {
            return;
        }
        server.is_alive = false;
        server.shell.end_process();
        let peer = server.peer;
        let expire_ms = self.random.random_range(20..=150);
        self.after(expire_ms, Event::Expire(peer));
        let start_ms = self.random.random_range(10..=400);
        self.after(start_ms, Event::Start(node));
    }

    pub(super) fn start(&mut self, node: NodeId) {
        let server = self.servers.get_mut(&node).unwrap();
        if server.is_alive {
            return;
        }
        server.is_alive = true;
        server.process += 1;
        server.peer.incarnation.0 += 1;
        server.catalog = ModuleCatalog::new(server.peer, self.shape.limits());
        server.is_ticking = false;
        server.view = None;
        // A new catalog does not know the time.
        server.catalog.tick(self.now_ms);
        self.drain(node);
    }

    /// Nothing goes wrong from here on.
    pub(super) fn heal(&mut self) {
        self.cuts.clear();
        (self.shape.lost, self.shape.repeated, self.shape.damaged) = (0, 0, 0);
        for node in self.servers.keys().copied().collect::<Vec<_>>() {
            self.start(node);
        }
    }
}
