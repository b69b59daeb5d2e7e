//! Ordinary implementations of the objects, independent of the models.

use std::collections::VecDeque;
use std::fmt::Debug;

use crucial_linear::Model;
use crucial_linear::models::{
    Entry, EntryInput, EntryOutput, Lock, LockInput, LockOutput, Queue, QueueInput, QueueOutput,
    Register, RegisterInput, RegisterOutput, Semaphore, SemaphoreInput, SemaphoreOutput,
};

type Input<T> = <<T as Object>::Model as Model>::Input;
type Output<T> = <<T as Object>::Model as Model>::Output;

pub trait Object: Clone + Default {
    type Model: Model<Input: Clone + Debug, Output: Clone + Debug + PartialEq>;

    fn model() -> Self::Model;
    fn input(&mut self, choice: u8) -> Input<Self>;
    /// Executes a call; `None` if the call has to wait.
    fn perform(&mut self, input: &Input<Self>) -> Option<Output<Self>>;
    /// Another output of the same method.
    fn wrong(output: &Output<Self>, how: u8) -> Option<Output<Self>>;
}

/// An integer with few values, so that a wrong output is likely to be right in another order.
#[derive(Clone, Default)]
pub struct Integer(i64);

impl Object for Integer {
    type Model = Register;

    fn model() -> Register {
        Register(0)
    }

    fn input(&mut self, choice: u8) -> RegisterInput {
        let value = i64::from(choice / 5 % 4);
        match choice % 5 {
            0 => RegisterInput::Load,
            1 => RegisterInput::Store(value),
            2 => RegisterInput::Swap(value),
            3 => RegisterInput::FetchAdd(value - 1),
            _ => RegisterInput::CompareExchange {
                current: value % 3,
                new: value,
            },
        }
    }

    fn perform(&mut self, input: &RegisterInput) -> Option<RegisterOutput> {
        let before = self.0;
        Some(match *input {
            RegisterInput::Load => RegisterOutput::Value(before),
            RegisterInput::Store(value) => {
                self.0 = value;
                RegisterOutput::Done
            }
            RegisterInput::Swap(value) => {
                self.0 = value;
                RegisterOutput::Value(before)
            }
            RegisterInput::FetchAdd(value) => {
                self.0 += value;
                RegisterOutput::Value(before)
            }
            RegisterInput::CompareExchange { current, new } => {
                if before == current {
                    self.0 = new;
                    RegisterOutput::Exchanged(Ok(before))
                } else {
                    RegisterOutput::Exchanged(Err(before))
                }
            }
        })
    }

    fn wrong(output: &RegisterOutput, how: u8) -> Option<RegisterOutput> {
        let shift = if how.is_multiple_of(2) { 1 } else { -1 };
        match *output {
            RegisterOutput::Done => None,
            RegisterOutput::Value(value) => Some(RegisterOutput::Value(value + shift)),
            RegisterOutput::Exchanged(Ok(value)) => Some(RegisterOutput::Exchanged(Err(value))),
            RegisterOutput::Exchanged(Err(value)) => {
                Some(RegisterOutput::Exchanged(Err(value + shift)))
            }
        }
    }
}

/// A queue of distinct values, which is kept short (see the model).
#[derive(Clone, Default)]
pub struct Fifo {
    values: VecDeque<u32>,
    next: u32,
}

impl Object for Fifo {
    type Model = Queue<u32>;

    fn model() -> Queue<u32> {
        Queue::default()
    }

    fn input(&mut self, choice: u8) -> QueueInput<u32> {
        match choice % 4 {
            0 | 1 if self.values.len() < 3 => {
                self.next += 1;
                QueueInput::Push(self.next)
            }
            0..3 => QueueInput::TryPop,
            _ => QueueInput::Pop,
        }
    }

    fn perform(&mut self, input: &QueueInput<u32>) -> Option<QueueOutput<u32>> {
        match *input {
            QueueInput::Push(value) => {
                self.values.push_back(value);
                Some(QueueOutput::Done)
            }
            QueueInput::TryPop => {
                let first = self.values.pop_front();
                Some(first.map_or(QueueOutput::Empty, QueueOutput::Popped))
            }
            QueueInput::Pop => self.values.pop_front().map(QueueOutput::Popped),
        }
    }

    fn wrong(output: &QueueOutput<u32>, how: u8) -> Option<QueueOutput<u32>> {
        match *output {
            QueueOutput::Done => None,
            QueueOutput::Popped(value) if how.is_multiple_of(2) => {
                Some(QueueOutput::Popped(value % 4 + 1))
            }
            QueueOutput::Popped(_) => Some(QueueOutput::Empty),
            QueueOutput::Empty => Some(QueueOutput::Popped(u32::from(how % 4))),
        }
    }
}

/// A semaphore with two initial permits.
#[derive(Clone)]
pub struct CountingSemaphore(u64);

impl Default for CountingSemaphore {
    fn default() -> Self {
        CountingSemaphore(2)
    }
}

impl Object for CountingSemaphore {
    type Model = Semaphore;

    fn model() -> Semaphore {
        Semaphore {
            permits: 2,
            try_may_fail: false,
        }
    }

    fn input(&mut self, choice: u8) -> SemaphoreInput {
        let count = u64::from(choice / 4 % 2 + 1);
        match choice % 4 {
            0 => SemaphoreInput::Acquire(count),
            1 => SemaphoreInput::TryAcquire(count),
            2 => SemaphoreInput::Release(count),
            _ => SemaphoreInput::Available,
        }
    }

    fn perform(&mut self, input: &SemaphoreInput) -> Option<SemaphoreOutput> {
        match *input {
            SemaphoreInput::Acquire(count) if self.0 < count => None,
            SemaphoreInput::Acquire(count) => {
                self.0 -= count;
                Some(SemaphoreOutput::Done)
            }
            SemaphoreInput::TryAcquire(count) => {
                let enough = self.0 >= count;
                self.0 -= if enough { count } else { 0 };
                Some(SemaphoreOutput::Acquired(enough))
            }
            SemaphoreInput::Release(count) => {
                self.0 += count;
                Some(SemaphoreOutput::Done)
            }
            SemaphoreInput::Available => Some(SemaphoreOutput::Permits(self.0)),
        }
    }

    fn wrong(output: &SemaphoreOutput, how: u8) -> Option<SemaphoreOutput> {
        match *output {
            SemaphoreOutput::Done => None,
            SemaphoreOutput::Acquired(did) => Some(SemaphoreOutput::Acquired(!did)),
            SemaphoreOutput::Permits(permits) => Some(SemaphoreOutput::Permits(
                permits + 1 - 2 * u64::from(permits > 0 && how.is_multiple_of(2)),
            )),
        }
    }
}

/// An entry of a map.
#[derive(Clone, Default)]
pub struct MapEntry(Option<u8>);

impl Object for MapEntry {
    type Model = Entry<u8>;

    fn model() -> Entry<u8> {
        Entry::default()
    }

    fn input(&mut self, choice: u8) -> EntryInput<u8> {
        let value = choice / 4 % 3;
        match choice % 4 {
            0 => EntryInput::Get,
            1 => EntryInput::Insert(value),
            2 => EntryInput::Remove,
            _ => EntryInput::CompareAndSet {
                current: (value > 0).then_some(value),
                new: value + 1,
            },
        }
    }

    fn perform(&mut self, input: &EntryInput<u8>) -> Option<EntryOutput<u8>> {
        Some(match *input {
            EntryInput::Get => EntryOutput::Value(self.0),
            EntryInput::Insert(value) => EntryOutput::Value(self.0.replace(value)),
            EntryInput::Remove => EntryOutput::Value(self.0.take()),
            EntryInput::CompareAndSet { current, new } => {
                let same = self.0 == current;
                if same {
                    self.0 = Some(new);
                }
                EntryOutput::Set(same)
            }
        })
    }

    fn wrong(output: &EntryOutput<u8>, how: u8) -> Option<EntryOutput<u8>> {
        Some(match *output {
            EntryOutput::Value(None) => EntryOutput::Value(Some(how % 3)),
            EntryOutput::Value(Some(_)) if how.is_multiple_of(2) => EntryOutput::Value(None),
            EntryOutput::Value(Some(value)) => EntryOutput::Value(Some((value + 1) % 3)),
            EntryOutput::Set(did) => EntryOutput::Set(!did),
        })
    }
}

/// A lock whose tokens have gaps. Unlocks use a token that may be wrong.
#[derive(Clone, Default)]
pub struct TokenLock {
    holder: Option<u64>,
    last: u64,
}

impl Object for TokenLock {
    type Model = Lock;

    fn model() -> Lock {
        Lock
    }

    fn input(&mut self, choice: u8) -> LockInput {
        match choice % 5 {
            0 => LockInput::Lock,
            1 | 2 => LockInput::TryLock,
            3 => LockInput::Unlock { token: self.last },
            _ => LockInput::Unlock {
                token: self.last.saturating_sub(1),
            },
        }
    }

    fn perform(&mut self, input: &LockInput) -> Option<LockOutput> {
        match *input {
            LockInput::Lock if self.holder.is_some() => None,
            LockInput::TryLock if self.holder.is_some() => Some(LockOutput::Busy),
            LockInput::Lock | LockInput::TryLock => {
                self.last += 1 + self.last % 2;
                self.holder = Some(self.last);
                Some(LockOutput::Locked(self.last))
            }
            LockInput::Unlock { token } if self.holder == Some(token) => {
                self.holder = None;
                Some(LockOutput::Unlocked)
            }
            LockInput::Unlock { .. } => Some(LockOutput::NotHeld),
        }
    }

    fn wrong(_: &LockOutput, _: u8) -> Option<LockOutput> {
        None
    }
}
