//! Flap damping: what the group remembers of servers that were expired lately. A server that is expired again and again
//! gets partitions only where there are not enough others, until it has been a member for long enough.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::replication::{NodeId, ViewVersion};

/// Most servers whose expiries are remembered; then those are forgotten that were expired first.
pub const FLAPPING_MAX: usize = 1_000;

/// Expiries after which a server may come back as if nothing had happened.
pub const EXPIRIES_FREE: u8 = 2;

/// The count of expiries goes up to this.
const EXPIRIES_MAX: u8 = 32;

/// The first pause of a damped server, in leases. Each further expiry doubles the pause.
const DAMPING_LEASES: u64 = 2;

/// The longest pause of a damped server, in milliseconds.
pub const DAMPING_MS_MAX: u64 = 60_000;

/// The expiries of a server are forgotten when it has not been expired for so long, in milliseconds.
pub const FLAPS_FORGOTTEN_MS: u64 = 10 * 60_000;

/// The servers that were expired lately, members or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flapping(BTreeMap<NodeId, Flaps>);

/// The expiries of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaps {
    /// Their number.
    pub expiries: u8,
    /// The view with which the server was expired last.
    pub expired: ViewVersion,
    /// Whether the server is a member that should get no partitions yet.
    pub is_damped: bool,
}

impl Flaps {
    /// For how long a member with these expiries is damped, in milliseconds.
    pub fn pause_ms(&self, lease_ms: u64) -> u64 {
        let Some(doublings) = self.expiries.checked_sub(EXPIRIES_FREE + 1) else {
            return 0;
        };
        let first_ms = lease_ms.saturating_mul(DAMPING_LEASES);
        first_ms
            .saturating_mul(1 << doublings.min(EXPIRIES_MAX))
            .min(DAMPING_MS_MAX)
    }
}

impl Flapping {
    /// All servers that are remembered.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, Flaps)> + '_ {
        self.0.iter().map(|(node, flaps)| (*node, *flaps))
    }

    /// Whether a member should get no partitions yet.
    pub fn is_damped(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|flaps| flaps.is_damped)
    }

    /// A server was expired with this view.
    pub(super) fn on_expired(&mut self, node: NodeId, view: ViewVersion) {
        let flaps = self.0.entry(node).or_insert(Flaps {
            expiries: 0,
            expired: view,
            is_damped: false,
        });
        *flaps = Flaps {
            expiries: (flaps.expiries + 1).min(EXPIRIES_MAX),
            expired: view,
            is_damped: false,
        };
        if self.0.len() > FLAPPING_MAX {
            let oldest = self.0.iter().min_by_key(|(_, flaps)| flaps.expired);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.0.remove(&oldest);
            }
        }
    }

    /// A server became a member.
    pub(super) fn on_joined(&mut self, node: NodeId) {
        if let Some(flaps) = self.0.get_mut(&node) {
            flaps.is_damped = flaps.expiries > EXPIRIES_FREE;
        }
    }

    /// A damped member gets partitions from now on.
    pub(super) fn end_damping(&mut self, node: NodeId) {
        if let Some(flaps) = self.0.get_mut(&node) {
            flaps.is_damped = false;
        }
    }

    /// Forgets the expiries of a server: it has left as it should.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    /// Forgets the expiries of a server, unless it was expired later than with this view.
    pub(super) fn forget_until(&mut self, node: NodeId, seen: ViewVersion) {
        if self.0.get(&node).is_some_and(|flaps| flaps.expired <= seen) {
            self.0.remove(&node);
        }
    }

    /// Whether this can be: it may come from elsewhere.
    pub(super) fn check(&self, is_member: impl Fn(NodeId) -> bool) -> Result<(), String> {
        if self.0.len() > FLAPPING_MAX {
            return Err(format!("the expiries of {} servers", self.0.len()));
        }
        match self
            .iter()
            .find(|(node, flaps)| flaps.is_damped && !is_member(*node))
        {
            Some((node, _)) => Err(format!("{node} is damped, and no member")),
            None => Ok(()),
        }
    }
}
