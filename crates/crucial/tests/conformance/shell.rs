//! H: what a shell expects of a command: signals, pipes, standard input, its environment and exit status.

use std::process::{Command, Stdio};

use crucial::{Error, cloud, thread};
use libtest_mimic::Trial;

use crate::Outcome;
use crate::cli::{crucial, says};
use crate::program::Server;
use crate::trials;
use crate::uploaded::COMMAND;

pub fn trials() -> Vec<Trial> {
    trials![
        h14_a_closed_pipe_is_no_error,
        h15_in_a_script_of_a_cloud_thread,
    ]
}

fn h14_a_closed_pipe_is_no_error() -> Outcome {
    let server = Server::start(&[])?;
    says(&server, "list words push one two three")?;
    says(&server, "log events write it works")?;
    for words in [
        "list words all",
        "list words all --json",
        "log events follow",
        "set colours contains red",
    ] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = crucial(&server, words)?
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()?
            .wait_with_output()?;
        let error = String::from_utf8(output.stderr)?;
        let code = if words.contains("contains") { 3 } else { 0 };
        assert_eq!(
            (output.status.code(), error.as_str()),
            (Some(code), ""),
            "{words}"
        );
    }
    // Nor where an error is to be told.
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = crucial(&server, "list words remove 9")?;
    assert_eq!(command.stderr(writer).status()?.code(), Some(1));
    Ok(())
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
