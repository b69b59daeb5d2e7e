//! An operator's way out when the control group has lost most of its voters for ever: a server that is left goes on in a new
//! cluster, with the objects that it has. `docs/replication.md` says what that may lose.
//!
//! The new cluster has an id of its own, which all servers and clients compare: nobody of the old cluster can take part, or is
//! taken for somebody who does. The rescuing server takes every other one along that answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crucial_local::system_reason;
use crucial_node::replication::{Control, Incarnation, NodeId, View};
use openraft::{LogId, Raft};
use tokio::task::JoinSet;

use crate::config::GroupError;
use crate::identity::random;
use crate::link::Links;
pub use crate::message::Rescue;
use crate::message::{Request, Response, encode};
use crate::shared::{Rescued, Shared, Stage};
use crate::store::Group as Types;

/// Time limit for each message to another server.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time limit for the consensus library to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit of a rescue, as the operator sees it.
const RESCUE_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause between two looks at a server that begins its new cluster.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Another server, as it answers.
enum Answer {
    /// The server is of this cluster. The last entry of its log.
    Here(Option<LogId<u64>>),
    /// The server is in another cluster.
    Elsewhere(u64),
    /// No answer, or somebody else's.
    Gone,
}

/// Another server that is a member, or has a vote.
struct Other {
    address: String,
    answer: Answer,
}

impl Other {
    fn is_here(&self) -> bool {
        matches!(self.answer, Answer::Here(_))
    }
}

/// Asks the server at an address to go on without the voters that do not answer. Without confirmation it only says what that
/// would mean. Blocks until the server is in its new cluster.
///
/// # Errors
///
/// The reason why the server does not do it.
pub fn rescue(address: &str, confirmed: bool) -> Result<Rescue, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {}", system_reason(&error)))?;
    runtime.block_on(request_rescue(address, confirmed))
}

async fn request_rescue(address: &str, confirmed: bool) -> Result<Rescue, String> {
    let failed = |error: std::io::Error| format!("{address}: {}", system_reason(&error));
    let links = Links::new(NodeId(random()), Incarnation(0));
    let server = links.identify(address).await.map_err(failed)?;
    if server.cluster == 0 {
        return Err(format!("{address} is in no cluster that could be rescued"));
    }
    links.set_cluster(server.cluster);
    let request = encode(&Request::Rescue { confirmed });
    let response = links.request(address, Some(server.node), &request, RESCUE_TIMEOUT);
    let response = postcard::from_bytes(&response.await.map_err(failed)?);
    let rescue = match response {
        Ok(Response::Rescue(rescue)) => rescue,
        Ok(Response::Failed(why)) => return Err(format!("{address}: {why}")),
        Ok(_) => {
            return Err(format!(
                "{address}: the response does not match the request"
            ));
        }
        Err(error) => return Err(format!("{address}: malformed response: {error}")),
    };
    let started = Instant::now();
    while confirmed && links.identify(address).await.map_or(0, |now| now.cluster) != rescue.rescued
    {
        if started.elapsed() > RESCUE_TIMEOUT {
            return Err(format!(
                "{address} did not begin the cluster {:016x} within {RESCUE_TIMEOUT:?}: its log says why",
                rescue.rescued
            ));
        }
        // The server that was rescued answers questions, and tells nobody when it has begun.
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Ok(rescue)
}

impl Shared {
    /// An operator wants this server to go on without the voters that do not answer. Also gives the group that is to take
    /// this one's place.
    pub async fn on_rescue(&self, confirmed: bool) -> (Response, Option<Rescued>) {
        let Some(raft) = self.raft.get() else {
            return (Response::Failed("the server is starting".to_owned()), None);
        };
        match self.rescue(raft, confirmed).await {
            Ok((rescue, replacement)) => (Response::Rescue(rescue), replacement),
            Err(why) => (Response::Failed(why), None),
        }
    }

    async fn rescue(
        &self,
        raft: &Raft<Types>,
        confirmed: bool,
    ) -> Result<(Rescue, Option<Rescued>), String> {
        let others = self.survey(raft).await;
        self.require_no_majority(raft, &others)?;
        self.require_newest(&others)?;
        let here = others.iter().filter(|(_, other)| other.is_here());
        let mut survivors: BTreeSet<NodeId> = here.map(|(id, _)| NodeId(*id)).collect();
        survivors.insert(self.node);
        if !confirmed {
            return Ok((
                self.describe(&others, &self.rescued_control(&survivors)),
                None,
            ));
        }
        if self.replacing.swap(true, Ordering::AcqRel) {
            return Err("the server is being rescued already".to_owned());
        }
        tracing::warn!(
            "rescuing the control group: going on without the voters that do not answer"
        );
        // From here on the log does not change.
        let _ = tokio::time::timeout(STOP_TIMEOUT, raft.shutdown()).await;
        let control = self.rescued_control(&survivors);
        let mut rescue = self.describe(&others, &control);
        rescue.rescued = random();
        // The identity first: with it alone the server belongs to a cluster without a voter, which can be rescued again. With
        // the new log alone it would go on as the old cluster.
        let begun = async {
            let belongs = self.identity.lock().belong_to(rescue.rescued);
            belongs.map_err(|error| error.to_string())?;
            let me = (self.node.0, self.config.address.clone());
            let begun = self.store.begin_group(control, me).await;
            begun.map_err(|error| error.to_string())
        };
        begun.await.map_err(|why| self.give_up(why))?;
        for (id, other) in others.iter().filter(|(_, other)| other.is_here()) {
            self.take_along(*id, &other.address, rescue.rescued).await;
        }
        let by = self.config.address.clone();
        Ok((rescue, Some(Rescued { by })))
    }

    /// A server that was rescued, `from`, takes this one along.
    pub async fn on_adopt(
        &self,
        from: u64,
        cluster: u64,
        by: String,
    ) -> (Response, Option<Rescued>) {
        let failed = |why: &str| (Response::Failed(why.to_owned()), None);
        let Some(raft) = self.raft.get() else {
            return failed("the server is starting");
        };
        if let Err(why) = self.check_adoption(raft, from, cluster, &by).await {
            tracing::warn!(why, "refusing to give up the control group for another one");
            return failed(&why);
        }
        if self.replacing.swap(true, Ordering::AcqRel) {
            return failed("the server is being rescued already");
        }
        tracing::warn!(
            by,
            "the control group was rescued: going on in the new cluster"
        );
        let _ = tokio::time::timeout(STOP_TIMEOUT, raft.shutdown()).await;
        let left = async {
            let belongs = self.identity.lock().belong_to(cluster);
            belongs.map_err(|error| error.to_string())?;
            let left = self.store.leave_group().await;
            left.map_err(|error| error.to_string())
        };
        match left.await.map_err(|why| self.give_up(why)) {
            Ok(()) => (Response::Adopted, Some(Rescued { by })),
            Err(why) => failed(&why),
        }
    }

    /// Whether this server may give up its group for that of a server which says that it was rescued. A request that was
    /// damaged on its way, or is forged, does not end a group that can decide.
    async fn check_adoption(
        &self,
        raft: &Raft<Types>,
        from: u64,
        cluster: u64,
        by: &str,
    ) -> Result<(), String> {
        if cluster == 0 || cluster == self.cluster.load(Ordering::Acquire) {
            return Err("refused: a rescued cluster has an id of its own".to_owned());
        }
        let (others, sender) = tokio::join!(self.survey(raft), self.links.identify(by));
        self.require_no_majority(raft, &others)?;
        match sender.is_ok_and(|sender| sender.node == from) {
            true => Ok(()),
            false => Err(format!(
                "refused: the rescued server does not answer at {by}"
            )),
        }
    }

    /// The server can go on neither in the old nor in a new group.
    fn give_up(&self, why: String) -> String {
        let error = GroupError::Directory(why.clone());
        self.set_stage(Stage::Failed(error.clone()));
        self.member.on_failure(error);
        why
    }

    /// Asks all other members and voters, at the same time.
    async fn survey(&self, raft: &Raft<Types>) -> BTreeMap<u64, Other> {
        let metrics = raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let known = membership
            .nodes()
            .map(|(id, node)| (*id, node.addr.clone()));
        let mut all: BTreeMap<u64, String> = known.collect();
        let view = self.view();
        let members = view.members.iter();
        all.extend(members.map(|(node, member)| (node.0, member.address.clone())));
        all.remove(&self.node.0);
        let mut probes = JoinSet::new();
        for (id, address) in all {
            let (links, cluster) = (self.links.clone(), self.cluster.load(Ordering::Acquire));
            probes.spawn(async move {
                let answer = probe(&links, (id, &address), cluster).await;
                (id, Other { address, answer })
            });
        }
        probes.join_all().await.into_iter().collect()
    }

    /// With a majority the group can decide for itself, and may have decided what this server does not know.
    fn require_no_majority(
        &self,
        raft: &Raft<Types>,
        others: &BTreeMap<u64, Other>,
    ) -> Result<(), String> {
        let metrics = raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let answers = |id: &&u64| **id == self.node.0 || others.get(id).is_some_and(Other::is_here);
        for voters in membership.get_joint_config() {
            let count = voters.iter().filter(answers).count();
            if 2 * count <= voters.len() {
                return Ok(());
            }
        }
        Err(
            "refused: a majority of the voters answers, so that the control group can decide by itself; remove servers \
             that are gone by waiting for the end of their leases, and see `crucial cluster status`"
                .to_owned(),
        )
    }

    fn require_newest(&self, others: &BTreeMap<u64, Other>) -> Result<(), String> {
        for other in others.values() {
            match other.answer {
                Answer::Here(last) if last > self.store.last_log_id() => {
                    return Err(format!(
                        "refused: {} knows later decisions of the group than this server: rescue it there",
                        other.address
                    ));
                }
                Answer::Elsewhere(cluster) => {
                    return Err(format!(
                        "refused: {} has gone on in the cluster {cluster:016x}: start this server with an empty --data \
                         directory and let it join there, or stop that server first",
                        other.address
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The state of the new cluster. What may have been decided counts as decided: a server that may have lost an assignment
    /// does not pass its objects off as the newest.
    fn rescued_control(&self, survivors: &BTreeSet<NodeId>) -> Control {
        let mut control = self.store.possible_control();
        control.rescue(survivors);
        control
    }

    fn describe(&self, others: &BTreeMap<u64, Other>, control: &Control) -> Rescue {
        let mut survivors = vec![(self.node.0, self.config.address.clone())];
        let mut lost = Vec::new();
        for (id, other) in others {
            let list = match other.is_here() {
                true => &mut survivors,
                false => &mut lost,
            };
            list.push((*id, other.address.clone()));
        }
        let granted_ms = self.granted_ms.load(Ordering::Acquire);
        let silent_ms = self.now_ms().saturating_sub(granted_ms);
        Rescue {
            cluster: self.cluster.load(Ordering::Acquire),
            rescued: 0,
            survivors,
            lost,
            partitions: control.view().configurations.len(),
            partitions_lost: count_lost(&self.view(), control.view()),
            silent_ms: (granted_ms > 0).then_some(silent_ms),
        }
    }

    /// Has another server go on in the new cluster. If that fails it is expired there.
    async fn take_along(&self, node: u64, address: &str, cluster: u64) {
        let adopt = Request::Adopt {
            cluster,
            by: self.config.address.clone(),
        };
        let adopt = encode(&adopt);
        let response = self
            .links
            .request(address, Some(node), &adopt, STOP_TIMEOUT);
        let is_adopted = response
            .await
            .is_ok_and(|response| matches!(postcard::from_bytes(&response), Ok(Response::Adopted)));
        if !is_adopted {
            tracing::warn!(
                address,
                "a server could not be taken along into the rescued cluster"
            );
        }
    }
}

/// The partitions that begin anew in the later view, or have nobody.
fn count_lost(before: &View, after: &View) -> usize {
    let pairs = before.configurations.iter().zip(&after.configurations);
    let lost = pairs
        .filter(|(before, after)| before.emptied != after.emptied || after.assignments.is_empty());
    lost.count()
}

async fn probe(links: &Links, (id, address): (u64, &str), cluster: u64) -> Answer {
    let Ok(welcome) = links.identify(address).await else {
        return Answer::Gone;
    };
    if welcome.node != id || welcome.cluster == 0 {
        return Answer::Gone;
    }
    if welcome.cluster != cluster {
        return Answer::Elsewhere(welcome.cluster);
    }
    let request = encode(&Request::Progress);
    let response = links.request(address, Some(id), &request, PROBE_TIMEOUT);
    match response
        .await
        .map(|response| postcard::from_bytes(&response))
    {
        Ok(Ok(Response::Progress(last))) => Answer::Here(last),
        _ => Answer::Gone,
    }
}
