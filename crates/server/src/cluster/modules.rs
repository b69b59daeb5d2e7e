//! Uploaded modules in a cluster.
//!
//! The view has them, in an order that is the same for all servers: a type is the last one's that has it. A module that
//! is pushed is checked where it is pushed, and then put into the view; each server takes it in when it learns of that
//! view, in a thread of its own, as compiling takes a while. New objects are of its types from then on. Objects that are
//! there move to newer code by their primary's word, as they change by it: at the others the code comes with the state that it
//! has encoded. So an image names its module, and who does not have that yet takes nothing of the message, which comes
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crucial_cluster::{Command, KeptModule, Message, View, ViewVersion};
use crucial_core::frame::Pushed;
use crucial_object::{Error, Result, TypeInfo};
use parking_lot::{Condvar, Mutex};

use super::Cluster;
use crate::service::{Effects, Service, move_to};
use crate::slot::{Event, Visit};

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
    /// The newest view that has come, and may not be taken up yet.
    heard: AtomicU64,
    /// Whether a view has modules that are not taken in yet.
    is_behind: AtomicBool,
}

#[derive(Default)]
struct Papers {
    /// The newest view with other modules than the one before.
    newest: Option<Arc<View>>,
    /// It is to be looked at.
    is_new: bool,
    /// What clients have pushed to this server: the view has the modules' hashes only.
    bytes: BTreeMap<[u8; 32], Bytes>,
    /// Modules of it that were let go, and are needed again.
    wanted: BTreeSet<[u8; 32]>,
    /// How it went with modules that were taken in, for who has pushed them.
    outcomes: BTreeMap<[u8; 32], Result<Pushed>>,
    stopped: bool,
}

impl Modules {
    /// A view came: its modules are to be taken in, if they are not those of the last one.
    pub fn view_came(&self, view: &Arc<View>, last: &View) {
        // First this: others are told it with what its modules have done.
        self.heard.store(view.version.0, Ordering::Release);
        if !view.has_modules_of(last) {
            let mut papers = self.papers.lock();
            papers.newest = Some(view.clone());
            self.look_again(&mut papers);
        }
    }

    fn look_again(&self, papers: &mut Papers) {
        papers.is_new = true;
        self.is_behind.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// The newest view that has come: modules of no later one are in use here.
    pub fn heard(&self) -> ViewVersion {
        ViewVersion(self.heard.load(Ordering::Acquire))
    }

    /// Whether a type may be of a module that is not taken in yet.
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
            if std::mem::take(&mut papers.is_new)
                && let Some(view) = &papers.newest
            {
                return Some(view.clone());
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
        let present: Vec<_> = view.modules.iter().map(|module| module.id).collect();
        for id in last.iter().filter(|id| !present.contains(id)) {
            cluster.modules.papers.lock().outcomes.remove(id);
            // While there are objects of it here, it stays.
            let _ = service.types.remove(id);
        }
        // What takes long comes first. One that can not be compiled says so when it is taken in.
        let wanted = std::mem::take(&mut cluster.modules.papers.lock().wanted);
        for module in &view.modules {
            let is_needed = module.since > taken || wanted.contains(&module.id);
            let bytes = cluster.module_bytes(&module.id);
            if let Some(bytes) = bytes.filter(|_| is_needed && !service.is_stopping()) {
                let _ = service.types.hold(&bytes);
            }
        }
        let mut is_whole = true;
        for module in view.modules.iter().filter(|module| module.since > taken) {
            is_whole &= cluster.module_bytes(&module.id).is_some();
            if is_whole && !service.is_stopping() {
                service.take_module(cluster, module, &mut effects);
            }
        }
        // Types of which the last module has gone are those of the one before.
        service.types.fill(&present);
        service.post(&mut effects);
        if is_whole {
            taken = view.version;
        }
        last = present;
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
        let module = self.types.hold(bytes)?;
        let (id, size) = (module.id, bytes.len() as u64);
        let room = cluster.view().check_room(&id, size);
        room.map_err(|refusal| Error::Refused {
            reason: refusal.to_string(),
        })?;
        if let Err(refused) = self.check_push(cluster, bytes, (id, replace, check), effects) {
            self.types.let_go(&id);
            return Err(refused);
        }
        if check {
            self.types.let_go(&id);
            return Ok(Pushed::of(module));
        }
        let papers = &cluster.modules.papers;
        {
            let mut papers = papers.lock();
            papers.bytes.insert(id, Bytes::copy_from_slice(bytes));
            cluster.modules.look_again(&mut papers);
        }
        if !self.types.is_current(&id) {
            let keep = || cluster.keep(id, size, replace);
            self.until(cluster, keep, || papers.lock().outcomes.contains_key(&id))?;
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

    /// Whether a module can be taken in; what is decided already is.
    fn check_push(
        &self,
        cluster: &Cluster,
        bytes: &[u8],
        (id, replace, check): ([u8; 32], bool, bool),
        effects: &mut Effects<'_>,
    ) -> Result<()> {
        let _alone = self.types.pushing();
        if self.types.is_current(&id) {
            return Ok(());
        }
        let mut papers = cluster.modules.papers.lock();
        let newest = papers.newest.clone();
        let modules = newest.as_ref().map_or(&[][..], |view| &view.modules);
        if cluster.modules.is_behind() && modules.iter().any(|kept| kept.id == id) {
            return Ok(());
        }
        if !check {
            // Of another time.
            papers.outcomes.remove(&id);
        }
        drop(papers);
        let newcomer = self.types.compile(bytes, replace)?;
        self.check_newcomer(&newcomer, effects)
    }

    /// A module of which some server has objects still: new ones can be made everywhere again.
    pub(crate) fn restore_module(&self, id: [u8; 32]) -> Result<()> {
        let Some(cluster) = &self.cluster else {
            return Ok(());
        };
        let Some(bytes) = cluster.module_bytes(&id) else {
            return Ok(());
        };
        self.types.hold(&bytes)?;
        if self.types.would_replace(&id) {
            // It was replaced before.
            return Ok(());
        }
        let seen = cluster.modules.heard();
        let keep = || cluster.keep(id, bytes.len() as u64, true);
        let is_so = || {
            let view = cluster.view();
            let mut kept = view.modules.iter();
            kept.any(|kept| kept.id == id && kept.since > seen)
        };
        self.until(cluster, keep, is_so)
    }

    /// Makes a module none that every server has.
    pub(crate) fn drop_module(&self, id: [u8; 32]) -> Result<()> {
        let Some(cluster) = &self.cluster else {
            return Ok(());
        };
        let since = |view: &View| {
            let kept = view.modules.iter().find(|module| module.id == id);
            kept.map(|kept| kept.since)
        };
        let Some(since) = since(&cluster.view()) else {
            return Ok(());
        };
        let is_gone = || {
            let view = cluster.view();
            let mut kept = view.modules.iter();
            kept.all(|module| (module.id, module.since) != (id, since))
        };
        let drop = || Command::Drop {
            id,
            since,
            seen: cluster.modules.heard(),
            node: cluster.me,
            incarnation: cluster.incarnation(),
        };
        self.until(cluster, drop, is_gone)
    }

    /// Proposes something until it is so, unless it may be so already and is being taken in.
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
            let is_due = proposed.is_none_or(|at| at.elapsed() > PROPOSE_AGAIN);
            if is_due && !cluster.modules.is_behind() {
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
        let Some(bytes) = cluster.module_bytes(&module.id) else {
            return;
        };
        let newcomer = self.types.compile(&bytes, true);
        let outcome = newcomer.map(|newcomer| self.take_in(&newcomer, effects));
        if let Err(error) = &outcome {
            tracing::error!(%error, "a module of the cluster can not be used at this server");
        }
        let mut papers = cluster.modules.papers.lock();
        papers.outcomes.insert(module.id, outcome);
    }

    /// Moves an object to newer code, if that is here: its last primary may have ended before it did.
    pub(super) fn newer(&self, info: &'static TypeInfo) -> Option<Event> {
        let new = self.types.find(info.name)?;
        // Nobody waits for the outcome.
        let (outcome, _) = std::sync::mpsc::channel();
        let visit = Visit {
            act: move_to(new),
            changes: true,
            outcome,
        };
        (!std::ptr::eq(info, new)).then_some(Event::Visit(visit))
    }

    /// Whether there is a module in a message whose code this server does not have yet. `sender`: the newest view that
    /// its sender had heard of.
    pub(super) fn is_ahead(
        &self,
        cluster: &Cluster,
        message: &Message,
        sender: ViewVersion,
    ) -> bool {
        let is_ahead = |id: [u8; 32]| match cluster.module_bytes(&id) {
            // It was of no use here any more.
            Some(_) => {
                let mut papers = cluster.modules.papers.lock();
                papers.wanted.insert(id);
                cluster.modules.look_again(&mut papers);
                true
            }
            // Else no view has it any more, and the object of it is lost, unless it moves.
            None => sender > cluster.version(),
        };
        message
            .modules()
            .filter(|id| !self.types.has(id))
            .any(is_ahead)
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
            // It was let go just now.
            let bytes = cluster.module_bytes(&module?)?;
            if let Err(error) = self.types.hold(&bytes) {
                tracing::error!(%error, "a module of the cluster can not be used at this server");
            }
            find()
        })
    }
}

impl Cluster {
    /// Whether the module of a type comes behind that of another.
    pub fn supersedes(&self, new: &TypeInfo, old: &TypeInfo) -> bool {
        let papers = self.modules.papers.lock();
        let since = |info: &TypeInfo| {
            let mut kept = papers.newest.as_ref()?.modules.iter();
            let kept = kept.find(|kept| Some(kept.id) == info.module)?;
            Some(kept.since)
        };
        since(new) > since(old)
    }

    /// Ids and sizes of the modules that the view has, as far as they are taken in here.
    pub fn kept_modules(&self) -> Vec<([u8; 32], u64)> {
        let papers = self.modules.papers.lock();
        if self.modules.is_behind() {
            return Vec::new();
        }
        let kept = papers.newest.iter().flat_map(|view| &view.modules);
        kept.map(|kept| (kept.id, kept.size)).collect()
    }

    fn keep(&self, id: [u8; 32], size: u64, replace: bool) -> Command {
        Command::Keep {
            id,
            size,
            replace,
            seen: self.modules.heard(),
            node: self.me,
            incarnation: self.incarnation(),
        }
    }

    fn module_bytes(&self, id: &[u8; 32]) -> Option<Bytes> {
        let papers = self.modules.papers.lock();
        let mut kept = papers.newest.as_ref()?.modules.iter();
        kept.find(|kept| kept.id == *id)?;
        papers.bytes.get(id).cloned()
    }
}
