//! A control group that has lost its majority for ever, and one whose leader is busy.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crucial::sync::AtomicI64;
use crucial::{Shared, shared};
use crucial_object::caller;
use crucial_testing::{Cluster, wait_until};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::{Outcome, PATIENCE, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        the_server_that_is_left_is_rescued_with_its_objects,
        a_busy_leader_takes_nobody_for_dead,
    ]
}

/// Says what it was called with, later.
#[derive(Default, Serialize, Deserialize)]
struct Sleeper;

#[shared]
impl Sleeper {
    /// A method that takes its time.
    fn sleep(&self, ms: u64) -> u64 {
        // The row is about methods that take this long; nothing is waited for.
        std::thread::sleep(Duration::from_millis(ms));
        ms
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => drop(std::fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}

fn the_server_that_is_left_is_rescued_with_its_objects() -> Outcome {
    const COUNT: usize = 60;
    let key = |index: usize| format!("rescued-{index}");
    let mut cluster = Cluster::start(3)?;
    let client = cluster.client(2)?;
    caller::with(client.clone(), || -> crucial::Result<()> {
        for index in 0..COUNT {
            let number = Shared::builder(key(index))
                .persistent()
                .replicas(1 + (index % 3) as u8)
                .create(AtomicI64::new(0))?;
            number.fetch_add(index as i64)?;
        }
        Ok(())
    })?;
    let infos = client.object_infos(None, 10_000, None)?;
    client.goodbye()?;
    let left = cluster.info(2)?.node;
    let address = cluster.place(2).address.clone();
    let rescue = ["cluster", "rescue", &address];
    let confirmed = [&rescue[..], &["--yes-lose-what-only-they-had"]].concat();
    // Not while there is a majority.
    cluster.kill(0)?;
    let refused = cluster.crucial(2, &confirmed).expect_err("a majority");
    assert!(
        refused.contains("a majority of the voters answers"),
        "{refused}"
    );
    cluster.restart(0)?;
    cluster.wait_whole()?;
    // Two of three are gone for ever, at the same time. What one restarted had only itself was lost before.
    let infos_now = {
        let client = cluster.client(2)?;
        let infos = client.object_infos(None, 10_000, None)?;
        client.goodbye()?;
        infos
    };
    let stale = cluster.client_with(2, |config| config.patience = Duration::from_secs(5))?;
    let read_by = |client: &std::sync::Arc<crucial_client::Client>, index: usize| {
        caller::with(client.clone(), || {
            Shared::<AtomicI64>::open(key(index))?.load()
        })
    };
    assert_eq!(read_by(&stale, 2)?, 2);
    cluster.pause(0)?;
    cluster.pause(1)?;
    let kept = tempfile::tempdir()?;
    for index in [0, 1] {
        cluster.kill(index)?;
        copy(cluster.data(index), &kept.path().join(index.to_string()))?;
        cluster.wipe(index)?;
    }
    let warning = cluster.crucial(2, &rescue).expect_err("no confirmation");
    assert!(
        warning.contains("nothing was done") && warning.contains(&cluster.place(0).address),
        "{warning}"
    );
    let done = cluster.crucial(2, &[&["--json"], &confirmed[..]].concat())?;
    assert!(
        done.contains(&format!(r#""survivors":["{address}"]"#)),
        "{done}"
    );
    let (mut there, mut lost) = (0, 0);
    let read = |cluster: &Cluster, index: usize| {
        cluster.with(|| Shared::<AtomicI64>::open(key(index))?.load())
    };
    for index in 0..COUNT {
        let known = |infos: &[crucial_proto::frame::ObjectInfo]| {
            let mut infos = infos.iter();
            infos.find(|info| info.key == key(index)).cloned()
        };
        let (before, now) = (known(&infos), known(&infos_now));
        let is_left = now.is_some_and(|info| !info.is_lost && info.servers.contains(&left));
        match read(&cluster, index) {
            Ok(value) => {
                assert!(
                    is_left,
                    "{index} is there and was not at the server that is left"
                );
                assert_eq!(value, index as i64);
                there += 1;
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!is_left, "{index} ({before:?}): {error}");
                assert!(error.contains("gone"), "{index}: {error}");
                lost += 1;
            }
        }
    }
    // All with three replicas, at least; and of those with one about a third.
    assert!(
        there > COUNT / 3 && lost > 0,
        "{there} are there, {lost} are lost"
    );
    // Whoever was connected before has to notice, and begins anew.
    let unaware = read_by(&stale, 2);
    assert!(
        unaware.is_err(),
        "a client of the old cluster reads in the new one"
    );
    // Nobody knows what else there was.
    let new = ["counter", "new", "add", "1"];
    let unknown = cluster.crucial(2, &new).expect_err("an unknown name");
    assert!(unknown.contains("gone"), "{unknown}");
    cluster.crucial(2, &["cluster", "forget"])?;
    assert_eq!(cluster.crucial(2, &new)?.trim(), "1");
    // New servers join.
    cluster.restart(0)?;
    cluster.restart(1)?;
    cluster.wait_whole()?;
    assert_eq!(
        cluster.crucial(0, &["counter", "new", "add", "1"])?.trim(),
        "2"
    );
    for index in (2..COUNT).step_by(3) {
        assert_eq!(read(&cluster, index)?, index as i64);
    }
    // The old ones do not, with what they had.
    for index in ["0", "1"] {
        let output = Command::new(std::env::current_exe()?)
            .args([
                "crucial",
                "server",
                "--listen",
                "127.0.0.1:0",
                "--join",
                &address,
            ])
            .arg("--data")
            .arg(kept.path().join(index))
            .env_remove("CRUCIAL_CLUSTER")
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("belongs to the cluster") && said.contains("was rescued"),
            "{said}"
        );
    }
    cluster.wait_whole()?;
    Ok(())
}

/// More long methods than the leader's server has threads for: its loops do not read for as long as these take.
fn a_busy_leader_takes_nobody_for_dead() -> Outcome {
    const SLEEPERS: usize = 300;
    const SLEEP_MS: u64 = 3_000;
    let cluster = Cluster::start(3)?;
    let before = cluster.info(0)?;
    let leader = before.leader.ok_or("no leader")?;
    let leads = before.members.iter().find(|member| member.node == leader);
    let leads = leads.ok_or("the leader is no member")?.address.clone();
    let busy = (0..3).find(|index| cluster.place(*index).address == leads);
    let other = (busy.ok_or("the leader has no place")? + 1) % 3;
    let client = cluster.client(other)?;
    let routes = client.routes();
    let is_at = |object: crucial_object::ObjectId, is_busy: bool| {
        let primary = routes.primary(routes.partition(&object));
        primary.is_some_and(|server| (server.node == leader) == is_busy)
    };
    caller::with(client.clone(), || -> crucial::Result<()> {
        let mut sleepers = Vec::new();
        while sleepers.len() < SLEEPERS {
            let sleeper = Shared::new(Sleeper)?;
            if is_at(sleeper.id(), true) {
                sleepers.push(sleeper);
            }
        }
        let number = loop {
            let number = Shared::new(AtomicI64::new(7))?;
            if is_at(number.id(), false) {
                break number;
            }
        };
        let started = Instant::now();
        let pending: Vec<_> = sleepers
            .iter()
            .map(|sleeper| sleeper.deferred().sleep(SLEEP_MS))
            .collect();
        // The others have leases all the time: their heartbeats are answered.
        while started.elapsed() < Duration::from_millis(SLEEP_MS) {
            let asked = Instant::now();
            assert_eq!(number.load()?, 7);
            assert!(
                asked.elapsed() < Duration::from_millis(500),
                "no answer for {:?}, {:?} after the methods began",
                asked.elapsed(),
                started.elapsed()
            );
            // Between two calls, each of which is timed: the servers are to be idle but for the long methods.
            std::thread::sleep(Duration::from_millis(10));
        }
        for pending in pending {
            assert_eq!(pending.wait()?, SLEEP_MS);
        }
        Ok(())
    })?;
    client.goodbye()?;
    wait_until("the server reads again", PATIENCE, || {
        Ok(cluster.info(other).is_ok())
    })?;
    let after = cluster.info(other)?;
    let incarnations = |info: &crucial_proto::frame::ClusterInfo| -> Vec<_> {
        let members = info.members.iter();
        members
            .map(|member| (member.node, member.incarnation))
            .collect()
    };
    assert_eq!(incarnations(&after), incarnations(&before));
    Ok(())
}
