//! Which server answers for what.

use crucial_object::{Error, ObjectId, Result};
use crucial_proto::frame::Routes;

use super::member::Member;
use super::pending::Target;

/// Servers that a cluster may have.
const SERVERS_MAX: usize = 4096;

/// Routes, checked. A place is an index into their servers.
#[derive(Debug)]
pub struct Table {
    routes: Routes,
    members: Vec<Member>,
}

impl Table {
    /// `reached` is the address where the server that sent the routes was reached: an empty address stands for it.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if the routes have too many servers.
    pub fn new(mut routes: Routes, reached: &str) -> Result<Table> {
        let count = routes.servers.len();
        if count > SERVERS_MAX {
            return Err(Error::Protocol {
                detail: format!("routes of {count} servers, where {SERVERS_MAX} are allowed"),
            });
        }
        for server in &mut routes.servers {
            if server.address.is_empty() {
                reached.clone_into(&mut server.address);
            }
        }
        let members = routes.servers.iter().map(|server| Member {
            node: server.node,
            incarnation: server.incarnation,
        });
        Ok(Table {
            members: members.collect(),
            routes,
        })
    }

    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    pub fn version(&self) -> u64 {
        self.routes.version
    }

    /// The servers, in the order of their places.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn address(&self, place: usize) -> &str {
        &self.routes.servers[place].address
    }

    /// The place of a partition's primary, if it has one.
    pub fn primary(&self, partition: usize) -> Option<usize> {
        let place = usize::from(*self.routes.primaries.get(partition)?);
        (place < self.members.len()).then_some(place)
    }

    pub fn place_of_object(&self, object: &ObjectId) -> Option<usize> {
        self.primary(self.routes.partition(object))
    }

    pub fn place_of(&self, member: Member) -> Option<usize> {
        self.members.iter().position(|known| *known == member)
    }

    /// Where a request goes now.
    pub fn place_for(&self, target: &Target) -> Option<usize> {
        match target {
            Target::Object(object) => self.place_of_object(object),
            Target::Member(member) => self.place_of(*member),
        }
    }

    /// Whether each partition has a primary.
    pub fn is_whole(&self) -> bool {
        let mut primaries = self.routes.primaries.iter();
        primaries.all(|place| usize::from(*place) < self.members.len())
    }
}
