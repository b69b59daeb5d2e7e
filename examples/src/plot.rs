//! Plots of a program's progress.

use std::path::Path;

use crate::Error;

/// Values from this limit on are not drawn.
const MOST: f64 = 1e300;

/// Plots a value for each step as an SVG picture.
pub fn plot(path: &Path, what: &str, history: &[f64]) -> Result<(), Error> {
    let bad = |detail: String| Error::Picture {
        path: path.display().to_string(),
        detail,
    };
    // The plotting library would search for an axis for ever.
    if history.is_empty() {
        return Err(bad(format!(
            "there was no step, so that no {what} can be drawn"
        )));
    }
    if let Some(step) = history
        .iter()
        .position(|value| value.is_nan() || value.abs() >= MOST)
    {
        return Err(bad(format!(
            "{what} of step {} is {}",
            step + 1,
            history[step]
        )));
    }
    draw(path, what, history).map_err(|error| bad(error.to_string()))
}

fn draw(path: &Path, what: &str, history: &[f64]) -> Result<(), Box<dyn std::error::Error>> {
    use plotters::prelude::*;

    let root = SVGBackend::new(path, (640, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    let (least, most) = history
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| {
            (a.min(*v), b.max(*v))
        });
    let mut chart = ChartBuilder::on(&root)
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d(1..history.len().max(2), least * 0.99..most * 1.01)?;
    chart.configure_mesh().x_desc("step").y_desc(what).draw()?;
    let line = history.iter().enumerate().map(|(i, value)| (i + 1, *value));
    chart.draw_series(LineSeries::new(line, &BLUE))?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_drawn_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("picture.svg");
        for history in [&[][..], &[1.0, f64::NAN], &[f64::INFINITY], &[1e300]] {
            assert!(plot(&path, "loss", history).is_err(), "{history:?}");
        }
        for history in [&[1.0][..], &[0.0, 0.0], &[-1.0, 2.0], &[1e299, 1.0]] {
            plot(&path, "loss", history).unwrap();
        }
        assert!(std::fs::read_to_string(path).unwrap().contains("</svg>"));
    }
}
