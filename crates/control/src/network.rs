//! Sends the consensus library's messages over the connections to the other servers.

use std::sync::Arc;
use std::time::Duration;

use openraft::BasicNode;
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};

use crate::check::{check_append_response, check_response_vote};
use crate::link::Links;
use crate::message::{Request, Response, encode};
use crate::store::Group as Types;

/// Makes connections for the consensus library.
pub(crate) struct Network(pub Arc<Links>);

/// The consensus library's connection to another server.
pub(crate) struct Connection {
    links: Arc<Links>,
    target: u64,
    address: String,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        Connection {
            links: self.0.clone(),
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
        let response = response.await.map_err(|error| match error.kind() {
            // Unlike an unreachable server, one that is only slow is tried again at once.
            std::io::ErrorKind::TimedOut => RPCError::Network(NetworkError::new(&error)),
            _ => RPCError::Unreachable(Unreachable::new(&error)),
        })?;
        postcard::from_bytes(&response)
            .map_err(|error| RPCError::Network(NetworkError::new(&error)))
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

fn mismatch<E: std::error::Error>() -> RPCError<u64, BasicNode, E> {
    let error = std::io::Error::other("the response does not match the request");
    RPCError::Network(NetworkError::new(&error))
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let (vote, last) = (rpc.vote, rpc.entries.last().map(|entry| entry.log_id));
        let last = last.max(rpc.prev_log_id);
        match self
            .request(&Request::Append(rpc), option.hard_ttl())
            .await?
        {
            Response::Append(result) => {
                if let Ok(response) = &result {
                    checked(check_append_response(&vote, last, response))?;
                }
                self.remote(result)
            }
            _ => Err(mismatch()),
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
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let vote = rpc.vote;
        match self.request(&Request::Vote(rpc), option.hard_ttl()).await? {
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
