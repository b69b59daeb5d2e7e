//! A compact set of operation numbers.

use smallvec::SmallVec;

const BITS: usize = u64::BITS as usize;

/// A set of small numbers. Operations are placed roughly in the order of their numbers, so the set is mostly a
/// long run from 0 and a few larger numbers. Of the run, only the number of full words is stored.
///
/// The representation is unique: the first stored word is not full, and the last is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct NumberSet {
    full: usize,
    words: SmallVec<[u64; 2]>,
}

impl NumberSet {
    pub(crate) fn contains(&self, number: usize) -> bool {
        self.word(number / BITS) >> (number % BITS) & 1 == 1
    }

    /// Returns this set with `number` added.
    pub(crate) fn with(&self, number: usize) -> NumberSet {
        let mut set = self.clone();
        let Some(index) = (number / BITS).checked_sub(set.full) else {
            return set;
        };
        if set.words.len() <= index {
            set.words.resize(index + 1, 0);
        }
        set.words[index] |= 1 << (number % BITS);
        let full = set.words.iter().take_while(|&&word| word == !0).count();
        set.words.drain(..full);
        set.full += full;
        set
    }

    /// The lowest number that is not in the set and not below `from`.
    pub(crate) fn next_absent(&self, from: usize) -> usize {
        let from = from.max(self.full * BITS);
        let mut index = from / BITS;
        let mut absent = !self.word(index) & (!0 << (from % BITS));
        while absent == 0 {
            index += 1;
            absent = !self.word(index);
        }
        index * BITS + absent.trailing_zeros() as usize
    }

    /// The numbers below `end` that are not in the set, in order.
    pub(crate) fn absent(&self, end: usize) -> impl Iterator<Item = usize> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let number = self.next_absent(next);
            next = number + 1;
            (number < end).then_some(number)
        })
    }

    pub(crate) fn is_subset_of(&self, other: &NumberSet) -> bool {
        (other.full..self.full + self.words.len())
            .all(|index| self.word(index) & !other.word(index) == 0)
    }

    fn word(&self, index: usize) -> u64 {
        match index.checked_sub(self.full) {
            None => !0,
            Some(index) => self.words.get(index).copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::NumberSet;

    fn of<'a>(numbers: impl IntoIterator<Item = &'a usize>) -> NumberSet {
        numbers
            .into_iter()
            .fold(NumberSet::default(), |set, &number| set.with(number))
    }

    proptest! {
        #[test]
        fn is_a_set(
            run in 0usize..300,
            more in prop::collection::vec(0usize..400, 0..20),
            fewer in prop::collection::vec(any::<bool>(), 400),
        ) {
            let model: BTreeSet<usize> = (0..run).chain(more.iter().copied()).collect();
            let set = of(&model);
            // The representation does not depend on the order of insertion.
            prop_assert_eq!(&set, &of(model.iter().rev()));
            let absent: Vec<usize> = (0..400).filter(|n| !model.contains(n)).collect();
            prop_assert_eq!(set.absent(400).collect::<Vec<_>>(), absent);
            prop_assert!((0..400).all(|n| set.contains(n) == model.contains(&n)));

            let part: BTreeSet<usize> = model.iter().copied().filter(|&n| fewer[n]).collect();
            prop_assert!(of(&part).is_subset_of(&set));
            prop_assert_eq!(set.is_subset_of(&of(&part)), part == model);
        }
    }
}
