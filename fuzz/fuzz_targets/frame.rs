//! Feeds arbitrary bytes in pieces to the frame decoders.

#![no_main]

#[allow(dead_code, reason = "another target uses the rest")]
#[path = "../../crates/core/tests/hostile_input/mod.rs"]
mod hostile_input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile_input::frame(data));
