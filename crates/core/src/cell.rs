//! One object: a state machine that executes calls.

use std::collections::VecDeque;

use crucial_object::{
    Access, Error, Flow, Instance, MethodId, Panic, Result, Sequence, SessionId, Ticket, TypeInfo,
    Wake, caller, catch,
};
use smallvec::SmallVec;

use crate::records::{CallId, Record, Records};

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

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It has its reply.
    Answered,
    /// It waits in the object, and will have its reply later.
    Parked,
}

/// An object: its state, the records of its calls, and the calls that wait in it.
pub struct Cell {
    info: &'static TypeInfo,
    instance: Box<dyn Instance>,
    /// The method that panicked while it changed the state.
    poison: Option<(String, Panic)>,
    records: Records,
    /// First come, first served.
    parked: VecDeque<Parked>,
    /// How many may wait.
    parked_max: usize,
    /// Where methods leave their encoded results.
    out: Vec<u8>,
}

struct Parked {
    call: CallId,
    method: usize,
    args: Box<[u8]>,
    ticket: Ticket,
}

/// A buffer that has held a larger result is given back.
const OUT_KEPT_MAX: usize = 4096;

impl Cell {
    /// An object of the type `info` with an encoded initial state, in which up to `parked_max` calls
    /// can wait.
    pub fn new(info: &'static TypeInfo, state: &[u8], parked_max: usize) -> Result<Cell> {
        // `Deserialize` may be the user's code, so it may panic.
        let instance = caller::in_method(|| catch(|| (info.restore)(state)))
            .unwrap_or_else(|panic| Err(panicked(info.name.to_owned(), panic)))?;
        Ok(Cell {
            info,
            instance,
            poison: None,
            records: Records::default(),
            parked: VecDeque::new(),
            parked_max,
            out: Vec::new(),
        })
    }

    /// The object's type.
    pub fn info(&self) -> &'static TypeInfo {
        self.info
    }

    /// How many calls wait in it.
    pub fn parked_len(&self) -> usize {
        self.parked.len()
    }

    /// How many completion records it keeps.
    pub fn records_len(&self) -> usize {
        self.records.len()
    }

    /// Executes a call, or repeats its result if it was executed before.
    ///
    /// `acked` is the lowest sequence that the caller's session still waits for; `needed` tells for any
    /// call whether its session still waits for it.
    pub fn call(
        &mut self,
        call: CallId,
        acked: Sequence,
        method: MethodId,
        args: &[u8],
        needed: &dyn Fn(CallId) -> bool,
        replies: &mut dyn Replies,
    ) -> Disposition {
        if let Some(disposition) = self.repeat(call, replies) {
            return disposition;
        }
        match self.admit(method) {
            Ok(index) => self.execute(call, acked, index, args, needed, replies),
            Err(refused) => {
                replies.reply(call, Err(&refused));
                Disposition::Answered
            }
        }
    }

    /// Answers a call that is known already.
    fn repeat(&self, call: CallId, replies: &mut dyn Replies) -> Option<Disposition> {
        match self.records.find(call)? {
            Record::Parked => Some(Disposition::Parked),
            Record::Done(result) => {
                replies.reply(call, result.as_deref().map_err(|error| &**error));
                Some(Disposition::Answered)
            }
        }
    }

    /// The index of a method that may be executed now.
    fn admit(&self, method: MethodId) -> Result<usize> {
        let Some(index) = self.info.method_index(method) else {
            return Err(self.unknown_method(method));
        };
        if self.poison.is_some() {
            return Err(self.poisoned());
        }
        if self.info.methods[index].waits && self.parked.len() >= self.parked_max {
            return Err(Error::LimitExceeded {
                limit: "parked_calls_max".to_owned(),
                max: self.parked_max as u64,
                detail: format!("so many calls wait in this {} already", self.info.name),
            });
        }
        Ok(index)
    }

    fn execute(
        &mut self,
        call: CallId,
        acked: Sequence,
        index: usize,
        args: &[u8],
        needed: &dyn Fn(CallId) -> bool,
        replies: &mut dyn Replies,
    ) -> Disposition {
        let method = &self.info.methods[index];
        let changes = method.access == Access::Write;
        let mut ticket = None;
        let flow = self.dispatch(index, args, &mut ticket);
        let refused_at_the_door = matches!(&flow, Err(Error::BadArguments { .. }));
        let disposition = match flow {
            Ok(Flow::Pending) => {
                self.records.put(call, Record::Parked, acked, needed);
                self.parked.push_back(Parked {
                    call,
                    method: index,
                    args: args.into(),
                    ticket,
                });
                Disposition::Parked
            }
            flow => {
                let result = flow.map(|_| SmallVec::from_slice(&self.out));
                replies.reply(call, result.as_deref());
                if (changes || method.waits) && !refused_at_the_door {
                    let record = Record::Done(result.map_err(Box::new));
                    self.records.put(call, record, acked, needed);
                }
                Disposition::Answered
            }
        };
        self.out.clear();
        self.out.shrink_to(OUT_KEPT_MAX);
        if changes && !refused_at_the_door {
            self.settle(replies);
        }
        // A first poll can change what lets the second one complete, at once.
        let waits_still = self.parked.back().is_some_and(|last| last.call == call);
        if disposition == Disposition::Parked && !waits_still {
            return Disposition::Answered;
        }
        disposition
    }

    /// After a change: polls the parked calls that it can have completed.
    fn settle(&mut self, replies: &mut dyn Replies) {
        while !self.parked.is_empty() && self.poison.is_none() {
            let progress = match self.wake() {
                Wake::None => false,
                Wake::First => self.poll_parked(0, replies).completed,
                Wake::All => self.poll_all(replies),
            };
            if !progress {
                break;
            }
        }
        if self.poison.is_some() {
            self.end_parked(&self.poisoned(), replies);
        }
    }

    /// One pass; whether a call that changes the object completed.
    fn poll_all(&mut self, replies: &mut dyn Replies) -> bool {
        let mut changed = false;
        let mut position = 0;
        while position < self.parked.len() && self.poison.is_none() {
            let polled = self.poll_parked(position, replies);
            changed |= polled.completed && polled.changes;
            if !polled.completed {
                position += 1;
            }
        }
        changed
    }

    fn poll_parked(&mut self, position: usize, replies: &mut dyn Replies) -> Polled {
        // Taken out for the poll; `None` can not be, as the position is below the length.
        let Some(parked) = self.parked.get_mut(position) else {
            return Polled {
                completed: false,
                changes: false,
            };
        };
        let (call, method) = (parked.call, parked.method);
        let args = std::mem::take(&mut parked.args);
        let mut ticket = parked.ticket.take();
        let flow = self.dispatch(method, &args, &mut ticket);
        let changes = self.info.methods[method].access == Access::Write;
        if let Ok(Flow::Pending) = flow {
            let parked = &mut self.parked[position];
            parked.args = args;
            parked.ticket = ticket;
            return Polled {
                completed: false,
                changes,
            };
        }
        let result = flow.map(|_| SmallVec::from_slice(&self.out));
        self.out.clear();
        self.out.shrink_to(OUT_KEPT_MAX);
        replies.reply(call, result.as_deref());
        self.finish(call, result);
        // From the front it is cheap, and there it mostly is.
        self.parked.remove(position);
        Polled {
            completed: true,
            changes,
        }
    }

    /// Ends a call that waits here, with `error`; whether it did. What the call did at its first poll
    /// is taken back.
    pub fn cancel(&mut self, call: CallId, error: &Error, replies: &mut dyn Replies) -> bool {
        let Some(position) = self.parked.iter().position(|parked| parked.call == call) else {
            return false;
        };
        replies.reply(call, Err(error));
        self.finish(call, Err(error.clone()));
        self.withdraw(position);
        self.settle(replies);
        true
    }

    /// Forgets a session that has ended: its waiting calls give up their places, its records go.
    pub fn end_session(&mut self, session: SessionId, replies: &mut dyn Replies) {
        let mut withdrawn = false;
        while let Some(position) = self.parked.iter().position(|p| p.call.session == session) {
            self.withdraw(position);
            withdrawn = true;
        }
        self.records.forget(session);
        if withdrawn {
            self.settle(replies);
        }
    }

    /// Drops the records that are not needed any more.
    pub fn purge(&mut self, needed: &dyn Fn(CallId) -> bool) {
        self.records.purge(needed);
    }

    /// Accepts the state as it is. The call's result is a `bool`: whether the object was poisoned.
    pub fn clear_poison(
        &mut self,
        call: CallId,
        acked: Sequence,
        needed: &dyn Fn(CallId) -> bool,
        replies: &mut dyn Replies,
    ) {
        if self.repeat(call, replies).is_some() {
            return;
        }
        let result = SmallVec::from_slice(&[u8::from(self.poison.take().is_some())]);
        replies.reply(call, Ok(&result));
        self.records
            .put(call, Record::Done(Ok(result)), acked, needed);
    }

    /// Ends every waiting call with `error`: the object is going.
    pub fn end_parked(&mut self, error: &Error, replies: &mut dyn Replies) {
        for parked in std::mem::take(&mut self.parked) {
            replies.reply(parked.call, Err(error));
            self.finish(parked.call, Err(error.clone()));
        }
    }

    fn withdraw(&mut self, position: usize) {
        let Some(parked) = self.parked.remove(position) else {
            return;
        };
        // As with any other method: a poisoned object is left as it is.
        if self.poison.is_some() {
            return;
        }
        let instance = &mut self.instance;
        let undone = caller::in_method(|| catch(|| instance.cancel(parked.method, parked.ticket)));
        if let Err(panic) = undone {
            self.poison = Some((self.method_name(parked.method), panic));
        }
    }

    /// A parked call's record becomes its result.
    fn finish(&mut self, call: CallId, result: Result<SmallVec<[u8; 16]>>) {
        let record = Record::Done(result.map_err(Box::new));
        self.records.put(call, record, Sequence(0), &|_| true);
    }

    /// Runs a method; its result is in `out`.
    fn dispatch(&mut self, index: usize, args: &[u8], ticket: &mut Ticket) -> Result<Flow> {
        let (instance, out) = (&mut self.instance, &mut self.out);
        out.clear();
        let outcome = caller::in_method(|| catch(|| instance.dispatch(index, args, ticket, out)));
        outcome.unwrap_or_else(|panic| {
            let name = self.method_name(index);
            if self.info.methods[index].access == Access::Write {
                self.poison = Some((name.clone(), panic.clone()));
            }
            Err(panicked(name, panic))
        })
    }

    fn wake(&mut self) -> Wake {
        let instance = &self.instance;
        caller::in_method(|| catch(|| instance.wake())).unwrap_or_else(|panic| {
            self.poison = Some((format!("{}::wake", self.info.name), panic));
            Wake::None
        })
    }

    fn method_name(&self, index: usize) -> String {
        format!("{}::{}", self.info.name, self.info.methods[index].name)
    }

    fn poisoned(&self) -> Error {
        let (what, panic) = self.poison.clone().unwrap_or_else(|| {
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

struct Polled {
    completed: bool,
    changes: bool,
}

fn panicked(what: String, panic: Panic) -> Error {
    Error::Panicked {
        what,
        message: panic.message,
        location: panic.location,
    }
}
