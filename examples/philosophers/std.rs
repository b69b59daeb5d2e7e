//! The dining philosophers, with std threads: each fork is a mutex.

use std::sync::Mutex;
use std::thread;

use crucial_examples::Result;

use clap::Parser;
use crucial_examples::options::{MILLIS_MAX, parse, within};
use crucial_examples::philosophers::{Dinner, Seats, report};

/// Philosophers sit around a table with a fork between any two, and need two forks to eat.
#[derive(Parser)]
struct Options {
    /// Number of philosophers
    #[arg(long, default_value_t = 5, value_parser = within(2..=1000u16))]
    philosophers: u16,
    /// Number of meals of each philosopher
    #[arg(long, default_value_t = 20, value_parser = within(0..=u64::MAX))]
    meals: u64,
    /// Longest duration of a meal, in microseconds
    #[arg(long, default_value_t = 1000, value_parser = within(0..=1000 * MILLIS_MAX))]
    meal_us: u64,
    /// Eat without forks, to see that the table detects it
    #[arg(long)]
    careless: bool,
}

impl Options {
    fn dinner(&self) -> Dinner {
        Dinner {
            philosophers: self.philosophers.into(),
            meals: self.meals,
            meal_us: self.meal_us,
            careless: self.careless,
        }
    }
}

/// The table, which detects neighbours that eat at the same time.
pub struct Table {
    /// The philosophers at the table.
    pub seats: Seats,
}

impl Table {
    /// Records that a philosopher begins to eat. Panics if a neighbour is eating.
    pub fn begin(&mut self, philosopher: u64) {
        self.seats.begin(philosopher);
    }

    /// Records that a philosopher has eaten.
    pub fn end(&mut self, philosopher: u64) {
        self.seats.end(philosopher);
    }

    /// The number of meals of each philosopher.
    pub fn meals(&self) -> Vec<u64> {
        self.seats.meals()
    }
}

fn dine(
    philosopher: usize,
    dinner: &Dinner,
    forks: &[Mutex<()>],
    table: &Mutex<Table>,
) -> Result<()> {
    let (first, second) = dinner.forks(philosopher);
    for meal in 0..dinner.meals {
        let _taken = match dinner.careless {
            true => None,
            false => Some((forks[first].lock(), forks[second].lock())),
        };
        table.lock().unwrap().begin(philosopher as u64);
        dinner.pause(philosopher, meal);
        table.lock().unwrap().end(philosopher as u64);
    }
    Ok(())
}

fn main() -> Result<()> {
    let options: Options = parse();
    let dinner = &options.dinner();
    let forks = (0..dinner.philosophers).map(|_| Mutex::new(()));
    let forks: &Vec<_> = &forks.collect();
    let seats = Seats::new(dinner.philosophers);
    let table = &Mutex::new(Table { seats });
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..dinner.philosophers)
            .map(|philosopher| scope.spawn(move || dine(philosopher, dinner, forks, table)))
            .collect();
        for thread in threads {
            thread.join()??;
        }
        Ok(())
    })?;
    report(&table.lock().unwrap().meals());
    Ok(())
}
