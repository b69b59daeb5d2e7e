use wasmparser::{FuncToValidate, FunctionBody, ValidatorResources};
use wasmtime::{Config, Engine, Instance, Module, Store};

use super::effect::{Effect, effect};
use super::flow::{Mark, Origin, Shape};
use super::{CANONICAL, Error, Finder, Nan, canonical, rewrite};

const NAN_32: u32 = CANONICAL.0;
const NAN_64: u64 = CANONICAL.1;

fn engine(canonical: bool) -> Engine {
    let mut config = Config::new();
    config.cranelift_nan_canonicalization(canonical);
    Engine::new(&config).unwrap()
}

/// The module as on a processor whose arithmetic makes other NaNs: they replace those of each computing instruction.
fn on_processor(module: &[u8], nan: Nan) -> Vec<u8> {
    let find = |function: FuncToValidate<ValidatorResources>, body: &FunctionBody<'_>| {
        let mut validator = function.into_validator(Default::default());
        validator.read_locals(&mut body.get_binary_reader())?;
        let mut marks = Vec::new();
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            let behind = operators.original_position();
            let name = format!("{operator:?}");
            let is_vector = name.contains("x2") || name.contains("x4");
            let shape = match (effect(&operator), is_vector) {
                (Effect::Computes { gives, .. }, false) if gives == Origin::SINGLE => Shape::F32,
                (Effect::Computes { gives, .. }, true) if gives == Origin::SINGLE => Shape::F32x4,
                (Effect::Computes { gives, .. }, false) if gives == Origin::DOUBLE => Shape::F64,
                (Effect::Computes { gives, .. }, true) if gives == Origin::DOUBLE => Shape::F64x2,
                _ => continue,
            };
            marks.push(Mark { behind, shape });
        }
        Ok::<_, Error>((validator.len_locals(), marks))
    };
    rewrite(module, nan, find).unwrap()
}

/// Some processors' NaNs.
const NANS: [Nan; 3] = [
    Nan(0xffc0_0000, 0xfff8_0000_0000_0000),
    Nan(0x7fc0_0001, 0x7ff8_dead_beef_0001),
    Nan(0xffff_ffff, 0xffff_ffff_ffff_ffff),
];

const MEMORY: usize = 512;

/// What is in the memory behind `run`.
fn run(engine: &Engine, module: &[u8], memory: &[u8]) -> Vec<u8> {
    let module = Module::new(engine, module).unwrap();
    let mut store = Store::new(engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let data = instance.get_memory(&mut store, "memory").unwrap();
    data.write(&mut store, 0, memory).unwrap();
    let run = instance.get_typed_func::<(), ()>(&mut store, "run");
    run.unwrap().call(&mut store, ()).unwrap();
    data.data(&store)[..MEMORY].to_vec()
}

/// The same on all processors; what is in the memory then.
fn run_everywhere(engine: &Engine, module: &[u8], memory: &[u8]) -> Vec<u8> {
    let canonical = canonical(module).unwrap();
    let out = run(engine, &canonical, memory);
    for nan in NANS {
        let other = run(engine, &on_processor(&canonical, nan), memory);
        assert!(
            other == out,
            "{:x?}: {:x?}, {:x?}",
            nan.1,
            words(&other),
            words(&out)
        );
    }
    out
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks_exact(8);
    words
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
        .collect()
}

/// A module around the body of `run`, whose locals are `$a $b` (`f64`), `$s` (`f32`), `$v` (`v128`) and `$i` (`i32`).
fn around(body: &str) -> Vec<u8> {
    let module = format!(
        r#"(module
        (memory (export "memory") 1)
        (global $g (mut f64) (f64.const 0))
        (type $f (func (param f64) (result f64)))
        (table 1 funcref) (elem (i32.const 0) $id)
        (func $nan (result f64) (f64.div (f64.const 0) (f64.load (i32.const 496))))
        (func $id (param f64) (result f64) (local.get 0))
        (func $store (param f64) (f64.store (i32.const 0) (local.get 0)))
        (func (export "run") (local $a f64) (local $b f64) (local $s f32) (local $v v128) (local $i i32)
            {body}))"#
    );
    wat::parse_str(module).unwrap()
}

/// Zero divided by zero, which the compiler can not foresee.
const ZERO: &str = "(f64.load (i32.const 496))";
const DIV: &str = "(f64.div (f64.const 0) (f64.load (i32.const 496)))";

#[test]
fn a_computed_nan_is_canonical_where_it_is_seen() {
    let store = |value: &str| format!("(f64.store (i32.const 0) {value})");
    let bodies = [
        store(DIV),
        format!("(i64.store (i32.const 0) (i64.reinterpret_f64 {DIV}))"),
        store(&format!("(f64.neg {DIV})")),
        store(&format!("(f64.abs (f64.neg {DIV}))")),
        store(&format!("(f64.sqrt (f64.min {DIV} {ZERO}))")),
        store(&format!("(f64.promote_f32 (f32.demote_f64 {DIV}))")),
        format!("(local.set $a {DIV}) {}", store("(local.get $a)")),
        // It is in the local before it is read from there in the text.
        format!(
            "(local.set $i (i32.const 2))
            (loop $l {} (local.set $b (local.get $a)) (local.set $a {DIV})
            (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
            {}",
            store("(local.get $b)"),
            store("(local.get $a)"),
        ),
        store(&format!("(local.tee $a {DIV})")),
        format!("(drop (local.tee $a {DIV})) {}", store("(local.get $a)")),
        store(&format!("(block (result f64) {DIV})")),
        store(&format!("(block $l (result f64) (br $l {DIV}))")),
        store(&format!(
            "(block $l (result f64) (br_if $l {DIV} (i32.const 1)))"
        )),
        store(&format!(
            "(block $l (result f64) (br_if $l {DIV} (i32.const 0)))"
        )),
        store(&format!(
            "(block $l (result f64) (block $m (result f64) (br_table $l $m {DIV} (i32.const 0))))"
        )),
        store(&format!(
            "(if (result f64) (i32.const 1) (then {DIV}) (else (f64.const 1)))"
        )),
        format!(
            "{DIV} (loop (param f64) (local.set $a)) {}",
            store("(local.get $a)")
        ),
        store(&format!(
            "(select {DIV} (f64.const 1) (i32.eqz (local.get $i)))"
        )),
        store(&format!(
            "(select (f64.load (i32.const 8)) {DIV} (local.get $i))"
        )),
        store(&format!(
            "(select (result f64) {DIV} (f64.const 1) (i32.const 1))"
        )),
        // A local of both.
        format!(
            "(local.set $a (f64.load (i32.const 8))) {} (local.set $a {DIV}) {}",
            store("(local.get $a)"),
            store("(local.get $a)"),
        ),
        format!("(call $store {DIV})"),
        store("(call $nan)"),
        store(&format!("(call $id {DIV})")),
        store(&format!("(call_indirect (type $f) {DIV} (i32.const 0))")),
        format!("(global.set $g {DIV}) {}", store("(global.get $g)")),
        // The sign, and what it is given to.
        format!(
            "(f64.store (i32.const 0) (f64.add (f64.const nan) (f64.copysign (f64.const 1) {DIV})))
            (f64.store (i32.const 8) (f64.copysign (f64.const 1) (f64.neg {DIV})))"
        ),
        store(&format!("(f64.copysign {DIV} (f64.const -1))")),
        // Behind what never runs.
        format!(
            "(block (br 0) (f64.store {DIV}) (drop) (unreachable)) {}",
            store(DIV)
        ),
        format!(
            "(block (drop (block (result f64) (return {}) (f64.mul)))) unreachable",
            store(DIV)
        ),
        format!(
            "{DIV} (i32.const 0) drop (local.set $a) {}",
            store("(local.get $a)")
        ),
    ];
    let engine = engine(false);
    for body in bodies {
        let out = words(&run_everywhere(&engine, &around(&body), &[]));
        assert_eq!(out[0], NAN_64, "{body}");
    }
}

#[test]
fn so_are_those_of_other_shapes() {
    let vector = format!("(f64x2.splat {DIV})");
    let single = "(f32.div (f32.const 0) (f32.load (i32.const 496)))";
    let singles = format!("(f32x4.sqrt (f32x4.splat (f32.neg {single})))");
    let both = u64::from(NAN_32) << 32 | u64::from(NAN_32);
    let store = |value: &str| format!("(v128.store (i32.const 0) {value})");
    let cases = [
        (
            format!("(f32.store (i32.const 0) {single}) (f32.store (i32.const 4) {single})"),
            both,
        ),
        (
            format!(
                "(i32.store (i32.const 0) (i32.reinterpret_f32 {single})) (f32.store (i32.const 4) {single})"
            ),
            both,
        ),
        (store(&singles), both),
        (store(&vector), NAN_64),
        (store(&format!("(f64x2.add {vector} {vector})")), NAN_64),
        (
            store(&format!("(f64x2.neg (f64x2.add {vector} {vector}))")),
            NAN_64,
        ),
        (
            store(&format!("(local.tee $v (f64x2.add {vector} {vector}))")),
            NAN_64,
        ),
        (store(&format!("(f64x2.pmin {vector} {vector})")), NAN_64),
        (
            store(&format!(
                "(f64x2.replace_lane 0 (v128.const i64x2 0 0) {DIV})"
            )),
            NAN_64,
        ),
        (
            format!("(f64.store (i32.const 0) (f64x2.extract_lane 0 {vector}))"),
            NAN_64,
        ),
        (
            format!("(i64.store (i32.const 0) (i64x2.extract_lane 0 {vector}))"),
            NAN_64,
        ),
        (
            format!("(v128.store64_lane 0 (i32.const 0) {vector})"),
            NAN_64,
        ),
        (store(&format!("(v128.or {vector} {vector})")), NAN_64),
        (store(&format!("(f32x4.demote_f64x2_zero {vector})")), both),
        (
            store(&format!("(f64x2.promote_low_f32x4 {singles})")),
            NAN_64,
        ),
        // Lanes of one width as those of another.
        (store(&format!("(f32x4.abs {vector})")), NAN_64),
        // A local of several.
        (
            format!(
                "(local.set $v {singles}) {} (local.set $v {vector}) {}",
                store("(local.get $v)"),
                store("(local.get $v)")
            ),
            NAN_64,
        ),
    ];
    let engine = engine(false);
    for (body, expected) in cases {
        let out = words(&run_everywhere(&engine, &around(&body), &[]));
        assert_eq!(out[0], expected, "{body}: {:x}", out[0]);
    }
}

#[test]
fn what_is_only_moved_keeps_its_bits() {
    let strange = 0xfff4_0000_1234_5678u64;
    let load = "(f64.load (i32.const 8))";
    let store = |value: &str| format!("(f64.store (i32.const 0) {value})");
    let from_bits = format!("(f64.reinterpret_i64 (i64.const {strange}))");
    let bodies = [
        store(load),
        store(&from_bits),
        format!("(i64.store (i32.const 0) (i64.reinterpret_f64 {from_bits}))"),
        format!("(local.set $a {load}) {}", store("(local.get $a)")),
        store(&format!("(call $id {load})")),
        store(&format!("(select {load} {DIV} (i32.const 1))")),
        // In a local that has computed ones before and behind.
        format!(
            "(local.set $a {DIV}) (local.set $b (local.get $a)) (local.set $a {load}) {} (local.set $a (f64.add (local.get $a) (local.get $b)))",
            store("(local.get $a)")
        ),
        // Integers in a vector whose local has floats, too.
        format!(
            "(local.set $v (f64x2.splat {DIV})) (v128.store (i32.const 32) (local.get $v))
            (local.set $v (v128.load (i32.const 8))) (v128.store (i32.const 0) (local.get $v))"
        ),
    ];
    let mut memory = [0; MEMORY];
    memory[8..16].copy_from_slice(&strange.to_le_bytes());
    let engine = engine(false);
    for body in bodies {
        let out = words(&run_everywhere(&engine, &around(&body), &memory));
        assert_eq!(out[0], strange, "{body}: {:x}", out[0]);
    }
}

#[test]
fn a_chain_in_a_loop_costs_nothing() {
    let module = around(
        "(local.set $a (f64.const 1))
        (loop $l
            (local.set $a (f64.mul (local.get $a) (f64.load (i32.const 496))))
            (br_if $l (f64.lt (local.get $a) (f64.const 0))))
        (f64.store (i32.const 0) (local.get $a))",
    );
    // One behind the loop, and one in the helper that returns one.
    assert_eq!(comparisons(&module), 2);
}

/// How many are put in.
fn comparisons(module: &[u8]) -> usize {
    let mut finder = Finder::default();
    let mut count = 0;
    let find = |function: FuncToValidate<ValidatorResources>, body: &FunctionBody<'_>| {
        let (locals, marks) = finder.marks(function, body)?;
        count += marks.len();
        Ok((locals, marks))
    };
    rewrite(module, CANONICAL, find).unwrap();
    count
}

#[test]
fn names_stay_and_what_has_no_floats_is_as_it_was() {
    let module = wat::parse_str(
        r#"(module $named (memory 1) (func $add (param $x i32) (result i32) (i32.add (local.get $x) (i32.const 1))))"#,
    )
    .unwrap();
    assert_eq!(canonical(&module).unwrap(), module);
    let empty = wat::parse_str("(module)").unwrap();
    assert_eq!(canonical(&empty).unwrap(), empty);
}

#[test]
fn bytes_that_are_no_module_are_refused() {
    let module = around(&format!("(f64.store (i32.const 0) (local.tee $a {DIV}))"));
    for end in 0..module.len() {
        let _ = canonical(&module[..end]);
    }
    let mut random = Random(7);
    for _ in 0..20_000 {
        let mut changed = module.clone();
        for _ in 0..1 + random.below(3) {
            let place = random.below(changed.len());
            changed[place] = random.next() as u8;
        }
        if let Ok(out) = canonical(&changed) {
            canonical(&out).expect("it is a module still");
        }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// Writes programs that end.
struct Writer {
    random: Random,
    /// Whether it changes the sign of what may be a computed NaN. This sign is lost here, and not with the
    /// compiler's own canonical NaNs.
    wild: bool,
    labels: usize,
    loops: usize,
}

impl Writer {
    fn place(&mut self) -> String {
        format!("(i32.const {})", 16 * self.random.below(MEMORY / 16))
    }

    fn one(&mut self, depth: usize, of: &str) -> String {
        match of {
            "i32" => self.int(depth),
            "i64" => self.long(depth),
            "f32" => self.single(depth),
            "f64" => self.double(depth),
            _ => self.vector(depth),
        }
    }

    /// What there is of each type.
    fn any(&mut self, depth: usize, of: &str) -> String {
        let local = self.random.below(3);
        match self.random.below(if depth == 0 { 3 } else { 9 }) {
            0 => format!("(local.get ${of}{local})"),
            1 => format!("(global.get ${of})"),
            2 => {
                let place = self.place();
                format!("({of}.load {place})")
            }
            3 => {
                let value = self.one(depth - 1, of);
                format!("(local.tee ${of}{local} {value})")
            }
            4 => {
                let (one, other) = (self.one(depth - 1, of), self.one(depth - 1, of));
                let which = self.int(depth - 1);
                format!("(select {one} {other} {which})")
            }
            5 => {
                let (one, other) = (self.one(depth - 1, of), self.one(depth - 1, of));
                let (which, statement) = (self.int(depth - 1), self.statement(depth - 1));
                format!("(if (result {of}) {which} (then {statement} {one}) (else {other}))")
            }
            6 => {
                let (one, other) = (self.one(depth - 1, of), self.one(depth - 1, of));
                let which = self.int(depth - 1);
                self.labels += 1;
                let label = self.labels;
                format!(
                    "(block $l{label} (result {of}) (drop (br_if $l{label} {one} {which})) {other})"
                )
            }
            7 => {
                let (value, which) = (self.one(depth - 1, of), self.int(depth - 1));
                self.labels += 1;
                let label = self.labels;
                format!(
                    "(block $l{label} (result {of}) (block $m{label} (result {of}) \
                    (br_table $l{label} $m{label} {value} {which})))"
                )
            }
            _ => {
                let value = self.one(depth - 1, of);
                format!("(call $of_{of} {value})")
            }
        }
    }

    fn unary(&mut self, depth: usize, names: &[&str], of: &str) -> String {
        let name = self.random.of(names);
        let value = self.one(depth, of);
        format!("({name} {value})")
    }

    fn binary(&mut self, depth: usize, names: &[&str], of: &str) -> String {
        let name = self.random.of(names);
        let (one, other) = (self.one(depth, of), self.one(depth, of));
        format!("({name} {one} {other})")
    }

    fn double(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.random.below(2) {
                0 => {
                    let value =
                        self.random
                            .of(&["0", "-0", "1.5", "inf", "nan", "nan:0x123", "-3"]);
                    format!("(f64.const {value})")
                }
                _ => self.any(0, "f64"),
            };
        }
        match self.random.below(10) {
            0..3 => self.binary(
                depth - 1,
                &[
                    "f64.add", "f64.sub", "f64.mul", "f64.div", "f64.min", "f64.max",
                ],
                "f64",
            ),
            3 => self.unary(
                depth - 1,
                &["f64.sqrt", "f64.ceil", "f64.nearest", "f64.abs"],
                "f64",
            ),
            4 => self.unary(depth - 1, &["f64.promote_f32"], "f32"),
            5 => self.unary(
                depth - 1,
                &["f64.reinterpret_i64", "f64.convert_i64_s"],
                "i64",
            ),
            6 => self.unary(
                depth - 1,
                &["f64x2.extract_lane 0", "f64x2.extract_lane 1"],
                "v128",
            ),
            7 if self.wild => self.unary(depth - 1, &["f64.neg"], "f64"),
            8 if self.wild => self.binary(depth - 1, &["f64.copysign"], "f64"),
            _ => self.any(depth, "f64"),
        }
    }

    fn single(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.random.below(2) {
                0 => {
                    let value =
                        self.random
                            .of(&["0", "-0", "1.5", "inf", "nan", "nan:0x123", "-3"]);
                    format!("(f32.const {value})")
                }
                _ => self.any(0, "f32"),
            };
        }
        match self.random.below(9) {
            0..3 => self.binary(
                depth - 1,
                &[
                    "f32.add", "f32.sub", "f32.mul", "f32.div", "f32.min", "f32.max",
                ],
                "f32",
            ),
            3 => self.unary(
                depth - 1,
                &["f32.sqrt", "f32.floor", "f32.trunc", "f32.abs"],
                "f32",
            ),
            4 => self.unary(depth - 1, &["f32.demote_f64"], "f64"),
            5 => self.unary(
                depth - 1,
                &["f32.reinterpret_i32", "f32.convert_i32_u"],
                "i32",
            ),
            6 => self.unary(
                depth - 1,
                &["f32x4.extract_lane 0", "f32x4.extract_lane 3"],
                "v128",
            ),
            7 if self.wild => self.unary(depth - 1, &["f32.neg"], "f32"),
            _ => self.any(depth, "f32"),
        }
    }

    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.random.below(3) {
                0 => "(v128.const i64x2 0 0)".to_owned(),
                1 => "(v128.const f32x4 1 nan -0 inf)".to_owned(),
                _ => self.any(0, "v128"),
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
        match self.random.below(12) {
            0..2 => self.binary(depth - 1, &doubles, "v128"),
            2..4 => self.binary(depth - 1, &singles, "v128"),
            4 => self.binary(depth - 1, &whole, "v128"),
            5 => self.unary(depth - 1, &one, "v128"),
            6 => self.unary(depth - 1, &["f64x2.splat"], "f64"),
            7 => self.unary(depth - 1, &["f32x4.splat"], "f32"),
            8 => {
                let (vector, value) = (self.vector(depth - 1), self.double(depth - 1));
                format!("(f64x2.replace_lane 1 {vector} {value})")
            }
            9 => {
                let (vector, value) = (self.vector(depth - 1), self.single(depth - 1));
                format!("(f32x4.replace_lane 2 {vector} {value})")
            }
            10 if self.wild => self.unary(depth - 1, &["f64x2.neg", "f32x4.neg"], "v128"),
            _ => self.any(depth, "v128"),
        }
    }

    fn long(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.any(0, "i64");
        }
        match self.random.below(5) {
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
            _ => self.any(depth, "i64"),
        }
    }

    fn int(&mut self, depth: usize) -> String {
        if depth == 0 {
            return format!("(i32.const {})", self.random.below(3));
        }
        match self.random.below(6) {
            0 => self.binary(depth - 1, &["f64.eq", "f64.lt", "f64.ge"], "f64"),
            1 => self.binary(depth - 1, &["f32.ne", "f32.gt"], "f32"),
            2 => self.unary(
                depth - 1,
                &["i32.reinterpret_f32", "i32.trunc_sat_f32_u"],
                "f32",
            ),
            3 => self.unary(depth - 1, &["i8x16.bitmask", "i32x4.all_true"], "v128"),
            4 => self.unary(depth - 1, &["i64.eqz", "i32.wrap_i64"], "i64"),
            _ => self.any(depth, "i32"),
        }
    }

    fn statement(&mut self, depth: usize) -> String {
        let of = self.random.of(&["f64", "f64", "f32", "v128", "i64"]);
        let local = self.random.below(3);
        match self.random.below(if depth == 0 { 3 } else { 9 }) {
            0 => {
                let value = self.one(depth, of);
                format!("(local.set ${of}{local} {value})")
            }
            1 => {
                let (place, value) = (self.place(), self.one(depth, of));
                format!("({of}.store {place} {value})")
            }
            2 => {
                let value = self.one(depth, of);
                format!("(global.set ${of} {value})")
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
                let (first, behind) = (self.statements(depth - 1), self.statements(depth - 1));
                self.labels += 1;
                let label = self.labels;
                format!("(block $b{label} {first} (br $b{label}) {behind} f64.add drop)")
            }
            7 => {
                let (one, other) = (self.double(depth - 1), self.single(depth - 1));
                format!(
                    "(block (result f64 f32) {one} {other}) local.set $f32{local} local.set $f64{local}"
                )
            }
            _ if self.loops < 3 => {
                let counter = self.loops + 1;
                self.loops += 1;
                let (value, again) = (self.double(depth - 1), self.double(depth - 1));
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
        let statements: Vec<String> = (0..1 + self.random.below(3))
            .map(|_| self.statement(depth))
            .collect();
        statements.join("\n")
    }

    fn module(&mut self) -> String {
        let types = ["f64", "f32", "v128", "i64", "i32"];
        let mut globals = String::new();
        let mut locals = String::new();
        let mut functions = String::new();
        let mut ends = String::new();
        for (number, of) in types.into_iter().enumerate() {
            let zero = if of == "v128" { "i64x2 0 0" } else { "0" };
            globals += &format!("(global ${of} (mut {of}) ({of}.const {zero}))");
            functions += &format!("(func $of_{of} (param {of}) (result {of}) (local.get 0))");
            for local in 0..3 {
                locals += &format!("(local ${of}{local} {of})");
                let place = 16 * (3 * number + local);
                ends += &format!("({of}.store (i32.const {place}) (local.get ${of}{local}))");
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

/// 200 random programs; a longer run has another number in `CRUCIAL_NAN_PROGRAMS`.
#[test]
fn programs_are_the_same_on_all_processors() {
    let (ours, theirs) = (engine(false), engine(true));
    let programs = std::env::var("CRUCIAL_NAN_PROGRAMS").map_or(200, |text| text.parse().unwrap());
    let mut marks = 0;
    for seed in 1..=programs {
        let mut random = Random(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let mut memory = [0; MEMORY];
        for lane in memory.chunks_exact_mut(4) {
            let value: [u32; 6] = [0, 0, 0x3ff8_0000, 0x7fc0_0000, 0x7ff8_0000, 0xfff4_0001];
            lane.copy_from_slice(&value[random.below(6)].to_le_bytes());
        }
        let mut writer = Writer {
            random,
            wild: seed % 2 == 0,
            labels: 0,
            loops: 0,
        };
        let text = writer.module();
        let module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        marks += comparisons(&module);
        let out = run_everywhere(&ours, &module, &memory);
        if !writer.wild {
            // Each operation's NaN is canonical there: what is seen is the same, to the bit.
            let expected = run(&theirs, &module, &memory);
            assert!(
                out == expected,
                "seed {seed}: {:x?} {:x?}",
                words(&out),
                words(&expected)
            );
        }
    }
    println!("{marks} comparisons in {programs} programs");
    assert!(marks > 0);
}
