//! The main loop of the platform's thread.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::config::LocalConfig;
use super::pool::{Job, Pool};
use super::process::Room;
use super::{api, limits};
use crate::platform::{Failure, InvocationId, complete};

/// A command to the platform's thread.
pub(super) enum Command {
    Invoke(Job),
    Cancel(InvocationId),
    Shutdown,
}

/// Runs the pool until the command to shut down.
pub(super) async fn serve(
    config: LocalConfig,
    room: Room,
    listener: TcpListener,
    mut commands: UnboundedReceiver<Command>,
) -> io::Result<()> {
    let pool = Pool::new(config, room, listener.local_addr()?.to_string());
    let tasks = [
        tokio::task::spawn_local(api::listen(pool.clone(), listener)),
        tokio::task::spawn_local(limits::enforce_memory(pool.clone())),
        tokio::task::spawn_local(limits::end_idle(pool.clone())),
        tokio::task::spawn_local(start_workers(pool.clone())),
    ];
    while let Some(command) = commands.recv().await {
        match command {
            Command::Invoke(job) => pool.invoke(job),
            Command::Cancel(id) => pool.cancel(id),
            Command::Shutdown => break,
        }
    }
    commands.close();
    while let Some(command) = commands.recv().await {
        if let Command::Invoke(job) = command {
            complete(job.done, Err(Failure::Shutdown));
        }
    }
    pool.shutdown().await;
    for task in tasks {
        task.abort();
    }
    Ok(())
}

/// Starts workers when they are needed: one at a time, so that requests of other workers are served in between.
async fn start_workers(pool: Rc<Pool>) {
    loop {
        pool.wanted.notified().await;
        while let Some(memory_mb) = pool.needed_worker() {
            if let Err(error) = pool.start_worker(memory_mb) {
                pool.on_not_started(memory_mb, &error);
            }
            tokio::task::yield_now().await;
        }
    }
}
