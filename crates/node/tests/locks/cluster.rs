//! Two servers: a partition passes from one to the other while calls are executed.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use crucial_node::replication::placement::wanted;
use crucial_node::replication::{Assignment, Command, Control, Incarnation, NodeId, View};
use crucial_node::{Connection, Input, Millis};
use crucial_object::Sequence;
use crucial_proto::frame::{OpenMode, VERSION};
use shuttle::thread;

use crate::client::{Client, Named};
use crate::objects::slow;
use crate::schedules::explore;
use crate::shell::{LONG_LEASE_MS, NOW, PARTITIONS, REPEAT_MS, Shell, Thread, grant, join};

/// More than a cluster of two needs until all is where it is to be.
const ROUNDS_MAX: usize = 400;

const TICK_MS: Millis = 20;

/// After a connection has ended the server dials again.
const REDIAL_MS: Millis = 100;

/// Which of the two servers an object is to go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    First,
    Second,
}

/// A connection from one server to another.
pub struct Link {
    pub from: Arc<Shell>,
    pub to: Arc<Shell>,
    outgoing: Arc<Connection>,
    incoming: Arc<Connection>,
}

impl Link {
    pub fn connect(from: &Arc<Shell>, to: &Arc<Shell>, now: Millis) -> Link {
        let hello = from
            .node
            .peer_hello((to.node.id().0, to.node.incarnation().0));
        let incoming = Connection::new(to.open_incoming());
        let mut thread = Thread::new(to, now);
        thread.input_only(Input::Connected(incoming.clone()));
        thread.input_only(Input::PeerHello(incoming.clone(), VERSION, Some(hello)));
        let outgoing = Connection::to_peer(from.open(), hello);
        from.set_link(outgoing.id, true);
        let dial = from.dial.lock().unwrap().take();
        let dial = dial.expect("the server dials the other one");
        Thread::new(from, now).input_only(Input::PeerUp(outgoing.clone(), dial));
        Link {
            from: from.clone(),
            to: to.clone(),
            outgoing,
            incoming,
        }
    }

    /// Breaks the connection at the end of the server that sends, and makes another one.
    pub fn reconnect(&self, now: Millis) -> Link {
        self.from.set_link(self.outgoing.id, false);
        Thread::new(&self.from, now).input_only(Input::Closed(self.outgoing.clone()));
        Thread::new(&self.from, now + REDIAL_MS).on_time();
        Link::connect(&self.from, &self.to, now)
    }

    /// Takes in at the other end what was written; whether there was something.
    pub fn deliver(&self, now: Millis) -> bool {
        let written: Vec<Bytes> = self.from.take_written(self.outgoing.id);
        let mut thread = Thread::new(&self.to, now);
        for bytes in &written {
            thread.input(Input::PeerMessages(self.incoming.clone(), bytes.clone()));
        }
        !written.is_empty()
    }
}

/// Two servers, and the control group.
pub struct Cluster {
    pub shells: [Arc<Shell>; 2],
    pub links: [Link; 2],
    pub now: Millis,
    control: Control,
}

impl Cluster {
    /// A cluster of one, which another server has joined: an object of the first one is to stay or to go.
    pub fn new(place: Place) -> (Cluster, Named, Client) {
        let mut control = Control::new(PARTITIONS);
        let shells = [1, 2].map(|id| Shell::new(id, LONG_LEASE_MS));
        let mut thread = Thread::new(&shells[0], NOW);
        thread.input(Input::View(join(&mut control, 1)));
        thread.input(Input::Lease(grant(0)));
        let mut both = control.clone();
        let object = object_for(&join(&mut both, 2), place);
        let mut client = Client::connect(&mut thread, 1);
        client
            .ask::<bool>(&mut thread, object.open(OpenMode::FindOrCreate))
            .unwrap();
        let view = join(&mut control, 2);
        for shell in &shells {
            let mut thread = Thread::new(shell, NOW);
            thread.input(Input::View(view.clone()));
            thread.input(Input::Lease(grant(0)));
        }
        let [one, two] = &shells;
        let links = [Link::connect(one, two, NOW), Link::connect(two, one, NOW)];
        let cluster = Cluster {
            shells,
            links,
            now: NOW,
            control,
        };
        (cluster, object, client)
    }

    /// Goes on until nothing happens, or one of the commands for the control group is `held` back; gives that.
    pub fn settle(&mut self, held: &dyn Fn(&Command) -> bool) -> Option<Command> {
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            quiet += 1;
            for shell in &self.shells {
                let mut thread = Thread::new(shell, self.now);
                thread.on_time();
                thread.serve();
            }
            for link in &self.links {
                while link.deliver(self.now) {
                    quiet = 0;
                }
            }
            let decided = self.shells.iter().flat_map(|shell| shell.take_decided());
            for command in decided.collect::<Vec<_>>() {
                if held(&command) {
                    return Some(command);
                }
                if self.control.apply(&command).is_ok() {
                    quiet = 0;
                    let view = self.control.view().clone();
                    for shell in &self.shells {
                        Thread::new(shell, self.now).input(Input::View(view.clone()));
                    }
                }
            }
            if quiet > 2 * REPEAT_MS / TICK_MS {
                return None;
            }
            self.now += TICK_MS;
        }
        panic!("the cluster does not come to rest");
    }

    /// Lets time pass at the first server until it proposes something, which the control group decides. Gives the view.
    fn hand_over(&mut self, is_meant: &dyn Fn(&Command) -> bool) -> Arc<View> {
        for _ in 0..ROUNDS_MAX {
            let shell = &self.shells[0];
            Thread::new(shell, self.now).on_time();
            let decided = shell.take_decided();
            if let Some(command) = decided.iter().find(|command| is_meant(command)) {
                return self.decide(command);
            }
            self.now += TICK_MS;
        }
        panic!("the partition is to move");
    }

    /// The control group decides something. Gives the view.
    pub fn decide(&mut self, command: &Command) -> Arc<View> {
        self.control.apply(command).unwrap();
        self.control.view().clone()
    }
}

/// An object whose partition has its primary there, once both servers are members.
fn object_for(view: &View, place: Place) -> Named {
    let node = match place {
        Place::First => NodeId(1),
        Place::Second => NodeId(2),
    };
    let mut objects = (0..).map(|key: u32| slow(&key.to_string()));
    let is_there = |object: &Named| wanted(view.partition(&object.id), view, 3)[0].node == node;
    objects.find(is_there).expect("keys do not end")
}

/// The primary hands an object's partition over while it executes calls, and the next primary has some, too.
pub fn a_hand_over_and_calls() {
    let (mut cluster, object, mut client) = Cluster::new(Place::Second);
    let partition = cluster.shells[0].node.view().partition(&object.id);
    let is_join = move |command: &Command| matches!(command, Command::Reconfigure { partition: id, .. } if *id == partition);
    // The second server has joined the partition; the next step is the hand-over.
    let command = cluster
        .settle(&is_join)
        .expect("the other server is to join");
    let view = cluster.decide(&command);
    let [one, two] = cluster.shells.clone();
    for shell in [&one, &two] {
        Thread::new(shell, cluster.now).input(Input::View(view.clone()));
    }
    let now = cluster.now;
    let caller = {
        let (one, object) = (one.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&one, now);
            let calls = [(); 2].map(|()| client.send(&mut thread, object.call("add", &())));
            (client, calls)
        })
    };
    let moving = {
        let object = object.clone();
        thread::spawn(move || {
            let view = cluster.hand_over(&is_join);
            let [one, two] = cluster.shells.clone();
            Thread::new(&one, cluster.now).input_only(Input::View(view.clone()));
            let mut thread = Thread::new(&two, cluster.now);
            let mut client = Client::connect_by(&mut thread, 2, view.routes_version.0);
            let call = client.send(&mut thread, object.call("add", &()));
            thread.input_only(Input::View(view));
            for link in &cluster.links {
                link.deliver(cluster.now);
            }
            (cluster, client, call)
        })
    };
    let (client, calls) = caller.join().unwrap();
    let (mut cluster, other, call) = moving.join().unwrap();
    cluster.settle(&|_| false);
    // What the first server has not executed is sent to the second one.
    let mut thread = Thread::new(&two, cluster.now);
    let again = client.reconnect(&mut thread);
    let moved: BTreeSet<Sequence> = client.moved().into_iter().collect();
    for call in calls {
        let is_answered = client.reply(call).is_some();
        assert!(
            is_answered != moved.contains(&call),
            "{call:?} has no answer, or two"
        );
        if !is_answered {
            again.repeat(&mut thread, call.0, object.call("add", &()));
        }
    }
    cluster.settle(&|_| false);
    let mut values = vec![other.result::<u64>(call).unwrap()];
    for call in calls {
        let client = if moved.contains(&call) {
            &again
        } else {
            &client
        };
        values.push(client.result(call).unwrap());
    }
    values.sort_unstable();
    assert_eq!(values, [0, 1, 2], "a call is lost, or was executed twice");
    let versions = cluster.shells.clone().map(|shell| {
        let version = shell.node.look_at(&object.id, |replica| replica.version);
        version.expect("the object is at both servers")
    });
    assert_eq!(
        versions[0], versions[1],
        "the servers have different states"
    );
    for shell in &cluster.shells {
        shell.check();
    }
}

/// The control group gives an object's partition to another server while its primary executes a call.
pub fn a_term_that_ends() {
    let shell = Shell::alone();
    let mut main = Thread::new(&shell, NOW);
    let object = slow("passed on");
    let mut client = Client::connect(&mut main, 1);
    client
        .ask::<bool>(&mut main, object.open(OpenMode::FindOrCreate))
        .unwrap();
    let mut control = Control::new(PARTITIONS);
    join(&mut control, 1);
    let view = join(&mut control, 2);
    let partition = view.partition(&object.id);
    let assignments = [(0, 2), (1, 1)].map(|(rank, node)| {
        let node = NodeId(node);
        (Assignment { rank, node }, Incarnation(1))
    });
    let command = Command::Reconfigure {
        partition,
        epoch: view.configuration(partition).epoch,
        assignments: assignments.to_vec(),
    };
    control.apply(&command).unwrap();
    let view = control.view().clone();
    let caller = {
        let (shell, object) = (shell.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&shell, NOW);
            let call = client.send(&mut thread, object.call("add", &()));
            (client, call)
        })
    };
    main.input_only(Input::View(view));
    let (client, call) = caller.join().unwrap();
    main.serve();
    let is_moved = client.moved().contains(&call);
    match client.reply(call) {
        Some(result) => {
            result.unwrap();
            assert!(!is_moved, "the call has two answers");
            let version = shell.node.look_at(&object.id, |replica| replica.version);
            let change = version.expect("the object is here").change;
            assert_eq!(change, 2, "a call is answered whose change has no version");
        }
        None => assert!(is_moved, "the call has no answer"),
    }
    shell.check();
}

/// Changes go to a backup from two event loops, while messages of the backup come.
pub fn changes_and_acknowledgements() {
    let (mut cluster, object, client) = Cluster::new(Place::First);
    cluster.settle(&|_| false);
    let now = cluster.now;
    let [one, _] = cluster.shells.clone();
    let other = Client::connect(&mut Thread::new(&one, now), 2);
    let call = |mut client: Client| {
        let (one, object) = (one.clone(), object.clone());
        thread::spawn(move || {
            let mut thread = Thread::new(&one, now);
            let call = client.send(&mut thread, object.call("add", &()));
            (client, call)
        })
    };
    let callers = [call(client), call(other)];
    for _ in 0..3 {
        for link in &cluster.links {
            link.deliver(now);
        }
    }
    let callers = callers.map(|caller| caller.join().unwrap());
    while cluster.links.iter().any(|link| link.deliver(now)) {}
    let mut values = callers.map(|(client, call)| client.result::<u64>(call).unwrap());
    values.sort_unstable();
    assert_eq!(values, [0, 1]);
    for shell in &cluster.shells {
        shell.check();
        assert_eq!(
            shell.node.status().divergences,
            0,
            "the backup has another state"
        );
    }
}

#[test]
fn a_change_has_its_version_in_its_term() {
    explore(1000, a_term_that_ends);
}

#[test]
fn a_hand_over_while_calls_execute_loses_none() {
    explore(300, a_hand_over_and_calls);
}

#[test]
fn changes_reach_a_backup_in_their_order() {
    explore(300, changes_and_acknowledgements);
}
