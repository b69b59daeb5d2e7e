//! The state of a session at this server.

use std::sync::Arc;

use super::client::{Places, Session};
use crate::ids::Millis;

/// The state of a session at this server. An unknown session may live at other servers.
pub(crate) enum Presence {
    /// The session lives here.
    Live(Arc<Session>),
    /// Objects came here from another server of which the session may hold something. It has a lease to say hello.
    Expected { since_ms: Millis, places: Places },
    /// The session has ended, and its objects are not all told yet. None of the same id begins before that: its places
    /// would be taken for the old ones. Objects that come here meanwhile are `late`: nobody tells them.
    Ending { late: Option<Places> },
    /// The session has ended since it was silent. It may live, and turn up at another server; its results are needed for
    /// a while.
    Silent { since_ms: Millis },
    /// The session has ended. One that comes again is told so.
    Ended,
}

impl Presence {
    /// Whether results of the session's calls may still be asked for, when it does not live here.
    pub fn keeps_results(&self) -> bool {
        matches!(self, Presence::Expected { .. } | Presence::Silent { .. })
    }
}
