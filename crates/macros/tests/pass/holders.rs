//! Methods that know their caller, that refuse, and that give back what a dead session held.
#![deny(warnings)]
#![allow(
    missing_docs,
    reason = "a program, of which nobody reads the documentation"
)]

use std::task::Poll;

use crucial::{Error, Result, SessionId, Shared, shared};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct Desk {
    holder: Option<SessionId>,
    served: u64,
}

#[shared]
impl Desk {
    fn take(&mut self, #[caller] caller: SessionId, #[ticket] asked: &mut Option<()>) -> Poll<u64> {
        asked.get_or_insert(());
        if self.holder.is_some() {
            return Poll::Pending;
        }
        self.holder = Some(caller);
        self.served += 1;
        Poll::Ready(self.served)
    }

    #[fallible]
    fn leave(&mut self, #[caller] caller: SessionId) -> Result<u64> {
        if self.holder != Some(caller) {
            return Err(Error::from("somebody else has it"));
        }
        self.holder = None;
        Ok(self.served)
    }

    #[fallible]
    fn wait_for(&self, served: u64) -> Poll<crucial::Result<()>> {
        match served {
            0 => Poll::Ready(Err(Error::from("nobody is the zeroth"))),
            _ if self.served >= served => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    #[departed]
    fn departed(&mut self, session: SessionId) {
        self.holder = self.holder.filter(|holder| *holder != session);
    }
}

fn main() {
    let desk = Shared::new(Desk::default()).unwrap();
    assert_eq!(desk.leave(), Err(Error::from("somebody else has it")));
    let second = desk.deferred().wait_for(2);
    assert_eq!(desk.take(), Ok(1));
    assert_eq!(desk.leave(), Ok(1));
    assert_eq!(desk.take(), Ok(2));
    assert_eq!(second.wait(), Ok(()));
    assert_eq!(desk.wait_for(0), Err(Error::from("nobody is the zeroth")));
}
