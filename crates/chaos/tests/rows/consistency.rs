//! What clients see while servers fail.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial::collections::Queue;
use crucial::sync::{AtomicI64, Barrier, Semaphore};
use crucial::{Error, Shared};
use crucial_chaos::load::{Load, LoadOptions};
use crucial_chaos::long::Sleeper;
use crucial_object::{MethodId, ObjectId, RunId, Sequence, SessionId, caller};
use crucial_proto::frame::{self, CallFrame, Hello, OpenMode, OpenRequest, Response};
use crucial_testing::{Cluster, Net, Options, wait_until};
use libtest_mimic::{Failed, Trial};

use crate::{Outcome, PATIENCE, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        d01_each_object_is_on_as_many_servers_as_it_asks_for,
        d02_any_server_is_an_entry,
        d03_no_acknowledged_change_is_lost_when_a_server_is_killed,
        d04_two_of_five_servers_are_killed_at_once,
        d05_an_object_of_one_replica_is_lost_with_its_server_and_says_so,
        d12_waiting_calls_survive_a_fail_over,
        d13_a_failure_is_noticed_in_seconds,
        d13_a_long_method_holds_up_no_other_object_at_a_fail_over,
        d14_the_minority_side_of_a_partition_serves_nothing,
        d15_a_paused_primary_that_wakes_up_serves_no_stale_read,
        c14_what_a_dead_client_held_comes_back_after_a_fail_over,
    ]
}

fn number(key: &str, replicas: u8) -> crucial::Result<Shared<AtomicI64>> {
    Shared::builder(key)
        .persistent()
        .replicas(replicas)
        .create(AtomicI64::new(0))
}

fn d01_each_object_is_on_as_many_servers_as_it_asks_for() -> Outcome {
    let cluster = Cluster::start(3)?;
    let client = cluster.client(0)?;
    caller::with(client.clone(), || -> crucial::Result<()> {
        for replicas in 1..=3 {
            number(&format!("d01-{replicas}"), replicas)?;
        }
        Shared::named("d01-of-run", AtomicI64::new(0))?;
        Shared::builder("d01-persistent")
            .persistent()
            .create(AtomicI64::new(0))?;
        Ok(())
    })?;
    let places = |key: &str| -> crucial::Result<usize> {
        let infos = client.object_infos(None, 10, Some(key.to_owned()))?;
        assert_eq!(infos.len(), 1, "{key}: {infos:?}");
        Ok(infos[0].servers.len())
    };
    for replicas in 1..=3 {
        assert_eq!(places(&format!("d01-{replicas}"))?, replicas);
    }
    assert_eq!(places("d01-of-run")?, 1);
    assert_eq!(places("d01-persistent")?, 2);
    let too_many = caller::with(client, || number("d01-4", 4)).map(drop);
    assert!(
        matches!(&too_many, Err(Error::LimitExceeded { limit, .. }) if limit == "REPLICAS_MAX"),
        "{too_many:?}"
    );
    Ok(())
}

fn d02_any_server_is_an_entry() -> Outcome {
    let cluster = Cluster::start(3)?;
    for entry in 0..3 {
        let client = cluster.client_with(entry, |config| config.seeds.clear())?;
        let values = caller::with(client.clone(), || {
            (0..20)
                .map(|index| number(&format!("d02-{index}"), 2)?.fetch_add(1))
                .collect::<crucial::Result<Vec<_>>>()
        })?;
        assert_eq!(values, [entry as i64; 20]);
        client.goodbye()?;
    }
    Ok(())
}

fn d03_no_acknowledged_change_is_lost_when_a_server_is_killed() -> Outcome {
    let mut cluster = Cluster::start(3)?;
    let load = Load::start(&cluster, &LoadOptions::default())?;
    for victim in [0, 1, 2] {
        load.await_calls(200, PATIENCE)?;
        cluster.kill(victim)?;
        load.await_calls(200, PATIENCE)?;
        cluster.restart(victim)?;
        cluster.wait_whole()?;
    }
    let seen = load.finish()?;
    assert_eq!(seen.undecided, 0);
    Ok(())
}

fn d04_two_of_five_servers_are_killed_at_once() -> Outcome {
    let mut cluster = Cluster::start(5)?;
    let options = LoadOptions {
        replicas: 3,
        ..LoadOptions::default()
    };
    let load = Load::start(&cluster, &options)?;
    load.await_calls(200, PATIENCE)?;
    cluster.kill(1)?;
    cluster.kill(3)?;
    load.await_calls(500, PATIENCE)?;
    cluster.wait_whole()?;
    let seen = load.finish()?;
    assert_eq!(seen.undecided, 0);
    Ok(())
}

fn d05_an_object_of_one_replica_is_lost_with_its_server_and_says_so() -> Outcome {
    const OBJECTS: usize = 60;
    let mut cluster = Cluster::start(3)?;
    let client = cluster.client(1)?;
    let (ones, twos) = caller::with(client.clone(), || -> crucial::Result<_> {
        let of = |replicas: u8| {
            (0..OBJECTS)
                .map(|index| {
                    let object = number(&format!("d05-{replicas}-{index}"), replicas)?;
                    object.fetch_add(7)?;
                    Ok(object)
                })
                .collect::<crucial::Result<Vec<_>>>()
        };
        Ok((of(1)?, of(2)?))
    })?;
    let on_victim: Vec<bool> = ones
        .iter()
        .map(|object| Ok(cluster.primary(object)? == 0))
        .collect::<crucial_testing::Result<_>>()?;
    cluster.kill(0)?;
    caller::with(client.clone(), || -> Outcome {
        for (object, was_there) in ones.iter().zip(&on_victim) {
            match (object.load(), was_there) {
                (Ok(7), false) | (Err(Error::Lost { .. }), true) => {}
                (other, was_there) => panic!("{other:?}, and it was on the victim: {was_there}"),
            }
        }
        for object in &twos {
            assert_eq!(object.load()?, 7);
        }
        // Nothing that was lost comes back empty.
        let lost = on_victim.iter().position(|was_there| *was_there);
        let lost = lost.expect("some were on the victim");
        let again = number(&format!("d05-1-{lost}"), 1);
        assert!(matches!(again, Err(Error::Lost { .. })), "{again:?}");
        let anew = Shared::builder(format!("d05-1-{lost}"))
            .persistent()
            .recreate();
        assert_eq!(anew.create(AtomicI64::new(1))?.load()?, 1);
        Ok(())
    })?;
    let lost = on_victim.iter().filter(|was_there| **was_there).count();
    assert!(
        (5..OBJECTS - 5).contains(&lost),
        "{lost} of {OBJECTS} were on one of three"
    );
    Ok(())
}

fn d12_waiting_calls_survive_a_fail_over() -> Outcome {
    let mut cluster = Cluster::start(3)?;
    let client = cluster.client(0)?;
    let persistent = |key: &str| Shared::<Barrier>::builder(key).persistent();
    let (barrier, queue, permits) = caller::with(client.clone(), || -> crucial::Result<_> {
        let queue: Shared<Queue<u64>> = Shared::builder("d12-queue")
            .persistent()
            .create(Queue::default())?;
        let permits = Shared::builder("d12-permits")
            .persistent()
            .create(Semaphore::new(0))?;
        Ok((
            persistent("d12-barrier").create(Barrier::new(3))?,
            queue,
            permits,
        ))
    })?;
    let waiter = |entry: usize| cluster.client(entry);
    let (one, two, three, four) = (waiter(0)?, waiter(1)?, waiter(2)?, waiter(0)?);
    let threads = [
        spawn(one, {
            let barrier = barrier.clone();
            move || barrier.wait().map(|_| 0)
        }),
        spawn(two, {
            let barrier = barrier.clone();
            move || barrier.wait().map(|_| 0)
        }),
        spawn(three, {
            let queue = queue.clone();
            move || queue.pop().map(Option::unwrap_or_default)
        }),
        spawn(four, {
            let permits = permits.clone();
            move || permits.acquire().map(|_| 0)
        }),
    ];
    caller::with(client.clone(), || -> Outcome {
        wait_until("all wait", PATIENCE, || Ok(barrier.waiting()? == 2))?;
        Ok(())
    })?;
    let mut victims = vec![cluster.primary(&barrier)?, cluster.primary(&queue)?];
    victims.dedup();
    for victim in victims {
        cluster.kill(victim)?;
        cluster.wait_whole()?;
        cluster.restart(victim)?;
        cluster.wait_whole()?;
    }
    caller::with(client.clone(), || -> Outcome {
        assert_eq!(
            barrier.waiting()?,
            2,
            "nobody is counted twice, and nobody is gone"
        );
        queue.push(12)?;
        permits.release()?;
        barrier.wait()?;
        Ok(())
    })?;
    let got: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().expect("a waiter"))
        .collect::<crucial::Result<_>>()?;
    assert_eq!(got, [0, 0, 12, 0]);
    Ok(())
}

fn spawn(
    client: std::sync::Arc<crucial_client::Client>,
    work: impl FnOnce() -> crucial::Result<u64> + Send + 'static,
) -> std::thread::JoinHandle<crucial::Result<u64>> {
    std::thread::spawn(move || caller::with(client, work))
}

fn d13_a_failure_is_noticed_in_seconds() -> Outcome {
    let mut cluster = Cluster::start(3)?;
    let client = cluster.client(0)?;
    let object = caller::with(client.clone(), || number("d13", 2))?;
    let victim = cluster.primary(&object)?;
    cluster.kill(victim)?;
    let started = Instant::now();
    caller::with(client, || object.fetch_add(1))?;
    let pause = started.elapsed();
    assert!(pause < Duration::from_secs(10), "{pause:?}");
    Ok(())
}

fn d13_a_long_method_holds_up_no_other_object_at_a_fail_over() -> Outcome {
    const LONG: Duration = Duration::from_secs(20);
    let mut cluster = Cluster::start(3)?;
    let client = cluster.client(0)?;
    let sleeper = caller::with(client.clone(), || {
        Shared::builder("d13-long")
            .persistent()
            .replicas(3)
            .create(Sleeper::default())
    })?;
    // Another object of the same partition: the ids begin with the same ten bits.
    let partition = |id: ObjectId| u16::from_be_bytes([id.0[0], id.0[1]]) >> 6;
    let neighbour = |index: usize| {
        let key = format!("d13-{index}");
        let open = OpenRequest {
            type_name: "crucial::AtomicI64".to_owned(),
            key: key.clone(),
            persistent: true,
            mode: OpenMode::FindOrCreate,
            replicas: 3,
            state: Vec::new(),
        };
        let id = open.object(&RunId([0; 16]), "default");
        (partition(id) == partition(sleeper.id())).then_some(key)
    };
    let key = (0..).find_map(neighbour).ok_or("no key")?;
    let other = caller::with(client.clone(), || number(&key, 3))?;
    assert_eq!(partition(other.id()), partition(sleeper.id()));
    assert_eq!(caller::with(client.clone(), || other.fetch_add(1))?, 0);
    let primary = cluster.primary(&sleeper)?;
    // The backups have the call when it is answered, and begin to execute it then.
    let nap = || sleeper.nap(LONG.as_millis() as u64);
    assert_eq!(caller::with(client.clone(), nap)?, 1);
    let begun = Instant::now();
    cluster.kill(primary)?;
    assert_eq!(caller::with(client.clone(), || other.fetch_add(1))?, 1);
    let pause = begun.elapsed();
    println!(
        "the other object answered after {:.1} s",
        pause.as_secs_f64()
    );
    // Two leases, and what a busy machine needs.
    assert!(pause < LONG / 3, "{pause:?}");
    // Nor is the backup, which sleeps, taken for silent.
    let silence = Duration::from_secs(6);
    while begun.elapsed() < silence {
        caller::with(client.clone(), || other.fetch_add(1))?;
    }
    let place = (primary + 1) % 3;
    let number_of_servers = |info: &crucial_proto::frame::ClusterInfo| {
        info.partitions[usize::from(partition(other.id()))]
            .assignments
            .len()
    };
    assert_eq!(number_of_servers(&cluster.info(place)?), 2);
    // The call was executed where the object is now, too.
    assert_eq!(caller::with(client, || sleeper.nap(0))?, 2);
    assert!(begun.elapsed() > LONG - Duration::from_secs(2));
    Ok(())
}

fn d14_the_minority_side_of_a_partition_serves_nothing() -> Outcome {
    let Some(net) = Net::namespaces(3) else {
        eprintln!("d14: no network namespaces here: the cut is made by stopping the server (d15)");
        return Ok(());
    };
    let mut cluster = Cluster::start_with(3, net, Options::default())?;
    let object = cluster.with(|| number("d14", 2))?;
    let primary = cluster.primary(&object)?;
    let others: Vec<_> = (0..3).filter(|index| *index != primary).collect();
    // Clients of both sides reach their servers.
    let minority = cluster.client_with(primary, |config| {
        config.seeds.clear();
        config.patience = Duration::from_secs(5);
    })?;
    let majority = cluster.client(others[0])?;
    let add = |client: &std::sync::Arc<crucial_client::Client>, value| {
        caller::with(client.clone(), || object.fetch_add(value))
    };
    add(&minority, 1)?;
    add(&majority, 10)?;
    assert!(asked_directly(
        &cluster.place(primary).address,
        object.id()
    )?);
    for other in &others {
        cluster.net().cut(primary as u8, *other as u8);
        cluster.net().cut(*other as u8, primary as u8);
    }
    // The majority goes on, with the value that was acknowledged.
    assert_eq!(add(&majority, 100)?, 11);
    // The server that is cut off answers nobody; its client learns of the others, and then sees theirs.
    let served = asked_directly(&cluster.place(primary).address, object.id())?;
    assert!(!served, "it serves without a lease");
    let read = caller::with(minority.clone(), || object.load());
    assert!(
        matches!(read, Ok(111) | Err(Error::Unavailable { .. })),
        "{read:?}"
    );
    for other in &others {
        cluster.net().mend(primary as u8, *other as u8);
        cluster.net().mend(*other as u8, primary as u8);
    }
    cluster.wait_whole()?;
    assert_eq!(add(&majority, 1000)?, 111, "no lost update");
    cluster.kill(others[1])?;
    assert_eq!(add(&majority, 0)?, 1111);
    Ok(())
}

/// Whether a server answers a read of an object, if it is asked whatever the routes say.
fn asked_directly(address: &str, object: ObjectId) -> Result<bool, Failed> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let hello = Hello {
        session: SessionId(14),
        run: RunId([14; 16]),
        owner: true,
        namespace: "default".to_owned(),
        attempt: None,
        // As one that knows all that there is to know.
        routes: 0,
        fences: 0,
    };
    let mut bytes = Vec::new();
    frame::write_hello(&hello, &mut bytes)?;
    stream.write_all(&bytes)?;
    let (mut buffer, mut scratch) = (BytesMut::new(), [0; 65536]);
    loop {
        while let Some(frame) = frame::split(&mut buffer, 1 << 20)? {
            match frame::decode_response(frame)? {
                Response::Welcome(welcome) => {
                    let known = welcome.routes.version;
                    let mut bytes = Vec::new();
                    frame::write_known_routes(known, &mut bytes)?;
                    let call = CallFrame {
                        sequence: Sequence(1),
                        acked: Sequence(1),
                        object,
                        method: MethodId::of("load"),
                        timeout_ms: 0,
                        args: &[],
                    };
                    frame::write_call(&call, &mut bytes)?;
                    stream.write_all(&bytes)?;
                }
                Response::Reply { result: Ok(_), .. } => return Ok(true),
                Response::Reply { result, .. } => return Err(format!("{result:?}").into()),
                Response::Moved { .. } => return Ok(false),
                _ => {}
            }
        }
        match stream.read(&mut scratch) {
            Ok(0) => return Ok(false),
            Ok(count) => buffer.extend_from_slice(&scratch[..count]),
            // The server sends nothing.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

fn d15_a_paused_primary_that_wakes_up_serves_no_stale_read() -> Outcome {
    let mut cluster = Cluster::start(3)?;
    let (reader, writer) = (cluster.client(0)?, cluster.client(1)?);
    let object = caller::with(writer.clone(), || number("d15", 2))?;
    for round in 1..=3 {
        let primary = cluster.primary(&object)?;
        caller::with(writer.clone(), || object.store(round * 10))?;
        cluster.pause(primary)?;
        // Asked while it sleeps, so that it finds the question when it wakes up.
        let question = {
            let (reader, object) = (reader.clone(), object.clone());
            std::thread::spawn(move || caller::with(reader, || object.load()))
        };
        caller::with(writer.clone(), || object.store(round * 10 + 1))?;
        let asked_after = caller::with(writer.clone(), || object.load())?;
        assert_eq!(asked_after, round * 10 + 1);
        cluster.resume(primary)?;
        let answer = question.join().expect("a reader")?;
        assert!([round * 10, round * 10 + 1].contains(&answer), "{answer}");
        // Asked after the write was acknowledged, by the client that knows the woken one.
        let answer = caller::with(reader.clone(), || object.load())?;
        assert_eq!(answer, round * 10 + 1, "a stale read");
        cluster.wait_whole()?;
    }
    Ok(())
}

fn c14_what_a_dead_client_held_comes_back_after_a_fail_over() -> Outcome {
    let options = Options {
        lease_ms: 2000,
        ..Options::default()
    };
    let mut cluster = Cluster::start_with(3, Net::Loopback, options)?;
    let client = cluster.client(0)?;
    let lock = caller::with(client.clone(), || {
        Shared::builder("c14")
            .persistent()
            .create(Semaphore::new(1))
    })?;
    let holder = cluster.client(1)?;
    caller::with(holder.clone(), || lock.acquire())?;
    cluster.kill(cluster.primary(&lock)?)?;
    cluster.wait_whole()?;
    // The client lives, so it keeps the permit, at the new primary too.
    let tried = caller::with(client.clone(), || lock.try_acquire())?;
    assert!(!tried, "held by a live client, and given to another");
    drop(holder);
    caller::with(client, || lock.with_timeout(PATIENCE).acquire())?;
    Ok(())
}
