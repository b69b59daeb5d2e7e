//! Programs with an embedded server, where the environment does not suit its socket.
//!
//! Without a harness: the test starts itself as programs, whose cloud threads run in workers.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crucial::sync::AtomicI64;
use crucial::{Shared, cloud, thread};

const ROLE: &str = "PLACES_PROGRAM";

#[cloud]
fn count(counter: Shared<AtomicI64>) -> crucial::Result<()> {
    counter.fetch_add(1)?;
    Ok(())
}

/// Prints where its server is, and does so again when told to go on.
fn program() -> crucial::Result<()> {
    let counter = Shared::new(AtomicI64::new(0))?;
    for round in 1..=2 {
        thread::spawn(count(counter.clone())).join()??;
        assert_eq!(counter.load()?, round);
        println!("{}", crucial_runtime::runtime::current()?.servers());
        let _ = std::io::stdin().read_line(&mut String::new());
    }
    Ok(())
}

#[crucial::main]
fn main() {
    if std::env::var_os(ROLE).is_some() {
        return program().unwrap();
    }
    a_setting_that_does_not_suit_is_passed_over();
    a_directory_of_another_user_is_not_used();
    where_nothing_can_be_written_there_is_no_file();
    a_program_of_another_container_keeps_its_socket();
}

fn command(base: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env_remove("CRUCIAL_CLUSTER")
        .env_remove("XDG_RUNTIME_DIR")
        .env(ROLE, "1")
        .env("TMPDIR", base)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Where a program's server is.
fn place(mut command: Command) -> PathBuf {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let output = String::from_utf8(output.stdout).unwrap();
    path(output.lines().next().unwrap())
}

fn path(address: &str) -> PathBuf {
    address.strip_prefix("unix:").expect(address).into()
}

fn directory() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap().to_owned();
    (directory, path)
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn a_setting_that_does_not_suit_is_passed_over() {
    let (base, text) = directory();
    let runtime = |value: &Path| {
        let mut command = command(&text);
        command.env("XDG_RUNTIME_DIR", value);
        place(command)
    };
    let shared = base.path().join(format!("crucial-{}", user()));
    assert!(runtime(&base.path().join("missing")).starts_with(&shared));
    assert!(runtime(Path::new("relative")).starts_with(&shared));
    assert!(runtime(Path::new("")).starts_with(&shared));
    assert!(
        runtime(Path::new("/proc")).starts_with(&shared),
        "read-only"
    );
    let (other, _) = directory();
    if user() == 0 {
        chown(other.path(), Some(1), None).unwrap();
        assert!(runtime(other.path()).starts_with(&shared), "not mine");
        chown(other.path(), Some(0), None).unwrap();
    }
    assert!(runtime(other.path()).starts_with(other.path()));

    let long = base.path().join("d".repeat(150));
    fs::create_dir(&long).unwrap();
    for base in [long.to_str().unwrap(), "/missing", "/proc", "tmp"] {
        let place = place(command(base));
        assert!(place.starts_with("/tmp"), "{base}: {}", place.display());
    }
}

fn a_directory_of_another_user_is_not_used() {
    let (base, text) = directory();
    let shared = base.path().join(format!("crucial-{}", user()));
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let instead = place(command(&text));
    assert!(instead.starts_with(base.path()) && !instead.starts_with(&shared));
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1, "cleaned up");
}

/// Whether this process may make namespaces, as containers have.
fn can_unshare(arguments: &[&str]) -> bool {
    let mut command = Command::new("unshare");
    let status = command.args(arguments).arg("true").stderr(Stdio::null());
    status.status().is_ok_and(|status| status.success())
}

/// The same program, by way of another one.
fn wrapped(command: &Command, by: &[&str]) -> Command {
    let mut wrapper = Command::new(by[0]);
    wrapper.args(&by[1..]).arg(command.get_program());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    wrapper.stdin(Stdio::null()).stdout(Stdio::piped());
    wrapper
}

fn where_nothing_can_be_written_there_is_no_file() {
    if !can_unshare(&["--mount"]) {
        return eprintln!("no mount namespaces: a read-only /tmp is not tried");
    }
    let script = "mount -t tmpfs -o ro none /tmp && exec \"$0\"";
    let by = ["unshare", "--mount", "sh", "-c", script];
    let place = place(wrapped(&command("/tmp"), &by));
    assert!(place.starts_with(format!("@crucial-{}", user())));
}

fn next_line(program: &mut Child, lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "{:?}", program.try_wait());
    line.trim_end().to_owned()
}

/// The programs share a directory, and neither sees the other's process.
fn a_program_of_another_container_keeps_its_socket() {
    let (_base, text) = directory();
    let arguments = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let mut first = command(&text);
    if can_unshare(&arguments) {
        let by: Vec<&str> = ["unshare"].into_iter().chain(arguments).collect();
        first = wrapped(&first, &by);
    }
    let mut first = first.stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap());
    let socket = path(&next_line(&mut first, &mut lines));
    assert!(socket.exists());

    let second = place(command(&text));
    assert_eq!(second.parent(), socket.parent(), "they share the directory");
    assert!(socket.exists());
    // The next cloud thread may need a new worker, which connects.
    drop(first.stdin.take());
    assert_eq!(path(&next_line(&mut first, &mut lines)), socket);
    lines.read_to_string(&mut String::new()).unwrap();
    assert!(first.wait().unwrap().success());
    assert!(!socket.exists(), "removed at its end");
}
