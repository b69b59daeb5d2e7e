//! The Santa Claus problem (§6.3.3 of the paper), with std threads and monitors.

use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use clap::Parser;
use crucial_examples::Monitor;
use crucial_examples::options::{MILLIS_MAX, parse, within};
use crucial_examples::santa::{ELVES, ELVES_AT_A_TIME, Event, Kind, REINDEER, check};
use crucial_examples::say;

/// Santa, his reindeer and his elves.
#[derive(Parser)]
struct Options {
    /// Number of deliveries of toys before everybody goes home
    #[arg(long, default_value_t = 15, value_parser = within(0..=u64::MAX))]
    deliveries: u64,
    /// Longest duration of holidays, work and talks, in milliseconds
    #[arg(long, default_value_t = 20, value_parser = within(0..=MILLIS_MAX))]
    millis: u64,
}

/// The helpers of one kind that wait for Santa or are with him.
pub struct Group {
    size: u64,
    members: u64,
    round: u64,
    closed: bool,
}

impl Group {
    /// Returns an empty group of at most `size` helpers.
    pub fn new(size: u64) -> Group {
        Group {
            size,
            members: 0,
            round: 0,
            closed: false,
        }
    }
}

/// The monitor in which helpers wait for Santa, and Santa waits for helpers.
pub struct Lobby {
    /// The reindeer, who deliver toys when all have arrived.
    pub reindeer: Group,
    /// The elves, who consult Santa in small groups.
    pub elves: Group,
}

impl Lobby {
    fn group(&mut self, kind: Kind) -> &mut Group {
        match kind {
            Kind::Reindeer => &mut self.reindeer,
            Kind::Elf => &mut self.elves,
        }
    }
}

impl Lobby {
    /// A helper joins its group when the group has a free place. Returns `None` when everybody goes home.
    pub fn join(&mut self, kind: Kind) -> Poll<Option<u64>> {
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
    pub fn sleep(&self) -> Poll<Kind> {
        if self.reindeer.members == self.reindeer.size {
            Poll::Ready(Kind::Reindeer)
        } else if self.elves.members == self.elves.size {
            Poll::Ready(Kind::Elf)
        } else {
            Poll::Pending
        }
    }

    /// The group has finished, and other helpers may join.
    pub fn dismiss(&mut self, kind: Kind) {
        let group = self.group(kind);
        group.members = 0;
        group.round += 1;
    }

    /// Everybody goes home.
    pub fn close(&mut self) {
        self.reindeer.closed = true;
        self.elves.closed = true;
    }
}

/// A gate lets a whole group through when Santa opens it.
#[derive(Default)]
pub struct Gate {
    free: u64,
    closed: bool,
}

impl Gate {
    /// A helper waits for the gate and passes it. Returns false when everybody goes home.
    pub fn pass(&mut self) -> Poll<bool> {
        if self.free == 0 && !self.closed {
            return Poll::Pending;
        }
        self.free -= u64::from(!self.closed);
        Poll::Ready(!self.closed)
    }

    /// Everybody goes home.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Santa opens the gate for `size` helpers, and waits until all have passed.
    pub fn operate(&mut self, size: u64, opened: &mut Option<()>) -> Poll<()> {
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

/// The list of events.
#[derive(Default)]
pub struct Log {
    events: Vec<Event>,
}

impl Log {
    /// Appends an event.
    pub fn add(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Returns the whole value.
    pub fn events(&self) -> Vec<Event> {
        self.events.clone()
    }
}

/// The gates of one kind of helper.
#[derive(Clone)]
struct Gates {
    entry: Arc<Monitor<Gate>>,
    exit: Arc<Monitor<Gate>>,
}

/// The objects that Santa and all helpers share.
#[derive(Clone)]
struct NorthPole {
    lobby: Arc<Monitor<Lobby>>,
    reindeer: Gates,
    elves: Gates,
    log: Arc<Monitor<Log>>,
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
        thread::sleep(Duration::from_micros(self.millis * 10 * share));
    }
}

fn santa(pole: NorthPole, deliveries: u64) {
    let mut delivered = 0;
    while delivered < deliveries {
        let kind = pole.lobby.until(|lobby| lobby.sleep());
        let (gates, size) = match kind {
            Kind::Reindeer => (&pole.reindeer, REINDEER),
            Kind::Elf => (&pole.elves, ELVES_AT_A_TIME),
        };
        gates.entry.wait(|gate, opened| gate.operate(size, opened));
        gates.exit.wait(|gate, opened| gate.operate(size, opened));
        delivered += u64::from(kind == Kind::Reindeer);
        pole.lobby.call(|lobby| lobby.dismiss(kind));
    }
    pole.lobby.call(|lobby| lobby.close());
    pole.reindeer.entry.call(|gate| gate.close());
    pole.elves.entry.call(|gate| gate.close());
}

fn helper(pole: NorthPole, kind: Kind, helper: u64) {
    let gates = pole.gates(kind);
    loop {
        let round = pole.lobby.until(|lobby| lobby.join(kind));
        let Some(round) = round else {
            break;
        };
        if !gates.entry.until(|gate| gate.pass()) {
            break;
        }
        let event = Event {
            kind,
            helper,
            round,
        };
        pole.log.call(|log| log.add(event));
        pole.pause(helper, round);
        gates.exit.until(|gate| gate.pass());
        pole.pause(helper + 50, round);
    }
}

fn gates() -> Gates {
    Gates {
        entry: Arc::new(Monitor::new(Gate::default())),
        exit: Arc::new(Monitor::new(Gate::default())),
    }
}

fn north_pole(millis: u64) -> NorthPole {
    let lobby = Lobby {
        reindeer: Group::new(REINDEER),
        elves: Group::new(ELVES_AT_A_TIME),
    };
    NorthPole {
        lobby: Arc::new(Monitor::new(lobby)),
        reindeer: gates(),
        elves: gates(),
        log: Arc::new(Monitor::new(Log::default())),
        millis,
    }
}

/// Runs the problem until everybody has gone home, and returns the events.
fn run(deliveries: u64, millis: u64) -> Vec<Event> {
    let pole = north_pole(millis);
    let santas = pole.clone();
    let mut threads = vec![thread::spawn(move || santa(santas, deliveries))];
    for number in 0..REINDEER {
        let pole = pole.clone();
        threads.push(thread::spawn(move || helper(pole, Kind::Reindeer, number)));
    }
    for number in 0..ELVES {
        let pole = pole.clone();
        threads.push(thread::spawn(move || helper(pole, Kind::Elf, number)));
    }
    for thread in threads {
        thread.join().expect("the thread did not panic");
    }
    pole.log.call(|log| log.events())
}

fn main() -> Result<(), String> {
    let options: Options = parse();
    let events = run(options.deliveries, options.millis);
    say!("{}", check(&events, options.deliveries)?);
    Ok(())
}
