//! Where the replies of a session go: to its newest connection, once that has its welcome.

use crucial_object::{Error, Result, Sequence};

use crate::ids::ConnectionId;
use crate::sync::LockMutant;

/// The connections of a session, of which one is in use.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Where replies go, and which of the session's hellos came on it.
    current: Option<(u64, ConnectionId)>,
    /// The last hello, and its connection, if its welcome is not on its way yet.
    greeted: Option<(u64, ConnectionId)>,
    /// Counts hellos.
    hellos: u64,
    /// The connections of hellos up to this one are fenced.
    fenced: u64,
    /// Replies that came behind the last hello, and wait for its welcome.
    withheld: Vec<Withheld>,
    /// The newest routes that were sent on the connection in use. Others do not know them.
    routes_sent: u64,
}

/// A reply that waits for a welcome.
#[derive(Debug)]
pub(crate) struct Withheld {
    pub sequence: Sequence,
    pub result: Result<Vec<u8>>,
}

/// What follows when a welcome is on its way.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    /// To be closed: the connection before this one, or this one, if there is a newer one already.
    pub closed: Option<ConnectionId>,
    /// To be sent.
    pub withheld: Vec<Withheld>,
}

impl Delivery {
    /// A hello came on a connection. Gives its number. Replies wait for the welcome from here on.
    pub fn greet(&mut self, connection: ConnectionId) -> u64 {
        self.hellos += 1;
        self.greeted = Some((self.hellos, connection));
        self.hellos
    }

    /// The routes of this version were sent.
    pub fn set_routes_sent(&mut self, version: u64) {
        self.routes_sent = version;
    }

    /// The connection on which the client has to be sent the routes of this version. From then on it is taken to know them.
    pub fn must_send_routes(&mut self, version: u64) -> Option<ConnectionId> {
        if self.routes_sent >= version {
            return None;
        }
        let to = self.connection();
        if to.is_some() || LockMutant::RoutesUnlocked.is_planted() {
            self.routes_sent = version;
        }
        to
    }

    /// The welcome to a hello is on its way, and whatever is sent on the connection comes behind it.
    pub fn attach(&mut self, hello: u64, connection: ConnectionId) -> Attached {
        if hello <= self.fenced || self.current.is_some_and(|(newer, _)| newer > hello) {
            return Attached {
                closed: Some(connection),
                withheld: Vec::new(),
            };
        }
        let previous = self.current.replace((hello, connection));
        let is_last = self.greeted == Some((hello, connection));
        let withheld = match is_last {
            true => {
                self.greeted = None;
                std::mem::take(&mut self.withheld)
            }
            false => Vec::new(),
        };
        let previous = previous.map(|(_, previous)| previous);
        Attached {
            closed: previous.filter(|previous| *previous != connection),
            withheld,
        }
    }

    /// Whoever is connected now may do nothing more. Gives the connection, which has to be closed.
    pub fn fence(&mut self) -> Option<ConnectionId> {
        self.fenced = self.hellos;
        self.greeted = None;
        self.withheld.clear();
        self.current.take().map(|(_, connection)| connection)
    }

    /// A connection is closed. Its client asks again for what is lost with it.
    pub fn detach(&mut self, connection: ConnectionId) {
        let is_it = |one: &(u64, ConnectionId)| one.1 == connection;
        self.current = self.current.filter(|one| !is_it(one));
        if self.greeted.as_ref().is_some_and(is_it) {
            self.greeted = None;
            self.withheld.clear();
        }
    }

    /// The connection in use.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.current.map(|(_, connection)| connection)
    }

    /// Where a reply goes now. `None`: nowhere, or it waits.
    pub fn take_reply(
        &mut self,
        sequence: Sequence,
        result: Result<&[u8], &Error>,
    ) -> Option<ConnectionId> {
        if self.greeted.is_none() {
            return self.connection();
        }
        let result = result.map(<[u8]>::to_vec).map_err(Clone::clone);
        self.withheld.push(Withheld { sequence, result });
        None
    }
}
