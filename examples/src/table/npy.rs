//! Arrays of numpy: a mark, a version, the length of a header, the header (a literal of Python), and the numbers. (The
//! libraries for the format panic at shapes that overflow, and their errors are not for users.)

use std::str::FromStr;

use ndarray::{Array2, ShapeBuilder};
use py_literal::Value;

use super::{Table, content};
use crate::Result;

/// The first bytes of each file.
const MARK: &[u8] = b"\x93NUMPY";

/// How to make a file that can be read.
const ADVICE: &str = "save it with numpy.save";

/// The deepest brackets of a header. The parser takes stack for each.
const DEPTH_MAX: usize = 32;

/// The contents of the header.
struct Header {
    rows: u64,
    columns: u64,
    element: Element,
    is_by_columns: bool,
}

/// How a number is stored.
struct Element {
    kind: Kind,
    bytes: usize,
    is_big_endian: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Float,
    Signed,
    Unsigned,
}

/// Reads a table from an array of two dimensions, of numbers of any width, in any order.
pub(super) fn read(bytes: &[u8], path: &str) -> Result<Table> {
    let bad = |detail: String| content(path, detail);
    let (header, numbers) = split(bytes).map_err(bad)?;
    let header = Header::parse(header).map_err(bad)?;
    let values = header.values(numbers).map_err(bad)?;
    let shape = (header.rows as usize, header.columns as usize);
    let values = match header.is_by_columns {
        false => Array2::from_shape_vec(shape, values),
        true => Array2::from_shape_vec(shape.f(), values),
    };
    let table = Table {
        values: values.map_err(|error| bad(error.to_string()))?,
        note: None,
        lines: None,
    };
    let mut values = table.values.indexed_iter();
    match values.find(|(_, value)| !value.is_finite()) {
        Some(((row, column), value)) => {
            let place = table.place(row, column);
            Err(bad(format!("{place}: {value} is not a finite number")))
        }
        None => Ok(table),
    }
}

/// The text of the header, and what is behind it.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    let cut = || "the file is cut off: its header is not whole".to_owned();
    let rest = bytes
        .strip_prefix(MARK)
        .ok_or_else(|| format!("is no array of numpy, as its name says: {ADVICE}"))?;
    let (version, rest) = rest.split_at_checked(2).ok_or_else(cut)?;
    let length_bytes = match version[0] {
        1 => 2,
        2 | 3 => 4,
        other => {
            return Err(format!(
                "is of version {other} of the format of numpy, and can be read of version 1 to 3: {ADVICE}"
            ));
        }
    };
    let (length, rest) = rest.split_at_checked(length_bytes).ok_or_else(cut)?;
    let length = length
        .iter()
        .rev()
        .fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (header, numbers) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = str::from_utf8(header).map_err(|_| damaged("it is no text"))?;
    Ok((header, numbers))
}

fn damaged(what: &str) -> String {
    format!("the header of the array cannot be read ({what}): {ADVICE}")
}

/// How deep brackets are inside of each other.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

impl Header {
    fn parse(text: &str) -> Result<Header, String> {
        let parsed = (depth(text) <= DEPTH_MAX).then(|| Value::from_str(text.trim()));
        let Some(Ok(Value::Dict(entries))) = parsed else {
            return Err(damaged("it is no dictionary of Python"));
        };
        let value = |name: &str| {
            let mut entries = entries.iter();
            let entry = entries.find(|(key, _)| key.as_string().is_some_and(|key| key == name));
            entry
                .map(|(_, value)| value)
                .ok_or_else(|| damaged(&format!("it has no {name}")))
        };
        let Value::Tuple(shape) = value("shape")? else {
            return Err(damaged("the shape is no tuple"));
        };
        let [Value::Integer(rows), Value::Integer(columns)] = &shape[..] else {
            let shape = Value::Tuple(shape.clone());
            return Err(format!(
                "the array has the shape {shape}, and must have two dimensions: reshape it"
            ));
        };
        let (Ok(rows), Ok(columns)) = (u64::try_from(rows), u64::try_from(columns)) else {
            return Err(format!(
                "the array has the shape ({rows}, {columns}), which no array can have"
            ));
        };
        if rows == 0 || columns == 0 {
            return Err("the array has no numbers".to_owned());
        }
        let Value::Boolean(is_by_columns) = *value("fortran_order")? else {
            return Err(damaged("fortran_order is neither True nor False"));
        };
        Ok(Header {
            rows,
            columns,
            element: Element::parse(value("descr")?)?,
            is_by_columns,
        })
    }

    fn values(&self, bytes: &[u8]) -> Result<Vec<f64>, String> {
        let (rows, columns) = (self.rows, self.columns);
        let needed = u128::from(rows) * u128::from(columns);
        let needed = needed.saturating_mul(self.element.bytes as u128);
        let there = bytes.len() as u128;
        let shape = format!("an array of {rows} rows of {columns} numbers has {needed} bytes");
        if needed > there {
            return Err(format!(
                "the file is cut off: {shape}, and {there} are there"
            ));
        }
        if needed < there {
            return Err(format!(
                "{shape}, and {} more bytes are behind it: save one array into a file",
                there - needed
            ));
        }
        Ok(self.element.decode(bytes))
    }
}

impl Element {
    fn parse(description: &Value) -> Result<Element, String> {
        let other = || {
            let described = description.to_string();
            format!(
                "its elements are of the type {described}: convert them, with .astype('float64')"
            )
        };
        let text = description.as_string().ok_or_else(other)?;
        let mut signs = text.chars();
        let (order, kind) = (signs.next(), signs.next());
        let bytes = signs.as_str().parse().map_err(|_| other())?;
        let kind = match (kind, bytes) {
            (Some('f'), 4 | 8) => Kind::Float,
            (Some('i'), 1 | 2 | 4 | 8) => Kind::Signed,
            (Some('u'), 1 | 2 | 4 | 8) => Kind::Unsigned,
            _ => return Err(other()),
        };
        Ok(Element {
            kind,
            bytes,
            is_big_endian: match order {
                Some('<' | '|') => false,
                Some('>') => true,
                Some('=') => cfg!(target_endian = "big"),
                _ => return Err(other()),
            },
        })
    }

    fn decode(&self, bytes: &[u8]) -> Vec<f64> {
        let (kind, bits) = (self.kind, 8 * self.bytes as u32);
        let number = |bytes: &[u8]| {
            let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
            let number = match self.is_big_endian {
                true => bytes.iter().fold(0, add),
                false => bytes.iter().rev().fold(0, add),
            };
            match (kind, bits) {
                (Kind::Float, 32) => f32::from_bits(number as u32).into(),
                (Kind::Float, _) => f64::from_bits(number),
                // Beyond 2^53 to the nearest, as numpy converts them.
                (Kind::Signed, _) => ((number << (64 - bits)) as i64 >> (64 - bits)) as f64,
                (Kind::Unsigned, _) => number as f64,
            }
        };
        bytes.chunks_exact(self.bytes).map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::{Order, WriterBuilder};

    fn array<T: npyz::Serialize + npyz::AutoSerialize>(
        values: impl IntoIterator<Item = T>,
        shape: &[u64],
        order: Order,
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let options = npyz::WriteOptions::new()
            .default_dtype()
            .order(order)
            .shape(shape);
        let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
        writer.extend(values).unwrap();
        writer.finish().unwrap();
        bytes
    }

    /// An array with a header that no library would write.
    fn made(header: &str, numbers: &[u8]) -> Vec<u8> {
        let length = u16::try_from(header.len()).unwrap().to_le_bytes();
        [MARK, &[1, 0], &length, header.as_bytes(), numbers].concat()
    }

    fn values(bytes: Vec<u8>) -> Array2<f64> {
        read(&bytes, "file").unwrap().values
    }

    fn wrong(bytes: Vec<u8>) -> String {
        read(&bytes, "file").unwrap_err().to_string()
    }

    #[test]
    fn arrays_of_any_numbers_in_any_order_are_read() {
        let expected = ndarray::array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        assert_eq!(
            values(array([1.0f32, 2., 3., 4., 5., 6.], &[2, 3], Order::C)),
            expected
        );
        assert_eq!(values(array(1i64..=6, &[2, 3], Order::C)), expected);
        assert_eq!(values(array(1u8..=6, &[2, 3], Order::C)), expected);
        let columns = [1.0f64, 4., 2., 5., 3., 6.];
        assert_eq!(values(array(columns, &[2, 3], Order::Fortran)), expected);
        let least = array([i8::MIN, -1, 0, i8::MAX], &[2, 2], Order::C);
        assert_eq!(values(least), ndarray::array![[-128.0, -1.0], [0.0, 127.0]]);
        let least = array([i64::MIN, u32::MAX.into()], &[1, 2], Order::C);
        assert_eq!(
            values(least),
            ndarray::array![[i64::MIN as f64, u32::MAX.into()]]
        );
        let most = array([u64::MAX, 7], &[2, 1], Order::C);
        assert_eq!(values(most), ndarray::array![[u64::MAX as f64], [7.0]]);
        let big = "{'descr': '>f8', 'fortran_order': False, 'shape': (1, 2), }\n";
        let numbers = [1.5f64.to_be_bytes(), (-2f64).to_be_bytes()].concat();
        assert_eq!(values(made(big, &numbers)), ndarray::array![[1.5, -2.0]]);
    }

    #[test]
    fn arrays_that_are_no_tables_of_finite_numbers_are_refused() {
        let nan = wrong(array([1.0, 2.0, f64::NAN, 4.0], &[2, 2], Order::C));
        assert!(nan.contains("row 2, column 1: NaN"), "{nan}");
        assert!(wrong(array([1.0], &[1], Order::C)).contains("two dimensions"));
        assert!(wrong(array([0.0; 0], &[0, 2], Order::C)).contains("no numbers"));
        assert!(wrong(array([true, false], &[1, 2], Order::C)).contains("astype"));
        let whole = array([1.0, 2.0], &[1, 2], Order::C);
        for length in [7, 9, 40, whole.len() - 1] {
            let said = wrong(whole[..length].to_vec());
            assert!(said.contains("cut off"), "{length}: {said}");
        }
        let more = wrong([&whole[..], b"more"].concat());
        assert!(more.contains("4 more bytes are behind it"), "{more}");
        let header = |descr: &str, shape: &str| {
            made(
                &format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"),
                &[0; 16],
            )
        };
        for (bytes, expected) in [
            (b"no array".to_vec(), "numpy.save"),
            (b"".to_vec(), "numpy.save"),
            (made("nonsense", &[]), "no dictionary"),
            (made(&"(".repeat(60_000), &[]), "no dictionary"),
            (made("{'descr': '<f8'}", &[]), "it has no shape"),
            (
                header("'<f8'", "(4294967296, 4294967297)"),
                "4294967296 rows of 4294967297 numbers",
            ),
            (
                header("'<f8'", "(18446744073709551615, 18446744073709551615)"),
                "cut off",
            ),
            (
                header("'<f8'", "(99999999999999999999, 2)"),
                "which no array can have",
            ),
            (header("'<f8'", "(-1, 2)"), "which no array can have"),
            (header("'<f8'", "7"), "no tuple"),
            (header("'<f8'", "(1, 2, 3)"), "(1, 2, 3)"),
            (header("'<f2'", "(1, 8)"), "astype"),
            (header("'<U4'", "(1, 1)"), "'<U4'"),
            (header("[('x', '<f8')]", "(1, 2)"), "astype"),
            (header("''", "(1, 2)"), "astype"),
            ([MARK, &[9, 0, 0, 0]].concat(), "version 9"),
        ] {
            let said = wrong(bytes);
            assert!(said.contains(expected), "{said}");
            assert!(said.starts_with("file: "), "{said}");
        }
    }
}
