//! Starts, inspects and kills worker processes.

use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use crucial_local::files;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::config::LocalConfig;
use crate::group;
use crate::worker::{
    API_VARIABLE, LOCAL_VARIABLE, MEMORY_VARIABLE, PARENT_VARIABLE, RESULT_VARIABLE,
};

/// The executable that a process runs: of the program between `fork` and `exec`, the program's own.
pub(super) const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Files that a worker costs this process: two pipes, its end, its connections to the platform, and those to an embedded
/// server.
const FILES_PER_WORKER: usize = 8;

/// Files for everything else that this process may open.
const FILES_RESERVED: usize = 32;

/// How many workers there can be, and by which limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub workers: usize,
    pub limit: &'static str,
}

/// The workers for which this process may open enough files.
///
/// # Errors
///
/// If there are too few for a single worker.
pub(super) fn room_by_files() -> io::Result<Room> {
    let open = files::open();
    let free = files::limit().saturating_sub(open + FILES_RESERVED);
    let room = Room {
        workers: free / FILES_PER_WORKER,
        limit: "the limit of open files (`ulimit -n`)",
    };
    if room.workers > 0 {
        return Ok(room);
    }
    let needed = open + FILES_RESERVED + FILES_PER_WORKER;
    Err(io::Error::other(files::too_few(
        needed.max(files::PROGRAM_FILES),
    )))
}

/// A started process and the read ends of its output pipes.
pub(super) struct Started {
    pub child: Child,
    pub pid: Pid,
    pub stdout: PipeReader,
    pub stderr: PipeReader,
}

/// Starts a worker.
pub(super) fn start(
    config: &LocalConfig,
    api: &str,
    memory_mb: Option<u32>,
) -> io::Result<Started> {
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let executable = executable(config);
    let name = Path::new(&executable).file_stem().unwrap_or_default();
    let program = config.executable.as_deref();
    let mut command = Command::new(program.unwrap_or(OWN_EXECUTABLE.as_ref()));
    command
        .arg0(&executable)
        .args(&config.args)
        .env_clear()
        .envs(crucial_local::surroundings::environment_at_start())
        .envs(config.env.iter().map(|(name, value)| (name, value)))
        .env(API_VARIABLE, api)
        .env(LOCAL_VARIABLE, "1")
        .env(PARENT_VARIABLE, std::process::id().to_string())
        .env(RESULT_VARIABLE, config.payload_bytes_max.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "local")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "local")
        .env("_HANDLER", name)
        // Where it is not one of the terminal's foreground, to which interrupts go.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout_end)
        .stderr(stderr_end);
    match memory_mb {
        Some(memory_mb) => command.env(MEMORY_VARIABLE, memory_mb.to_string()),
        None => command.env_remove(MEMORY_VARIABLE),
    };
    let child = command.spawn()?;
    Ok(Started {
        pid: Pid::from_child(&child),
        child,
        stdout,
        stderr,
    })
}

/// The path of the workers' executable, for people.
pub(super) fn executable(config: &LocalConfig) -> OsString {
    match &config.executable {
        Some(executable) => executable.into(),
        None => std::env::args_os()
            .next()
            .unwrap_or_else(|| OWN_EXECUTABLE.into()),
    }
}

/// Waits until a process has ended, and ends what is left of its group.
pub(super) async fn wait(mut child: Child) -> io::Result<ExitStatus> {
    let pid = Pid::from_child(&child);
    group::ended(pid).await?;
    // Before the process is collected, so that its number, which is that of the group, is nobody else's.
    kill(pid);
    child.wait()
}

/// Whether a process that is not reaped yet has ended. The answer comes from the operating system, since the async
/// runtime notices the end only later.
pub(super) fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // On an error the process is assumed to run.
    matches!(
        rustix::process::waitid(WaitId::Pid(pid), options),
        Ok(Some(_))
    )
}

/// Kills a process that is not reaped yet, and all processes of its group.
pub(super) fn kill(pid: Pid) {
    // The call fails only if the process has just ended.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
}

/// A process's anonymous memory, in bytes, with that which it shares with a process that it has forked; `None` if it has
/// ended.
pub(super) fn anonymous_bytes(pid: Pid) -> Option<u64> {
    let statm = group::read_small(&format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
    let mut pages = statm
        .split(' ')
        .skip(1)
        .map_while(|n| n.parse::<u64>().ok());
    let (resident, of_files) = (pages.next()?, pages.next()?);
    Some(resident.saturating_sub(of_files) * rustix::param::page_size() as u64)
}

/// A process's share of the anonymous memory that it has, in bytes: what several have counts in parts. Takes longer than
/// [`anonymous_bytes`]; `None` where the system does not tell.
pub(super) fn anonymous_share_bytes(pid: Pid) -> Option<u64> {
    let rollup = group::read_small(&format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero())).ok()?;
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss_Anon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

/// Describes for people how a process ended.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}{}", name_of(signal)),
        (None, Some(code)) => format!("exit status {code}"),
        (None, None) => status.to_string(),
    }
}

fn name_of(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}
