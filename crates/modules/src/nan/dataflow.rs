//! Where a function's floats come from, and who sees their bits.
//!
//! The function is read once. Each value on the stack has an *origin*, a node of a graph: what arithmetic makes, what is
//! moved, a local, or a choice between others. Edges say which origin goes into which. Then the graph says of each
//! origin what it may be, in [`Kinds`]:
//!
//! - nothing: never a NaN;
//! - moved: its bits mean something, and are the same everywhere;
//! - single or double: if it is a NaN, arithmetic of this width has made it, and its bits mean nothing.
//!
//! An origin that may be several of these can not be made canonical where it is seen, so each computed one is made so
//! before it goes in. What crosses the border of a block, a call, or a function is always the same everywhere.

use std::collections::HashMap;

use wasmparser::{
    BinaryReaderError as Error, FuncValidator, Operator, ValType, ValidatorResources,
};

use super::effect::{Effect, effect};

/// A set of [`MOVED`], [`SINGLE`] and [`DOUBLE`].
pub(super) type Kinds = u8;

pub(super) const MOVED: Kinds = 1;
/// Computed as `f32`, or as lanes of them.
pub(super) const SINGLE: Kinds = 2;
/// Computed as `f64`, or as lanes of them.
pub(super) const DOUBLE: Kinds = 4;
pub(super) const COMPUTED: Kinds = SINGLE | DOUBLE;

/// What is made canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    F32,
    F64,
    F32x4,
    F64x2,
}

/// A value that is made canonical as soon as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    /// Where the instruction ends that makes it.
    pub behind: usize,
    pub shape: Shape,
}

/// An origin: the index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin(u32);

impl Origin {
    pub const NEVER_NAN: Origin = Origin(0);
    pub const MOVED: Origin = Origin(1);
    pub const SINGLE: Origin = Origin(2);
    pub const DOUBLE: Origin = Origin(3);
    /// Where an edge leads to that is only looked at.
    const SIGHT: Origin = Origin(4);

    /// Of these the kinds are fixed.
    const FIXED: [Kinds; 5] = [0, MOVED, SINGLE, DOUBLE, 0];

    fn is_fixed(self) -> bool {
        (self.0 as usize) < Origin::FIXED.len()
    }
}

#[derive(Clone, Copy)]
struct Value {
    origin: Origin,
    behind: usize,
    is_vector: bool,
}

const ELSEWHERE: Value = Value {
    origin: Origin::MOVED,
    behind: 0,
    is_vector: false,
};

struct Node {
    kinds: Kinds,
    /// The last edge that begins here, plus one.
    last_edge: u32,
}

/// This value goes there.
struct Edge {
    value: Value,
    to: Origin,
    /// In what is computed otherwise, bits are seen.
    unseen: Kinds,
    /// The one before it that begins at the same node, plus one.
    previous: u32,
}

/// What is known of a function. Its size is in proportion to the function's.
#[derive(Default)]
pub(super) struct Flow {
    parameters: u32,
    stack: Vec<Value>,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    locals: HashMap<u32, Origin>,
}

impl Flow {
    /// A function begins.
    pub fn clear(&mut self, parameters: u32) {
        self.parameters = parameters;
        self.stack.clear();
        self.nodes.clear();
        self.edges.clear();
        // To clear one that was large takes as long for each function behind.
        self.locals = HashMap::new();
        for kinds in Origin::FIXED {
            self.node(kinds);
        }
    }

    fn node(&mut self, kinds: Kinds) -> Origin {
        // There are fewer than bytes in the module.
        let origin = Origin(self.nodes.len() as u32);
        self.nodes.push(Node {
            kinds,
            last_edge: 0,
        });
        origin
    }

    /// Validates the next instruction and follows its operands.
    pub fn step(
        &mut self,
        validator: &mut FuncValidator<ValidatorResources>,
        position: usize,
        operator: &Operator<'_>,
        behind: usize,
    ) -> Result<(), Error> {
        let runs = validator
            .get_control_frame(0)
            .is_some_and(|frame| !frame.unreachable);
        let arity = runs.then(|| operator.operator_arity(validator)).flatten();
        validator.op(position, operator)?;
        if let Some((takes, gives)) = arity {
            self.follow(validator, operator, behind, takes as usize, gives as usize);
        }
        // Behind a branch the stack has what validation says; it is never run.
        self.stack
            .resize(validator.operand_stack_height() as usize, ELSEWHERE);
        Ok(())
    }

    fn follow(
        &mut self,
        validator: &FuncValidator<ValidatorResources>,
        operator: &Operator<'_>,
        behind: usize,
        takes: usize,
        gives: usize,
    ) {
        let origin = match effect(operator) {
            Effect::Computes { unseen, gives } => {
                for _ in 0..takes {
                    let value = self.pop();
                    self.connect(value, Origin::SIGHT, unseen);
                }
                gives
            }
            Effect::Chooses { unseen, kinds } => {
                let to = self.node(kinds);
                for _ in 0..takes {
                    let value = self.pop();
                    self.connect(value, to, unseen);
                }
                to
            }
            Effect::Select => {
                self.pop();
                let (second, first) = (self.pop(), self.pop());
                if first.origin == second.origin {
                    first.origin
                } else {
                    let to = self.node(0);
                    self.connect(first, to, COMPUTED);
                    self.connect(second, to, COMPUTED);
                    to
                }
            }
            Effect::Copysign => {
                let sign = self.pop();
                self.connect(sign, Origin::SIGHT, 0);
                self.pop().origin
            }
            Effect::Keeps => self.pop().origin,
            Effect::LocalGet(local) => self.local(validator, local),
            Effect::LocalSet(local) => {
                let to = self.local(validator, local);
                let value = self.pop();
                self.connect(value, to, COMPUTED);
                // For a `tee`: as what is in the local now.
                to
            }
            Effect::Sees => {
                for _ in 0..takes {
                    let value = self.pop();
                    self.connect(value, Origin::SIGHT, 0);
                }
                Origin::MOVED
            }
        };
        let is_vector = validator.get_operand_type(0) == Some(Some(ValType::V128));
        let made = Value {
            origin,
            behind,
            is_vector,
        };
        self.stack.extend(std::iter::repeat_n(made, gives));
    }

    fn pop(&mut self) -> Value {
        self.stack.pop().unwrap_or(ELSEWHERE)
    }

    fn local(&mut self, validator: &FuncValidator<ValidatorResources>, local: u32) -> Origin {
        let of = validator.get_local_type(local);
        if !matches!(of, Some(ValType::F32 | ValType::F64 | ValType::V128)) {
            return Origin::MOVED;
        }
        if let Some(origin) = self.locals.get(&local) {
            return *origin;
        }
        // The others begin with zero.
        let is_parameter = local < self.parameters;
        let origin = self.node(if is_parameter { MOVED } else { 0 });
        self.locals.insert(local, origin);
        origin
    }

    fn connect(&mut self, value: Value, to: Origin, unseen: Kinds) {
        let from = value.origin;
        if from.is_fixed() {
            let kinds = Origin::FIXED[from.0 as usize];
            let is_seen = kinds & COMPUTED & !unseen != 0;
            if to.is_fixed() && !is_seen {
                return;
            }
            if kinds & COMPUTED == 0 {
                self.nodes[to.0 as usize].kinds |= kinds;
                return;
            }
        }
        let node = &mut self.nodes[from.0 as usize];
        self.edges.push(Edge {
            value,
            to,
            unseen,
            previous: node.last_edge,
        });
        node.last_edge = self.edges.len() as u32;
    }

    /// What is to be made canonical, in order.
    pub fn marks(&mut self) -> Vec<Mark> {
        self.spread();
        let mut marks = Vec::new();
        for edge in &self.edges {
            let kinds = self.nodes[edge.value.origin.0 as usize].kinds;
            let into = self.nodes[edge.to.0 as usize].kinds;
            let shape = match (kinds, edge.value.is_vector) {
                (SINGLE, false) => Shape::F32,
                (SINGLE, true) => Shape::F32x4,
                (DOUBLE, false) => Shape::F64,
                (DOUBLE, true) => Shape::F64x2,
                _ => continue,
            };
            if kinds & !edge.unseen != 0 || into.count_ones() > 1 {
                marks.push(Mark {
                    behind: edge.value.behind,
                    shape,
                });
            }
        }
        marks.sort_unstable();
        marks.dedup();
        marks
    }

    /// Along the edges. Each node is visited once for each kind at most.
    fn spread(&mut self) {
        let nodes = 0..self.nodes.len() as u32;
        let mut changed: Vec<u32> = nodes
            .filter(|node| self.nodes[*node as usize].kinds != 0)
            .collect();
        while let Some(node) = changed.pop() {
            let Node {
                kinds,
                mut last_edge,
            } = self.nodes[node as usize];
            while let Some(edge) = last_edge.checked_sub(1) {
                let edge = &self.edges[edge as usize];
                last_edge = edge.previous;
                if edge.to.is_fixed() {
                    continue;
                }
                let to = &mut self.nodes[edge.to.0 as usize];
                let before = to.kinds;
                // What is seen on the way was made canonical.
                let seen = kinds & COMPUTED & !edge.unseen != 0;
                to.kinds |= kinds & (edge.unseen | MOVED) | if seen { MOVED } else { 0 };
                if to.kinds != before {
                    changed.push(edge.to.0);
                }
            }
        }
    }
}
