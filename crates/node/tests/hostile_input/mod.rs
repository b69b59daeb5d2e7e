//! A harness for calls that nobody vouches for. The fuzz target `cell_args` in `fuzz/` and the test
//! `hostile.rs` run the same one.

use crucial_node::cell::{Call, CallId, Cell, Change, Disposition, Recording, Turn};
use crucial_object::{
    Access, Error, Method, MethodId, Result, Sequence, SessionId, TypeInfo, encode, registry,
};

/// Bytes to make choices with.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> Option<usize> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first.into())
    }

    /// A stretch, with its length in front.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?.min(self.0.len());
        let (stretch, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(stretch)
    }
}

/// The states that an object is made with, when the bytes make none.
fn sound_state(info: &'static TypeInfo) -> Vec<u8> {
    // Zeros are an empty collection, a zero, an open latch. Some types want a one: a barrier of one party.
    const BYTES_MAX: usize = 10;
    let states = (0..1 << BYTES_MAX).flat_map(|ones: usize| {
        let byte = move |place: usize| u8::from(ones >> place & 1 == 1);
        (0..=BYTES_MAX).map(move |count| (0..count).map(byte).collect::<Vec<u8>>())
    });
    let mut states = states.into_iter();
    states
        .find(|state| Cell::new(info, state).is_ok())
        .expect("a library object of zeros and ones")
}

/// Any calls with any arguments to a library object in a cell: every call is answered at most once
/// per request, no panic comes out, refused arguments change nothing, and it still answers.
pub fn cell_args(data: &[u8]) {
    let mut choices = Choices(data);
    let _ = histories(&mut choices);
}

fn histories(choices: &mut Choices<'_>) -> Option<()> {
    let mut types: Vec<_> = registry::types()
        .filter(|t| t.name.starts_with("crucial::"))
        .collect();
    types.sort_by_key(|t| t.name);
    let info = types[choices.byte()? % types.len()];
    let state = match choices.byte()? % 2 {
        0 => choices.bytes()?.to_vec(),
        _ => sound_state(info),
    };
    let cell = Cell::new(info, &state).or_else(|_| Cell::new(info, &sound_state(info)));
    let mut history = History {
        cell: cell.unwrap(),
        sequences: [0; 4],
        read: plain_read(info),
    };
    while history.step(choices).is_some() {}
    let _still_answers = history.read();
    Some(())
}

/// A method that every library type has: it takes nothing, changes nothing and does not wait.
fn plain_read(info: &TypeInfo) -> &'static Method {
    let plain = [
        "load",
        "len",
        "parties",
        "available_permits",
        "value",
        "count",
        "is_set",
        "is_locked",
        "is_writing",
        "is_poisoned",
        "waiting",
        "shape",
        "get",
    ];
    let found = plain
        .iter()
        .find_map(|name| info.methods.iter().find(|method| method.name == *name));
    found.expect("each library type has a plain read; add a new type's to the list")
}

struct History {
    cell: Cell,
    /// The last sequence of each session.
    sequences: [u64; 4],
    read: &'static Method,
}

type Replies = Vec<(CallId, Result<Vec<u8>>)>;

impl History {
    fn step(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let session = choices.byte()? % self.sequences.len();
        match choices.byte()? {
            0..=9 => {
                let unneeded = self.cell.unneeded(&|call| call.sequence.0 >= 1);
                self.turn(|cell, turn| cell.apply(&Change::Forget(unneeded), turn));
            }
            10..=19 => {
                self.turn(|cell, turn| cell.end_session(SessionId(session as u64), turn));
            }
            20..=39 => {
                let call = self.name(session, choices.byte()?);
                self.turn(|cell, turn| cell.cancel(call, &Error::Cancelled, turn));
            }
            40..=49 => {
                let call = self.name(session, 0);
                self.turn(|cell, turn| cell.clear_poison(call, Sequence(0), turn));
            }
            choice => self.call(session, choice, choices)?,
        }
        Some(())
    }

    /// Lets the cell do something; its replies.
    fn turn<R>(&mut self, f: impl FnOnce(&mut Cell, &mut Turn<'_>) -> R) -> (R, Replies) {
        let (mut replies, mut out) = (Replies::new(), Vec::new());
        let mut turn = Turn {
            parked_max: 8,
            ..Turn::new(&mut replies, &mut out)
        };
        let result = f(&mut self.cell, &mut turn);
        (result, replies)
    }

    /// A call of a session, `back` before its next one.
    fn name(&mut self, session: usize, back: usize) -> CallId {
        let last = &mut self.sequences[session];
        if back.is_multiple_of(4) {
            *last += 1;
        }
        CallId {
            session: SessionId(session as u64),
            sequence: Sequence(last.saturating_sub(back as u64 % 4).max(1)),
        }
    }

    fn call(&mut self, session: usize, choice: usize, choices: &mut Choices<'_>) -> Option<()> {
        let methods = self.cell.info().methods;
        let back = choices.byte()?;
        let call = self.name(session, if choice < 80 { back } else { 0 });
        let method = match choices.byte()? {
            255 => MethodId(choice as u32),
            index => methods[index % methods.len()].id,
        };
        let args = choices.bytes()?;
        let before = self.read();
        let parked = self.cell.parked_len();
        let sent = Call {
            id: call,
            acked: Sequence(0),
            recording: match back % 3 {
                0 => Recording::Changes,
                1 => Recording::Everything,
                _ => Recording::Nothing,
            },
            method,
            args,
            attempt: None,
        };
        let (disposition, replies) = self.turn(|cell, turn| cell.call(&sent, turn));
        let own = replies.iter().filter(|(answered, _)| *answered == call);
        let answers = own.clone().count();
        assert_eq!(answers, usize::from(disposition == Disposition::Answered));
        for (_, result) in own {
            if matches!(result, Err(Error::BadArguments { .. })) {
                assert_eq!(self.read(), before);
                assert_eq!(self.cell.parked_len(), parked);
            }
        }
        Some(())
    }

    /// The cell answers, if only that it is poisoned.
    fn read(&mut self) -> Result<Vec<u8>> {
        let call = CallId {
            session: SessionId(u64::MAX),
            sequence: Sequence(1),
        };
        assert_eq!(self.read.access, Access::Read);
        let sent = Call {
            id: call,
            acked: Sequence(0),
            recording: Recording::Changes,
            method: self.read.id,
            args: &encode(&()).unwrap(),
            attempt: None,
        };
        let (_, mut replies) = self.turn(|cell, turn| cell.call(&sent, turn));
        assert_eq!(replies.len(), 1);
        let (answered, result) = replies.remove(0);
        assert_eq!(answered, call);
        assert!(
            matches!(result, Ok(_) | Err(Error::Poisoned { .. })),
            "{result:?}"
        );
        result
    }
}
