//! A cell: its state, and how it executes calls.

use std::collections::VecDeque;
use std::task::Poll;

use super::guarded::Guarded;
use super::records::{CallId, Outcome, Record, Records};
use crucial_object::{
    Access, EncodingVersion, Error, Invocation, Method, MethodId, Panic, Result, Sequence,
    SessionId, Ticket, TypeInfo, Wake, caller, catch,
};
use crucial_proto::frame::Attempt;

/// Where a cell puts the results of calls: of the one that it was given, and of parked ones that it
/// completed.
pub trait Replies {
    /// `call` has this result.
    fn reply(&mut self, call: CallId, result: Result<&[u8], &Error>);
}

impl Replies for Vec<(CallId, Result<Vec<u8>>)> {
    fn reply(&mut self, call: CallId, result: Result<&[u8], &Error>) {
        self.push((call, result.map(<[u8]>::to_vec).map_err(Clone::clone)));
    }
}

/// A call of a method, as it reaches an object.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Which call.
    pub id: CallId,
    /// The lowest sequence that its session still waits for.
    pub acked: Sequence,
    /// Whether it leaves a record.
    pub recording: Recording,
    /// The method.
    pub method: MethodId,
    /// The encoded tuple of arguments.
    pub args: &'a [u8],
    /// The attempt of a cloud thread that makes it, if it may wait: it gives up its place when the attempt is fenced.
    pub attempt: Option<Attempt>,
}

/// Which calls leave a completion record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub enum Recording {
    /// Those that change the object, or can wait.
    #[default]
    Changes,
    /// Reads, too: those of an exactly-once thread.
    Everything,
    /// Only those that wait. Others are executed again when they are repeated.
    Nothing,
}

impl Recording {
    pub(super) fn keeps(self, method: &Method) -> bool {
        match self {
            Recording::Changes => method.access == Access::Write || method.waits,
            Recording::Everything => true,
            Recording::Nothing => false,
        }
    }
}

/// The things that an object needs of its server while it executes.
pub struct Turn<'a> {
    /// Where results go.
    pub replies: &'a mut dyn Replies,
    /// Where methods leave their encoded results; empty before and after.
    pub out: &'a mut Vec<u8>,
    /// How many calls may wait in one object.
    pub parked_max: usize,
}

impl<'a> Turn<'a> {
    /// A turn on a server without limits.
    pub fn new(replies: &'a mut dyn Replies, out: &'a mut Vec<u8>) -> Turn<'a> {
        Turn {
            replies,
            out,
            parked_max: usize::MAX,
        }
    }
}

/// The outcome of offering a call to the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The call has its reply.
    Answered,
    /// The call waits in the object, and will have its reply later.
    Parked,
    /// The call has its reply: it was not executed, and left nothing behind.
    Refused,
}

/// An object: its state, the records of its calls, and the calls that wait in it.
///
/// There may be millions of them, so what most do not have is in a box.
pub struct Cell {
    pub(super) info: &'static TypeInfo,
    pub(super) instance: Guarded,
    pub(super) records: Records,
    pub(super) rare: Option<Box<Rare>>,
}

#[derive(Default)]
pub(super) struct Rare {
    /// The method that panicked while it changed the state.
    pub(super) poison: Option<(String, Panic)>,
    /// First come, first served.
    pub(super) parked: VecDeque<Parked>,
}

pub(super) struct Parked {
    pub(super) call: CallId,
    pub(super) method: usize,
    pub(super) args: Box<[u8]>,
    pub(super) ticket: Ticket,
    pub(super) attempt: Option<Attempt>,
}

/// A buffer that has held a larger result is given back.
const OUT_KEPT_MAX: usize = 64 << 10;

impl Cell {
    /// An object of the type `info` with an encoded initial state.
    pub fn new(info: &'static TypeInfo, state: &[u8]) -> Result<Cell> {
        // `Deserialize` may be the user's code, so it may panic.
        let restore = || info.restore(state, EncodingVersion::Initial);
        let instance = caller::in_method(|| catch(restore))
            .unwrap_or_else(|panic| Err(panicked(info.name.to_owned(), panic)))?;
        Ok(Cell {
            info,
            instance: Guarded::new(instance),
            records: Records::default(),
            rare: None,
        })
    }

    /// The object's type.
    pub fn info(&self) -> &'static TypeInfo {
        self.info
    }

    /// How many calls wait in it.
    pub fn parked_len(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.parked.len())
    }

    /// How many completion records it keeps.
    pub fn records_len(&self) -> usize {
        self.records.len()
    }

    /// Appends its encoded state.
    pub fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let instance = &mut self.instance;
        caller::in_method(|| catch(|| instance.save(out)))
            .unwrap_or_else(|panic| Err(panicked(self.info.name.to_owned(), panic)))
    }

    /// Whether [`move_to`](Cell::move_to) would do it now.
    pub fn can_move_to(&mut self, info: &'static TypeInfo) -> Result<()> {
        self.in_type(info).map(drop)
    }

    /// Makes it an object of another version of its type, through the bytes of its state. It is as it was if
    /// that fails, and also if a call waits in a method that the version does not have.
    pub fn move_to(&mut self, info: &'static TypeInfo, turn: &mut Turn<'_>) -> Result<()> {
        let (instance, indices) = self.in_type(info)?;
        self.instance = instance;
        self.info = info;
        if let Some(rare) = &mut self.rare {
            for (parked, index) in rare.parked.iter_mut().zip(indices) {
                parked.method = index;
            }
        }
        // Other code may find that a call need not wait any more.
        self.settle(turn);
        Ok(())
    }

    /// The instance in another version of the type, and the new indices of the methods in which calls wait.
    fn in_type(&mut self, info: &'static TypeInfo) -> Result<(Guarded, Vec<usize>)> {
        let parked = self.rare.iter().flat_map(|rare| &rare.parked);
        let indices = parked.map(|parked| {
            let method = &self.info.methods[parked.method];
            let index = info.method_index(method.id);
            index
                .filter(|index| info.methods[*index].waits)
                .ok_or_else(|| Error::Refused {
                    reason: format!(
                        "a call waits in {}::{}, which the new version has not, or not as a method that waits",
                        self.info.name, method.name
                    ),
                })
        });
        let indices = indices.collect::<Result<_>>()?;
        let mut state = Vec::new();
        self.save(&mut state)?;
        let upgraded = caller::in_method(|| catch(|| info.restore(&state, EncodingVersion::Older)));
        let instance =
            upgraded.unwrap_or_else(|panic| Err(panicked(info.name.to_owned(), panic)))?;
        Ok((Guarded::new(instance), indices))
    }

    /// Executes a call, or repeats its result if it was executed before.
    pub fn call(&mut self, call: &Call<'_>, turn: &mut Turn<'_>) -> Disposition {
        if let Some(disposition) = self.repeat(call.id, turn) {
            return disposition;
        }
        match self.admit(call.method) {
            Ok(index) => self.execute(call, index, turn),
            Err(refused) => {
                turn.replies.reply(call.id, Err(&refused));
                if call.recording == Recording::Everything {
                    let record = Record::Done(Outcome::new(Err(&refused)));
                    self.records.put(call.id, record, call.acked);
                }
                Disposition::Answered
            }
        }
    }

    /// Answers a call that is known already.
    fn repeat(&self, call: CallId, turn: &mut Turn<'_>) -> Option<Disposition> {
        match self.records.find(call)? {
            Record::Parked => Some(Disposition::Parked),
            Record::Done(outcome) => {
                turn.replies.reply(call, outcome.result());
                Some(Disposition::Answered)
            }
        }
    }

    /// The index of a method that may be executed now.
    pub(super) fn admit(&self, method: MethodId) -> Result<usize> {
        let Some(index) = self.info.method_index(method) else {
            return Err(self.unknown_method(method));
        };
        if self.is_poisoned() {
            return Err(self.poisoned());
        }
        Ok(index)
    }

    fn execute(&mut self, call: &Call<'_>, index: usize, turn: &mut Turn<'_>) -> Disposition {
        let method = &self.info.methods[index];
        let changes = method.access == Access::Write;
        let mut ticket = None;
        let poll = MethodPoll {
            caller: call.id.session,
            index,
            args: call.args,
            again: false,
        };
        let mut polled = self.dispatch(poll, &mut ticket, turn.out);
        if let Err(error) = &polled
            && error.is_lack_of_room()
        {
            turn.replies.reply(call.id, Err(error));
            clear(turn.out);
            return Disposition::Refused;
        }
        let is_full = matches!(polled, Ok(Poll::Pending)) && self.parked_len() >= turn.parked_max;
        if is_full {
            self.take_back(index, ticket.take());
            polled = Err(Error::LimitExceeded {
                limit: "parked_calls_max".to_owned(),
                max: turn.parked_max as u64,
                detail: format!("too many calls wait in this {} already", self.info.name),
            });
        }
        let disposition = match polled {
            Ok(Poll::Pending) => {
                self.records.put(call.id, Record::Parked, call.acked);
                self.rare_mut().parked.push_back(Parked {
                    call: call.id,
                    method: index,
                    args: call.args.into(),
                    ticket,
                    attempt: call.attempt,
                });
                Disposition::Parked
            }
            polled => {
                let result = polled.as_ref().map(|_| turn.out.as_slice());
                turn.replies.reply(call.id, result);
                // A call that was taken back may be tried again under its number.
                if call.recording.keeps(method) && !is_full {
                    let record = Record::Done(Outcome::new(result));
                    self.records.put(call.id, record, call.acked);
                }
                Disposition::Answered
            }
        };
        clear(turn.out);
        // Also after an error: the method may have changed something before it failed.
        if changes {
            self.settle(turn);
        }
        // A first poll can change what lets the second one complete, at once.
        if disposition == Disposition::Parked && !self.is_last_parked(call.id) {
            return Disposition::Answered;
        }
        disposition
    }

    fn is_last_parked(&self, call: CallId) -> bool {
        let last = self.rare.as_ref().and_then(|rare| rare.parked.back());
        last.is_some_and(|last| last.call == call)
    }

    /// After a change: polls the parked calls that it can have completed.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>) {
        while self.parked_len() > 0 && !self.is_poisoned() {
            let progress = match self.wake() {
                Wake::None => false,
                Wake::First => self.poll_parked(0, turn).completed,
                Wake::All => self.poll_all(turn),
            };
            if !progress {
                break;
            }
        }
        if self.is_poisoned() {
            self.end_parked(&self.poisoned(), turn);
        }
    }

    /// One pass; whether a call that changes the object completed.
    fn poll_all(&mut self, turn: &mut Turn<'_>) -> bool {
        let mut changed = false;
        let mut position = 0;
        while position < self.parked_len() && !self.is_poisoned() {
            let polled = self.poll_parked(position, turn);
            changed |= polled.completed && polled.changes;
            if !polled.completed {
                position += 1;
            }
        }
        changed
    }

    fn poll_parked(&mut self, position: usize, turn: &mut Turn<'_>) -> Polled {
        // Taken out for the poll; never `None`, as the position is below the length.
        let Some(parked) = self.rare_mut().parked.get_mut(position) else {
            return Polled {
                completed: false,
                changes: false,
            };
        };
        let (call, method) = (parked.call, parked.method);
        let args = std::mem::take(&mut parked.args);
        let mut ticket = parked.ticket.take();
        let poll = MethodPoll {
            caller: call.session,
            index: method,
            args: &args,
            again: true,
        };
        let polled = self.dispatch(poll, &mut ticket, turn.out);
        let changes = self.info.methods[method].access == Access::Write;
        if let Ok(Poll::Pending) = polled {
            let parked = &mut self.rare_mut().parked[position];
            parked.args = args;
            parked.ticket = ticket;
            return Polled {
                completed: false,
                changes,
            };
        }
        let result = polled.as_ref().map(|_| turn.out.as_slice());
        turn.replies.reply(call, result);
        self.finish(call, result);
        clear(turn.out);
        // From the front it is cheap, and there it mostly is.
        self.rare_mut().parked.remove(position);
        Polled {
            completed: true,
            changes,
        }
    }

    /// Ends a call that waits here, with `error`; whether it did. What the call did at its first poll
    /// is taken back.
    pub fn cancel(&mut self, call: CallId, error: &Error, turn: &mut Turn<'_>) -> bool {
        let Some(position) = self.parked_position(|parked| parked.call == call) else {
            return false;
        };
        turn.replies.reply(call, Err(error));
        self.finish(call, Err(error));
        self.withdraw(position);
        self.settle(turn);
        true
    }

    /// Forgets a session that has ended: its waiting calls give up their places, what it holds comes
    /// back, its records go.
    pub fn end_session(&mut self, session: SessionId, turn: &mut Turn<'_>) {
        let mut changed = false;
        while let Some(position) = self.parked_position(|p| p.call.session == session) {
            self.withdraw(position);
            changed = true;
        }
        self.records.forget(session);
        self.on_session_end(session, changed, turn);
    }

    /// A session was silent for too long. As [`end_session`](Cell::end_session), but the results of its calls stay, until they
    /// are [forgotten](crate::cell::Change::Forget): it may live, and repeat them where nobody knows that it was taken for dead. Those that
    /// waited are answered then that it was.
    pub fn lapse_session(&mut self, session: SessionId, turn: &mut Turn<'_>) {
        let mut changed = false;
        while let Some(position) = self.parked_position(|p| p.call.session == session) {
            if let Some(parked) = self.rare_mut().parked.get(position) {
                let call = parked.call;
                self.finish(call, Err(&Error::SessionExpired));
            }
            self.withdraw(position);
            changed = true;
        }
        self.on_session_end(session, changed, turn);
    }

    /// The session has ended: the object takes back what it held.
    fn on_session_end(&mut self, session: SessionId, mut changed: bool, turn: &mut Turn<'_>) {
        if self.info.tracks_sessions && !self.is_poisoned() {
            let instance = &mut self.instance;
            if let Err(panic) = caller::in_method(|| catch(|| instance.on_session_end(session))) {
                self.rare_mut().poison = Some((format!("{}::depart", self.info.name), panic));
            }
            changed = true;
        }
        if changed {
            self.settle(turn);
        }
    }

    /// Accepts the state as it is. The call's result is a `bool`: whether the object was poisoned.
    pub fn clear_poison(&mut self, call: CallId, acked: Sequence, turn: &mut Turn<'_>) {
        if self.repeat(call, turn).is_some() {
            return;
        }
        let poison = self.rare.as_mut().and_then(|rare| rare.poison.take());
        let result: Result<&[u8], &Error> = Ok(&[u8::from(poison.is_some())]);
        turn.replies.reply(call, result);
        let record = Record::Done(Outcome::new(result));
        self.records.put(call, record, acked);
    }

    /// Ends every waiting call with `error`: the object is going.
    pub fn end_parked(&mut self, error: &Error, turn: &mut Turn<'_>) {
        let Some(rare) = &mut self.rare else { return };
        for parked in std::mem::take(&mut rare.parked) {
            turn.replies.reply(parked.call, Err(error));
            self.finish(parked.call, Err(error));
        }
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.poison.is_some())
    }

    fn parked_position(&self, which: impl Fn(&Parked) -> bool) -> Option<usize> {
        self.rare.as_ref()?.parked.iter().position(which)
    }

    fn withdraw(&mut self, position: usize) {
        if let Some(parked) = self.rare_mut().parked.remove(position) {
            self.take_back(parked.method, parked.ticket);
        }
    }

    /// Takes back what a call did that was polled and is not to be polled again.
    fn take_back(&mut self, index: usize, ticket: Ticket) {
        // As with any other method: a poisoned object is left as it is.
        if self.is_poisoned() {
            return;
        }
        let instance = &mut self.instance;
        let undone = caller::in_method(|| catch(|| instance.cancel(index, ticket)));
        if let Err(panic) = undone {
            self.rare_mut().poison = Some((self.method_name(index), panic));
        }
    }

    /// A parked call's record becomes its result.
    fn finish(&mut self, call: CallId, result: Result<&[u8], &Error>) {
        let record = Record::Done(Outcome::new(result));
        self.records.put(call, record, Sequence(0));
    }

    /// Runs a method; its result is in `out`.
    fn dispatch(
        &mut self,
        poll: MethodPoll<'_>,
        ticket: &mut Ticket,
        out: &mut Vec<u8>,
    ) -> Result<Poll<()>> {
        out.clear();
        let instance = &mut self.instance;
        let MethodPoll {
            caller,
            index,
            args,
            again,
        } = poll;
        let invocation = Invocation {
            index,
            args,
            caller,
            again,
            ticket,
            out,
        };
        let outcome = caller::in_method(|| catch(|| instance.dispatch(invocation)));
        // An uploaded method tells of its panic in an error.
        let outcome = match outcome {
            Ok(Err(Error::Panicked {
                message, location, ..
            })) => Err(Panic { message, location }),
            outcome => outcome,
        };
        outcome.unwrap_or_else(|panic| {
            let name = self.method_name(index);
            if self.info.methods[index].access == Access::Write {
                self.rare_mut().poison = Some((name.clone(), panic.clone()));
            }
            Err(panicked(name, panic))
        })
    }

    fn wake(&mut self) -> Wake {
        let instance = &mut self.instance;
        caller::in_method(|| catch(|| instance.wake())).unwrap_or_else(|panic| {
            self.rare_mut().poison = Some((format!("{}::wake", self.info.name), panic));
            Wake::None
        })
    }

    fn method_name(&self, index: usize) -> String {
        format!("{}::{}", self.info.name, self.info.methods[index].name)
    }

    fn poisoned(&self) -> Error {
        let poison = self.rare.as_ref().and_then(|rare| rare.poison.clone());
        let (what, panic) = poison.unwrap_or_else(|| {
            let nowhere = Panic {
                message: String::new(),
                location: String::new(),
            };
            (self.info.name.to_owned(), nowhere)
        });
        Error::Poisoned {
            what,
            message: panic.message,
            location: panic.location,
        }
    }

    fn unknown_method(&self, method: MethodId) -> Error {
        let known: Vec<_> = self.info.methods.iter().map(|m| m.name).collect();
        Error::UnknownMethod {
            type_name: self.info.name.to_owned(),
            method: format!("{:#010x}", method.0),
            known: known.join(", "),
        }
    }
}

/// The arguments of one poll of a method.
struct MethodPoll<'a> {
    caller: SessionId,
    index: usize,
    args: &'a [u8],
    again: bool,
}

struct Polled {
    completed: bool,
    changes: bool,
}

fn clear(out: &mut Vec<u8>) {
    out.clear();
    out.shrink_to(OUT_KEPT_MAX);
}

pub(super) fn panicked(what: String, panic: Panic) -> Error {
    Error::Panicked {
        what,
        message: panic.message,
        location: panic.location,
    }
}
