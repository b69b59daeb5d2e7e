//! F12: what cloud threads print.

use std::process::Stdio;

use crucial::{cloud, thread};
use libtest_mimic::Trial;

use crate::Outcome;
use crate::program::Program;
use crate::trials;

pub fn trials() -> Vec<Trial> {
    trials![f12_lines_and_events_of_threads_appear_with_their_names]
}

#[cloud]
fn speak(times: u32) {
    for i in 0..times {
        println!("line {i}");
        eprintln!("error {i}");
    }
    tracing::info!(times, "spoke");
    tracing::debug!("not shown");
    print!("no end");
}

/// Programs of these tests.
pub fn program(name: &str) -> Option<crucial::Result<()>> {
    (name == "speak").then(|| {
        let thread = thread::Builder::new().name("parrot").spawn(speak(3))?;
        thread.join()?;
        println!("joined");
        Ok(())
    })
}

fn f12_lines_and_events_of_threads_appear_with_their_names() -> Outcome {
    let output = Program::command("speak")?.stdin(Stdio::null()).output()?;
    let stdout = String::from_utf8(output.stdout)?;
    assert_eq!(
        stdout,
        "[parrot] line 0\n[parrot] line 1\n[parrot] line 2\n[parrot] no end\njoined\n"
    );
    let stderr = String::from_utf8(output.stderr)?;
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(
        &lines[..3],
        ["[parrot] error 0", "[parrot] error 1", "[parrot] error 2"]
    );
    assert_eq!(lines.len(), 4, "{stderr}");
    assert!(
        lines[3].starts_with("[parrot] ") && lines[3].contains("spoke times=3"),
        "{stderr}"
    );
    Ok(())
}
