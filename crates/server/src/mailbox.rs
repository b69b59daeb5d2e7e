//! Views that the control group leaves for the timers' thread, so that the group is not held up. Of two that wait the
//! newer one counts.

use std::sync::Arc;
use std::time::Duration;

use crucial_node::replication::View;
use parking_lot::{Condvar, Mutex};

#[derive(Default)]
pub(crate) struct Mailbox {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Default)]
struct Pending {
    /// The newest view that is not taken up yet, and of which cluster.
    view: Option<(u64, Arc<View>)>,
    /// There is an earlier timeout, or the server stops.
    woken: bool,
}

impl Mailbox {
    /// Leaves a view of a cluster.
    pub fn put_view(&self, cluster: u64, view: Arc<View>) {
        let mut pending = self.pending.lock();
        let is_newer = |(_, old): &(u64, Arc<View>)| old.version < view.version;
        if pending.view.as_ref().is_none_or(is_newer) {
            pending.view = Some((cluster, view));
            self.changed.notify_one();
        }
    }

    /// Lets the thread look at the timeouts again.
    pub fn wake(&self) {
        self.pending.lock().woken = true;
        self.changed.notify_one();
    }

    /// Waits for something to do, or for this time.
    pub fn wait(&self, pause: Option<Duration>) -> Option<(u64, Arc<View>)> {
        let mut pending = self.pending.lock();
        if pending.view.is_none() && !pending.woken {
            match pause {
                Some(pause) => drop(self.changed.wait_for(&mut pending, pause)),
                None => self.changed.wait(&mut pending),
            }
        }
        pending.woken = false;
        pending.view.take()
    }
}
