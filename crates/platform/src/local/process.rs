//! Starts, inspects and kills worker processes.

use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::process::{Child, Command};

use super::config::LocalConfig;
use crate::platform::Failure;
use crate::worker::{
    API_VARIABLE, LOCAL_VARIABLE, MEMORY_VARIABLE, PARENT_VARIABLE, RESULT_VARIABLE,
};

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
    let name = config.executable.file_stem().unwrap_or_default();
    let mut command = Command::new(&config.executable);
    command
        .args(&config.args)
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
        // A process group of its own: an interrupt from the keyboard does not reach the workers, and processes
        // that a worker has started are killed with it.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout_end)
        .stderr(stderr_end);
    match memory_mb {
        Some(memory_mb) => command.env(MEMORY_VARIABLE, memory_mb.to_string()),
        None => command.env_remove(MEMORY_VARIABLE),
    };
    let child = command.spawn()?;
    let pid = child
        .id()
        .and_then(|id| Pid::from_raw(id.cast_signed()))
        .ok_or_else(|| io::Error::other("the process ended at once"))?;
    Ok(Started {
        child,
        pid,
        stdout,
        stderr,
    })
}

/// The failure of an invocation whose worker could not be started.
pub(super) fn start_failure(config: &LocalConfig, error: &io::Error) -> Failure {
    let executable = config.executable.display();
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => Failure::Throttled {
            reason: format!(
                "{executable}: {error}; lower concurrency_max (now {}) or raise the system's limits (ulimit -n, \
                 ulimit -u)",
                config.concurrency_max
            ),
        },
        Some(Errno::NOENT) => Failure::Start {
            reason: format!(
                "{executable}: {error}; if the executable was rebuilt while this program ran, restart the program"
            ),
        },
        _ => Failure::Start {
            reason: format!("{executable}: {error}"),
        },
    }
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

/// A process's resident memory, in bytes; `None` if it has ended.
pub(super) fn resident_bytes(pid: Pid) -> Option<u64> {
    let mut statm = [0; 128];
    let mut file = fs::File::open(format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
    let count = file.read(&mut statm).ok()?;
    let statm = std::str::from_utf8(&statm[..count]).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
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
