//! The control group of a server that is alone: a cluster of one, with a lease that does not end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use crucial_node::control_group::{ControlGroup, Member, Respond};
use crucial_node::replication::{
    Command, Control, Grant, Incarnation, NodeId, PARTITIONS, ViewVersion,
};
use crucial_node::{ControlInfo, ModuleStore, NoStore};
use crucial_proto::Endpoint;
use crucial_proto::frame::peer;
use parking_lot::Mutex;

/// So long that it does not end, and so short that sums with it are times.
const LEASE_MS: u64 = 1 << 60;

/// A server that is alone.
pub struct Lone {
    node: NodeId,
    cluster: u64,
    control: Mutex<Control>,
    member: OnceLock<Arc<dyn Member>>,
}

impl Lone {
    /// A new cluster of one, with a random name for both.
    pub fn new() -> std::io::Result<Lone> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        let random = u128::from_le_bytes(random);
        // Zero has a meaning of its own.
        let name = |bits: u128| (bits as u64).max(1);
        Ok(Lone {
            node: NodeId(name(random)),
            cluster: name(random >> 64),
            control: Mutex::new(Control::new(PARTITIONS)),
            member: OnceLock::new(),
        })
    }

    fn apply(&self, command: &Command) -> Result<(), String> {
        let mut control = self.control.lock();
        control.apply(command).map_err(|error| error.to_string())?;
        if let Some(member) = self.member.get() {
            member.on_view(self.cluster, control.view().clone());
        }
        Ok(())
    }
}

impl ControlGroup for Lone {
    fn node(&self) -> NodeId {
        self.node
    }

    fn lease_ms(&self) -> u64 {
        LEASE_MS
    }

    fn cluster(&self) -> u64 {
        self.cluster
    }

    fn is_alone(&self) -> bool {
        true
    }

    fn start(&self, member: Arc<dyn Member>, _: &[Endpoint]) -> Result<(), String> {
        let incarnation = Incarnation(1);
        member.begin(incarnation);
        // A server is started once.
        let _ = self.member.set(member.clone());
        self.apply(&Command::Join {
            node: self.node,
            incarnation,
            // Its clients use the address at which they found it.
            address: String::new(),
            lease_ms: LEASE_MS,
        })?;
        member.on_lease(Grant {
            sent_ms: 0,
            view: ViewVersion(1),
        });
        Ok(())
    }

    fn on_request(&self, _: &peer::Hello, _: Bytes, _: Respond) {
        // The handshakes of other servers are refused.
    }

    fn propose(&self, command: Command) {
        if let Err(error) = self.apply(&command) {
            tracing::warn!(error, "a change of the view was refused");
        }
    }

    fn modules(&self) -> Arc<dyn ModuleStore> {
        Arc::new(NoStore)
    }

    fn info(&self) -> ControlInfo {
        ControlInfo {
            leader: Some(self.node),
            voters: vec![self.node],
        }
    }

    fn leave(&self, _: Duration) -> bool {
        true
    }

    fn stop(&self) {}
}
