//! What the API says of a meter's usage in a period: the total, that of each group, and
//! both by columns.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use url::form_urlencoded;

use super::period::Period;
use crate::console::pairs::{Pairs, segment};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::meter::OVERFLOW_NAME;
use crate::model::time::Time;
use crate::model::window::Window;

/// Groups that have colours of their own in a chart.
pub const TOP: usize = 5;

/// What is asked of a meter.
#[derive(Debug)]
pub struct Question<'a> {
    /// The meter's id.
    pub meter: &'a str,
    /// Of which time.
    pub period: &'a Period,
    /// By whose calendar.
    pub time_zone: &'a str,
    /// `tenant`, a pointer, or nothing.
    pub split: Option<&'a str>,
    /// `tenant` and `group[…]` of the API, filled in.
    pub filters: Vec<(&'a str, &'a str)>,
}

/// The parameters of `query` that filter usage, those left empty left out.
pub fn filters(query: &Pairs) -> Vec<(&str, &str)> {
    let pairs = query.iter().filter(|(name, value)| {
        !value.is_empty() && (*name == "tenant" || name.starts_with("group["))
    });
    pairs.collect()
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Row>,
    next_cursor: Option<String>,
}

/// The one value of a report that is neither split nor cut.
#[derive(Deserialize)]
pub struct Total {
    data: Vec<OneValue>,
}

#[derive(Deserialize)]
struct OneValue {
    value: Box<RawValue>,
}

impl Total {
    /// It, if anything was counted.
    pub fn value(&self) -> Option<&str> {
        self.data.first().map(|row| row.value.get())
    }
}

#[derive(Deserialize)]
struct Row {
    start: Time,
    tenant: Option<String>,
    group: Option<BTreeMap<String, Value>>,
    value: Box<RawValue>,
}

/// A group, as usage is split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// What has this tenant, or this at the pointer; null for nothing.
    Is(Value),
    /// What came beyond the bound on groups.
    Overflow,
}

/// The usage of a group.
#[derive(Debug)]
pub struct Share {
    /// Which.
    pub group: Group,
    /// Its total, as the API writes it.
    pub value: String,
    /// Its total in the period before, if there is one.
    pub before: Option<String>,
    /// By columns; of the first [`TOP`] alone.
    pub columns: BTreeMap<Timestamp, f64>,
}

/// What was counted.
#[derive(Debug)]
pub struct Report {
    /// The total, if anything was counted.
    pub total: Option<String>,
    /// That of the period before.
    pub before: Option<String>,
    /// All of it by columns.
    pub columns: BTreeMap<Timestamp, f64>,
    /// By group, the largest first; none if usage is not split.
    pub shares: Vec<Share>,
    /// Whether there are more groups than the API says at once.
    pub has_more: bool,
}

/// Asks for all of it: five requests at once, and one for each of the first [`TOP`]
/// groups.
///
/// # Errors
/// The API's [`Refusal`].
pub async fn load(view: &View, question: &Question<'_>) -> Result<Report, Refusal> {
    let period = question.period;
    let by = question.split;
    let width = period.width.as_str();
    let (total, before, columns, groups, groups_before) = tokio::try_join!(
        rows(view, question, "total", period.span, &[]),
        rows(view, question, "total", period.before, &[]),
        rows(view, question, width, period.span, &[]),
        groups(view, question, by, period.span),
        groups(view, question, by, period.before),
    )?;
    let mut before_of: Vec<(Group, String)> = groups_before
        .data
        .into_iter()
        .filter_map(|row| row.of(by))
        .collect();
    let mut shares: Vec<Share> = groups
        .data
        .into_iter()
        .filter_map(|row| row.of(by))
        .map(|(group, value)| {
            let place = before_of.iter().position(|(other, _)| *other == group);
            Share {
                before: place.map(|place| before_of.swap_remove(place).1),
                group,
                value,
                columns: BTreeMap::new(),
            }
        })
        .collect();
    shares.sort_by(|a, b| float(&b.value).total_cmp(&float(&a.value)));
    let top = shares.iter_mut().take(TOP);
    try_join_all(top.map(|share| async {
        let Some(only) = share.group.filter(by.unwrap_or_default()) else {
            return Ok(());
        };
        let only = [(only.0.as_str(), only.1.as_str())];
        let rows = rows(view, question, width, period.span, &only).await?;
        share.columns = by_column(rows);
        Ok::<_, Refusal>(())
    }))
    .await?;
    let first = |page: Page| {
        page.data
            .into_iter()
            .next()
            .map(|row| row.value.get().to_owned())
    };
    Ok(Report {
        total: first(total),
        before: first(before),
        columns: by_column(columns),
        shares,
        has_more: groups.next_cursor.is_some(),
    })
}

/// The address of usage at the API; `only` in place of the question's filters of that
/// name.
pub fn address(
    question: &Question<'_>,
    window: &str,
    span: Window,
    only: &[(&str, &str)],
) -> String {
    let kept = question.filters.iter();
    let kept = kept.filter(|(name, _)| only.iter().all(|(other, _)| other != name));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("from", &span.start.to_string())
        .append_pair("to", &span.end.to_string())
        .append_pair("window", window)
        .append_pair("time_zone", question.time_zone)
        .extend_pairs(kept)
        .extend_pairs(only);
    format!(
        "/v1/meters/{}/usage?{}",
        segment(question.meter),
        query.finish()
    )
}

async fn rows(
    view: &View,
    question: &Question<'_>,
    window: &str,
    span: Window,
    only: &[(&str, &str)],
) -> Result<Page, Refusal> {
    view.get(&address(question, window, span, only)).await
}

async fn groups(
    view: &View,
    question: &Question<'_>,
    by: Option<&str>,
    span: Window,
) -> Result<Page, Refusal> {
    match by {
        Some(by) => rows(view, question, "total", span, &[("group_by", by)]).await,
        None => Ok(Page {
            data: vec![],
            next_cursor: None,
        }),
    }
}

fn by_column(page: Page) -> BTreeMap<Timestamp, f64> {
    let rows = page.data.into_iter();
    rows.map(|row| (row.start.0, float(row.value.get())))
        .collect()
}

/// A decimal number, as near as a drawing needs it.
pub fn float(value: &str) -> f64 {
    value.parse().unwrap_or(0.0)
}

impl Row {
    /// The group it is of where usage is split by `by`, and its value.
    fn of(self, by: Option<&str>) -> Option<(Group, String)> {
        let by = by?;
        let group = match self.group {
            None => Group::Is(self.tenant.map_or(Value::Null, Value::from)),
            Some(group) if group.contains_key(OVERFLOW_NAME) => Group::Overflow,
            Some(mut group) => Group::Is(group.remove(by)?),
        };
        Some((group, self.value.get().to_owned()))
    }
}

impl Group {
    /// The parameter of the API that asks for it alone, where usage is split by `by`.
    pub fn filter(&self, by: &str) -> Option<(String, String)> {
        match self {
            Self::Is(value) if by == "tenant" => {
                let tenant = value.as_str().unwrap_or_default();
                Some((by.to_owned(), tenant.to_owned()))
            }
            Self::Is(value) => Some((format!("group[{by}]"), written(value))),
            Self::Overflow => Some((format!("group[{OVERFLOW_NAME}]"), "other".to_owned())),
        }
    }

    /// What people read; none for nothing.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Is(Value::Null) => None,
            Self::Is(Value::String(text)) => Some(text.clone()),
            Self::Is(value) => Some(value.to_string()),
            Self::Overflow => Some("beyond the bound on groups".to_owned()),
        }
    }
}

/// A value as `group[…]` takes it: a string in quotes where it would be read as another
/// kind of value.
pub fn written(value: &Value) -> String {
    match value {
        Value::String(text) if serde_json::from_str::<Value>(text).is_err() => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_is_asked_for_as_it_was_told() {
        for (value, text) in [
            (json!("pro"), "pro"),
            (json!("1"), "\"1\""),
            (json!(1), "1"),
            (json!("null"), "\"null\""),
            (Value::Null, "null"),
            (json!(true), "true"),
            (json!(""), ""),
            (json!("\"a\""), "\"\\\"a\\\"\""),
        ] {
            assert_eq!(written(&value), text);
        }
        let of = |group: &Group, by: &str| group.filter(by).unwrap();
        let acme = Group::Is(json!("acme"));
        assert_eq!(
            of(&acme, "tenant"),
            ("tenant".to_owned(), "acme".to_owned())
        );
        let none = Group::Is(Value::Null);
        assert_eq!(of(&none, "tenant"), ("tenant".to_owned(), String::new()));
        assert_eq!(
            of(&none, "/plan"),
            ("group[/plan]".to_owned(), "null".to_owned())
        );
    }
}
