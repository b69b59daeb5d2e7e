//! What comes to the control group, and what it decides.

use crucial_node::replication::{Command, Grant, NodeId, Refusal, View};

use rand::Rng;

use crate::event::Event;
use crate::events::MS;
use crate::fault::Kind;
use crate::model::Loss;
use crate::process::LEASE_MS;
use crate::wire::{Packet, ToControl};
use crate::world::{DRIFT, World};

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
        let now_us = self.now_us;
        let view = self.control.view();
        if view.has(node, incarnation) {
            let leaves = view.members.get(&node).is_some_and(|m| m.leaving);
            self.control.hear(node, incarnation, now_us);
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
            self.control.hear(node, incarnation, now_us);
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
        let outcome = self.control.apply(command);
        self.trace(|| format!("control: {command:?}: {outcome:?}"));
        let view = self.control.view().clone();
        if view.version > old.version {
            self.note_losses(&old);
            self.note_modules(&old, &view);
            for (node, member) in &view.members {
                // A node that does not hear of it hears of a later one.
                if self.kind == Kind::Overlapping && self.random.random_range(0..3) == 0 {
                    continue;
                }
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
            if loss == Loss::Forgotten {
                self.forgotten.insert((object.id, self.events.count));
            }
            let worst = self.losses.entry(object.id).or_insert(Loss::None);
            *worst = loss.max(*worst);
        }
    }

    pub fn tick_control(&mut self) {
        if self.control.down_until <= self.now_us {
            let wait_ms = LEASE_MS + LEASE_MS * 2 * DRIFT / 1000 + 2;
            for command in self.control.due(self.now_us, wait_ms) {
                let _ = self.decide(&command);
            }
        }
        self.after(50 * MS, Event::ControlTick);
    }
}
