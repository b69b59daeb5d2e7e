//! Modules of this server: the catalog, and the clients that wait for it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::catalog::{Limits, ModuleCatalog, Peer, Reply, RequestId};
use crate::cell::CallId;
use crate::replication::{Incarnation, Mutant, NodeId, ViewVersion};
use crate::sync::{AtomicU64, Mutex};

pub(crate) struct Modules {
    /// Locked for a moment, also under a partition's lock; nothing is locked under it.
    pub catalog: Mutex<ModuleCatalog>,
    requests: Mutex<Requests>,
    /// The newest view that has come, and may not be taken up yet: modules of no later one are in use here.
    heard: AtomicU64,
}

#[derive(Default)]
struct Requests {
    last: u64,
    /// The calls of clients that push or remove modules.
    waiting: BTreeMap<RequestId, CallId>,
    /// Answers that wait for a lease.
    withheld: Vec<(RequestId, Reply)>,
}

impl Modules {
    pub fn new(node: NodeId) -> Modules {
        let me = Peer {
            node,
            incarnation: Incarnation(0),
        };
        Modules {
            catalog: Mutex::new(ModuleCatalog::new(me, Limits::default())),
            requests: Mutex::default(),
            heard: AtomicU64::new(0),
        }
    }

    /// A view came.
    pub fn set_heard(&self, view: ViewVersion) {
        self.heard.fetch_max(view.0, Ordering::AcqRel);
    }

    pub fn heard(&self) -> ViewVersion {
        ViewVersion(self.heard.load(Ordering::Acquire))
    }

    /// Numbers a client's request. `None`: the request waits already, and this is a copy of it, from another connection. Done
    /// once more, behind its answer, a push would undo what other clients have pushed since.
    pub fn open_request(&self, call: CallId) -> Option<RequestId> {
        let mut requests = self.requests.lock();
        let is_known = requests.waiting.values().any(|waiting| *waiting == call);
        if is_known && !Mutant::PushesTwice.is_planted() {
            return None;
        }
        requests.last += 1;
        let id = RequestId(requests.last);
        requests.waiting.insert(id, call);
        Some(id)
    }

    /// An answer waits for a lease.
    pub fn withhold(&self, id: RequestId, reply: Reply) {
        self.requests.lock().withheld.push((id, reply));
    }

    /// The answers that waited for a lease.
    pub fn take_withheld(&self) -> Vec<(RequestId, Reply)> {
        std::mem::take(&mut self.requests.lock().withheld)
    }

    /// A new incarnation begins: nobody is answered who waits for a lease of the last one.
    pub fn forget_withheld(&self) {
        for (id, _) in self.take_withheld() {
            self.close_request(id);
        }
    }

    /// The call of a request that has its answer.
    pub fn close_request(&self, id: RequestId) -> Option<CallId> {
        self.requests.lock().waiting.remove(&id)
    }
}
