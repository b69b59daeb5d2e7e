//! The Santa Claus problem (§6.3.3 of the paper), with shared objects for monitors, and cloud threads or
//! std threads over them.

use std::task::Poll;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use crucial::{Config, Error, PlatformKind, Result, Shared, cloud, shared, thread};
use crucial_examples::santa::{ELVES, ELVES_AT_A_TIME, Event, Kind, REINDEER, check};
use serde::{Deserialize, Serialize};

/// Santa, his reindeer and his elves.
#[derive(Parser)]
struct Options {
    /// Deliveries of toys until everybody goes home
    #[arg(long, default_value_t = 15)]
    deliveries: u64,
    /// Holidays, work and talks take up to so many milliseconds
    #[arg(long, default_value_t = 20)]
    millis: u64,
    /// What the helpers run in
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

/// The helpers of one kind that wait for Santa, or are with him.
#[derive(Serialize, Deserialize)]
struct Group {
    size: u64,
    members: u64,
    round: u64,
    closed: bool,
}

impl Group {
    fn new(size: u64) -> Group {
        Group {
            size,
            members: 0,
            round: 0,
            closed: false,
        }
    }
}

/// Where helpers wait for Santa, and Santa waits for helpers.
#[derive(Serialize, Deserialize)]
struct Lobby {
    reindeer: Group,
    elves: Group,
}

impl Lobby {
    fn group(&mut self, kind: Kind) -> &mut Group {
        match kind {
            Kind::Reindeer => &mut self.reindeer,
            Kind::Elf => &mut self.elves,
        }
    }
}

#[shared]
impl Lobby {
    /// A helper joins its group when there is room; `None` when everybody goes home.
    fn join(&mut self, kind: Kind) -> Poll<Option<u64>> {
        let group = self.group(kind);
        if group.closed {
            return Poll::Ready(None);
        }
        if group.members == group.size {
            return Poll::Pending;
        }
        group.members += 1;
        Poll::Ready(Some(group.round))
    }

    /// Santa sleeps until a group is complete. Reindeer go first.
    fn sleep(&self) -> Poll<Kind> {
        if self.reindeer.members == self.reindeer.size {
            Poll::Ready(Kind::Reindeer)
        } else if self.elves.members == self.elves.size {
            Poll::Ready(Kind::Elf)
        } else {
            Poll::Pending
        }
    }

    /// The group is done, and others may join.
    fn dismiss(&mut self, kind: Kind) {
        let group = self.group(kind);
        group.members = 0;
        group.round += 1;
    }

    /// Everybody goes home.
    fn close(&mut self) {
        self.reindeer.closed = true;
        self.elves.closed = true;
    }
}

/// A gate lets a whole group through when Santa opens it.
#[derive(Default, Serialize, Deserialize)]
struct Gate {
    free: u64,
    closed: bool,
}

#[shared]
impl Gate {
    /// A helper waits for the gate, and goes through; false when everybody goes home.
    fn pass(&mut self) -> Poll<bool> {
        if self.free == 0 && !self.closed {
            return Poll::Pending;
        }
        self.free -= u64::from(!self.closed);
        Poll::Ready(!self.closed)
    }

    /// Everybody goes home.
    fn close(&mut self) {
        self.closed = true;
    }

    /// Santa opens the gate for `size` helpers, and waits until all are through.
    fn operate(&mut self, size: u64, #[ticket] opened: &mut Option<()>) -> Poll<()> {
        if opened.is_none() {
            self.free = size;
            *opened = Some(());
        }
        if self.free == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// What happened.
#[derive(Serialize, Deserialize)]
struct Log {
    events: Vec<Event>,
}

#[shared]
impl Log {
    fn add(&mut self, event: Event) {
        self.events.push(event);
    }

    fn events(&self) -> Vec<Event> {
        self.events.clone()
    }
}

/// The gates of a kind of helper.
#[derive(Clone, Serialize, Deserialize)]
struct Gates {
    entry: Shared<Gate>,
    exit: Shared<Gate>,
}

/// What all share.
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

    /// Passes some time; not the same for everybody.
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
        log: Shared::new(Log { events: Vec::new() })?,
        millis,
    })
}

/// Runs the problem until all have gone home; what happened.
fn run(deliveries: u64, millis: u64) -> Result<Vec<Event>> {
    let pole = north_pole(millis)?;
    let mut threads = vec![thread::spawn(santa(pole.clone(), deliveries))];
    for number in 0..REINDEER {
        threads.push(thread::spawn(helper(pole.clone(), Kind::Reindeer, number)));
    }
    for number in 0..ELVES {
        threads.push(thread::spawn(helper(pole.clone(), Kind::Elf, number)));
    }
    for thread in threads {
        thread.join()??;
    }
    pole.log.events()
}

#[crucial::main]
fn main() -> Result<()> {
    let options = Options::parse();
    if options.variant == Variant::Objects {
        let mut config = Config::from_env()?;
        config.platform = PlatformKind::InProcess;
        crucial::init(config)?;
    }
    let events = run(options.deliveries, options.millis)?;
    println!(
        "{}",
        check(&events, options.deliveries).map_err(Error::Other)?
    );
    Ok(())
}
