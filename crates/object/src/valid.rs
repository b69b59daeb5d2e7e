//! What holds for the value that a program makes an object of.

/// An error unless the value has what every new one has.
pub(crate) fn is_new(has: bool, what: &str) -> Result<(), String> {
    match has {
        true => Ok(()),
        false => Err(format!("a new one has {what}")),
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use crate::collections::{Blob, List, Map, Matrix, OrderedMap, Queue, Set};
    use crate::sync::{
        AllReduce, AtomicCell, Barrier, Condvar, Counter, Latch, Mutex, OnceLock, Promise,
        Reduction, RwLock, Semaphore,
    };
    use crate::{EncodingVersion, Error, Logger, SharedType, encode, registry};

    fn restore<T: SharedType>(
        state: &impl Serialize,
        version: EncodingVersion,
    ) -> Result<(), Error> {
        let info = registry::find(T::NAME).unwrap();
        info.restore(&encode(state).unwrap(), version).map(drop)
    }

    fn accepted<T: SharedType + Serialize>(value: &T) {
        restore::<T>(value, EncodingVersion::Initial).unwrap();
    }

    /// No object is made of the state. An object that another server has sent is taken as it is.
    fn refused<T: SharedType>(state: &impl Serialize, why: &str) {
        let error = restore::<T>(state, EncodingVersion::Initial).unwrap_err();
        let Error::BadArguments { what, detail } = error else {
            panic!("{error}");
        };
        assert_eq!(what, format!("a new {}", T::NAME));
        assert!(detail.contains(why), "{}: {detail}", T::NAME);
        restore::<T>(state, EncodingVersion::Same).unwrap();
    }

    #[test]
    fn what_constructors_make_is_valid() {
        accepted(&AllReduce::new(0, Reduction::Sum));
        accepted(&AtomicCell::new(1u64));
        accepted(&Barrier::new(0));
        accepted(&Blob::new([1]));
        accepted(&Condvar::new());
        accepted(&Counter::new(1));
        accepted(&Latch::new(1));
        accepted(&List::from(vec![1u64]));
        accepted(&Logger::with_capacity(0));
        accepted(&Map::from_iter([(1u64, 2u64)]));
        accepted(&Matrix::new(2, 0));
        accepted(&Matrix::from_rows(3, vec![1.0; 4]));
        accepted(&Mutex::new(1u64));
        accepted(&OnceLock::<u64>::new());
        accepted(&OrderedMap::from_iter([(1u64, 2u64)]));
        accepted(&Promise::<u64>::new());
        accepted(&Queue::<u64>::new(0));
        accepted(&RwLock::new(1u64));
        accepted(&Semaphore::new(0));
        accepted(&Set::from_iter([1u64]));
    }

    #[test]
    fn what_no_constructor_makes_is_refused() {
        let (nobody, holder) = (None::<(u64, u64)>, Some((7u64, 1u64)));
        let none = Vec::<u64>::new();
        let one = [vec![1u8]];
        refused::<Matrix>(&(3u64, vec![1.0; 4]), "whole rows of 3");
        refused::<Matrix>(&(0u64, vec![1.0]), "whole rows of 0");
        refused::<Queue<u64>>(&(Vec::<Vec<u8>>::new(), 0u64, false), "room for 0");
        refused::<Queue<u64>>(&(vec![vec![1u8]; 2], 1u64, false), "2 items");
        let line = (0, "thread", (0u64, 0u32), "text");
        refused::<Logger>(&(vec![line], 10u64, 1u64), "no lines");
        refused::<Logger>(&(none.clone(), 0u64, 0u64), "room");
        let sum = Reduction::Sum;
        let unequal = vec![(0u64, vec![1.0]), (1, vec![1.0, 2.0])];
        let reduce = |parties: u64, round: u64| {
            let (given, result) = (Vec::<(u64, Vec<f64>)>::new(), Vec::<f64>::new());
            (parties, sum, round, given, result, None::<u64>)
        };
        refused::<AllReduce>(&reduce(0, 0), "at least one");
        refused::<AllReduce>(&reduce(2, u64::MAX), "round 0");
        let given = (3u64, sum, 0u64, unequal, Vec::<f64>::new(), None::<u64>);
        refused::<AllReduce>(&given, "no vectors");
        refused::<Barrier>(&(2u64, u64::MAX, 0u64, None::<u64>), "has arrived");
        refused::<Barrier>(&(2u64, 0u64, u64::MAX, None::<u64>), "round 0");
        refused::<Condvar>(&(vec![(0u64, 7u64, true)], 1u64), "nobody who waits");
        refused::<Mutex<u64>>(&(&one[0], holder, &none, 0u64, 2u64), "no holder");
        refused::<Mutex<u64>>(
            &(&one[0], nobody, vec![5u64], 6u64, 1u64),
            "nobody who waits",
        );
        refused::<Mutex<u64>>(&(&one[0], nobody, &none, 0u64, u64::MAX), "token 1");
        let unset = None::<Vec<u8>>;
        refused::<OnceLock<u64>>(&(&unset, holder, 2u64), "no holder");
        refused::<OnceLock<u64>>(&(&unset, nobody, 0u64), "token 1");
        let readers = vec![(7u64, 1u64)];
        let lock = (&one[0], readers, nobody, &none, 0u64, 2u64);
        refused::<RwLock<u64>>(&lock, "no holder");
        let held = vec![(1u64, 7u64, 1u64)];
        refused::<Semaphore>(&(1u64, &none, 0u64, held, 2u64), "no holder");
        let waiting = vec![(0u64, 3u64)];
        refused::<Semaphore>(&(1u64, waiting, 1u64, &none, 1u64), "nobody who waits");
    }
}
