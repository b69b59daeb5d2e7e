//! Whatever comes from other servers: nothing panics, and the group decides afterwards as before.

use std::collections::{BTreeMap, BTreeSet};

use crucial_node::replication::{Assignment, Control, Epoch, Incarnation, NodeId, PartitionId};
use openraft::{CommittedLeaderId, Entry, LeaderId, SnapshotMeta, StoredMembership};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::alone::{Alone, PARTITIONS};
use crate::message::{Response, encode};
use crate::store::Decision;

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..8_u64,
        Just(TERM_STEP_MAX),
        (TERM_STEP_MAX + 100)..(TERM_STEP_MAX + 200),
        (u64::MAX - 3)..=u64::MAX,
    ]
}

fn log_id() -> impl Strategy<Value = LogId<u64>> {
    (number(), number())
        .prop_map(|(term, index)| LogId::new(CommittedLeaderId::new(term, 99), index))
}

fn vote() -> impl Strategy<Value = Vote<u64>> {
    (number(), any::<bool>()).prop_map(|(term, committed)| Vote {
        leader_id: LeaderId::new(term, 99),
        committed,
    })
}

fn command() -> impl Strategy<Value = Command> {
    let assignments = prop::collection::vec((number(), any::<u8>()), 0..4);
    prop_oneof![
        (number(), number()).prop_map(|(node, incarnation)| Command::Join {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
            address: "127.0.0.1:2".to_owned(),
            lease_ms: 200,
        }),
        (any::<u16>(), number(), assignments).prop_map(|(partition, epoch, assignments)| {
            let each = assignments.into_iter().map(|(node, rank)| {
                let node = NodeId(node);
                (Assignment { rank, node }, Incarnation(1))
            });
            Command::Reconfigure {
                partition: PartitionId(partition),
                epoch: Epoch(epoch),
                assignments: each.collect(),
            }
        }),
    ]
}

/// Entries that follow each other, or do not. Their voters cannot be: no check can tell a forged change of the voters from another
/// one.
fn entries() -> impl Strategy<Value = Vec<Entry<Types>>> {
    let payload = prop_oneof![
        Just(EntryPayload::Blank),
        prop::collection::vec(command(), 0..3).prop_map(|commands| {
            EntryPayload::Normal(Decision {
                term: None,
                commands,
            })
        }),
        Just(EntryPayload::Membership(Membership::new(
            vec![BTreeSet::new()],
            ()
        ))),
    ];
    prop::collection::vec((log_id(), payload), 0..3).prop_map(|entries| {
        let entries = entries.into_iter();
        let entry = |(log_id, payload)| Entry { log_id, payload };
        entries.map(entry).collect()
    })
}

fn request() -> impl Strategy<Value = Request> {
    let append = (
        vote(),
        prop::option::of(log_id()),
        entries(),
        prop::option::of(log_id()),
    );
    let append = append.prop_map(|(vote, prev_log_id, entries, leader_commit)| {
        Request::Append(AppendEntriesRequest {
            vote,
            prev_log_id,
            entries,
            leader_commit,
        })
    });
    let votes = (vote(), prop::option::of(log_id()));
    let votes = votes.prop_map(|(vote, last)| Request::Vote(VoteRequest::new(vote, last)));
    let snapshot = (vote(), log_id(), number(), any::<bool>(), 0..9_usize);
    let snapshot = snapshot.prop_map(|(vote, last, offset, done, partitions)| {
        let members = BTreeMap::from([(99, BasicNode::new("127.0.0.1:2"))]);
        let voters = Membership::new(vec![BTreeSet::from([98])], members);
        let control = Control::new(partitions);
        Request::Snapshot(InstallSnapshotRequest {
            vote,
            meta: SnapshotMeta {
                last_log_id: Some(last),
                last_membership: StoredMembership::new(Some(last), voters),
                snapshot_id: "any".to_owned(),
            },
            offset,
            data: postcard::to_allocvec(&control).unwrap(),
            done,
        })
    });
    let propose = prop::collection::vec(command(), 0..3).prop_map(Request::Propose);
    let rescue = any::<bool>().prop_map(|confirmed| Request::Rescue { confirmed });
    let adopt = number().prop_map(|cluster| Request::Adopt {
        cluster,
        by: "127.0.0.1:2".to_owned(),
    });
    prop_oneof![
        8 => append,
        8 => votes,
        8 => snapshot,
        8 => propose,
        1 => rescue,
        1 => adopt,
    ]
}

/// A request, perhaps with bytes that have changed or are missing; or any bytes.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let damaged = (
        request(),
        changes,
        any::<prop::sample::Index>(),
        any::<bool>(),
    );
    let damaged = damaged.prop_map(|(request, changes, cut, is_cut)| {
        let mut bytes = encode(&request);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    });
    prop_oneof![
        4 => request().prop_map(|request| encode(&request)),
        4 => damaged,
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}

#[test]
fn no_message_stops_the_group() {
    let alone = Alone::start();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 400,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    // What stops the group shows at the next request, and is not what a smaller input would be.
    let before = std::cell::RefCell::new(std::collections::VecDeque::new());
    let result = runner.run(&prop::collection::vec(bytes(), 1..20), |requests| {
        for request in &requests {
            let mut before = before.borrow_mut();
            before.push_back(request.clone());
            if before.len() > 8 {
                before.pop_front();
            }
            prop_assert!(
                alone.ask(request).is_some(),
                "no response behind {before:?}"
            );
            let failed = alone.notes.failed.lock().clone();
            prop_assert_eq!(failed, None);
        }
        Ok(())
    });
    result.unwrap();
    alone.decides();
}

#[test]
fn a_group_that_can_decide_is_not_given_up_for_another_one() {
    let alone = Alone::start();
    let own = alone.group.cluster();
    let adopt = |cluster| Request::Adopt {
        cluster,
        by: "127.0.0.1:2".to_owned(),
    };
    let asked = [
        (adopt(own ^ 1), "a majority of the voters"),
        (adopt(own), "an id of its own"),
        (adopt(0), "an id of its own"),
        (
            Request::Rescue { confirmed: true },
            "a majority of the voters",
        ),
    ];
    for (request, expected) in asked {
        let Some(Response::Failed(why)) = alone.ask(&encode(&request)) else {
            panic!("the group was given up: {request:?}");
        };
        assert!(why.contains(expected), "{why}");
    }
    alone.decides();
    assert_eq!(alone.group.cluster(), own);
}

#[test]
fn a_term_at_the_end_of_all_terms_is_not_taken_up() {
    let alone = Alone::start();
    let vote = |committed| Vote {
        leader_id: LeaderId::new(u64::MAX, 99),
        committed,
    };
    let append = Request::Append(AppendEntriesRequest {
        vote: vote(true),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    });
    let last = LogId::new(CommittedLeaderId::new(u64::MAX, 99), u64::MAX - 1);
    let elect = Request::Vote(VoteRequest::new(vote(false), Some(last)));
    for request in [append, elect] {
        let response = alone.ask(&encode(&request));
        let Some(Response::Failed(why)) = response else {
            panic!("the term was taken up");
        };
        assert!(why.contains("TERM_STEP_MAX"), "{why}");
    }
    assert!(alone.group.status().term < TERM_STEP_MAX);
    alone.decides();
    assert_eq!(alone.group.status().leader, Some(alone.node));
}

#[test]
fn a_view_of_another_length_is_not_installed() {
    let alone = Alone::start();
    let term = alone.group.status().term + 1;
    let leader_id = LeaderId::new(term, 99);
    let last = LogId::new(CommittedLeaderId::new(term, 99), 1_000);
    let members = BTreeMap::from([(99, BasicNode::new("127.0.0.1:2"))]);
    let snapshot = |partitions| {
        Request::Snapshot(InstallSnapshotRequest {
            vote: Vote {
                leader_id,
                committed: true,
            },
            meta: SnapshotMeta {
                last_log_id: Some(last),
                last_membership: StoredMembership::new(
                    Some(last),
                    Membership::new(vec![BTreeSet::from([99])], members.clone()),
                ),
                snapshot_id: last.to_string(),
            },
            offset: 0,
            data: postcard::to_allocvec(&Control::new(partitions)).unwrap(),
            done: true,
        })
    };
    for partitions in [0, PARTITIONS - 1, PARTITIONS + 1] {
        let Some(Response::Failed(why)) = alone.ask(&encode(&snapshot(partitions))) else {
            panic!("a view with {partitions} partitions was installed");
        };
        assert!(why.contains("partitions"), "{why}");
    }
    alone.decides();
    // Only for its length.
    let response = alone.ask(&encode(&snapshot(PARTITIONS)));
    assert!(matches!(response, Some(Response::Snapshot(Ok(_)))));
}

#[test]
fn a_leader_that_was_cut_off_is_told_of_the_present_term_and_not_taken_for_a_forger() {
    let of = |term, index| LogId::new(openraft::CommittedLeaderId::new(term, 1), index);
    let decided = |index| Some(of(4, index));
    let known = Known {
        term: 5,
        committed: decided(10),
        decided: &decided,
        partitions: 1,
    };
    // An entry that never was decided, where there is another one by now.
    let append = |term| {
        Request::Append(AppendEntriesRequest {
            vote: Vote::new_committed(term, 1),
            prev_log_id: Some(of(3, 8)),
            entries: Vec::new(),
            leader_commit: None,
        })
    };
    assert_eq!(known.check(&append(3)), Ok(()));
    assert!(known.check(&append(5)).is_err());
}
