//! The pass is compared with processors whose NaNs have other bits, which are simulated by rewriting the module.

use wasmparser::{FuncToValidate, FunctionBody, ValidatorResources};
use wasmtime::{Config, Engine, Instance, Module, Store};

use super::dataflow::{Mark, Shape};
use super::effect::{Effect, effect};
use super::origin::Origin;
use super::{Analyzer, CANONICAL, Error, Nan, canonicalize, rewrite};
use programs::ProgramGenerator;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod programs;

const NAN_32: u32 = CANONICAL.0;
const NAN_64: u64 = CANONICAL.1;

fn engine(canonical_nans: bool) -> Engine {
    let mut config = Config::new();
    config.cranelift_nan_canonicalization(canonical_nans);
    Engine::new(&config).unwrap()
}

/// Simulates a processor whose arithmetic produces the NaN `nan`: the NaN results of each arithmetic instruction are
/// replaced.
fn on_processor(module: &[u8], nan: Nan) -> Vec<u8> {
    let find = |function: FuncToValidate<ValidatorResources>, body: &FunctionBody<'_>| {
        let mut validator = function.into_validator(Default::default());
        validator.read_locals(&mut body.get_binary_reader())?;
        let mut marks = Vec::new();
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            let end = operators.original_position();
            let name = format!("{operator:?}");
            let is_vector = name.contains("x2") || name.contains("x4");
            let shape = match (effect(&operator), is_vector) {
                (Effect::Computes { result, .. }, false) if result == Origin::SINGLE => Shape::F32,
                (Effect::Computes { result, .. }, true) if result == Origin::SINGLE => Shape::F32x4,
                (Effect::Computes { result, .. }, false) if result == Origin::DOUBLE => Shape::F64,
                (Effect::Computes { result, .. }, true) if result == Origin::DOUBLE => Shape::F64x2,
                _ => continue,
            };
            marks.push(Mark { end, shape });
        }
        Ok::<_, Error>((validator.len_locals(), marks))
    };
    rewrite(module, nan, find).unwrap()
}

/// NaNs of different processors.
const NANS: [Nan; 3] = [
    Nan(0xffc0_0000, 0xfff8_0000_0000_0000),
    Nan(0x7fc0_0001, 0x7ff8_dead_beef_0001),
    Nan(0xffff_ffff, 0xffff_ffff_ffff_ffff),
];

const MEMORY: usize = 512;

/// Runs the function `run` and returns the memory afterwards.
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

/// Checks that all processors give the same memory, and returns it.
fn run_everywhere(engine: &Engine, module: &[u8], memory: &[u8]) -> Vec<u8> {
    let canonical = canonicalize(module).unwrap();
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

/// A module with this body of `run`, whose locals are `$a $b` (`f64`), `$s` (`f32`), `$v` (`v128`) and `$i` (`i32`).
fn module_with_body(body: &str) -> Vec<u8> {
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

/// Zero, which the compiler cannot foresee.
const ZERO: &str = "(f64.load (i32.const 496))";
/// Zero divided by zero, which the compiler cannot foresee.
const DIV: &str = "(f64.div (f64.const 0) (f64.load (i32.const 496)))";

#[test]
fn an_observed_computed_nan_is_canonical() {
    let store = |value: &str| format!("(f64.store (i32.const 0) {value})");
    let bodies = [
        store(DIV),
        format!("(i64.store (i32.const 0) (i64.reinterpret_f64 {DIV}))"),
        store(&format!("(f64.neg {DIV})")),
        store(&format!("(f64.abs (f64.neg {DIV}))")),
        store(&format!("(f64.sqrt (f64.min {DIV} {ZERO}))")),
        store(&format!("(f64.promote_f32 (f32.demote_f64 {DIV}))")),
        format!("(local.set $a {DIV}) {}", store("(local.get $a)")),
        // In the text, the local is read before it is set.
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
        // A local with moved and computed values.
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
        // Both operands of `copysign`.
        format!(
            "(f64.store (i32.const 0) (f64.add (f64.const nan) (f64.copysign (f64.const 1) {DIV})))
            (f64.store (i32.const 8) (f64.copysign (f64.const 1) (f64.neg {DIV})))"
        ),
        store(&format!("(f64.copysign {DIV} (f64.const -1))")),
        // After unreachable code.
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
        let out = words(&run_everywhere(&engine, &module_with_body(&body), &[]));
        assert_eq!(out[0], NAN_64, "{body}");
    }
}

#[test]
fn observed_nans_of_other_shapes_are_canonical() {
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
        // Lanes of one width that are used as lanes of another width.
        (store(&format!("(f32x4.abs {vector})")), NAN_64),
        // A local with values of several kinds.
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
        let out = words(&run_everywhere(&engine, &module_with_body(&body), &[]));
        assert_eq!(out[0], expected, "{body}: {:x}", out[0]);
    }
}

#[test]
fn moved_values_keep_their_bits() {
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
        // A local that has computed values before and after.
        format!(
            "(local.set $a {DIV}) (local.set $b (local.get $a)) (local.set $a {load}) {} (local.set $a (f64.add (local.get $a) (local.get $b)))",
            store("(local.get $a)")
        ),
        // Integers in a vector whose local also has floating-point values.
        format!(
            "(local.set $v (f64x2.splat {DIV})) (v128.store (i32.const 32) (local.get $v))
            (local.set $v (v128.load (i32.const 8))) (v128.store (i32.const 0) (local.get $v))"
        ),
    ];
    let mut memory = [0; MEMORY];
    memory[8..16].copy_from_slice(&strange.to_le_bytes());
    let engine = engine(false);
    for body in bodies {
        let out = words(&run_everywhere(&engine, &module_with_body(&body), &memory));
        assert_eq!(out[0], strange, "{body}: {:x}", out[0]);
    }
}

#[test]
fn a_chain_in_a_loop_needs_no_comparison() {
    let module = module_with_body(
        "(local.set $a (f64.const 1))
        (loop $l
            (local.set $a (f64.mul (local.get $a) (f64.load (i32.const 496))))
            (br_if $l (f64.lt (local.get $a) (f64.const 0))))
        (f64.store (i32.const 0) (local.get $a))",
    );
    // One comparison after the loop, and one in the function that returns a NaN.
    assert_eq!(comparisons(&module), 2);
}

/// The number of comparisons that the pass inserts.
fn comparisons(module: &[u8]) -> usize {
    let mut analyzer = Analyzer::default();
    let mut count = 0;
    let find = |function: FuncToValidate<ValidatorResources>, body: &FunctionBody<'_>| {
        let (locals, marks) = analyzer.find_marks(function, body)?;
        count += marks.len();
        Ok((locals, marks))
    };
    rewrite(module, CANONICAL, find).unwrap();
    count
}

#[test]
fn a_module_without_floats_is_unchanged() {
    let module = wat::parse_str(
        r#"(module $named (memory 1) (func $add (param $x i32) (result i32) (i32.add (local.get $x) (i32.const 1))))"#,
    )
    .unwrap();
    assert_eq!(canonicalize(&module).unwrap(), module);
    let empty = wat::parse_str("(module)").unwrap();
    assert_eq!(canonicalize(&empty).unwrap(), empty);
}

#[test]
fn malformed_modules_are_refused() {
    let module = module_with_body(&format!("(f64.store (i32.const 0) (local.tee $a {DIV}))"));
    for end in 0..module.len() {
        let _ = canonicalize(&module[..end]);
    }
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..20_000 {
        let mut changed = module.clone();
        for _ in 0..1 + random.random_range(0..3) {
            let position = random.random_range(0..changed.len());
            changed[position] = random.random();
        }
        if let Ok(out) = canonicalize(&changed) {
            canonicalize(&out).expect("the output is a valid module");
        }
    }
}

/// Runs 200 random programs, or as many as `CRUCIAL_NAN_PROGRAMS` says.
#[test]
fn random_programs_give_the_same_on_all_processors() {
    let (engine, reference) = (engine(false), engine(true));
    let programs = std::env::var("CRUCIAL_NAN_PROGRAMS").map_or(200, |text| text.parse().unwrap());
    let mut marks = 0;
    for seed in 1..=programs {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut memory = [0; MEMORY];
        for lane in memory.chunks_exact_mut(4) {
            let value: [u32; 6] = [0, 0, 0x3ff8_0000, 0x7fc0_0000, 0x7ff8_0000, 0xfff4_0001];
            lane.copy_from_slice(&value[random.random_range(0..6)].to_le_bytes());
        }
        let changes_nan_signs = seed % 2 == 0;
        let text = ProgramGenerator::new(random, changes_nan_signs).module();
        let module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        marks += comparisons(&module);
        let out = run_everywhere(&engine, &module, &memory);
        if !changes_nan_signs {
            // The reference makes each operation's NaN canonical: the observed bits must be the same.
            let expected = run(&reference, &module, &memory);
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
