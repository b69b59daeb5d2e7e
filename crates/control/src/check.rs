//! What messages of other servers must satisfy before the consensus library sees them.
//!
//! The library trusts its peers: it takes up any newer term and writes it to the journal, and panics where a message
//! contradicts the protocol. A message that is forged, or was damaged on its way, must do neither. Whatever a server of the
//! group may send passes.

use std::collections::BTreeSet;

use crucial_node::replication::Command;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest,
};
use openraft::{BasicNode, EntryPayload, LogId, Membership, Vote};

use crate::journal::RECORD_BYTES_MAX;
use crate::message::Request;
use crate::store::{Group as Types, read_control};

/// How much newer than the present term another one may be. A server that is cut off begins less than ten terms in a
/// second, so this many take it more than ten years; and as many messages would be needed to use up all terms.
pub(crate) const TERM_STEP_MAX: u64 = 1 << 32;

/// How many entries behind the last decided one a snapshot may end. As with terms, this is for ever.
const ENTRIES_STEP_MAX: u64 = 1 << 32;

/// Most commands in one proposal or log entry. A batch of proposals has fewer.
const COMMANDS_MAX: usize = 4_096;

/// Largest snapshot, in bytes. A snapshot is sent in one piece, and is one record of the journal.
pub(crate) const SNAPSHOT_BYTES_MAX: usize = RECORD_BYTES_MAX / 2;

/// Longest name of a snapshot, in bytes: a log id.
const SNAPSHOT_ID_BYTES_MAX: usize = 200;

/// What this server knows, for comparison with a message.
pub(crate) struct Known<'k> {
    /// The present term.
    pub term: u64,
    /// The last log entry that is decided.
    pub committed: Option<LogId<u64>>,
    /// The id of a decided log entry, if the log still has it.
    pub decided: &'k dyn Fn(u64) -> Option<LogId<u64>>,
    /// The number of partitions.
    pub partitions: usize,
}

impl Known<'_> {
    /// Whether a request may be handled.
    ///
    /// # Errors
    ///
    /// The reason why not.
    pub fn check(&self, request: &Request) -> Result<(), String> {
        match request {
            Request::Append(rpc) => self.check_append(rpc),
            Request::Vote(rpc) => self.check_vote_request(rpc),
            Request::Snapshot(rpc) => self.check_snapshot(rpc),
            Request::Propose(commands) => check_commands(commands),
            Request::Heartbeat { .. }
            | Request::Progress
            | Request::Rescue { .. }
            | Request::Adopt { .. } => Ok(()),
        }
    }

    fn check_append(&self, rpc: &AppendEntriesRequest<Types>) -> Result<(), String> {
        check_term(self.term, &rpc.vote)?;
        require(rpc.vote.committed, "entries of a server that does not lead")?;
        let mut previous = rpc.prev_log_id;
        let ids = rpc.entries.iter().map(|entry| entry.log_id);
        for log_id in rpc.prev_log_id.into_iter().chain(ids) {
            require(
                log_id.leader_id <= rpc.vote.leader_id && log_id.index < u64::MAX,
                "a log entry of a later term than its sender's",
            )?;
            self.check_decided(log_id, &rpc.vote)?;
        }
        for entry in &rpc.entries {
            let follows = match previous {
                Some(previous) => {
                    entry.log_id.index == previous.index + 1
                        && entry.log_id.leader_id >= previous.leader_id
                }
                None => entry.log_id.index == 0,
            };
            require(follows, "log entries with a gap")?;
            previous = Some(entry.log_id);
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(decision) => check_commands(&decision.commands)?,
                EntryPayload::Membership(membership) => check_membership(membership)?,
            }
        }
        Ok(())
    }

    /// What is decided stays. A leader of an earlier term, which was cut off, may have entries that came to nothing: the
    /// library tells it of the present term.
    fn check_decided(&self, log_id: LogId<u64>, vote: &Vote<u64>) -> Result<(), String> {
        if vote.leader_id.term < self.term {
            return Ok(());
        }
        let is_decided = self
            .committed
            .is_some_and(|committed| log_id.index <= committed.index);
        let is_same = || match (self.decided)(log_id.index) {
            Some(ours) => ours == log_id,
            None => Some(log_id) <= self.committed,
        };
        require(
            !is_decided || is_same(),
            "a log entry other than the one that was decided in its place",
        )
    }

    fn check_vote_request(&self, rpc: &VoteRequest<u64>) -> Result<(), String> {
        check_term(self.term, &rpc.vote)?;
        require(!rpc.vote.committed, "a candidate that leads already")
    }

    fn check_snapshot(&self, rpc: &InstallSnapshotRequest<Types>) -> Result<(), String> {
        check_term(self.term, &rpc.vote)?;
        require(
            rpc.vote.committed,
            "a snapshot of a server that does not lead",
        )?;
        require(
            rpc.offset == 0 && rpc.done && rpc.data.len() <= SNAPSHOT_BYTES_MAX,
            "a snapshot in pieces",
        )?;
        let meta = &rpc.meta;
        require(
            meta.snapshot_id.len() <= SNAPSHOT_ID_BYTES_MAX,
            "a snapshot with a long name",
        )?;
        let Some(last) = meta.last_log_id else {
            return Err("a snapshot of nothing".to_owned());
        };
        require(
            last.leader_id <= rpc.vote.leader_id,
            "a snapshot of a later term than its sender's",
        )?;
        let index = self.committed.map_or(0, |committed| committed.index);
        require(
            last.index <= index.saturating_add(ENTRIES_STEP_MAX),
            &format!(
                "a snapshot of {} log entries, which are more than {ENTRIES_STEP_MAX} (ENTRIES_STEP_MAX) later than the last one, {index}",
                last.index
            ),
        )?;
        self.check_decided(last, &rpc.vote)?;
        require(
            *meta.last_membership.log_id() <= Some(last),
            "a snapshot with voters of a later time",
        )?;
        check_membership(meta.last_membership.membership())?;
        read_control(&rpc.data, self.partitions).map(drop)
    }
}

/// Whether a vote may be taken up.
fn check_term(present: u64, vote: &Vote<u64>) -> Result<(), String> {
    let term = vote.leader_id.term;
    require(
        term <= present.saturating_add(TERM_STEP_MAX),
        &format!(
            "the term {term}, which is more than {TERM_STEP_MAX} (TERM_STEP_MAX) later than the present one, {present}"
        ),
    )
}

/// Whether the response to a message of a term may be taken up.
pub(crate) fn check_response_vote(sent: &Vote<u64>, vote: &Vote<u64>) -> Result<(), String> {
    check_term(sent.leader_id.term, vote)
}

/// The same for the response to log entries up to `last`.
pub(crate) fn check_append_response(
    sent: &Vote<u64>,
    last: Option<LogId<u64>>,
    response: &AppendEntriesResponse<u64>,
) -> Result<(), String> {
    match response {
        AppendEntriesResponse::HigherVote(vote) => check_response_vote(sent, vote),
        AppendEntriesResponse::PartialSuccess(matching) => require(
            *matching <= last,
            "an acknowledgement of entries that were not sent",
        ),
        AppendEntriesResponse::Success | AppendEntriesResponse::Conflict => Ok(()),
    }
}

fn check_commands(commands: &[Command]) -> Result<(), String> {
    require(
        commands.len() <= COMMANDS_MAX,
        &format!("more than {COMMANDS_MAX} (COMMANDS_MAX) commands at once"),
    )
}

fn check_membership(membership: &Membership<u64, BasicNode>) -> Result<(), String> {
    let configs = membership.get_joint_config();
    let nodes: BTreeSet<u64> = membership.nodes().map(|(id, _)| *id).collect();
    let is_known = |config: &BTreeSet<u64>| !config.is_empty() && config.is_subset(&nodes);
    require(
        (1..=2).contains(&configs.len()) && configs.iter().all(is_known),
        "voters that are no members",
    )
}

fn require(holds: bool, what_else: &str) -> Result<(), String> {
    match holds {
        true => Ok(()),
        false => Err(what_else.to_owned()),
    }
}

#[cfg(test)]
mod tests;
