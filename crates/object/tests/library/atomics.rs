//! Atomics against `std::sync::atomic`; cells and counters against variables.

use std::sync::atomic::{self as model, Ordering::SeqCst};

use crucial_object::sync::*;
use crucial_object::{Error, Shared};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::check;

#[derive(Clone, Debug)]
enum Operation<N> {
    Load,
    Store(N),
    Swap(N),
    Add(N),
    Sub(N),
    Mul(N),
    MulTimes(N, u64),
    And(N),
    Or(N),
    Xor(N),
    Max(N),
    Min(N),
    /// From a value, or from the one that is there.
    CompareExchange(Option<N>, N),
    /// Adds, unless that overflows.
    Update(N),
}

fn operations<N: Clone + std::fmt::Debug + 'static>(
    number: impl Strategy<Value = N> + Clone,
) -> impl Strategy<Value = Operation<N>> {
    use Operation::*;
    let unary = select(vec![
        Store as fn(N) -> Operation<N>,
        Swap,
        Add,
        Sub,
        Mul,
        And,
        Or,
        Xor,
        Max,
        Min,
        Update,
    ]);
    prop_oneof![
        1 => Just(Load),
        11 => (unary, number.clone()).prop_map(|(operation, n)| operation(n)),
        1 => (number.clone(), 0..20u64).prop_map(|(n, times)| MulTimes(n, times)),
        2 => (option::of(number.clone()), number).prop_map(|(from, to)| CompareExchange(from, to)),
    ]
}

macro_rules! integers {
    ($($test:ident: $atomic:ident, $int:ident;)+) => {$(
        #[test]
        fn $test() {
            let number = prop_oneof![
                any::<$int>(),
                select(vec![$int::MIN, $int::MAX, 0, 1, 2, 3]),
            ];
            check(operations(number), |operations| {
                use Operation::*;
                let atomic: Shared<$atomic> = Shared::new($atomic::new(3))?;
                let std = model::$atomic::new(3);
                let mul = |n: $int, times: u64| {
                    let product = |value: $int| (0..times).fold(value, |value, _| value.wrapping_mul(n));
                    std.swap(product(std.load(SeqCst)), SeqCst)
                };
                for operation in operations {
                    match operation {
                        Load => {}
                        Store(n) => {
                            atomic.store(n)?;
                            std.store(n, SeqCst);
                        }
                        Swap(n) => assert_eq!(atomic.swap(n)?, std.swap(n, SeqCst)),
                        Add(n) => assert_eq!(atomic.fetch_add(n)?, std.fetch_add(n, SeqCst)),
                        Sub(n) => assert_eq!(atomic.fetch_sub(n)?, std.fetch_sub(n, SeqCst)),
                        Mul(n) => assert_eq!(atomic.fetch_mul(n)?, mul(n, 1)),
                        MulTimes(n, times) => {
                            assert_eq!(atomic.fetch_mul_times(n, times)?, mul(n, times));
                        }
                        And(n) => assert_eq!(atomic.fetch_and(n)?, std.fetch_and(n, SeqCst)),
                        Or(n) => assert_eq!(atomic.fetch_or(n)?, std.fetch_or(n, SeqCst)),
                        Xor(n) => assert_eq!(atomic.fetch_xor(n)?, std.fetch_xor(n, SeqCst)),
                        Max(n) => assert_eq!(atomic.fetch_max(n)?, std.fetch_max(n, SeqCst)),
                        Min(n) => assert_eq!(atomic.fetch_min(n)?, std.fetch_min(n, SeqCst)),
                        CompareExchange(from, to) => {
                            let from = from.unwrap_or(std.load(SeqCst));
                            assert_eq!(
                                atomic.compare_exchange(from, to)?,
                                std.compare_exchange(from, to, SeqCst, SeqCst)
                            );
                        }
                        Update(n) => assert_eq!(
                            atomic.fetch_update(|value| value.checked_add(n))?,
                            std.fetch_update(SeqCst, SeqCst, |value| value.checked_add(n))
                        ),
                    }
                    assert_eq!(atomic.load()?, std.load(SeqCst));
                }
                Ok(())
            });
        }
    )+};
}

integers! {
    i8_is_as_in_std: AtomicI8, i8;
    i16_is_as_in_std: AtomicI16, i16;
    i32_is_as_in_std: AtomicI32, i32;
    i64_is_as_in_std: AtomicI64, i64;
    isize_is_as_in_std: AtomicIsize, isize;
    u8_is_as_in_std: AtomicU8, u8;
    u16_is_as_in_std: AtomicU16, u16;
    u32_is_as_in_std: AtomicU32, u32;
    u64_is_as_in_std: AtomicU64, u64;
    usize_is_as_in_std: AtomicUsize, usize;
}

#[derive(Clone, Copy, Debug)]
enum Logic {
    Store(bool),
    Swap(bool),
    And(bool),
    Or(bool),
    Xor(bool),
    Not,
    CompareExchange(bool, bool),
}

#[test]
fn bool_is_as_in_std() {
    use Logic::*;
    let unary = select(vec![Store as fn(bool) -> Logic, Swap, And, Or, Xor]);
    let operation = prop_oneof![
        5 => (unary, any::<bool>()).prop_map(|(operation, value)| operation(value)),
        1 => Just(Not),
        1 => any::<(bool, bool)>().prop_map(|(from, to)| CompareExchange(from, to)),
    ];
    check(operation, |operations| {
        let atomic = Shared::new(AtomicBool::new(false))?;
        let std = model::AtomicBool::new(false);
        for operation in operations {
            match operation {
                Store(value) => {
                    atomic.store(value)?;
                    std.store(value, SeqCst);
                }
                Swap(value) => assert_eq!(atomic.swap(value)?, std.swap(value, SeqCst)),
                And(value) => assert_eq!(atomic.fetch_and(value)?, std.fetch_and(value, SeqCst)),
                Or(value) => assert_eq!(atomic.fetch_or(value)?, std.fetch_or(value, SeqCst)),
                Xor(value) => assert_eq!(atomic.fetch_xor(value)?, std.fetch_xor(value, SeqCst)),
                Not => assert_eq!(atomic.fetch_not()?, std.fetch_not(SeqCst)),
                CompareExchange(from, to) => assert_eq!(
                    atomic.compare_exchange(from, to)?,
                    std.compare_exchange(from, to, SeqCst, SeqCst)
                ),
            }
            assert_eq!(atomic.load()?, std.load(SeqCst));
        }
        Ok(())
    });
}

/// A value of several shapes.
type Value = Option<(String, Vec<i32>)>;

#[derive(Clone, Debug)]
enum CellOperation {
    Set(Value),
    Swap(Value),
    CompareExchange(Option<Value>, Value),
    CompareAndSet(Option<Value>, Value),
    /// Appends to the vector.
    Update(i32),
}

#[test]
fn a_cell_is_a_variable() {
    use CellOperation::*;
    let value = || option::of(("[aß]{0,2}", prop::collection::vec(0..3i32, 0..3)));
    let operation = prop_oneof![
        value().prop_map(Set),
        value().prop_map(Swap),
        (option::of(value()), value()).prop_map(|(from, to)| CompareExchange(from, to)),
        (option::of(value()), value()).prop_map(|(from, to)| CompareAndSet(from, to)),
        any::<i32>().prop_map(Update),
    ];
    check(operation, |operations| {
        let cell = Shared::new(AtomicCell::<Value>::new(None))?;
        let mut model: Value = None;
        for operation in operations {
            match operation {
                Set(value) => {
                    cell.set(value.clone())?;
                    model = value;
                }
                Swap(value) => {
                    assert_eq!(
                        cell.swap(value.clone())?,
                        std::mem::replace(&mut model, value)
                    );
                }
                CompareExchange(from, to) => {
                    let from = from.unwrap_or(model.clone());
                    let exchanged = cell.compare_exchange(from.clone(), to.clone())?;
                    if from == model {
                        assert_eq!(exchanged, Ok(std::mem::replace(&mut model, to)));
                    } else {
                        assert_eq!(exchanged, Err(model.clone()));
                    }
                }
                CompareAndSet(from, to) => {
                    let from = from.unwrap_or(model.clone());
                    assert_eq!(
                        cell.compare_and_set(from.clone(), to.clone())?,
                        from == model
                    );
                    if from == model {
                        model = to;
                    }
                }
                Update(n) => {
                    model.get_or_insert_default().1.push(n);
                    let updated = cell.update(|value| {
                        let (text, mut items) = value.unwrap_or_default();
                        items.push(n);
                        Some((text, items))
                    });
                    assert_eq!(updated?, model);
                }
            }
            assert_eq!(cell.get()?, model);
        }
        Ok(())
    });
}

#[derive(Clone, Copy, Debug)]
enum Count {
    Increment,
    Decrement,
    Add(i64),
    Reset,
}

#[test]
fn a_counter_counts() {
    let number = prop_oneof![any::<i64>(), -3..3i64, Just(i64::MAX), Just(i64::MIN)];
    let operation = prop_oneof![
        Just(Count::Increment),
        Just(Count::Decrement),
        number.prop_map(Count::Add),
        Just(Count::Reset),
    ];
    check(operation, |operations| {
        let counter = Shared::new(Counter::new(-7))?;
        let mut model = -7i64;
        for operation in operations {
            let (answer, by) = match operation {
                Count::Increment => (counter.increment(), 1),
                Count::Decrement => (counter.decrement(), -1),
                Count::Add(n) => (counter.add(n), n),
                Count::Reset => {
                    assert_eq!(counter.reset()?, std::mem::take(&mut model));
                    continue;
                }
            };
            match model.checked_add(by) {
                Some(sum) => model = sum,
                None => {
                    assert!(matches!(answer, Err(Error::BadArguments { .. })));
                    assert_eq!(counter.get()?, model);
                    continue;
                }
            }
            assert_eq!((answer?, counter.get()?), (model, model));
        }
        Ok(())
    });
}

#[test]
fn a_call_multiplies_not_too_often() {
    check(10_000_001..u64::MAX, |times| {
        let atomic = Shared::new(AtomicU8::new(1))?;
        for times in times {
            let refused = atomic.fetch_mul_times(2, times);
            assert!(matches!(refused, Err(Error::LimitExceeded { .. })));
            assert_eq!(atomic.load()?, 1);
        }
        Ok(())
    });
}
