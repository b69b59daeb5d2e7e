//! Random WebAssembly programs.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::MEMORY;

/// Generates random programs that terminate.
pub(super) struct ProgramGenerator {
    random: ChaCha8Rng,
    /// Whether programs change the sign of values that may be computed NaNs. The pass under test loses this sign, and
    /// the compiler's own canonicalization does not.
    changes_nan_signs: bool,
    labels: usize,
    loops: usize,
}

/// A type of floating-point numbers: its name, and the instructions that make one of something else.
struct Float {
    ty: &'static str,
    other: &'static str,
    from_other: &'static str,
    int: &'static str,
    from_int: [&'static str; 2],
    from_vector: [&'static str; 2],
}

const DOUBLE: Float = Float {
    ty: "f64",
    other: "f32",
    from_other: "f64.promote_f32",
    int: "i64",
    from_int: ["f64.reinterpret_i64", "f64.convert_i64_s"],
    from_vector: ["f64x2.extract_lane 0", "f64x2.extract_lane 1"],
};

const SINGLE: Float = Float {
    ty: "f32",
    other: "f64",
    from_other: "f32.demote_f64",
    int: "i32",
    from_int: ["f32.reinterpret_i32", "f32.convert_i32_u"],
    from_vector: ["f32x4.extract_lane 0", "f32x4.extract_lane 3"],
};

impl ProgramGenerator {
    fn choose<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.choose(&mut self.random).expect("a choice")
    }

    fn address(&mut self) -> String {
        format!(
            "(i32.const {})",
            16 * self.random.random_range(0..MEMORY / 16)
        )
    }

    fn expression(&mut self, depth: usize, ty: &str) -> String {
        match ty {
            "i32" => self.int(depth),
            "i64" => self.long(depth),
            "f32" => self.float(depth, &SINGLE),
            "f64" => self.float(depth, &DOUBLE),
            _ => self.vector(depth),
        }
    }

    /// An expression that exists for every type.
    fn generic(&mut self, depth: usize, ty: &str) -> String {
        let local = self.random.random_range(0..3);
        match self.random.random_range(0..if depth == 0 { 3 } else { 9 }) {
            0 => format!("(local.get ${ty}{local})"),
            1 => format!("(global.get ${ty})"),
            2 => {
                let address = self.address();
                format!("({ty}.load {address})")
            }
            3 => {
                let value = self.expression(depth - 1, ty);
                format!("(local.tee ${ty}{local} {value})")
            }
            4 => {
                let (one, other) = (
                    self.expression(depth - 1, ty),
                    self.expression(depth - 1, ty),
                );
                let which = self.int(depth - 1);
                format!("(select {one} {other} {which})")
            }
            5 => {
                let (one, other) = (
                    self.expression(depth - 1, ty),
                    self.expression(depth - 1, ty),
                );
                let (which, statement) = (self.int(depth - 1), self.statement(depth - 1));
                format!("(if (result {ty}) {which} (then {statement} {one}) (else {other}))")
            }
            6 => {
                let (one, other) = (
                    self.expression(depth - 1, ty),
                    self.expression(depth - 1, ty),
                );
                let which = self.int(depth - 1);
                self.labels += 1;
                let label = self.labels;
                format!(
                    "(block $l{label} (result {ty}) (drop (br_if $l{label} {one} {which})) {other})"
                )
            }
            7 => {
                let (value, which) = (self.expression(depth - 1, ty), self.int(depth - 1));
                self.labels += 1;
                let label = self.labels;
                format!(
                    "(block $l{label} (result {ty}) (block $m{label} (result {ty}) \
                    (br_table $l{label} $m{label} {value} {which})))"
                )
            }
            _ => {
                let value = self.expression(depth - 1, ty);
                format!("(call $id_{ty} {value})")
            }
        }
    }

    fn unary(&mut self, depth: usize, names: &[&str], ty: &str) -> String {
        let name = self.choose(names);
        let value = self.expression(depth, ty);
        format!("({name} {value})")
    }

    fn binary(&mut self, depth: usize, names: &[&str], ty: &str) -> String {
        let name = self.choose(names);
        let (one, other) = (self.expression(depth, ty), self.expression(depth, ty));
        format!("({name} {one} {other})")
    }

    fn float(&mut self, depth: usize, float: &Float) -> String {
        let ty = float.ty;
        if depth == 0 {
            return match self.random.random_range(0..2) {
                0 => {
                    let values = ["0", "-0", "1.5", "inf", "nan", "nan:0x123", "-3"];
                    format!("({ty}.const {})", self.choose(&values))
                }
                _ => self.generic(0, ty),
            };
        }
        let depth = depth - 1;
        match self.random.random_range(0..10) {
            0..3 => {
                let name = self.choose(&["add", "sub", "mul", "div", "min", "max"]);
                self.binary(depth, &[&format!("{ty}.{name}")], ty)
            }
            3 => {
                let name = self.choose(&["sqrt", "ceil", "floor", "nearest", "trunc", "abs"]);
                self.unary(depth, &[&format!("{ty}.{name}")], ty)
            }
            4 => self.unary(depth, &[float.from_other], float.other),
            5 => self.unary(depth, &float.from_int, float.int),
            6 => self.unary(depth, &float.from_vector, "v128"),
            7 if self.changes_nan_signs => self.unary(depth, &[&format!("{ty}.neg")], ty),
            8 if self.changes_nan_signs => self.binary(depth, &[&format!("{ty}.copysign")], ty),
            _ => self.generic(depth + 1, ty),
        }
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.random.random_range(0..3) {
                0 => "(v128.const i64x2 0 0)".to_owned(),
                1 => "(v128.const f32x4 1 nan -0 inf)".to_owned(),
                _ => self.generic(0, "v128"),
            };
        }
        let doubles = [
            "f64x2.add",
            "f64x2.mul",
            "f64x2.div",
            "f64x2.max",
            "f64x2.pmin",
        ];
        let singles = [
            "f32x4.add",
            "f32x4.sub",
            "f32x4.div",
            "f32x4.min",
            "f32x4.pmax",
        ];
        let whole = [
            "i64x2.add",
            "v128.xor",
            "f64x2.eq",
            "i8x16.shuffle 0 1 2 3 4 5 6 7 24 25 26 27 28 29 30 31",
        ];
        let one = [
            "f64x2.sqrt",
            "f32x4.sqrt",
            "f64x2.abs",
            "f32x4.abs",
            "f32x4.demote_f64x2_zero",
            "f64x2.promote_low_f32x4",
            "v128.not",
            "f64x2.convert_low_i32x4_s",
            "f32x4.ceil",
        ];
        match self.random.random_range(0..12) {
            0..2 => self.binary(depth - 1, &doubles, "v128"),
            2..4 => self.binary(depth - 1, &singles, "v128"),
            4 => self.binary(depth - 1, &whole, "v128"),
            5 => self.unary(depth - 1, &one, "v128"),
            6 => self.unary(depth - 1, &["f64x2.splat"], "f64"),
            7 => self.unary(depth - 1, &["f32x4.splat"], "f32"),
            8 => {
                let (vector, value) = (self.vector(depth - 1), self.float(depth - 1, &DOUBLE));
                format!("(f64x2.replace_lane 1 {vector} {value})")
            }
            9 => {
                let (vector, value) = (self.vector(depth - 1), self.float(depth - 1, &SINGLE));
                format!("(f32x4.replace_lane 2 {vector} {value})")
            }
            10 if self.changes_nan_signs => {
                self.unary(depth - 1, &["f64x2.neg", "f32x4.neg"], "v128")
            }
            _ => self.generic(depth, "v128"),
        }
    }

    fn long(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.generic(0, "i64");
        }
        match self.random.random_range(0..5) {
            0 => self.unary(
                depth - 1,
                &["i64.reinterpret_f64", "i64.trunc_sat_f64_s"],
                "f64",
            ),
            1 => self.binary(depth - 1, &["i64.add", "i64.xor"], "i64"),
            2 => self.unary(
                depth - 1,
                &["i64x2.extract_lane 0", "i64x2.extract_lane 1"],
                "v128",
            ),
            _ => self.generic(depth, "i64"),
        }
    }

    fn int(&mut self, depth: usize) -> String {
        if depth == 0 {
            return format!("(i32.const {})", self.random.random_range(0..3));
        }
        match self.random.random_range(0..6) {
            0 => self.binary(depth - 1, &["f64.eq", "f64.lt", "f64.ge"], "f64"),
            1 => self.binary(depth - 1, &["f32.ne", "f32.gt"], "f32"),
            2 => self.unary(
                depth - 1,
                &["i32.reinterpret_f32", "i32.trunc_sat_f32_u"],
                "f32",
            ),
            3 => self.unary(depth - 1, &["i8x16.bitmask", "i32x4.all_true"], "v128"),
            4 => self.unary(depth - 1, &["i64.eqz", "i32.wrap_i64"], "i64"),
            _ => self.generic(depth, "i32"),
        }
    }

    fn statement(&mut self, depth: usize) -> String {
        let ty = self.choose(&["f64", "f64", "f32", "v128", "i64"]);
        let local = self.random.random_range(0..3);
        match self.random.random_range(0..if depth == 0 { 3 } else { 9 }) {
            0 => {
                let value = self.expression(depth, ty);
                format!("(local.set ${ty}{local} {value})")
            }
            1 => {
                let (address, value) = (self.address(), self.expression(depth, ty));
                format!("({ty}.store {address} {value})")
            }
            2 => {
                let value = self.expression(depth, ty);
                format!("(global.set ${ty} {value})")
            }
            3 => {
                let which = self.int(depth - 1);
                let (one, other) = (self.statements(depth - 1), self.statements(depth - 1));
                format!("(if {which} (then {one}) (else {other}))")
            }
            4 | 5 if self.loops < 3 => {
                self.loops += 1;
                let counter = self.loops;
                let statements = self.statements(depth - 1);
                self.loops -= 1;
                format!(
                    "(local.set $n{counter} (i32.const 3)) (loop $n{counter} {statements} \
                    (br_if $n{counter} (local.tee $n{counter} (i32.sub (local.get $n{counter}) (i32.const 1)))))"
                )
            }
            6 => {
                let (first, second) = (self.statements(depth - 1), self.statements(depth - 1));
                self.labels += 1;
                let label = self.labels;
                format!("(block $b{label} {first} (br $b{label}) {second} f64.add drop)")
            }
            7 => {
                let one = self.float(depth - 1, &DOUBLE);
                let other = self.float(depth - 1, &SINGLE);
                format!(
                    "(block (result f64 f32) {one} {other}) local.set $f32{local} local.set $f64{local}"
                )
            }
            _ if self.loops < 3 => {
                let counter = self.loops + 1;
                self.loops += 1;
                let (value, again) = (
                    self.float(depth - 1, &DOUBLE),
                    self.float(depth - 1, &DOUBLE),
                );
                let statement = self.statement(depth - 1);
                self.loops -= 1;
                format!(
                    "(local.set $n{counter} (i32.const 3)) {value} (loop $n{counter} (param f64) (result f64) \
                    local.set $f64{local} {statement} {again} \
                    (br_if $n{counter} (local.tee $n{counter} (i32.sub (local.get $n{counter}) (i32.const 1))))) \
                    local.set $f64{local}"
                )
            }
            _ => self.statement(0),
        }
    }

    fn statements(&mut self, depth: usize) -> String {
        let statements: Vec<String> = (0..1 + self.random.random_range(0..3))
            .map(|_| self.statement(depth))
            .collect();
        statements.join("\n")
    }

    pub fn new(random: ChaCha8Rng, changes_nan_signs: bool) -> ProgramGenerator {
        ProgramGenerator {
            random,
            changes_nan_signs,
            labels: 0,
            loops: 0,
        }
    }

    /// A module with a random function `run`.
    pub fn module(&mut self) -> String {
        let types = ["f64", "f32", "v128", "i64", "i32"];
        let mut globals = String::new();
        let mut locals = String::new();
        let mut functions = String::new();
        let mut ends = String::new();
        for (number, ty) in types.into_iter().enumerate() {
            let zero = if ty == "v128" { "i64x2 0 0" } else { "0" };
            globals += &format!("(global ${ty} (mut {ty}) ({ty}.const {zero}))");
            functions += &format!("(func $id_{ty} (param {ty}) (result {ty}) (local.get 0))");
            for local in 0..3 {
                locals += &format!("(local ${ty}{local} {ty})");
                let address = 16 * (3 * number + local);
                ends += &format!("({ty}.store (i32.const {address}) (local.get ${ty}{local}))");
            }
        }
        let body: Vec<String> = (0..6).map(|_| self.statement(4)).collect();
        let body = body.join("\n");
        format!(
            r#"(module (memory (export "memory") 1) {globals} {functions}
            (func (export "run") {locals} (local $n1 i32) (local $n2 i32) (local $n3 i32)
            {body} {ends}))"#
        )
    }
}
