//! A matrix.

use serde::{Deserialize, Serialize};

use super::{index, page_size};
use crate::float::Float;
use crate::sync::Reduction;
use crate::{Error, Result, shared};

/// A shared matrix of `f64`, row by row. (Integers up to 2⁵³ are exact: it counts votes as well.)
///
/// A sum that is not a number is always the same NaN, so that replicas do not differ.
///
/// All operations on it are one message: rows and whole matrices are added where the matrix is.
///
/// ```
/// use crucial::Shared;
/// use crucial::collections::Matrix;
/// use crucial::sync::Reduction;
///
/// let sums = Shared::new(Matrix::new(2, 3))?;
/// sums.add_row(0, &[1.0, 2.0, 3.0])?;
/// sums.add(&[1.0; 6])?; // all of it, in one message
/// assert_eq!(sums.row(0)?, [2.0, 3.0, 4.0]);
/// assert_eq!(sums.reduce_rows(Reduction::Sum)?, [9.0, 3.0]);
/// assert_eq!((sums.shape()?, sums.get(1, 2)?), ((2, 3), 1.0));
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[doc(alias = "SharedMatrix")]
pub struct Matrix {
    columns: u64,
    values: Vec<f64>,
}

impl Matrix {
    /// `rows` × `columns` zeros.
    ///
    /// # Panics
    ///
    /// If there is no room for as many.
    pub fn new(rows: usize, columns: usize) -> Matrix {
        let count = rows.checked_mul(columns);
        let count = count.expect("the number of values fits into a `usize`");
        Matrix::from_rows(columns, vec![0.0; count])
    }

    /// A matrix with these values, row by row; what does not fill a row is dropped.
    pub fn from_rows(columns: usize, mut values: Vec<f64>) -> Matrix {
        let whole = values.len() - values.len().checked_rem(columns).unwrap_or(values.len());
        values.truncate(whole);
        Matrix {
            columns: columns as u64,
            values,
        }
    }

    fn width(&self) -> usize {
        // Where it does not fit there is no whole row.
        page_size(self.columns)
    }

    fn rows(&self) -> usize {
        self.values.len().checked_div(self.width()).unwrap_or(0)
    }

    fn at(&mut self, row: u64, column: u64) -> Result<&mut f64> {
        let column = index(column, self.width())?;
        Ok(&mut self.row_mut(row)?[column])
    }

    fn row_mut(&mut self, row: u64) -> Result<&mut [f64]> {
        let (row, width) = (index(row, self.rows())?, self.width());
        Ok(&mut self.values[row * width..][..width])
    }
}

/// Adds element by element.
fn add_to(values: &mut [f64], others: &[f64]) -> Result<()> {
    same_length(values.len(), others.len())?;
    for (value, other) in values.iter_mut().zip(others) {
        *value = value.plus(*other);
    }
    Ok(())
}

fn same_length(expected: usize, given: usize) -> Result<()> {
    if expected == given {
        return Ok(());
    }
    Err(Error::BadArguments {
        what: "Matrix".to_owned(),
        detail: format!("{given} numbers, where {expected} are expected"),
    })
}

/// Where an index is outside: [`Error::OutOfBounds`]. Where the number of values does not fit:
/// [`Error::BadArguments`].
#[shared(name = "crucial::Matrix", crate = crate)]
impl Matrix {
    /// All rows are whole.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        let (count, columns) = (self.values.len() as u64, self.columns);
        match count.checked_rem(columns).unwrap_or(count) {
            0 => Ok(()),
            _ => Err(format!(
                "{count} numbers do not make whole rows of {columns} columns"
            )),
        }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (u64, u64) {
        (self.rows() as u64, self.columns)
    }

    /// One value.
    #[fallible]
    pub fn get(&self, row: u64, column: u64) -> Result<f64> {
        let (row, column) = (index(row, self.rows())?, index(column, self.width())?);
        Ok(self.values[row * self.width() + column])
    }

    /// Sets one value, and returns the previous one.
    #[fallible]
    pub fn set(&mut self, row: u64, column: u64, value: f64) -> Result<f64> {
        Ok(std::mem::replace(self.at(row, column)?, value))
    }

    /// Adds to one value, and returns the new one.
    #[fallible]
    pub fn add_at(&mut self, row: u64, column: u64, value: f64) -> Result<f64> {
        let place = self.at(row, column)?;
        *place = place.plus(value);
        Ok(*place)
    }

    /// A row.
    #[fallible]
    pub fn row(&self, row: u64) -> Result<Vec<f64>> {
        let (row, width) = (index(row, self.rows())?, self.width());
        Ok(self.values[row * width..][..width].to_vec())
    }

    /// A column.
    #[fallible]
    pub fn column(&self, column: u64) -> Result<Vec<f64>> {
        let column = index(column, self.width())?;
        let values = self.values.iter().skip(column);
        Ok(values.step_by(self.width()).copied().collect())
    }

    /// Replaces a row.
    #[fallible]
    pub fn set_row(&mut self, row: u64, values: &[f64]) -> Result<()> {
        let place = self.row_mut(row)?;
        same_length(place.len(), values.len())?;
        place.copy_from_slice(values);
        Ok(())
    }

    /// Adds to a row, element by element.
    #[fallible]
    pub fn add_row(&mut self, row: u64, values: &[f64]) -> Result<()> {
        add_to(self.row_mut(row)?, values)
    }

    /// Adds to the whole matrix, element by element; `values` are row by row.
    #[fallible]
    pub fn add(&mut self, values: &[f64]) -> Result<()> {
        add_to(&mut self.values, values)
    }

    /// All values, row by row.
    #[doc(alias = "toArray")]
    pub fn to_vec(&self) -> Vec<f64> {
        self.values.clone()
    }

    /// Sets all values.
    pub fn fill(&mut self, value: f64) {
        self.values.fill(value);
    }

    /// All values as one; `None` if the matrix is empty.
    pub fn reduce(&self, how: Reduction) -> Option<f64> {
        how.of(self.values.iter().copied())
    }

    /// Each row as one value.
    pub fn reduce_rows(&self, how: Reduction) -> Vec<f64> {
        let rows = self.values.chunks(self.width().max(1));
        rows.filter_map(|row| how.of(row.iter().copied())).collect()
    }

    /// Each column as one value; none if there are no rows.
    pub fn reduce_columns(&self, how: Reduction) -> Vec<f64> {
        // The width of a matrix without rows is what its maker says, however large.
        let columns = 0..self.width().min(self.values.len());
        let column = |column| self.values.iter().skip(column).step_by(self.width());
        columns
            .filter_map(|index| how.of(column(index).copied()))
            .collect()
    }
}
