//! Sends the consensus library's messages over the connections to the other servers, when what they rest on is on disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::BasicNode;
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};

use tokio::task::JoinSet;

use crate::check::{check_append_response, check_response_vote};
use crate::link::Links;
use crate::message::{Request, Response, encode};
use crate::runtime::VOTE_TIMEOUT;
use crate::store::{Group as Types, Store};

/// The longest pause, in heartbeats, before log entries are sent again that no response has come to.
const REPEAT_HEARTBEATS_MAX: u32 = 10;

/// Makes connections for the consensus library.
pub(crate) struct Network(pub Arc<Links>, pub Store);

/// The consensus library's connection to another server.
pub(crate) struct Connection {
    links: Arc<Links>,
    store: Store,
    target: u64,
    address: String,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        Connection {
            links: self.0.clone(),
            store: self.1.clone(),
            target,
            address: node.addr.clone(),
        }
    }
}

impl Connection {
    async fn request<E: std::error::Error>(
        &self,
        request: &Request,
        timeout: Duration,
    ) -> Result<Response, RPCError<u64, BasicNode, E>> {
        let request = encode(request);
        let response = self
            .links
            .request(&self.address, Some(self.target), &request, timeout);
        decoded(response.await)
    }

    /// The same for log entries, which the other server must have on disk before it responds. The request is repeated
    /// meanwhile, since it may be lost, and any response will do. The consensus library ends this.
    async fn repeat<E: std::error::Error>(
        &self,
        request: &Request,
        heartbeat: Duration,
    ) -> Result<Response, RPCError<u64, BasicNode, E>> {
        let request = Bytes::from(encode(request));
        let mut pause = heartbeat;
        let mut sent = JoinSet::new();
        loop {
            let (links, address) = (self.links.clone(), self.address.clone());
            let (target, request) = (self.target, request.clone());
            sent.spawn(async move {
                let response = links.request(&address, Some(target), &request, VOTE_TIMEOUT);
                response.await
            });
            if let Ok(Some(Ok(response))) = tokio::time::timeout(pause, sent.join_next()).await {
                return decoded(response);
            }
            pause = (2 * pause).min(REPEAT_HEARTBEATS_MAX * heartbeat);
        }
    }

    #[expect(
        clippy::result_large_err,
        reason = "the library defines the error type"
    )]
    fn remote<T, E: std::error::Error>(
        &self,
        result: Result<T, E>,
    ) -> Result<T, RPCError<u64, BasicNode, E>> {
        result.map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, error)))
    }
}

/// A response, or why none has come.
#[expect(
    clippy::result_large_err,
    reason = "the library defines the error type"
)]
fn decoded<E: std::error::Error>(
    response: std::io::Result<Bytes>,
) -> Result<Response, RPCError<u64, BasicNode, E>> {
    let response = response.map_err(|error| match error.kind() {
        // Unlike an unreachable server, one that is only slow is tried again at once.
        std::io::ErrorKind::TimedOut => RPCError::Network(NetworkError::new(&error)),
        _ => RPCError::Unreachable(Unreachable::new(&error)),
    })?;
    postcard::from_bytes(&response).map_err(|error| RPCError::Network(NetworkError::new(&error)))
}

/// The result of checking a response.
#[expect(
    clippy::result_large_err,
    reason = "the library defines the error type"
)]
fn checked<E: std::error::Error>(
    result: Result<(), String>,
) -> Result<(), RPCError<u64, BasicNode, E>> {
    result.map_err(|why| {
        tracing::warn!(
            why,
            "ignoring a response of another server: it is damaged or forged"
        );
        RPCError::Network(NetworkError::new(&std::io::Error::other(why)))
    })
}

fn unwritten<E: std::error::Error>(error: std::io::Error) -> RPCError<u64, BasicNode, E> {
    RPCError::Network(NetworkError::new(&error))
}

fn mismatch<E: std::error::Error>() -> RPCError<u64, BasicNode, E> {
    let error = std::io::Error::other("the response does not match the request");
    RPCError::Network(NetworkError::new(&error))
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        mut rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        // A leader that starts again may go on in the same term, and must not have another entry in the place of one that
        // it has sent.
        let written = self.store.some_written(&rpc.entries).await;
        let count = written.map_err(unwritten)?;
        let is_part = count < rpc.entries.len();
        rpc.entries.truncate(count);
        let (vote, last) = (rpc.vote, rpc.entries.last().map(|entry| entry.log_id));
        let last = last.or(rpc.prev_log_id);
        let (is_heartbeat, request) = (count == 0, Request::Append(rpc));
        let response = match is_heartbeat {
            true => self.request(&request, option.hard_ttl()).await?,
            false => self.repeat(&request, option.hard_ttl()).await?,
        };
        let Response::Append(result) = response else {
            return Err(mismatch());
        };
        if let Ok(response) = &result {
            checked(check_append_response(&vote, last, response))?;
        }
        match self.remote(result)? {
            AppendEntriesResponse::Success if is_part => {
                Ok(AppendEntriesResponse::PartialSuccess(last))
            }
            response => Ok(response),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<u64>,
        RPCError<u64, BasicNode, RaftError<u64, InstallSnapshotError>>,
    > {
        let vote = rpc.vote;
        match self
            .request(&Request::Snapshot(rpc), option.hard_ttl())
            .await?
        {
            Response::Snapshot(result) => {
                if let Ok(response) = &result {
                    checked(check_response_vote(&vote, &response.vote))?;
                }
                self.remote(result)
            }
            _ => Err(mismatch()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let vote = rpc.vote;
        // This server has voted for itself.
        let written = self.store.all_written().await;
        written.map_err(unwritten)?;
        match self.request(&Request::Vote(rpc), VOTE_TIMEOUT).await? {
            Response::Vote(result) => {
                if let Ok(response) = &result {
                    checked(check_response_vote(&vote, &response.vote))?;
                }
                self.remote(result)
            }
            _ => Err(mismatch()),
        }
    }
}
