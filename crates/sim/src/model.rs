//! What the objects of the simulation do when nothing goes wrong.

use std::collections::VecDeque;

use crucial_linear::Model;

/// An object that comes and goes: a counter, a queue or a lock.
#[derive(Clone, Debug)]
pub struct Thing {
    /// Clients that have died: what they hold comes back.
    pub dead: Vec<u64>,
    /// What more deaths than it has replicas for may have done to it.
    pub loss: Loss,
}

/// What may have become of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// The object has all that it ever had.
    None,
    /// The object is lost, and says so.
    Lost,
    /// Nobody is left who knows that there was one.
    Forgotten,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing.
    Absent,
    /// A counter.
    Counter(i64),
    /// A queue.
    Queue(VecDeque<i64>),
    /// A lock, and which client holds it.
    Lock(Option<u64>),
    /// Something that is lost.
    Lost,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Creates a counter of 0, or finds one.
    OpenCounter,
    /// Creates an empty queue, or finds one.
    OpenQueue,
    /// Creates a free lock, or finds one.
    OpenLock,
    /// Finds a counter.
    FindCounter,
    /// Creates a counter of 0, in place of one that is there.
    RecreateCounter,
    /// Takes the lock for a client; waits until it is free.
    Acquire(u64),
    /// Gives it back.
    Release(u64),
    /// Removes the object.
    Delete,
    /// Adds; gives what was there.
    Add(i64),
    /// Reads.
    Load,
    /// Appends.
    Push(i64),
    /// Takes the first; waits for one.
    Pop,
    /// Takes the first.
    TryPop,
}

/// Its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Of an open or delete: whether it did.
    Did(bool),
    /// Of add and load.
    Value(i64),
    /// Of push.
    Pushed,
    /// Of pop and try-pop.
    Popped(Option<i64>),
    /// The object is gone.
    Gone,
    /// Of pop and acquire: it was withdrawn, or has waited for as long as it may.
    Withdrawn,
    /// A limit was reached. A copy of the request that comes later may be executed still.
    Refused,
    /// Of find: no such object.
    NotFound,
    /// Of acquire and release.
    Held(bool),
    /// Of release: it was somebody else's.
    NotHeld,
    /// Of a call that took effect, and whose answer nobody knows.
    Took,
}

impl Model for Thing {
    type State = State;
    type Input = Input;
    type Output = Output;

    fn init(&self) -> State {
        State::Absent
    }

    fn step(&self, state: &State, input: &Input, output: Option<&Output>) -> Option<State> {
        let is_there = !matches!(state, State::Absent | State::Lost);
        if output == Some(&Output::Gone) && is_there && self.loss >= Loss::Lost {
            return Some(State::Lost);
        }
        if self.loss == Loss::Forgotten {
            match (state, input, output) {
                // There may have been one, for all that anybody knows.
                (State::Absent, _, Some(Output::Gone)) => return Some(State::Absent),
                // There is nothing that could be removed; what is gone stays gone.
                (State::Absent, ..) => {}
                (_, Input::Delete, Some(Output::Did(false))) => return Some(State::Lost),
                _ => {}
            }
        }
        if output == Some(&Output::Withdrawn) {
            return Some(state.clone());
        }
        let state = match state {
            State::Lock(Some(holder)) if self.dead.contains(holder) => match (input, output) {
                // Its end is noticed sooner or later, and then by itself as well.
                (Input::Acquire(_), _) => &State::Lock(None),
                (Input::Release(client), Some(Output::NotHeld)) if client == holder => {
                    &State::Lock(None)
                }
                _ => state,
            },
            state => state,
        };
        let (next, expected) = run(state, input)?;
        match output {
            None | Some(Output::Took) => Some(next),
            Some(output) => (*output == expected).then_some(next),
        }
    }
}

impl Input {
    /// Whether it may make an object.
    pub fn creates(self) -> bool {
        use Input::{OpenCounter, OpenLock, OpenQueue, RecreateCounter};
        matches!(self, OpenCounter | OpenLock | OpenQueue | RecreateCounter)
    }

    /// Whether it may wait.
    pub fn may_wait(self) -> bool {
        matches!(self, Input::Pop | Input::Acquire(_))
    }
}

/// The state after, and the result; `None` if it waits.
fn run(state: &State, input: &Input) -> Option<(State, Output)> {
    let same = || state.clone();
    Some(match (state, input) {
        (State::Absent, Input::OpenCounter) => (State::Counter(0), Output::Did(true)),
        (State::Absent, Input::OpenQueue) => (State::Queue(VecDeque::new()), Output::Did(true)),
        (State::Absent, Input::OpenLock) => (State::Lock(None), Output::Did(true)),
        (State::Counter(_), Input::OpenCounter)
        | (State::Queue(_), Input::OpenQueue)
        | (State::Lock(_), Input::OpenLock) => (same(), Output::Did(false)),
        (State::Absent, Input::FindCounter) => (State::Absent, Output::NotFound),
        (State::Counter(_), Input::FindCounter) => (same(), Output::Did(false)),
        (_, Input::RecreateCounter) => (State::Counter(0), Output::Did(true)),
        (State::Lock(None), Input::Acquire(client)) => {
            (State::Lock(Some(*client)), Output::Held(true))
        }
        (State::Lock(Some(_)), Input::Acquire(_)) => return None,
        (State::Lock(holder), Input::Release(client)) => match *holder == Some(*client) {
            true => (State::Lock(None), Output::Held(false)),
            false => (same(), Output::NotHeld),
        },
        (State::Absent, Input::Delete) => (State::Absent, Output::Did(false)),
        (_, Input::Delete) => (State::Absent, Output::Did(true)),
        (State::Counter(value), Input::Add(more)) => {
            (State::Counter(value + more), Output::Value(*value))
        }
        (State::Counter(value), Input::Load) => (same(), Output::Value(*value)),
        (State::Queue(items), Input::Push(item)) => {
            let mut items = items.clone();
            items.push_back(*item);
            (State::Queue(items), Output::Pushed)
        }
        (State::Queue(items), Input::Pop | Input::TryPop) => {
            let mut items = items.clone();
            match (items.pop_front(), input) {
                (None, Input::Pop) => return None,
                (item, _) => (State::Queue(items), Output::Popped(item)),
            }
        }
        _ => (same(), Output::Gone),
    })
}
