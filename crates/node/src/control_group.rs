//! The control group, as a server sees it. It is injected: consensus among several servers, or one server alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crucial_proto::Endpoint;
use crucial_proto::frame::peer;

use crate::ids::Millis;
use crate::outputs::ControlInfo;
use crate::replication::{Command, Grant, Incarnation, NodeId, View};
use crate::work::ModuleStore;

/// Where a response to another server's request goes.
pub type Respond = Box<dyn FnOnce(Vec<u8>) + Send>;

/// Decides who is a member, who holds what, and until when a server may serve.
pub trait ControlGroup: Send + Sync {
    /// Which server this is.
    fn node(&self) -> NodeId;

    /// For how long a lease of this server lasts, in milliseconds.
    fn lease_ms(&self) -> Millis;

    /// The cluster that the server belongs to, as far as its directory says; 0: none. Another server may ask as soon as
    /// this one listens.
    fn cluster(&self) -> u64;

    /// Whether no other server can join this one.
    fn is_alone(&self) -> bool;

    /// Makes this server, which listens at these endpoints, a member. Blocks until it is one.
    ///
    /// # Errors
    ///
    /// The reason why it cannot be one.
    fn start(&self, member: Arc<dyn Member>, endpoints: &[Endpoint]) -> Result<(), String>;

    /// Another server requests something. The response may come at any time, on any thread.
    fn on_request(&self, from: &peer::Hello, request: Bytes, respond: Respond);

    /// Proposes a change of the view. It may be lost.
    fn propose(&self, command: Command);

    /// Where this server keeps the bytes of modules.
    fn modules(&self) -> Arc<dyn ModuleStore>;

    /// The leader and the voters, as far as this server knows.
    fn info(&self) -> ControlInfo;

    /// Leaves the cluster: what this server holds goes to the others first. Blocks until that is done, or for so long;
    /// whether it is done. The last server of a cluster has nobody to give anything to.
    fn leave(&self, patience: Duration) -> bool;

    /// Ends its threads. Nothing comes from it after this.
    fn stop(&self);
}

/// A server, as its control group sees it. Calls must not block.
pub trait Member: Send + Sync {
    /// The time of the server, in milliseconds.
    fn now(&self) -> Millis;

    /// The server belongs to this cluster, as its directory says, or the servers that it has found. It may not be a member.
    fn on_cluster(&self, cluster: u64);

    /// A view of this cluster was decided.
    fn on_view(&self, cluster: u64, view: Arc<View>);

    /// A lease was granted.
    fn on_lease(&self, grant: Grant);

    /// The server was taken for dead. It serves nothing from now on.
    fn on_evicted(&self);

    /// The server begins a new incarnation: what it had in the last one is nobody's.
    fn begin(&self, incarnation: Incarnation);

    /// The server cannot go on.
    fn on_failure(&self, reason: String);
}
