//! Random histories of a `Cell` against a model that is a page long: every call is answered exactly
//! when the model says, with its result, and has its effect once, however often it is repeated.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a test has the world that the node has not"
)]

mod subject;

use std::collections::BTreeMap;
use std::task::Poll;

use crucial_node::cell::{CallId, Change, Disposition};
use crucial_object::{Error, Sequence, encode, shared};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use subject::{Reply, Subject, id};

/// A sum that can be added to, waited for, and taken from.
#[derive(Default, Serialize, Deserialize)]
struct Well {
    litres: u64,
    /// How many calls wait to take.
    thirsty: u64,
}

impl Well {
    fn leave(&mut self, (): ()) {
        self.thirsty -= 1;
    }
}

#[shared(crate = crucial_object)]
impl Well {
    fn add(&mut self, litres: u64) -> u64 {
        self.litres += litres;
        self.litres
    }

    fn look(&self, _unused: u64) -> (u64, u64) {
        (self.litres, self.thirsty)
    }

    fn await_at_least(&self, litres: u64) -> Poll<u64> {
        if self.litres < litres {
            return Poll::Pending;
        }
        Poll::Ready(self.litres)
    }

    fn take(
        &mut self,
        litres: u64,
        #[ticket(cancel = Self::leave)] came: &mut Option<()>,
    ) -> Poll<u64> {
        let first = came.replace(()).is_none();
        if self.litres < litres {
            self.thirsty += u64::from(first);
            return Poll::Pending;
        }
        self.thirsty -= u64::from(!first);
        self.litres -= litres;
        Poll::Ready(self.litres)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    Add,
    Look,
    Await,
    Take,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Add => "add",
            Method::Look => "look",
            Method::Await => "await_at_least",
            Method::Take => "take",
        }
    }
}

/// One step of a history. The numbers choose among what there is, modulo its count.
#[derive(Clone, Copy, Debug)]
enum Step {
    Call(u64, Method, u64),
    Repeat(usize),
    Cancel(usize),
    /// A session acknowledges all answers up to its oldest call that waits.
    Acknowledge(u64),
    EndSession(u64),
}

const SESSIONS: u64 = 3;

fn step() -> impl Strategy<Value = Step> {
    let method = prop_oneof![
        4 => Just(Method::Add),
        1 => Just(Method::Look),
        3 => Just(Method::Await),
        4 => Just(Method::Take),
    ];
    prop_oneof![
        12 => (0..SESSIONS, method, 0u64..8).prop_map(|(s, m, n)| Step::Call(s, m, n)),
        6 => any::<usize>().prop_map(Step::Repeat),
        3 => any::<usize>().prop_map(Step::Cancel),
        2 => (0..SESSIONS).prop_map(Step::Acknowledge),
        1 => (0..SESSIONS).prop_map(Step::EndSession),
    ]
}

#[derive(Default)]
struct Model {
    litres: u64,
    /// The calls that wait, in the order in which they came.
    waiting: Vec<(CallId, Method, u64)>,
    /// The calls of living sessions that are not acknowledged.
    made: BTreeMap<CallId, (Method, u64)>,
    /// Their results, but for those of `look`.
    results: BTreeMap<CallId, Result<Vec<u8>, Error>>,
    /// Session numbers in use: an ended session comes back as another.
    names: BTreeMap<u64, u64>,
    last: BTreeMap<u64, u64>,
    acked: BTreeMap<u64, u64>,
    replies: Vec<Reply>,
}

impl Model {
    fn session(&self, session: u64) -> u64 {
        session + SESSIONS * self.names.get(&session).copied().unwrap_or(0)
    }

    fn acked(&self, session: u64) -> Sequence {
        Sequence(self.acked.get(&session).copied().unwrap_or(1))
    }

    fn reply(&mut self, call: CallId, result: Result<Vec<u8>, Error>) {
        if self
            .made
            .get(&call)
            .is_none_or(|(method, _)| *method != Method::Look)
        {
            self.results.insert(call, result.clone());
        }
        self.replies.push((call, result));
    }

    fn try_complete(&mut self, method: Method, litres: u64) -> Option<Vec<u8>> {
        if self.litres < litres {
            return None;
        }
        if method == Method::Take {
            self.litres -= litres;
        }
        Some(encode(&self.litres).unwrap())
    }

    fn call(&mut self, call: CallId, method: Method, litres: u64) {
        self.made.insert(call, (method, litres));
        match method {
            Method::Look => {
                let thirsty = self.waiting.iter().filter(|(_, m, _)| *m == Method::Take);
                let seen = (self.litres, thirsty.count() as u64);
                self.reply(call, Ok(encode(&seen).unwrap()));
            }
            Method::Add => {
                self.litres += litres;
                self.reply(call, Ok(encode(&self.litres).unwrap()));
            }
            Method::Await | Method::Take => match self.try_complete(method, litres) {
                Some(result) => self.reply(call, Ok(result)),
                None => self.waiting.push((call, method, litres)),
            },
        }
        self.settle();
    }

    /// Until nobody who waits can go on: the first who came, first.
    fn settle(&mut self) {
        loop {
            let mut changed = false;
            for (call, method, litres) in std::mem::take(&mut self.waiting) {
                match self.try_complete(method, litres) {
                    Some(result) => {
                        changed |= method == Method::Take;
                        self.reply(call, Ok(result));
                    }
                    None => self.waiting.push((call, method, litres)),
                }
            }
            if !changed {
                return;
            }
        }
    }
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut well = Subject::new(&Well::default());
    let mut model = Model::default();
    for step in steps {
        take_step(&mut well, &mut model, step)?;
        prop_assert_eq!(well.take(), std::mem::take(&mut model.replies));
        prop_assert_eq!(well.cell.parked_len(), model.waiting.len());
        let kept = well.cell.records_len();
        // All that is not acknowledged is kept, and of the rest no more than a bounded part.
        let owed = model.waiting.len() + model.results.len();
        prop_assert!(kept >= owed, "{} records, {} owed", kept, owed);
    }
    let needed = |call: CallId| call.sequence >= model.acked(call.session.0);
    let unneeded = well.cell.unneeded(&needed);
    well.turn(|cell, turn| cell.apply(&Change::Forget(unneeded), turn));
    prop_assert_eq!(
        well.cell.records_len(),
        model.waiting.len() + model.results.len()
    );
    Ok(())
}

fn take_step(well: &mut Subject, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Call(session, method, litres) => {
            let session = model.session(session);
            let last = model.last.entry(session).or_insert(0);
            *last += 1;
            let call = id(session, *last);
            model.call(call, method, litres);
            let disposition = send(well, model, call, method, litres);
            let waits = model.waiting.iter().any(|(waiting, ..)| *waiting == call);
            prop_assert_eq!(disposition == Disposition::Parked, waits);
        }
        Step::Repeat(choice) => {
            let Some((&call, &(method, litres))) = choose(choice, model.made.iter()) else {
                return Ok(());
            };
            if method == Method::Look {
                model.call(call, method, litres);
            } else if let Some(result) = model.results.get(&call) {
                model.replies.push((call, result.clone()));
            }
            send(well, model, call, method, litres);
        }
        Step::Cancel(choice) => {
            let Some(&call) = choose(choice, model.made.keys()) else {
                return Ok(());
            };
            let position = model
                .waiting
                .iter()
                .position(|(waiting, ..)| *waiting == call);
            prop_assert_eq!(well.cancel(call), position.is_some());
            if let Some(position) = position {
                model.waiting.remove(position);
                model.reply(call, Err(Error::Cancelled));
            }
        }
        Step::Acknowledge(session) => {
            let session = model.session(session);
            let mine = model
                .waiting
                .iter()
                .filter(|(c, ..)| c.session.0 == session);
            let oldest = mine.map(|(c, ..)| c.sequence.0).min();
            let last = model.last.get(&session).copied().unwrap_or(0);
            let acked = oldest.unwrap_or(last + 1);
            model.acked.insert(session, acked);
            let needed = |call: &CallId| call.session.0 != session || call.sequence.0 >= acked;
            model.made.retain(|call, _| needed(call));
            model.results.retain(|call, _| needed(call));
        }
        Step::EndSession(session) => {
            let ended = model.session(session);
            *model.names.entry(session).or_insert(0) += 1;
            model.waiting.retain(|(call, ..)| call.session.0 != ended);
            model.made.retain(|call, _| call.session.0 != ended);
            model.results.retain(|call, _| call.session.0 != ended);
            well.end_session(ended);
        }
    }
    Ok(())
}

fn send(
    well: &mut Subject,
    model: &Model,
    call: CallId,
    method: Method,
    litres: u64,
) -> Disposition {
    let args = encode(&(litres,)).unwrap();
    well.call_raw(call, model.acked(call.session.0), method.name(), &args)
}

fn choose<T>(choice: usize, among: impl ExactSizeIterator<Item = T>) -> Option<T> {
    let count = among.len();
    let mut among = among;
    among.nth(choice.checked_rem(count)?)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_call_is_answered_as_the_model_says(steps in prop::collection::vec(step(), 1..200)) {
        run(steps)?;
    }
}
