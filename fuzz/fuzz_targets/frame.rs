//! Feeds arbitrary bytes in pieces to the frame decoders.

#![no_main]

#[path = "../../crates/core/tests/hostile_input/mod.rs"]
mod hostile_input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile_input::frame(data));
