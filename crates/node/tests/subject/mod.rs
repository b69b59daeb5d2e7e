//! A `Cell` under test: calls by name, replies collected.

use crucial_node::cell::{Call, CallId, Cell, Disposition, Recording, Turn};
use crucial_object::{
    Error, MethodId, Object, Result, Sequence, SessionId, decode, encode, registry,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a call was answered with.
pub type Reply = (CallId, Result<Vec<u8>>);

/// The `sequence`th call of `session`.
pub fn id(session: u64, sequence: u64) -> CallId {
    CallId {
        session: SessionId(session),
        sequence: Sequence(sequence),
    }
}

/// A cell, and the replies that it gave since they were last taken.
pub struct Subject {
    pub cell: Cell,
    replies: Vec<Reply>,
    out: Vec<u8>,
    parked_max: usize,
}

#[allow(dead_code, reason = "each test file uses some")]
impl Subject {
    pub fn new<T: Object>(value: &T) -> Subject {
        Subject::with_parked_max(value, 10_000)
    }

    pub fn with_parked_max<T: Object>(value: &T, parked_max: usize) -> Subject {
        let info = registry::find(T::NAME).expect("#[shared] registers the type");
        Subject {
            cell: Cell::new(info, &encode(value).unwrap()).unwrap(),
            replies: Vec::new(),
            out: Vec::new(),
            parked_max,
        }
    }

    /// Makes a call of a session that acknowledges nothing.
    pub fn call(&mut self, call: CallId, method: &str, args: &impl Serialize) -> Disposition {
        self.call_raw(call, Sequence(0), method, &encode(args).unwrap())
    }

    pub fn call_raw(
        &mut self,
        call: CallId,
        acked: Sequence,
        method: &str,
        args: &[u8],
    ) -> Disposition {
        let call = Call {
            id: call,
            acked,
            recording: Recording::Changes,
            method: MethodId::of(method),
            args,
            attempt: None,
        };
        self.turn(|cell, turn| cell.call(&call, turn))
    }

    /// Lets the cell do something.
    pub fn turn<R>(&mut self, f: impl FnOnce(&mut Cell, &mut Turn<'_>) -> R) -> R {
        let mut turn = Turn {
            parked_max: self.parked_max,
            ..Turn::new(&mut self.replies, &mut self.out)
        };
        f(&mut self.cell, &mut turn)
    }

    /// Makes a call that does not wait, and takes its result.
    pub fn ask<R: DeserializeOwned>(
        &mut self,
        call: CallId,
        method: &str,
        args: &impl Serialize,
    ) -> Result<R> {
        let before = self.replies.len();
        assert_eq!(self.call(call, method, args), Disposition::Answered);
        let (answered, result) = self.replies.remove(before);
        assert_eq!(
            answered, call,
            "a call is answered before those that it wakes"
        );
        decode(&result?)
    }

    pub fn cancel(&mut self, call: CallId) -> bool {
        self.turn(|cell, turn| cell.cancel(call, &Error::Cancelled, turn))
    }

    pub fn end_session(&mut self, session: u64) {
        self.turn(|cell, turn| cell.end_session(SessionId(session), turn));
    }

    pub fn clear_poison(&mut self, call: CallId) -> bool {
        let before = self.replies.len();
        self.turn(|cell, turn| cell.clear_poison(call, Sequence(0), turn));
        let (answered, result) = self.replies.remove(before);
        assert_eq!(answered, call);
        decode(&result.unwrap()).unwrap()
    }

    /// The replies since the last time.
    pub fn take(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.replies)
    }

    /// Which calls were answered since the last time, all of them well.
    pub fn answered(&mut self) -> Vec<CallId> {
        let replies = self.take();
        assert!(
            replies.iter().all(|(_, result)| result.is_ok()),
            "{replies:?}"
        );
        replies.into_iter().map(|(call, _)| call).collect()
    }
}
