//! Exactly-once threads: a retried thread gets the results of the calls that earlier attempts made.
//!
//! Such a thread has a session of its own, which passes from attempt to attempt. Its calls are numbered by their position
//! in the thread, so that the call at a position has the same identity in each attempt, and the object's completion
//! record answers the call. A [`Journal`], a shared object of the run, records the call of each position. A later attempt
//! first reads the journal, and fails if its calls differ from the journal.
//!
//! So no call may have an effect that is not in the journal. A server that is alone executes both in the order in which
//! they were sent. Of several servers one can have the call while another has, and loses, the entry: there a call is sent
//! when its entry is acknowledged, which costs a round trip.
//!
//! The server fences older attempts: the hello of a newer attempt takes the session over, and frames of the older
//! attempt are not executed any more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use crucial_client::{Client, Config};
use crucial_object::caller::{self, Call, CallNames, Caller, InFlight, Lifetime, Open, Opened};
use crucial_object::{
    Error, Journal, JournalEntry, MethodId, ObjectId, Result, Shared, SharedType, ThreadId, decode,
    encode,
};
use crucial_proto::frame::object_id;
use sha2::{Digest, Sha256};

use crate::task::Payload;

/// The number of calls that an exactly-once thread may make: each leaves a record until the thread has ended.
pub const EXACTLY_ONCE_CALLS_MAX: u64 = 1_000_000;

/// Journal entries that are read by one call.
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
    /// The calls of earlier attempts.
    record: Vec<JournalEntry>,
    /// Calls that destructors made while the thread unwound. They are made if the thread catches the panic.
    unwound: Vec<UnwoundCall>,
    /// The error of all further calls, once a call has differed from the record.
    diverged: Option<Error>,
}

/// A call of a destructor that ran because of a panic, mostly a guard's.
///
/// An attempt that ends with the panic has not made the call: the next attempt still has the guard, as its record says.
/// If the thread catches its panic, the call is made before the thread's next call, in each attempt.
struct UnwoundCall {
    object: ObjectId,
    method: MethodId,
    names: CallNames,
    timeout: Option<Duration>,
    args: Vec<u8>,
}

/// The key of a thread's journal.
pub(crate) fn journal_key(thread: ThreadId) -> String {
    format!("thread/{thread}")
}

/// The id of a thread's journal.
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
    /// Begins an attempt, which fences older attempts. `worker` is the client of this process.
    pub fn begin(worker: &Arc<Client>, mut config: Config, payload: &Payload) -> Result<Recorded> {
        config.exactly_once = Some(payload.attempt());
        let client = Client::connect(config)?;
        // Older attempts are fenced and can add nothing more, so the journal is complete.
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

    /// Ends the attempt. `returned`: the thread has returned and not panicked. The error is that of a divergence.
    pub fn finish(&self, returned: bool) -> Result<()> {
        let mut state = self.state();
        if returned {
            // Errors of destructors have no receiver.
            let _ = self.make_unwound_calls(&mut state);
        }
        match &state.diverged {
            Some(diverged) => Err(diverged.clone()),
            None => Ok(()),
        }
    }

    /// The time, as the thread's first attempt that came to this position got it.
    pub fn now(&self) -> Result<SystemTime> {
        refuse_unwinding()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or(Duration::ZERO);
        let mut entry = JournalEntry::new("crucial::thread::now".to_owned(), &[]);
        entry.time = Some(now);
        let (time, mut recording) = {
            let mut state = self.state();
            self.make_unwound_calls(&mut state)?;
            let recorded = self.follow(&mut state, &entry)?.and_then(|old| old.time);
            entry.time = Some(recorded.unwrap_or(now));
            (
                recorded.unwrap_or(now),
                self.record_call(&mut state, &entry)?,
            )
        };
        // The thread must not act on a time that is not recorded.
        recording.wait()?;
        Ok(SystemTime::UNIX_EPOCH + time)
    }

    /// The next random number. The numbers follow from the thread's id, which is random.
    pub fn random(&self) -> u64 {
        let count = self.randoms.fetch_add(1, Ordering::Relaxed);
        let mut hash = Sha256::new();
        hash.update(self.thread.0);
        hash.update(count.to_le_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        u64::from_le_bytes(first)
    }

    /// Compares the next call with the record, and returns the recorded entry if the record has this position.
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

    /// Sends the journal entry of the next call; of several servers, waits until they have it.
    fn record_call(&self, state: &mut State, entry: &JournalEntry) -> Result<Recording> {
        let position = state.next;
        state.next += 1;
        let mut recording = Recording(Some(self.append(position, entry)?));
        if self.client.has_several_servers() {
            recording.wait()?;
        }
        Ok(recording)
    }

    fn append(&self, position: u64, entry: &JournalEntry) -> Result<Box<dyn InFlight>> {
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

    /// Makes the calls of destructors that ran during a panic that the thread has caught.
    fn make_unwound_calls(&self, state: &mut State) -> Result<()> {
        for unwound in std::mem::take(&mut state.unwound) {
            let call = Call {
                object: unwound.object,
                method: unwound.method,
                names: unwound.names,
                timeout: unwound.timeout,
                args: &unwound.args,
            };
            self.follow(state, &entry(&call))?;
            let recording = self.record_call(state, &entry(&call)).inspect_err(|_| {
                self.client.skip_call();
            })?;
            let call = self.client.start(&call)?;
            // An error of a destructor has no receiver.
            let _ = RecordedCall { recording, call }.wait();
        }
        Ok(())
    }

    /// Records a call, and makes the call.
    fn make<R>(
        &self,
        entry: &JournalEntry,
        make: impl FnOnce(&Client) -> Result<R>,
    ) -> Result<(Recording, R)> {
        refuse_unwinding()?;
        // Under the lock, so that the session's sequence numbers are positions.
        let mut state = self.state();
        self.make_unwound_calls(&mut state)?;
        self.follow(&mut state, entry)?;
        // The number of a call that is not made stays its own.
        let recording = self.record_call(&mut state, entry).inspect_err(|_| {
            self.client.skip_call();
        })?;
        Ok((recording, make(&self.client)?))
    }
}

/// Fails while the thread unwinds from a panic: calls that are made then do not count as calls of the attempt.
fn refuse_unwinding() -> Result<()> {
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
        if let Err(unwinding) = refuse_unwinding() {
            self.state().unwound.push(UnwoundCall {
                object: call.object,
                method: call.method,
                names: call.names,
                timeout: call.timeout,
                args: call.args.to_vec(),
            });
            return Err(unwinding);
        }
        let (recording, call) = self.make(&entry(call), |client| client.start(call))?;
        Ok(Box::new(RecordedCall { recording, call }))
    }

    fn open(&self, open: &Open<'_>) -> Result<Opened> {
        let what = format!("Shared::<{}>::open", open.type_name);
        let key = open.key.unwrap_or_default();
        let mode = format!("{:?} {:?}", open.lifetime, open.mode);
        let parts: [&[u8]; 3] = [key.as_bytes(), mode.as_bytes(), open.state];
        let (mut recording, opened) =
            self.make(&JournalEntry::new(what, &parts), |client| client.open(open))?;
        recording.wait()?;
        Ok(opened)
    }

    fn delete(&self, object: ObjectId) -> Result<bool> {
        let entry = JournalEntry::new("Shared::delete".to_owned(), &[&object.0]);
        let (mut recording, deleted) = self.make(&entry, |client| client.delete(object))?;
        recording.wait()?;
        Ok(deleted)
    }

    fn clear_poison(&self, object: ObjectId) -> Result<bool> {
        let entry = JournalEntry::new("Shared::clear_poison".to_owned(), &[&object.0]);
        let (mut recording, cleared) = self.make(&entry, |client| client.clear_poison(object))?;
        recording.wait()?;
        Ok(cleared)
    }

    fn clear_namespace(&self) -> Result<u64> {
        let entry = JournalEntry::new("crucial::clear_namespace".to_owned(), &[]);
        let (mut recording, cleared) = self.make(&entry, |client| client.clear_namespace())?;
        recording.wait()?;
        Ok(cleared)
    }
}

/// A journal entry in flight; `None`: the journal has it.
struct Recording(Option<Box<dyn InFlight>>);

impl Recording {
    /// Waits until the journal has the entry.
    fn wait(&mut self) -> Result<()> {
        match self.0.take() {
            Some(mut appending) => decode(&appending.wait()?),
            None => Ok(()),
        }
    }
}

/// A call, and its journal entry.
struct RecordedCall {
    recording: Recording,
    call: Box<dyn InFlight>,
}

impl InFlight for RecordedCall {
    fn wait(&mut self) -> Result<Vec<u8>> {
        let result = self.call.wait();
        // The entry was sent before the call, and so is answered about as soon.
        self.recording.wait()?;
        result
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        let result = std::task::ready!(self.call.poll(context));
        Poll::Ready(self.recording.wait().and(result))
    }
}
