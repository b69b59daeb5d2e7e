//! The one loader of data files: a table of finite numbers, from a `.csv`, `.csv.gz` or `.npy` file. Errors name the file,
//! the line and the column.

use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;

use ndarray::{Array2, ArrayViewMut1};

use crate::{Error, Result, text};

mod npy;

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
    /// The line of each row; `None` for a file without lines.
    lines: Option<Vec<u64>>,
}

impl Table {
    /// Where a value is in the file, for people.
    pub fn place(&self, row: usize, column: usize) -> String {
        let column = column + 1;
        match self.lines.as_ref().and_then(|lines| lines.get(row)) {
            Some(line) => format!("line {line}, column {column}"),
            None => format!("row {}, column {column}", row + 1),
        }
    }
}

/// Loads a file, whose name says what it is.
pub fn load(path: &Path) -> Result<Table> {
    let name = path.display().to_string();
    let failed = |source| Error::File {
        path: name.clone(),
        source,
    };
    let lower = name.to_lowercase();
    let is_array = lower.ends_with(".npy");
    if !(is_array || lower.ends_with(".csv") || lower.ends_with(".csv.gz")) {
        return Err(Error::Option(format!(
            "{name}: the name must end in .csv, .csv.gz or .npy"
        )));
    }
    // A pipe would be empty for the threads, each of which reads its part.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(content(
            &name,
            "is not a file, which each thread can read again",
        ));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    if is_array {
        return npy::read(&bytes, &name);
    }
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
    let bytes = text::unmarked(bytes).map_err(|detail| content(path, detail))?;
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
    let mut lines_of_rows = Vec::new();
    let mut record = csv::ByteRecord::new();
    let bad = |detail: String| content(path, detail);
    while reader
        .read_byte_record(&mut record)
        .map_err(|error| bad(format!("behind line {line}: {error}")))?
    {
        line = lines.of_record(offset);
        let start = offset;
        offset = usize::try_from(reader.position().byte()).unwrap_or(bytes.len());
        if offset >= bytes.len() && is_open(&bytes[start..]) {
            return Err(bad(format!(
                "line {line}: a quote (\") begins there and does not end"
            )));
        }
        let is_first = columns.is_none();
        let width = *columns.get_or_insert(record.len());
        if is_first && let Some(names) = header(&record) {
            note = Some(format!("line {line} is a header: {names}"));
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
        lines_of_rows.push(line);
    }
    let columns = columns.unwrap_or_default();
    if values.is_empty() {
        let names = note.map_or_else(String::new, |note| format!(" ({note})"));
        return Err(bad(format!("there is no row of numbers in it{names}")));
    }
    let values = Array2::from_shape_vec((values.len() / columns, columns), values);
    let values = values.map_err(|error| bad(error.to_string()))?;
    Ok(Table {
        values,
        note: note.map(|note| format!("{path}: {note}")),
        lines: Some(lines_of_rows),
    })
}

/// Whether a quote in the last record is not closed. (One inside of a field is written twice.)
fn is_open(record: &[u8]) -> bool {
    record.iter().filter(|byte| **byte == b'"').count() % 2 == 1
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
        None if field.contains(&b'\n') => Err(format!(
            "{text:?} goes on in the next line: does the quote (\") before it end where it should?"
        )),
        None if field.iter().any(|byte| b";\t ".contains(byte)) => Err(format!(
            "{text:?} is not a number (values are separated by commas)"
        )),
        None => Err(format!("{text:?} is not a number")),
    }
}

/// The magnitudes whose squares, sums and products are numbers.
const TAME: RangeInclusive<f64> = 1e-100..=1e100;

/// Brings a column whose squares would overflow, or all become 0, near 1: by a power of 2, which changes no digit. Other
/// columns stay.
pub(crate) fn tame(mut column: ArrayViewMut1<'_, f64>) {
    let largest = column.fold(0.0, |most: f64, value| most.max(value.abs()));
    if largest == 0.0 || TAME.contains(&largest) {
        return;
    }
    // Half of the way each time, as the factor itself must be a number.
    let half = -(largest.log2() / 2.0) as i32;
    for _ in 0..2 {
        column *= 2f64.powi(half);
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

#[cfg(test)]
mod tests {
    use super::*;

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
            (
                "x,y\n",
                "no row of numbers in it (line 1 is a header: x, y)",
            ),
            ("1,2\n1;2,3\n", "separated by commas"),
            ("1,2\n3,\"4\n5,6\n", "line 2: a quote (\") begins there"),
            ("\"x,y\n1,2\n", "line 1: a quote (\") begins there"),
            ("1,2\n\n3,\"4\n5,\"6\n", "line 3, column 2: \"4\\n5,"),
            ("\u{feff}1,x\n", "line 1, column 2"),
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

    #[test]
    fn a_row_is_found_again_in_the_file() {
        let table = csv(b"x,y\r\n1,2\r\n\r\n3,4\r\n", "file").unwrap();
        assert_eq!(table.place(0, 1), "line 2, column 2");
        assert_eq!(table.place(1, 0), "line 4, column 1");
    }

    #[test]
    fn texts_of_other_encodings_are_named() {
        for bytes in [&b"\xff\xfe1\0,\0"[..], b"\xfe\xff\x001\x00,"] {
            let said = csv(bytes, "file").unwrap_err().to_string();
            assert!(said.contains("UTF-16"), "{said}");
        }
    }

    #[test]
    fn columns_whose_squares_are_no_numbers_are_scaled_and_others_stay() {
        for largest in [f64::MAX, 1e200, 1e-200, 5e-324] {
            let mut column = ndarray::array![largest, -largest / 2.0, 0.0];
            tame(column.view_mut());
            assert!((0.1..10.0).contains(&column[0]), "{largest}: {column}");
        }
        let mut column = ndarray::array![1e-150, 3.0, -1e50];
        tame(column.view_mut());
        assert_eq!(column, ndarray::array![1e-150, 3.0, -1e50]);
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
}
