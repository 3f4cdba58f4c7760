//! Drawing what was measured.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

const SIZE: (u32, u32) = (720, 400);

/// Points of one or more series over the same steps.
pub struct Plot<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    /// What each step is called.
    pub steps: &'a [String],
    /// Names, and a value for each step.
    pub series: &'a [(&'a str, Vec<f64>)],
}

impl Plot<'_> {
    /// Draws it as an SVG.
    pub fn draw(&self, path: &Path) -> anyhow::Result<()> {
        self.try_draw(path)
            .map_err(|error| anyhow!("{}: {error}", path.display()))
    }

    fn try_draw(&self, path: &Path) -> Result<(), Box<dyn std::error::Error + '_>> {
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let values = self.series.iter().flat_map(|(_, values)| values);
        let most = values.fold(0.0, |most: f64, value| most.max(*value));
        // Room for a point at either end.
        let (left, right) = (-0.25, self.steps.len() as f64 - 0.75);
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(left..right, 0.0..most * 1.35)?;
        let step = |at: &f64| {
            let step = self.steps.get(at.round() as usize);
            let is_one = (at - at.round()).abs() < 1e-6;
            step.filter(|_| is_one).cloned().unwrap_or_default()
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(self.steps.len() * 8)
            .x_label_formatter(&step)
            .x_desc(self.x)
            .y_desc(self.y)
            .draw()?;
        for (n, (name, values)) in self.series.iter().enumerate() {
            let color = Palette99::pick(n).to_rgba();
            let points = || (0..).zip(values).map(|(x, y)| (f64::from(x), *y));
            chart
                .draw_series(LineSeries::new(points(), color.stroke_width(2)))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
            let dots = points().map(|at| Circle::new(at, 3, color.filled()));
            chart.draw_series(dots)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        area.present()?;
        Ok(())
    }
}
