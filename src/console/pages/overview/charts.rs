//! What happened over time: events accepted, deliveries by how they ended, and how long
//! endpoints and first attempts took.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};
use serde::Deserialize;

use super::period::{Period, part_path};
use crate::console::chart::{self, Chart, Scale, Series, Size};
use crate::console::parts::{TimeFormat, duration, number, time};
use crate::console::visit::View;
use crate::model::time::Time;

/// What happened, as the API tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Activity {
    windows: Vec<Window>,
    total: Window,
}

#[derive(Debug, Deserialize)]
struct Window {
    start: Time,
    accepted: u64,
    attempts: Attempts,
    deliveries: Deliveries,
    attempt_ms: Option<Percentiles>,
    lag_ms: Option<Percentiles>,
}

#[derive(Debug, Deserialize)]
struct Attempts {
    succeeded: u64,
    failed: u64,
}

#[derive(Debug, Deserialize)]
struct Deliveries {
    delivered_at_once: u64,
    delivered_later: u64,
    failed: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Percentiles {
    p50: u64,
    p95: u64,
    p99: u64,
}

impl Activity {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        let attempts = &self.total.attempts;
        self.total.accepted + attempts.succeeded + attempts.failed == 0
    }
}

/// What the columns of all charts are.
struct Columns {
    labels: Vec<String>,
    axis: Vec<Markup>,
}

impl Columns {
    fn of(period: Period, activity: &Activity) -> Self {
        let pattern = match period {
            Period::Hour | Period::Day | Period::Week => "%-d %b, %H:%M",
            Period::Month => "%-d %b",
        };
        let written = |at: Timestamp| at.to_zoned(TimeZone::UTC).strftime(pattern).to_string();
        let starts: Vec<_> = activity
            .windows
            .iter()
            .map(|window| window.start.0)
            .collect();
        let axis = chart::axis(&starts, |place, start| match (period, place) {
            (Period::Month, _) => time(*start, TimeFormat::Day),
            (Period::Week, _) | (_, 0) => time(*start, TimeFormat::Full),
            _ => time(*start, TimeFormat::Minute),
        });
        Self {
            labels: starts.into_iter().map(written).collect(),
            axis,
        }
    }
}

/// A chart to be.
struct Plan {
    title: &'static str,
    figure: Markup,
    hint: Markup,
    summary: String,
    series: Vec<Series<'static>>,
    scale: Scale,
    empty: &'static str,
}

impl Plan {
    fn chart<'a>(&'a self, columns: &'a Columns) -> Chart<'a> {
        Chart {
            title: self.title,
            figure: self.figure.clone(),
            hint: self.hint.clone(),
            summary: &self.summary,
            columns: &columns.labels,
            axis: &columns.axis,
            series: &self.series,
            scale: self.scale,
            size: Size::Half,
            empty: self.empty,
        }
    }
}

/// The section of the charts, which is brought up to date by itself.
pub(super) fn section(
    view: &View,
    period: Period,
    activity: &Activity,
    before: Option<&Activity>,
) -> Markup {
    let columns = Columns::of(period, activity);
    let plans = [
        accepted(period, activity, before),
        delivered(activity),
        durations("Time to answer", activity, |window| window.attempt_ms),
        durations("Wait for the first attempt", activity, |window| {
            window.lag_ms
        }),
    ];
    let charts = plans.each_ref().map(|plan| plan.chart(&columns));
    let [accepted, delivered, answer, lag] = &charts;
    let head = match period {
        Period::Hour => "Five minutes",
        Period::Day => "Hour",
        Period::Week => "Six hours",
        Period::Month => "Day",
    };
    html! {
        div #charts.stack data-live="swap" data-src=(part_path(view, "charts")) {
            section.two aria-label=(period.label()) {
                (chart::bars(accepted)) (chart::bars(delivered))
                (chart::lines(answer)) (chart::lines(lag))
            }
            (chart::table(head, &[accepted, delivered, answer, lag]))
        }
    }
}

fn accepted(period: Period, activity: &Activity, before: Option<&Activity>) -> Plan {
    let total = activity.total.accepted;
    let most = activity.windows.iter().map(|window| window.accepted).max();
    Plan {
        title: "Events accepted",
        figure: html! { (number(total)) " " small { (rate(total, period.span().as_secs())) } },
        hint: html! {
            @if let Some(before) = before {
                (compared(total, before.total.accepted)) " " (period.before())
            }
        },
        summary: format!(
            "Events accepted, {}: {}, at most {} in a column.",
            period.label().to_lowercase(),
            number(total),
            number(most.unwrap_or(0))
        ),
        series: vec![counts("accepted", "k1", activity, |window| window.accepted)],
        scale: Scale::Count,
        empty: "No events in this time",
    }
}

fn delivered(activity: &Activity) -> Plan {
    let ended = &activity.total.deliveries;
    let delivered = ended.delivered_at_once + ended.delivered_later;
    let all = delivered + ended.failed;
    let (share, at_once) = (
        percent(delivered, all),
        percent(ended.delivered_at_once, all),
    );
    Plan {
        title: "Delivered",
        figure: html! { (share) " " small { "of " (number(all)) " deliveries that ended" } },
        hint: html! { (at_once) " at once" },
        summary: format!(
            "Deliveries that ended: {share} of {} delivered, {} given up.",
            number(all),
            number(ended.failed)
        ),
        series: vec![
            counts("at once", "calm", activity, |window| {
                window.deliveries.delivered_at_once
            }),
            counts("after a retry", "k4", activity, |window| {
                window.deliveries.delivered_later
            }),
            counts("given up", "red", activity, |window| {
                window.deliveries.failed
            }),
        ],
        scale: Scale::Count,
        empty: "No delivery ended in this time",
    }
}

fn durations(
    title: &'static str,
    activity: &Activity,
    of: fn(&Window) -> Option<Percentiles>,
) -> Plan {
    let total = of(&activity.total);
    let [p50, p95, p99] = [
        |p: Percentiles| p.p50,
        |p: Percentiles| p.p95,
        |p: Percentiles| p.p99,
    ]
    .map(|percentile| total.map_or(0, percentile))
    .map(duration);
    let line = |name, mark, percentile: fn(Percentiles) -> u64| Series {
        name,
        mark,
        values: activity
            .windows
            .iter()
            .map(|window| of(window).map(percentile).map(float))
            .collect(),
    };
    Plan {
        title,
        figure: html! { "about " (p95) " " small { "95th percentile" } },
        hint: html! { "half within " (p50) },
        summary: format!("{title}: half within {p50}, 95 of 100 within {p95}, 99 within {p99}."),
        series: vec![
            line("50th", "k1", |p| p.p50),
            line("95th", "k2", |p| p.p95),
            line("99th percentile", "k3 dash", |p| p.p99),
        ],
        scale: Scale::Duration,
        empty: "No attempt in this time",
    }
}

fn counts(
    name: &'static str,
    mark: &'static str,
    activity: &Activity,
    of: fn(&Window) -> u64,
) -> Series<'static> {
    let values = activity
        .windows
        .iter()
        .map(|window| Some(float(of(window))));
    Series {
        name,
        mark,
        values: values.collect(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "to be drawn, or rounded")]
fn float(n: u64) -> f64 {
    n as f64
}

/// `1.9 a second`.
fn rate(count: u64, seconds: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "weeks of seconds")]
    let a_second = float(count) / seconds as f64;
    match a_second {
        1.0.. => format!("{a_second:.1} a second"),
        _ if a_second >= 1.0 / 60.0 => format!("{:.1} a minute", a_second * 60.0),
        _ => format!("{:.1} an hour", a_second * 3_600.0),
    }
}

/// `99.38 %`: not all is never 100 %, and something never 0.
fn percent(part: u64, all: u64) -> String {
    if all == 0 {
        return "–".to_owned();
    }
    let share = 100.0 * float(part) / float(all);
    let share = match part {
        0 => 0.0,
        _ if part == all => 100.0,
        _ => ((share * 100.0).round() / 100.0).clamp(0.01, 99.99),
    };
    format!("{share} %")
}

/// `6.2 % more than`.
fn compared(now: u64, before: u64) -> String {
    if before == 0 {
        return if now == 0 {
            "as many as"
        } else {
            "there were none in"
        }
        .to_owned();
    }
    let change = 100.0 * (float(now) / float(before) - 1.0);
    match now.cmp(&before) {
        std::cmp::Ordering::Equal => "as many as".to_owned(),
        std::cmp::Ordering::Greater if change >= 900.0 => {
            format!("{:.0} times as many as", float(now) / float(before))
        }
        std::cmp::Ordering::Greater => format!("{change:.1} % more than"),
        std::cmp::Ordering::Less => format!("{:.1} % less than", -change),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_all_is_not_written_as_all() {
        for (part, all, expected) in [
            (0, 0, "–"),
            (0, 5, "0 %"),
            (5, 5, "100 %"),
            (1, 1_000_000, "0.01 %"),
            (999_999, 1_000_000, "99.99 %"),
            (9_938, 10_000, "99.38 %"),
        ] {
            assert_eq!(percent(part, all), expected);
        }
    }

    #[test]
    fn rates_and_comparisons_are_in_words() {
        assert_eq!(rate(165_862, 86_400), "1.9 a second");
        assert_eq!(rate(3_600, 86_400), "2.5 a minute");
        assert_eq!(rate(0, 3_600), "0.0 an hour");
        for (now, before, expected) in [
            (0, 0, "as many as"),
            (3, 0, "there were none in"),
            (7, 7, "as many as"),
            (1_062, 1_000, "6.2 % more than"),
            (938, 1_000, "6.2 % less than"),
            (20, 1, "20 times as many as"),
        ] {
            assert_eq!(compared(now, before), expected);
        }
    }
}
