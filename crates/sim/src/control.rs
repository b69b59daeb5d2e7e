//! The control group: its state machine, and a leader who notices who is silent.

use std::sync::Arc;

use crucial_node::replication::{
    Command, Control, Damping, FailureDetector, Incarnation, NodeId, Refusal, View,
};

use crate::events::Clock;

pub struct ControlGroup {
    state: Control,
    detector: FailureDetector,
    damping: Damping,
    clock: Clock,
    pub down_until: u64,
}

/// Which cluster all nodes belong to.
pub const CLUSTER: u64 = 1;

impl ControlGroup {
    pub fn new(state: Control, per_mille: u64) -> ControlGroup {
        let clock = Clock {
            offset_ms: 5_000,
            per_mille,
        };
        ControlGroup {
            state,
            detector: FailureDetector::new(clock.read(0)),
            damping: Damping::default(),
            clock,
            down_until: 0,
        }
    }

    /// Another leader begins, at a later time.
    pub fn begin_leader(&mut self, clock: Clock, at_us: u64) {
        self.clock = clock;
        self.down_until = at_us;
        self.detector = FailureDetector::new(clock.read(at_us));
        self.damping = Damping::default();
    }

    /// A node was heard.
    pub fn hear(&mut self, node: NodeId, incarnation: Incarnation, now_us: u64) {
        let now_ms = self.clock.read(now_us);
        self.detector.hear(node, incarnation, now_ms);
    }

    /// The leader's decisions: nodes whose leases have ended, and pauses that are over.
    pub fn due(&mut self, now_us: u64, wait_ms: u64) -> Vec<Command> {
        let now_ms = self.clock.read(now_us);
        let mut due = self.detector.expired(self.state.view(), now_ms, wait_ms);
        due.extend(self.damping.due(self.state.view(), now_ms));
        due
    }

    pub fn apply(&mut self, command: &Command) -> Result<(), Refusal> {
        self.state.apply(command)
    }

    pub fn view(&self) -> &Arc<View> {
        self.state.view()
    }
}
