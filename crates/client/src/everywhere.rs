//! Requests that go to all servers, or to any.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crucial_core::frame::{
    Attempt, ClusterInfo, Fence, Inspect, ModuleInfo, ObjectInfo, Operation, Pushed, Removal,
    ReplicaInfo, Routes,
};
use crucial_object::{Error, ObjectId, Result, ThreadId, decode};

use crate::handshake::unavailable;
use crate::link::{Life, Link};
use crate::pending::{Slot, To};
use crate::routes::Table;
use crate::send::encode;
use crate::{Client, Net};

/// So many threads of a run are remembered for servers that join later: those that were fenced last.
const FENCES_MAX: usize = 1024;

/// How long replicas may take to move to newer code behind their objects, and how often that is looked at.
const MOVE_TIMEOUT: Duration = Duration::from_secs(2);
const MOVE_LOOK: Duration = Duration::from_millis(5);

/// How long the servers of a cluster may take for their answers to a goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

impl Client {
    /// Ends the session: with an owner, the run and its objects. Calls that still wait end on the
    /// server. Later calls fail with [`Error::Cancelled`].
    pub fn goodbye(&self) -> Result<()> {
        if let Net::Alone(_) = self.net {
            // There is no connecting again from here on.
            self.end(Error::Cancelled);
            return match self.request(&Operation::Goodbye, None) {
                // The server may close the connection before its answer is read.
                Ok(_) | Err(Error::Cancelled) => Ok(()),
                Err(error) => Err(error),
            };
        }
        let until = Instant::now() + GOODBYE_TIMEOUT;
        // Those that can not be reached see that the session is silent.
        let slots = self.send_to(&Operation::Goodbye, |link| link.is_up());
        self.end(Error::Cancelled);
        for (_, slot) in slots? {
            let _ = self.wait_until(&slot, Some(until));
        }
        self.end_with(&Error::Cancelled);
        Ok(())
    }

    /// This process runs a cloud thread from here on: an older attempt of it, wherever it is, can change
    /// nothing more, and what it held comes back.
    ///
    /// # Errors
    ///
    /// [`Error::Fenced`] if it was cancelled, or a newer attempt has begun.
    pub fn begin_thread(&self, attempt: Attempt) -> Result<()> {
        // Those that are connected later are told in the hello.
        *self.attempt.lock() = Some(attempt);
        let begin = Operation::Begin(attempt);
        if attempt.number > 1 || self.table().is_none() {
            return self.everywhere(&begin).map(drop);
        }
        let slots = self.send_to(&begin, |link| link.is_up())?;
        self.answers(slots).map(drop)
    }

    /// No attempt of this cloud thread can change anything any more, wherever it runs; what it held
    /// comes back, and what is recorded of it goes. (A method that one is executing on a server at this
    /// moment may still end.)
    pub fn fence_thread(&self, thread: ThreadId) -> Result<()> {
        let fence = self.note_fence(thread, Fence::ALL);
        self.everywhere(&Operation::Fence(fence)).map(drop)
    }

    /// The same, without waiting for it.
    pub fn fence_thread_soon(&self, thread: ThreadId) -> Result<()> {
        let fence = Operation::Fence(self.note_fence(thread, Fence::ALL));
        match self.net {
            Net::Alone(_) => self.send_operation(&fence, None).map(drop),
            Net::Cluster(_) => self.send_to(&fence, |_| true).map(drop),
        }
    }

    /// The next attempt of a cloud thread is on its way, and says so to the servers that there are when it begins.
    /// Those that join later learn of it from here: they let no attempt in before that.
    pub fn expect_attempt(&self, attempt: Attempt) {
        self.note_fence(attempt.thread, attempt.number);
    }

    fn note_fence(&self, thread: ThreadId, before: u32) -> Fence {
        let fence = Fence { thread, before };
        let mut fences = self.fences.lock();
        fences.retain(|earlier| earlier.thread != thread);
        if fences.len() >= FENCES_MAX {
            fences.pop_front();
        }
        fences.push_back(fence);
        fence
    }

    /// Uploads a module of shared types, which then run on the servers. With `replace` they may be new versions of
    /// types that are there, whose objects then move to the new code.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the reason; then all is as it was.
    pub fn push_module(&self, bytes: Vec<u8>, replace: bool) -> Result<Pushed> {
        let module: Bytes = bytes.into();
        let push = |check| Operation::Push {
            replace,
            check,
            module: module.clone(),
        };
        if replace && self.table().is_some_and(|table| table.links.len() > 1) {
            // An object of one server can be against it, and then none is to move.
            self.everywhere(&push(true))?;
        }
        // One of a cluster takes it or refuses it, for all; the others are waited for.
        let mut pushed = match self.net {
            Net::Alone(_) => Vec::new(),
            Net::Cluster(_) => vec![decode::<Pushed>(&self.any(&push(false))?)?],
        };
        for answer in self.everywhere(&push(false))? {
            pushed.push(decode(&answer)?);
        }
        let mut pushed = pushed.into_iter();
        let mut all = pushed.next().ok_or_else(nobody)?;
        if self.table().is_some() {
            // That server answers again.
            all.module.objects = 0;
            (all.module.hot, all.module.heated) = (0, 0);
        }
        for one in pushed {
            all.moved += one.moved;
            all.left += one.left;
            all.reason = all.reason.or(one.reason);
            all.replaced.extend(one.replaced);
            add(&mut all.module, &one.module);
        }
        all.replaced.sort_unstable();
        all.replaced.dedup();
        if replace && self.table().is_some() {
            // If that fails they stay, and take room.
            let _ = self.drop_unused(&all);
        }
        Ok(all)
    }

    /// Servers alone let go of modules that nothing is of any more; those of a cluster do not know that by themselves.
    fn drop_unused(&self, pushed: &Pushed) -> Result<()> {
        let until = Instant::now() + MOVE_TIMEOUT;
        loop {
            let modules = self.modules()?;
            for module in &modules {
                if module.types.is_empty() && module.objects == 0 {
                    self.remove_module(module.id)?;
                }
            }
            let moves =
                |module: &ModuleInfo| pushed.replaced.contains(&module.id) && module.objects > 0;
            if pushed.left > 0 || !modules.iter().any(moves) || Instant::now() > until {
                return Ok(());
            }
            std::thread::sleep(MOVE_LOOK);
        }
    }

    /// The modules that were uploaded.
    pub fn modules(&self) -> Result<Vec<ModuleInfo>> {
        let mut all: BTreeMap<[u8; 32], ModuleInfo> = BTreeMap::new();
        for answer in self.everywhere(&Operation::Modules)? {
            for module in decode::<Vec<ModuleInfo>>(&answer)? {
                match all.get_mut(&module.id) {
                    Some(known) => add(known, &module),
                    None => {
                        all.insert(module.id, module);
                    }
                }
            }
        }
        Ok(all.into_values().collect())
    }

    /// Removes a module; whether there was one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] while there are objects of its types.
    pub fn remove_module(&self, id: [u8; 32]) -> Result<bool> {
        if self.table().is_some() {
            // An object of one server can be against it, and then it is to stay at all.
            let modules = self.modules()?;
            let objects = modules.iter().find(|module| module.id == id);
            let objects = objects.map_or(0, |module| module.objects);
            if objects > 0 {
                return Err(Error::Refused {
                    reason: format!("{objects} objects of its types live: delete them first"),
                });
            }
        }
        let mut any = false;
        let retired = self.everywhere(&Operation::RemoveModule(id, Removal::Retire));
        if self.table().is_some() {
            let step = match retired {
                Ok(_) => Removal::Drop,
                // One has objects of it by now.
                Err(_) => Removal::Restore,
            };
            self.any(&Operation::RemoveModule(id, step))?;
        }
        for answer in retired? {
            any |= decode::<bool>(&answer)?;
        }
        Ok(any)
    }

    pub(crate) fn clear_namespaces(&self) -> Result<u64> {
        if self.table().is_some() {
            // The request has a number of its own at each server, and this one stands for the call.
            self.calls.lock().skip();
        }
        let answers = self.everywhere(&Operation::ClearNamespace)?;
        answers.iter().map(|answer| decode::<u64>(answer)).sum()
    }

    /// What a server says of its cluster.
    pub fn cluster_info(&self) -> Result<ClusterInfo> {
        decode(&self.any(&Operation::Inspect(Inspect::Cluster))?)
    }

    /// What each server says of its cluster.
    pub fn cluster_infos(&self) -> Result<Vec<ClusterInfo>> {
        let answers = self.everywhere(&Operation::Inspect(Inspect::Cluster))?;
        answers.iter().map(|answer| decode(answer)).collect()
    }

    /// What each server has of each object, of at most so many of each.
    pub fn replica_infos(&self, max: u32) -> Result<Vec<ReplicaInfo>> {
        let replicas = Operation::Inspect(Inspect::Replicas { max });
        let answers = self.everywhere(&replicas)?;
        let each = answers
            .iter()
            .map(|answer| decode::<Vec<ReplicaInfo>>(answer));
        Ok(each.collect::<Result<Vec<_>>>()?.concat())
    }

    /// The first `max` objects behind `after`, in the order of their ids; only those with this key, if there is one.
    pub fn object_infos(
        &self,
        after: Option<ObjectId>,
        max: u32,
        key: Option<String>,
    ) -> Result<Vec<ObjectInfo>> {
        let objects = Inspect::Objects { after, max, key };
        let mut all: BTreeMap<ObjectId, ObjectInfo> = BTreeMap::new();
        for answer in self.everywhere(&Operation::Inspect(objects))? {
            let infos = decode::<Vec<ObjectInfo>>(&answer)?;
            all.extend(infos.into_iter().map(|info| (info.id, info)));
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Ok(all.into_values().take(max).collect())
    }

    /// Makes a round trip.
    pub fn ping(&self) -> Result<()> {
        self.any(&Operation::Ping).map(drop)
    }

    /// Of a cluster: where its objects are, as far as the client knows.
    pub fn routes(&self) -> Option<Routes> {
        self.table().map(|table| table.routes.clone())
    }

    /// An older attempt of an exactly-once thread is to do nothing more, anywhere: each server learns of this one from
    /// the hello.
    pub(crate) fn take_over(&self) -> Result<()> {
        self.everywhere(&Operation::Ping).map(drop)
    }

    pub(crate) fn table(&self) -> Option<Arc<Table>> {
        match &self.net {
            Net::Alone(_) => None,
            Net::Cluster(cluster) => Some(cluster.table()),
        }
    }

    /// A server to ask something that any can answer.
    pub(crate) fn some_link(&self) -> Result<Arc<Link>> {
        let table = self.table().ok_or_else(nobody)?;
        let up = table.links.iter().find(|link| link.is_up());
        up.or(table.links.first()).cloned().ok_or_else(nobody)
    }

    /// Asks any server.
    fn any(&self, operation: &Operation) -> Result<Vec<u8>> {
        if let Net::Alone(_) = self.net {
            return self.request(operation, None);
        }
        loop {
            let link = self.some_link()?;
            let sent = self.send(encode(operation)?, To::Server(link.clone()));
            match sent.and_then(|slot| self.wait(&slot)) {
                // That server is none any more.
                Err(Error::Unavailable { .. }) if link.is_closed() && !self.has_ended() => {}
                answer => return answer,
            }
        }
    }

    /// Asks all servers, also those that become members meanwhile.
    fn everywhere(&self, operation: &Operation) -> Result<Vec<Vec<u8>>> {
        if let Net::Alone(_) = self.net {
            return Ok(vec![self.request(operation, None)?]);
        }
        let mut asked: Vec<Life> = Vec::new();
        let mut all = Vec::new();
        loop {
            let slots = self.send_to(operation, |link| !asked.contains(&link.life))?;
            if slots.is_empty() {
                return if all.is_empty() {
                    Err(nobody())
                } else {
                    Ok(all)
                };
            }
            asked.extend(slots.iter().map(|(link, _)| link.life));
            all.extend(self.answers(slots)?);
        }
    }

    /// The answers of those that are members still. The first error is that of all.
    fn answers(&self, slots: Vec<(Arc<Link>, Arc<Slot>)>) -> Result<Vec<Vec<u8>>> {
        let mut answers = Vec::new();
        let mut failed = None;
        for (link, slot) in slots {
            match self.wait(&slot) {
                Ok(answer) => answers.push(answer),
                Err(_) if link.is_closed() && !self.has_ended() => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(answers), Err)
    }

    /// Sends a request to each server for which `which` says so.
    fn send_to(
        &self,
        operation: &Operation,
        which: impl Fn(&Arc<Link>) -> bool,
    ) -> Result<Vec<(Arc<Link>, Arc<Slot>)>> {
        let table = self.table().ok_or_else(nobody)?;
        let bytes = encode(operation)?;
        let mut slots = Vec::new();
        for link in table.links.iter().filter(|link| which(link)) {
            match self.send_ahead(bytes.clone(), To::Server(link.clone())) {
                Ok(slot) => slots.push((link.clone(), slot)),
                Err(_) if link.is_closed() && !self.has_ended() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(slots)
    }
}

fn nobody() -> Error {
    unavailable("the cluster", "it has no servers".to_owned())
}

fn add(module: &mut ModuleInfo, other: &ModuleInfo) {
    if module.types.is_empty() {
        module.types.clone_from(&other.types);
    }
    module.objects += other.objects;
    module.hot += other.hot;
    module.heated += other.heated;
}
