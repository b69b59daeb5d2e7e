//! Modules that were written to do harm. Each is refused with the reason, or an error for who calls it; the
//! host goes on.

use std::time::{Duration, Instant};

use crucial_modules::{Engine, Limits};
use crucial_object::guest_abi::{MethodDescription, TypeDescription, pack};
use crucial_object::{Activation, Age, Error, Flow, Instance, Result, SessionId, encode};

const PANIC: &str = r#"(import "crucial" "panic" (func $panic (param i32 i32)))"#;

/// A reply: done, and no more.
const DONE: &str = "(i64.const 0x10_0000_0001)";

/// The functions of a module, with the bodies of one that behaves.
const FUNCTIONS: [(&str, &str, &str); 10] = [
    ("crucial_abi", "(result i32)", "(i32.const 1)"),
    ("crucial_start", "", ""),
    (
        "crucial_buffer",
        "(param i32) (result i32)",
        "(i32.const 1024)",
    ),
    ("crucial_types", "(result i64)", "TYPES"),
    ("crucial_restore", "(param i32 i32) (result i64)", DONE),
    (
        "crucial_dispatch",
        "(param i32 i64 i32) (result i64)",
        // No ticket, no result.
        "(i64.const 0x20_0000_0005)",
    ),
    ("crucial_cancel", "(param i32 i32) (result i64)", DONE),
    ("crucial_depart", "(param i64) (result i64)", DONE),
    ("crucial_wake", "(result i32)", "(i32.const 2)"),
    ("crucial_save", "(result i64)", DONE),
];

/// A module of which one function has another body, with something before its functions and something behind.
struct Hostile<'a> {
    before: &'a str,
    memory: &'a str,
    function: &'a str,
    body: &'a str,
    behind: &'a str,
}

impl Default for Hostile<'_> {
    fn default() -> Self {
        Hostile {
            before: PANIC,
            memory: r#"(memory (export "memory") 1)"#,
            function: "",
            body: "",
            behind: "",
        }
    }
}

impl Hostile<'_> {
    fn bytes(&self) -> Vec<u8> {
        let text = self.text();
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn text(&self) -> String {
        let method = MethodDescription {
            name: "touch".to_owned(),
            writes: true,
            waits: true,
        };
        let types = vec![TypeDescription {
            name: "hostile::Thing".to_owned(),
            attends: true,
            methods: vec![method],
        }];
        // At 0x40: done, and the types. At 0x10: done. At 0x20: done, and a ticket that is not there.
        let mut reply = vec![0];
        reply.extend(encode(&types).unwrap());
        let types = format!("(i64.const {})", pack(0x40, reply.len() as u32));
        let escaped: String = reply.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let functions: String = FUNCTIONS
            .iter()
            .map(|(name, signature, body)| {
                let body = if *name == self.function {
                    self.body
                } else {
                    body
                };
                let body = body.replace("TYPES", &types);
                format!("(func (export \"{name}\") {signature} {body})\n")
            })
            .collect();
        let (before, memory, behind) = (self.before, self.memory, self.behind);
        format!(
            "(module {before} {memory} {functions} {behind}
               (data (i32.const 0x40) \"{escaped}\")
               (data (i32.const 0x20) \"\\00\\ff\\ff\\ff\\ff\"))"
        )
    }
}

fn engine() -> Engine {
    let limits = Limits {
        instance_bytes_max: 16 << 20,
        reply_bytes_max: 1 << 20,
        method_time_max: Duration::from_millis(50),
        ..Limits::default()
    };
    Engine::new(limits, None).unwrap()
}

fn object(hostile: &Hostile<'_>) -> Result<Box<dyn Instance>> {
    let module = engine()
        .compile(&hostile.bytes())
        .map_err(|refused| Error::Other(refused.to_string()))?;
    module.restore("hostile::Thing", b"state", Age::Same)
}

fn touch(object: &mut dyn Instance) -> Result<Flow> {
    object.dispatch(Activation {
        index: 0,
        args: b"arguments",
        caller: SessionId(1),
        again: true,
        ticket: &mut Some(vec![1, 2, 3]),
        out: &mut Vec::new(),
    })
}

#[test]
fn one_that_behaves_is_taken() {
    let mut object = object(&Hostile::default()).unwrap();
    assert_eq!(touch(&mut *object), Ok(Flow::Ready));
    object.cancel(0, Some(vec![1])).unwrap();
    object.depart(SessionId(1));
    object.save(&mut Vec::new()).unwrap();
}

#[test]
fn what_is_forbidden_is_refused_with_the_reason() {
    let import = |module: &str, name: &str, what: &str| {
        format!("{PANIC} (import \"{module}\" \"{name}\" {what})")
    };
    let wanted = [
        import(
            "wasi_snapshot_preview1",
            "clock_time_get",
            "(func (param i32 i64 i32) (result i32))",
        ),
        import(
            "wasi_snapshot_preview1",
            "random_get",
            "(func (param i32 i32) (result i32))",
        ),
        import("wasi_snapshot_preview1", "path_open", "(func)"),
        import("wasi_snapshot_preview1", "sock_accept", "(func)"),
        import("env", "now", "(func (result f64))"),
        import("crucial", "call", "(func)"),
        import("env", "table", "(table 1 funcref)"),
        import("env", "global", "(global i32)"),
    ];
    let mut cases: Vec<(Hostile<'_>, &str)> = wanted
        .iter()
        .map(|before| {
            (
                Hostile {
                    before,
                    ..Hostile::default()
                },
                "a module gets nothing but crucial.panic",
            )
        })
        .collect();
    let other = |before, memory, behind| Hostile {
        before,
        memory,
        behind,
        ..Hostile::default()
    };
    let memory = r#"(memory (export "memory") 1)"#;
    cases.extend([
        // Threads: their memory, and their instructions.
        (other(PANIC, r#"(memory (export "memory") 1 2 shared)"#, ""), "threads"),
        (
            other(PANIC, memory, "(func (drop (i32.atomic.load (i32.const 0))))"),
            "threads",
        ),
        // Arithmetic that differs from machine to machine.
        (
            other(
                PANIC,
                memory,
                "(func (param v128 v128 v128) (result v128) (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2)))",
            ),
            "relaxed SIMD",
        ),
        // More than one memory, more than an instance may have, and data that is outside.
        (other(PANIC, r#"(memory (export "memory") 1) (memory 1)"#, ""), "memor"),
        (other(PANIC, r#"(memory (export "memory") 4000)"#, ""), "memory"),
        (other(PANIC, memory, "(data (i32.const 100000) \"x\")"), "out of bounds"),
        // A table of a size that no program needs.
        (other(PANIC, memory, "(table 10000000 funcref)"), "table"),
        // It says that it is called when it is loaded, and does not end.
        (other(PANIC, memory, "(func $begin (loop (br 0))) (start $begin)"), "method_time_max"),
        // An import of the right name, and another type.
        (other(r#"(import "crucial" "panic" (func (param i64)))"#, memory, ""), "types incompatible"),
        (other(r#"(import "crucial" "panic" (memory 1))"#, "", ""), "memory"),
        (other(PANIC, "(memory 1)", ""), "it does not export memory"),
    ]);
    for (function, body, reason) in [
        ("crucial_abi", "(i32.const 7)", "version 7"),
        ("crucial_abi", "unreachable", "unreachable"),
        ("crucial_start", "(loop (br 0))", "method_time_max"),
        (
            "crucial_start",
            "(call 1) (call 2) drop",
            "the stack overflowed",
        ),
        ("crucial_types", "(i64.const -1)", "reply_bytes_max"),
        (
            "crucial_types",
            "(i64.const 0xffff_ffff_0000_0010)",
            "outside of its memory",
        ),
        ("crucial_types", "(i64.const 0)", "outside of its memory"),
        // A sequence of 2^60 types.
        (
            "crucial_types",
            "(i64.store (i32.const 16) (i64.const 0x90ff_ffff_ffff_ff00)) (i64.const 0x10_0000_000a)",
            "",
        ),
    ] {
        // What calls itself.
        let body = if reason.contains("stack") {
            "(call $again)"
        } else {
            body
        };
        let behind = if reason.contains("stack") {
            "(func $again (call $again))"
        } else {
            ""
        };
        cases.push((
            Hostile {
                function,
                body,
                behind,
                ..Hostile::default()
            },
            reason,
        ));
    }
    let engine = engine();
    for (hostile, reason) in cases {
        let start = Instant::now();
        let refused = engine.compile(&hostile.bytes()).err();
        let what = (hostile.before, hostile.memory, hostile.body, hostile.behind);
        let refused = refused.unwrap_or_else(|| panic!("it was taken: {what:?}"));
        assert!(refused.to_string().contains(reason), "{what:?}: {refused}");
        assert!(start.elapsed() < Duration::from_secs(5), "{what:?}");
    }
    // Functions of other types.
    for (name, signature, _) in FUNCTIONS {
        let whole = format!("(func (export \"{name}\") {signature}");
        let text = Hostile::default().text();
        let other = format!("(func (export \"{name}\") (param f32) unreachable) (func {signature}");
        let text = text.replace(&whole, &other);
        let refused = engine
            .compile(&wat::parse_str(text).unwrap())
            .err()
            .unwrap();
        assert!(
            refused
                .to_string()
                .contains(&format!("it does not export {name}")),
            "{refused}"
        );
    }
}

#[test]
fn what_it_does_to_its_object_is_an_error_for_its_caller() {
    let hostile = |function, body, behind| Hostile {
        function,
        body,
        behind,
        ..Hostile::default()
    };
    // Where the state goes in: the buffer is nowhere, or the reply is.
    for (function, body, reason) in [
        ("crucial_buffer", "(i32.const -1)", "outside of its memory"),
        (
            "crucial_buffer",
            "(i32.const 65530)",
            "outside of its memory",
        ),
        ("crucial_buffer", "unreachable", "unreachable"),
        (
            "crucial_restore",
            "(i64.const 0xffff_0000_0000_1000)",
            "outside of its memory",
        ),
        (
            "crucial_restore",
            "(loop (br 0)) unreachable",
            "method_time_max",
        ),
        // A status that there is none of; an error that can not be read.
        (
            "crucial_restore",
            "(i32.store8 (i32.const 16) (i32.const 9)) (i64.const 0x10_0000_0001)",
            "has no status",
        ),
        (
            "crucial_restore",
            "(i32.store8 (i32.const 16) (i32.const 2)) (i32.store8 (i32.const 17) (i32.const 255)) (i64.const 0x10_0000_0002)",
            "does not know",
        ),
    ] {
        let error = object(&hostile(function, body, "")).err();
        let error = error
            .unwrap_or_else(|| panic!("{function} {body}"))
            .to_string();
        assert!(error.contains(reason), "{body}: {error}");
    }
    // What a method does.
    let panics = "(call $panic (i32.const -1) (i32.const -1)) unreachable";
    for (body, reason) in [
        ("(i64.const 0x10_0000_0001)", "without a ticket"),
        ("(i64.const 0x10_0010_0000)", "outside of its memory"),
        ("(i64.const 0x10_7fff_ffff)", "reply_bytes_max"),
        (
            "(i32.store (i32.const 33) (i32.const 1000)) (i64.const 0x20_0000_0005)",
            "longer than the reply",
        ),
        ("unreachable", "unreachable"),
        (panics, "unreachable"),
        ("(i64.div_u (i64.const 1) (i64.const 0))", "divide by zero"),
        ("(i64.load (i32.const -8))", "out of bounds"),
        (
            "(call_indirect (i32.const 3)) unreachable",
            "undefined element",
        ),
        ("(loop (br 0)) unreachable", "method_time_max"),
        ("(call $again) unreachable", "the stack overflowed"),
        (
            "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
            "instance_bytes_max",
        ),
    ] {
        let behind = "(table 1 funcref) (func $again (call $again))";
        let mut object = object(&hostile("crucial_dispatch", body, behind)).unwrap();
        let start = Instant::now();
        let error = touch(&mut *object).unwrap_err().to_string();
        assert!(error.contains(reason), "{body}: {error}");
        assert!(start.elapsed() < Duration::from_secs(2), "{body}");
        // It can be tried again, and saved.
        touch(&mut *object).unwrap_err();
        object.save(&mut Vec::new()).unwrap();
    }
}

/// Numbers that are as good as random, and the same each time.
fn numbers() -> impl FnMut() -> usize {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize
    }
}

#[test]
fn changed_modules_are_refused_or_run_and_harm_nobody() {
    let engine = engine();
    let whole = Hostile::default().bytes();
    let mut number = numbers();
    let (mut taken, mut made) = (0, 0);
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + number() % 3 {
            let place = number() % bytes.len();
            match number() % 4 {
                0 => drop(bytes.remove(place)),
                1 => bytes.insert(place, number() as u8),
                _ => bytes[place] = number() as u8,
            }
        }
        let Ok(module) = engine.compile(&bytes) else {
            continue;
        };
        taken += 1;
        let Ok(mut object) = module.restore("hostile::Thing", b"state", Age::Same) else {
            continue;
        };
        made += 1;
        // Whatever comes of it.
        let _ = touch(&mut *object);
        let _ = object.cancel(0, Some(vec![1]));
        let _ = object.save(&mut Vec::new());
    }
    // Many changes are in data, which none of this looks at.
    assert!(taken > 20 && made > 20, "{taken} taken, {made} made");
}
