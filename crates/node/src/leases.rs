//! Leases of clients: whether this server could hear them at all, and what follows when one lapses.

use crucial_proto::frame::RESULTS_KEPT_LEASES;

use crate::ids::Millis;

/// Leases are looked at this often in each lease.
const LOOKS_PER_LEASE: Millis = 8;

/// The number of missed looks after which the process must have been stopped.
const STOPPED_LOOKS: Millis = 3;

/// For how long after the end of a session its client may repeat calls somewhere. Results are kept for this long, and the
/// session is told that it has ended.
///
/// A client repeats nothing later than [`REPEAT_LEASES`](crucial_proto::frame::REPEAT_LEASES) behind the last sign that a
/// server with a lease of its own had its session. Another server can have taken that one's place meanwhile, though not for
/// longer than a lease of servers.
pub(crate) fn kept_ms(lease_ms: Millis, server_lease_ms: Millis) -> Millis {
    let kept_ms = lease_ms.saturating_mul(RESULTS_KEPT_LEASES);
    // A server that is alone has a lease that does not end, and nobody takes its place.
    kept_ms.saturating_add(server_lease_ms.min(kept_ms))
}

/// The state at the last look at the leases.
#[derive(Debug, Default)]
pub(crate) struct LeaseWatch {
    looked: Option<Millis>,
    /// Whether this server had a lease of its own.
    had_lease: bool,
}

/// The result of a look at the leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// This server was stopped, starved or without a lease, and could hear or answer nobody: all clients have a whole lease again.
    pub forgives: bool,
    /// Whoever is silent has ended. A server that is cut off takes nobody for dead.
    pub ends_silent: bool,
}

/// How long it takes from one look to the next.
pub(crate) fn pause(lease_ms: Millis) -> Millis {
    (lease_ms / LOOKS_PER_LEASE).max(1)
}

impl LeaseWatch {
    pub fn look(&mut self, now: Millis, lease_ms: Millis, has_lease: bool) -> Look {
        let last = self.looked.replace(now).unwrap_or(now);
        let was_stopped = now.saturating_sub(last) > STOPPED_LOOKS * pause(lease_ms);
        let had_lease = std::mem::replace(&mut self.had_lease, has_lease);
        Look {
            forgives: was_stopped || !had_lease,
            ends_silent: has_lease,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_could_hear_nobody_takes_nobody_for_dead() {
        let mut watch = LeaseWatch::default();
        let look = |watch: &mut LeaseWatch, now, has_lease| watch.look(now, 800, has_lease);
        let quiet = Look {
            forgives: false,
            ends_silent: true,
        };
        assert!(
            look(&mut watch, 0, true).forgives,
            "the first look is one after nothing"
        );
        assert_eq!(look(&mut watch, 100, true), quiet);
        assert!(look(&mut watch, 401, true).forgives, "it was stopped");
        assert_eq!(look(&mut watch, 500, true), quiet);
        assert!(!look(&mut watch, 600, false).ends_silent);
        let again = look(&mut watch, 700, true);
        assert!(again.forgives && again.ends_silent);
        assert_eq!(look(&mut watch, 800, true), quiet);
    }
}
