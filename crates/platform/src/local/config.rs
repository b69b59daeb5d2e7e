//! The configuration of the local platform.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::platform::PAYLOAD_BYTES_MAX;
use crate::sink::{OutputSink, default_sink};

/// The memory, in MB, at which Lambda gives a function one whole virtual CPU.
const MEMORY_MB_DEFAULT: u32 = 1769;

/// How worker processes are run.
#[derive(Clone)]
pub struct LocalConfig {
    /// The workers' executable; `None`, the default: the one that this process runs, also if its file was replaced or
    /// removed meanwhile. Its main function must call [`worker::run`](crate::worker::run).
    pub executable: Option<PathBuf>,
    /// The workers' arguments; none by default.
    pub args: Vec<OsString>,
    /// Variables added to the workers' environment, which is otherwise that of this process
    /// [at its start](crucial_local::surroundings::environment_at_start). Those of the Runtime API override them.
    pub env: Vec<(OsString, OsString)>,
    /// Most worker processes at the same time, at least 1. Further invocations wait. 1000 by default, as on
    /// Lambda. Where the system allows fewer (open files, processes), there are fewer.
    pub concurrency_max: usize,
    /// Memory limit of a worker, in MB (2^20 bytes). The worker's anonymous memory counts (heap, stacks, private copies of
    /// files), and that of the processes in its group; mapped files and shared memory do not. For invocations that set none; `None`: no limit. 1769 by default, at which a worker
    /// on Lambda has one whole virtual CPU.
    pub memory_mb_default: Option<u32>,
    /// The least memory limit, in MB: with less a worker could not begin, so that an invocation is refused. None by default.
    pub memory_mb_min: u32,
    /// Time limit of an invocation that sets none. 900 s by default, as on Lambda.
    pub time_limit_default: Duration,
    /// Largest payload and largest result, in bytes. 4 MiB by default.
    pub payload_bytes_max: usize,
    /// Time without work after which a worker is ended. 300 s by default.
    pub warm_idle: Duration,
    /// Time limit for a new worker's first request. A process that exceeds it is killed, and an invocation fails
    /// with [`Failure::Start`](crate::Failure::Start). Each time another worker starts, the time begins again, so that many workers
    /// can start at the same time. 10 s by default.
    pub start_timeout: Duration,
    /// Receives the lines that workers print. By default they are printed to the same stream of this process,
    /// after the thread's name.
    pub output: Arc<dyn OutputSink>,
}

impl Default for LocalConfig {
    fn default() -> Self {
        LocalConfig {
            executable: None,
            args: Vec::new(),
            env: Vec::new(),
            concurrency_max: 1000,
            memory_mb_default: Some(MEMORY_MB_DEFAULT),
            memory_mb_min: 0,
            time_limit_default: Duration::from_secs(900),
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            warm_idle: Duration::from_secs(300),
            start_timeout: Duration::from_secs(10),
            output: default_sink(),
        }
    }
}
