//! The search for an order of the operations of one object.
//!
//! A *node* is a set of operations that were placed and the state they led to. The search goes on at
//! the node with the most answered operations; among these, at the one that used the fewest
//! unanswered ones; among these, at the newest. So it runs straight ahead as a depth-first search
//! does, and where it is stuck it tries the cheapest way out first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::number_set::NumberSet;
use crate::{Model, Operation};

/// An operation as the search sees it.
struct Call<'h, M: Model> {
    /// Its place in the history.
    place: usize,
    input: &'h M::Input,
    output: Option<&'h M::Output>,
    called: u64,
    returned: u64,
}

/// The operations on one object, in the order of their calls.
pub(crate) struct Part<'h, M: Model> {
    answered: Vec<Call<'h, M>>,
    unanswered: Vec<Call<'h, M>>,
    /// For each unanswered operation the last one before it with an equal input.
    twins: Vec<Option<usize>>,
}

impl<'h, M: Model> Part<'h, M> {
    /// What could be seen of `operations` at the tick `end`: later calls are not there, and
    /// operations that return later have no answer.
    pub(crate) fn new<K: 'h>(
        operations: impl IntoIterator<Item = (usize, &'h Operation<K, M::Input, M::Output>)>,
        end: u64,
    ) -> Self {
        let mut answered = Vec::new();
        let mut unanswered = Vec::new();
        for (place, operation) in operations {
            if operation.called > end {
                continue;
            }
            let answer = operation.answer.as_ref().filter(|answer| answer.1 <= end);
            let call = Call {
                place,
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
        let twins = (0..unanswered.len())
            .map(|i| (0..i).rfind(|&j| unanswered[j].input == unanswered[i].input))
            .collect();
        Part {
            answered,
            unanswered,
            twins,
        }
    }

    /// The answered operations that can be next after those in `placed`, and the tick at which the
    /// first of them returns: what was called later can not be next.
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

/// What a search found.
pub(crate) enum Outcome<S> {
    /// There is an order.
    Linearizable,
    /// There is none.
    Stuck(Stuck<S>),
    /// The limit was reached. So many operations have an order.
    Undecided { placed: usize },
}

/// The longest order that was found. Operations are given by their places in the history.
pub(crate) struct Stuck<S> {
    pub(crate) prefix: Vec<usize>,
    pub(crate) state: S,
    /// The answered operations that would be next, each with an output that is impossible in `state`.
    pub(crate) refused: Vec<usize>,
}

/// Which operations to place next at a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Answered,
    Unanswered,
}

/// A node whose followers are to be found: the greatest is next.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Open {
    answered: usize,
    unanswered: Reverse<usize>,
    node: usize,
    turn: Turn,
}

struct Node<S> {
    answered: NumberSet,
    unanswered: NumberSet,
    state: S,
    /// How many operations were placed: answered and unanswered.
    placed: (usize, usize),
    /// The node before, and the place in the history of the operation that led from there to here.
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

/// Looks for an order in `part`, in about `steps_max` steps of the model.
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
        match open.turn {
            Turn::Answered => search.place_answered(open.node),
            Turn::Unanswered => search.place_unanswered(open.node),
        }
    }
    Outcome::Stuck(search.stuck(deepest))
}

impl<M: Model> Search<'_, '_, M> {
    fn place_answered(&mut self, from: usize) {
        let part = self.part;
        let (next, end) = part.next(&self.nodes[from].answered);
        // The newest node is followed first: let that be the earliest call.
        for number in next.into_iter().rev() {
            let call = &part.answered[number];
            // One that returned before it was called.
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
                from: Some((from, call.place)),
            });
        }
        if !part.unanswered.is_empty() {
            self.open(from, Turn::Unanswered);
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
            // Of equal operations the first called is as good as any.
            if part.twins[number].is_some_and(|twin| !self.nodes[from].unanswered.contains(twin)) {
                continue;
            }
            let Some(state) = self.step(from, call) else {
                continue;
            };
            let node = &self.nodes[from];
            // Without an effect it may as well never happen.
            if state == node.state {
                continue;
            }
            self.add(Node {
                answered: node.answered.clone(),
                unanswered: node.unanswered.with(number),
                state,
                placed: (node.placed.0, node.placed.1 + 1),
                from: Some((from, call.place)),
            });
        }
    }

    fn step(&mut self, from: usize, call: &Call<'_, M>) -> Option<M::State> {
        self.steps += 1;
        self.model
            .step(&self.nodes[from].state, call.input, call.output)
    }

    /// Adds a node, unless one is known from which all is possible that is possible from it.
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
        self.open(number, Turn::Answered);
    }

    fn open(&mut self, node: usize, turn: Turn) {
        let (answered, unanswered) = self.nodes[node].placed;
        let unanswered = match turn {
            Turn::Answered => unanswered,
            Turn::Unanswered => unanswered + 1,
        };
        self.open.push(Open {
            answered,
            unanswered: Reverse(unanswered),
            node,
            turn,
        });
    }

    fn stuck(mut self, deepest: usize) -> Stuck<M::State> {
        let mut prefix = Vec::new();
        let mut node = deepest;
        while let Some((from, place)) = self.nodes[node].from {
            prefix.push(place);
            node = from;
        }
        prefix.reverse();
        let (next, _) = self.part.next(&self.nodes[deepest].answered);
        let refused = next
            .into_iter()
            .map(|number| self.part.answered[number].place)
            .collect();
        Stuck {
            prefix,
            state: self.nodes.swap_remove(deepest).state,
            refused,
        }
    }
}
