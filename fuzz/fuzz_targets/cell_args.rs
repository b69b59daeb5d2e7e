//! Calls arbitrary methods of the library's objects with arbitrary arguments.

#![no_main]

#[path = "../../crates/node/tests/hostile_input/mod.rs"]
mod hostile_input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile_input::cell_args(data));
