//! Histories of concurrent clients, whose connections break now and then, are linearizable.

use std::sync::Arc;

use crucial::collections::{Map, Queue};
use crucial::sync::{AllReduce, AtomicCell, AtomicI64, Barrier, Latch, Mutex};
use crucial::sync::{OnceLock, Promise, Reduction, RwLock, Semaphore};
use crucial::{Error, Result, Shared};
use crucial_client::Client;
use crucial_linear::models::{
    Entry, EntryInput, EntryOutput, LatchInput, LatchOutput, Lock, LockInput, LockOutput,
    QueueInput, QueueOutput, Register, RegisterInput, RegisterOutput, SemaphoreInput,
    SemaphoreOutput,
};
use crucial_linear::{History, Model, Recorder, barrier, check, models};
use crucial_object::caller;
use libtest_mimic::{Failed, Trial};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Outcome;
use crate::place;
use crate::server::Server;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![
        a20_atomics_are_linearizable,
        b05_cells_are_linearizable,
        c01_barriers_are_linearizable,
        b09_map_entries_are_linearizable,
        b14_queues_are_linearizable,
        c07_semaphores_are_linearizable,
        c08_promises_are_linearizable,
        c09_latches_are_linearizable,
        c16_mutexes_are_linearizable,
        c16_read_write_locks_are_linearizable,
        c16_values_are_computed_once,
        c17_all_reduces_are_linearizable,
    ]
}

const CLIENTS: u64 = 6;
const CALLS: u64 = 150;

/// What a client does: its number, its random numbers, and where it writes down what it did.
type Act<'a, K, I, O> = dyn Fn(u64, &mut ChaCha8Rng, &Recorder<K, I, O>) -> Result<()> + Sync + 'a;

/// Lets clients act at the same time, and checks what they saw.
fn concurrently<K, M, T>(
    model: &M,
    make: impl FnOnce() -> Result<T>,
    act: impl Fn(&T) -> Box<Act<'_, K, M::Input, M::Output>>,
) -> Outcome
where
    K: Clone + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync,
    M: Model,
    M::Input: Clone + Send + Sync,
    M::Output: Clone + Send + Sync,
{
    let history = record(make, act)?;
    Ok(check(&history, model).map_err(|failure| failure.to_string())?)
}

/// Lets clients act at the same time, each with a session of its own; what they saw.
fn record<K: Send + Sync, I: Send + Sync, O: Send + Sync, T>(
    make: impl FnOnce() -> Result<T>,
    act: impl Fn(&T) -> Box<Act<'_, K, I, O>>,
) -> std::result::Result<History<K, I, O>, Failed> {
    let server = Server::start(&[])?;
    let owner = server.client()?;
    let object = place::with_client(&owner, make)?;
    let act = act(&object);
    let clients: Vec<Arc<Client>> = (0..CLIENTS)
        .map(|_| server.client())
        .collect::<std::result::Result<_, _>>()?;
    let recorder = Recorder::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .zip(&clients)
            .map(|(number, client)| {
                let (act, recorder) = (&act, &recorder);
                scope.spawn(move || {
                    caller::with(client.clone(), || -> Result<()> {
                        let mut random = ChaCha8Rng::seed_from_u64(number);
                        for call in 0..CALLS {
                            if random.random_range(0..20) == 0 {
                                client.break_connection();
                            }
                            act(number * CALLS + call, &mut random, recorder)?;
                        }
                        Ok(())
                    })
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a client panicked")??;
        }
        Ok::<(), Failed>(())
    })?;
    Ok(recorder.into_history())
}

fn a20_atomics_are_linearizable() -> Outcome {
    concurrently(
        &Register(7),
        || (0..3).map(|_| Shared::new(AtomicI64::new(7))).collect(),
        |atomics: &Vec<Shared<AtomicI64>>| {
            Box::new(|number, random, recorder| {
                let which = random.random_range(0..3);
                let (atomic, value) = (&atomics[which], random.random_range(0..5));
                let input = match random.random_range(0..5) {
                    0 => RegisterInput::Load,
                    1 => RegisterInput::Store(value),
                    2 => RegisterInput::Swap(value),
                    3 => RegisterInput::FetchAdd(value),
                    _ => RegisterInput::CompareExchange {
                        current: value,
                        new: value + 1,
                    },
                };
                let made = recorder.record(number, which, input, || {
                    use RegisterOutput::{Done, Exchanged, Value};
                    Ok::<_, Error>(match input {
                        RegisterInput::Load => Value(atomic.load()?),
                        RegisterInput::Store(value) => {
                            atomic.store(value)?;
                            Done
                        }
                        RegisterInput::Swap(value) => Value(atomic.swap(value)?),
                        RegisterInput::FetchAdd(value) => Value(atomic.fetch_add(value)?),
                        RegisterInput::CompareExchange { current, new } => {
                            Exchanged(atomic.compare_exchange(current, new)?)
                        }
                    })
                });
                made.map(drop)
            })
        },
    )
}

fn b05_cells_are_linearizable() -> Outcome {
    concurrently(
        &Register(0),
        || Shared::new(AtomicCell::new(0i64)),
        |cell: &Shared<AtomicCell<i64>>| {
            Box::new(|number, random, recorder| {
                let value = random.random_range(0..4);
                let input = match random.random_range(0..4) {
                    0 => RegisterInput::Load,
                    1 => RegisterInput::Store(value),
                    2 => RegisterInput::Swap(value),
                    _ => RegisterInput::CompareExchange {
                        current: value,
                        new: value + 1,
                    },
                };
                let made = recorder.record(number, (), input, || {
                    use RegisterOutput::{Done, Exchanged, Value};
                    Ok::<_, Error>(match input {
                        RegisterInput::Store(value) => {
                            cell.set(value)?;
                            Done
                        }
                        RegisterInput::Swap(value) => Value(cell.swap(value)?),
                        RegisterInput::CompareExchange { current, new } => {
                            Exchanged(cell.compare_exchange(current, new)?)
                        }
                        _ => Value(cell.get()?),
                    })
                });
                made.map(drop)
            })
        },
    )
}

fn b09_map_entries_are_linearizable() -> Outcome {
    concurrently(
        &Entry::<u64>::default(),
        || Shared::new(Map::new()),
        |map: &Shared<Map<u64, u64>>| {
            Box::new(|number, random, recorder| {
                let (key, value) = (random.random_range(0..5), random.random_range(0..4));
                let input = match random.random_range(0..4) {
                    0 => EntryInput::Get,
                    1 => EntryInput::Insert(value),
                    2 => EntryInput::Remove,
                    _ => EntryInput::CompareAndSet {
                        current: (value > 0).then_some(value),
                        new: value + 1,
                    },
                };
                let made = recorder.record(number, key, input, || {
                    Ok::<_, Error>(match input {
                        EntryInput::Get => EntryOutput::Value(map.get(&key)?),
                        EntryInput::Insert(value) => EntryOutput::Value(map.insert(key, value)?),
                        EntryInput::Remove => EntryOutput::Value(map.remove(&key)?),
                        EntryInput::CompareAndSet { current, new } => {
                            EntryOutput::Set(map.compare_and_set(key, current, new)?)
                        }
                    })
                });
                made.map(drop)
            })
        },
    )
}

fn b14_queues_are_linearizable() -> Outcome {
    concurrently(
        &models::Queue::<u64>::default(),
        || Shared::new(Queue::default()),
        |queue: &Shared<Queue<u64>>| {
            Box::new(|number, random, recorder| {
                // As many are pushed as are popped, so nobody waits for ever.
                recorder.record(number, (), QueueInput::Push(number), || {
                    queue.push(number).map(|()| QueueOutput::Done)
                })?;
                if random.random_range(0..3) > 0 {
                    let popped = || match queue.pop()? {
                        Some(value) => Ok(QueueOutput::Popped(value)),
                        None => Err(Error::from("nobody closes it")),
                    };
                    recorder.record(number, (), QueueInput::Pop, popped)?;
                } else {
                    let popped = || {
                        let value = queue.try_pop()?;
                        Ok::<_, Error>(value.map_or(QueueOutput::Empty, QueueOutput::Popped))
                    };
                    recorder.record(number, (), QueueInput::TryPop, popped)?;
                }
                Ok(())
            })
        },
    )
}

fn c07_semaphores_are_linearizable() -> Outcome {
    concurrently(
        &models::Semaphore {
            permits: 4,
            try_may_fail: true,
        },
        || Shared::new(Semaphore::new(4)),
        |semaphore: &Shared<Semaphore>| {
            Box::new(|number, random, recorder| {
                let permits = 1 + random.random_range(0..3);
                let taken = if random.random_range(0..2) == 0 {
                    recorder.record(number, (), SemaphoreInput::Acquire(permits), || {
                        semaphore
                            .acquire_many(permits)
                            .map(|_| SemaphoreOutput::Done)
                    })?;
                    true
                } else {
                    let tried =
                        recorder.record(number, (), SemaphoreInput::TryAcquire(permits), || {
                            let taken = semaphore.try_acquire_many(permits)?;
                            Ok::<_, Error>(SemaphoreOutput::Acquired(taken))
                        })?;
                    tried == SemaphoreOutput::Acquired(true)
                };
                recorder.record(number, (), SemaphoreInput::Available, || {
                    semaphore.available_permits().map(SemaphoreOutput::Permits)
                })?;
                if taken {
                    recorder.record(number, (), SemaphoreInput::Release(permits), || {
                        semaphore
                            .release_many(permits)
                            .map(|()| SemaphoreOutput::Done)
                    })?;
                }
                Ok(())
            })
        },
    )
}

/// A promise is a map entry that is set once.
fn c08_promises_are_linearizable() -> Outcome {
    concurrently(
        &Entry::<u64>::default(),
        || (0..40).map(|_| Shared::new(Promise::new())).collect(),
        |promises: &Vec<Shared<Promise<u64>>>| {
            Box::new(|number, random, recorder| {
                let which = random.random_range(0..40);
                let promise = &promises[which as usize];
                let set = EntryInput::CompareAndSet {
                    current: None,
                    new: number,
                };
                let _set_or_known = match random.random_range(0..3) {
                    0 => recorder.record(number, which, EntryInput::Get, || {
                        promise.get().map(EntryOutput::Value)
                    })?,
                    1 => recorder.record(number, which, set, || {
                        promise.set(number).map(EntryOutput::Set)
                    })?,
                    _ => {
                        let waiting = promise.deferred().wait();
                        recorder.record(number, which, set, || {
                            promise.set(number).map(EntryOutput::Set)
                        })?;
                        recorder.record(number, which, EntryInput::Get, || {
                            waiting.wait().map(|value| EntryOutput::Value(Some(value)))
                        })?
                    }
                };
                Ok(())
            })
        },
    )
}

fn c09_latches_are_linearizable() -> Outcome {
    const COUNT: u64 = CLIENTS * CALLS / 2;
    concurrently(
        &models::Latch(COUNT),
        || Shared::new(Latch::new(COUNT)),
        |latch: &Shared<Latch>| {
            Box::new(|number, random, recorder| {
                recorder.record(number, (), LatchInput::CountDown, || {
                    latch.count_down().map(|_| LatchOutput::Done)
                })?;
                recorder.record(number, (), LatchInput::Count, || {
                    latch.get().map(LatchOutput::Count)
                })?;
                // Others go on, so this ends.
                if number % CALLS == CALLS - 1 && random.random_range(0..2) == 0 {
                    recorder.record(number, (), LatchInput::Wait, || {
                        latch.wait().map(|()| LatchOutput::Done)
                    })?;
                }
                Ok(())
            })
        },
    )
}

fn c16_mutexes_are_linearizable() -> Outcome {
    concurrently(
        &Lock,
        || Shared::new(Mutex::new(0u64)),
        |mutex: &Shared<Mutex<u64>>| {
            Box::new(|number, random, recorder| {
                let mut guard = None;
                if random.random_range(0..2) == 0 {
                    recorder.record(number, (), LockInput::Lock, || {
                        let taken = guard.insert(mutex.lock()?);
                        Ok::<_, Error>(LockOutput::Locked(taken.token()))
                    })?;
                } else {
                    recorder.record(number, (), LockInput::TryLock, || {
                        guard = mutex.try_lock()?;
                        let token = guard.as_ref().map(|guard| guard.token());
                        Ok::<_, Error>(token.map_or(LockOutput::Busy, LockOutput::Locked))
                    })?;
                }
                if let Some(mut guard) = guard {
                    // Each holder finds what the one before left.
                    let token = guard.token();
                    assert_eq!(*guard + 1, token);
                    *guard = token;
                    recorder.record(number, (), LockInput::Unlock { token }, || {
                        guard.unlock().map(|()| LockOutput::Unlocked)
                    })?;
                }
                Ok(())
            })
        },
    )
}

/// A writer takes all the permits of a semaphore, a reader one.
fn c16_read_write_locks_are_linearizable() -> Outcome {
    const ALL: u64 = 1000;
    concurrently(
        &models::Semaphore {
            permits: ALL,
            try_may_fail: true,
        },
        || Shared::new(RwLock::new(0u64)),
        |lock: &Shared<RwLock<u64>>| {
            Box::new(|number, random, recorder| {
                if random.random_range(0..3) == 0 {
                    let mut guard = None;
                    recorder.record(number, (), SemaphoreInput::Acquire(ALL), || {
                        guard = Some(lock.write()?);
                        Ok::<_, Error>(SemaphoreOutput::Done)
                    })?;
                    recorder.record(number, (), SemaphoreInput::Release(ALL), || {
                        guard.take().map_or(Ok(()), |mut guard| {
                            *guard += 1;
                            guard.unlock()
                        })?;
                        Ok::<_, Error>(SemaphoreOutput::Done)
                    })?;
                } else {
                    let mut guard = None;
                    recorder.record(number, (), SemaphoreInput::Acquire(1), || {
                        guard = Some(lock.read()?);
                        Ok::<_, Error>(SemaphoreOutput::Done)
                    })?;
                    recorder.record(number, (), SemaphoreInput::Release(1), || {
                        drop(guard.take());
                        Ok::<_, Error>(SemaphoreOutput::Done)
                    })?;
                }
                Ok(())
            })
        },
    )
}

fn c01_barriers_are_linearizable() -> Outcome {
    let history = record(
        || {
            let barrier = || Shared::new(Barrier::new(CLIENTS as usize));
            Ok([barrier()?, barrier()?])
        },
        |barriers: &[Shared<Barrier>; 2]| {
            Box::new(|number, _, recorder| {
                // All take the same one, the two in turn.
                let which = (number % CALLS / 2 % 2) as usize;
                let wait = || barriers[which].wait().map(|result| result.is_leader());
                recorder.record(number, which, (), wait).map(drop)
            })
        },
    )?;
    Ok(barrier::check(&history, CLIENTS as usize).map_err(|broken| broken.to_string())?)
}

/// Each round of an all-reduce is one of a barrier, and its sum is that of the round.
fn c17_all_reduces_are_linearizable() -> Outcome {
    let history = record(
        || Shared::new(AllReduce::new(CLIENTS as usize, Reduction::Sum)),
        |all: &Shared<AllReduce>| {
            Box::new(|number, _, recorder| {
                let (rank, round) = (number / CALLS, number % CALLS);
                let contribute = || {
                    let given = vec![rank as f64, (round * rank) as f64];
                    let sum = (0..CLIENTS).sum::<u64>();
                    let got = all.contribute(rank, given)?;
                    assert_eq!(got, [sum as f64, (round * sum) as f64]);
                    // The barrier check wants a leader; take one.
                    Ok::<_, Error>(rank == 0)
                };
                recorder.record(number, (), (), contribute).map(drop)
            })
        },
    )?;
    Ok(barrier::check(&history, CLIENTS as usize).map_err(|broken| broken.to_string())?)
}

/// The first to come sets it, while the others wait: a map entry that is set once.
fn c16_values_are_computed_once() -> Outcome {
    concurrently(
        &Entry::<u64>::default(),
        || (0..60).map(|_| Shared::new(OnceLock::new())).collect(),
        |values: &Vec<Shared<OnceLock<u64>>>| {
            Box::new(|number, random, recorder| {
                let which = random.random_range(0..60);
                let value = &values[which as usize];
                let set = EntryInput::CompareAndSet {
                    current: None,
                    new: number,
                };
                let running = recorder.begin(number, which, set);
                let mut computed = false;
                let got = value.get_or_init(|| {
                    computed = true;
                    number
                })?;
                running.returned(EntryOutput::Set(computed));
                recorder.record(number, which, EntryInput::Get, || {
                    value.get().map(EntryOutput::Value)
                })?;
                assert!(computed == (got == number));
                Ok(())
            })
        },
    )
}
