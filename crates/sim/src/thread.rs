//! A cloud thread, and what its fences mean for the calls of its attempts.
//!
//! The rules that the judge adds for their calls, of one object each:
//!
//! - A call of an attempt takes effect before any call of a newer attempt of its thread is answered, or not at all. (A
//!   newer attempt calls nothing before all servers know of it.)
//! - A call of a cancelled thread takes effect before any call is answered that began after the cancellation was, or not
//!   at all.
//! - A call of an exactly-once thread takes effect once, whichever attempts make it, and they get the same answer, until
//!   somebody begins to cancel the thread.
//!
//! A call that waits is bounded by no fence: its object may come to a new primary that has not heard of its session, and
//! which gives that a lease to turn up.
//!
//! These are about one object: a method of the older attempt that is being executed while a server learns of the newer one
//! may end. On its own object whatever comes later waits for it.

use crucial_linear::Operation;
use crucial_object::{ObjectId, SessionId, ThreadId};
use crucial_proto::frame::Attempt;

use crate::attempt::Everywhere;
use crate::model::{Input, Output};

type Call = Operation<ObjectId, Input, Output>;

pub struct CloudThread {
    pub id: ThreadId,
    pub owner: SessionId,
    pub is_exactly_once: bool,
    /// The processes of its attempts, the first one first.
    pub attempts: Vec<SessionId>,
    pub phase: Phase,
    /// At which event its owner began to cancel it.
    pub cancel_began: Option<u64>,
    /// At which event the owner knew that all servers knew.
    pub cancelled: Option<u64>,
    pub seed: u64,
}

pub enum Phase {
    Begins,
    Runs,
    IsCancelled(Everywhere),
    Over,
}

impl CloudThread {
    pub fn attempt(&self) -> Attempt {
        Attempt {
            thread: self.id,
            number: self.attempts.len() as u32,
            exactly_once: self.is_exactly_once,
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// The number of the attempt that a process runs.
    fn number_of(&self, process: u64) -> Option<usize> {
        let attempts = self.attempts.iter();
        let mut attempts = attempts.map(|session| session.0);
        attempts.position(|session| session == process)
    }
}

/// A call that may have taken effect, by this event at the latest.
pub struct Perhaps(pub Call);

/// Bounds the effects of calls by the fences that came after them. Gives the calls that may not have taken effect at all.
///
/// # Errors
///
/// If one had an effect behind a fence.
pub fn apply_fences(
    threads: &[CloudThread],
    operations: &mut Vec<Call>,
) -> Result<Vec<Perhaps>, String> {
    let all = operations.clone();
    let mut perhaps = Vec::new();
    let mut kept = Vec::new();
    for mut operation in operations.drain(..) {
        let Some(until) = deadline(threads, &operation, &all) else {
            kept.push(operation);
            continue;
        };
        match operation.answer {
            Some((Output::Withdrawn | Output::Refused, _)) => kept.push(operation),
            Some(_) if operation.called >= until => {
                return Err(format!(
                    "{operation:?} had an effect, and its attempt was over by event {until}"
                ));
            }
            Some((output, returned)) => {
                operation.answer = Some((output, returned.min(until)));
                kept.push(operation);
            }
            None if operation.called >= until => {}
            None => {
                operation.answer = Some((Output::Took, until));
                perhaps.push(Perhaps(operation));
            }
        }
    }
    *operations = kept;
    Ok(perhaps)
}

/// By which event a call has had its effect, if it has one.
fn deadline(threads: &[CloudThread], operation: &Call, all: &[Call]) -> Option<u64> {
    let (thread, number) = threads.iter().find_map(|thread| {
        let is_its_session = thread.is_exactly_once && operation.process == thread.id.session().0;
        let number = is_its_session.then_some(usize::MAX);
        Some((
            thread,
            number.or_else(|| thread.number_of(operation.process))?,
        ))
    })?;
    let is_behind = |other: &Call| {
        let newer = thread.number_of(other.process);
        newer.is_some_and(|newer| newer > number)
            || thread
                .cancelled
                .is_some_and(|cancelled| newer.is_none() && other.called > cancelled)
    };
    let here = all
        .iter()
        .filter(|other| other.object == operation.object && is_behind(other));
    let answered = here.filter_map(|other| match other.answer {
        None | Some((Output::Withdrawn | Output::Refused, _)) => None,
        Some((_, returned)) => Some(returned),
    });
    answered.min()
}
