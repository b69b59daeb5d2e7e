//! Locks against a few rules: who holds them, and who stands in line.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crucial_object::caller::{self, Call, CallNames, InFlight};
use crucial_object::collections::ByteBuf;
use crucial_object::sync::{Mutex, RwLock};
use crucial_object::{Error, MethodId, Result, SessionId, Shared, decode, encode};
use proptest::prelude::*;
use serde::Serialize;

use crate::in_process::InProcess;
use crate::lock_kinds::Lock;
use crate::{check_processes, client};

#[derive(Clone, Debug)]
enum Operation {
    /// The caller that locks, and whether to write (a mutex is always locked to write).
    Lock(u64, bool),
    TryLock(u64, bool),
    /// The holder at this place unlocks, with a new value if it may write.
    Unlock(usize, Option<u32>),
    Withdraw(usize),
    Die(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let who = || 1..4u64;
    prop_oneof![
        6 => (who(), any::<bool>()).prop_map(|(who, write)| Lock(who, write)),
        3 => (who(), any::<bool>()).prop_map(|(who, write)| TryLock(who, write)),
        6 => (0..4usize, prop::option::of(any::<u32>())).prop_map(|(place, value)| Unlock(place, value)),
        2 => (0..4usize).prop_map(Withdraw),
        1 => who().prop_map(Die),
    ]
}

/// Sends the call behind `lock` and behind the drop of a guard, which block, or have no result.
fn send<L: Lock>(lock: &Shared<L>, method: &'static str, args: &[u8]) -> Result<Box<dyn InFlight>> {
    let names = CallNames {
        type_name: L::NAME,
        method,
    };
    caller::current()?.start(&Call {
        object: lock.id(),
        method: MethodId::of(method),
        names,
        timeout: None,
        args,
    })
}

/// The token and the value, once the lock is given.
fn given(call: &mut Box<dyn InFlight>) -> Option<(u64, u32)> {
    let Poll::Ready(reply) = call.poll(&mut Context::from_waker(Waker::noop())) else {
        return None;
    };
    let (token, value): (u64, ByteBuf) = decode(&reply.unwrap()).unwrap();
    Some((token, decode(&value).unwrap()))
}

struct Holder<G> {
    who: u64,
    write: bool,
    token: u64,
    /// If it came without waiting.
    guard: Option<G>,
}

struct Request {
    who: u64,
    write: bool,
    call: Box<dyn InFlight>,
}

struct Model<L: Lock> {
    lock: Shared<L>,
    value: u32,
    token: u64,
    holders: Vec<Holder<L::Guard>>,
    /// Those who were taken for dead, and do not know it.
    fenced: Vec<Holder<L::Guard>>,
    line: VecDeque<Request>,
}

impl<L: Lock> Model<L> {
    fn admits(&self, write: bool) -> bool {
        self.holders.is_empty() || !write && self.holders.iter().all(|holder| !holder.write)
    }

    fn hold(&mut self, who: u64, write: bool, (token, value): (u64, u32), guard: Option<L::Guard>) {
        assert!(token > self.token, "{token} is not after {}", self.token);
        assert_eq!(value, self.value);
        self.token = token;
        self.holders.push(Holder {
            who,
            write,
            token,
            guard,
        });
    }

    fn settle(&mut self) {
        while self
            .line
            .front()
            .is_some_and(|first| self.admits(first.write))
        {
            let Request {
                who,
                write,
                mut call,
            } = self.line.pop_front().unwrap();
            self.hold(who, write, given(&mut call).expect("it is free"), None);
        }
        assert!(
            self.line
                .iter_mut()
                .all(|request| given(&mut request.call).is_none())
        );
    }

    /// Gives a lock back; by the guard if there is one.
    fn unlock(&self, holder: Holder<L::Guard>, value: Option<u32>) -> Result<()> {
        if let Some(guard) = holder.guard {
            return L::unlock(guard, value);
        }
        let value = value.map(|value| encode(&value)).transpose()?;
        self.release(holder.token, value.map(ByteBuf::from))
    }

    fn release(&self, token: u64, value: impl Serialize) -> Result<()> {
        let args = encode(&(token, value))?;
        send(&self.lock, "release", &args)?.wait().map(drop)
    }
}

fn excludes<L: Lock>(mutex: bool, process: InProcess, operations: Vec<Operation>) -> Result<()> {
    use Operation::*;
    let lock = client(&process, 1, || L::make(7))?;
    let mut model = Model {
        lock: lock.clone(),
        value: 7,
        token: 0,
        holders: Vec::new(),
        fenced: Vec::new(),
        line: VecDeque::new(),
    };
    for operation in operations {
        match operation {
            Lock(who, write) => {
                let write = write || mutex;
                let call = client(&process, who, || {
                    send(&lock, "acquire", &L::acquire(write)?)
                })?;
                model.line.push_back(Request { who, write, call });
            }
            TryLock(who, write) => {
                let write = write || mutex;
                let free = model.line.is_empty() && model.admits(write);
                let guard = client(&process, who, || L::try_lock(&lock, write))?;
                assert_eq!(guard.is_some(), free);
                if let Some(guard) = guard {
                    model.hold(
                        who,
                        write,
                        (L::token(&guard), L::value(&guard)),
                        Some(guard),
                    );
                }
            }
            Unlock(place, value) if place < model.holders.len() => {
                let holder = model.holders.remove(place);
                let value = value.filter(|_| holder.write);
                client(&process, holder.who, || model.unlock(holder, value))?;
                model.value = value.unwrap_or(model.value);
            }
            Unlock(_, value) => {
                // What is written by who has lost the lock arrives nowhere.
                if let Some(lost) = model.fenced.pop().filter(|lost| lost.write) {
                    let token = lost.token;
                    let late = client(&process, lost.who, || model.unlock(lost, value));
                    assert_eq!(late, Err(Error::LockLost { token }));
                }
            }
            Withdraw(place) => drop(model.line.remove(place)),
            Die(who) => {
                process.as_session(SessionId(who)).end_session();
                model.line.retain(|request| request.who != who);
                let lost = model.holders.extract_if(.., |holder| holder.who == who);
                model.fenced.extend(lost);
            }
        }
        model.settle();
        let seen = client(&process, 1, || L::look(&lock))?;
        let readers = model.holders.iter().filter(|holder| !holder.write).count() as u64;
        let writing = model.holders.iter().any(|holder| holder.write);
        assert_eq!(
            seen,
            (readers, writing, model.line.len() as u64, model.value)
        );
    }
    // Guards that are dropped unlock, so each needs its client.
    for holder in model.holders.drain(..).chain(model.fenced.drain(..)) {
        client(&process, holder.who, || drop(holder));
    }
    Ok(())
}

#[test]
fn a_mutex_has_one_holder_and_a_line() {
    check_processes(operation(), |process, operations| {
        excludes::<Mutex<u32>>(true, process, operations)
    });
}

#[test]
fn a_reader_writer_lock_has_readers_or_a_writer_and_a_line() {
    check_processes(operation(), |process, operations| {
        excludes::<RwLock<u32>>(false, process, operations)
    });
}
