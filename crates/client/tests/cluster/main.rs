//! A client and several servers: its connections, and its threads and tasks that wait.

mod script;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crucial_client::Client;
use crucial_object::caller::Caller;
use crucial_object::{Error, ThreadId};
use crucial_proto::frame::{Attempt, Operation};

use script::{PARTITIONS, Script, add, routes, scripts, start, value, wait_routes};

fn not_ready() -> Error {
    Error::Unavailable {
        address: "the server".to_owned(),
        reason: "it starts".to_owned(),
    }
}

fn attempt(number: u32, exactly_once: bool) -> Attempt {
    Attempt {
        thread: ThreadId([3; 16]),
        number,
        exactly_once,
    }
}

#[test]
fn threads_call_all_servers_at_once() {
    let scripts = scripts::<3>();
    let client = scripts[0].client();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for call in 0..300 {
                    add(&client, call % PARTITIONS).unwrap();
                }
            });
        }
    });
    let calls = scripts.each_ref().map(|script| script.with(|s| s.calls));
    assert_eq!(calls, [600, 300, 300]);
}

#[test]
fn calls_that_wait_follow_their_object() {
    let scripts = scripts::<2>();
    let client = scripts[0].client();
    scripts[0].with(|state| state.holds = true);
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| add(&client, 0).unwrap()))
            .collect();
        scripts[0].wait("they wait", |state| state.calls == 3);
        let newer = routes(2, &scripts, |_| Some(1));
        scripts
            .iter()
            .for_each(|s| s.with(|state| state.tell(&newer)));
        let mut values: Vec<i64> = waiting.into_iter().map(|w| w.join().unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, [1, 2, 3]);
    });
}

#[test]
fn the_calls_of_a_server_that_is_silent_or_dies_go_where_others_say() {
    for dies in [false, true] {
        let scripts = scripts::<2>();
        let client = scripts[0].client();
        add(&client, 0).unwrap();
        scripts[1].with(|state| assert!(state.hellos.is_empty()));
        match dies {
            true => scripts[0].kill(),
            false => scripts[0].with(|state| state.is_silent = true),
        }
        let newer = routes(2, &scripts[1..], |_| Some(0));
        let newer = crucial_proto::frame::Routes {
            cluster: client.routes().cluster,
            ..newer
        };
        scripts[1].with(|state| state.routes = Some(newer));
        thread::scope(|scope| {
            // One of them reads, the others wait for that one.
            let waiting: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| add(&client, 0).unwrap()))
                .collect();
            let mut values: Vec<i64> = waiting.into_iter().map(|w| w.join().unwrap()).collect();
            values.sort_unstable();
            assert_eq!(values, [1, 2, 3]);
        });
        scripts[0].kill();
    }
}

#[test]
fn a_call_that_waits_is_asked_for_again_on_a_new_connection() {
    let scripts = scripts::<2>();
    let client = scripts[0].client();
    scripts[0].with(|state| state.holds = true);
    let waiting = start(&client, 0);
    scripts[0].wait("it waits", |state| state.calls == 1);
    for round in 0..10 {
        assert_eq!(add(&client, 1).unwrap(), round + 1);
        scripts[round as usize % 2].cut();
    }
    scripts[0].wait("it is asked for again", |state| {
        state.calls > 1 && state.hellos.len() > 1
    });
    scripts[0].with(|state| state.holds = false);
    client.break_connection();
    assert!(value(waiting).is_ok());
}

#[test]
fn calls_that_were_moved_are_sent_again() {
    let scripts = scripts::<2>();
    let client = scripts[0].client();
    scripts[0].with(|state| (state.moves, state.moves_to) = (6, 1));
    let began = Instant::now();
    let pending: Vec<_> = (0..20).map(|_| start(&client, 0)).collect();
    // Others are not held up.
    assert_eq!(add(&client, 1).unwrap(), 1);
    for pending in pending {
        value(pending).unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(4));
    // Routes that do not come are asked for elsewhere.
    scripts[0].with(|state| (state.moves, state.moves_to) = (1_000_000, 2));
    let newer = routes(2, &scripts, |_| Some(1));
    scripts[1].with(|state| state.routes = Some(newer));
    scripts[1].cut();
    assert_eq!(add(&client, 0).unwrap(), 2);
}

#[test]
fn tasks_get_results_from_all_servers() {
    let scripts = scripts::<3>();
    let client = scripts[0].client();
    scripts
        .iter()
        .for_each(|s| s.with(|state| state.holds = true));
    let mut pending: Vec<_> = (0..PARTITIONS).map(|p| start(&client, p)).collect();
    let woken = Arc::new(Woken(thread::current(), AtomicBool::new(false)));
    let waker = woken.clone().into();
    let mut context = std::task::Context::from_waker(&waker);
    pending.retain_mut(|of| of.poll(&mut context).is_pending());
    assert_eq!(pending.len(), PARTITIONS);
    for (place, script) in scripts.iter().enumerate() {
        let calls = (0..PARTITIONS).filter(|p| p % 3 == place).count() as i64;
        script.wait("they wait", |state| state.calls == calls);
        script.release();
    }
    while !pending.is_empty() {
        while !woken.1.swap(false, Ordering::AcqRel) {
            thread::park();
        }
        pending.retain_mut(|of| of.poll(&mut context).is_pending());
    }
}

struct Woken(thread::Thread, AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::Release);
        self.0.unpark();
    }
}

#[test]
fn the_first_server_that_answers_will_do() {
    let scripts = scripts::<3>();
    scripts[0].kill();
    let mut config = scripts[0].config();
    config.seeds = vec![scripts[1].config().endpoint, scripts[2].config().endpoint];
    let client = Client::connect(config).unwrap();
    assert_eq!(add(&client, 1).unwrap(), 1);
    assert_eq!(client.endpoint(), &scripts[0].config().endpoint);
    let seeds = client.seeds();
    assert!(scripts.iter().all(|s| seeds.contains(&s.config().endpoint)));
    assert_eq!(seeds.len(), 3);
}

#[test]
fn a_server_that_is_silent_from_the_start_is_not_waited_for() {
    let scripts = scripts::<2>();
    scripts[0].with(|state| state.is_silent = true);
    let mut config = scripts[0].config();
    config.seeds = vec![scripts[1].config().endpoint];
    let client = Client::connect(config).unwrap();
    assert_eq!(add(&client, 1).unwrap(), 1);
    scripts[0].kill();
}

#[test]
fn the_error_names_all_servers_that_are_not_there() {
    let scripts = scripts::<2>();
    scripts.iter().for_each(Script::kill);
    let mut config = scripts[0].config();
    let addresses = [config.endpoint.clone(), scripts[1].config().endpoint];
    config.seeds = vec![addresses[1].clone()];
    let error = Client::connect(config).map(drop).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }));
    for address in addresses {
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}

#[test]
fn when_all_members_have_changed_the_seeds_are_asked() {
    let scripts = scripts::<2>();
    let seed = Script::new(3);
    let mut config = scripts[0].config();
    config.seeds = vec![seed.config().endpoint];
    let client = Client::connect(config).unwrap();
    assert_eq!(add(&client, 0).unwrap(), 1);
    let newer = crucial_proto::frame::Routes {
        cluster: client.routes().cluster,
        ..routes(2, std::slice::from_ref(&seed), |_| Some(0))
    };
    seed.with(|state| state.routes = Some(newer));
    scripts.iter().for_each(Script::kill);
    assert_eq!(add(&client, 0).unwrap(), 1);
    assert_eq!(client.routes().version, 2);
}

#[test]
fn a_server_that_is_not_ready_is_tried_again() {
    let scripts = scripts::<2>();
    for script in &scripts {
        script.with(|state| state.refuse = vec![not_ready(); 3]);
    }
    let client = scripts[0].client();
    assert_eq!(add(&client, 0).unwrap(), 1);
    assert_eq!(add(&client, 1).unwrap(), 1);
    scripts[1].with(|state| assert_eq!(state.hellos.len(), 4));
}

#[test]
fn calls_fail_when_patience_ends_and_others_go_on() {
    let scripts = scripts::<2>();
    let mut config = scripts[0].config();
    config.patience = Duration::from_millis(300);
    let client = Client::connect(config).unwrap();
    assert_eq!(add(&client, 0).unwrap(), 1);
    assert_eq!(add(&client, 1).unwrap(), 1);
    scripts[1].kill();
    let began = Instant::now();
    let away = start(&client, 1);
    assert_eq!(add(&client, 0).unwrap(), 2);
    assert!(matches!(value(away), Err(Error::Unavailable { .. })));
    assert!(began.elapsed() >= Duration::from_millis(250));
    assert_eq!(add(&client, 0).unwrap(), 3);
}

#[test]
fn a_server_of_another_cluster_fails_its_calls_and_no_others() {
    let scripts = scripts::<2>();
    let client = scripts[0].client();
    let stranger = scripts[1].with(|state| {
        let routes = state.routes.as_mut().unwrap();
        routes.cluster += 1;
        routes.clone()
    });
    assert!(matches!(add(&client, 1), Err(Error::Protocol { .. })));
    assert_eq!(add(&client, 0).unwrap(), 1);
    // A slip of the other one, on a connection that is there.
    scripts[0].with(|state| state.holds = true);
    let waiting = start(&client, 0);
    scripts[0].wait("it waits", |state| state.calls == 2);
    scripts[0].with(|state| {
        let ours = state.routes.clone();
        state.tell(&crucial_proto::frame::Routes {
            version: 9,
            ..stranger
        });
        state.routes = ours;
        state.holds = false;
    });
    assert!(matches!(value(waiting), Err(Error::Protocol { .. })));
    assert_eq!(add(&client, 0).unwrap(), 3);
}

#[test]
fn a_client_that_is_fenced_at_one_server_is_fenced() {
    let scripts = scripts::<2>();
    let client = scripts[0].client();
    scripts[0].with(|state| state.holds = true);
    let waiting = start(&client, 0);
    scripts[1].with(|state| state.refuse = vec![Error::Fenced]);
    assert_eq!(add(&client, 1), Err(Error::Fenced));
    assert_eq!(value(waiting), Err(Error::Fenced));
    assert!(client.has_ended());
    assert_eq!(add(&client, 0), Err(Error::Fenced));
}

#[test]
fn an_owner_gives_signs_of_life_to_all_servers_and_others_where_their_objects_are() {
    let scripts = scripts::<3>();
    let mut config = scripts[0].config();
    config.owner = true;
    let owner = Client::connect(config).unwrap();
    for script in &scripts {
        script.wait("signs", |state| state.count(&Operation::Ping) >= 2);
    }
    drop(owner);
    let client = scripts[0].client();
    add(&client, 0).unwrap();
    let hellos = scripts[2].with(|state| state.hellos.len());
    // The object moves without a call.
    let newer = routes(2, &scripts, |_| Some(2));
    scripts[0].with(|state| state.tell(&newer));
    scripts[2].wait("a hello", |state| state.hellos.len() > hellos);
}

#[test]
fn some_requests_go_to_all_servers() {
    let scripts = scripts::<3>();
    let client = scripts[0].client();
    assert_eq!(client.clear_namespace().unwrap(), 1 + 2 + 3);
    client.begin_thread(attempt(2, false)).unwrap();
    client.fence_thread(ThreadId([4; 16])).unwrap();
    client.fence_thread_soon(ThreadId([6; 16])).unwrap();
    for script in &scripts {
        script.wait("fences", |state| state.heard.len() >= 4);
        script.with(|state| assert_eq!(state.count(&Operation::Begin(attempt(2, false))), 1));
    }
    // One that is silent is not waited for.
    scripts[2].with(|state| state.is_silent = true);
    client.goodbye().unwrap();
    assert_eq!(scripts[1].with(|s| s.count(&Operation::Goodbye)), 1);
    assert_eq!(add(&client, 0), Err(Error::Cancelled));
    scripts[2].kill();
}

#[test]
fn a_first_attempt_begins_where_there_are_connections() {
    let scripts = scripts::<2>();
    let client = scripts[0].client();
    client.begin_thread(attempt(1, false)).unwrap();
    scripts[1].with(|state| assert!(state.hellos.is_empty()));
    add(&client, 1).unwrap();
    let said = scripts[1].with(|state| state.hellos[0].attempt);
    assert_eq!(said, Some(attempt(1, false)));
}

#[test]
fn a_later_attempt_of_an_exactly_once_thread_shows_itself_to_all_servers() {
    let scripts = scripts::<3>();
    for number in 1..=2 {
        let mut config = scripts[0].config();
        config.exactly_once = Some(attempt(number, true));
        let client = Client::connect(config).unwrap();
        add(&client, 0).unwrap();
    }
    for script in &scripts {
        script.with(|state| assert_eq!(state.count(&Operation::Ping), 1));
    }
}

#[test]
fn a_server_that_leaves_meanwhile_does_not_count_and_one_that_comes_does() {
    let [first, second, third] = scripts::<3>();
    let client = first.client();
    second.with(|state| state.is_silent = true);
    thread::scope(|scope| {
        let clearing = scope.spawn(|| client.clear_namespace().unwrap());
        first.wait("one is asked", |state| {
            state.count(&Operation::ClearNamespace) == 1
        });
        let fourth = Script::new(4);
        let newer = routes(2, &[first.clone(), third.clone(), fourth.clone()], |_| {
            Some(0)
        });
        fourth.with(|state| state.routes = Some(newer.clone()));
        first.with(|state| state.tell(&newer));
        wait_routes(&client, 2);
        assert_eq!(clearing.join().unwrap(), 1 + 3 + 4);
    });
    second.kill();
}
