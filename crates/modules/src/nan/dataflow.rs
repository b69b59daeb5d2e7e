//! Where a function's floating-point values come from, and where their bits are observed.
//!
//! The function is read once. Each value on the stack has an *origin*, a node of a graph: arithmetic, a move, a local,
//! or a choice between other origins. An edge says that values of one origin flow into another. The graph then gives
//! the [`Kinds`] of values that each origin may have:
//!
//! - none: the value is never a NaN;
//! - moved: the value's bits are meaningful, and the same on all processors;
//! - single or double: a NaN was produced by arithmetic of this width, and its bits are arbitrary.
//!
//! A value of several kinds cannot be made canonical where it is observed. So each computed value is made canonical
//! before it flows into an origin of several kinds. Values that cross the boundary of a block, a call, or a function
//! are always canonical.

use std::collections::HashMap;

use wasmparser::{
    BinaryReaderError as Error, FuncValidator, Operator, ValType, ValidatorResources,
};

use super::effect::{Effect, effect};
use super::origin::{COMPUTED, DOUBLE, Kinds, MOVED, Origin, SINGLE};

/// The type of a value that is made canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    F32,
    F64,
    F32x4,
    F64x2,
}

/// A value that is made canonical right after the instruction that produces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    /// The position at which the instruction ends.
    pub end: usize,
    pub shape: Shape,
}

#[derive(Clone, Copy)]
struct Value {
    origin: Origin,
    end: usize,
    is_vector: bool,
}

const UNKNOWN: Value = Value {
    origin: Origin::MOVED,
    end: 0,
    is_vector: false,
};

struct Node {
    kinds: Kinds,
    /// The last edge that begins here, plus one.
    last_edge: u32,
}

/// The flow of a value into an origin.
struct Edge {
    value: Value,
    to: Origin,
    /// The kinds of computed values whose bits the instruction ignores. Bits of other kinds are observed.
    ignored: Kinds,
    /// The previous edge that begins at the same node, plus one.
    previous: u32,
}

/// How many values an instruction pops and pushes.
struct Arity {
    operands: usize,
    results: usize,
}

/// The graph of a function. Its size is in proportion to the function's size.
#[derive(Default)]
pub(super) struct DataFlow {
    parameters: u32,
    stack: Vec<Value>,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    locals: HashMap<u32, Origin>,
}

impl DataFlow {
    /// Begins a new function.
    pub fn clear(&mut self, parameters: u32) {
        self.parameters = parameters;
        self.stack.clear();
        self.nodes.clear();
        self.edges.clear();
        // A new map, since clearing a map that was large once takes as long for each later function.
        self.locals = HashMap::new();
        for kinds in Origin::FIXED {
            self.node(kinds);
        }
    }

    fn node(&mut self, kinds: Kinds) -> Origin {
        // The index fits: there are fewer nodes than bytes in the module.
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
        end: usize,
    ) -> Result<(), Error> {
        let runs = validator
            .get_control_frame(0)
            .is_some_and(|frame| !frame.unreachable);
        let arity = runs.then(|| operator.operator_arity(validator)).flatten();
        validator.op(position, operator)?;
        if let Some((operands, results)) = arity {
            let arity = Arity {
                operands: operands as usize,
                results: results as usize,
            };
            self.follow(validator, operator, end, arity);
        }
        // Code after a branch is never run; validation determines the height of its stack.
        self.stack
            .resize(validator.operand_stack_height() as usize, UNKNOWN);
        Ok(())
    }

    fn follow(
        &mut self,
        validator: &FuncValidator<ValidatorResources>,
        operator: &Operator<'_>,
        end: usize,
        arity: Arity,
    ) {
        let origin = match effect(operator) {
            Effect::Computes { ignored, result } => {
                for _ in 0..arity.operands {
                    let value = self.pop();
                    self.connect(value, Origin::OBSERVER, ignored);
                }
                result
            }
            Effect::Combines { ignored, kinds } => {
                let to = self.node(kinds);
                for _ in 0..arity.operands {
                    let value = self.pop();
                    self.connect(value, to, ignored);
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
                self.connect(sign, Origin::OBSERVER, 0);
                self.pop().origin
            }
            Effect::PassThrough => self.pop().origin,
            Effect::LocalGet(local) => self.local(validator, local),
            Effect::LocalSet(local) => {
                let to = self.local(validator, local);
                let value = self.pop();
                self.connect(value, to, COMPUTED);
                // The result of a `tee` is the local's new value.
                to
            }
            Effect::Observes => {
                for _ in 0..arity.operands {
                    let value = self.pop();
                    self.connect(value, Origin::OBSERVER, 0);
                }
                Origin::MOVED
            }
        };
        let is_vector = validator.get_operand_type(0) == Some(Some(ValType::V128));
        let result = Value {
            origin,
            end,
            is_vector,
        };
        self.stack
            .extend(std::iter::repeat_n(result, arity.results));
    }

    fn pop(&mut self) -> Value {
        self.stack.pop().unwrap_or(UNKNOWN)
    }

    fn local(&mut self, validator: &FuncValidator<ValidatorResources>, local: u32) -> Origin {
        let ty = validator.get_local_type(local);
        if !matches!(ty, Some(ValType::F32 | ValType::F64 | ValType::V128)) {
            return Origin::MOVED;
        }
        if let Some(origin) = self.locals.get(&local) {
            return *origin;
        }
        // Locals that are not parameters are initialized with zero.
        let is_parameter = local < self.parameters;
        let origin = self.node(if is_parameter { MOVED } else { 0 });
        self.locals.insert(local, origin);
        origin
    }

    fn connect(&mut self, value: Value, to: Origin, ignored: Kinds) {
        let from = value.origin;
        if from.is_fixed() {
            let kinds = Origin::FIXED[from.0 as usize];
            let is_observed = kinds & COMPUTED & !ignored != 0;
            if to.is_fixed() && !is_observed {
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
            ignored,
            previous: node.last_edge,
        });
        node.last_edge = self.edges.len() as u32;
    }

    /// The values to make canonical, in the order of their instructions.
    pub fn marks(&mut self) -> Vec<Mark> {
        self.propagate_kinds();
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
            if kinds & !edge.ignored != 0 || into.count_ones() > 1 {
                marks.push(Mark {
                    end: edge.value.end,
                    shape,
                });
            }
        }
        marks.sort_unstable();
        marks.dedup();
        marks
    }

    /// Propagates kinds along the edges. Each node is visited at most once for each kind.
    fn propagate_kinds(&mut self) {
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
                // An observed value is made canonical before it flows on, so that its bits are meaningful.
                let observed = kinds & COMPUTED & !edge.ignored != 0;
                to.kinds |= kinds & (edge.ignored | MOVED) | if observed { MOVED } else { 0 };
                if to.kinds != before {
                    changed.push(edge.to.0);
                }
            }
        }
    }
}
