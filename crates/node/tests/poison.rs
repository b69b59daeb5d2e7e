//! What becomes of an object, and of those who wait in it, when one of its methods panics.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a test has the world that the node has not"
)]

mod subject;

use std::task::Poll;

use crucial_node::cell::Disposition::{Answered, Parked};
use crucial_object::{Error, Wake, registry, shared};
use serde::{Deserialize, Serialize};
use subject::{Subject, id};

/// Where a `Bomb` goes off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
enum Fuse {
    #[default]
    Wet,
    RePoll,
    Cancel,
    Wake,
}

#[derive(Default, Serialize, Deserialize)]
struct Bomb {
    fuse: Fuse,
    touched: u64,
    waiting: u64,
    released: bool,
}

impl Bomb {
    fn leave(&mut self, (): ()) {
        self.touched += 1;
        assert!(self.fuse != Fuse::Cancel, "boom {} in cancel", self.touched);
        self.waiting -= 1;
    }
}

#[shared(crate = crucial_object)]
impl Bomb {
    fn touch(&mut self) -> u64 {
        self.touched += 1;
        self.touched
    }

    fn explode(&mut self, message: String) -> u64 {
        self.touched += 1;
        panic!("{message}")
    }

    fn look(&self) -> u64 {
        assert!(self.touched > 0, "nothing to see");
        self.touched
    }

    fn waiting(&self) -> u64 {
        self.waiting
    }

    fn set_fuse(&mut self, fuse: Fuse) {
        self.fuse = fuse;
    }

    fn release(&mut self) {
        self.released = true;
    }

    fn hold(&mut self, #[ticket(cancel = Self::leave)] came: &mut Option<()>) -> Poll<()> {
        if came.replace(()).is_none() {
            self.waiting += 1;
            return Poll::Pending;
        }
        assert!(self.fuse != Fuse::RePoll, "boom in re-poll");
        if !self.released {
            return Poll::Pending;
        }
        self.waiting -= 1;
        Poll::Ready(())
    }

    #[wake]
    fn wake(&self) -> Wake {
        assert!(self.fuse != Fuse::Wake, "boom in wake");
        Wake::All
    }
}

/// Its decoder panics.
#[derive(Serialize)]
struct Undecodable;

impl<'de> Deserialize<'de> for Undecodable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("boom in decode")
    }
}

#[shared(crate = crucial_object)]
impl Undecodable {}

fn place_of(error: &Error) -> (&str, &str, &str) {
    match error {
        Error::Panicked {
            what,
            message,
            location,
        }
        | Error::Poisoned {
            what,
            message,
            location,
        } => (what, message, location),
        other => panic!("{other}"),
    }
}

#[test]
fn a_panic_comes_back_with_method_message_and_place_and_poisons() {
    let mut bomb = Subject::new(&Bomb::default());
    let args = ("the sky fell",);
    let first = bomb.ask::<u64>(id(1, 1), "explode", &args).unwrap_err();
    assert!(matches!(first, Error::Panicked { .. }), "{first:?}");
    let (what, message, location) = place_of(&first);
    assert_eq!((what, message), ("poison::Bomb::explode", "the sky fell"));
    let (file, place) = location.split_once(".rs:").unwrap();
    assert!(file.ends_with("poison"), "{location}");
    assert!(
        place.split(':').all(|n| n.parse::<u32>().is_ok()),
        "{location}"
    );

    for method in ["touch", "look", "hold", "waiting"] {
        let later = bomb.ask::<u64>(id(2, 1), method, &()).unwrap_err();
        assert!(matches!(later, Error::Poisoned { .. }), "{later:?}");
        assert_eq!(place_of(&later), place_of(&first));
    }
}

#[test]
fn a_repeated_call_that_panicked_is_answered_again_and_executed_once() {
    let mut bomb = Subject::new(&Bomb::default());
    let first = bomb.ask::<u64>(id(1, 1), "explode", &("once",));
    assert_eq!(bomb.ask::<u64>(id(1, 1), "explode", &("once",)), first);
    assert!(bomb.clear_poison(id(1, 2)));
    // Also when the object is well again.
    assert_eq!(bomb.ask::<u64>(id(1, 1), "explode", &("once",)), first);
    assert_eq!(bomb.ask::<u64>(id(1, 3), "look", &()), Ok(1));
}

#[test]
fn a_panic_in_a_read_poisons_nothing() {
    let mut bomb = Subject::new(&Bomb::default());
    let error = bomb.ask::<u64>(id(1, 1), "look", &()).unwrap_err();
    assert!(matches!(&error, Error::Panicked { message, .. } if message == "nothing to see"));
    assert_eq!(bomb.ask::<u64>(id(1, 2), "touch", &()), Ok(1));
    assert_eq!(bomb.ask::<u64>(id(1, 1), "look", &()), Ok(1));
}

#[test]
fn clear_poison_tells_what_it_did_once_and_the_same_when_repeated() {
    let mut bomb = Subject::new(&Bomb::default());
    assert!(!bomb.clear_poison(id(1, 1)));
    bomb.ask::<u64>(id(1, 2), "explode", &("x",)).unwrap_err();
    assert!(bomb.clear_poison(id(1, 3)));
    bomb.ask::<u64>(id(1, 4), "explode", &("y",)).unwrap_err();
    // A late repetition of the earlier one does not clear the new poison.
    assert!(bomb.clear_poison(id(1, 3)));
    bomb.ask::<u64>(id(1, 5), "touch", &()).unwrap_err();
    assert!(bomb.clear_poison(id(1, 6)));
    assert!(!bomb.clear_poison(id(1, 7)));
    assert_eq!(bomb.ask::<u64>(id(1, 8), "touch", &()), Ok(3));
}

/// Two calls wait, and the fuse is set; gives the bomb.
fn armed(fuse: Fuse) -> Subject {
    let mut bomb = Subject::new(&Bomb::default());
    assert_eq!(bomb.call(id(1, 1), "hold", &()), Parked);
    assert_eq!(bomb.call(id(2, 1), "hold", &()), Parked);
    assert_eq!(bomb.take(), []);
    // What sets the fuse is itself a change, which can set it off.
    assert_eq!(bomb.call(id(3, 1), "set_fuse", &(fuse,)), Answered);
    bomb
}

#[test]
fn a_panic_when_polled_again_ends_its_call_and_poisons_those_who_wait() {
    let mut bomb = armed(Fuse::RePoll);
    let replies = bomb.take();
    assert_eq!(replies[0], (id(3, 1), Ok(vec![])));
    let (call, Err(Error::Panicked { what, message, .. })) = &replies[1] else {
        panic!("{replies:?}");
    };
    assert_eq!(*call, id(1, 1));
    assert_eq!(
        (what.as_str(), message.as_str()),
        ("poison::Bomb::hold", "boom in re-poll")
    );
    let (call, Err(Error::Poisoned { message, .. })) = &replies[2] else {
        panic!("{replies:?}");
    };
    assert_eq!((*call, message.as_str()), (id(2, 1), "boom in re-poll"));
    assert_eq!(replies.len(), 3);
    assert_eq!(bomb.cell.parked_len(), 0);
}

#[test]
fn a_panic_in_wake_answers_those_who_wait() {
    let mut bomb = armed(Fuse::Wake);
    let replies = bomb.take();
    assert_eq!(replies[0], (id(3, 1), Ok(vec![])));
    for ((call, result), waiter) in replies[1..].iter().zip([id(1, 1), id(2, 1)]) {
        assert_eq!(*call, waiter);
        let (what, message, _) = place_of(result.as_ref().unwrap_err());
        assert_eq!((what, message), ("poison::Bomb::wake", "boom in wake"));
    }
    assert_eq!(replies.len(), 3);
    assert_eq!(bomb.cell.parked_len(), 0);
    bomb.ask::<u64>(id(3, 2), "touch", &()).unwrap_err();
}

#[test]
fn a_panic_in_cancel_poisons_after_the_cancelled_call_is_answered() {
    let mut bomb = armed(Fuse::Cancel);
    bomb.take();
    assert!(bomb.cancel(id(1, 1)));
    let replies = bomb.take();
    assert_eq!(replies[0], (id(1, 1), Err(Error::Cancelled)));
    assert_eq!(replies[1].0, id(2, 1));
    let (what, message, _) = place_of(replies[1].1.as_ref().unwrap_err());
    assert_eq!((what, message), ("poison::Bomb::hold", "boom 1 in cancel"));
    assert_eq!(replies.len(), 2);
}

#[test]
fn a_panic_in_cancel_at_the_end_of_a_session_poisons_those_who_wait() {
    let mut bomb = armed(Fuse::Cancel);
    bomb.call(id(1, 2), "hold", &());
    bomb.take();
    bomb.end_session(1);
    let replies = bomb.take();
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].0, id(2, 1));
    // The session's second call was not taken back: a poisoned object is left as it is.
    let (_, message, _) = place_of(replies[0].1.as_ref().unwrap_err());
    assert_eq!(message, "boom 1 in cancel");
    assert_eq!(bomb.cell.parked_len(), 0);
}

#[test]
fn who_waits_when_another_call_panics_is_told_and_stays_told() {
    let mut bomb = armed(Fuse::Wet);
    bomb.take();
    let error = bomb.ask::<u64>(id(3, 2), "explode", &("bang",));
    assert!(matches!(error, Err(Error::Panicked { .. })));
    let replies = bomb.take();
    let calls: Vec<_> = replies.iter().map(|(call, _)| *call).collect();
    assert_eq!(calls, [id(1, 1), id(2, 1)]);
    bomb.clear_poison(id(3, 3));
    let again = bomb.ask::<()>(id(1, 1), "hold", &());
    assert_eq!(again.map(|()| vec![]), replies[0].1);
}

#[test]
fn a_decoder_that_panics_makes_no_cell() {
    let info = registry::find("poison::Undecodable").unwrap();
    let error = crucial_node::cell::Cell::new(info, &[]).err().unwrap();
    assert!(matches!(&error, Error::Panicked { message, .. } if message == "boom in decode"));
}
