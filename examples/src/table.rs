//! The one loader of data files: a table of finite numbers, from a `.csv`, `.csv.gz` or `.npy` file. Errors name the file,
//! the line and the column.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use ndarray::{Array2, ShapeBuilder};
use npyz::{DType, NpyFile, Order, TypeChar};

use crate::{Error, Result};

/// The first bytes of each gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How many bytes of a wrong value an error shows.
const SHOWN_MAX: usize = 40;

/// A table of finite numbers, of at least one row and one column.
#[derive(Debug)]
pub struct Table {
    /// The numbers.
    pub values: Array2<f64>,
    /// What the program should say about the file, if anything: that its first line was taken for a header.
    pub note: Option<String>,
}

/// Loads a file, whose name says what it is.
pub fn load(path: &Path) -> Result<Table> {
    let name = path.display().to_string();
    let failed = |source| Error::File {
        path: name.clone(),
        source,
    };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let lower = name.to_lowercase();
    if lower.ends_with(".npy") {
        return npy(reader, &name);
    }
    if !(lower.ends_with(".csv") || lower.ends_with(".csv.gz")) {
        return Err(Error::Option(format!(
            "{name}: the name must end in .csv, .csv.gz or .npy"
        )));
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(failed)?;
    match (lower.ends_with(".gz"), bytes.starts_with(&GZIP)) {
        (true, true) => csv(&unpack(&bytes, &name)?, &name),
        (false, false) => csv(&bytes, &name),
        (true, false) => Err(content(&name, "is not a gzip file, as its name says")),
        (false, true) => Err(content(
            &name,
            "is a gzip file: give it a name that ends in .csv.gz",
        )),
    }
}

fn content(path: &str, detail: impl Into<String>) -> Error {
    Error::Content {
        path: path.to_owned(),
        detail: detail.into(),
    }
}

/// All members of a gzip file.
pub(crate) fn unpack(bytes: &[u8], path: &str) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if !rest.starts_with(&GZIP) {
            let place = bytes.len() - rest.len();
            return Err(content(
                path,
                format!("from byte {place} on is no gzip data"),
            ));
        }
        let mut member = flate2::bufread::GzDecoder::new(rest);
        member
            .read_to_end(&mut unpacked)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => content(path, "the gzip file is cut off"),
                _ => content(path, format!("cannot be unpacked: {error}")),
            })?;
        rest = member.into_inner();
    }
    Ok(unpacked)
}

/// Finds the lines of byte offsets, which rise. A line ends with CR, LF or both.
struct Lines<'a> {
    bytes: &'a [u8],
    offset: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the first record at or behind an offset.
    fn of_record(&mut self, offset: usize) -> u64 {
        while let Some(&byte) = self.bytes.get(self.offset) {
            let is_end = matches!(byte, b'\n' | b'\r');
            if self.offset >= offset && !is_end {
                break;
            }
            self.offset += 1;
            let is_first_of_two = byte == b'\r' && self.bytes.get(self.offset) == Some(&b'\n');
            self.line += u64::from(is_end && !is_first_of_two);
        }
        self.line
    }
}

/// Reads a table from text of comma-separated values. A first line without any number is a header.
pub fn csv(bytes: &[u8], path: &str) -> Result<Table> {
    // Some programs begin a text with a mark of its encoding.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let (mut offset, mut line) = (0, 1);
    let mut lines = Lines {
        bytes,
        offset: 0,
        line: 1,
    };
    let (mut values, mut columns, mut note) = (Vec::new(), None, None);
    let mut record = csv::ByteRecord::new();
    let bad = |detail: String| content(path, detail);
    while reader
        .read_byte_record(&mut record)
        .map_err(|error| bad(format!("behind line {line}: {error}")))?
    {
        line = lines.of_record(offset);
        offset = usize::try_from(reader.position().byte()).unwrap_or(bytes.len());
        let is_first = columns.is_none();
        let width = *columns.get_or_insert(record.len());
        if is_first && let Some(names) = header(&record) {
            note = Some(format!("{path}: line {line} is a header: {names}"));
            continue;
        }
        if record.len() != width {
            return Err(bad(format!(
                "line {line} has {} values, and the lines before it have {width}",
                record.len()
            )));
        }
        for (index, field) in record.iter().enumerate() {
            values.push(
                number(field)
                    .map_err(|wrong| bad(format!("line {line}, column {}: {wrong}", index + 1)))?,
            );
        }
    }
    let columns = columns.unwrap_or_default();
    if values.is_empty() {
        return Err(bad("there is no row of numbers in it".to_owned()));
    }
    let values = Array2::from_shape_vec((values.len() / columns, columns), values);
    let values = values.map_err(|error| bad(error.to_string()))?;
    Ok(Table { values, note })
}

fn number(field: &[u8]) -> Result<f64, String> {
    let text = String::from_utf8_lossy(&field[..field.len().min(SHOWN_MAX)]);
    let parsed = str::from_utf8(field)
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    match parsed {
        Some(number) if number.is_finite() => Ok(number),
        Some(_) => Err(format!("{text:?} is not a finite number")),
        None if field.is_empty() => Err("there is no value".to_owned()),
        None => Err(format!("{text:?} is not a number")),
    }
}

/// The names of a header: a record with some text and without any number.
fn header(record: &csv::ByteRecord) -> Option<String> {
    let is_number =
        |field: &[u8]| str::from_utf8(field).is_ok_and(|text| text.parse::<f64>().is_ok());
    if record.iter().any(is_number) || record.iter().all(<[u8]>::is_empty) {
        return None;
    }
    let names: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
    Some(names.join(", "))
}

/// Reads a table from an array of numpy: of two dimensions, of numbers of any width, in any order.
pub fn npy(reader: impl Read, path: &str) -> Result<Table> {
    let bad = |detail: String| content(path, detail);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => bad("the file is cut off".to_owned()),
        _ => bad(format!("is no array of numpy that can be read: {error}")),
    };
    let npy = NpyFile::new(reader).map_err(failed)?;
    let shape = npy.shape().to_vec();
    let &[rows, columns] = &shape[..] else {
        return Err(bad(format!(
            "the array has the shape {shape:?}, and must have two dimensions: reshape it"
        )));
    };
    if rows == 0 || columns == 0 {
        return Err(bad("the array has no numbers".to_owned()));
    }
    let order = npy.order();
    let kind = match npy.dtype() {
        DType::Plain(kind) => kind,
        other => {
            return Err(bad(format!(
                "its elements are {}, and must be numbers",
                other.descr()
            )));
        }
    };
    let values = match (kind.type_char(), kind.size_field()) {
        (TypeChar::Float, 8) => npy.into_vec::<f64>(),
        (TypeChar::Float, 4) => widened::<f32>(npy),
        (TypeChar::Int, 1) => widened::<i8>(npy),
        (TypeChar::Int, 2) => widened::<i16>(npy),
        (TypeChar::Int, 4) => widened::<i32>(npy),
        (TypeChar::Uint, 1) => widened::<u8>(npy),
        (TypeChar::Uint, 2) => widened::<u16>(npy),
        (TypeChar::Uint, 4) => widened::<u32>(npy),
        // Beyond 2^53 to the nearest, as numpy converts them.
        (TypeChar::Int, 8) => npy
            .into_vec::<i64>()
            .map(|all| all.into_iter().map(|value| value as f64).collect()),
        (TypeChar::Uint, 8) => npy
            .into_vec::<u64>()
            .map(|all| all.into_iter().map(|value| value as f64).collect()),
        _ => {
            return Err(bad(format!(
                "its elements are of the type {kind}: convert them, with .astype('float64')"
            )));
        }
    };
    let values = values.map_err(failed)?;
    let shape = (rows as usize, columns as usize);
    let values = match order {
        Order::C => Array2::from_shape_vec(shape, values),
        Order::Fortran => Array2::from_shape_vec(shape.f(), values),
    };
    let values = values.map_err(|error| bad(error.to_string()))?;
    if let Some(((row, column), value)) =
        values.indexed_iter().find(|(_, value)| !value.is_finite())
    {
        return Err(bad(format!(
            "row {}, column {}: {value} is not a finite number",
            row + 1,
            column + 1
        )));
    }
    Ok(Table { values, note: None })
}

fn widened<T: npyz::Deserialize + Into<f64>>(npy: NpyFile<impl Read>) -> io::Result<Vec<f64>> {
    let values = npy.into_vec::<T>()?;
    Ok(values.into_iter().map(Into::into).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::WriterBuilder;

    fn wrong(text: &str) -> String {
        csv(text.as_bytes(), "file").unwrap_err().to_string()
    }

    #[test]
    fn a_bad_value_is_named_with_its_true_line_and_its_column() {
        for (text, expected) in [
            (
                "1,2\n3,oops\n",
                "line 2, column 2: \"oops\" is not a number",
            ),
            ("1,2\r\n3,oops\r\n5,6\r\n9,8\r\n", "line 2, column 2"),
            ("1,2\r3,oops\r5,6", "line 2, column 2"),
            ("1,2\n3,4\n\n5,oops\n", "line 4, column 2"),
            ("\r\n\r\n1,2\r\n\r\noops,3\r\n", "line 5, column 1"),
            ("\"a\nb\",c\n1,2\n3,x\n", "line 4, column 2"),
            (
                "1,2\n3\n",
                "line 2 has 1 values, and the lines before it have 2",
            ),
            ("1,,3\n4,5,6\n", "line 1, column 2: there is no value"),
            ("NA,2,3\n", "line 1, column 1"),
            ("1.5,abc,3\n", "line 1, column 2"),
            (",,\n1,2,3\n", "line 1, column 1: there is no value"),
            ("a,b\nc,d\n1,2\n", "line 2, column 1"),
            (
                "1,inf\n",
                "line 1, column 2: \"inf\" is not a finite number",
            ),
            ("1\nnan\n", "line 2, column 1"),
            ("", "no row"),
            ("x,y\n", "no row"),
        ] {
            let said = wrong(text);
            assert!(said.contains(expected), "{text:?}: {said}");
        }
    }

    #[test]
    fn a_header_is_a_line_without_any_number_and_is_said() {
        let table = csv(b"\xef\xbb\xbfx , y\n1,2\n3, 4\n", "file").unwrap();
        assert_eq!(table.values, ndarray::array![[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(table.note.unwrap(), "file: line 1 is a header: x, y");
        assert_eq!(csv(b"1,2\n", "file").unwrap().note, None);
    }

    fn packed(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn all_members_of_a_gzip_file_are_read_and_nothing_else() {
        let both = [packed("1,2\n"), packed("3,4\n")].concat();
        assert_eq!(unpack(&both, "file").unwrap(), b"1,2\n3,4\n");
        let garbage = [both.clone(), b"garbage".to_vec()].concat();
        assert!(
            unpack(&garbage, "file")
                .unwrap_err()
                .to_string()
                .contains("no gzip data")
        );
        let cut = unpack(&both[..both.len() - 3], "file").unwrap_err();
        assert!(cut.to_string().contains("cut off"), "{cut}");
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes, expected) in [
            ("a.csv.gz", b"1,2\n".to_vec(), "not a gzip file"),
            ("a.csv", both, "ends in .csv.gz"),
            ("a.txt", Vec::new(), "must end in"),
        ] {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let said = load(&path).unwrap_err().to_string();
            assert!(said.contains(name) && said.contains(expected), "{said}");
        }
    }

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

    #[test]
    fn arrays_of_any_numbers_in_any_order_are_read() {
        let expected = ndarray::array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let read = |bytes: Vec<u8>| npy(&bytes[..], "file").unwrap().values;
        assert_eq!(
            read(array([1.0f32, 2., 3., 4., 5., 6.], &[2, 3], Order::C)),
            expected
        );
        assert_eq!(read(array(1i64..=6, &[2, 3], Order::C)), expected);
        assert_eq!(read(array(1u8..=6, &[2, 3], Order::C)), expected);
        let columns = [1.0f64, 4., 2., 5., 3., 6.];
        assert_eq!(read(array(columns, &[2, 3], Order::Fortran)), expected);
    }

    #[test]
    fn arrays_that_are_no_tables_of_finite_numbers_are_refused() {
        let wrong = |bytes: Vec<u8>| npy(&bytes[..], "file").unwrap_err().to_string();
        let nan = wrong(array([1.0, 2.0, f64::NAN, 4.0], &[2, 2], Order::C));
        assert!(nan.contains("row 2, column 1: NaN"), "{nan}");
        assert!(wrong(array([1.0], &[1], Order::C)).contains("two dimensions"));
        assert!(wrong(array([0.0; 0], &[0, 2], Order::C)).contains("no numbers"));
        let mut cut = array([1.0, 2.0], &[1, 2], Order::C);
        cut.pop();
        assert!(wrong(cut).contains("cut off"));
        assert!(wrong(b"no array".to_vec()).contains("no array"));
        assert!(wrong(array([true, false], &[1, 2], Order::C)).contains("astype"));
    }
}
