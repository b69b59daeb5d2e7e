//! The wire format: its bytes, which `docs/protocol.md` shows, and what becomes of other bytes.

mod golden;
mod hostile;
mod hostile_input;
mod strategies;
