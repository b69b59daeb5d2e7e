//! Runs schedules, and stops at one that breaks a promise.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use crucial_sim::{Bug, Kind, run};

/// Simulates a cluster from seeds.
#[derive(Parser)]
struct Args {
    /// Seeds: FIRST..END.
    #[arg(long, default_value = "0..1000", value_parser = range)]
    seeds: (u64, u64),
    /// Lets faults overlap, at any time.
    #[arg(long)]
    overlapping: bool,
    /// Prints what happens.
    #[arg(long)]
    trace: bool,
    /// Plants each bug in turn, but for those that hardly any schedule shows, and says with which seed it is found.
    #[arg(long)]
    mutants: bool,
    /// Plants only the bugs with this in their names.
    #[arg(long, default_value = "", requires = "mutants")]
    only: String,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (first, end) = text.split_once("..").ok_or("FIRST..END is expected")?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
    Ok((number(first)?, number(end)?))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (first, end) = args.seeds;
    let begin = Instant::now();
    let kind = match args.overlapping {
        true => Kind::Overlapping,
        false => Kind::OneFault,
    };
    if args.mutants {
        return mutants((first, end), kind, &args);
    }
    let (mut operations, mut faults, mut deaths) = (0, 0, 0);
    let (mut lost, mut undecided, mut time_ms, mut messages) = (0, 0, 0, 0);
    for seed in first..end {
        match run(seed, kind, None, args.trace) {
            Ok(report) => {
                operations += report.operations;
                faults += report.faults;
                deaths += report.deaths;
                lost += report.lost;
                undecided += report.undecided;
                time_ms += report.time_ms;
                messages = messages.max(report.messages_max);
            }
            Err(broken) => {
                println!("seed {}: {}", broken.seed, broken.what);
                let overlapping = if args.overlapping {
                    " --overlapping"
                } else {
                    ""
                };
                println!(
                    "again: sim --seeds {seed}..{}{overlapping} --trace",
                    seed + 1
                );
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{} schedules hold: {operations} requests, {faults} faults, {deaths} clients died, {lost} objects of one replica lost, {undecided} histories undecided, at most {messages} messages a second between servers, {} s simulated in {:.1} s",
        end - first,
        time_ms / 1000,
        begin.elapsed().as_secs_f64(),
    );
    ExitCode::SUCCESS
}

fn mutants((first, end): (u64, u64), kind: Kind, args: &Args) -> ExitCode {
    let mut missed = 0;
    // A planted bug may panic; the report is enough.
    std::panic::set_hook(Box::new(|_| {}));
    for bug in Bug::all() {
        let is_named = format!("{bug:?}").contains(&args.only);
        if !is_named || args.only.is_empty() && bug.is_rare() {
            continue;
        }
        let mut seeds = (first..end).filter(|seed| bug.may_show_in(*seed));
        match seeds.find_map(|seed| run(seed, kind, Some(bug), args.trace).err()) {
            Some(broken) => {
                let what = broken.what.lines().next().unwrap_or_default();
                let what: String = what.chars().take(120).collect();
                println!("{bug:?}: seed {}: {what}", broken.seed);
            }
            None => {
                missed += 1;
                println!("{bug:?}: not found");
            }
        }
    }
    if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
