//! Channels that are local until one of their ends travels, as [`std::sync::mpsc`].
//!
//! # Panics
//!
//! Operations on a shared channel panic with the error's text if the call fails.

pub use ::std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};

use ::std::collections::VecDeque;
use ::std::fmt;
use ::std::marker::PhantomData;
use ::std::time::{Duration, Instant};

use crucial_object::collections::ByteBuf;
use crucial_object::drop_in::{Channel, Side};
use crucial_object::held::{self, Hold};
use crucial_object::{Error, ObjectId, Shared};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::Codec;
use crate::cycle;
use crate::lent::Lent;
use crate::local::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use crate::remote::{Remote, must};

/// What both ends have in this process.
struct Core<T> {
    hub: Mutex<Hub<T>>,
    changed: Condvar,
    remote: OnceLock<(Arc<Remote<Channel>>, Codec<T>)>,
    /// The ends came with a copy of a value; `None`: they go with this.
    lent: Option<Lent>,
}

struct Hub<T> {
    items: VecDeque<T>,
    /// How many items wait, at most; with 0 a sender waits for a receiver.
    bound: Option<usize>,
    senders: usize,
    has_receiver: bool,
    is_receiving: bool,
    /// The ends of this process at the object.
    sender_end: Option<u64>,
    receiver_end: Option<u64>,
}

impl<T> Hub<T> {
    fn has_room(&self) -> bool {
        match self.bound {
            None => true,
            Some(0) => self.is_receiving && self.items.is_empty(),
            Some(bound) => self.items.len() < bound,
        }
    }
}

impl<T> Core<T> {
    fn new(bound: Option<usize>) -> Core<T> {
        Core {
            hub: Mutex::new(Hub {
                items: VecDeque::new(),
                bound,
                senders: 1,
                has_receiver: true,
                is_receiving: false,
                sender_end: None,
                receiver_end: None,
            }),
            changed: Condvar::new(),
            remote: OnceLock::new(),
            lent: None,
        }
    }

    /// One of a channel that is shared, with one end.
    fn of_end(side: Side, id: u64, remote: (Arc<Remote<Channel>>, Codec<T>)) -> Core<T> {
        let end_of = |of: Side| (of == side).then_some(id);
        let hub = Hub {
            items: VecDeque::new(),
            bound: None,
            senders: usize::from(side == Side::Sender),
            has_receiver: side == Side::Receiver,
            is_receiving: false,
            sender_end: end_of(Side::Sender),
            receiver_end: end_of(Side::Receiver),
        };
        Core {
            hub: Mutex::new(hub),
            changed: Condvar::new(),
            remote: OnceLock::from(remote),
            lent: Lent::current(),
        }
    }

    fn hub(&self) -> MutexGuard<'_, Hub<T>> {
        self.hub.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn remote(&self) -> Option<(&Shared<Channel>, &Codec<T>)> {
        let (remote, codec) = self.remote.get()?;
        Some((remote.object(), codec))
    }

    #[track_caller]
    fn send(&self, item: T) -> Result<(), SendError<T>> {
        let mut hub = self.hub();
        loop {
            if let Some((object, codec)) = self.remote() {
                drop(hub);
                if let Some(refusal) = held::refusal_to_wait("send") {
                    panic!("{refusal}");
                }
                return match must(object.send(codec.encode(&item))) {
                    true => Ok(()),
                    false => Err(SendError(item)),
                };
            }
            if !hub.has_receiver {
                return Err(SendError(item));
            }
            if hub.has_room() {
                hub.items.push_back(item);
                self.changed.notify_all();
                return Ok(());
            }
            if let Some(refusal) = held::refusal_to_wait("send") {
                drop(hub);
                panic!("{refusal}");
            }
            hub = self.changed.wait(hub).unwrap_or_else(|e| e.into_inner());
        }
    }

    #[track_caller]
    fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut hub = self.hub();
        if let Some((object, codec)) = self.remote() {
            drop(hub);
            return match must(object.try_send(codec.encode(&item))) {
                (true, _) => Ok(()),
                (false, true) => Err(TrySendError::Full(item)),
                (false, false) => Err(TrySendError::Disconnected(item)),
            };
        }
        if !hub.has_receiver {
            return Err(TrySendError::Disconnected(item));
        }
        if !hub.has_room() {
            return Err(TrySendError::Full(item));
        }
        hub.items.push_back(item);
        self.changed.notify_all();
        Ok(())
    }

    /// The next item; `Ok(None)` if there are no senders any more, `Err` if the time is over.
    #[track_caller]
    fn recv(&self, deadline: Option<Instant>) -> Result<Option<T>, ()> {
        if let Some(refusal) = held::refusal_to_wait("recv") {
            panic!("{refusal}");
        }
        let mut hub = self.hub();
        loop {
            if let Some((object, codec)) = self.remote() {
                drop(hub);
                let limit = deadline.map(|d| d.saturating_duration_since(Instant::now()));
                let received = match limit {
                    None => object.recv(),
                    Some(limit) => object.with_timeout(limit).recv(),
                };
                return match received {
                    Err(Error::TimedOut { .. }) => Err(()),
                    received => Ok(must(received).map(|bytes| codec.decode(&bytes))),
                };
            }
            if let Some(item) = hub.items.pop_front() {
                hub.is_receiving = false;
                self.changed.notify_all();
                return Ok(Some(item));
            }
            if hub.senders == 0 {
                hub.is_receiving = false;
                return Ok(None);
            }
            if !hub.is_receiving {
                hub.is_receiving = true;
                self.changed.notify_all();
            }
            hub = match deadline {
                None => self.changed.wait(hub).unwrap_or_else(|e| e.into_inner()),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        hub.is_receiving = false;
                        return Err(());
                    }
                    let waited = self.changed.wait_timeout(hub, left);
                    waited.unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
    }

    #[track_caller]
    fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut hub = self.hub();
        if let Some((object, codec)) = self.remote() {
            drop(hub);
            return match must(object.try_recv()) {
                (Some(bytes), _) => Ok(codec.decode(&bytes)),
                (None, true) => Err(TryRecvError::Empty),
                (None, false) => Err(TryRecvError::Disconnected),
            };
        }
        match hub.items.pop_front() {
            Some(item) => {
                self.changed.notify_all();
                Ok(item)
            }
            None if hub.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    /// What one more sender has.
    #[track_caller]
    fn add_sender(self: &Arc<Self>) -> Arc<Core<T>> {
        if let (Some(_), Some((remote, codec))) = (&self.lent, self.remote.get()) {
            // The end of the value goes when the value says so.
            let id = add_end(remote.object(), Side::Sender, true);
            return Arc::new(Core::of_end(Side::Sender, id, (remote.clone(), *codec)));
        }
        self.hub().senders += 1;
        self.clone()
    }

    fn remove_sender(&self) {
        let mut hub = self.hub();
        hub.senders -= 1;
        if hub.senders > 0 {
            return;
        }
        let end = hub.sender_end.take();
        drop(hub);
        self.changed.notify_all();
        self.remove_end(end);
    }

    fn remove_receiver(&self) {
        let mut hub = self.hub();
        hub.has_receiver = false;
        let end = hub.receiver_end.take();
        let items = std::mem::take(&mut hub.items);
        drop(hub);
        // Their own `drop` may use the channel.
        drop(items);
        self.changed.notify_all();
        self.remove_end(end);
    }

    fn remove_end(&self, end: Option<u64>) {
        // Of an attempt that panics and is not the last, the next one has the same end.
        let goes_on = std::thread::panicking() && !held::is_last_attempt();
        if goes_on || self.lent.as_ref().is_some_and(Lent::is_lent) {
            return;
        }
        if let (Some(end), Some((remote, _))) = (end, self.remote.get()) {
            remove_end(remote, end);
        }
    }
}

/// Removes an end at the object. Without a server, or with the run, it has gone already.
fn remove_end(remote: &Remote<Channel>, end: u64) {
    remote.at_end(|channel| channel.remove_end(end));
}

/// A new end at the object. `dies`: it goes with this process's session.
#[track_caller]
fn add_end(object: &Shared<Channel>, side: Side, dies: bool) -> u64 {
    let mut bytes = [0; 8];
    must(random(&mut bytes));
    let id = u64::from_le_bytes(bytes);
    must(object.add_end(side, id, dies));
    id
}

#[cfg(not(target_family = "wasm"))]
fn random(bytes: &mut [u8]) -> crucial_object::Result<()> {
    getrandom::fill(bytes).map_err(Error::other)
}

/// All that runs in a module is methods, which make no calls.
#[cfg(target_family = "wasm")]
fn random(_: &mut [u8]) -> crucial_object::Result<()> {
    Err(Error::Nested)
}

impl<T: Serialize + DeserializeOwned> Core<T> {
    /// Shares the channel, if it is not shared yet.
    fn share(&self) -> &Arc<Remote<Channel>> {
        match self.remote.get() {
            Some((remote, _)) => remote,
            None => cycle::sharing(self, || self.share_now()),
        }
    }

    fn share_now(&self) -> &Arc<Remote<Channel>> {
        let mut hub = self.hub();
        if self.remote.get().is_none() {
            let codec = Codec::new();
            let items: Vec<ByteBuf> = hub.items.iter().map(|item| codec.encode(item)).collect();
            let bound = hub.bound.map(|bound| bound as u64);
            let remote = Remote::make(Channel::new(items, bound));
            let object = remote.object();
            // Before the first end is another's, so that the channel does not end before it begins.
            if hub.has_receiver {
                hub.receiver_end = Some(add_end(object, Side::Receiver, true));
            }
            if hub.senders > 0 {
                hub.sender_end = Some(add_end(object, Side::Sender, true));
            }
            let _ = self.remote.set((remote, codec));
            // Whoever waits here waits at the object.
            self.changed.notify_all();
        }
        let items = std::mem::take(&mut hub.items);
        drop(hub);
        // Their own `drop` may use the channel.
        drop(items);
        let (remote, _) = self.remote.get().expect("it is shared now");
        remote
    }

    /// Encodes one more end of this side.
    fn serialize<S: Serializer>(&self, side: Side, serializer: S) -> Result<S::Ok, S::Error> {
        struct Handle<'a>(&'a Arc<Remote<Channel>>);
        impl Serialize for Handle<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }
        let remote = self.share();
        let end = SentEnd {
            remote: remote.clone(),
            id: add_end(remote.object(), side, false),
            passed_on: OnceLock::new(),
        };
        let id = end.id;
        held::hold(Arc::new(end));
        (Handle(remote), id).serialize(serializer)
    }

    fn deserialize<'de, D: Deserializer<'de>>(
        side: Side,
        deserializer: D,
    ) -> Result<Arc<Core<T>>, D::Error> {
        struct Handle(Arc<Remote<Channel>>);
        impl<'de> Deserialize<'de> for Handle {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Handle, D::Error> {
                Remote::deserialize(deserializer).map(Handle)
            }
        }
        let (Handle(remote), id) = <(Handle, u64)>::deserialize(deserializer)?;
        Ok(Arc::new(Core::of_end(side, id, (remote, Codec::new()))))
    }
}

/// The end that a payload has. It goes when the thread drops it, or else when the thread has ended for good.
struct SentEnd {
    remote: Arc<Remote<Channel>>,
    id: u64,
    passed_on: OnceLock<()>,
}

impl Hold for SentEnd {
    fn pass_on(&self) {
        let _ = self.passed_on.set(());
    }

    /// A thread that has died has no ends.
    fn pin(&self) {}

    fn object(&self) -> Option<ObjectId> {
        None
    }
}

impl Drop for SentEnd {
    fn drop(&mut self) {
        if self.passed_on.get().is_none() {
            remove_end(&self.remote, self.id);
        }
    }
}

/// A channel without a bound.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let core = Arc::new(Core::new(None));
    (Sender(core.clone()), Receiver::of(core))
}

/// A channel for `bound` items; with 0 a sender waits until a receiver takes its item.
pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let core = Arc::new(Core::new(Some(bound)));
    (SyncSender(core.clone()), Receiver::of(core))
}

/// The end of those who send. The channel ends with the last one.
pub struct Sender<T>(Arc<Core<T>>);

impl<T> Sender<T> {
    /// Sends an item.
    ///
    /// # Errors
    ///
    /// The item, if the receiver is gone.
    #[track_caller]
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.0.send(item)
    }
}

/// The end of those who send into a channel with a bound.
pub struct SyncSender<T>(Arc<Core<T>>);

impl<T> SyncSender<T> {
    /// Sends an item; blocks until there is room.
    ///
    /// # Errors
    ///
    /// The item, if the receiver is gone.
    #[track_caller]
    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.0.send(item)
    }

    /// Sends an item if there is room.
    ///
    /// # Errors
    ///
    /// The item, if there is no room or the receiver is gone.
    #[track_caller]
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        self.0.try_send(item)
    }
}

macro_rules! sender {
    ($name:ident) => {
        impl<T> Clone for $name<T> {
            fn clone(&self) -> $name<T> {
                $name(self.0.add_sender())
            }
        }

        impl<T> Drop for $name<T> {
            fn drop(&mut self) {
                self.0.remove_sender();
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }

        /// Shares the channel, and encodes one more end.
        impl<T: Serialize + DeserializeOwned> Serialize for $name<T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(Side::Sender, serializer)
            }
        }

        impl<'de, T: Serialize + DeserializeOwned> Deserialize<'de> for $name<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name<T>, D::Error> {
                Core::deserialize(Side::Sender, deserializer).map($name)
            }
        }
    };
}

sender!(Sender);
sender!(SyncSender);

/// The end of who receives.
pub struct Receiver<T> {
    core: Arc<Core<T>>,
    /// One thread has it, as in std.
    _not_sync: PhantomData<std::cell::Cell<()>>,
}

impl<T> Receiver<T> {
    fn of(core: Arc<Core<T>>) -> Receiver<T> {
        Receiver {
            core,
            _not_sync: PhantomData,
        }
    }

    /// The next item; blocks until there is one.
    ///
    /// # Errors
    ///
    /// If there are no senders any more.
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        match self.core.recv(None) {
            Ok(Some(item)) => Ok(item),
            _ => Err(RecvError),
        }
    }

    /// The next item, if there is one.
    ///
    /// # Errors
    ///
    /// If no item is there, now or for ever.
    #[track_caller]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.core.try_recv()
    }

    /// As [`recv`](Receiver::recv), for no longer than `limit`.
    ///
    /// # Errors
    ///
    /// If there are no senders any more, or the time is over.
    #[track_caller]
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        let received = match Instant::now().checked_add(limit) {
            Some(deadline) => self.core.recv(Some(deadline)),
            None => self.core.recv(None),
        };
        match received {
            Ok(Some(item)) => Ok(item),
            Ok(None) => Err(RecvTimeoutError::Disconnected),
            Err(()) => Err(RecvTimeoutError::Timeout),
        }
    }

    /// The items until there are no senders any more.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    /// The items that are there.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter(self)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.core.remove_receiver();
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// Shares the channel, and encodes the end.
impl<T: Serialize + DeserializeOwned> Serialize for Receiver<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.core.serialize(Side::Receiver, serializer)
    }
}

impl<'de, T: Serialize + DeserializeOwned> Deserialize<'de> for Receiver<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Receiver<T>, D::Error> {
        Core::deserialize(Side::Receiver, deserializer).map(Receiver::of)
    }
}

/// The items of a [`Receiver`], as they come.
#[derive(Debug)]
pub struct Iter<'a, T>(&'a Receiver<T>);

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

/// The items of a [`Receiver`] that are there.
#[derive(Debug)]
pub struct TryIter<'a, T>(&'a Receiver<T>);

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

/// The items of a [`Receiver`], with the receiver.
#[derive(Debug)]
pub struct IntoIter<T>(Receiver<T>);

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.recv().ok()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
