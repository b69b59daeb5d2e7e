//! The search for an order of the operations of one object.
//!
//! A *node* is a set of placed operations and the state that they lead to. The search continues at the node with
//! the most answered operations; among these, at the node with the fewest unanswered operations; among these, at
//! the newest. So it proceeds like a depth-first search, and in a dead end it places as few unanswered operations
//! as possible.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::number_set::NumberSet;
use crate::{Model, Operation};

/// An operation in the search.
struct Call<'h, M: Model> {
    /// The operation's index in the history.
    index: usize,
    input: &'h M::Input,
    output: Option<&'h M::Output>,
    called: u64,
    returned: u64,
}

/// The operations on one object, in the order of their calls.
pub(crate) struct Part<'h, M: Model> {
    answered: Vec<Call<'h, M>>,
    unanswered: Vec<Call<'h, M>>,
    /// For each unanswered operation, the last earlier one with an equal input.
    previous_equal: Vec<Option<usize>>,
}

impl<'h, M: Model> Part<'h, M> {
    /// The operations as they were at the tick `end`: later calls are left out, and operations that return later
    /// have no answer.
    pub(crate) fn new<K: 'h>(
        operations: impl IntoIterator<Item = (usize, &'h Operation<K, M::Input, M::Output>)>,
        end: u64,
    ) -> Self {
        let mut answered = Vec::new();
        let mut unanswered = Vec::new();
        for (index, operation) in operations {
            if operation.called > end {
                continue;
            }
            let answer = operation.answer.as_ref().filter(|answer| answer.1 <= end);
            let call = Call {
                index,
                input: &operation.input,
                output: answer.map(|answer| &answer.0),
                called: operation.called,
                returned: answer.map_or(u64::MAX, |answer| answer.1),
            };
            match answer {
                Some(_) => answered.push(call),
                None => unanswered.push(call),
            }
        }
        answered.sort_by_key(|call: &Call<'h, M>| call.called);
        unanswered.sort_by_key(|call: &Call<'h, M>| call.called);
        let previous_equal = (0..unanswered.len())
            .map(|i| (0..i).rfind(|&j| unanswered[j].input == unanswered[i].input))
            .collect();
        Part {
            answered,
            unanswered,
            previous_equal,
        }
    }

    /// The answered operations that can be next after those in `placed`, and the tick at which the first of them
    /// returns. Operations that were called after this tick cannot be next.
    fn next(&self, placed: &NumberSet) -> (SmallVec<[usize; 16]>, u64) {
        let mut next = SmallVec::new();
        let mut end = u64::MAX;
        for number in placed.absent(self.answered.len()) {
            let call = &self.answered[number];
            if call.called > end {
                break;
            }
            end = end.min(call.returned);
            next.push(number);
        }
        (next, end)
    }
}

/// The result of a search.
pub(crate) enum Outcome<S> {
    /// An order exists.
    Linearizable,
    /// No order exists.
    DeadEnd(DeadEnd<S>),
    /// The limit was reached; the longest order found has `placed` operations.
    Undecided { placed: usize },
}

/// The longest order that was found, if none is complete. Operations are given by their indexes in the history.
pub(crate) struct DeadEnd<S> {
    pub(crate) prefix: Vec<usize>,
    pub(crate) state: S,
    /// The answered operations that could be next. The output of each is impossible in `state`.
    pub(crate) refused: Vec<usize>,
}

/// Which operations to place next at a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Expansion {
    Answered,
    Unanswered,
}

/// A node to expand. The greatest is expanded first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Open {
    answered: usize,
    unanswered: Reverse<usize>,
    node: usize,
    expansion: Expansion,
}

struct Node<S> {
    answered: NumberSet,
    unanswered: NumberSet,
    state: S,
    /// The number of placed operations: answered and unanswered.
    placed: (usize, usize),
    /// The previous node, and the index in the history of the operation that led from there to this node.
    from: Option<(usize, usize)>,
}

struct Search<'p, 'h, M: Model> {
    model: &'p M,
    part: &'p Part<'h, M>,
    nodes: Vec<Node<M::State>>,
    /// The nodes by answered operations and state.
    seen: HashTable<usize>,
    hasher: FixedState,
    open: BinaryHeap<Open>,
    steps: u64,
}

/// Searches for an order of `part`, with about `steps_max` steps of the model at most.
pub(crate) fn search<M: Model>(model: &M, part: &Part<'_, M>, steps_max: u64) -> Outcome<M::State> {
    let mut search = Search {
        model,
        part,
        nodes: Vec::new(),
        seen: HashTable::new(),
        hasher: FixedState::default(),
        open: BinaryHeap::new(),
        steps: 0,
    };
    search.add(Node {
        answered: NumberSet::default(),
        unanswered: NumberSet::default(),
        state: model.init(),
        placed: (0, 0),
        from: None,
    });
    let mut deepest = 0;
    while let Some(open) = search.open.pop() {
        if open.answered > search.nodes[deepest].placed.0 {
            deepest = open.node;
        }
        if open.answered == part.answered.len() {
            return Outcome::Linearizable;
        }
        if search.steps >= steps_max {
            let (answered, unanswered) = search.nodes[deepest].placed;
            let placed = answered + unanswered;
            return Outcome::Undecided { placed };
        }
        match open.expansion {
            Expansion::Answered => search.place_answered(open.node),
            Expansion::Unanswered => search.place_unanswered(open.node),
        }
    }
    Outcome::DeadEnd(search.dead_end(deepest))
}

impl<M: Model> Search<'_, '_, M> {
    fn place_answered(&mut self, from: usize) {
        let part = self.part;
        let (next, end) = part.next(&self.nodes[from].answered);
        // The newest node is expanded first, so that the earliest call is added last.
        for number in next.into_iter().rev() {
            let call = &part.answered[number];
            // Only an operation that returned before it was called can fail this test: it is never placed.
            if call.called > end {
                continue;
            }
            let Some(state) = self.step(from, call) else {
                continue;
            };
            let node = &self.nodes[from];
            self.add(Node {
                answered: node.answered.with(number),
                unanswered: node.unanswered.clone(),
                state,
                placed: (node.placed.0 + 1, node.placed.1),
                from: Some((from, call.index)),
            });
        }
        if !part.unanswered.is_empty() {
            self.open(from, Expansion::Unanswered);
        }
    }

    fn place_unanswered(&mut self, from: usize) {
        let part = self.part;
        let (_, end) = part.next(&self.nodes[from].answered);
        let absent: SmallVec<[usize; 16]> = self.nodes[from]
            .unanswered
            .absent(part.unanswered.len())
            .take_while(|&number| part.unanswered[number].called <= end)
            .collect();
        for number in absent.into_iter().rev() {
            let call = &part.unanswered[number];
            // Equal operations are interchangeable, so that the first called one is placed first.
            if part.previous_equal[number]
                .is_some_and(|previous| !self.nodes[from].unanswered.contains(previous))
            {
                continue;
            }
            let Some(state) = self.step(from, call) else {
                continue;
            };
            let node = &self.nodes[from];
            // An unanswered operation without an effect need not be placed.
            if state == node.state {
                continue;
            }
            self.add(Node {
                answered: node.answered.clone(),
                unanswered: node.unanswered.with(number),
                state,
                placed: (node.placed.0, node.placed.1 + 1),
                from: Some((from, call.index)),
            });
        }
    }

    fn step(&mut self, from: usize, call: &Call<'_, M>) -> Option<M::State> {
        self.steps += 1;
        self.model
            .step(&self.nodes[from].state, call.input, call.output)
    }

    /// Adds a node, unless a known node has the same answered operations and state and uses no other unanswered
    /// operations.
    fn add(&mut self, node: Node<M::State>) {
        let hash_of = |hasher: &FixedState, node: &Node<M::State>| {
            hasher.hash_one((&node.answered, &node.state))
        };
        let hash = hash_of(&self.hasher, &node);
        let known = self.seen.iter_hash(hash).any(|&number| {
            let known = &self.nodes[number];
            known.answered == node.answered
                && known.state == node.state
                && known.unanswered.is_subset_of(&node.unanswered)
        });
        if known {
            return;
        }
        let number = self.nodes.len();
        self.nodes.push(node);
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.seen
            .insert_unique(hash, number, |&number| hash_of(hasher, &nodes[number]));
        self.open(number, Expansion::Answered);
    }

    fn open(&mut self, node: usize, expansion: Expansion) {
        let (answered, unanswered) = self.nodes[node].placed;
        let unanswered = match expansion {
            Expansion::Answered => unanswered,
            Expansion::Unanswered => unanswered + 1,
        };
        self.open.push(Open {
            answered,
            unanswered: Reverse(unanswered),
            node,
            expansion,
        });
    }

    fn dead_end(mut self, deepest: usize) -> DeadEnd<M::State> {
        let mut prefix = Vec::new();
        let mut node = deepest;
        while let Some((from, index)) = self.nodes[node].from {
            prefix.push(index);
            node = from;
        }
        prefix.reverse();
        let (next, _) = self.part.next(&self.nodes[deepest].answered);
        let refused = next
            .into_iter()
            .map(|number| self.part.answered[number].index)
            .collect();
        DeadEnd {
            prefix,
            state: self.nodes.swap_remove(deepest).state,
            refused,
        }
    }
}
