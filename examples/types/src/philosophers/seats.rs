//! The seats at the table. The std-thread version uses them, too.

use serde::{Deserialize, Serialize};

/// Which philosophers are eating, and the number of meals of each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seats {
    eating: Vec<bool>,
    meals: Vec<u64>,
}

impl Seats {
    /// Returns a table at which no philosopher eats.
    pub fn new(philosophers: usize) -> Seats {
        Seats {
            eating: vec![false; philosophers],
            meals: vec![0; philosophers],
        }
    }

    /// Records that a philosopher begins to eat.
    ///
    /// # Panics
    ///
    /// If a neighbour is eating, since both need the fork between them.
    pub fn begin(&mut self, philosopher: u64) {
        let philosopher = usize::try_from(philosopher).expect("a philosopher sits at the table");
        let count = self.eating.len();
        for neighbour in [philosopher + count - 1, philosopher + 1] {
            let neighbour = neighbour % count;
            assert!(
                !self.eating[neighbour],
                "philosopher {philosopher} eats next to {neighbour}, who is eating"
            );
        }
        self.eating[philosopher] = true;
    }

    /// Records that a philosopher has eaten.
    ///
    /// # Panics
    ///
    /// If the philosopher was not eating.
    pub fn end(&mut self, philosopher: u64) {
        let philosopher = usize::try_from(philosopher).expect("a philosopher sits at the table");
        let ate = std::mem::take(&mut self.eating[philosopher]);
        assert!(
            ate,
            "philosopher {philosopher} ends a meal that has not begun"
        );
        self.meals[philosopher] += 1;
    }

    /// The number of meals of each philosopher.
    pub fn meals(&self) -> Vec<u64> {
        self.meals.clone()
    }
}
