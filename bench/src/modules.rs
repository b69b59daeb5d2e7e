//! The cost of methods of uploaded types compared with native ones, inside the server: both are called as a server
//! calls its objects, with encoded arguments and results.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use crucial_modules::{Engine, Limits};
use crucial_object::{EncodingVersion, Instance, Invocation, SessionId, encode, registry};

use crate::Error;

// Links the types, which are called by their names.
use guest as _;

/// The goals. A small method costs at most this much more than a native one.
const SMALL_GOAL: Duration = Duration::from_nanos(300);
/// A computing method reaches at least this share of the native speed.
const COMPUTE_GOAL: f64 = 0.95;
/// A method that decodes and adds many numbers reaches at least this share of the native speed.
const ADD_GOAL: f64 = 0.5;

#[derive(Args)]
pub struct Options {
    /// Rounds, in which native and uploaded methods alternate
    #[arg(long, default_value_t = 21)]
    rounds: usize,
    /// Exit with an error if a goal is missed
    #[arg(long)]
    check: bool,
}

/// Builds the module of the types that are linked into this executable, as `crucial build` does.
fn module() -> Result<Vec<u8>, Error> {
    let manifest =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/modules/tests/guest/Cargo.toml");
    let target = std::env::temp_dir().join("crucial-bench-guest");
    let status = Command::new("cargo")
        .args(["rustc", "--lib", "--crate-type", "cdylib", "--release"])
        .args(["--target", "wasm32-unknown-unknown"])
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .args(["--config", "profile.release.overflow-checks=true"])
        .args(["--", "-C", "target-feature=+simd128"])
        .args(["-C", "link-arg=--export=__stack_pointer"])
        .status()?;
    if !status.success() {
        return Err("cargo cannot build the module".into());
    }
    let file = target.join("wasm32-unknown-unknown/release/guest.wasm");
    Ok(std::fs::read(file)?)
}

/// A method of an object, native or uploaded.
struct Subject {
    native: Box<dyn Instance>,
    uploaded: Box<dyn Instance>,
    index: usize,
    args: Vec<u8>,
}

/// Calls a method repeatedly, and returns the mean duration of a call.
fn time(
    instance: &mut dyn Instance,
    index: usize,
    args: &[u8],
    calls: u32,
) -> Result<Duration, Error> {
    let mut out = Vec::new();
    let start = Instant::now();
    for _ in 0..calls {
        out.clear();
        // The methods that are measured do not wait.
        let _ = instance.dispatch(Invocation {
            index,
            args,
            caller: SessionId(1),
            again: false,
            ticket: &mut None,
            out: &mut out,
        })?;
    }
    Ok(start.elapsed() / calls)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn run(options: &Options) -> Result<bool, Error> {
    let engine = Engine::new(Limits::default(), None)?;
    let module = engine.compile(&module()?)?;
    let subject = |type_name: &str, state: &[u8], method: &str, args: Vec<u8>| {
        let info =
            registry::find(type_name).ok_or("the type is not linked into this executable")?;
        let index = info.methods.iter().position(|known| known.name == method);
        Ok::<_, Error>(Subject {
            native: info.restore(state, EncodingVersion::Same)?,
            uploaded: module.restore(type_name, state, EncodingVersion::Same)?,
            index: index.ok_or("the type has no such method")?,
            args,
        })
    };
    let account = encode(&(0i64, None::<u64>, Vec::<u64>::new()))?;
    let numbers: Vec<f64> = (0..200 * 100).map(|value| value as f64 / 7.0).collect();
    let zeros = encode(&vec![0.0f64; numbers.len()])?;
    let subjects = [
        (
            "a small method: deposit(1)",
            20_000,
            subject("guest::Account", &account, "deposit", encode(&(1i64,))?)?,
        ),
        (
            "10 000 multiplications",
            200,
            subject(
                "guest::Account",
                &account,
                "product",
                encode(&(1.000_1f64, 10_000u64))?,
            )?,
        ),
        (
            "adding 200 x 100 f64, decoded",
            100,
            subject("guest::Vector", &zeros, "add", encode(&(numbers,))?)?,
        ),
    ];
    println!("| method | native | uploaded | uploaded - native | native / uploaded |");
    println!("|---|---|---|---|---|");
    let mut figures = Vec::new();
    for (what, calls, mut subject) in subjects {
        let (mut natives, mut uploadeds, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let Subject {
                native,
                uploaded,
                index,
                args,
            } = &mut subject;
            let native = time(&mut **native, *index, args, calls)?.as_nanos() as f64;
            let uploaded = time(&mut **uploaded, *index, args, calls)?.as_nanos() as f64;
            natives.push(native);
            uploadeds.push(uploaded);
            ratios.push(native / uploaded);
        }
        let (native, uploaded, ratio) = (median(natives), median(uploadeds), median(ratios));
        let more = uploaded - native;
        println!("| {what} | {native:.0} ns | {uploaded:.0} ns | {more:.0} ns | {ratio:.2} |");
        figures.push((more, ratio));
    }
    let goals = [
        (
            figures[0].0 <= SMALL_GOAL.as_nanos() as f64,
            "a small method costs at most 300 ns more",
        ),
        (
            figures[1].1 >= COMPUTE_GOAL,
            "multiplications run at 0.95 of the native speed",
        ),
        (
            figures[2].1 >= ADD_GOAL,
            "adding runs at 0.5 of the native speed",
        ),
    ];
    println!();
    for (met, goal) in goals {
        println!("{}: {goal}", if met { "met" } else { "MISSED" });
    }
    Ok(!options.check || goals.iter().all(|(met, _)| *met))
}
