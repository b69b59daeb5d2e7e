//! Uploaded modules in a cluster.
//!
//! The view has them, in an order that is the same for all servers: a type is the last one's that has it. A module that
//! is pushed is checked where it is pushed, and then put into the view; each server takes it in when it learns of that
//! view, in a thread of its own, as compiling takes a while. New objects are of its types from then on. Objects that are
//! there move to newer code by their primary's word, as they change by it: at the others the code comes with the state that it
//! has encoded. So an image names its module, and who does not know it yet takes nothing of the message, which comes
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crucial_cluster::{Command, KeptModule, MODULE_BYTES_MAX, Message, Refusal, View, ViewVersion};
use crucial_core::frame::Pushed;
use crucial_object::{Error, Result, TypeInfo};
use parking_lot::{Condvar, Mutex};

use super::Cluster;
use crate::service::{Effects, Service};
use crate::slot::{Event, Visit, move_to};

/// How long the control group may take to keep a module, or to drop it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is proposed may be lost, and is proposed again after this.
const PROPOSE_AGAIN: Duration = Duration::from_millis(500);

/// How often what is waited for is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What the modules' thread is told, and says.
#[derive(Default)]
pub(super) struct Modules {
    papers: Mutex<Papers>,
    changed: Condvar,
    /// Whether a view has modules that are not taken in yet.
    is_behind: AtomicBool,
}

#[derive(Default)]
struct Papers {
    /// The newest view, if its modules are not taken in yet.
    view: Option<Arc<View>>,
    /// How it went with modules that were taken in, for who has pushed them.
    outcomes: BTreeMap<[u8; 32], Result<Pushed>>,
    /// Modules that no view has any more.
    dropped: BTreeSet<[u8; 32]>,
    stopped: bool,
}

impl Modules {
    /// A view came: its modules are to be taken in.
    pub fn view_came(&self, view: &Arc<View>) {
        let mut papers = self.papers.lock();
        papers.view = Some(view.clone());
        self.is_behind.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Whether a type that is unknown may be of a module that is not taken in yet.
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Acquire)
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.papers.lock().stopped = true;
        self.changed.notify_one();
    }

    /// The next view whose modules are to be taken in; `None`: there is none any more.
    fn next(&self) -> Option<Arc<View>> {
        let mut papers = self.papers.lock();
        loop {
            if papers.stopped {
                return None;
            }
            if let Some(view) = papers.view.take() {
                return Some(view);
            }
            self.is_behind.store(false, Ordering::Release);
            self.changed.wait(&mut papers);
        }
    }
}

/// Takes in the modules of views, until the server stops.
pub(super) fn run(service: &Service, cluster: &Cluster) {
    let mut taken = ViewVersion::default();
    let mut last: Vec<[u8; 32]> = Vec::new();
    while let Some(view) = cluster.modules.next() {
        let mut effects = Effects::new(service);
        for module in view.modules.iter().filter(|module| module.since > taken) {
            service.take_module(cluster, module, &mut effects);
        }
        let present: Vec<_> = view.modules.iter().map(|module| module.id).collect();
        for id in last.iter().filter(|id| !present.contains(id)) {
            let mut papers = cluster.modules.papers.lock();
            papers.dropped.insert(*id);
            papers.outcomes.remove(id);
            drop(papers);
            // While there are objects of it here, it stays.
            let _ = service.types.remove(id);
        }
        service.post(&mut effects);
        (taken, last) = (view.version, present);
        // Who has waited for a type may have it now.
        cluster.try_again();
    }
}

impl Service {
    /// Makes a module one that every server has, also those that join later. Blocks until it is taken in here.
    pub(crate) fn push_to_all(
        &self,
        cluster: &Cluster,
        bytes: &[u8],
        (replace, check): (bool, bool),
        effects: &mut Effects<'_>,
    ) -> Result<Pushed> {
        if bytes.len() > MODULE_BYTES_MAX {
            let bytes = bytes.len() as u64;
            return Err(Error::Refused {
                reason: Refusal::LargeModule { bytes }.to_string(),
            });
        }
        let module = self.types.hold(bytes)?;
        let id = module.id;
        let checked = {
            let _alone = self.types.pushing();
            let newcomer = self.types.compile(bytes, replace);
            newcomer.and_then(|newcomer| self.check_newcomer(&newcomer, effects))
        };
        if check || checked.is_err() {
            self.types.let_go(&id);
            return checked.map(|()| Pushed::of(module));
        }
        let papers = &cluster.modules.papers;
        let failed = || matches!(papers.lock().outcomes.get(&id), Some(Err(_)));
        if !self.types.is_current(&id) {
            if failed() {
                // Another time.
                papers.lock().outcomes.remove(&id);
            }
            let keep = || Command::Keep {
                id,
                replace,
                bytes: Arc::new(serde_bytes::ByteBuf::from(bytes)),
            };
            self.until(cluster, keep, || self.types.is_current(&id) || failed())?;
        }
        // If it is being taken in just now, until that is through.
        drop(self.types.pushing());
        let outcome = papers.lock().outcomes.remove(&id);
        if let Some(Err(_)) = &outcome {
            // It is so at all servers.
            self.drop_module(id)?;
        }
        outcome.unwrap_or_else(|| Ok(Pushed::of(module)))
    }

    /// Makes a module none that every server has.
    pub(crate) fn drop_module(&self, id: [u8; 32]) -> Result<()> {
        let Some(cluster) = &self.cluster else {
            return Ok(());
        };
        let is_gone = || cluster.view().modules.iter().all(|module| module.id != id);
        self.until(cluster, || Command::Drop(id), is_gone)
    }

    /// Proposes something until it is so.
    fn until(
        &self,
        cluster: &Cluster,
        command: impl Fn() -> Command,
        is_so: impl Fn() -> bool,
    ) -> Result<()> {
        let started = Instant::now();
        let mut proposed: Option<Instant> = None;
        while !is_so() {
            if started.elapsed() > PATIENCE || self.is_stopping() {
                return Err(Error::Unavailable {
                    address: "the control group".to_owned(),
                    reason: format!(
                        "it did not keep the module within {PATIENCE:?}: push it again"
                    ),
                });
            }
            if proposed.is_none_or(|at| at.elapsed() > PROPOSE_AGAIN) {
                cluster.propose(command());
                proposed = Some(Instant::now());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Takes a module in that a view has. Its order has decided whose the types are: nobody is asked any more.
    fn take_module(&self, cluster: &Cluster, module: &KeptModule, effects: &mut Effects<'_>) {
        let _alone = self.types.pushing();
        let newcomer = self.types.compile(&module.bytes, module.replace);
        let outcome = newcomer.map(|newcomer| self.take_in(&newcomer, effects));
        if let Err(error) = &outcome {
            tracing::error!(%error, "a module of the cluster can not be used at this server");
        }
        let mut papers = cluster.modules.papers.lock();
        papers.dropped.remove(&module.id);
        papers.outcomes.insert(module.id, outcome);
    }

    /// Moves an object to newer code that is here: its last primary may have ended before it did.
    pub(super) fn newer(&self, info: &'static TypeInfo) -> Option<Event> {
        let new = self.types.find(info.name)?;
        // Nobody waits for the outcome.
        let (outcome, _) = std::sync::mpsc::channel();
        let visit = Visit {
            info,
            act: move_to(new),
            changes: true,
            outcome,
        };
        (!std::ptr::eq(info, new)).then_some(Event::Visit(visit))
    }

    /// Whether there is a module in a message whose code this server can not have yet.
    pub(super) fn is_ahead(&self, cluster: &Cluster, message: &Message) -> bool {
        message
            .modules()
            .any(|id| !self.types.has(&id) && !cluster.has_module(&id))
    }

    /// The code of an object that comes from another server.
    pub(super) fn code_of(
        &self,
        cluster: &Cluster,
        name: &str,
        module: Option<[u8; 32]>,
    ) -> Option<&'static TypeInfo> {
        let find = || self.types.find_of(name, module);
        find().or_else(|| {
            let bytes = cluster.module_bytes(&module?)?;
            if let Err(error) = self.types.hold(&bytes) {
                tracing::error!(%error, "a module of the cluster can not be used at this server");
            }
            find()
        })
    }
}

impl Cluster {
    /// Whether a view has, or had, a module.
    fn has_module(&self, id: &[u8; 32]) -> bool {
        self.module_bytes(id).is_some() || self.modules.papers.lock().dropped.contains(id)
    }

    fn module_bytes(&self, id: &[u8; 32]) -> Option<Arc<serde_bytes::ByteBuf>> {
        let view = self.view();
        let module = view.modules.iter().find(|module| module.id == *id)?;
        Some(module.bytes.clone())
    }
}
