//! Semaphores against a page of rules: permits there, permits held by whom, and a line.

use std::collections::VecDeque;

use crucial_object::sync::Semaphore;
use crucial_object::{Error, Pending, Result, SessionId, Shared};
use proptest::prelude::*;

use crate::in_process::InProcess;
use crate::{answer, check_processes, client};

type Client = u64;

#[derive(Clone, Debug)]
enum Operation {
    Acquire(Client, u64),
    TryAcquire(Client, u64),
    Release(Client, u64),
    /// By token.
    ReleaseAcquired(Client, u64),
    /// The request at this place of the line is withdrawn.
    Withdraw(usize),
    Die(Client),
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let who = || 1..4u64;
    prop_oneof![
        6 => (who(), 0..4u64).prop_map(|(who, permits)| Acquire(who, permits)),
        2 => (who(), 0..4u64).prop_map(|(who, permits)| TryAcquire(who, permits)),
        6 => (who(), 0..4u64).prop_map(|(who, permits)| Release(who, permits)),
        3 => (who(), 0..200u64).prop_map(|(who, token)| ReleaseAcquired(who, token)),
        2 => (0..4usize).prop_map(Withdraw),
        1 => who().prop_map(Die),
    ]
}

struct Request {
    who: Client,
    permits: u64,
    call: Pending<u64>,
}

struct Model {
    available: u64,
    /// Each permit in use, oldest first: the token of its acquisition, and who holds it.
    held: Vec<(u64, Client)>,
    line: VecDeque<Request>,
    /// The last fencing token.
    token: u64,
}

impl Model {
    fn take(&mut self, who: Client, permits: u64) {
        self.available -= permits;
        self.token += 1;
        let token = self.token;
        self.held.extend((0..permits).map(|_| (token, who)));
    }

    /// The caller's own, newest first; or else anybody's, oldest first; or else there is one more.
    fn release(&mut self, who: Client) {
        let own = self.held.iter().rposition(|(_, holder)| *holder == who);
        if let Some(place) = own.or((!self.held.is_empty()).then_some(0)) {
            self.held.remove(place);
        }
        self.available += 1;
    }

    fn die(&mut self, who: Client) {
        self.line.retain(|request| request.who != who);
        let before = self.held.len();
        self.held.retain(|(_, holder)| *holder != who);
        self.available += (before - self.held.len()) as u64;
    }

    /// All that is left of an acquisition; whether something was.
    fn release_acquired(&mut self, token: u64) -> bool {
        let before = self.held.len();
        self.held.retain(|(acquired, _)| *acquired != token);
        let given = before - self.held.len();
        self.available += given as u64;
        given > 0
    }

    /// Serves the line in order, and checks that no other request is served.
    fn settle(&mut self) {
        while self
            .line
            .front()
            .is_some_and(|first| first.permits <= self.available)
        {
            let Request {
                who,
                permits,
                mut call,
            } = self.line.pop_front().unwrap();
            let token = answer(&mut call).expect("there are permits").unwrap();
            self.take(who, permits);
            assert_eq!(token, self.token, "tokens go up by one");
        }
        assert!(
            self.line
                .iter_mut()
                .all(|request| answer(&mut request.call).is_none())
        );
    }
}

fn keeps_its_permits(process: InProcess, permits: u64, operations: &[Operation]) -> Result<()> {
    use Operation::*;
    let semaphore = client(&process, 1, || Shared::new(Semaphore::new(permits)))?;
    let mut model = Model {
        available: permits,
        held: Vec::new(),
        line: VecDeque::new(),
        token: 0,
    };
    // What was released and not acquired before.
    let mut surplus = 0;
    for operation in operations {
        match operation {
            Acquire(who, permits) => {
                let call = client(&process, *who, || {
                    semaphore.deferred().acquire_many(*permits)
                });
                let (who, permits) = (*who, *permits);
                model.line.push_back(Request { who, permits, call });
            }
            TryAcquire(who, permits) => {
                let there = model.line.is_empty() && *permits <= model.available;
                let taken = client(&process, *who, || semaphore.try_acquire_many(*permits))?;
                assert_eq!(taken, there);
                if there {
                    model.take(*who, *permits);
                }
            }
            Release(who, permits) => {
                client(&process, *who, || semaphore.release_many(*permits))?;
                for _ in 0..*permits {
                    surplus += u64::from(model.held.is_empty());
                    model.release(*who);
                }
            }
            ReleaseAcquired(who, token) => {
                // Anybody's that was ever given, or none.
                let token = token % (model.token + 2);
                let released = client(&process, *who, || semaphore.release_acquired(token));
                match model.release_acquired(token) {
                    true => released?,
                    false => {
                        let lost = released.expect_err("nothing is held");
                        assert!(matches!(lost, Error::LockLost { token: t } if t == token));
                    }
                }
            }
            Withdraw(place) => drop(model.line.remove(*place)),
            Die(who) => {
                process.as_session(SessionId(*who)).end_session();
                model.die(*who);
            }
        }
        model.settle();
        client(&process, 1, || -> Result<()> {
            let (available, held) = (semaphore.available_permits()?, semaphore.held_permits()?);
            assert_eq!(
                (available, held),
                (model.available, model.held.len() as u64)
            );
            assert_eq!(available + held, permits + surplus, "permits are conserved");
            assert_eq!(semaphore.waiting()?, model.line.len() as u64);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn permits_are_conserved_and_given_in_order() {
    for permits in [0, 1, 4] {
        check_processes(operation(), |process, operations| {
            keeps_its_permits(process, permits, &operations)
        });
    }
}
