//! A call that a server has no room for is not executed, and leaves nothing behind.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a test has the world that the node has not"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Poll;

use crucial_node::cell::{Call, CallId, Cell, Disposition, Recording, Turn};
use crucial_object::{
    Access, Error, Instance, Invocation, Method, MethodId, Result, Sequence, SessionId, Ticket,
    TypeInfo, Wake, encode,
};

/// The replies that a cell gave.
type Replies = Vec<(CallId, Result<Vec<u8>>)>;

/// An uploaded object, which counts how often it ran.
struct Counted {
    count: u64,
    has_room: Arc<AtomicBool>,
}

impl Instance for Counted {
    fn dispatch(&mut self, invocation: Invocation<'_>) -> Result<Poll<()>> {
        if !self.has_room.load(Ordering::Relaxed) {
            return Err(Error::LimitExceeded {
                limit: "instances_max".to_owned(),
                max: 1,
                detail: "too many uploaded objects are in use".to_owned(),
            });
        }
        self.count += 1;
        invocation.out.extend(encode(&self.count)?);
        Ok(Poll::Ready(()))
    }

    fn cancel(&mut self, _: usize, _: Ticket) -> Result<()> {
        Ok(())
    }

    fn on_session_end(&mut self, _: SessionId) {}

    fn wake(&mut self) -> Wake {
        Wake::None
    }

    fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.extend(encode(&self.count)?);
        Ok(())
    }
}

static METHODS: LazyLock<[Method; 1]> =
    LazyLock::new(|| [Method::new("count", Access::Write, false)]);

#[test]
fn a_call_that_finds_no_room_leaves_no_record_and_is_executed_when_it_is_repeated() {
    let has_room = Arc::new(AtomicBool::new(true));
    let of_instances = has_room.clone();
    let info = TypeInfo::uploaded(
        "test::Counted",
        &*METHODS,
        false,
        [7; 32],
        Box::new(move |_, _| {
            let instance = Counted {
                count: 0,
                has_room: of_instances.clone(),
            };
            Ok(Box::new(instance) as Box<dyn Instance>)
        }),
    );
    let mut cell = Cell::new(Box::leak(Box::new(info)), &[]).unwrap();
    let mut call = || {
        let call = Call {
            id: CallId {
                session: SessionId(1),
                sequence: Sequence(1),
            },
            acked: Sequence(1),
            recording: Recording::Changes,
            method: MethodId::of("count"),
            args: &[],
            attempt: None,
        };
        let mut replies = Replies::new();
        let mut out = Vec::new();
        let mut turn = Turn::new(&mut replies, &mut out);
        let disposition = cell.call(&call, &mut turn);
        let (_, result) = replies.pop().unwrap();
        (disposition, result, cell.records_len())
    };
    has_room.store(false, Ordering::Relaxed);
    let (disposition, result, records) = call();
    assert_eq!((disposition, records), (Disposition::Refused, 0));
    assert!(result.unwrap_err().is_lack_of_room());
    has_room.store(true, Ordering::Relaxed);
    let (disposition, result, records) = call();
    assert_eq!((disposition, records), (Disposition::Answered, 1));
    assert_eq!(result, encode(&1u64));
}
