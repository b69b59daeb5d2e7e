//! J: the drop-in module. What these rows use of `std` is Crucial's.

use libtest_mimic::Trial;

use crate::trials;

mod channels;
mod failures;
mod lives;
mod sharing;

use channels::{
    j03_a_channel_ends_when_its_receiver_is_gone, j03_a_channel_ends_with_its_threads,
    j03_channels_travel_through_channels,
};
use failures::{
    j04_a_failed_call_is_an_error_at_join, j04_a_panic_poisons_and_a_retry_does_not,
    j04_the_lock_of_a_killed_thread_is_poisoned, j04_what_is_lent_is_unchanged_after_a_panic,
    j05_a_closure_only_builds_the_task,
};
use lives::{
    j03_an_arc_counts_the_threads_that_have_it,
    j03_rounds_of_new_primitives_run_in_constant_memory,
    j03_what_a_thread_passes_on_outlives_its_maker,
};
use sharing::{
    j07_a_held_lock_is_shared_with_its_guard, j07_once_cells_are_set_once,
    j07_readers_are_there_together, j07_statics_are_one_object_of_the_run,
    j07_threads_are_parked_and_unparked, j07_who_waits_here_goes_on_at_the_object,
};

pub use lives::program;

pub fn trials() -> Vec<Trial> {
    trials![
        j03_a_channel_ends_with_its_threads,
        j03_a_channel_ends_when_its_receiver_is_gone,
        j03_channels_travel_through_channels,
        j03_rounds_of_new_primitives_run_in_constant_memory,
        j03_an_arc_counts_the_threads_that_have_it,
        j03_what_a_thread_passes_on_outlives_its_maker,
        j04_a_panic_poisons_and_a_retry_does_not,
        j04_the_lock_of_a_killed_thread_is_poisoned,
        j04_what_is_lent_is_unchanged_after_a_panic,
        j04_a_failed_call_is_an_error_at_join,
        j05_a_closure_only_builds_the_task,
        j07_a_held_lock_is_shared_with_its_guard,
        j07_who_waits_here_goes_on_at_the_object,
        j07_statics_are_one_object_of_the_run,
        j07_once_cells_are_set_once,
        j07_readers_are_there_together,
        j07_threads_are_parked_and_unparked,
    ]
}
