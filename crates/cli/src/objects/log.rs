//! `crucial log`: lines of many writers.

use clap::Subcommand;
use crucial_object::{LogLine, Logger, Result, Shared};

use super::collections::in_pages;
use crate::lines::each;
use crate::print;
use crate::value::Answer;

#[derive(Subcommand)]
pub enum LogOperation {
    /// Appends a line of these words, or, with -, each line of standard input
    Write {
        #[arg(required = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Prints the lines
    Lines,
    /// Prints lines as they arrive, until the command is interrupted
    Follow,
}

pub(super) fn log(log: &Shared<Logger>, operation: LogOperation) -> Result<Answer> {
    match operation {
        LogOperation::Write { words } => {
            each(words, 1, |words| log.log(words.join(" "))).map(|()| Answer::done())
        }
        LogOperation::Lines => {
            let page = |last: Option<&LogLine>, _, count| {
                log.page(last.map_or(0, |last| last.number + 1), count)
            };
            let lines = in_pages(page)?;
            let lines = lines.iter().map(ToString::to_string);
            Ok(Answer::of(lines.collect::<Vec<_>>()))
        }
        LogOperation::Follow => {
            let mut next = 0;
            loop {
                let lines = log.read(next)?;
                next = lines.last().map_or(next, |line| line.number + 1);
                if !print::lines(lines)? {
                    return Ok(Answer::done());
                }
            }
        }
    }
}
