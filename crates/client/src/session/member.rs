//! A server, in one of its incarnations.

use crucial_proto::frame::Routes;

/// A server of the cluster in one of its incarnations: the next incarnation knows nothing of what this one knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    pub node: u64,
    pub incarnation: u64,
}

impl Member {
    /// The server with this id, as the routes know it.
    pub fn of(routes: &Routes, node: u64) -> Option<Member> {
        let server = routes.servers.iter().find(|server| server.node == node)?;
        Some(Member {
            node,
            incarnation: server.incarnation,
        })
    }
}
