//! Malicious modules: each is refused with the reason, or gives its callers errors, and never harms the host.

use std::task::Poll;
use std::time::{Duration, Instant};

use crucial_modules::{Engine, Limits};
use crucial_object::guest_abi::{MethodDescription, TypeDescription, pack};
use crucial_object::{EncodingVersion, Error, Instance, Invocation, Result, SessionId, encode};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const PANIC: &str = r#"(import "crucial" "panic" (func $panic (param i32 i32)))"#;

/// A successful reply without contents.
const DONE: &str = "(i64.const 0x10_0000_0001)";

/// The functions of a well-behaved module: name, signature and body.
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

/// A well-behaved module with another body of one function, and additions before and after its functions.
struct Hostile<'a> {
    before: &'a str,
    memory: &'a str,
    function: &'a str,
    body: &'a str,
    after: &'a str,
}

impl Default for Hostile<'_> {
    fn default() -> Self {
        Hostile {
            before: PANIC,
            memory: r#"(memory (export "memory") 1)"#,
            function: "",
            body: "",
            after: "",
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
            tracks_sessions: true,
            methods: vec![method],
        }];
        // At 0x40: success and the types. At 0x10: success. At 0x20: success without a ticket.
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
        let (before, memory, after) = (self.before, self.memory, self.after);
        format!(
            "(module {before} {memory} {functions} {after}
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
    module.restore("hostile::Thing", b"state", EncodingVersion::Same)
}

fn touch(object: &mut dyn Instance) -> Result<Poll<()>> {
    object.dispatch(Invocation {
        index: 0,
        args: b"arguments",
        caller: SessionId(1),
        again: true,
        ticket: &mut Some(vec![1, 2, 3]),
        out: &mut Vec::new(),
    })
}

#[test]
fn a_well_behaved_module_is_accepted() {
    let mut object = object(&Hostile::default()).unwrap();
    assert_eq!(touch(&mut *object), Ok(Poll::Ready(())));
    object.cancel(0, Some(vec![1])).unwrap();
    object.on_session_end(SessionId(1));
    object.save(&mut Vec::new()).unwrap();
}

#[test]
fn forbidden_modules_are_refused_with_the_reason() {
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
    let other = |before, memory, after| Hostile {
        before,
        memory,
        after,
        ..Hostile::default()
    };
    let memory = r#"(memory (export "memory") 1)"#;
    cases.extend([
        // Shared memory, and atomic instructions.
        (other(PANIC, r#"(memory (export "memory") 1 2 shared)"#, ""), "threads"),
        (
            other(PANIC, memory, "(func (drop (i32.atomic.load (i32.const 0))))"),
            "threads",
        ),
        // Arithmetic that differs between machines.
        (
            other(
                PANIC,
                memory,
                "(func (param v128 v128 v128) (result v128) (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2)))",
            ),
            "relaxed SIMD",
        ),
        // Two memories, a memory that is too large, and data outside of the memory.
        (other(PANIC, r#"(memory (export "memory") 1) (memory 1)"#, ""), "memor"),
        (other(PANIC, r#"(memory (export "memory") 4000)"#, ""), "memory"),
        (other(PANIC, memory, "(data (i32.const 100000) \"x\")"), "out of bounds"),
        // A table that is too large.
        (other(PANIC, memory, "(table 10000000 funcref)"), "table"),
        // A start function that does not end.
        (other(PANIC, memory, "(func $begin (loop (br 0))) (start $begin)"), "method_time_max"),
        // An import with the right name and another type.
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
        // A function that calls itself.
        let body = if reason.contains("stack") {
            "(call $recurse)"
        } else {
            body
        };
        let after = if reason.contains("stack") {
            "(func $recurse (call $recurse))"
        } else {
            ""
        };
        cases.push((
            Hostile {
                function,
                body,
                after,
                ..Hostile::default()
            },
            reason,
        ));
    }
    let engine = engine();
    for (hostile, reason) in cases {
        let start = Instant::now();
        let refused = engine.compile(&hostile.bytes()).err();
        let what = (hostile.before, hostile.memory, hostile.body, hostile.after);
        let refused = refused.unwrap_or_else(|| panic!("the module was accepted: {what:?}"));
        assert!(refused.to_string().contains(reason), "{what:?}: {refused}");
        assert!(start.elapsed() < Duration::from_secs(5), "{what:?}");
    }
    // Functions with other signatures.
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
fn misbehaviour_of_an_object_is_an_error_of_its_caller() {
    let hostile = |function, body, after| Hostile {
        function,
        body,
        after,
        ..Hostile::default()
    };
    // While an object is restored: the buffer or the reply is outside of the memory.
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
        // A status that does not exist; an error that cannot be decoded.
        (
            "crucial_restore",
            "(i32.store8 (i32.const 16) (i32.const 9)) (i64.const 0x10_0000_0001)",
            "has no valid status",
        ),
        (
            "crucial_restore",
            "(i32.store8 (i32.const 16) (i32.const 2)) (i32.store8 (i32.const 17) (i32.const 255)) (i64.const 0x10_0000_0002)",
            "cannot decode",
        ),
    ] {
        let error = object(&hostile(function, body, "")).err();
        let error = error
            .unwrap_or_else(|| panic!("{function} {body}"))
            .to_string();
        assert!(error.contains(reason), "{body}: {error}");
    }
    // While a method runs.
    let panics = "(call $panic (i32.const -1) (i32.const -1)) unreachable";
    for (body, reason) in [
        ("(i64.const 0x10_0000_0001)", "too short for a ticket"),
        ("(i64.const 0x10_0010_0000)", "outside of its memory"),
        ("(i64.const 0x10_7fff_ffff)", "reply_bytes_max"),
        (
            "(i32.store (i32.const 33) (i32.const 1000)) (i64.const 0x20_0000_0005)",
            "longer than the module's reply",
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
        ("(call $recurse) unreachable", "the stack overflowed"),
        (
            "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
            "instance_bytes_max",
        ),
    ] {
        let after = "(table 1 funcref) (func $recurse (call $recurse))";
        let mut object = object(&hostile("crucial_dispatch", body, after)).unwrap();
        let start = Instant::now();
        let error = touch(&mut *object).unwrap_err().to_string();
        assert!(error.contains(reason), "{body}: {error}");
        assert!(start.elapsed() < Duration::from_secs(2), "{body}");
        // The object can be called again, and saved.
        touch(&mut *object).unwrap_err();
        object.save(&mut Vec::new()).unwrap();
    }
}

#[test]
fn mutated_modules_are_refused_or_run_without_harm() {
    let engine = engine();
    let whole = Hostile::default().bytes();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut accepted, mut restored) = (0, 0);
    for _ in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..random.random_range(1..=3) {
            let position = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => drop(bytes.remove(position)),
                1 => bytes.insert(position, random.random()),
                _ => bytes[position] = random.random(),
            }
        }
        let Ok(module) = engine.compile(&bytes) else {
            continue;
        };
        accepted += 1;
        let Ok(mut object) = module.restore("hostile::Thing", b"state", EncodingVersion::Same)
        else {
            continue;
        };
        restored += 1;
        // The calls may fail, and must return.
        let _ = touch(&mut *object);
        let _ = object.cancel(0, Some(vec![1]));
        let _ = object.save(&mut Vec::new());
    }
    // Many mutations change only data, which these calls do not use.
    assert!(
        accepted > 20 && restored > 20,
        "{accepted} accepted, {restored} restored"
    );
}
