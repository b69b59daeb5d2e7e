//! Word count, with cloud threads: each counts its texts and merges the counts into one shared
//! map, in one call.

use std::path::PathBuf;

use crucial::collections::{Map, Merge};
use crucial::{Result, Shared, cloud, thread};

use clap::Parser;
use crucial_examples::options::{parse, within};
use crucial_examples::wordcount::{Text, deal, files, generated, report, words};

/// Counts the words of text files.
#[derive(Parser)]
struct Options {
    /// A directory of text files, instead of generated texts
    directory: Option<PathBuf>,
    /// Number of threads
    #[arg(long, default_value_t = 4, value_parser = within(1..=1000u16))]
    threads: u16,
    /// Number of most frequent words to print
    #[arg(long, default_value_t = 10, value_parser = within(0..=usize::MAX))]
    top: usize,
    /// Number of generated texts
    #[arg(long, default_value_t = 12, conflicts_with = "directory", value_parser = within(1..=1_000_000u64))]
    texts: u64,
    /// Words of each generated text
    #[arg(long, default_value_t = 10_000, conflicts_with = "directory", value_parser = within(0..=usize::MAX))]
    words: usize,
    /// Seed of generated texts
    #[arg(long, default_value_t = 1, conflicts_with = "directory", value_parser = within(0..=u64::MAX))]
    seed: u64,
}

impl Options {
    fn texts(&self) -> Result<Vec<Text>> {
        match &self.directory {
            Some(directory) => Ok(files(directory)?),
            None => Ok(generated(self.texts, self.words, self.seed)),
        }
    }
}

#[cloud]
fn count(texts: &[Text], counts: &Shared<Map<String, u64>>) -> Result<()> {
    let entries = words(texts)?;
    counts.merge_all(entries, Merge::Sum)
}

#[crucial::main]
fn main() -> Result<()> {
    let options: Options = parse();
    let texts = options.texts()?;
    let parts = deal(&texts, options.threads.into());
    let counts = &Shared::new(Map::new())?;
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (parts.iter())
            .map(|texts| scope.spawn(count(texts, counts)))
            .collect();
        for thread in threads {
            thread.join()??;
        }
        Ok(())
    })??;
    report(counts.entries()?, options.top);
    Ok(())
}
