//! The bytes of a connection, in pieces, through the frame decoders.

#![no_main]

#[allow(dead_code, reason = "the other target uses the rest")]
#[path = "../../crates/core/tests/hostile_input/mod.rs"]
mod hostile_input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile_input::frame(data));
