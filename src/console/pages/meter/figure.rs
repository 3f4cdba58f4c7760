//! The chart of a meter's usage: columns of the five largest groups and all others where
//! they add up, and lines where they do not.

use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::definition::{Meter, amount};
use super::period::{Period, column_name};
use super::report::{Report, Share, TOP, float};
use crate::console::chart::{self, Chart, Scale, Series, Size};
use crate::model::window::Window;

/// The classes of the groups, in order, and of the others.
const MARKS: [&str; TOP] = ["k1", "k2", "k3", "k4", "k5"];
const OTHERS: &str = "k6";

/// What was counted in `period`, drawn.
pub fn figure(meter: &Meter, period: &Period, zone: &TimeZone, report: &Report) -> Markup {
    let windows = period.columns(zone);
    let name = |window: &Window| column_name(period.width, zone, window.start);
    let columns: Vec<String> = windows.iter().map(name).collect();
    let names: Vec<String> = report.shares.iter().take(TOP).map(label).collect();
    let others = others_name(report.shares.len().saturating_sub(TOP), report.has_more);
    let series = series(meter, report, &windows, &names, &others);
    let title = period.title.as_str();
    let hint = compared(report);
    let summary = summary(title, report, &names);
    let scale = match &*meter.aggregation {
        "count" | "unique_count" => Scale::Count,
        _ => Scale::Amount,
    };
    let chart = Chart {
        title,
        figure: html! {
            @if let Some(total) = &report.total { (amount(total)) " " small { (unit(meter)) } }
        },
        hint: html! { (hint) },
        summary: &summary,
        columns: &columns,
        axis: &chart::axis(&columns, |_, word| html! { (word) }),
        series: &series,
        scale,
        size: Size::Whole,
        empty: "Nothing was counted in this time",
    };
    let drawn = if meter.is_additive() {
        chart::bars(&chart)
    } else {
        chart::lines(&chart)
    };
    html! { (drawn) (chart::table("From", &[&chart])) }
}

fn label(share: &Share) -> String {
    share.group.name().unwrap_or_else(|| "none".to_owned())
}

fn others_name(others: usize, has_more: bool) -> String {
    match others {
        1 if !has_more => "1 other".to_owned(),
        others if has_more => format!("more than {others} others"),
        others => format!("{others} others"),
    }
}

/// What the figure is of.
fn unit(meter: &Meter) -> String {
    match (&*meter.aggregation, &meter.value) {
        ("count", _) => "events".to_owned(),
        (_, Some(value)) => {
            let last = value.rsplit('/').next().unwrap_or_default();
            let last = last.replace("~1", "/").replace("~0", "~");
            match &*meter.aggregation {
                "sum" => last,
                "unique_count" => format!("different {last}"),
                how => format!("{last}, {how}"),
            }
        }
        (how, None) => how.to_owned(),
    }
}

fn series<'a>(
    meter: &Meter,
    report: &Report,
    windows: &[Window],
    names: &'a [String],
    others: &'a str,
) -> Vec<Series<'a>> {
    let whole: Vec<Option<f64>> = windows
        .iter()
        .map(|window| report.columns.get(&window.start).copied())
        .collect();
    if report.shares.is_empty() {
        return vec![Series {
            name: "in all",
            mark: MARKS[0],
            values: whole,
        }];
    }
    let top = report.shares.iter().zip(names).zip(MARKS);
    let mut series: Vec<Series<'a>> = top
        .map(|((share, name), mark)| {
            let values = windows
                .iter()
                .map(|window| share.columns.get(&window.start).copied());
            Series {
                name,
                mark,
                values: values.collect(),
            }
        })
        .collect();
    if meter.is_additive() && (report.shares.len() > TOP || report.has_more) {
        let values = whole.iter().enumerate().map(|(column, whole)| {
            let drawn = series.iter().filter_map(|one| one.values[column]);
            // A rest that is nothing but what floats have lost is none.
            let rest = whole.unwrap_or(0.0) - drawn.sum::<f64>();
            (rest.abs() > whole.unwrap_or(0.0).abs() * 1e-9).then_some(rest)
        });
        let values = values.collect();
        series.push(Series {
            name: others,
            mark: OTHERS,
            values,
        });
    }
    series
}

/// How it compares with the period before.
fn compared(report: &Report) -> String {
    let (Some(total), Some(before)) = (&report.total, &report.before) else {
        return match report.total {
            Some(_) => "nothing in the time before, to compare".to_owned(),
            None => String::new(),
        };
    };
    let (now, then) = (float(total), float(before));
    let change = (now - then) / then.abs() * 100.0;
    match change {
        change if !change.is_finite() || change.abs() < 0.05 => {
            format!("as in the time before: {}", amount(before))
        }
        change if change > 0.0 => format!("{change:.1} % more than in the time before"),
        change => format!("{:.1} % less than in the time before", -change),
    }
}

fn summary(title: &str, report: &Report, names: &[String]) -> String {
    let Some(total) = &report.total else {
        return format!("{title}: nothing was counted.");
    };
    let total = amount(total);
    match (names.first(), report.shares.first()) {
        (Some(name), Some(share)) => {
            format!(
                "{title}: {total}. Most by {name}: {}.",
                amount(&share.value)
            )
        }
        _ => format!("{title}: {total}."),
    }
}
