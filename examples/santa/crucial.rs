//! The Santa Claus problem (§6.3.3 of the paper), with shared objects for monitors, and cloud threads or
//! std threads over them.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use crucial::{Config, Error, PlatformKind, Result, Shared, cloud, thread};
use crucial_example_types::santa::{Gate, Group, Lobby, Log};
use crucial_examples::options::{MILLIS_MAX, parse, within};
use crucial_examples::santa::{ELVES, ELVES_AT_A_TIME, Event, Kind, REINDEER, check};
use crucial_examples::say;
use serde::{Deserialize, Serialize};

/// Santa, his reindeer and his elves.
#[derive(Parser)]
struct Options {
    /// Number of deliveries of toys before everybody goes home
    #[arg(long, default_value_t = 15, value_parser = within(0..=u64::MAX))]
    deliveries: u64,
    /// Longest duration of holidays, work and talks, in milliseconds
    #[arg(long, default_value_t = 20, value_parser = within(0..=MILLIS_MAX))]
    millis: u64,
    /// What the helpers run as
    #[arg(long, value_enum, default_value_t = Variant::Cloud)]
    variant: Variant,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Variant {
    /// Threads of this process, over shared objects
    Objects,
    /// Cloud threads, over shared objects
    Cloud,
}

/// The gates of one kind of helper.
#[derive(Clone, Serialize, Deserialize)]
struct Gates {
    entry: Shared<Gate>,
    exit: Shared<Gate>,
}

/// The objects that Santa and all helpers share.
#[derive(Clone, Serialize, Deserialize)]
struct NorthPole {
    lobby: Shared<Lobby>,
    reindeer: Gates,
    elves: Gates,
    log: Shared<Log>,
    millis: u64,
}

impl NorthPole {
    fn gates(&self, kind: Kind) -> &Gates {
        match kind {
            Kind::Reindeer => &self.reindeer,
            Kind::Elf => &self.elves,
        }
    }

    /// Waits for a time that differs between threads.
    fn pause(&self, who: u64, round: u64) {
        let share = (who * 37 + round * 61) % 100;
        std::thread::sleep(Duration::from_micros(self.millis * 10 * share));
    }
}

#[cloud]
fn santa(pole: NorthPole, deliveries: u64) -> Result<()> {
    let mut delivered = 0;
    while delivered < deliveries {
        let kind = pole.lobby.sleep()?;
        let (gates, size) = match kind {
            Kind::Reindeer => (&pole.reindeer, REINDEER),
            Kind::Elf => (&pole.elves, ELVES_AT_A_TIME),
        };
        gates.entry.operate(size)?;
        gates.exit.operate(size)?;
        delivered += u64::from(kind == Kind::Reindeer);
        pole.lobby.dismiss(kind)?;
    }
    pole.lobby.close()?;
    pole.reindeer.entry.close()?;
    pole.elves.entry.close()
}

#[cloud]
fn helper(pole: NorthPole, kind: Kind, helper: u64) -> Result<()> {
    let gates = pole.gates(kind);
    loop {
        let round = pole.lobby.join(kind)?;
        let Some(round) = round else {
            break Ok(());
        };
        if !gates.entry.pass()? {
            break Ok(());
        }
        let event = Event {
            kind,
            helper,
            round,
        };
        pole.log.add(event)?;
        pole.pause(helper, round);
        gates.exit.pass()?;
        pole.pause(helper + 50, round);
    }
}

fn gates() -> Result<Gates> {
    Ok(Gates {
        entry: Shared::new(Gate::default())?,
        exit: Shared::new(Gate::default())?,
    })
}

fn north_pole(millis: u64) -> Result<NorthPole> {
    let lobby = Lobby {
        reindeer: Group::new(REINDEER),
        elves: Group::new(ELVES_AT_A_TIME),
    };
    Ok(NorthPole {
        lobby: Shared::new(lobby)?,
        reindeer: gates()?,
        elves: gates()?,
        log: Shared::new(Log::default())?,
        millis,
    })
}

/// Runs the problem until everybody has gone home, and returns the events.
fn run(deliveries: u64, millis: u64) -> Result<Vec<Event>> {
    let pole = north_pole(millis)?;
    let mut threads = vec![thread::spawn(santa(pole.clone(), deliveries))];
    for number in 0..REINDEER {
        threads.push(thread::spawn(helper(pole.clone(), Kind::Reindeer, number)));
    }
    for number in 0..ELVES {
        threads.push(thread::spawn(helper(pole.clone(), Kind::Elf, number)));
    }
    thread::join_all(threads)?;
    pole.log.events()
}

#[crucial::main]
fn main() -> Result<()> {
    let options: Options = parse();
    if options.variant == Variant::Objects {
        let mut config = Config::from_env()?;
        config.platform = Some(PlatformKind::InProcess);
        crucial::init(config)?;
    }
    let events = run(options.deliveries, options.millis)?;
    say!(
        "{}",
        check(&events, options.deliveries).map_err(Error::Other)?
    );
    Ok(())
}
