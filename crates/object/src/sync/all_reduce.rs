//! All-reduce: every party gives a vector, and gets the reduction of all.

use std::collections::BTreeMap;
use std::task::Poll;

use serde::{Deserialize, Serialize};

use crate::float::Float;
use crate::valid::is_new;
use crate::{Error, Result, Wake, shared};

/// How numbers become one. A result that is not a number is always the same NaN (positive, quiet, without a
/// payload).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// The smallest, with -0.0 below 0.0; a NaN counts only if all are.
    Min,
    /// The largest, with 0.0 above -0.0; a NaN counts only if all are.
    Max,
    /// Their sum divided by their number.
    Mean,
}

impl Reduction {
    /// Reduces numbers, one after the other; `None` without numbers.
    pub(crate) fn of(self, mut values: impl Iterator<Item = f64>) -> Option<f64> {
        let first = values.next()?;
        let mut count = 1.0;
        let counted = values.inspect(|_| count += 1.0);
        let reduced = match self {
            Reduction::Sum | Reduction::Mean => counted.fold(first, |sum, value| sum + value),
            Reduction::Min => counted.fold(first, f64::smaller),
            Reduction::Max => counted.fold(first, f64::larger),
        };
        let result = match self {
            Reduction::Mean => reduced / count,
            _ => reduced,
        };
        Some(result.canonical())
    }
}

/// A reusable meeting point: each party gives a vector of one length, in one call, which returns the
/// element-wise reduction of all once the last has come. As MPI's `Allreduce`; the paper's auto-reduce
/// (§6.3.1).
///
/// Vectors are reduced in the order of their ranks, so that floating-point results do not depend on who came
/// first. A party that gives up or dies while it waits takes its vector back.
///
/// ```
/// use crucial::Shared;
/// use crucial::sync::{AllReduce, Reduction};
///
/// let sums = Shared::new(AllReduce::new(2, Reduction::Sum))?;
/// let first = sums.deferred().contribute(0, vec![1.0, 2.0]);
/// assert_eq!(sums.contribute(1, vec![10.0, 20.0])?, [11.0, 22.0]);
/// assert_eq!(first.wait()?, [11.0, 22.0]);
/// assert_eq!((sums.last()?, sums.waiting()?), (vec![11.0, 22.0], 0));
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AllReduce {
    parties: u64,
    how: Reduction,
    round: u64,
    /// The values that were given in this round, by rank.
    given: BTreeMap<u64, Vec<f64>>,
    /// The result of the last round that was completed.
    result: Vec<f64>,
    /// The last round that was ended by a reset.
    broken: Option<u64>,
}

impl AllReduce {
    /// A meeting point for `parties` threads, at least one.
    pub const fn new(parties: usize, how: Reduction) -> AllReduce {
        AllReduce {
            parties: if parties == 0 { 1 } else { parties as u64 },
            how,
            round: 0,
            given: BTreeMap::new(),
            result: Vec::new(),
            broken: None,
        }
    }

    fn take_back(&mut self, (round, rank): (u64, u64)) {
        if round == self.round {
            self.given.remove(&rank);
        }
    }

    fn reduce(&mut self) {
        let given = std::mem::take(&mut self.given);
        let vectors: Vec<Vec<f64>> = given.into_values().collect();
        let length = vectors.first().map_or(0, Vec::len);
        self.result = (0..length)
            .filter_map(|index| self.how.of(vectors.iter().map(|vector| vector[index])))
            .collect();
        self.round += 1;
    }

    fn check(&self, rank: u64, values: &[f64]) -> Result<()> {
        let refuse = |detail: String| {
            Err(Error::BadArguments {
                what: "AllReduce::contribute".to_owned(),
                detail,
            })
        };
        if rank >= self.parties {
            return refuse(format!("rank {rank} of {} parties", self.parties));
        }
        if self.given.contains_key(&rank) {
            return refuse(format!("rank {rank} has contributed to this round already"));
        }
        match self.given.values().next() {
            Some(first) if first.len() != values.len() => refuse(format!(
                "{} numbers, where others of this round gave {}",
                values.len(),
                first.len()
            )),
            _ => Ok(()),
        }
    }
}

#[shared(name = "crucial::AllReduce", crate = crate)]
impl AllReduce {
    /// Nobody has come.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        is_new(self.parties > 0, "at least one party")?;
        is_new(
            self.given.is_empty() && self.result.is_empty(),
            "no vectors",
        )?;
        is_new(self.round == 0 && self.broken.is_none(), "round 0")
    }

    /// Gives `values` as the party `rank` (0, 1, .. parties - 1), and blocks until all parties have given theirs.
    /// Returns the reduction.
    ///
    /// # Errors
    ///
    /// [`Error::BadArguments`] if the rank is not below the number of parties or has contributed to this round
    /// already, or the vector is not as long as the others'; [`Error::Broken`] if there is a [reset](AllReduce::reset) meanwhile.
    #[fallible]
    pub fn contribute(
        &mut self,
        rank: u64,
        values: Vec<f64>,
        #[ticket(cancel = Self::take_back)] given: &mut Option<(u64, u64)>,
    ) -> Poll<Result<Vec<f64>>> {
        match *given {
            None => {
                if let Err(refused) = self.check(rank, &values) {
                    return Poll::Ready(Err(refused));
                }
                self.given.insert(rank, values);
                if self.given.len() as u64 >= self.parties {
                    self.reduce();
                    return Poll::Ready(Ok(self.result.clone()));
                }
                *given = Some((self.round, rank));
                Poll::Pending
            }
            Some((round, _)) if round == self.round => Poll::Pending,
            Some((round, _)) if Some(round) == self.broken => Poll::Ready(Err(Error::Broken {
                what: "crucial::AllReduce".to_owned(),
            })),
            Some(_) => Poll::Ready(Ok(self.result.clone())),
        }
    }

    /// The result of the last round that was completed; empty before the first.
    pub fn last(&self) -> Vec<f64> {
        self.result.clone()
    }

    /// The number of parties.
    pub fn parties(&self) -> u64 {
        self.parties
    }

    /// How many have given to this round.
    pub fn waiting(&self) -> u64 {
        self.given.len() as u64
    }

    /// Ends the present round: those who wait in it get [`Error::Broken`].
    pub fn reset(&mut self) {
        self.broken = Some(self.round);
        self.round += 1;
        self.given.clear();
    }

    /// The last one wakes all.
    #[wake]
    fn wake(&self) -> Wake {
        if self.given.is_empty() {
            Wake::All
        } else {
            Wake::None
        }
    }
}
