//! Processes.

use std::fs;
use std::io::{self, PipeReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use tokio::process::{Child, Command};

use super::LocalConfig;
use crate::worker::{API_VARIABLE, LOCAL_VARIABLE, MEMORY_VARIABLE};

/// A worker needs a few file descriptors here; the usual soft limit of 1024 is too low for many.
pub(super) fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // With the old limit fewer workers can run, and starting one more says why.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}

/// A started process and what it prints.
pub(super) struct Started {
    pub child: Child,
    pub pid: Pid,
    pub stdout: PipeReader,
    pub stderr: PipeReader,
}

/// Starts a worker.
pub(super) fn start(config: &LocalConfig, api: &str, memory_mb: Option<u32>) -> io::Result<Started> {
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let name = config.executable.file_stem().unwrap_or_default();
    let mut command = Command::new(&config.executable);
    command
        .args(&config.args)
        .env(API_VARIABLE, api)
        .env(LOCAL_VARIABLE, std::process::id().to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "local")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "local")
        .env("_HANDLER", name)
        .envs(&config.env)
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
        .ok_or_else(|| io::Error::other("the process has ended already"))?;
    Ok(Started {
        child,
        pid,
        stdout,
        stderr,
    })
}

/// Kills a process that is not reaped yet.
pub(super) fn kill(pid: Pid) {
    // It fails if the process has just ended, which is as good.
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}

/// A process's resident memory, in bytes; `None` if it has ended.
pub(super) fn resident_bytes(pid: Pid) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{}/statm", pid.as_raw_nonzero())).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// How a process ended, for people.
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
