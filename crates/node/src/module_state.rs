//! Modules of this server: the catalog, and the clients that wait for it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::catalog::{Limits, ModuleCatalog, Peer, RequestId};
use crate::cell::CallId;
use crate::replication::{Incarnation, NodeId, ViewVersion};
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

    /// Numbers a client's request.
    pub fn open_request(&self, call: CallId) -> RequestId {
        let mut requests = self.requests.lock();
        requests.last += 1;
        let id = RequestId(requests.last);
        requests.waiting.insert(id, call);
        id
    }

    /// The call of a request that has its answer.
    pub fn close_request(&self, id: RequestId) -> Option<CallId> {
        self.requests.lock().waiting.remove(&id)
    }
}
