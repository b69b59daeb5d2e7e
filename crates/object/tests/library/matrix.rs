//! Matrices against `Vec<Vec<f64>>`.

use std::sync::Arc;

use crucial_object::caller::{Lifetime, Mode, Open};
use crucial_object::collections::Matrix;
use crucial_object::sync::Reduction;
use crucial_object::{Error, Result, Shared, SharedType, caller, encode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::check;
use crate::floats::{SPECIAL, bits, computed, reduced};
use crate::in_process::InProcess;

#[derive(Clone, Debug)]
enum Operation {
    Get(u64, u64),
    Set(u64, u64, f64),
    AddAt(u64, u64, f64),
    Row(u64),
    Column(u64),
    SetRow(u64, Vec<f64>),
    AddRow(u64, Vec<f64>),
    Add(Vec<f64>),
    Fill(f64),
    Reduce(Reduction),
}

const ROWS: usize = 3;
const COLUMNS: usize = 4;

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let index = || prop_oneof![20 => 0..5u64, 1 => Just(u64::MAX)];
    let number = || prop_oneof![any::<f64>(), -3.0..3.0, select(&SPECIAL[..])];
    // Mostly of the right length.
    let row = move || prop_oneof![8 => vec(number(), COLUMNS), 1 => vec(number(), 0..6)];
    let all = move || prop_oneof![8 => vec(number(), ROWS * COLUMNS), 1 => vec(number(), 0..20)];
    let how = select(vec![
        Reduction::Sum,
        Reduction::Min,
        Reduction::Max,
        Reduction::Mean,
    ]);
    prop_oneof![
        (index(), index()).prop_map(|(row, column)| Get(row, column)),
        (index(), index(), number()).prop_map(|(row, column, value)| Set(row, column, value)),
        (index(), index(), number()).prop_map(|(row, column, value)| AddAt(row, column, value)),
        index().prop_map(Row),
        index().prop_map(Column),
        (index(), row()).prop_map(|(row, values)| SetRow(row, values)),
        (index(), row()).prop_map(|(row, values)| AddRow(row, values)),
        all().prop_map(Add),
        number().prop_map(Fill),
        how.prop_map(Reduce),
    ]
}

fn within(row: u64, column: u64) -> Result<(usize, usize)> {
    for (index, len) in [(row, ROWS as u64), (column, COLUMNS as u64)] {
        if index >= len {
            return Err(Error::OutOfBounds { index, len });
        }
    }
    Ok((row as usize, column as usize))
}

/// The values of a row or matrix that does not have this length.
fn is_refused<T: std::fmt::Debug>(result: Result<T>) -> bool {
    matches!(result, Err(Error::BadArguments { what, .. }) if what == "Matrix")
}

fn add(values: &mut [f64], others: &[f64]) {
    values
        .iter_mut()
        .zip(others)
        .for_each(|(value, other)| *value = computed(*value + other));
}

#[test]
fn a_matrix_is_a_vec_of_rows() {
    check(operation(), |operations| {
        use Operation::*;
        let mut model = vec![vec![0.0f64; COLUMNS]; ROWS];
        let matrix = Shared::new(Matrix::new(ROWS, COLUMNS))?;
        assert_eq!(matrix.shape()?, (3, 4));
        for operation in operations {
            match operation {
                Get(row, column) => {
                    let place =
                        within(row, column).map(|(row, column)| model[row][column].to_bits());
                    assert_eq!(matrix.get(row, column).map(f64::to_bits), place);
                }
                Set(row, column, value) => {
                    let old = within(row, column)
                        .map(|(row, column)| std::mem::replace(&mut model[row][column], value));
                    let given = matrix.set(row, column, value);
                    // Either of the two indices may be named, if both are outside.
                    assert_eq!(given.is_ok(), old.is_ok());
                    assert_eq!(given.ok().map(f64::to_bits), old.ok().map(f64::to_bits));
                }
                AddAt(row, column, value) => {
                    let given = matrix.add_at(row, column, value);
                    let place = within(row, column);
                    assert_eq!(given.is_ok(), place.is_ok());
                    if let Ok((row, column)) = place {
                        model[row][column] = computed(model[row][column] + value);
                        assert_eq!(given?.to_bits(), model[row][column].to_bits());
                    }
                }
                Row(row) => {
                    let values = within(row, 0).map(|(row, _)| bits(model[row].clone()));
                    assert_eq!(matrix.row(row).map(bits), values);
                }
                Column(column) => {
                    let values = within(0, column)
                        .map(|(_, column)| bits(model.iter().map(|row| row[column])));
                    assert_eq!(matrix.column(column).map(bits), values);
                }
                SetRow(row, values) => match within(row, 0) {
                    Err(outside) => assert_eq!(matrix.set_row(row, &values), Err(outside)),
                    Ok(_) if values.len() != COLUMNS => {
                        assert!(is_refused(matrix.set_row(row, &values)))
                    }
                    Ok((at, _)) => {
                        matrix.set_row(row, &values)?;
                        model[at] = values;
                    }
                },
                AddRow(row, values) => match within(row, 0) {
                    Err(outside) => assert_eq!(matrix.add_row(row, &values), Err(outside)),
                    Ok(_) if values.len() != COLUMNS => {
                        assert!(is_refused(matrix.add_row(row, &values)))
                    }
                    Ok((at, _)) => {
                        matrix.add_row(row, &values)?;
                        add(&mut model[at], &values);
                    }
                },
                Add(values) if values.len() != ROWS * COLUMNS => {
                    assert!(is_refused(matrix.add(&values)))
                }
                Add(values) => {
                    matrix.add(&values)?;
                    let rows = model.iter_mut().zip(values.chunks(COLUMNS));
                    rows.for_each(|(row, values)| add(row, values));
                }
                Fill(value) => {
                    matrix.fill(value)?;
                    model = vec![vec![value; COLUMNS]; ROWS];
                }
                Reduce(how) => {
                    let all = model.concat();
                    assert_eq!(bits(matrix.reduce(how)?), bits([reduced(how, &all)]));
                    let rows = model.iter().map(|row| reduced(how, row));
                    assert_eq!(bits(matrix.reduce_rows(how)?), bits(rows));
                    let column = |column| Vec::from_iter(model.iter().map(|row| row[column]));
                    let columns = (0..COLUMNS).map(|index| reduced(how, &column(index)));
                    assert_eq!(bits(matrix.reduce_columns(how)?), bits(columns));
                }
            }
            assert_eq!(bits(matrix.to_vec()?), bits(model.concat()));
        }
        Ok(())
    });
}

#[test]
fn what_does_not_fill_a_row_is_dropped() {
    check(any::<f64>(), |values| {
        for columns in 0..6 {
            let matrix = Shared::new(Matrix::from_rows(columns, values.clone()))?;
            let rows = values.len().checked_div(columns).unwrap_or(0);
            assert_eq!(matrix.shape()?, (rows as u64, columns as u64));
            assert_eq!(
                bits(matrix.to_vec()?),
                bits(values[..rows * columns].to_vec())
            );
            assert_eq!(matrix.reduce(Reduction::Max)?.is_none(), rows == 0);
            assert_eq!(matrix.reduce_rows(Reduction::Max)?.len(), rows);
        }
        Ok(())
    });
}

/// What has no values takes no time, however wide it is.
#[test]
fn a_matrix_without_rows_has_no_columns_to_reduce() -> Result<()> {
    caller::with(Arc::new(InProcess::default()), || {
        for columns in [0, 1, usize::MAX] {
            let matrix = Shared::new(Matrix::new(0, columns))?;
            assert_eq!(matrix.shape()?, (0, columns as u64));
            assert_eq!(matrix.reduce_columns(Reduction::Sum)?, []);
            assert_eq!(matrix.reduce_rows(Reduction::Sum)?, []);
            assert_eq!(matrix.reduce(Reduction::Sum)?, None);
            assert!(matches!(matrix.row(0), Err(Error::OutOfBounds { .. })));
            assert_eq!(matrix.column(0).is_ok(), columns > 0);
        }
        Ok(())
    })
}

/// A state that no constructor makes can be sent, and is refused.
#[test]
fn a_matrix_that_is_not_what_it_says_is_not_made() -> Result<()> {
    caller::with(Arc::new(InProcess::default()), || {
        for columns in [0, 2, u64::MAX] {
            let values = vec![1.0; 5];
            let made = caller::current()?.open(&Open {
                type_name: Matrix::NAME,
                key: Some("liar"),
                lifetime: Lifetime::Run,
                mode: Mode::Recreate,
                replicas: 0,
                state: &encode(&(columns, values))?,
            });
            assert!(
                matches!(&made, Err(Error::BadArguments { detail, .. }) if detail.contains("whole rows")),
                "{made:?}"
            );
            assert!(matches!(
                Shared::<Matrix>::open("liar").map(drop),
                Err(Error::NotFound { .. })
            ));
        }
        Ok(())
    })
}

#[test]
#[should_panic = "fits"]
fn a_matrix_of_more_values_than_there_are_numbers_is_refused() {
    Matrix::new(usize::MAX / 2, 4);
}
