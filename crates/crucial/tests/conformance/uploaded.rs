//! The rows of A and C that are about user types, once more: with the types uploaded to a server process that
//! was built without them.
//!
//! These rows need the `crucial` command of the package `crucial-cli`, so that package has this test as well and runs
//! these rows, and no others.

use std::path::Path;
use std::process::Command;

use crucial::{Error, Shared, SharedType};
use libtest_mimic::{Failed, Trial};

use crate::server::Server;
use crate::types::Probe;

/// The `crucial` command, in the test of the package that has it.
pub const COMMAND: Option<&str> = option_env!("CARGO_BIN_EXE_crucial");

/// The rows that are about user types, and the one about the roles of an executable.
const ROWS: [&str; 18] = [
    "a02_recreate_replaces_the_object_for_everybody",
    "a07_methods_of_user_types_run_on_the_server",
    "a13_an_object_gives_back_the_handle_that_it_holds",
    "a14_nested_calls_give_a_clear_error",
    "a15_cycles_of_handles_are_legal",
    "a16_a_method_that_creates_an_object_gives_a_clear_error",
    "a17_a_failing_method_says_what_and_where_and_harms_nothing_else",
    "a17_poison_is_cleared_or_recreated",
    "a17_a_method_that_refuses_says_why",
    "a18_wrong_calls_of_user_types",
    "a21_slow_and_waiting_methods_delay_no_other_object",
    "a25_arguments_of_all_shapes_travel",
    "a25_a_generic_type_takes_what_its_server_does_not_know",
    "c11_monitors_of_the_users_own_across_processes",
    "c11_who_does_not_wait_any_longer_gives_up_its_place",
    "c14_a_lock_of_the_users_own_comes_back_from_a_failed_thread",
    "c15_the_client_learns_of_a_reduction_without_polling",
    "h15_in_a_script_of_a_cloud_thread",
];

/// Of all trials those that are about user types.
pub fn rows(trials: Vec<Trial>) -> Vec<Trial> {
    let is_row = |trial: &Trial| ROWS.contains(&trial.name());
    let rows = trials.into_iter().filter(is_row);
    let rows: Vec<_> = rows.map(|trial| trial.with_kind("uploaded")).collect();
    assert_eq!(rows.len(), ROWS.len(), "a row has another name by now");
    rows
}

/// A server for a row that needs one of its own: one to which the types are uploaded, or this executable.
pub fn server() -> Result<Server, Failed> {
    let Some(command) = COMMAND else {
        return Server::start(&[]);
    };
    let server = without_types(command)?;
    upload(command, &server)?;
    Ok(server)
}

/// Starts a server that lacks the types, uploads them, and lets this process and its workers use it.
pub fn start(command: &str) -> Result<Server, Failed> {
    let server = without_types(command)?;
    server.use_here()?;
    let lacking = Shared::new(Probe::default());
    assert!(
        matches!(&lacking, Err(Error::UnknownType { type_name }) if type_name == Probe::NAME),
        "{lacking:?}"
    );
    upload(command, &server)?;
    Ok(server)
}

fn without_types(command: &str) -> Result<Server, Failed> {
    Server::fresh_of(&[command.to_owned(), "server".to_owned()], &[])
}

fn upload(command: &str, server: &Server) -> Result<(), Failed> {
    let manifest =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crucial/tests/uploaded/Cargo.toml");
    let mut build = Command::new(command);
    build.args(["build", "--manifest-path"]).arg(manifest);
    let module = output(&mut build)?;
    let mut push = Command::new(command);
    push.args(["push", &module])
        .env("CRUCIAL_CLUSTER", &server.address);
    let pushed = output(&mut push)?;
    assert!(pushed.contains(Probe::NAME), "{pushed}");
    Ok(())
}

fn output(command: &mut Command) -> Result<String, Failed> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned())
}
