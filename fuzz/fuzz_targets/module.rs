//! Compiles arbitrary bytes as a module. If the module is accepted, its last bytes are used as a state and as arguments.
//!
//! `cargo +nightly fuzz run module seeds/module` starts with the well-behaved module of
//! `crates/modules/tests/hostile.rs`.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use crucial_modules::{Engine, Limits};
use crucial_object::{EncodingVersion, Invocation, SessionId};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let limits = Limits {
        module_bytes_max: 64 << 10,
        instance_bytes_max: 8 << 20,
        reply_bytes_max: 1 << 20,
        method_time_max: Duration::from_millis(20),
        ..Limits::default()
    };
    Engine::new(limits, None).expect("an engine")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let args = &data[data.len().saturating_sub(16)..];
    let Ok(module) = ENGINE.compile(data) else {
        return;
    };
    for info in module.types().to_vec() {
        for version in [EncodingVersion::Same, EncodingVersion::Older] {
            let Ok(mut object) = module.restore(&info.name, args, version) else {
                continue;
            };
            for index in 0..info.methods.len().min(8) {
                let mut ticket = Some(args.to_vec());
                let _ = object.dispatch(Invocation {
                    index,
                    args,
                    caller: SessionId(1),
                    again: true,
                    ticket: &mut ticket,
                    out: &mut Vec::new(),
                });
                let _ = object.cancel(index, ticket);
            }
            let _ = object.save(&mut Vec::new());
        }
    }
});
