//! The control group: its state machine, and a leader who notices who is silent.

use std::sync::Arc;

use crucial_core::frame::{RouteServer, Routes};
use crucial_node::replication::{Command, Control, FailureDetector, Grant, NodeId, Refusal, View};

use crate::events::{Clock, MS};
use crate::model::Loss;
use crate::process::LEASE_MS;
use crate::wire::{Packet, ToControl};
use crate::world::{DRIFT, Event, World};

pub struct ControlGroup {
    state: Control,
    detector: FailureDetector,
    clock: Clock,
    pub down_until: u64,
    /// What clients can know of the newest view.
    routes: Option<Arc<Routes>>,
}

/// Which cluster all nodes belong to.
pub const CLUSTER: u64 = 1;

impl ControlGroup {
    pub fn new(state: Control, per_mille: u64) -> ControlGroup {
        let clock = Clock {
            offset_ms: 5_000,
            per_mille,
        };
        ControlGroup {
            state,
            detector: FailureDetector::new(clock.read(0)),
            clock,
            down_until: 0,
            routes: None,
        }
    }

    /// Another leader begins, at a later time.
    pub fn begin_leader(&mut self, clock: Clock, at_us: u64) {
        self.clock = clock;
        self.down_until = at_us;
        self.detector = FailureDetector::new(clock.read(at_us));
    }

    pub fn view(&self) -> &Arc<View> {
        self.state.view()
    }

    pub fn routes(&mut self) -> Arc<Routes> {
        let view = self.state.view();
        let present = self.routes.take();
        let present = present.filter(|routes| routes.version == view.version.0);
        let routes = present.unwrap_or_else(|| Arc::new(routes_of(view)));
        self.routes.insert(routes).clone()
    }
}

fn routes_of(view: &View) -> Routes {
    let servers = view.members.iter().map(|(node, member)| RouteServer {
        node: node.0,
        incarnation: member.incarnation.0,
        address: member.address.clone(),
    });
    let place = |node| view.members.keys().position(|member| *member == node);
    let primaries = view.partitions().map(|id| {
        let primary = view.primary(id).and_then(place);
        primary.map_or(Routes::NONE, |place| place as u16)
    });
    Routes {
        cluster: CLUSTER,
        version: view.version.0,
        servers: servers.collect(),
        primaries: primaries.collect(),
    }
}

impl World {
    pub fn at_control(&mut self, from: NodeId, packet: ToControl) {
        if self.control.down_until > self.now_us {
            return;
        }
        match packet {
            ToControl::Heartbeat { .. } => self.on_heartbeat(from, &packet),
            ToControl::Command(command) => {
                // A refused proposal is one that came too late.
                let _ = self.decide(&command);
            }
        }
    }

    fn on_heartbeat(&mut self, from: NodeId, heartbeat: &ToControl) {
        let ToControl::Heartbeat {
            node,
            incarnation,
            sent_ms,
            is_leaving,
        } = *heartbeat
        else {
            return;
        };
        let now_ms = self.control.clock.read(self.now_us);
        let view = self.control.view();
        if view.has(node, incarnation) {
            let leaves = view.members.get(&node).is_some_and(|m| m.leaving);
            self.control.detector.hear(node, incarnation, now_ms);
            if is_leaving && !leaves {
                let _ = self.decide(&Command::Leave { node, incarnation });
            }
        } else if !is_leaving {
            let joined = self.decide(&Command::Join {
                node,
                incarnation,
                address: String::new(),
                lease_ms: LEASE_MS,
            });
            if matches!(joined, Err(Refusal::Evicted { .. })) {
                let event = Event::ToNode(node, incarnation, Packet::Evicted);
                self.travel(0, from.0, event);
            }
            self.control.detector.hear(node, incarnation, now_ms);
        }
        let view = self.control.view().clone();
        let packet = if view.has(node, incarnation) {
            let grant = Grant {
                sent_ms,
                view: view.version,
            };
            Packet::Grant(grant, view)
        } else {
            Packet::View(view)
        };
        self.travel(0, from.0, Event::ToNode(node, incarnation, packet));
    }

    fn decide(&mut self, command: &Command) -> Result<(), Refusal> {
        let old = self.control.view().clone();
        let outcome = self.control.state.apply(command);
        self.trace(|| format!("control: {command:?}: {outcome:?}"));
        let view = self.control.view().clone();
        if view.version > old.version {
            self.note_losses(&old);
            for (node, member) in &view.members {
                let event = Event::ToNode(*node, member.incarnation, Packet::View(view.clone()));
                self.travel(0, node.0, event);
            }
        }
        outcome
    }

    /// Notes which objects a new view has lost: those of which no assignment was left that had them.
    fn note_losses(&mut self, old: &View) {
        let new = self.control.view().clone();
        for object in &self.objects {
            let partition = new.partition(&object.id);
            let (old, new) = (old.configuration(partition), new.configuration(partition));
            if old.epoch == new.epoch || old.assignments.is_empty() {
                continue;
            }
            let rank = new.primary().and_then(|primary| old.rank(primary));
            let loss = match rank {
                Some(rank) if rank < object.replicas => continue,
                Some(_) => Loss::Lost,
                // Nobody who is left has had an assignment.
                None => Loss::Forgotten,
            };
            let worst = self.losses.entry(object.id).or_insert(Loss::None);
            *worst = loss.max(*worst);
        }
    }

    pub fn tick_control(&mut self) {
        if self.control.down_until <= self.now_us {
            let now_ms = self.control.clock.read(self.now_us);
            let wait_ms = LEASE_MS + LEASE_MS * 2 * DRIFT / 1000 + 2;
            let view = self.control.view().clone();
            for command in self.control.detector.expired(&view, now_ms, wait_ms) {
                let _ = self.decide(&command);
            }
        }
        self.after(50 * MS, Event::ControlTick);
    }
}
