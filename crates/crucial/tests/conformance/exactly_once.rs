//! E: each call executes once. Hostile bytes (A18).

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    Vec::new()
}
