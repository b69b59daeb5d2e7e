//! Removes the environment variables by which a platform configures a worker.
//!
//! A program that a worker starts inherits the worker's environment. With these variables in it, the program would
//! become a worker of the same platform. So a worker reads the variables and then removes them.
//!
//! The module exists for its `unsafe` code: changing the environment is safe only without other threads.

#![allow(unsafe_code)]

/// Removes variables from this process's environment. Returns false, and removes none, if the process has other
/// threads, since these may read the environment at the same time.
pub(crate) fn remove_variables(names: &[&str]) -> bool {
    if !is_only_thread() {
        return false;
    }
    for name in names {
        // SAFETY: no other thread reads or writes the environment: this is the only thread, and it starts none.
        unsafe { std::env::remove_var(name) };
    }
    true
}

fn is_only_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}
