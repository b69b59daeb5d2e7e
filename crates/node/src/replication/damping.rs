//! The clock of flap damping, which the control group's leader has: when a damped member gets partitions, and when expiries
//! are forgotten.

use std::collections::BTreeMap;

use crate::replication::flapping::FLAPS_FORGOTTEN_MS;
use crate::replication::{Command, Incarnation, NodeId, View, ViewVersion};

/// What the leader waits for, each with the time at which it proposes the command, by its clock. A new leader begins with
/// a new one, and waits as if all had happened just now.
#[derive(Clone, Debug, Default)]
pub struct Damping {
    due_ms: BTreeMap<Pause, u64>,
}

/// A pause, at whose end the leader proposes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pause {
    /// The member is damped in this incarnation.
    Damped(NodeId, Incarnation),
    /// The server was expired with this view.
    Expired(NodeId, ViewVersion),
}

impl Damping {
    /// The commands whose time has come. What the group does not decide within a lease is proposed again.
    pub fn due(&mut self, view: &View, now_ms: u64) -> Vec<Command> {
        let pauses = pauses(view);
        self.due_ms.retain(|pause, _| pauses.contains_key(pause));
        let mut due = Vec::new();
        for (pause, pause_ms) in pauses {
            let due_ms = self.due_ms.entry(pause).or_insert_with(|| {
                if let Pause::Damped(node, _) = pause {
                    tracing::warn!(
                        %node,
                        pause_ms,
                        "a server that was taken for dead again and again gets no partitions for a while, if there are enough others"
                    );
                }
                now_ms.saturating_add(pause_ms)
            });
            if now_ms >= *due_ms {
                *due_ms = now_ms.saturating_add(view.lease_ms);
                due.push(pause.end());
            }
        }
        due
    }
}

/// The pauses of a view, each with its length.
fn pauses(view: &View) -> BTreeMap<Pause, u64> {
    let mut pauses = BTreeMap::new();
    for (node, flaps) in view.flapping.iter() {
        pauses.insert(Pause::Expired(node, flaps.expired), FLAPS_FORGOTTEN_MS);
        let member = view.members.get(&node).filter(|_| flaps.is_damped);
        if let Some(member) = member {
            let pause = Pause::Damped(node, member.incarnation);
            pauses.insert(pause, flaps.pause_ms(view.lease_ms));
        }
    }
    pauses
}

impl Pause {
    fn end(self) -> Command {
        match self {
            Pause::Damped(node, incarnation) => Command::EndDamping { node, incarnation },
            Pause::Expired(node, seen) => Command::ForgetExpiries { node, seen },
        }
    }
}
