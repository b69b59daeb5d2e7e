//! When this server may begin an election. The consensus library begins one when it has not heard of a leader for a time that
//! it draws once, however long the disks take: of candidates whose votes are on disk only later each would void the
//! others' terms, again and again. The first election after the leader's death is not held up.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;

use crate::config::ELECTION_HEARTBEATS;
use crate::identity::random;
use crate::shared::Shared;

/// How often the pause is doubled at most.
const DOUBLINGS_MAX: u32 = 5;

/// What a server knows of the group.
#[derive(Clone, Copy)]
struct Seen {
    term: u64,
    is_candidate: bool,
    has_leader: bool,
    /// Something that this server has promised is not on its disk yet.
    is_behind: bool,
}

/// Holds up a server's elections behind one that came to nothing, and behind its vote for another server.
struct Elections {
    /// The shortest pause, in milliseconds.
    pause_min_ms: u64,
    /// The elections that this server has begun in vain since it last had a leader.
    failed: u32,
    /// The term that has no leader, and whether this server is its candidate.
    term: Option<(u64, bool)>,
    pause_ms: u64,
    not_before_ms: u64,
}

impl Elections {
    fn new(pause_min_ms: u64) -> Elections {
        Elections {
            pause_min_ms,
            failed: 0,
            term: None,
            pause_ms: 0,
            not_before_ms: 0,
        }
    }

    /// Whether an election may begin now. `draw` returns a random number below its argument.
    fn may_begin(&mut self, now_ms: u64, seen: Seen, draw: impl FnOnce(u64) -> u64) -> bool {
        if seen.has_leader {
            self.failed = 0;
            self.term = None;
            return true;
        }
        let term = (seen.term, seen.is_candidate);
        if self.term != Some(term) {
            if self.term.is_some_and(|(_, was_candidate)| was_candidate) {
                self.failed += 1;
            }
            let is_first = self.term.is_none() && !seen.is_candidate && !seen.is_behind;
            self.term = Some(term);
            let shortest = self.pause_min_ms << self.failed.min(DOUBLINGS_MAX);
            self.pause_ms = match is_first {
                // A server that starts, or hears of a term in which it has not voted.
                true => 0,
                false => shortest + draw(shortest),
            };
            self.not_before_ms = now_ms + self.pause_ms;
        }
        if seen.is_behind {
            // Others learn of the vote when it is on disk.
            self.not_before_ms = self.not_before_ms.max(now_ms + self.pause_ms);
        }
        now_ms >= self.not_before_ms
    }
}

impl Shared {
    /// Lets the library begin elections, or not.
    pub async fn pace_elections(self: Arc<Self>) {
        let Some(raft) = self.raft.get().cloned() else {
            return;
        };
        let heartbeat_ms = self.config.timing.raft_heartbeat_ms();
        // More often than the library looks whether it should begin one.
        let interval = Duration::from_millis((heartbeat_ms / 2).max(1));
        let mut elections = Elections::new(ELECTION_HEARTBEATS.start * heartbeat_ms);
        loop {
            // The library begins an election because time has passed, which it looks at itself; nothing announces that it
            // is about to.
            tokio::time::sleep(interval).await;
            let is_behind = self.store.is_behind();
            let (seen, voters) = {
                let metrics = raft.metrics();
                let metrics = metrics.borrow();
                let seen = Seen {
                    term: metrics.current_term,
                    is_candidate: metrics.state == ServerState::Candidate,
                    has_leader: metrics.current_leader.is_some(),
                    is_behind,
                };
                (seen, metrics.membership_config.voter_ids().count())
            };
            let may_begin = elections.may_begin(self.now_ms(), seen, |below| random() % below);
            raft.runtime_config().elect(may_begin || voters == 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LED: Seen = Seen {
        term: 1,
        is_candidate: false,
        has_leader: true,
        is_behind: false,
    };

    fn candidate(term: u64, is_behind: bool) -> Seen {
        Seen {
            term,
            is_candidate: true,
            has_leader: false,
            is_behind,
        }
    }

    fn voter(term: u64, is_behind: bool) -> Seen {
        Seen {
            is_candidate: false,
            ..candidate(term, is_behind)
        }
    }

    #[test]
    fn the_first_election_is_not_held_up_and_the_next_ones_more_and_more() {
        let mut elections = Elections::new(400);
        let mut may = |now_ms, seen| elections.may_begin(now_ms, seen, |below| below / 2);
        assert!(may(0, LED));
        // The leader is dead, and this server begins an election.
        assert!(!may(1_000, candidate(2, false)));
        assert!(!may(1_599, candidate(2, false)));
        assert!(may(1_600, candidate(2, false)));
        assert!(!may(1_700, candidate(3, false)));
        assert!(!may(2_899, candidate(3, false)));
        assert!(may(2_900, candidate(3, false)));
        // Another candidate's term counts as one that was lost.
        assert!(!may(3_000, voter(4, false)));
        assert!(!may(5_399, voter(4, false)));
        assert!(may(5_400, voter(4, false)));
        // A leader ends that.
        assert!(may(5_500, Seen { term: 4, ..LED }));
        assert!(!may(6_000, candidate(5, false)));
        assert!(may(6_600, candidate(5, false)));
    }

    #[test]
    fn a_pause_begins_when_the_vote_is_on_disk() {
        let mut elections = Elections::new(400);
        let mut may = |now_ms, seen| elections.may_begin(now_ms, seen, |_| 0);
        assert!(!may(0, voter(2, true)));
        assert!(!may(5_000, voter(2, true)));
        assert!(!may(5_399, voter(2, false)));
        assert!(may(5_400, voter(2, false)));
        // A server that has not voted does not wait.
        let mut elections = Elections::new(400);
        assert!(elections.may_begin(0, voter(2, false), |_| 0));
    }

    #[test]
    fn the_longest_pause_is_limited() {
        let mut elections = Elections::new(400);
        let mut may = |now_ms, seen| elections.may_begin(now_ms, seen, |_| 0);
        for term in 0..50 {
            may(0, candidate(term, false));
        }
        let longest = 400 << DOUBLINGS_MAX;
        assert!(!may(longest - 1, candidate(49, false)));
        assert!(may(longest, candidate(49, false)));
    }
}
