//! Who sits where; std threads use it as it is.

use serde::{Deserialize, Serialize};

/// Who eats, and how often each has eaten.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seats {
    eating: Vec<bool>,
    meals: Vec<u64>,
}

impl Seats {
    /// An empty table.
    pub fn new(philosophers: usize) -> Seats {
        Seats {
            eating: vec![false; philosophers],
            meals: vec![0; philosophers],
        }
    }

    /// A philosopher begins to eat.
    ///
    /// # Panics
    ///
    /// If a neighbour eats: they would share a fork.
    pub fn begin(&mut self, philosopher: usize) {
        let count = self.eating.len();
        for neighbour in [philosopher + count - 1, philosopher + 1] {
            let neighbour = neighbour % count;
            assert!(
                !self.eating[neighbour],
                "philosopher {philosopher} eats next to {neighbour}, who eats"
            );
        }
        self.eating[philosopher] = true;
    }

    /// A philosopher has eaten.
    ///
    /// # Panics
    ///
    /// If it did not eat.
    pub fn end(&mut self, philosopher: usize) {
        let ate = std::mem::take(&mut self.eating[philosopher]);
        assert!(
            ate,
            "philosopher {philosopher} ends a meal that never began"
        );
        self.meals[philosopher] += 1;
    }

    /// How often each has eaten.
    pub fn meals(&self) -> Vec<u64> {
        self.meals.clone()
    }
}
