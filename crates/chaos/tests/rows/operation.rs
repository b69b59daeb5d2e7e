//! Clusters as people start, look at and end them; and how they should not be started.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crucial_proto::frame::peer;
use crucial_testing::{Cluster, wait_until};
use libtest_mimic::{Failed, Trial};

use crate::{Outcome, PATIENCE, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        g03_up_starts_a_cluster_that_commands_use_and_look_at,
        g03_a_server_joins_by_a_name,
        g01_bad_ways_to_start_a_server_say_what_is_wrong,
        g01_a_server_whose_disk_is_full_ends_and_says_so,
        g01_a_server_of_another_version_is_refused,
    ]
}

fn crucial(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command
        .arg("crucial")
        .args(arguments)
        .env_remove("CRUCIAL_CLUSTER");
    command
}

/// Runs a command; its exit status, and what it printed on both.
fn run(arguments: &[&str]) -> Result<(Option<i32>, String), Failed> {
    let output = crucial(arguments).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

fn g03_up_starts_a_cluster_that_commands_use_and_look_at() -> Outcome {
    let port = 30_000 + std::process::id() % 2_000;
    let mut up = crucial(&["up", "-n", "3", "--port", &port.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let outcome = (|| -> Outcome {
        let mut first = [0; 23];
        up.stdout
            .as_mut()
            .ok_or("no output")?
            .read_exact(&mut first)?;
        assert_eq!(&first, b"crucial cluster ready: ");
        let address = format!("127.0.0.1:{port}");
        let at = |arguments: &[&str]| run(&[&["--cluster", &address], arguments].concat());
        assert_eq!(
            at(&["counter", "hits", "add", "3"])?,
            (Some(0), "3\n".to_owned())
        );
        wait_until("it is whole", PATIENCE, || {
            let status = at(&["cluster", "status"])
                .map_err(|_| crucial_testing::Error::Wrong("status".to_owned()))?;
            Ok(status.1.contains("state\twhole"))
        })?;
        let (code, nodes) = at(&["cluster", "nodes"])?;
        assert_eq!((code, nodes.lines().count()), (Some(0), 3), "{nodes}");
        assert_eq!(nodes.matches("voter").count(), 3, "{nodes}");
        let (_, partitions) = at(&["cluster", "partitions"])?;
        assert_eq!(partitions.lines().count(), 1024);
        let (code, place) = at(&["cluster", "where", "hits"])?;
        assert_eq!(code, Some(0));
        assert!(
            place.contains("crucial::Counter") && place.matches("127.0.0.1:").count() == 2,
            "{place}"
        );
        let (_, objects) = at(&["--json", "cluster", "objects"])?;
        assert!(
            objects.contains("\"key\":\"hits\"") && objects.contains("\"replicas\":2"),
            "{objects}"
        );
        assert_eq!(at(&["cluster", "where", "nothing"])?.0, Some(3));
        Ok(())
    })();
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&up),
        rustix::process::Signal::TERM,
    )?;
    let status = up.wait()?;
    outcome?;
    assert!(status.success(), "{status}");
    Ok(())
}

fn g03_a_server_joins_by_a_name() -> Outcome {
    let cluster = Cluster::start(1)?;
    let address = cluster.place(0).address.clone();
    let (_, port) = address.rsplit_once(':').ok_or("a port")?;
    // The name may stand for more addresses than one, and at some of them nobody answers.
    let named = format!("localhost:{port}");
    let mut second = crucial(&["server", "--listen", "127.0.0.1:0", "--join", &named])
        .stdout(Stdio::piped())
        .spawn()?;
    let outcome = ready(&mut second).and_then(|_| {
        let (_, nodes) = run(&["--cluster", &named, "cluster", "nodes"])?;
        assert_eq!(nodes.lines().count(), 2, "{nodes}");
        Ok(())
    });
    second.kill()?;
    second.wait()?;
    outcome
}

fn g01_bad_ways_to_start_a_server_say_what_is_wrong() -> Outcome {
    let says = |arguments: &[&str], words: &[&str]| -> Outcome {
        let (code, text) = run(&[&["server", "--listen", "127.0.0.1:0"], arguments].concat())?;
        assert_ne!(code, Some(0), "{text}");
        for word in words {
            assert!(
                text.contains(word),
                "{arguments:?} says {text:?}, without {word:?}"
            );
        }
        Ok(())
    };
    // Nobody is there.
    says(
        &["--join", "127.0.0.1:1", "--join-patience-s", "1"],
        &["no cluster to join", "127.0.0.1:1"],
    )?;
    // A server that is alone.
    let mut alone = crucial(&["server", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()?;
    let address = ready(&mut alone)?;
    says(
        &["--join", &address, "--join-patience-s", "1"],
        &["runs alone", "--data"],
    )?;
    alone.kill()?;
    alone.wait()?;
    // A directory of another cluster, and one that is in use.
    let (one, other) = (Cluster::start(1)?, Cluster::start(1)?);
    let directory = tempfile::tempdir()?;
    let kept = directory.path().join("kept");
    let kept = kept.to_str().ok_or("a path")?;
    let mut member = crucial(&["server", "--listen", "127.0.0.1:0", "--data", kept])
        .args(["--join", &one.place(0).address])
        .stdout(Stdio::piped())
        .spawn()?;
    ready(&mut member)?;
    says(
        &["--data", kept, "--join", &one.place(0).address],
        &["in use by another process"],
    )?;
    // A copy of it, while it lives: the same identity twice.
    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy)?;
    for file in ["identity", "journal"] {
        std::fs::copy(format!("{kept}/{file}"), copy.join(file))?;
    }
    let copy = copy.to_str().ok_or("a path")?;
    says(
        &[
            "--data",
            copy,
            "--join",
            &one.place(0).address,
            "--join-patience-s",
            "1",
        ],
        &["same identity twice"],
    )?;
    member.kill()?;
    member.wait()?;
    says(
        &[
            "--data",
            kept,
            "--join",
            &other.place(0).address,
            "--join-patience-s",
            "1",
        ],
        &["belongs to the cluster", "--data"],
    )?;
    // Another lease than the others'.
    says(
        &["--join", &one.place(0).address, "--server-lease-ms", "300"],
        &["--server-lease-ms 1000", "300 ms"],
    )?;
    // A damaged journal.
    let journal = format!("{kept}/journal");
    let mut bytes = std::fs::read(&journal)?;
    bytes[12] ^= 0xff;
    std::fs::write(&journal, bytes)?;
    says(
        &["--data", kept, "--join", &one.place(0).address],
        &["journal", "damaged"],
    )?;
    // A file in place of the directory.
    says(&["--data", &journal], &[&journal])?;
    // An address that other servers cannot use.
    let nowhere = directory.path().join("nowhere");
    let nowhere = nowhere.to_str().ok_or("a path")?;
    let (code, text) = run(&["server", "--listen", "0.0.0.0:0", "--data", nowhere])?;
    assert!(code != Some(0) && text.contains("--advertise"), "{text}");
    Ok(())
}

fn g01_a_server_whose_disk_is_full_ends_and_says_so() -> Outcome {
    let directory = tempfile::tempdir()?;
    let disk = Disk(directory.path());
    // Enough to found a cluster, and too little for what a second server brings about.
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=28k", "tmpfs"])
        .arg(disk.0)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("no file system can be mounted here");
        return Ok(());
    }
    let data = disk.0.join("data");
    let data = data.to_str().ok_or("a path")?;
    let mut full = crucial(&["server", "--listen", "127.0.0.1:0", "--data", data])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let address = ready(&mut full)?;
    let mut second = crucial(&["server", "--listen", "127.0.0.1:0", "--join", &address])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let ended = wait_until("it ends", PATIENCE, || {
        Ok(!matches!(full.try_wait(), Ok(None)))
    });
    second.kill()?;
    second.wait()?;
    ended?;
    let output = full.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("No space left") && said.contains("journal"),
        "{said}"
    );
    Ok(())
}

/// A file system, unmounted when this is dropped.
struct Disk<'a>(&'a Path);

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

fn g01_a_server_of_another_version_is_refused() -> Outcome {
    let cluster = Cluster::start(1)?;
    let hello = peer::Hello {
        cluster: 0,
        from: 1,
        incarnation: 1,
        to: None,
    };
    let mut bytes = Vec::new();
    peer::write_hello(&hello, &mut bytes)?;
    // Behind length, kind and magic.
    bytes[13] = 99;
    let mut stream = TcpStream::connect(&cluster.place(0).address)?;
    stream.write_all(&bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.contains("version 99") && answer.contains("same release"),
        "{answer}"
    );
    // And it goes on.
    cluster.with(|| crucial::Shared::named("g01", crucial::sync::AtomicI64::new(1))?.load())?;
    Ok(())
}

/// The address that a server says it is ready at.
fn ready(server: &mut std::process::Child) -> Result<String, Failed> {
    let mut line = String::new();
    let out = server.stdout.as_mut().ok_or("no output")?;
    let mut byte = [0];
    while out.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0].into());
    }
    let address = line.strip_prefix("crucial server ready at ");
    Ok(address
        .ok_or_else(|| format!("not ready: {line:?}"))?
        .to_owned())
}
