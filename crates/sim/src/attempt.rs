//! A process that runs an attempt of a cloud thread, and requests that go to all servers.

use std::collections::BTreeMap;

use crucial_client::session::{Member, Target};
use crucial_linear::Operation;
use crucial_object::{ObjectId, Result, Sequence};
use crucial_proto::frame::{Attempt, Operation as Wanted};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::caller::Caller;
use crate::model::{Input, Output};
use crate::objects::{Kind, Object};

/// The answers to requests that are no calls; `None`: it is still to come.
pub type Awaited = BTreeMap<Sequence, Option<Result<()>>>;

/// A request that goes to all servers, also to those that become members meanwhile.
pub struct Everywhere {
    operation: Wanted,
    asked: BTreeMap<Member, Sequence>,
    /// Only servers that are connected at its beginning are asked.
    only_up: bool,
}

impl Everywhere {
    pub fn new(operation: Wanted) -> Everywhere {
        Everywhere {
            operation,
            asked: BTreeMap::new(),
            only_up: false,
        }
    }

    /// Asks servers that were not asked; gives the result when all that are still members have answered.
    pub fn go_on(
        &mut self,
        caller: &mut Caller,
        awaited: &mut Awaited,
        now_ms: u64,
    ) -> Option<Result<()>> {
        let is_first = self.asked.is_empty();
        let members = caller.members();
        for member in &members {
            let may_ask = match self.only_up {
                true => is_first && caller.is_up(*member),
                false => !self.asked.contains_key(member),
            };
            if may_ask
                && let Some(sequence) =
                    caller.submit(Target::Member(*member), &self.operation, now_ms)
            {
                self.asked.insert(*member, sequence);
                awaited.insert(sequence, None);
            }
        }
        let asked = self.asked.iter();
        let answers = asked.filter(|(member, _)| members.contains(member));
        let answers = answers.map(|(_, sequence)| awaited.get(sequence).cloned().flatten());
        let answers: Vec<_> = answers.collect();
        match answers.into_iter().collect::<Option<Result<Vec<()>>>>()? {
            Ok(answers) if answers.is_empty() => None,
            answers => Some(answers.map(drop)),
        }
    }
}

/// The calls of an exactly-once thread that have begun, by their position.
pub type Positions = BTreeMap<u64, Operation<ObjectId, Input, Output>>;

/// The part of a process that runs an attempt.
pub struct Work {
    pub attempt: Attempt,
    beginning: Option<Everywhere>,
    has_begun: bool,
    /// Of an exactly-once thread: its program follows from this.
    seed: u64,
    pub positions: Positions,
}

impl Work {
    pub fn new(attempt: Attempt, seed: u64) -> Work {
        Work {
            attempt,
            beginning: None,
            has_begun: false,
            seed,
            positions: Positions::new(),
        }
    }

    /// Says to the servers that the attempt begins, as the client's library does; whether they all know.
    pub fn begin(
        &mut self,
        caller: &mut Caller,
        awaited: &mut Awaited,
        now_ms: u64,
    ) -> Result<bool> {
        if self.has_begun || caller.members().is_empty() {
            return Ok(self.has_begun);
        }
        let attempt = self.attempt;
        let beginning = self.beginning.get_or_insert_with(|| {
            let operation = match attempt.exactly_once {
                // The hellos have said it.
                true => Wanted::Ping,
                false => {
                    caller.set_attempt(attempt);
                    Wanted::Begin(attempt)
                }
            };
            Everywhere {
                only_up: attempt.number == 1,
                ..Everywhere::new(operation)
            }
        });
        match beginning.go_on(caller, awaited, now_ms) {
            Some(begun) => begun?,
            None => return Ok(false),
        }
        self.has_begun = true;
        Ok(true)
    }

    /// The next call of an exactly-once thread: the same in each attempt.
    pub fn next_call<'a>(&self, objects: &'a [Object]) -> (Input, &'a Object) {
        let position = self.positions.len() as u64;
        let mut random = ChaCha8Rng::seed_from_u64(self.seed ^ position);
        let object = &objects[random.random_range(0..objects.len())];
        let item = random.random_range(1..1_000_000);
        let input = match (object.kind, random.random_range(0..3)) {
            (Kind::Counter, 0) => Input::Load,
            (Kind::Counter, _) => Input::Add(item % 10 + 1),
            (Kind::Queue, 0) => Input::TryPop,
            (Kind::Queue, _) => Input::Push(item),
            (Kind::Lock, _) => Input::OpenLock,
        };
        (input, object)
    }
}

/// What the attempts of an exactly-once thread did: each position once, with the first answer that came. A call that
/// `stands_alone` may have had an effect besides those at its position: its object has lost the records. So may one that is
/// answered after its owner began to cancel the thread, which ends the records at one server after the other.
///
/// # Errors
///
/// If a later attempt got another answer.
pub fn merge(
    attempts: Vec<Positions>,
    stands_alone: &dyn Fn(&Operation<ObjectId, Input, Output>) -> bool,
    cancel_began: Option<u64>,
) -> Result<Vec<Operation<ObjectId, Input, Output>>, String> {
    let mut merged = Positions::new();
    let mut separate = Vec::new();
    for (position, mut operation) in attempts.into_iter().flatten() {
        if stands_alone(&operation) {
            operation.answer = None;
            separate.push(operation);
            continue;
        }
        // A refused call leaves no record, and may be executed at its repetition. That nothing was found is noted at one
        // primary, and not at the next.
        operation.answer = operation.answer.filter(|(output, _)| {
            !matches!(
                output,
                Output::Refused | Output::Gone | Output::NotFound | Output::Did(_)
            )
        });
        let Some(first) = merged.get_mut(&position) else {
            merged.insert(position, operation);
            continue;
        };
        let differs = |(one, other): (&(Output, u64), &(Output, u64))| one.0 != other.0;
        let is_late = |(_, at): &(Output, u64)| cancel_began.is_some_and(|began| *at > began);
        if first
            .answer
            .as_ref()
            .zip(operation.answer.as_ref())
            .is_some_and(differs)
            && (operation.answer.as_ref().is_some_and(is_late)
                || first.answer.as_ref().is_some_and(is_late))
        {
            operation.answer = None;
            separate.push(operation);
            continue;
        }
        first.called = first.called.min(operation.called);
        first.answer = match (first.answer, operation.answer) {
            (Some((one, _)), Some((other, _))) if one != other => {
                return Err(format!(
                    "position {position}: {first:?}, and later {operation:?}"
                ));
            }
            (Some((output, at)), Some((_, later))) => Some((output, at.min(later))),
            (one, other) => one.or(other),
        };
    }
    Ok(separate.into_iter().chain(merged.into_values()).collect())
}
