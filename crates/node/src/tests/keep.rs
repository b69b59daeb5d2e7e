//! On how many servers a change is kept before it is acknowledged, and what becomes of objects that a server cannot keep.

use std::collections::BTreeSet;
use std::sync::Arc;

use crucial_object::{Error, ObjectId, RunId, Sequence, SessionId, encode, registry};
use crucial_proto::frame::{OpenMode, OpenRequest, peer};

use super::overlap::{Part, accepted, members};
use super::server::{ME, Server, join};
use crate::cell::{CallId, Cell, Change};
use crate::replication::{
    Action, Assignment, Entry, Epoch, Gate, Home, Image, ImageBody, JoinSlots, Lacks, Message,
    NodeId, Origin, Partition, Replica, RoutesVersion, Timing, View, ViewVersion,
};
use crate::types::{linked, name_hash};
use crate::{Connection, ConnectionId, Input, Output, PeerMessage};

const OBJECT: ObjectId = ObjectId([3; 16]);
const OTHER: NodeId = NodeId(2);
const EPOCH: Epoch = Epoch(1);

/// A counter.
fn counter(replicas: u8) -> Replica {
    object("crucial::AtomicI64", &encode(&0i64).unwrap(), replicas)
}

/// A queue with one item of this size.
fn queue(bytes: usize) -> Replica {
    let items = vec![serde_bytes::ByteBuf::from(vec![0; bytes])];
    let state = encode(&(items, 1u64 << 20, false)).unwrap();
    object("crucial::Queue", &state, 1)
}

fn object(type_name: &str, state: &[u8], replicas: u8) -> Replica {
    let info = registry::find(type_name).unwrap();
    let cell = Cell::new(info, state).unwrap();
    let creator = CallId {
        session: SessionId(1),
        sequence: Sequence(1),
    };
    let origin = Origin {
        home: Home::Run(RunId([0; 16])),
        type_name: info.name.to_owned(),
    };
    Replica::new(cell, replicas, creator, (Arc::new(origin), ""))
}

/// An object is changed, and the answer to that waits for whoever has to know.
fn change(part: &mut Part, replica: &mut Replica, answer: &'static str) {
    let lapse = || (Change::Lapse(SessionId(7)), 0);
    part.partition.change(OBJECT, replica, lapse);
    part.partition.answer(replica, answer, &mut part.actions);
    part.partition.issue(part.now, &mut part.actions);
    part.partition.check();
}

/// The entries that were sent to the other server since the last time.
fn sent(part: &mut Part) -> Vec<Entry> {
    let sent = part.actions.iter().filter_map(|action| match action {
        Action::Send(OTHER, Message::Stream { entries, .. }) => Some(entries.clone()),
        _ => None,
    });
    let sent = sent.flatten().collect();
    part.actions
        .retain(|action| !matches!(action, Action::Send(..)));
    sent
}

fn one_of_two(min_replicas: u8) -> (Part, View) {
    let timing = Timing {
        min_replicas,
        ..Timing::default()
    };
    let mut part = Part::with(&[1, 2], timing);
    let alone = part.view(1, &[1], &[(0, 1)]);
    part.take(&alone);
    (part, alone)
}

/// The second server has joined, with all that there was.
fn add_second(part: &mut Part, alone: &View) {
    let mut joining = alone.clone();
    joining.version = ViewVersion(2);
    joining.members = members(&[1, 2]);
    part.take(&joining);
    part.partition
        .copy_list(Vec::new(), part.now, &mut part.actions);
    part.receive(2, accepted(EPOCH, 100));
    let both = part.view(3, &[1, 2], &[(0, 1), (1, 2)]);
    part.take(&both);
    part.receive(2, accepted(Epoch(3), 100));
}

/// Both servers have the partition.
fn two(timing: Timing) -> (Part, View) {
    let mut part = Part::with(&[1, 2], timing);
    let both = part.view(1, &[1, 2], &[(0, 1), (1, 2)]);
    part.take(&both);
    (part, both)
}

/// Whether the change of an object of two replicas waits until there are two servers.
fn waits_for_the_second() -> bool {
    let (mut part, alone) = one_of_two(2);
    let mut replica = counter(2);
    change(&mut part, &mut replica, "kept by one of two");
    let has_waited = !part.has_released("kept by one of two");
    add_second(&mut part, &alone);
    assert!(part.has_released("kept by one of two"));
    assert!(part.partition.is_settled(&replica));
    has_waited
}

#[test]
fn a_change_waits_for_as_many_servers_as_are_asked_for() {
    assert!(waits_for_the_second());
}

#[test]
fn without_a_minimum_a_change_waits_for_the_servers_that_are_there() {
    let (mut part, _) = one_of_two(1);
    change(&mut part, &mut counter(2), "kept by one of two");
    assert!(part.has_released("kept by one of two"));
}

/// Objects that ask for fewer replicas are not held up.
#[test]
fn a_change_that_waits_for_servers_holds_up_no_other_object() {
    let (mut part, alone) = one_of_two(2);
    let (mut two, mut one) = (counter(2), counter(1));
    change(&mut part, &mut two, "two");
    change(&mut part, &mut one, "one");
    assert!(part.has_released("one"));
    assert!(!part.has_released("two"));
    // Later ones neither, and reads of what waits do wait.
    change(&mut part, &mut one, "one again");
    assert!(part.has_released("one again"));
    assert!(part.partition.is_settled(&one));
    assert!(!part.partition.is_settled(&two));
    let last = part.partition.last();
    part.partition.answer_after(last, "all", &mut part.actions);
    part.partition.issue(part.now, &mut part.actions);
    assert!(!part.has_released("all"));
    add_second(&mut part, &alone);
    assert!(part.has_released("two") && part.has_released("all"));
    part.partition.check();
}

/// Whether a partition goes on that had too much on its way.
fn resumes() -> bool {
    let timing = Timing {
        unacknowledged_max: 4,
        ..Timing::default()
    };
    let (mut part, _) = two(timing);
    part.compare(OTHER);
    let mut replica = counter(2);
    for _ in 0..4 {
        change(&mut part, &mut replica, "acknowledged");
        assert_eq!(part.partition.gate(RoutesVersion(9), &OBJECT), Gate::Serve);
    }
    change(&mut part, &mut replica, "one too many");
    assert_eq!(part.partition.gate(RoutesVersion(9), &OBJECT), Gate::Wait);
    part.receive(2, accepted(EPOCH, 100));
    let has_resumed = |action: &Action<_>| matches!(action, Action::Resume);
    part.actions.iter().any(has_resumed)
        && part.partition.gate(RoutesVersion(9), &OBJECT) == Gate::Serve
}

#[test]
fn a_partition_executes_nothing_while_too_much_is_on_its_way() {
    assert!(resumes());
}

#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_are_found() {
    use crate::replication::Mutant;

    Mutant::plant(Some(Mutant::TooFewReplicas));
    assert!(!waits_for_the_second());
    Mutant::plant(Some(Mutant::JoinsLacking));
    assert!(hands_over_to_one_that_lacks(false));
    Mutant::plant(Some(Mutant::NeverResumes));
    assert!(!resumes());
    Mutant::plant(None);
}

fn lacks(version: u64, objects: &[ObjectId]) -> Lacks {
    Lacks {
        version,
        objects: objects.to_vec(),
        has_more: false,
    }
}

/// An object is made, and the other server says that it cannot keep it.
fn lacking(min_replicas: u8) -> (Part, View, Replica) {
    let timing = Timing {
        min_replicas,
        ..Timing::default()
    };
    let (mut part, both) = two(timing);
    part.compare(OTHER);
    let mut replica = counter(2);
    let image = replica.image(0).unwrap();
    let done = crate::replication::Lifecycle {
        call: replica.creator,
        acked: Sequence(0),
        result: Some(true),
    };
    part.partition
        .create(OBJECT, &mut replica, Some(image), (done, Vec::new()));
    part.partition.issue(part.now, &mut part.actions);
    let entries = sent(&mut part);
    assert!(matches!(entries[..], [.., Entry::Install { .. }]));
    let upto = 2;
    let lacks = lacks(1, &[OBJECT]);
    let epoch = EPOCH;
    part.receive(2, Message::Accepted { epoch, upto, lacks });
    (part, both, replica)
}

#[test]
fn a_server_that_cannot_keep_an_object_gets_no_changes_of_it_and_does_not_count() {
    let (mut part, _, mut replica) = lacking(2);
    assert!(part.actions.iter().any(|action| matches!(
        action,
        Action::Lacks(OTHER, objects) if objects[..] == [OBJECT]
    )));
    assert_eq!(part.partition.holders(OBJECT, 2), Some(vec![ME]));
    change(&mut part, &mut replica, "kept by one of two");
    assert_eq!(sent(&mut part), []);
    assert!(!part.has_released("kept by one of two"));
}

#[test]
fn an_object_that_a_server_could_not_keep_is_sent_again_after_a_pause_that_grows() {
    let (mut part, view, mut replica) = lacking(1);
    let repairs = |part: &mut Part, ms: u64| {
        let before = part.actions.len();
        for _ in 0..ms / 20 {
            part.now += 20;
            part.partition.tick(&view, part.now, &mut part.actions);
        }
        let mut actions = part.actions[before..].iter();
        let is_repair = |action: &&Action<_>| matches!(action, Action::Repair(OTHER, OBJECT));
        actions.by_ref().filter(is_repair).count()
    };
    let in_a_minute = repairs(&mut part, 60_000);
    assert!((3..=8).contains(&in_a_minute), "{in_a_minute} in a minute");
    // The other server can keep the object now.
    let image = replica.image(1).unwrap();
    part.partition.repair(OTHER, OBJECT, &replica, image);
    part.partition.issue(part.now, &mut part.actions);
    assert!(matches!(sent(&mut part)[..], [Entry::Install { .. }]));
    // An older list, which comes late, is no news.
    let (epoch, upto) = (EPOCH, 3);
    let now = Message::Accepted {
        epoch,
        upto,
        lacks: lacks(2, &[]),
    };
    part.receive(2, now);
    let late = Message::Accepted {
        epoch,
        upto,
        lacks: lacks(1, &[OBJECT]),
    };
    part.receive(2, late);
    assert_eq!(part.partition.holders(OBJECT, 2), Some(vec![ME, OTHER]));
    change(&mut part, &mut replica, "kept by both");
    assert!(matches!(sent(&mut part)[..], [Entry::Apply { .. }]));
    assert_eq!(repairs(&mut part, 60_000), 0);
}

#[test]
fn an_object_that_cannot_be_encoded_is_a_note_at_others_and_never_dropped_there() {
    let (mut part, _) = two(Timing::default());
    part.actions.clear();
    let mut replica = counter(2);
    let lost: Image = replica.lost_image();
    let all = (BTreeSet::from([OBJECT]), &BTreeSet::new());
    part.partition
        .compare(OTHER, all, part.now, &mut part.actions);
    part.partition
        .reconcile_with(OTHER, OBJECT, &mut replica, lost);
    part.partition
        .compared(OTHER, &OBJECT, part.now, &mut part.actions);
    let entries = sent(&mut part);
    assert!(
        !entries
            .iter()
            .any(|entry| matches!(entry, Entry::Drop { .. }))
    );
    assert!(
        entries
            .iter()
            .any(|entry| matches!(entry, Entry::Install { .. }))
    );
    change(&mut part, &mut replica, "here");
    assert_eq!(sent(&mut part), []);
    assert_eq!(part.partition.holders(OBJECT, 2), Some(vec![ME]));
}

/// Whether a partition goes to the node that is to be its primary, though that one lacks an object. The server that has it
/// leaves, or does not.
fn hands_over_to_one_that_lacks(is_leaving: bool) -> bool {
    // Placement wants the second node first.
    let mut part = Part::with(&[2, 1], Timing::default());
    let mut view = part.view(1, &[1, 2], &[(0, 1)]);
    if let Some(me) = view.members.get_mut(&ME) {
        me.leaving = is_leaving;
    }
    part.take(&view);
    let (now, actions) = (part.now, &mut part.actions);
    part.partition.copy_list(vec![OBJECT], now, actions);
    let mut replica = counter(1);
    assert_eq!(part.partition.copy(Some(&replica)), Some(0));
    let image = replica.image(0).unwrap();
    part.partition.copy_with(OBJECT, &mut replica, image);
    part.partition.issue(part.now, &mut part.actions);
    let (epoch, upto) = (EPOCH, 100);
    let lacks = lacks(1, &[OBJECT]);
    part.receive(2, Message::Accepted { epoch, upto, lacks });
    part.partition.tick(&view, part.now, &mut part.actions);
    let mut actions = part.actions.iter();
    actions.any(|action| matches!(action, Action::Propose(_)))
}

#[test]
fn a_node_that_lacks_an_object_is_not_made_the_primary() {
    assert!(!hands_over_to_one_that_lacks(false));
    // With the server that has it the object is gone in any case, and the others need not be.
    assert!(hands_over_to_one_that_lacks(true));
}

/// Joins that go on at the same time, in all partitions of a server.
#[test]
fn only_so_many_partitions_move_at_the_same_time() {
    let slots = Arc::<JoinSlots>::default();
    let me = (ME, crate::replication::Incarnation(1));
    let part = Part::with(&[1, 2], Timing::default());
    let view = part.view(1, &[1, 2], &[(0, 1)]);
    let partition = || {
        let placement = (3, Timing::default());
        let mut partition: Partition<()> = Partition::new(part.id, me, placement, slots.clone());
        partition.on_view(&view, 0, &mut Vec::new());
        partition
    };
    let mut partitions: Vec<_> = (0..100).map(|_| partition()).collect();
    let joins = |partitions: &[Partition<()>]| partitions.iter().map(Partition::joins).sum::<u32>();
    assert_eq!(joins(&partitions), 64);
    // As some end, others begin.
    partitions.drain(..10);
    for partition in &mut partitions {
        partition.tick(&view, 20, &mut Vec::new());
    }
    assert_eq!(joins(&partitions), 64);
}

/// The sizes of objects are not known before they are encoded: large ones are asked for one after the other.
#[test]
fn few_large_objects_are_copied_at_once_and_many_small_ones() {
    let at_once = |bytes: usize| {
        let mut part = Part::with(&[1, 2], Timing::default());
        let view = part.view(1, &[1, 2], &[(0, 1)]);
        part.take(&view);
        let objects: Vec<_> = (0..200).map(|number| ObjectId([number; 16])).collect();
        let (now, actions) = (part.now, &mut part.actions);
        part.partition.copy_list(objects, now, actions);
        let mut most = 0;
        for upto in 1..200 {
            let asked = part.actions.iter().find_map(|action| match action {
                Action::Copy(objects) => Some(objects.clone()),
                _ => None,
            });
            part.actions.clear();
            let asked = asked.unwrap_or_default();
            most = most.max(asked.len());
            for object in asked {
                let mut replica = queue(bytes);
                assert_eq!(part.partition.copy(Some(&replica)), Some(1));
                let image = replica.image(0).unwrap();
                part.partition.copy_with(object, &mut replica, image);
            }
            part.partition.issue(part.now, &mut part.actions);
            part.receive(2, accepted(EPOCH, 100 * upto));
        }
        most
    };
    assert!(at_once(100) > 16, "{}", at_once(100));
    assert_eq!(at_once(4 << 20), 1);
}

/// A server of another program lacks a type: nobody is told that an object of it has two replicas.
#[test]
fn no_object_is_made_of_a_type_that_another_server_lacks() {
    let mut server = Server::new();
    server.decide(&join(OTHER));
    let dial = server.others.iter().find_map(|output| match output {
        Output::Dial { dial, .. } => Some(*dial),
        _ => None,
    });
    let hello = server.node.peer_hello((OTHER.0, 1));
    let to = ConnectionId {
        index: 90,
        generation: 1,
    };
    let up = Input::PeerUp(Connection::to_peer(to, hello), dial.unwrap());
    server.input(up);
    // The other one, by then, is a backup of all partitions.
    let mut view = (*server.view()).clone();
    view.version.0 += 1;
    for configuration in &mut view.configurations {
        let configuration = Arc::make_mut(configuration);
        configuration.epoch.0 += 1;
        let node = OTHER;
        configuration.assignments = vec![
            Assignment { rank: 0, node: ME },
            Assignment { rank: 1, node },
        ];
    }
    server.input(Input::View(Arc::new(view)));
    let mut types = linked();
    types.remove(&name_hash("crucial::AtomicI64"));
    let from = server.connection();
    let hello = peer::Hello {
        cluster: 7,
        from: OTHER.0,
        incarnation: 1,
        to: Some((ME.0, 1)),
    };
    server.input(Input::PeerHello(
        from.clone(),
        crucial_proto::frame::VERSION,
        Some(hello),
    ));
    let message = encode(&PeerMessage::Types(types)).unwrap();
    server.input(Input::PeerMessages(from, message.into()));

    let client = server.client(1);
    let open = |type_name: &str, replicas: u8, state: Vec<u8>| OpenRequest {
        type_name: type_name.to_owned(),
        key: format!("{type_name} {replicas}"),
        persistent: true,
        mode: OpenMode::FindOrCreate,
        replicas,
        state,
    };
    let zero = || encode(&0i64).unwrap();
    server.open_as(&client, 1, open("crucial::AtomicI64", 2, zero()));
    let [(1, Err(Error::Refused { reason }))] = &server.replies(&client)[..] else {
        panic!("an object that the other server cannot keep was made");
    };
    assert!(
        reason.contains("crucial::AtomicI64") && reason.contains("host-2:1"),
        "{reason}"
    );
    // With one replica it is made: the answer waits until the other one knows that there is such an object.
    let one = server.open_as(&client, 2, open("crucial::AtomicI64", 1, zero()));
    assert_eq!(server.replies(&client), []);
    assert!(server.node.look_at(&one, |replica| replica.is_full()) == Some(true));
}

/// What was on its way on a connection that broke need not wait until it is time to repeat.
#[test]
fn a_new_connection_brings_again_what_is_not_acknowledged() {
    let (mut part, _) = two(Timing::default());
    part.compare(OTHER);
    let mut replica = counter(2);
    change(&mut part, &mut replica, "changed");
    let first = sent(&mut part);
    assert!(matches!(first[..], [.., Entry::Apply { .. }]));
    let (now, actions) = (part.now, &mut part.actions);
    part.partition.on_connected(OTHER, now, actions);
    assert_eq!(sent(&mut part), first);
}

/// Changes of two former primaries that came to nothing are not the same.
#[test]
fn copies_that_went_astray_at_two_servers_have_two_versions() {
    let versions = [ME, OTHER, NodeId(u64::MAX)].map(|node| {
        let mut replica = counter(2);
        replica.mark_divergent(node, EPOCH);
        replica.version
    });
    let [first, second, third] = versions;
    assert!(first != second && second != third && first != third);
    let last = crate::replication::Version {
        epoch: EPOCH,
        change: 1 << 62,
    };
    assert!(versions.iter().all(|version| *version > last));
}

/// A method that runs long at a backup keeps its digest back; the backup is as alive as others.
#[test]
fn a_backup_that_says_it_lives_is_not_dropped_while_its_digest_waits() {
    let is_dropped = |answers: bool, ms: u64| {
        let (mut part, view) = two(Timing::default());
        for _ in 0..ms / 20 {
            part.now += 20;
            part.partition.tick(&view, part.now, &mut part.actions);
            let asks = part
                .actions
                .iter()
                .any(|action| matches!(action, Action::Send(OTHER, Message::Collect { .. })));
            if asks && answers {
                part.receive(2, accepted(EPOCH, 0));
            }
            let mut actions = std::mem::take(&mut part.actions).into_iter();
            if actions.any(|action| matches!(action, Action::Propose(_))) {
                return true;
            }
        }
        false
    };
    assert!(is_dropped(false, 6_000));
    assert!(!is_dropped(true, 30_000));
    // One whose method does not end at all holds the partition up for a while, and not for ever.
    assert!(is_dropped(true, 60_000));
}

/// Otherwise the backup would keep a whole object that nobody tells it of any more.
#[test]
fn an_object_on_its_way_to_a_backup_that_gets_a_higher_rank_comes_as_a_note() {
    let (mut part, _) = two(Timing::default());
    part.compare(OTHER);
    let mut replica = counter(2);
    let image = replica.image(0).unwrap();
    let done = crate::replication::Lifecycle {
        call: replica.creator,
        acked: Sequence(0),
        result: Some(true),
    };
    part.partition
        .create(OBJECT, &mut replica, Some(image), (done, Vec::new()));
    part.partition.issue(part.now, &mut part.actions);
    let is_full = |entries: &[Entry]| {
        let images = entries.iter().filter_map(|entry| match entry {
            Entry::Install { image, .. } => Some(matches!(image.body, ImageBody::Full(_))),
            _ => None,
        });
        images.collect::<Vec<_>>()
    };
    assert_eq!(is_full(&sent(&mut part)), [true]);
    let higher = part.view(2, &[1, 2], &[(0, 1), (2, 2)]);
    part.take(&higher);
    part.partition.issue(part.now, &mut part.actions);
    assert_eq!(is_full(&sent(&mut part)), [false]);
    part.partition.check();
}
