//! Feeds arbitrary bytes in pieces to the frame decoders.

#![no_main]

#[path = "../../crates/proto/tests/frames/hostile_input.rs"]
mod hostile_input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile_input::frame(data));
