//! Clients and a server in one process, over real sockets.

use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use crucial_client::{Client, Config};
use crucial_object::sync::{AtomicI64, Barrier, Semaphore};
use crucial_object::{Error, Shared, caller, shared};
use crucial_server::Server;
use serde::{Deserialize, Serialize};

fn server() -> Server {
    Server::start(crucial_server::Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        lease: Duration::from_millis(500),
        ..Default::default()
    })
    .unwrap()
}

fn client(server: &Server) -> Arc<Client> {
    Client::connect(Config::new(server.endpoints()[0].clone())).unwrap()
}

/// Sleeps in a method: the only way to have one that takes long.
#[derive(Serialize, Deserialize, Default)]
struct Sleeper {
    slept: u64,
}

#[shared(crate = crucial_object)]
impl Sleeper {
    fn sleep_ms(&mut self, ms: u64) -> u64 {
        thread::sleep(Duration::from_millis(ms));
        self.slept += ms;
        self.slept
    }

    fn slept(&self) -> u64 {
        self.slept
    }

    fn at_least(&self, ms: u64) -> Poll<u64> {
        if self.slept >= ms {
            Poll::Ready(self.slept)
        } else {
            Poll::Pending
        }
    }
}

/// Runs `f` on `count` threads that share a client.
fn on_threads(client: &Arc<Client>, count: usize, f: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for index in 0..count {
            let f = &f;
            scope.spawn(move || caller::with(client.clone(), || f(index)));
        }
    });
}

#[test]
fn threads_share_a_connection_and_no_increment_is_lost() {
    let server = server();
    let client = client(&server);
    let counter = caller::with(client.clone(), || Shared::new(AtomicI64::new(0)).unwrap());
    on_threads(&client, 16, |_| {
        for _ in 0..2_000 {
            counter.fetch_add(1).unwrap();
        }
    });
    caller::with(client, || assert_eq!(counter.load().unwrap(), 32_000));
}

#[test]
fn a_connection_that_breaks_again_and_again_loses_and_repeats_nothing() {
    let server = server();
    let client = client(&server);
    let counter = caller::with(client.clone(), || Shared::new(AtomicI64::new(0)).unwrap());
    on_threads(&client, 5, |index| {
        for round in 0..1_000 {
            if index == 4 {
                if round % 10 == 0 {
                    client.break_connection();
                }
                client.ping().unwrap();
            } else {
                counter.fetch_add(1).unwrap();
            }
        }
    });
    caller::with(client, || assert_eq!(counter.load().unwrap(), 4_000));
}

#[test]
fn a_long_method_delays_nobody_on_the_same_connection() {
    let server = server();
    let client = client(&server);
    caller::with(client, || {
        let (long, short) = (
            Shared::new(Sleeper::default()).unwrap(),
            Shared::new(AtomicI64::new(0)).unwrap(),
        );
        let pending = long.deferred().sleep_ms(1_000);
        let behind = long.deferred().slept();
        let start = std::time::Instant::now();
        for _ in 0..100 {
            short.fetch_add(1).unwrap();
        }
        assert!(
            start.elapsed() < Duration::from_millis(500),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(behind.wait().unwrap(), 1_000);
        assert_eq!(pending.wait().unwrap(), 1_000);
    });
}

#[test]
fn many_long_methods_at_once() {
    let server = server();
    let client = client(&server);
    caller::with(client, || {
        let start = std::time::Instant::now();
        let sleepers: Vec<_> = (0..20)
            .map(|_| Shared::new(Sleeper::default()).unwrap())
            .collect();
        let pending: Vec<_> = sleepers
            .iter()
            .map(|s| s.deferred().sleep_ms(300))
            .collect();
        for p in pending {
            assert_eq!(p.wait().unwrap(), 300);
        }
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
    });
}

#[test]
fn deferred_calls_take_effect_in_order_and_fill_no_buffer_for_ever() {
    let server = server();
    let client = client(&server);
    caller::with(client, || {
        let list = Shared::new(crucial_object::collections::List::<(u32, Vec<u8>)>::new()).unwrap();
        // 200 MB of requests, with nobody reading replies meanwhile.
        let pending: Vec<_> = (0..2_000)
            .map(|i| list.deferred().push((i, vec![0; 100_000])))
            .collect();
        for p in pending {
            p.wait().unwrap();
        }
        let items = (0..2_000).map(|i| list.get(i).unwrap().unwrap().0);
        assert!(items.eq(0..2_000));
        // And 200 MB of replies.
        let pending: Vec<_> = (0..2_000).map(|i| list.deferred().get(i)).collect();
        for (i, p) in pending.into_iter().enumerate() {
            assert_eq!(p.wait().unwrap().unwrap().0, i as u32);
        }
    });
}

#[test]
fn a_barrier_of_many_threads_on_one_connection_opens_round_after_round() {
    let server = server();
    let client = client(&server);
    let barrier = caller::with(client.clone(), || Shared::new(Barrier::new(50)).unwrap());
    on_threads(&client, 50, |_| {
        for _ in 0..20 {
            barrier.wait().unwrap();
        }
    });
}

#[test]
fn a_waiting_call_times_out_is_cancelled_and_survives_a_broken_connection() {
    let server = server();
    let client = client(&server);
    caller::with(client.clone(), || {
        let semaphore = Shared::new(Semaphore::new(0)).unwrap();
        let timed = semaphore.with_timeout(Duration::from_millis(50)).acquire();
        assert_eq!(
            timed,
            Err(Error::TimedOut {
                after: Duration::from_millis(50)
            })
        );
        assert_eq!(semaphore.waiting().unwrap(), 0);

        let dropped = semaphore.deferred().acquire();
        assert_eq!(semaphore.waiting().unwrap(), 1);
        drop(dropped);
        assert_eq!(semaphore.waiting().unwrap(), 0);

        let kept = semaphore.deferred().acquire();
        assert_eq!(semaphore.waiting().unwrap(), 1);
        client.break_connection();
        assert_eq!(semaphore.waiting().unwrap(), 1);
        semaphore.release_many(2).unwrap();
        kept.wait().unwrap();
        assert_eq!(semaphore.available_permits().unwrap(), 1);
    });
}

#[test]
fn async_tasks_get_their_results_though_no_thread_waits() {
    let server = server();
    let client = client(&server);
    caller::with(client, || {
        let sleeper = Shared::new(Sleeper::default()).unwrap();
        let waiting = sleeper.deferred().at_least(10);
        let slept = sleeper.deferred().sleep_ms(10);
        let (slept, waited) = block_on(async { (slept.await, waiting.await) });
        assert_eq!((slept.unwrap(), waited.unwrap()), (10, 10));
    });
}

/// The smallest executor.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

#[test]
fn an_owner_that_falls_silent_takes_its_objects_along() {
    let server = server();
    {
        let client = client(&server);
        caller::with(client.clone(), || {
            Shared::named("gone", AtomicI64::new(1)).unwrap()
        });
        assert_eq!(server.status().node.objects, 1);
        // Dropped without a goodbye, as by kill -9.
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while server.status().node.objects > 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "{:?}",
            server.status()
        );
        thread::yield_now();
    }
}

#[test]
fn a_server_that_is_gone_is_an_error_and_not_a_hang() {
    let server = server();
    let mut config = Config::new(server.endpoints()[0].clone());
    config.patience = Duration::from_millis(200);
    let client = Client::connect(config).unwrap();
    caller::with(client, || {
        let counter = Shared::new(AtomicI64::new(0)).unwrap();
        server.stop();
        assert!(matches!(counter.load(), Err(Error::Unavailable { .. })));
    });
}

#[test]
fn a_server_that_restarted_lost_the_objects_and_says_so() {
    let first = server();
    let endpoint = first.endpoints()[0].clone();
    let client = client(&first);
    caller::with(client, || {
        let counter = Shared::named("counter", AtomicI64::new(0)).unwrap();
        first.stop();
        let _second = Server::start(crucial_server::Config {
            listen: vec![endpoint],
            ..Default::default()
        })
        .unwrap();
        let mut answers = vec![counter.load(), counter.load()];
        answers.retain(|answer| *answer != Err(Error::SessionExpired));
        assert!(
            matches!(answers.pop(), Some(Err(Error::Lost { object })) if object.contains("counter"))
        );
    });
}

#[test]
fn records_are_bounded_while_a_thread_of_the_client_waits_for_long() {
    let server = server();
    let client = client(&server);
    caller::with(client, || {
        let barrier = Shared::new(Barrier::new(2)).unwrap();
        let counter = Shared::new(AtomicI64::new(0)).unwrap();
        let waiting = barrier.deferred().wait();
        let mut most = 0;
        for round in 0..50 {
            for _ in 0..1_000 {
                counter.fetch_add(1).unwrap();
            }
            most = most.max(server.status().node.records);
            assert_eq!(counter.load().unwrap(), 1_000 * (round + 1));
        }
        assert!(most < 10_000, "{most} records");
        barrier.wait().unwrap();
        waiting.wait().unwrap();
    });
}

#[test]
fn records_of_sessions_that_ended_are_bounded() {
    let server = server();
    let owner = client(&server);
    let counter = caller::with(owner.clone(), || Shared::new(AtomicI64::new(0)).unwrap());
    for _ in 0..500 {
        let client = client(&server);
        caller::with(client.clone(), || counter.fetch_add(1).unwrap());
        client.goodbye().unwrap();
    }
    caller::with(owner, || assert_eq!(counter.load().unwrap(), 500));
    assert!(server.status().node.records < 100, "{:?}", server.status());
}

#[test]
fn time_outs_that_were_not_needed_do_not_pile_up() {
    let server = server();
    let client = client(&server);
    caller::with(client, || {
        let semaphore = Shared::new(Semaphore::new(0)).unwrap();
        let patient = semaphore.with_timeout(Duration::from_secs(3600));
        for _ in 0..5_000 {
            let waiting = patient.deferred().acquire();
            semaphore.release().unwrap();
            waiting.wait().unwrap();
        }
        // The next timeout wakes the server's timers, which drop the old ones.
        let short = semaphore.with_timeout(Duration::from_millis(1)).acquire();
        assert!(matches!(short, Err(Error::TimedOut { .. })));
        assert!(
            server.status().node.deadlines < 2_500,
            "{:?}",
            server.status()
        );
    });
}
