//! The Santa Claus problem (§6.3.3 of the paper), with std threads, mutexes and condition variables.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use clap::Parser;
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
struct Group {
    size: u64,
    members: u64,
    round: u64,
}

/// The groups in the lobby.
struct Groups {
    /// The reindeer, who deliver toys when all have arrived.
    reindeer: Group,
    /// The elves, who consult Santa in small groups.
    elves: Group,
    closed: bool,
}

impl Groups {
    fn of(&mut self, kind: Kind) -> &mut Group {
        match kind {
            Kind::Reindeer => &mut self.reindeer,
            Kind::Elf => &mut self.elves,
        }
    }

    /// The kind whose group is complete. Reindeer go first.
    fn complete(&self) -> Option<Kind> {
        let complete = |group: &Group| group.members == group.size;
        if complete(&self.reindeer) {
            Some(Kind::Reindeer)
        } else if complete(&self.elves) {
            Some(Kind::Elf)
        } else {
            None
        }
    }
}

/// Where helpers wait for Santa, and Santa waits for helpers.
struct Lobby {
    groups: Mutex<Groups>,
    changed: Condvar,
}

impl Lobby {
    fn new() -> Lobby {
        let group = |size| Group {
            size,
            members: 0,
            round: 0,
        };
        let groups = Groups {
            reindeer: group(REINDEER),
            elves: group(ELVES_AT_A_TIME),
            closed: false,
        };
        Lobby {
            groups: Mutex::new(groups),
            changed: Condvar::new(),
        }
    }

    /// A helper joins its group when the group has a free place. Returns `None` when everybody goes home.
    fn join(&self, kind: Kind) -> Option<u64> {
        let groups = self.groups.lock().unwrap();
        let is_full = |groups: &mut Groups| {
            let group = groups.of(kind);
            group.members == group.size && !groups.closed
        };
        let mut groups = self.changed.wait_while(groups, is_full).unwrap();
        if groups.closed {
            return None;
        }
        let group = groups.of(kind);
        group.members += 1;
        let round = group.round;
        self.changed.notify_all();
        Some(round)
    }

    /// Santa sleeps until a group is complete.
    fn sleep(&self) -> Kind {
        let mut groups = self.groups.lock().unwrap();
        loop {
            match groups.complete() {
                Some(kind) => return kind,
                None => groups = self.changed.wait(groups).unwrap(),
            }
        }
    }

    /// The group has finished, and other helpers may join.
    fn dismiss(&self, kind: Kind) {
        let mut groups = self.groups.lock().unwrap();
        let group = groups.of(kind);
        group.members = 0;
        group.round += 1;
        self.changed.notify_all();
    }

    /// Everybody goes home.
    fn close(&self) {
        self.groups.lock().unwrap().closed = true;
        self.changed.notify_all();
    }
}

/// How many may pass a gate, and whether it is closed for good.
#[derive(Default)]
struct Passage {
    free: u64,
    closed: bool,
}

/// A gate lets a whole group through when Santa opens it.
#[derive(Default)]
struct Gate {
    passage: Mutex<Passage>,
    changed: Condvar,
}

impl Gate {
    /// A helper waits for the gate and passes it. Returns false when everybody goes home.
    fn pass(&self) -> bool {
        let passage = self.passage.lock().unwrap();
        let is_shut = |passage: &mut Passage| passage.free == 0 && !passage.closed;
        let mut passage = self.changed.wait_while(passage, is_shut).unwrap();
        if passage.closed {
            return false;
        }
        passage.free -= 1;
        self.changed.notify_all();
        true
    }

    /// Everybody goes home.
    fn close(&self) {
        self.passage.lock().unwrap().closed = true;
        self.changed.notify_all();
    }

    /// Santa opens the gate for `size` helpers, and waits until all have passed.
    fn operate(&self, size: u64) {
        let mut passage = self.passage.lock().unwrap();
        passage.free = size;
        self.changed.notify_all();
        drop(self.changed.wait_while(passage, |passage| passage.free > 0));
    }
}

/// The gates of one kind of helper.
#[derive(Default)]
struct Gates {
    entry: Gate,
    exit: Gate,
}

/// What Santa and all helpers share.
struct NorthPole {
    lobby: Lobby,
    reindeer: Gates,
    elves: Gates,
    log: Mutex<Vec<Event>>,
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

fn santa(pole: Arc<NorthPole>, deliveries: u64) {
    let mut delivered = 0;
    while delivered < deliveries {
        let kind = pole.lobby.sleep();
        let (gates, size) = match kind {
            Kind::Reindeer => (&pole.reindeer, REINDEER),
            Kind::Elf => (&pole.elves, ELVES_AT_A_TIME),
        };
        gates.entry.operate(size);
        gates.exit.operate(size);
        delivered += u64::from(kind == Kind::Reindeer);
        pole.lobby.dismiss(kind);
    }
    pole.lobby.close();
    pole.reindeer.entry.close();
    pole.elves.entry.close();
}

fn helper(pole: Arc<NorthPole>, kind: Kind, helper: u64) {
    let gates = pole.gates(kind);
    while let Some(round) = pole.lobby.join(kind) {
        if !gates.entry.pass() {
            break;
        }
        let event = Event {
            kind,
            helper,
            round,
        };
        pole.log.lock().unwrap().push(event);
        pole.pause(helper, round);
        gates.exit.pass();
        pole.pause(helper + 50, round);
    }
}

/// Runs the problem until everybody has gone home, and returns the events.
fn run(deliveries: u64, millis: u64) -> Vec<Event> {
    let pole = Arc::new(NorthPole {
        lobby: Lobby::new(),
        reindeer: Gates::default(),
        elves: Gates::default(),
        log: Mutex::default(),
        millis,
    });
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
    std::mem::take(&mut *pole.log.lock().unwrap())
}

fn main() -> Result<(), String> {
    let options: Options = parse();
    let events = run(options.deliveries, options.millis);
    say!("{}", check(&events, options.deliveries)?);
    Ok(())
}
