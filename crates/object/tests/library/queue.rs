//! Queues against `VecDeque`, with those who wait.

use std::collections::VecDeque;

use crucial_object::collections::Queue;
use crucial_object::{Error, Pending, Result, Shared};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{answer, check};

#[derive(Clone, Debug)]
enum Operation {
    TryPush(u32),
    TryPop,
    /// Waits if the queue is full.
    Push(u32),
    /// Waits if the queue is empty.
    Pop,
    /// The call that waits at this place of the line is withdrawn.
    Withdraw(usize),
    Drain(u64),
    Close,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    prop_oneof![
        4 => any::<u32>().prop_map(TryPush),
        4 => Just(TryPop),
        8 => any::<u32>().prop_map(Push),
        8 => Just(Pop),
        2 => (0..4usize).prop_map(Withdraw),
        2 => prop_oneof![0..5u64, Just(u64::MAX)].prop_map(Drain),
    ]
}

/// All that a queue is: its items, and who waits for room or for items, in order.
struct Model {
    items: VecDeque<u32>,
    capacity: usize,
    closed: bool,
    pushing: VecDeque<(u32, Pending<()>)>,
    popping: VecDeque<Pending<Option<u32>>>,
}

impl Model {
    /// Serves those who wait, and checks that they are answered, and no others.
    fn settle(&mut self) {
        let closed = |result| matches!(result, Err(Error::Other(text)) if text.contains("closed"));
        loop {
            if !self.popping.is_empty() && (!self.items.is_empty() || self.closed) {
                let mut served = self.popping.pop_front().unwrap();
                assert_eq!(answer(&mut served), Some(Ok(self.items.pop_front())));
            } else if !self.pushing.is_empty() && self.closed {
                let (_, mut served) = self.pushing.pop_front().unwrap();
                assert!(answer(&mut served).is_some_and(closed));
            } else if !self.pushing.is_empty() && self.items.len() < self.capacity {
                let (item, mut served) = self.pushing.pop_front().unwrap();
                assert_eq!(answer(&mut served), Some(Ok(())));
                self.items.push_back(item);
            } else {
                break;
            }
        }
        assert!(self.popping.iter_mut().all(|call| answer(call).is_none()));
        assert!(
            self.pushing
                .iter_mut()
                .all(|(_, call)| answer(call).is_none())
        );
    }
}

fn is_a_deque(capacity: usize, operations: Vec<Operation>) -> Result<()> {
    use Operation::*;
    let queue: Shared<Queue<u32>> = Shared::new(Queue::new(capacity as u64))?;
    let deferred = queue.deferred();
    let mut model = Model {
        items: VecDeque::new(),
        capacity: capacity.max(1),
        closed: false,
        pushing: VecDeque::new(),
        popping: VecDeque::new(),
    };
    for operation in operations {
        match operation {
            TryPush(item) => {
                let room = model.items.len() < model.capacity && !model.closed;
                assert_eq!(queue.try_push(item)?, room);
                if room {
                    model.items.push_back(item);
                }
            }
            TryPop => assert_eq!(queue.try_pop()?, model.items.pop_front()),
            Push(item) => model.pushing.push_back((item, deferred.push(item))),
            Pop => model.popping.push_back(deferred.pop()),
            Withdraw(place) => {
                model.pushing.remove(place);
                model.popping.remove(place);
            }
            Drain(count) => {
                let count = model
                    .items
                    .len()
                    .min(usize::try_from(count).unwrap_or(usize::MAX));
                let drained: Vec<u32> = model.items.drain(..count).collect();
                assert_eq!(queue.drain(count as u64)?, drained);
            }
            Close => {
                queue.close()?;
                model.closed = true;
            }
        }
        model.settle();
        let len = model.items.len();
        assert_eq!((queue.len()?, queue.is_empty()?), (len as u64, len == 0));
        assert_eq!(queue.is_full()?, len >= model.capacity);
        assert_eq!(queue.is_closed()?, model.closed);
        assert_eq!(queue.capacity()?, model.capacity as u64);
    }
    Ok(())
}

#[test]
fn a_queue_of_one_place() {
    check(operation(), |operations| {
        is_a_deque(0, operations.clone()).and(is_a_deque(1, operations))
    });
}

#[test]
fn a_queue_of_three_places() {
    check(operation(), |operations| is_a_deque(3, operations));
}

#[test]
fn a_queue_that_is_closed() {
    let closing = prop_oneof![20 => operation(), 1 => Just(Operation::Close)];
    check(closing, |operations| is_a_deque(2, operations));
}

#[test]
fn a_queue_without_a_bound_is_never_full() {
    check(vec(any::<u8>(), 0..4), |pushes| {
        let queue = Shared::new(Queue::default())?;
        for item in &pushes {
            queue.push(item.clone())?;
        }
        for item in pushes {
            assert_eq!(queue.pop()?, Some(item));
        }
        assert!(queue.is_empty()?);
        Ok(())
    });
}
