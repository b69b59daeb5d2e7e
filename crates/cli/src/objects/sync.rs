//! `crucial barrier`, `latch`, `promise`, `semaphore` and `mutex`: synchronization.

use std::ffi::OsString;
use std::time::Duration;

use clap::Subcommand;
use crucial_object::sync::{Barrier, Latch, Mutex, Promise, Semaphore};
use crucial_object::{Opaque, Result, Shared};

use super::open::{agree, find, object, object_or, patient, whatever};
use crate::program;
use crate::value::{Answer, duration, within};

#[derive(Subcommand)]
pub enum BarrierOperation {
    /// Waits for the other parties; prints whether this one is the leader
    Wait {
        /// The number of parties, when the barrier is created
        #[arg(long, value_parser = within(1..=usize::MAX))]
        parties: Option<usize>,
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Prints how many parties wait
    Waiting,
    /// Ends the round: waiting parties fail
    Reset,
}

#[derive(Subcommand)]
pub enum LatchOperation {
    /// Counts down, and prints the new count
    Down,
    /// Waits until the count is 0
    Wait {
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Prints the count
    Get,
}

#[derive(Subcommand)]
pub enum PromiseOperation {
    /// Sets the value, if the promise has none
    Set {
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Prints the value; waits until the promise has one
    Wait {
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
    },
    /// Prints the value, if the promise has one
    Get,
}

#[derive(Subcommand)]
pub enum SemaphoreOperation {
    /// Runs a command while holding permits; the exit status is that of the command
    Run {
        /// The number of permits
        #[arg(long, default_value_t = 1, value_parser = within(1..=u64::MAX))]
        take: u64,
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Adds permits
    Release {
        #[arg(default_value_t = 1, value_parser = within(1..=u64::MAX))]
        permits: u64,
    },
    /// Prints the number of available permits
    Available,
}

#[derive(Subcommand)]
pub enum MutexOperation {
    /// Runs a command while holding the lock; the exit status is that of the command
    Run {
        #[arg(long, value_parser = duration)]
        timeout: Option<Duration>,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Whether the lock is held
    IsLocked,
}

pub(super) fn barrier(name: &str, operation: BarrierOperation) -> Result<Answer> {
    match operation {
        BarrierOperation::Wait { parties, timeout } => {
            let barrier = object_or(name, parties.map(Barrier::new), "--parties")?;
            let asked = parties.map(|parties| parties as u64);
            agree(name, "--parties", asked, || barrier.parties())?;
            let result = patient(barrier, timeout).wait()?;
            Ok(Answer::of(if result.is_leader() {
                "leader"
            } else {
                "through"
            }))
        }
        BarrierOperation::Waiting => find::<Barrier>(name)?.waiting().map(Answer::of),
        BarrierOperation::Reset => find::<Barrier>(name)?.reset().map(|()| Answer::done()),
    }
}

pub(super) fn latch(latch: Shared<Latch>, operation: LatchOperation) -> Result<Answer> {
    match operation {
        LatchOperation::Down => latch.count_down().map(Answer::of),
        LatchOperation::Wait { timeout } => patient(latch, timeout).wait().map(|()| Answer::done()),
        LatchOperation::Get => latch.get().map(Answer::of),
    }
}

pub(super) fn promise(
    promise: Shared<Promise<String>>,
    operation: PromiseOperation,
) -> Result<Answer> {
    match operation {
        PromiseOperation::Set { value } => promise.set(value).map(Answer::whether),
        PromiseOperation::Wait { timeout } => patient(promise, timeout).wait().map(Answer::of),
        PromiseOperation::Get => promise.get().map(Answer::maybe),
    }
}

pub(super) fn semaphore(
    semaphore: Shared<Semaphore>,
    operation: SemaphoreOperation,
) -> Result<Answer> {
    match operation {
        SemaphoreOperation::Run {
            take,
            timeout,
            command,
        } => {
            let permits = patient(semaphore.clone(), timeout).permits(take)?;
            program::run_holding(&command, permits.token(), || permits.release())
        }
        SemaphoreOperation::Release { permits } => {
            semaphore.release_many(permits).map(|()| Answer::done())
        }
        SemaphoreOperation::Available => semaphore.available_permits().map(Answer::of),
    }
}

pub(super) fn mutex(name: &str, operation: MutexOperation) -> Result<Answer> {
    let new = Mutex::new(());
    match operation {
        MutexOperation::Run { timeout, command } => {
            let guard = patient(object(name, new)?, timeout).lock()?;
            program::run_holding(&command, guard.token(), || guard.unlock())
        }
        MutexOperation::IsLocked => {
            let any = whatever::<Mutex<Opaque>, Mutex<()>>(name, new)?;
            any.is_locked().map(Answer::whether)
        }
    }
}
