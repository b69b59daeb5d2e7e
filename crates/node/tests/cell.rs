//! What a `Cell` promises about calls that end and calls that wait.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a test has the world that the node has not"
)]

mod subject;

use std::cell::{Cell as Counter, RefCell};
use std::collections::HashMap;
use std::task::Poll;

use crucial_node::cell::Disposition::{Answered, Parked};
use crucial_node::cell::{Change, Turn};
use crucial_object::sync::{AtomicI64, Barrier, BarrierWaitResult};
use crucial_object::{Error, Sequence, Shared, Wake, decode, encode, shared};
use serde::{Deserialize, Serialize};
use subject::{Subject, id};

thread_local! {
    /// How often `Account::balance` ran on this thread, which is this test.
    static READS: Counter<u32> = const { Counter::new(0) };
    /// How often each visitor of a `Gate` was polled.
    static POLLS: RefCell<HashMap<u64, u32>> = RefCell::default();
}

/// A number that can be waited for.
#[derive(Default, Serialize, Deserialize)]
struct Account {
    cents: i64,
}

#[shared(crate = crucial_object)]
impl Account {
    fn deposit(&mut self, cents: i64) -> i64 {
        self.cents += cents;
        self.cents
    }

    #[fallible]
    fn deposit_and_complain(&mut self, cents: i64) -> crucial_object::Result<()> {
        self.cents += cents;
        Err(Error::BadArguments {
            what: "cents".to_owned(),
            detail: "too few".to_owned(),
        })
    }

    fn balance(&self) -> i64 {
        READS.set(READS.get() + 1);
        self.cents
    }

    /// Waits, and changes nothing.
    fn at_least(&self, cents: i64) -> Poll<i64> {
        if self.cents < cents {
            return Poll::Pending;
        }
        Poll::Ready(self.cents)
    }

    /// Waits, and changes the account.
    fn withdraw(&mut self, cents: i64) -> Poll<i64> {
        if self.cents < cents {
            return Poll::Pending;
        }
        self.cents -= cents;
        Poll::Ready(self.cents)
    }

    fn transfer(&mut self, to: Shared<AtomicI64>) -> Result<i64, Error> {
        to.fetch_add(1)
    }
}

/// Lets in as many visitors as it has been told to, in a way that it has been told.
#[derive(Serialize, Deserialize)]
struct Gate {
    places: u64,
    outside: u64,
    wakes: Wakes,
}

/// `Wake`, as data.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Wakes {
    All,
    First,
    None,
}

impl Gate {
    fn new(wakes: Wakes) -> Gate {
        Gate {
            places: 0,
            outside: 0,
            wakes,
        }
    }

    fn leave(&mut self, _visitor: u64) {
        self.outside -= 1;
    }
}

#[shared(crate = crucial_object)]
impl Gate {
    fn enter(
        &mut self,
        visitor: u64,
        needs: u64,
        #[ticket(cancel = Self::leave)] came: &mut Option<u64>,
    ) -> Poll<u64> {
        POLLS.with_borrow_mut(|polls| *polls.entry(visitor).or_default() += 1);
        if came.is_none() {
            self.outside += 1;
            *came = Some(visitor);
        }
        if self.places < needs {
            return Poll::Pending;
        }
        self.places -= needs;
        self.outside -= 1;
        Poll::Ready(visitor)
    }

    fn open(&mut self, places: u64) {
        self.places += places;
    }

    fn outside(&self) -> u64 {
        self.outside
    }

    #[wake]
    fn wake(&self) -> Wake {
        match self.wakes {
            Wakes::All => Wake::All,
            Wakes::First => Wake::First,
            Wakes::None => Wake::None,
        }
    }
}

/// Is entered at its second poll only.
#[derive(Default, Serialize, Deserialize)]
struct Turnstile {
    turned: u64,
}

#[shared(crate = crucial_object)]
impl Turnstile {
    fn pass(&mut self, #[ticket] came: &mut Option<()>) -> Poll<u64> {
        self.turned += 1;
        match came.replace(()) {
            None => Poll::Pending,
            Some(()) => Poll::Ready(self.turned),
        }
    }
}

fn polls(visitor: u64) -> u32 {
    POLLS.with_borrow(|polls| polls[&visitor])
}

#[test]
fn a_repeated_write_is_answered_again_and_executed_once() {
    let mut account = Subject::new(&Account::default());
    for _ in 0..3 {
        assert_eq!(account.ask::<i64>(id(1, 1), "deposit", &(5i64,)), Ok(5));
    }
    assert_eq!(account.ask::<i64>(id(2, 1), "deposit", &(5i64,)), Ok(10));
}

#[test]
fn a_repeated_wait_keeps_its_one_place_and_has_one_effect() {
    let mut account = Subject::new(&Account::default());
    for _ in 0..3 {
        assert_eq!(account.call(id(1, 1), "withdraw", &(5i64,)), Parked);
    }
    assert_eq!(account.cell.parked_len(), 1);
    assert_eq!(account.take(), []);
    account.call(id(2, 1), "deposit", &(12i64,));
    assert_eq!(account.answered(), [id(2, 1), id(1, 1)]);
    for _ in 0..2 {
        // The call has its result now, and the repetition gets the same one.
        assert_eq!(account.ask::<i64>(id(1, 1), "withdraw", &(5i64,)), Ok(7));
    }
    assert_eq!(account.ask::<i64>(id(2, 2), "balance", &()), Ok(7));
}

#[test]
fn a_wait_that_ends_at_its_first_poll_is_recorded_as_well() {
    let mut account = Subject::new(&Account { cents: 9 });
    for _ in 0..2 {
        assert_eq!(account.ask::<i64>(id(1, 1), "withdraw", &(4i64,)), Ok(5));
        assert_eq!(account.ask::<i64>(id(1, 2), "at_least", &(4i64,)), Ok(5));
    }
    assert_eq!(account.ask::<i64>(id(1, 3), "deposit", &(1i64,)), Ok(6));
    // What a waiting call saw is its result, even if it only looked.
    assert_eq!(account.ask::<i64>(id(1, 2), "at_least", &(4i64,)), Ok(5));
}

#[test]
fn a_read_is_executed_at_each_repetition_and_not_recorded() {
    let mut account = Subject::new(&Account::default());
    for count in 1..=5 {
        assert_eq!(account.ask::<i64>(id(1, 1), "balance", &()), Ok(0));
        assert_eq!(READS.get(), count);
    }
    assert_eq!(account.cell.records_len(), 0);
}

#[test]
fn an_acknowledged_record_goes_with_the_next_call() {
    let mut account = Subject::new(&Account::default());
    let cent = encode(&(1i64,)).unwrap();
    for sequence in 1..=100 {
        let acked = Sequence(sequence);
        assert_eq!(
            account.call_raw(id(1, sequence), acked, "deposit", &cent),
            Answered
        );
        assert_eq!(account.cell.records_len(), 1);
    }
}

#[test]
fn results_that_nobody_needs_are_dropped_and_waiting_calls_stay() {
    let mut account = Subject::new(&Account::default());
    account.call(id(1, 1), "deposit", &(1i64,));
    account.call(id(2, 1), "withdraw", &(2i64,));
    account.take();
    let unneeded = account.cell.unneeded(&|_| false);
    account.turn(|cell, turn| cell.apply(&Change::Forget(unneeded), turn));
    assert_eq!(account.cell.records_len(), 1);
    account.call(id(3, 1), "deposit", &(1i64,));
    assert_eq!(account.answered(), [id(3, 1), id(2, 1)]);
}

#[test]
fn waiting_calls_are_served_in_the_order_in_which_they_came() {
    let mut gate = Subject::new(&Gate::new(Wakes::All));
    for visitor in 1..=9 {
        assert_eq!(gate.call(id(visitor, 1), "enter", &(visitor, 1u64)), Parked);
    }
    gate.call(id(100, 1), "open", &(3u64,));
    assert_eq!(gate.answered(), [id(100, 1), id(1, 1), id(2, 1), id(3, 1)]);
    gate.call(id(100, 2), "open", &(2u64,));
    assert_eq!(gate.answered(), [id(100, 2), id(4, 1), id(5, 1)]);
    assert_eq!(gate.ask::<u64>(id(100, 3), "outside", &()), Ok(4));
}

#[test]
fn wake_all_polls_past_a_call_that_still_waits() {
    let mut gate = Subject::new(&Gate::new(Wakes::All));
    gate.call(id(1, 1), "enter", &(1u64, 5u64));
    gate.call(id(2, 1), "enter", &(2u64, 1u64));
    gate.call(id(3, 1), "open", &(1u64,));
    assert_eq!(gate.answered(), [id(3, 1), id(2, 1)]);
}

#[test]
fn wake_first_stops_at_a_call_that_still_waits() {
    let mut gate = Subject::new(&Gate::new(Wakes::First));
    gate.call(id(1, 1), "enter", &(1u64, 5u64));
    gate.call(id(2, 1), "enter", &(2u64, 1u64));
    gate.call(id(3, 1), "enter", &(3u64, 1u64));
    let before = (polls(2), polls(3));
    gate.call(id(4, 1), "open", &(1u64,));
    assert_eq!(gate.answered(), [id(4, 1)]);
    assert_eq!((polls(2), polls(3)), before);
    gate.call(id(4, 2), "open", &(5u64,));
    assert_eq!(gate.answered(), [id(4, 2), id(1, 1), id(2, 1)]);
}

#[test]
fn wake_none_polls_nobody() {
    let mut gate = Subject::new(&Gate::new(Wakes::None));
    gate.call(id(1, 1), "enter", &(1u64, 1u64));
    gate.call(id(2, 1), "open", &(9u64,));
    assert_eq!(gate.answered(), [id(2, 1)]);
    assert_eq!(polls(1), 1);
}

#[test]
fn one_completion_can_make_an_earlier_call_complete() {
    let mut account = Subject::new(&Account { cents: -10 });
    // In the order of arrival: needs what the second one leaves, which goes by the third.
    account.call(id(1, 1), "withdraw", &(-2i64,));
    account.call(id(2, 1), "withdraw", &(-8i64,));
    account.call(id(3, 1), "deposit", &(2i64,));
    assert_eq!(account.answered(), [id(3, 1), id(2, 1), id(1, 1)]);
    assert_eq!(account.ask::<i64>(id(3, 2), "balance", &()), Ok(2));
}

#[test]
fn a_read_that_completes_lets_the_next_in_line_be_polled() {
    let mut account = Subject::new(&Account::default());
    account.call(id(1, 1), "at_least", &(1i64,));
    account.call(id(2, 1), "at_least", &(2i64,));
    account.call(id(3, 1), "at_least", &(1i64,));
    account.call(id(4, 1), "deposit", &(1i64,));
    assert_eq!(account.answered(), [id(4, 1), id(1, 1), id(3, 1)]);
    assert_eq!(account.cell.parked_len(), 1);
}

#[test]
fn a_call_that_its_own_first_poll_completes_is_answered() {
    let mut turnstile = Subject::new(&Turnstile::default());
    assert_eq!(turnstile.call(id(1, 1), "pass", &()), Answered);
    let replies = turnstile.take();
    assert_eq!(replies, [(id(1, 1), Ok(encode(&2u64).unwrap()))]);
    assert_eq!(turnstile.cell.parked_len(), 0);
}

const PARTIES: u64 = 1800;

/// A barrier whose parties' polls are counted: `Gate`, with the wake of `Barrier`.
#[derive(Serialize, Deserialize)]
struct CountedBarrier {
    barrier: Barrier,
}

#[shared(crate = crucial_object)]
impl CountedBarrier {
    #[fallible]
    fn wait(
        &mut self,
        party: u64,
        #[ticket] round: &mut Option<u64>,
    ) -> Poll<crucial_object::Result<BarrierWaitResult>> {
        POLLS.with_borrow_mut(|polls| *polls.entry(party).or_default() += 1);
        self.barrier.wait(round)
    }

    #[wake]
    fn wake(&self) -> Wake {
        if self.barrier.waiting() == 0 {
            Wake::All
        } else {
            Wake::None
        }
    }
}

#[test]
fn a_barrier_of_1800_polls_each_party_twice_a_round() {
    let barrier = Barrier::new(PARTIES as usize);
    let mut barrier = Subject::new(&CountedBarrier { barrier });
    for round in 1..=3 {
        for party in 1..PARTIES {
            assert_eq!(barrier.call(id(party, round), "wait", &(party,)), Parked);
        }
        assert_eq!(barrier.take(), []);
        assert_eq!(
            barrier.call(id(PARTIES, round), "wait", &(PARTIES,)),
            Answered
        );
        assert_eq!(barrier.answered().len() as u64, PARTIES);
        for party in 1..PARTIES {
            assert_eq!(u64::from(polls(party)), 2 * round);
        }
        assert_eq!(u64::from(polls(PARTIES)), round);
    }
}

#[test]
fn the_library_barrier_has_one_leader_a_round() {
    let mut barrier = Subject::new(&Barrier::new(PARTIES as usize));
    for round in 1..=3 {
        for party in 1..=PARTIES {
            barrier.call(id(party, round), "wait", &());
        }
        let replies = barrier.take();
        assert_eq!(replies.len() as u64, PARTIES);
        let leaders = replies.iter().filter(|(_, result)| {
            decode::<BarrierWaitResult>(result.as_ref().unwrap())
                .unwrap()
                .is_leader()
        });
        assert_eq!(leaders.count(), 1);
    }
}

#[test]
fn a_cancelled_call_gives_its_ticket_back_and_lets_the_next_pass() {
    let mut gate = Subject::new(&Gate::new(Wakes::First));
    gate.call(id(1, 1), "enter", &(1u64, 5u64));
    gate.call(id(2, 1), "enter", &(2u64, 1u64));
    gate.call(id(3, 1), "open", &(1u64,));
    gate.take();
    assert!(gate.cancel(id(1, 1)));
    let replies = gate.take();
    assert_eq!(replies[0], (id(1, 1), Err(Error::Cancelled)));
    assert_eq!(replies[1], (id(2, 1), Ok(encode(&2u64).unwrap())));
    assert_eq!(replies.len(), 2);
    assert_eq!(gate.ask::<u64>(id(3, 2), "outside", &()), Ok(0));
}

#[test]
fn a_call_that_does_not_wait_can_not_be_cancelled() {
    let mut gate = Subject::new(&Gate::new(Wakes::All));
    gate.call(id(1, 1), "open", &(1u64,));
    gate.call(id(2, 1), "enter", &(2u64, 1u64));
    gate.take();
    for call in [id(1, 1), id(2, 1), id(3, 1)] {
        assert!(!gate.cancel(call));
    }
    assert_eq!(gate.take(), []);
}

#[test]
fn a_cancelled_call_stays_cancelled_when_it_is_repeated() {
    let mut gate = Subject::new(&Gate::new(Wakes::All));
    gate.call(id(1, 1), "enter", &(1u64, 1u64));
    assert!(gate.cancel(id(1, 1)));
    assert!(!gate.cancel(id(1, 1)));
    gate.call(id(2, 1), "open", &(1u64,));
    gate.take();
    let again = gate.ask::<u64>(id(1, 1), "enter", &(1u64, 1u64));
    assert_eq!(again, Err(Error::Cancelled));
}

#[test]
fn the_end_of_a_session_gives_all_its_places_up_and_forgets_it() {
    let mut gate = Subject::new(&Gate::new(Wakes::First));
    gate.call(id(1, 1), "enter", &(1u64, 5u64));
    gate.call(id(2, 1), "enter", &(2u64, 1u64));
    gate.call(id(1, 2), "enter", &(3u64, 1u64));
    gate.call(id(1, 3), "open", &(1u64,));
    gate.take();
    gate.end_session(1);
    // Nobody answers a session that is gone; the others move up.
    assert_eq!(gate.answered(), [id(2, 1)]);
    assert_eq!(gate.ask::<u64>(id(2, 2), "outside", &()), Ok(0));
    assert_eq!(gate.cell.parked_len(), 0);
    // The record of 2's entry is the only one.
    assert_eq!(gate.cell.records_len(), 1);
}

#[test]
fn a_session_that_was_silent_finds_its_results_and_not_its_places() {
    let mut gate = Subject::new(&Gate::new(Wakes::First));
    gate.call(id(1, 1), "open", &(1u64,));
    gate.call(id(1, 2), "enter", &(1u64, 5u64));
    gate.take();
    let (mut replies, mut out) = (Vec::new(), Vec::new());
    gate.cell.lapse_session(
        crucial_object::SessionId(1),
        &mut Turn::new(&mut replies, &mut out),
    );
    assert_eq!((gate.cell.parked_len(), gate.cell.records_len()), (0, 2));
    // The gate was opened once.
    let opened = gate.ask::<()>(id(1, 1), "open", &(1u64,));
    assert_eq!(opened, Ok(()));
    let waited = gate.ask::<u64>(id(1, 2), "enter", &(1u64, 5u64));
    assert_eq!(waited, Err(Error::SessionExpired));
}

#[test]
fn the_end_of_the_object_answers_who_waits() {
    let mut gate = Subject::new(&Gate::new(Wakes::All));
    gate.call(id(1, 1), "enter", &(1u64, 1u64));
    gate.call(id(2, 1), "enter", &(2u64, 1u64));
    let lost = Error::Lost {
        object: "a gate".to_owned(),
    };
    let mut replies = Vec::new();
    let mut out = Vec::new();
    gate.cell
        .end_parked(&lost, &mut Turn::new(&mut replies, &mut out));
    assert_eq!(
        replies,
        [(id(1, 1), Err(lost.clone())), (id(2, 1), Err(lost))]
    );
    assert_eq!(gate.cell.parked_len(), 0);
}

#[test]
fn an_unknown_method_is_told_with_those_that_there_are() {
    let mut gate = Subject::new(&Gate::new(Wakes::All));
    let error = gate.ask::<()>(id(1, 1), "close", &()).unwrap_err();
    let Error::UnknownMethod {
        type_name, known, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(type_name, "cell::Gate");
    assert_eq!(known, "enter, open, outside");
    assert_eq!(gate.cell.records_len(), 0);
}

#[test]
fn wrong_arguments_change_nothing_and_are_a_result_like_others() {
    let mut account = Subject::new(&Account { cents: 7 });
    let whole = encode(&(1_000_000i64,)).unwrap();
    let mut long = whole.clone();
    long.push(0);
    let wrong: [&[u8]; 4] = [&[], &whole[..whole.len() - 1], &long, &[0xff; 11]];
    let mut sequence = 0;
    for args in wrong {
        for method in ["deposit", "withdraw"] {
            sequence += 1;
            account.call_raw(id(1, sequence), Sequence(0), method, args);
            let replies = account.take();
            assert_eq!(replies.len(), 1);
            let Err(Error::BadArguments { what, .. }) = &replies[0].1 else {
                panic!("{replies:?}");
            };
            assert_eq!(*what, format!("Account::{method}"));
        }
    }
    assert_eq!(account.cell.parked_len(), 0);
    assert_eq!(account.ask::<i64>(id(2, 1), "balance", &()), Ok(7));
    // One number, one result: what has this number gets what the first got.
    let error = account.ask::<i64>(id(1, 1), "deposit", &(1i64,));
    assert!(matches!(error, Err(Error::BadArguments { .. })));
}

#[test]
fn a_method_that_fails_after_a_change_wakes_who_waits_for_it_and_is_executed_once() {
    let mut account = Subject::new(&Account::default());
    account.call(id(1, 1), "at_least", &(5i64,));
    for _ in 0..2 {
        let error = account.ask::<()>(id(2, 1), "deposit_and_complain", &(5i64,));
        assert!(
            matches!(error, Err(Error::BadArguments { .. })),
            "{error:?}"
        );
    }
    assert_eq!(account.ask::<i64>(id(2, 2), "balance", &()), Ok(5));
    assert_eq!(account.answered(), [id(1, 1)]);
}

#[test]
fn over_parked_max_a_waiting_call_is_refused_and_others_are_not() {
    let mut account = Subject::with_parked_max(&Account::default(), 2);
    account.call(id(1, 1), "at_least", &(1i64,));
    account.call(id(2, 1), "at_least", &(1i64,));
    let error = account
        .ask::<i64>(id(3, 1), "at_least", &(1i64,))
        .unwrap_err();
    let Error::LimitExceeded { limit, max, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((limit.as_str(), *max), ("parked_calls_max", 2));
    account.call(id(3, 2), "deposit", &(1i64,));
    assert_eq!(account.answered(), [id(3, 2), id(1, 1), id(2, 1)]);
    // A refusal is no result: the call may be tried again under its number.
    assert_eq!(account.ask::<i64>(id(3, 1), "at_least", &(1i64,)), Ok(1));
}

#[test]
fn a_method_that_calls_another_object_is_told_that_it_can_not() {
    let mut account = Subject::new(&Account::default());
    // A handle, as bytes: an object's id, and no key.
    let handle = ([7u8; 16], None::<String>);
    let result = account.ask::<Result<i64, Error>>(id(1, 1), "transfer", &(handle,));
    assert_eq!(result, Ok(Err(Error::Nested)));
}

#[test]
fn a_state_of_wrong_bytes_makes_no_cell() {
    let info = crucial_object::registry::find("cell::Account").unwrap();
    for state in [&[][..], &[0x80], &[0, 0]] {
        let error = crucial_node::cell::Cell::new(info, state).err().unwrap();
        assert!(matches!(error, Error::BadArguments { .. }), "{error}");
    }
}
