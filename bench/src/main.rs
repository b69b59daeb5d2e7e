//! Measurements against peers, one command each: see `bench/README.md`.

#![allow(
    unexpected_cfgs,
    reason = "the uploaded types have further versions for tests"
)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod barrier;
mod closed_loop;
mod cluster;
mod latency;
mod modules;
mod objects;
mod redis;
mod sample;
mod server;
mod spawn;
mod throughput;
mod value;

/// Measures Crucial against its peers, side by side.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A small call over loopback, one client thread, against a Redis GET
    Latency(latency::Options),
    /// Spawn and join of a cloud thread that does nothing
    Spawn(spawn::Options),
    /// 1 KB values, many connections in a closed loop, one server core, against Redis; and the cost of completion
    /// records
    Throughput(throughput::Options),
    /// The wait at a barrier of many parties, against a barrier made of Redis lists
    Barrier(barrier::Options),
    /// Methods of uploaded types against native ones, inside the server
    Modules(modules::Options),
    /// Three servers: the cost of a second replica, and the effect on readers when a server crashes and another joins
    Cluster(cluster::Options),
    /// A million small objects: memory and latency
    Objects(objects::Options),
}

/// The error of a measurement.
type Error = Box<dyn std::error::Error>;

#[crucial::main]
fn main() -> ExitCode {
    let options = Options::parse();
    if cfg!(debug_assertions) {
        eprintln!(
            "a debug build gives no meaningful figures: use cargo run --release -p crucial-bench -- .."
        );
        return ExitCode::FAILURE;
    }
    println!("{}\n", sample::command());
    let met = match options.command {
        Command::Latency(options) => latency::run(&options),
        Command::Spawn(options) => spawn::run(&options),
        Command::Throughput(options) => throughput::run(&options).map(|()| true),
        Command::Barrier(options) => barrier::run(&options),
        Command::Modules(options) => modules::run(&options),
        Command::Objects(options) => objects::run(&options),
        Command::Cluster(options) => cluster::run(&options),
    };
    match met {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("a goal was missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
