//! Pictures of how a program went.

use std::path::Path;

use crate::Error;

/// Draws a value of each step as an SVG picture.
pub fn plot(path: &Path, what: &str, history: &[f64]) -> Result<(), Error> {
    draw(path, what, history).map_err(|error| Error::Picture {
        path: path.display().to_string(),
        detail: error.to_string(),
    })
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
