//! The dining philosophers (Dijkstra 1965): the behaviour of one philosopher.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::say;

pub use crucial_example_types::philosophers::Seats;

/// The arguments of each philosopher.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dinner {
    /// Number of philosophers and of forks.
    pub philosophers: usize,
    /// Number of meals of each philosopher.
    pub meals: u64,
    /// Longest duration of a meal, in microseconds.
    pub meal_us: u64,
    /// Whether the philosophers eat without forks.
    pub careless: bool,
}

impl Dinner {
    /// The forks beside a philosopher, the lower number first. All philosophers take them in this order, which
    /// prevents deadlock.
    pub fn forks(&self, philosopher: usize) -> (usize, usize) {
        let right = (philosopher + 1) % self.philosophers;
        (philosopher.min(right), philosopher.max(right))
    }

    /// Waits for a time that differs between threads.
    pub fn pause(&self, philosopher: usize, meal: u64) {
        let share = (philosopher as u64 * 37 + meal * 61) % 50 + 50;
        std::thread::sleep(Duration::from_micros(self.meal_us * share / 100));
    }
}

/// Prints the number of meals of each philosopher.
pub fn report(meals: &[u64]) {
    for (philosopher, meals) in meals.iter().enumerate() {
        say!("philosopher {philosopher}: {meals} meals");
    }
    say!(
        "{} meals, and nobody ate next to somebody who ate",
        meals.iter().sum::<u64>()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_no_neighbours_may_eat_together() {
        let mut seats = Seats::new(5);
        for philosopher in [0, 2] {
            seats.begin(philosopher);
        }
        seats.end(0);
        seats.begin(4);
        seats.end(4);
        assert_eq!(seats.meals(), [1, 0, 0, 0, 1]);
    }

    #[test]
    #[should_panic(expected = "philosopher 4 eats next to 0")]
    fn the_first_and_the_last_are_neighbours() {
        let mut seats = Seats::new(5);
        seats.begin(0);
        seats.begin(4);
    }

    #[test]
    fn forks_are_taken_in_one_order() {
        let dinner = Dinner {
            philosophers: 3,
            meals: 1,
            meal_us: 0,
            careless: false,
        };
        let forks: Vec<_> = (0..3).map(|p| dinner.forks(p)).collect();
        assert_eq!(forks, [(0, 1), (1, 2), (0, 2)]);
    }
}
