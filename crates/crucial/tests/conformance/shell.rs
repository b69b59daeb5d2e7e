//! H: what a shell expects of a command: signals, pipes, standard input, its environment and exit status.

use std::process::Command;

use crucial::{Error, cloud, thread};
use libtest_mimic::Trial;

use crate::Outcome;
use crate::cli::says;
use crate::program::Server;
use crate::trials;
use crate::uploaded::COMMAND;

pub fn trials() -> Vec<Trial> {
    trials![h15_in_a_script_of_a_cloud_thread,]
}

/// What a script says.
#[cloud]
fn script(script: String, server: String) -> crucial::Result<String> {
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("CRUCIAL_CLUSTER", server)
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).map_err(Error::other)
}

/// It has a worker's environment, and is none. Also of the `crucial` command, where there is one.
fn h15_in_a_script_of_a_cloud_thread() -> Outcome {
    let server = Server::start(&[])?;
    let crucial = match COMMAND {
        Some(command) => format!("'{command}'"),
        None => format!("'{}' crucial", std::env::current_exe()?.display()),
    };
    let words = format!(
        "test -n \"$AWS_LAMBDA_RUNTIME_API\" && {crucial} counter hits add 5 && \
         {crucial} mutex lock run -- {crucial} counter hits add 2"
    );
    let said = thread::spawn(script(words, server.address.clone())).join()??;
    assert_eq!(said, "5\n7\n");
    assert_eq!(says(&server, "counter hits get")?, "7");
    Ok(())
}
