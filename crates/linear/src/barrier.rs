//! Barriers: all of a round wait for each other.
//!
//! A barrier is no sequential object: the calls of a round take effect *together*. So the check is
//! another one: whether the waits can be parted into rounds such that all waits of a round were
//! running at one instant, and one of them leads.
//!
//! Rounds are formed in the order of their first return. The wait that returns first needs others
//! that were called before that; which of them is the best choice is known: those that return first
//! (any other choice can be changed into this one), and unanswered ones only if nothing else is left,
//! since they can wait forever and can be leader or not. So this check is exact and fast.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::{self, Debug};
use std::hash::Hash;

use crate::{History, Operation};

/// A wait: no input; the output is whether it leads its round.
pub type Wait<K> = Operation<K, (), bool>;

/// A wait that returned, and was not one of a full round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The barrier, as `Debug` shows it.
    pub object: String,
    /// The place of the wait in [`History::operations`].
    pub wait: usize,
    /// Its process.
    pub process: u64,
    /// The ticks of its call and its return.
    pub times: (u64, u64),
    /// How many leaders (at most one) there could have been in its round.
    pub leaders: usize,
    /// How many others (one less than the parties) there could have been.
    pub followers: usize,
    /// How many parties make a round.
    pub parties: usize,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (called, returned) = self.times;
        write!(
            f,
            "barrier {}: [{called}, {returned}]  process {} returned in a round of {} with {} leaders \
             and {} others, and there is no better one",
            self.object, self.process, self.parties, self.leaders, self.followers
        )
    }
}

impl Error for Broken {}

/// Checks that each wait that returned was one of a full round of `parties`, with one leader. With 0
/// parties, as with 1, nobody waits. A wait without an answer may have been in a round or in none.
///
/// ```
/// use crucial_linear::barrier::{Wait, check};
///
/// let waits = [
///     Wait::called(0, "start", (), 0).returned(false, 3),
///     Wait::called(1, "start", (), 1).returned(true, 2),
/// ];
/// check(&waits.clone().into_iter().collect(), 2).unwrap();
/// assert!(check(&waits.into_iter().collect(), 3).is_err());
/// ```
///
/// # Errors
///
/// The first wait, in the order of the returns, that can not have been in a round.
pub fn check<K: Eq + Hash + Debug>(
    history: &History<K, (), bool>,
    parties: usize,
) -> Result<(), Broken> {
    let parties = parties.max(1);
    let mut order: Vec<(usize, &Wait<K>)> = history.operations().iter().enumerate().collect();
    order.sort_by_key(|(_, wait)| (returned(wait), wait.called));
    let mut barriers: Vec<Vec<(usize, &Wait<K>)>> = Vec::new();
    let mut numbers = HashMap::new();
    for (place, wait) in order {
        let number = *numbers.entry(&wait.object).or_insert(barriers.len());
        if number == barriers.len() {
            barriers.push(Vec::new());
        }
        barriers[number].push((place, wait));
    }
    barriers
        .into_iter()
        .try_for_each(|waits| check_one(waits, parties))
}

/// `waits` are in the order of their returns, the unanswered ones last.
fn check_one<K: Debug>(mut waits: Vec<(usize, &Wait<K>)>, parties: usize) -> Result<(), Broken> {
    while let Some(&(place, first)) = waits.first() {
        let Some((_, end)) = first.answer else {
            break;
        };
        let (mut leaders, mut followers) = (0, 0);
        waits.retain(|(_, wait)| {
            // One that returned before it was called is in no round.
            if wait.called > end {
                return true;
            }
            let leads = match wait.answer {
                Some((leads, _)) => leads,
                None => leaders == 0,
            };
            let (count, max) = match leads {
                true => (&mut leaders, 1),
                false => (&mut followers, parties - 1),
            };
            let joins = *count < max;
            *count += usize::from(joins);
            !joins
        });
        if leaders + followers < parties || first.called > end {
            return Err(Broken {
                object: format!("{:?}", first.object),
                wait: place,
                process: first.process,
                times: (first.called, end),
                leaders,
                followers,
                parties,
            });
        }
    }
    Ok(())
}

fn returned<K>(wait: &Wait<K>) -> u64 {
    wait.answer.map_or(u64::MAX, |(_, returned)| returned)
}
