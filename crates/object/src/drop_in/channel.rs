//! The channel behind the two ends of an `mpsc` channel.

use std::collections::VecDeque;
use std::task::Poll;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::sync::line::Line;
use crate::valid::is_new;
use crate::{SessionId, Wake, shared};

/// The sides of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Those who send.
    Sender,
    /// Those who receive.
    Receiver,
}

/// Items on their way from senders to a receiver. It ends with its ends: without senders nothing comes any more, and
/// without a receiver nothing can be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Channel {
    items: VecDeque<ByteBuf>,
    /// How many items wait, at most; with 0 a sender waits for a receiver.
    bound: Option<u64>,
    ends: Vec<End>,
    senders: Line<()>,
    /// How many receivers wait.
    receiving: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct End {
    id: u64,
    side: Side,
    /// The session with which it goes; `None`: it goes when that is said.
    session: Option<SessionId>,
}

impl Channel {
    /// A channel with these items, as yet without ends.
    pub fn new(items: impl IntoIterator<Item = ByteBuf>, bound: Option<u64>) -> Channel {
        Channel {
            items: items.into_iter().collect(),
            bound,
            ends: Vec::new(),
            senders: Line::new(),
            receiving: 0,
        }
    }

    fn leave(&mut self, place: u64) {
        self.senders.leave(place);
    }

    fn stop_receiving(&mut self, (): ()) {
        self.receiving -= 1;
    }

    fn has(&self, side: Side) -> bool {
        self.ends.iter().any(|end| end.side == side)
    }

    fn has_room(&self) -> bool {
        let items = self.items.len() as u64;
        match self.bound {
            None => true,
            Some(0) => self.receiving > items,
            Some(bound) => items < bound,
        }
    }

    fn close(&mut self, gone: impl Fn(&End) -> bool) {
        self.ends.retain(|end| !gone(end));
        if !self.has(Side::Receiver) {
            self.items.clear();
        }
    }
}

#[shared(name = "crucial::Channel", crate = crate)]
impl Channel {
    /// A channel without ends.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        is_new(self.ends.is_empty(), "no ends")?;
        is_new(self.senders.is_new(), "nobody who sends")?;
        is_new(self.receiving == 0, "nobody who receives")
    }

    /// Adds an end. `dies`: it goes with the caller's session.
    pub fn add_end(&mut self, side: Side, id: u64, dies: bool, #[caller] session: SessionId) {
        if self.ends.iter().all(|end| end.id != id) {
            let session = dies.then_some(session);
            self.ends.push(End { id, side, session });
        }
    }

    /// Removes an end.
    pub fn remove_end(&mut self, id: u64) {
        self.close(|end| end.id == id);
    }

    /// Sends an item when there is room; whether a receiver is left.
    pub fn send(
        &mut self,
        item: ByteBuf,
        #[ticket(cancel = Self::leave)] place: &mut Option<u64>,
    ) -> Poll<bool> {
        let open = self.has(Side::Receiver);
        if open && !(self.has_room() && self.senders.is_first(*place)) {
            self.senders.join(place, ());
            return Poll::Pending;
        }
        if let Some(place) = *place {
            self.senders.leave(place);
        }
        if open {
            self.items.push_back(item);
        }
        Poll::Ready(open)
    }

    /// Sends an item if there is room now: whether it is sent, and whether a receiver is left.
    pub fn try_send(&mut self, item: ByteBuf) -> (bool, bool) {
        let open = self.has(Side::Receiver);
        let sent = open && self.has_room() && self.senders.is_empty();
        if sent {
            self.items.push_back(item);
        }
        (sent, open)
    }

    /// Takes the next item when there is one; `None` when there are no senders any more.
    pub fn recv(
        &mut self,
        #[ticket(cancel = Self::stop_receiving)] waits: &mut Option<()>,
    ) -> Poll<Option<ByteBuf>> {
        let item = self.items.pop_front();
        if item.is_none() && self.has(Side::Sender) {
            if waits.is_none() {
                self.receiving += 1;
                *waits = Some(());
            }
            return Poll::Pending;
        }
        if waits.is_some() {
            self.receiving -= 1;
        }
        Poll::Ready(item)
    }

    /// Takes the next item if there is one, and whether senders are left.
    pub fn try_recv(&mut self) -> (Option<ByteBuf>, bool) {
        (self.items.pop_front(), self.has(Side::Sender))
    }

    /// How many items wait.
    pub fn waiting(&self) -> u64 {
        self.items.len() as u64
    }

    /// Nobody, unless one of those who wait can go on.
    #[wake]
    fn wake(&self) -> Wake {
        let receives = self.receiving > 0 && (!self.items.is_empty() || !self.has(Side::Sender));
        let sends = !self.senders.is_empty() && (self.has_room() || !self.has(Side::Receiver));
        match receives || sends {
            true => Wake::All,
            false => Wake::None,
        }
    }

    /// Its own ends go.
    #[departed]
    fn departed(&mut self, session: SessionId) {
        self.close(|end| end.session == Some(session));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(n: u8) -> ByteBuf {
        ByteBuf::from(vec![n])
    }

    fn channel(bound: Option<u64>) -> Channel {
        let mut channel = Channel::new([], bound);
        for (id, side) in [(1, Side::Sender), (2, Side::Receiver)] {
            channel.ends.push(End {
                id,
                side,
                session: None,
            });
        }
        channel
    }

    #[test]
    fn a_sender_without_room_waits_for_a_receiver() {
        for bound in [0, 1] {
            let mut channel = channel(Some(bound));
            for n in 0..bound as u8 {
                assert_eq!(channel.send(item(n), &mut None), Poll::Ready(true));
            }
            let (mut place, mut waits) = (None, None);
            assert!(channel.send(item(9), &mut place).is_pending());
            assert_eq!(channel.try_send(item(8)), (false, true));
            assert_eq!(channel.wake(), Wake::None);
            let received = channel.recv(&mut waits);
            assert_eq!(received.is_pending(), bound == 0);
            assert_eq!(channel.wake(), Wake::All);
            assert_eq!(channel.send(item(9), &mut place), Poll::Ready(true));
            assert_eq!(channel.recv(&mut waits), Poll::Ready(Some(item(9))));
            assert_eq!(channel.receiving, 0);
        }
    }

    #[test]
    fn it_ends_with_its_ends() {
        let mut closed = channel(None);
        assert_eq!(closed.send(item(1), &mut None), Poll::Ready(true));
        let mut waits = None;
        closed.remove_end(1);
        closed.remove_end(1);
        assert_eq!(closed.recv(&mut waits), Poll::Ready(Some(item(1))));
        assert_eq!(closed.recv(&mut waits), Poll::Ready(None));

        let mut closed = channel(Some(0));
        let mut place = None;
        assert!(closed.send(item(1), &mut place).is_pending());
        closed.remove_end(2);
        assert_eq!(closed.wake(), Wake::All);
        assert_eq!(closed.send(item(1), &mut place), Poll::Ready(false));
        assert!(closed.senders.is_empty());
    }
}
