//! The check of barriers, at which all calls of a round wait for each other.
//!
//! A barrier is not a sequential object: the calls of a round take effect *together*. So barriers have
//! their own check: whether the waits can be partitioned into rounds such that all waits of a round
//! were running at the same instant, and one of them is the leader.
//!
//! Rounds are formed in the order of their first return. The wait that returns first needs partners
//! that were called before its return. The best partners are the waits that return earliest (any other
//! choice can be exchanged for this one). Unanswered waits come last, since they may wait forever and
//! may be leader or not. So the check is exact and fast.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::{self, Debug};
use std::hash::Hash;

use crate::{History, Operation};

/// A wait. Its output is whether the call is the leader of its round.
pub type Wait<K> = Operation<K, (), bool>;

/// A wait that returned without a complete round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The barrier, as `Debug` shows it.
    pub object: String,
    /// The index of the wait in [`History::operations`].
    pub wait: usize,
    /// The process that waited.
    pub process: u64,
    /// The ticks of the call and of the return.
    pub times: (u64, u64),
    /// The number of possible leaders in the round: 0 or 1.
    pub leaders: usize,
    /// The number of possible followers in the round, less than `parties`.
    pub followers: usize,
    /// The number of waits that complete a round.
    pub parties: usize,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (called, returned) = self.times;
        write!(
            f,
            "barrier {}: [{called}, {returned}]  process {} returned, but its round of {} can have at most {} \
             leaders and {} followers",
            self.object, self.process, self.parties, self.leaders, self.followers
        )
    }
}

impl Error for Broken {}

/// Checks that each wait that returned was part of a complete round of `parties` waits with one leader. With
/// 0 or 1 parties, no call waits. A wait without an answer may have been part of a round.
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
/// The first wait, in the order of returns, that cannot have been part of a round.
pub fn check<K: Eq + Hash + Debug>(
    history: &History<K, (), bool>,
    parties: usize,
) -> Result<(), Broken> {
    let parties = parties.max(1);
    let mut order: Vec<(usize, &Wait<K>)> = history.operations().iter().enumerate().collect();
    order.sort_by_key(|(_, wait)| (returned(wait), wait.called));
    let mut barriers: Vec<Vec<(usize, &Wait<K>)>> = Vec::new();
    let mut numbers = HashMap::new();
    for (index, wait) in order {
        let number = *numbers.entry(&wait.object).or_insert(barriers.len());
        if number == barriers.len() {
            barriers.push(Vec::new());
        }
        barriers[number].push((index, wait));
    }
    barriers
        .into_iter()
        .try_for_each(|waits| check_one(waits, parties))
}

/// Checks the waits of one barrier, which are in the order of their returns, unanswered ones last.
fn check_one<K: Debug>(mut waits: Vec<(usize, &Wait<K>)>, parties: usize) -> Result<(), Broken> {
    while let Some(&(index, first)) = waits.first() {
        let Some((_, end)) = first.answer else {
            break;
        };
        let (mut leaders, mut followers) = (0, 0);
        waits.retain(|(_, wait)| {
            // A wait that was called after the first return belongs to a later round.
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
                wait: index,
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
