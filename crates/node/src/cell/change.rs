//! Changes of a cell, as values: another server that does the same changes has the same cell.

use crucial_object::{Access, Error, MethodId, Sequence, SessionId};
use crucial_proto::frame::Attempt;
use serde::{Deserialize, Serialize};

use super::records::{CallId, Record};
use super::state::{Call, Cell, Recording, Turn};

/// One change of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A call was executed.
    Call {
        /// Which.
        id: CallId,
        /// As [`Call::acked`].
        acked: Sequence,
        /// As [`Call::recording`].
        recording: Recording,
        /// The method.
        method: MethodId,
        /// Its arguments.
        #[serde(with = "serde_bytes")]
        args: Vec<u8>,
        /// As [`Call::attempt`].
        attempt: Option<Box<Attempt>>,
    },
    /// A call's poison was cleared.
    ClearPoison {
        /// Which call did it.
        id: CallId,
        /// As [`Call::acked`].
        acked: Sequence,
    },
    /// A parked call was ended.
    Cancel {
        /// Which.
        call: CallId,
        /// With what.
        error: Error,
    },
    /// A session ended.
    EndSession(SessionId),
    /// Nobody will ask for these results again.
    Forget(Vec<CallId>),
    /// A session was silent for too long: what it held and waited for is given up, and its results stay.
    Lapse(SessionId),
}

impl Cell {
    /// Does a change. Its results go to `turn`; it drops no record but those that the change says.
    pub fn apply(&mut self, change: &Change, turn: &mut Turn<'_>) {
        match change {
            Change::Call {
                id,
                acked,
                recording,
                method,
                args,
                attempt,
            } => {
                let call = Call {
                    id: *id,
                    acked: *acked,
                    recording: *recording,
                    method: *method,
                    args,
                    attempt: attempt.as_deref().copied(),
                };
                self.call(&call, turn);
            }
            Change::ClearPoison { id, acked } => self.clear_poison(*id, *acked, turn),
            Change::Cancel { call, error } => {
                self.cancel(*call, error, turn);
            }
            Change::EndSession(session) => self.end_session(*session, turn),
            Change::Lapse(session) => self.lapse_session(*session, turn),
            Change::Forget(calls) => self.records.forget_calls(calls),
        }
    }

    /// How to admit a call here.
    pub fn admits(&self, call: &Call<'_>) -> Admission {
        if self.records.find(call.id).is_some() {
            return Admission::Known;
        }
        let method = self
            .admit(call.method)
            .ok()
            .map(|index| &self.info.methods[index]);
        match method {
            Some(method) if method.access == Access::Write || call.recording.keeps(method) => {
                Admission::Change
            }
            None if call.recording == Recording::Everything => Admission::Change,
            _ => Admission::Look,
        }
    }

    /// The sessions of which a call waits here.
    pub fn waiting(&self) -> impl Iterator<Item = SessionId> {
        let parked = self.rare.iter().flat_map(|rare| &rare.parked);
        parked.map(|parked| parked.call.session)
    }

    /// The attempts of cloud threads of which a call waits here, with that call.
    pub fn waiting_attempts(&self) -> impl Iterator<Item = (Attempt, CallId)> {
        let parked = self.rare.iter().flat_map(|rare| &rare.parked);
        parked.filter_map(|parked| Some((parked.attempt?, parked.call)))
    }

    /// Whether a call of this method may wait.
    pub fn may_wait(&self, method: MethodId) -> bool {
        let index = self.info.method_index(method);
        index.is_some_and(|index| self.info.methods[index].waits)
    }

    /// The sessions whose calls have left a record, or wait; one may be named several times.
    pub fn recorded(&self) -> impl Iterator<Item = SessionId> {
        self.records.iter().map(|(call, _)| call.session)
    }

    /// Whether there is a record of a call of this session, or one waits.
    pub fn knows(&self, session: SessionId) -> bool {
        self.records.iter().any(|(call, _)| call.session == session)
    }

    /// Whether a call waits here.
    pub fn is_parked(&self, call: CallId) -> bool {
        self.records.find(call).is_some_and(Record::is_parked)
    }

    /// The calls that may be repeated: those of which there is a record that is needed.
    pub fn repeatable(&self, needed: &dyn Fn(CallId) -> bool) -> Vec<CallId> {
        let calls = self.records.iter().map(|(call, _)| call);
        calls.filter(|call| needed(*call)).collect()
    }

    /// The calls of which the records are not needed.
    pub fn unneeded(&self, needed: &dyn Fn(CallId) -> bool) -> Vec<CallId> {
        let records = self.records.iter();
        let unneeded = records.filter(|(call, record)| !record.is_parked() && !needed(*call));
        unneeded.map(|(call, _)| call).collect()
    }
}

/// What an object has to do for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The call was executed, or waits; it is answered without a change, now or when it completes.
    Known,
    /// The call leaves something behind.
    Change,
    /// The call leaves nothing: it only reads, or is refused.
    Look,
}
