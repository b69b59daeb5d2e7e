//! What a platform says to a worker in the environment, and to nobody else.
//!
//! A program that a worker starts would take the variables to be said to itself, and become a worker of the same
//! platform. So a worker reads them, and takes them out.
//!
//! `unsafe` stands here for what that needs.

#![allow(unsafe_code)]

/// Takes variables out of this process's environment. Whether it did: with a second thread there is no way to know
/// who reads them at the same time.
pub(crate) fn take_out(names: &[&str]) -> bool {
    if !is_only_thread() {
        return false;
    }
    for name in names {
        // SAFETY: nobody reads or writes the environment meanwhile, as this is the only thread, and it starts none.
        unsafe { std::env::remove_var(name) };
    }
    true
}

fn is_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}
