//! Exactly-once threads: a thread that runs again gets the results of the calls that it made before.
//!
//! Such a thread has a session of its own, which passes from attempt to attempt. Its calls are numbered by their
//! position in the thread, so that the call at one position has the same identity in each attempt: the
//! object's completion record answers it. A [`Journal`], a shared object of the run, holds what was called at
//! each position. Each call goes behind its journal entry on one connection. An attempt that follows another
//! first reads the journal, and is held to it.
//!
//! The server fences: a newer attempt's hello takes the session over, and frames of the older one are not
//! executed any more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use crucial_client::{Client, Config};
use crucial_core::frame::object_id;
use crucial_object::caller::{self, Call, CallNames, Caller, InFlight, Lifetime, Open, Opened};
use crucial_object::{
    Error, Journal, JournalEntry, MethodId, ObjectId, Result, Shared, SharedType, ThreadId, decode,
    encode,
};
use sha2::{Digest, Sha256};

use crate::task::Payload;

/// Calls that an exactly-once thread may make: each leaves a record until the thread has ended.
pub const EXACTLY_ONCE_CALLS_MAX: u64 = 1_000_000;

/// Entries that are read at once.
const PAGE: u64 = 10_000;

/// The caller of an exactly-once thread.
pub(crate) struct Recorded {
    client: Arc<Client>,
    journal: ObjectId,
    thread: ThreadId,
    name: String,
    state: Mutex<State>,
    randoms: AtomicU64,
}

impl std::fmt::Debug for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorded")
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

struct State {
    /// The position of the next call, from 0.
    next: u64,
    /// What earlier attempts did.
    record: Vec<JournalEntry>,
    /// Calls that destructors made while the thread unwound, and that wait for it to go on.
    unwound: Vec<UnwoundCall>,
    /// Why there are no calls any more.
    diverged: Option<Error>,
}

/// A call of a destructor that ran because of a panic, mostly a guard's.
///
/// An attempt that panics for good has not made it: the next attempt has the guard still, as its record says.
/// If the thread catches its panic and goes on, the call is made before the next one, as each attempt does.
struct UnwoundCall {
    object: ObjectId,
    method: MethodId,
    names: CallNames,
    timeout: Option<Duration>,
    args: Vec<u8>,
}

/// The journal of a thread.
pub(crate) fn journal_key(thread: ThreadId) -> String {
    format!("thread/{thread}")
}

/// The journal's id.
pub(crate) fn journal_id(client: &Client, thread: ThreadId) -> ObjectId {
    object_id(
        Lifetime::Run,
        &client.run(),
        client.namespace(),
        Journal::NAME,
        &journal_key(thread),
    )
}

impl Recorded {
    /// Begins an attempt: older ones are fenced. `worker` is the client of this process.
    pub fn begin(worker: &Arc<Client>, mut config: Config, payload: &Payload) -> Result<Recorded> {
        config.exactly_once = Some(payload.attempt());
        let client = Client::connect(config)?;
        // The older attempts can add nothing more, so the journal is complete.
        let record = caller::with(worker.clone(), || -> Result<_> {
            let journal = Shared::named(journal_key(payload.thread), Journal::default())?;
            let mut record: Vec<JournalEntry> = Vec::new();
            loop {
                let page = journal.range(record.len() as u64, PAGE)?;
                if page.is_empty() {
                    return Ok(record);
                }
                record.extend(page);
            }
        })?;
        Ok(Recorded {
            journal: journal_id(&client, payload.thread),
            client,
            thread: payload.thread,
            name: payload.name.clone(),
            state: Mutex::new(State {
                next: 0,
                record,
                unwound: Vec::new(),
                diverged: None,
            }),
            randoms: AtomicU64::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The thread has ended, and `returned` or not; whether it has followed its record.
    pub fn finish(&self, returned: bool) -> Result<()> {
        let mut state = self.state();
        if returned {
            // What they come to is reported to nobody, as in any destructor.
            let _ = self.catch_up(&mut state);
        }
        match &state.diverged {
            Some(diverged) => Err(diverged.clone()),
            None => Ok(()),
        }
    }

    /// The time at this position.
    pub fn now(&self) -> Result<SystemTime> {
        not_unwinding()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or(Duration::ZERO);
        let mut entry = JournalEntry::new("crucial::thread::now".to_owned(), &[]);
        entry.time = Some(now);
        let (time, mut noted) = {
            let mut state = self.state();
            self.catch_up(&mut state)?;
            let recorded = self.follow(&mut state, &entry)?.and_then(|old| old.time);
            entry.time = Some(recorded.unwrap_or(now));
            (recorded.unwrap_or(now), self.note(&mut state, &entry)?)
        };
        // Nobody may act on a time that is not recorded.
        noted.wait()?;
        Ok(SystemTime::UNIX_EPOCH + time)
    }

    /// The next random number: they follow from the thread's id, which is random.
    pub fn random(&self) -> u64 {
        let count = self.randoms.fetch_add(1, Ordering::Relaxed);
        let mut hash = Sha256::new();
        hash.update(self.thread.0);
        hash.update(count.to_le_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        u64::from_le_bytes(first)
    }

    /// Compares the next call with the record, and gives what the record has, if it goes that far.
    fn follow(&self, state: &mut State, entry: &JournalEntry) -> Result<Option<JournalEntry>> {
        if let Some(diverged) = &state.diverged {
            return Err(diverged.clone());
        }
        if state.next >= EXACTLY_ONCE_CALLS_MAX {
            return Err(Error::LimitExceeded {
                limit: "EXACTLY_ONCE_CALLS_MAX".to_owned(),
                max: EXACTLY_ONCE_CALLS_MAX,
                detail:
                    "an exactly-once thread keeps a record of each call: use several threads, or \
                         methods that do more in one call"
                        .to_owned(),
            });
        }
        let index = usize::try_from(state.next).unwrap_or(usize::MAX);
        let Some(recorded) = state.record.get(index) else {
            return Ok(None);
        };
        if recorded.fingerprint != entry.fingerprint || recorded.what != entry.what {
            let (mut was, mut is) = (recorded.what.clone(), entry.what.clone());
            if was == is {
                was.push_str(" with other arguments, or on another object");
                is.push_str(" with these");
            }
            let diverged = Error::Diverged {
                thread: self.name.clone(),
                position: state.next + 1,
                recorded: was,
                now: is,
            };
            state.diverged = Some(diverged.clone());
            return Err(diverged);
        }
        Ok(Some(recorded.clone()))
    }

    /// Sends the journal entry of the next call.
    fn note(&self, state: &mut State, entry: &JournalEntry) -> Result<Box<dyn InFlight>> {
        let position = state.next;
        state.next += 1;
        self.client.start(&Call {
            object: self.journal,
            method: MethodId::of("append"),
            names: CallNames {
                type_name: Journal::NAME,
                method: "append",
            },
            timeout: None,
            args: &encode(&(position, entry))?,
        })
    }

    /// Makes the calls of destructors that ran in a panic that the thread has caught.
    fn catch_up(&self, state: &mut State) -> Result<()> {
        for unwound in std::mem::take(&mut state.unwound) {
            let call = Call {
                object: unwound.object,
                method: unwound.method,
                names: unwound.names,
                timeout: unwound.timeout,
                args: &unwound.args,
            };
            self.follow(state, &entry(&call))?;
            let noted = self.note(state, &entry(&call))?;
            let call = self.client.start(&call)?;
            // It has nobody to tell an error to.
            let _ = RecordedCall { noted, call }.wait();
        }
        Ok(())
    }

    /// Records a call and makes it.
    fn make<R>(
        &self,
        entry: &JournalEntry,
        make: impl FnOnce(&Client) -> Result<R>,
    ) -> Result<(Box<dyn InFlight>, R)> {
        not_unwinding()?;
        // One after the other, so that numbers are positions.
        let mut state = self.state();
        self.catch_up(&mut state)?;
        self.follow(&mut state, entry)?;
        let noted = self.note(&mut state, entry)?;
        Ok((noted, make(&self.client)?))
    }
}

/// Whether the thread unwinds from a panic. Whatever is done then, the attempt has not done it.
fn not_unwinding() -> Result<()> {
    match std::thread::panicking() {
        true => Err(Error::Cancelled),
        false => Ok(()),
    }
}

fn entry(call: &Call<'_>) -> JournalEntry {
    let parts: [&[u8]; 3] = [&call.object.0, &call.method.0.to_le_bytes(), call.args];
    JournalEntry::new(call.names.to_string(), &parts)
}

impl Caller for Recorded {
    fn call(&self, call: &Call<'_>) -> Result<Vec<u8>> {
        self.start(call)?.wait()
    }

    fn start(&self, call: &Call<'_>) -> Result<Box<dyn InFlight>> {
        if let Err(unwinding) = not_unwinding() {
            self.state().unwound.push(UnwoundCall {
                object: call.object,
                method: call.method,
                names: call.names,
                timeout: call.timeout,
                args: call.args.to_vec(),
            });
            return Err(unwinding);
        }
        let (noted, call) = self.make(&entry(call), |client| client.start(call))?;
        Ok(Box::new(RecordedCall { noted, call }))
    }

    fn open(&self, open: &Open<'_>) -> Result<Opened> {
        let what = format!("Shared::<{}>::open", open.type_name);
        let key = open.key.unwrap_or_default();
        let mode = format!("{:?} {:?}", open.lifetime, open.mode);
        let parts: [&[u8]; 3] = [key.as_bytes(), mode.as_bytes(), open.state];
        let (mut noted, opened) =
            self.make(&JournalEntry::new(what, &parts), |client| client.open(open))?;
        noted.wait()?;
        Ok(opened)
    }

    fn delete(&self, object: ObjectId) -> Result<bool> {
        let entry = JournalEntry::new("Shared::delete".to_owned(), &[&object.0]);
        let (mut noted, deleted) = self.make(&entry, |client| client.delete(object))?;
        noted.wait()?;
        Ok(deleted)
    }

    fn clear_poison(&self, object: ObjectId) -> Result<bool> {
        let entry = JournalEntry::new("Shared::clear_poison".to_owned(), &[&object.0]);
        let (mut noted, cleared) = self.make(&entry, |client| client.clear_poison(object))?;
        noted.wait()?;
        Ok(cleared)
    }

    fn clear_namespace(&self) -> Result<u64> {
        let entry = JournalEntry::new("crucial::clear_namespace".to_owned(), &[]);
        let (mut noted, cleared) = self.make(&entry, |client| client.clear_namespace())?;
        noted.wait()?;
        Ok(cleared)
    }
}

/// A call and its journal entry, both on their way.
struct RecordedCall {
    noted: Box<dyn InFlight>,
    call: Box<dyn InFlight>,
}

impl RecordedCall {
    /// The entry went first, so its answer is there, or comes at once.
    fn noted(&mut self) -> Result<()> {
        let noted = self.noted.wait()?;
        decode(&noted)
    }
}

impl InFlight for RecordedCall {
    fn wait(&mut self) -> Result<Vec<u8>> {
        let result = self.call.wait();
        self.noted()?;
        result
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        let result = std::task::ready!(self.call.poll(context));
        Poll::Ready(self.noted().and(result))
    }
}
