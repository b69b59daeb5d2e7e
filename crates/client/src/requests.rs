//! Requests that go to all servers, or to any.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crucial_object::{Error, ObjectId, Result, ThreadId, decode};
use crucial_proto::frame::{
    Attempt, ClusterInfo, Fence, Inspect, ModuleInfo, ObjectInfo, Operation, Pushed, ReplicaInfo,
    Routes,
};

use crate::Client;
use crate::io::{Sent, encode, no_servers};
use crate::session::{Member, Target};

/// How long the servers of a cluster may take for their answers to a goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

impl Client {
    /// Ends the session: with an owner, the run and its objects. Calls that still wait end on the
    /// server. Later calls fail with [`Error::Cancelled`].
    pub fn goodbye(&self) -> Result<()> {
        let until = Instant::now() + GOODBYE_TIMEOUT;
        // Servers that cannot be reached see that the session is silent.
        let sent = self.send_to(&Operation::Goodbye, |member| {
            self.net.session().is_up(member)
        });
        self.net.session().end(Error::Cancelled);
        for (_, sent) in sent? {
            let _ = self.net.wait_until(sent, Some(until));
        }
        self.net.end_with(&Error::Cancelled);
        Ok(())
    }

    /// This process runs a cloud thread from here on: an older attempt of it, wherever it is, can change
    /// nothing more, and what it held comes back.
    ///
    /// # Errors
    ///
    /// [`Error::Fenced`] if it was cancelled, or a newer attempt has begun.
    pub fn begin_thread(&self, attempt: Attempt) -> Result<()> {
        // Servers that are connected later are told in the hello.
        self.net.session().set_attempt(attempt);
        let begin = Operation::Begin(attempt);
        if attempt.number > 1 {
            return self.everywhere(&begin).map(drop);
        }
        let sent = self.send_to(&begin, |member| self.net.session().is_up(member))?;
        self.answers(sent).map(drop)
    }

    /// No attempt of this cloud thread can change anything any more, wherever it runs; what it held
    /// comes back, and what is recorded of it goes. (A method that one is executing on a server at this
    /// moment may still end.)
    pub fn fence_thread(&self, thread: ThreadId) -> Result<()> {
        let fence = self.net.session().record_fence(thread, Fence::ALL);
        self.everywhere(&Operation::Fence(fence)).map(drop)
    }

    /// The same, without waiting for it.
    pub fn fence_thread_soon(&self, thread: ThreadId) -> Result<()> {
        let fence = self.net.session().record_fence(thread, Fence::ALL);
        self.send_to(&Operation::Fence(fence), |_| true).map(drop)
    }

    /// The next attempt of a cloud thread is on its way, and says so to the present servers when it begins.
    /// Servers that join later learn of the attempt from this client: they let no attempt in before that.
    pub fn expect_attempt(&self, attempt: Attempt) {
        self.net
            .session()
            .record_fence(attempt.thread, attempt.number);
    }

    /// Uploads a module of shared types, which then run on the servers. With `replace` they may be new versions of
    /// types that are there, whose objects then move to the new code.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the reason; then all is as it was.
    pub fn push_module(&self, bytes: Vec<u8>, replace: bool) -> Result<Pushed> {
        let push = Operation::Push {
            replace,
            check: false,
            module: bytes.into(),
        };
        // The server that gets it sees to the others.
        decode(&self.any(&push)?)
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
        decode(&self.any(&Operation::RemoveModule(id))?)
    }

    /// Persistent objects that are gone with all of their replicas may be forgotten: their names are free. Until then
    /// they are [`Error::Lost`] to whoever looks for one or would create one. Blocks until the cluster has decided so,
    /// `patience` at most; gives the number of partitions that may have had such objects.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] if the cluster does not decide it.
    pub fn forget_lost(&self, patience: Duration) -> Result<u64> {
        /// How often servers are asked.
        const ASK_AGAIN: Duration = Duration::from_millis(50);
        let until = Instant::now() + patience;
        let forget = Operation::ForgetLost(self.cluster_info()?.view);
        let mut first = None;
        loop {
            let answers = self.everywhere(&forget)?;
            let left = answers.iter().map(|answer| decode::<u64>(answer));
            let left = left.collect::<Result<Vec<_>>>()?.into_iter().max();
            let left = left.unwrap_or_default();
            let first = *first.get_or_insert(left);
            if left == 0 {
                return Ok(first);
            }
            if Instant::now() >= until {
                return Err(Error::TimedOut { after: patience });
            }
            // Back-off before the request is made again: a proposal may be lost, and no server knows when the others have
            // heard of the decision.
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// Whether the cluster has more than one server, as far as the client knows.
    pub fn has_several_servers(&self) -> bool {
        self.net.has_several()
    }

    /// A call of an exactly-once thread is not made, though it counts among its calls.
    pub fn skip_call(&self) {
        self.net.session().skip_call();
    }

    pub(crate) fn clear_namespaces(&self) -> Result<u64> {
        let clear = Operation::ClearNamespace;
        if !self.net.has_several() {
            // A position among the calls of an exactly-once thread. Servers keep no record of the request: repeated, also
            // by a thread that is started again, it clears what has been made since, and counts that.
            return decode(&self.any_in_band(&clear)?);
        }
        // The request has a number of its own at each server, and this one stands for the call.
        self.skip_call();
        let answers = self.everywhere(&clear)?;
        answers.iter().map(|answer| decode::<u64>(answer)).sum()
    }

    /// The cluster, as one server sees it.
    pub fn cluster_info(&self) -> Result<ClusterInfo> {
        self.read_cluster_info(&self.any(&Operation::Inspect(Inspect::Cluster))?)
    }

    /// The cluster, as each server sees it.
    pub fn cluster_infos(&self) -> Result<Vec<ClusterInfo>> {
        let answers = self.everywhere(&Operation::Inspect(Inspect::Cluster))?;
        let read = |answer: &Vec<u8>| self.read_cluster_info(answer);
        answers.iter().map(read).collect()
    }

    fn read_cluster_info(&self, answer: &[u8]) -> Result<ClusterInfo> {
        let mut info: ClusterInfo = decode(answer)?;
        // A server that is alone does not know where others reach it. This client does.
        let routes = self.routes();
        for member in &mut info.members {
            let known = routes
                .servers
                .iter()
                .find(|server| server.node == member.node);
            if let Some(known) = known.filter(|_| member.address.is_empty()) {
                member.address.clone_from(&known.address);
            }
        }
        Ok(info)
    }

    /// The replicas of objects that each server holds; at most `max` of each server.
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

    /// Where the cluster's objects are, as far as the client knows.
    pub fn routes(&self) -> Routes {
        self.net.routes()
    }

    /// An older attempt of an exactly-once thread is to do nothing more, anywhere: each server learns of this one from
    /// the hello.
    pub(crate) fn take_over(&self) -> Result<()> {
        self.everywhere(&Operation::Ping).map(drop)
    }

    /// Sends a request to any server, and waits for the answer.
    fn any(&self, operation: &Operation) -> Result<Vec<u8>> {
        self.any_numbered(operation, false)
    }

    /// The same, numbered as the calls of objects are.
    fn any_in_band(&self, operation: &Operation) -> Result<Vec<u8>> {
        self.any_numbered(operation, true)
    }

    fn any_numbered(&self, operation: &Operation, is_in_band: bool) -> Result<Vec<u8>> {
        loop {
            let member = self.net.any_member()?;
            let target = Target::Member(member);
            let sent = self.net.send_ahead(encode(operation)?, target, is_in_band);
            match sent.and_then(|sent| self.net.wait(sent)) {
                Err(Error::Unavailable { .. }) if self.has_left(member) => {}
                answer => return answer,
            }
        }
    }

    /// Whether a server is no longer a member, so that its failure does not count.
    fn has_left(&self, member: Member) -> bool {
        self.net.link(member).is_none() && !self.has_ended()
    }

    /// Sends a request to all servers, also those that become members meanwhile, and waits for the answers.
    fn everywhere(&self, operation: &Operation) -> Result<Vec<Vec<u8>>> {
        let mut asked: Vec<Member> = Vec::new();
        let mut all = Vec::new();
        loop {
            let sent = self.send_to(operation, |member| !asked.contains(&member))?;
            if sent.is_empty() {
                return match all.is_empty() {
                    true => Err(no_servers()),
                    false => Ok(all),
                };
            }
            asked.extend(sent.iter().map(|(member, _)| *member));
            all.extend(self.answers(sent)?);
        }
    }

    /// The answers of those that are still members. The first error is that of all.
    fn answers(&self, sent: Vec<(Member, Sent)>) -> Result<Vec<Vec<u8>>> {
        let mut answers = Vec::new();
        let mut failed = None;
        for (member, sent) in sent {
            match self.net.wait(sent) {
                Ok(answer) => answers.push(answer),
                Err(_) if self.has_left(member) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(answers), Err)
    }

    /// Sends a request to each server that `which` names.
    fn send_to(
        &self,
        operation: &Operation,
        which: impl Fn(Member) -> bool,
    ) -> Result<Vec<(Member, Sent)>> {
        let table = self.net.directory().table.clone();
        let bytes = encode(operation)?;
        let mut all = Vec::new();
        for member in table.members().iter().copied().filter(|m| which(*m)) {
            let sent = self
                .net
                .send_ahead(bytes.clone(), Target::Member(member), false);
            match sent {
                Ok(sent) => all.push((member, sent)),
                Err(_) if self.has_left(member) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

fn add(module: &mut ModuleInfo, other: &ModuleInfo) {
    if module.types.is_empty() {
        module.types.clone_from(&other.types);
    }
    module.objects += other.objects;
    module.hot += other.hot;
    module.heated += other.heated;
}
