//! The Mandelbrot set.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use crate::{Error, memory};

/// Renders rows of a picture of the whole set with `size` by `size` pixels: a grey value for each pixel.
pub fn render(rows: Range<u64>, size: u64, iterations_max: u32) -> Vec<u8> {
    let scale = 3.0 / size as f64;
    let mut pixels = Vec::with_capacity(((rows.end - rows.start) * size) as usize);
    for row in rows {
        for column in 0..size {
            let (re, im) = (column as f64 * scale - 2.25, row as f64 * scale - 1.5);
            pixels.push(grey(re, im, iterations_max));
        }
    }
    pixels
}

fn grey(re: f64, im: f64, iterations_max: u32) -> u8 {
    let (mut x, mut y) = (0.0, 0.0);
    for iteration in 0..iterations_max {
        let (x2, y2) = (x * x, y * y);
        if x2 + y2 > 4.0 {
            let share = f64::from(iteration) / f64::from(iterations_max);
            return (255.0 * share.powf(0.35)) as u8;
        }
        (x, y) = (x2 - y2 + re, 2.0 * x * y + im);
    }
    0
}

/// Refuses a picture that does not fit into memory.
pub fn check(size: u64) -> Result<(), Error> {
    let what = || format!("a picture of {size} by {size} pixels");
    memory::check(what, size.checked_mul(size))
}

/// Writes a grey picture of `size` by `size` pixels.
pub fn write_png(path: &Path, size: u64, pixels: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::File {
        path: path.display().to_string(),
        source,
    };
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    let side = u32::try_from(size).map_err(|_| Error::Option(format!("{size} is too large")))?;
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    let written = encoder.write_header().and_then(|mut writer| {
        writer
            .write_image_data(pixels)
            .and_then(|()| writer.finish())
    });
    written.map_err(|error| Error::Picture {
        path: path.display().to_string(),
        detail: error.to_string(),
    })?;
    // A buffer that is dropped keeps its errors to itself.
    file.flush().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        let whole = render(0..40, 40, 100);
        let parts = [render(0..7, 40, 100), render(7..40, 40, 100)].concat();
        assert_eq!(whole, parts);
        assert!(whole.contains(&0) && whole.iter().any(|grey| *grey > 0));
    }
}
