//! Calls of any method with any arguments on the library's objects.

#![no_main]

#[allow(dead_code, reason = "the other target uses the rest")]
#[path = "../../crates/core/tests/hostile_input/mod.rs"]
mod hostile_input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile_input::cell_args(data));
