//! Charts: bars, lines and areas over time, as SVG.
//!
//! The SVG has marks alone and may be stretched to any width; every word is HTML, which
//! is not. What a chart shows is said in a sentence for those who do not see it, in a
//! `<title>` for each column, and by the page in a table ([`table`]).

#[cfg(test)]
mod tests;

use maud::{Markup, PreEscaped, html};
use svg::node::element::path::Data;
use svg::node::element::{Group, Path, Rectangle, SVG, Title};

/// Numbers over time, and what is said of them.
#[derive(Debug)]
pub struct Chart<'a> {
    /// What is shown, in a word or two.
    pub title: &'a str,
    /// The one figure to remember, and in `<small>` what it is of.
    pub figure: Markup,
    /// What to compare it with.
    pub hint: Markup,
    /// What is to be seen, in a sentence.
    pub summary: &'a str,
    /// What each column is of, the oldest first: `29 Nov, 11:00`.
    pub columns: &'a [String],
    /// Words below the chart, from its left edge to its right.
    pub axis: &'a [Markup],
    /// What is drawn: of bars the lowest first. At most five, and one of all others.
    pub series: &'a [Series<'a>],
    /// What the numbers are.
    pub scale: Scale,
    /// How much room it is given.
    pub size: Size,
    /// What is said where there are no numbers: `No events yet`.
    pub empty: &'a str,
}

/// One row of numbers.
#[derive(Debug, Clone)]
pub struct Series<'a> {
    /// What they are: `after a retry`.
    pub name: &'a str,
    /// The class that colours it: `calm`, `red`, `k1` to `k6`, with `dash` for lines.
    pub mark: &'static str,
    /// One for each column; none where nothing is known.
    pub values: Vec<Option<f64>>,
}

/// What numbers are, which decides how they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// How many there are: nothing between one and two.
    Count,
    /// Any number.
    Amount,
    /// Milliseconds.
    Duration,
}

/// How large a chart is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Beside another.
    Half,
    /// By itself.
    Whole,
}

/// Columns of bars, one series upon the other.
pub fn bars(chart: &Chart<'_>) -> Markup {
    let sums = (0..chart.columns.len()).map(|column| {
        let values = chart.series.iter().map(|series| series.at(column));
        values.flatten().filter(|value| *value > 0.0).sum::<f64>()
    });
    let frame = Frame::new(chart, sums.fold(0.0, f64::max));
    let mut drawing = frame.drawing(chart);
    for column in 0..chart.columns.len() {
        drawing = drawing.add(frame.stacked(chart, column));
    }
    figure(chart, &frame, drawing, Mark::Block)
}

/// A line for each series, which breaks where nothing is known.
pub fn lines(chart: &Chart<'_>) -> Markup {
    let frame = Frame::new(chart, largest(chart));
    let mut drawing = frame.drawing(chart);
    for series in chart.series {
        let path = Path::new().set("class", series.mark);
        drawing = drawing.add(path.set("d", frame.line(&series.values)));
    }
    let drawing = frame.with_hits(chart, drawing);
    figure(chart, &frame, drawing, Mark::Stroke)
}

/// A line for each series, with the area below it filled.
pub fn area(chart: &Chart<'_>) -> Markup {
    let frame = Frame::new(chart, largest(chart));
    let mut drawing = frame.drawing(chart);
    for series in chart.series {
        let known: Vec<_> = series
            .values
            .iter()
            .map(|v| Some(v.unwrap_or(0.0)))
            .collect();
        let below = frame
            .line(&known)
            .line_to((frame.width, frame.height))
            .line_to((0.0, frame.height))
            .close();
        let filled = Path::new().set("class", format!("{} area", series.mark));
        let line = Path::new().set("class", series.mark);
        drawing = drawing
            .add(filled.set("d", below))
            .add(line.set("d", frame.line(&known)));
    }
    let drawing = frame.with_hits(chart, drawing);
    figure(chart, &frame, drawing, Mark::Stroke)
}

/// Up to five words below a chart: the first column, three between, and the last, or
/// fewer where there are fewer columns.
pub fn axis<T>(columns: &[T], word: impl Fn(usize, &T) -> Markup) -> Vec<Markup> {
    const WORDS: usize = 5;
    let last = columns.len().saturating_sub(1);
    let words = WORDS.min(columns.len());
    let places = (0..words).map(|place| place * last / (words - 1).max(1));
    places.map(|place| word(place, &columns[place])).collect()
}

/// The numbers of `charts` as a table that opens, the newest first: each has one column
/// for every series. `head` is what the rows are, `Hour`.
pub fn table(head: &str, charts: &[&Chart<'_>]) -> Markup {
    let columns = charts.first().map_or(&[][..], |chart| chart.columns);
    html! {
        details.card.fold {
            summary { "As a table" }
            div.scroll tabindex="0" role="region" aria-label="Charts as a table" {
                table.table {
                    thead { tr {
                        th scope="col" { (head) }
                        @for chart in charts {
                            @for series in chart.series {
                                th.num scope="col" { (chart.title) ", " bdi { (series.name) } }
                            }
                        }
                    } }
                    tbody {
                        @for (row, label) in columns.iter().enumerate().rev() {
                            tr {
                                td { (label) }
                                @for chart in charts {
                                    @for series in chart.series { td.num { (cell(chart.scale, series.at(row))) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn cell(scale: Scale, value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| scale.written(value))
}

impl Series<'_> {
    /// The number at a column, as far as it can be drawn.
    fn at(&self, column: usize) -> Option<f64> {
        let value = self.values.get(column).copied().flatten()?;
        (!value.is_nan()).then(|| value.clamp(-LARGEST, LARGEST))
    }
}

fn largest(chart: &Chart<'_>) -> f64 {
    let values = |series| (0..chart.columns.len()).filter_map(move |at| Series::at(series, at));
    chart.series.iter().flat_map(values).fold(0.0, f64::max)
}

/// How a series is shown in the legend.
#[derive(Clone, Copy)]
enum Mark {
    Block,
    Stroke,
}

/// The drawing's room, and what its height stands for.
struct Frame {
    width: f32,
    height: f32,
    /// Parts that the height is divided into by lines.
    parts: u8,
    /// What the top stands for.
    top: f64,
    columns: usize,
    is_empty: bool,
}

/// No number is drawn larger than that: whole sums of them can be multiplied still.
const LARGEST: f64 = 1e30;
/// Of a column, what lies free on either side of its bar.
const GAP: f32 = 0.09;

impl Frame {
    fn new(chart: &Chart<'_>, largest: f64) -> Self {
        let (width, height, parts) = match chart.size {
            Size::Half => (480.0, 120.0, 2),
            Size::Whole => (900.0, 208.0, 5),
        };
        Self {
            width,
            height,
            parts,
            top: step(chart.scale, largest / f64::from(parts)) * f64::from(parts),
            columns: chart.columns.len(),
            is_empty: largest <= 0.0,
        }
    }

    /// With the lines behind, and nothing else yet.
    fn drawing(&self, chart: &Chart<'_>) -> SVG {
        let mut grid = Data::new();
        for line in 0..=self.parts {
            let y = round(self.height * f32::from(line) / f32::from(self.parts));
            grid = grid.move_to((0.0, y)).horizontal_line_to(self.width);
        }
        SVG::new()
            .set("viewBox", (0, 0, self.width, self.height))
            .set("preserveAspectRatio", "none")
            .set("role", "img")
            .set("aria-label", chart.summary)
            .add(Path::new().set("class", "grid").set("d", grid))
    }

    /// One column: its bars, and what it is when it is pointed at.
    fn stacked(&self, chart: &Chart<'_>, column: usize) -> Group {
        let mut group = Group::new().add(self.hit(column));
        let mut sum = 0.0;
        for series in chart.series {
            let Some(value) = series.at(column).filter(|value| *value > 0.0) else {
                continue;
            };
            let base = self.y(sum);
            sum += value;
            let y = self.y(sum);
            let bar = Rectangle::new()
                .set("class", series.mark)
                .set("x", round(self.left(column) + GAP * self.column_width()))
                .set("y", y)
                .set("width", round((1.0 - 2.0 * GAP) * self.column_width()))
                .set("height", round(base - y));
            group = group.add(bar);
        }
        group.add(Title::new(tooltip(chart, column)))
    }

    /// What says a column's numbers when it is pointed at.
    fn with_hits(&self, chart: &Chart<'_>, drawing: SVG) -> SVG {
        (0..self.columns).fold(drawing, |drawing, column| {
            let title = Title::new(tooltip(chart, column));
            drawing.add(Group::new().add(self.hit(column)).add(title))
        })
    }

    fn hit(&self, column: usize) -> Rectangle {
        Rectangle::new()
            .set("class", "hit")
            .set("x", round(self.left(column)))
            .set("width", round(self.column_width()))
            .set("height", self.height)
    }

    /// Through the middles of the columns that have a value; of one between two that have
    /// none, a dash.
    fn line(&self, values: &[Option<f64>]) -> Data {
        let mut data = Data::new();
        let mut is_drawn = false;
        for (column, value) in values.iter().enumerate() {
            let Some(value) = value else {
                is_drawn = false;
                continue;
            };
            let (x, y) = (self.x(column), self.y(*value));
            let is_last = values.get(column + 1).copied().flatten().is_none();
            data = match (is_drawn, is_last) {
                (true, _) => data.line_to((x, y)),
                (false, false) => data.move_to((x, y)),
                (false, true) => {
                    let half = round(self.column_width() / 2.0);
                    let from = (x - half / 2.0).clamp(0.0, self.width - half);
                    data.move_to((from, y)).horizontal_line_to(from + half)
                }
            };
            is_drawn = true;
        }
        data
    }

    /// Where a line passes a column: it goes from edge to edge.
    fn x(&self, column: usize) -> f32 {
        match self.columns {
            0 | 1 => self.width / 2.0,
            columns => round(self.width * ratio(column, columns - 1)),
        }
    }

    fn left(&self, column: usize) -> f32 {
        self.width * ratio(column, self.columns.max(1))
    }

    fn column_width(&self) -> f32 {
        self.width * ratio(1, self.columns.max(1))
    }

    #[expect(clippy::cast_possible_truncation, reason = "a place in the drawing")]
    fn y(&self, value: f64) -> f32 {
        let share = (value / self.top).clamp(0.0, 1.0);
        round(self.height * (1.0 - share) as f32)
    }

    /// What the lines stand for, from the top.
    fn words(&self, scale: Scale) -> Vec<String> {
        let parts = f64::from(self.parts);
        let lines = (0..=self.parts).rev().map(f64::from);
        lines
            .map(|line| scale.short(self.top * line / parts, self.top))
            .collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "columns are few")]
fn ratio(a: usize, b: usize) -> f32 {
    a as f32 / b as f32
}

/// To a hundredth: more is not to be seen, and makes pages longer.
fn round(place: f32) -> f32 {
    (place * 100.0).round() / 100.0
}

/// The smallest round number that is not below `least`.
fn step(scale: Scale, least: f64) -> f64 {
    const ROUND: [f64; 9] = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0];
    let least = match scale {
        Scale::Amount if least > 0.0 => least,
        Scale::Amount | Scale::Count | Scale::Duration => least.max(1.0),
    };
    let power = 10_f64.powf(least.log10().floor());
    let is_whole = |step: &f64| scale != Scale::Count || (step * power).fract() == 0.0;
    let mut steps = ROUND.into_iter().filter(is_whole);
    // Nothing is larger than ten times its own power of ten.
    steps.find(|step| step * power >= least).unwrap_or(10.0) * power
}

/// `29 Nov, 11:00: 17,926 at once, 116 after a retry`.
fn tooltip(chart: &Chart<'_>, column: usize) -> String {
    let written = |series: &Series<'_>| {
        let value = chart.scale.written(series.at(column)?);
        Some(match chart.scale {
            Scale::Count | Scale::Amount => format!("{value} {}", series.name),
            Scale::Duration => format!("{} {value}", series.name),
        })
    };
    let parts: Vec<_> = chart.series.iter().filter_map(written).collect();
    let said = if parts.is_empty() {
        "nothing".to_owned()
    } else {
        parts.join(", ")
    };
    format!("{}: {said}", chart.columns[column])
}

fn figure(chart: &Chart<'_>, frame: &Frame, drawing: SVG, mark: Mark) -> Markup {
    html! {
        figure.card.chart {
            figcaption {
                h2 { (chart.title) }
                @if frame.is_empty {
                    p.big { "–" }
                    div { p.hint { (chart.empty) } }
                } @else {
                    @if !chart.figure.0.is_empty() { p.big { (chart.figure) } }
                    div {
                        p.hint { (chart.hint) }
                        @if chart.series.len() > 1 { (legend(chart, mark)) }
                    }
                }
            }
            div.plot.tall[chart.size == Size::Whole] {
                div.y aria-hidden="true" {
                    @for word in frame.words(chart.scale) { span { (word) } }
                }
                // Escaped by the library, texts and attributes alike.
                (PreEscaped(drawing.to_string()))
                div.x aria-hidden="true" { @for word in chart.axis { span { (word) } } }
            }
        }
    }
}

fn legend(chart: &Chart<'_>, mark: Mark) -> Markup {
    html! {
        ul.legend {
            @for series in chart.series {
                li {
                    svg viewBox="0 0 12 10" aria-hidden="true" {
                        @match mark {
                            Mark::Block => rect.(series.mark) y="0" width="10" height="10" rx="2" {},
                            Mark::Stroke => path.(series.mark) d="M0 5h12" {},
                        }
                    }
                    bdi { (series.name) }
                }
            }
        }
    }
}

impl Scale {
    /// As it is read: `21,192,840`, `3.25`, `1.21 s`.
    pub fn written(self, value: f64) -> String {
        match self {
            Self::Count => grouped(value, 0),
            Self::Amount => grouped(value, 2),
            Self::Duration if value < 1_000.0 => format!("{value:.0} ms"),
            Self::Duration => format!("{} s", grouped(value / 1_000.0, 2)),
        }
    }

    /// As it stands beside a line, where the highest stands for `top`: `15 k`.
    fn short(self, value: f64, top: f64) -> String {
        if value == 0.0 {
            return "0".to_owned();
        }
        let (unit, name) = match (self, top) {
            (Self::Duration, 1_000.0..) => (1e3, " s"),
            (Self::Duration, _) => (1.0, " ms"),
            (_, 1e12..) => (1e12, " T"),
            (_, 1e9..) => (1e9, " G"),
            (_, 1e6..) => (1e6, " M"),
            (_, 1e4..) => (1e3, " k"),
            _ => (1.0, ""),
        };
        format!("{}{name}", grouped(value / unit, 4))
    }
}

/// A number with a comma at each three digits, and `decimals` at most.
fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::with_capacity(text.len() * 4 / 3 + 1);
    if value < 0.0 {
        out.push('−');
    }
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    match rest.trim_end_matches('0') {
        "" => out,
        rest => out + "." + rest,
    }
}
