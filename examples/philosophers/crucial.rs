//! The dining philosophers, with cloud threads: each fork is a shared semaphore with one permit.

use crucial::sync::Semaphore;
use crucial::{Result, Shared, cloud, thread};

use clap::Parser;
use crucial_example_types::philosophers::Table;
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

#[cloud]
fn dine(
    philosopher: usize,
    dinner: &Dinner,
    forks: &[Shared<Semaphore>],
    table: &Shared<Table>,
) -> Result<()> {
    let (first, second) = dinner.forks(philosopher);
    for meal in 0..dinner.meals {
        let _taken = match dinner.careless {
            true => None,
            false => Some((forks[first].permit()?, forks[second].permit()?)),
        };
        table.begin(philosopher as u64)?;
        dinner.pause(philosopher, meal);
        table.end(philosopher as u64)?;
    }
    Ok(())
}

#[crucial::main]
fn main() -> Result<()> {
    let options: Options = parse();
    let dinner = &options.dinner();
    let forks = (0..dinner.philosophers).map(|_| Shared::new(Semaphore::new(1)));
    let forks: &Vec<_> = &forks.collect::<Result<_>>()?;
    let seats = Seats::new(dinner.philosophers);
    let table = &Shared::new(Table { seats })?;
    let threads = (0..dinner.philosophers)
        .map(|philosopher| thread::spawn(dine(philosopher, dinner, forks, table)));
    thread::join_all(threads)?;
    report(&table.meals()?);
    Ok(())
}
