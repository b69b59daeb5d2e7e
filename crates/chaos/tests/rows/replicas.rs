//! On how many servers changes are kept, and objects that cannot go to other servers.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use crucial::sync::AtomicI64;
use crucial::{Error, Shared, shared};
use crucial_object::caller;
use crucial_testing::{Cluster, Net, Options, wait_until};
use libtest_mimic::Trial;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::{Outcome, PATIENCE, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        d03_with_min_replicas_a_change_waits_until_enough_servers_have_it,
        d07_an_object_that_cannot_be_encoded_stays_where_it_is,
    ]
}

fn number(key: &str, replicas: u8) -> crucial::Result<Shared<AtomicI64>> {
    Shared::builder(key)
        .persistent()
        .replicas(replicas)
        .create(AtomicI64::new(0))
}

fn d03_with_min_replicas_a_change_waits_until_enough_servers_have_it() -> Outcome {
    let options = Options {
        more: vec!["--min-replicas".to_owned(), "3".to_owned()],
        ..Options::default()
    };
    let mut cluster = Cluster::start_with(3, Net::Loopback, options)?;
    let client = cluster.client(0)?;
    let (two, three) = caller::with(client.clone(), || -> crucial::Result<_> {
        let (two, three) = (number("two", 2)?, number("three", 3)?);
        two.fetch_add(1)?;
        three.fetch_add(1)?;
        Ok((two, three))
    })?;
    cluster.kill(2)?;
    // Two servers are enough for this one, as soon as the third one is known to be gone.
    assert_eq!(caller::with(client.clone(), || two.fetch_add(1))?, 1);
    let (answer, answered) = mpsc::channel();
    let adding = {
        let (client, three) = (client.clone(), three.clone());
        std::thread::spawn(move || {
            let added = caller::with(client, || three.fetch_add(1));
            let _ = answer.send(());
            added
        })
    };
    let waits = answered.recv_timeout(Duration::from_secs(4));
    assert_eq!(waits, Err(mpsc::RecvTimeoutError::Timeout));
    assert_eq!(caller::with(client.clone(), || two.fetch_add(1))?, 2);
    cluster.restart(2)?;
    answered.recv_timeout(PATIENCE)?;
    let added = adding.join().map_err(|_| "the call panicked")?;
    assert_eq!(added?, 1);
    assert_eq!(caller::with(client, || three.load())?, 2);
    Ok(())
}

/// While this file is there, servers that the process has started cannot encode anything of the type.
fn flag_of(process: u32) -> PathBuf {
    std::env::temp_dir().join(format!("crucial-stubborn-{process}"))
}

/// A counter that cannot always be encoded.
#[derive(Deserialize)]
struct Stubborn(u64);

#[shared]
impl Stubborn {
    fn add(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    fn get(&self) -> u64 {
        self.0
    }
}

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match flag_of(std::os::unix::process::parent_id()).exists() {
            true => Err(S::Error::custom("stubborn")),
            false => self.0.serialize(serializer),
        }
    }
}

fn d07_an_object_that_cannot_be_encoded_stays_where_it_is() -> Outcome {
    const COUNT: usize = 20;
    let flag = flag_of(std::process::id());
    let mut cluster = Cluster::start(1)?;
    let client = cluster.client(0)?;
    let open = |index: usize| {
        Shared::builder(format!("stubborn-{index}"))
            .persistent()
            .replicas(1)
            .create(Stubborn(0))
    };
    let all = || (0..COUNT).map(open).collect::<crucial::Result<Vec<_>>>();
    caller::with(client.clone(), || -> crucial::Result<()> {
        for object in all()? {
            object.add()?;
        }
        Ok(())
    })?;
    std::fs::write(&flag, "")?;
    cluster.add()?;
    cluster.add()?;
    // Partitions move that have none of them.
    wait_until("other partitions have moved", PATIENCE, || {
        let info = cluster.info(1)?;
        let me = info.node;
        let partitions = info.partitions.iter();
        let primaries = partitions.filter(|p| p.assignments.first().is_some_and(|(_, n)| *n == me));
        Ok(primaries.count() > 200)
    })?;
    let values = |client| {
        caller::with(client, || {
            let objects = all()?.into_iter();
            objects
                .map(|object| object.get())
                .collect::<crucial::Result<Vec<u64>>>()
        })
    };
    assert_eq!(values(client.clone())?, [1; COUNT]);
    // A client that comes now finds them as well.
    assert_eq!(values(cluster.client(1)?)?, [1; COUNT]);
    // One that could not be on another server is not made, where there is another server.
    let refused = |index: usize| {
        let made = caller::with(client.clone(), || {
            Shared::builder(format!("stubborn-too-{index}"))
                .persistent()
                .replicas(2)
                .create(Stubborn(0))
        });
        match made {
            Ok(_) => false,
            Err(Error::Encoding { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    };
    assert!((0..100).any(refused));
    std::fs::remove_file(&flag)?;
    cluster.wait_whole()?;
    assert_eq!(values(client)?, [1; COUNT]);
    Ok(())
}
