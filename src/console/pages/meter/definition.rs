//! A meter as its pages show it, and how what it counts is written.

use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::model::time::Time;

/// A meter, as its pages show it.
#[derive(Debug, Clone, Deserialize)]
pub struct Meter {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// A note for people.
    pub description: String,
    /// The event types it counts.
    pub event_type: String,
    /// What it makes of the values.
    pub aggregation: String,
    /// Where in `data` the value is.
    pub value: Option<String>,
    /// The pointers it groups by.
    pub group_by: Vec<String>,
    /// What must hold of `data`.
    pub filters: Vec<Value>,
    /// Whether it is published as a metric.
    pub metric: bool,
    /// Events it could not read a value of.
    pub skipped: Option<u64>,
    /// Since when it counts.
    pub created_at: Time,
}

impl Meter {
    /// What it makes of events: `sum of /units`.
    pub fn counts(&self) -> Markup {
        let word = self.aggregation.replace('_', " ");
        html! {
            (word)
            @if let Some(value) = &self.value { " of " code { bdi { (value) } } }
        }
    }

    /// Whether what parts of it come to adds up to the whole.
    pub fn is_additive(&self) -> bool {
        matches!(&*self.aggregation, "count" | "sum")
    }
}

/// A decimal number with its thousands apart: `−21,192,840.5`.
pub fn amount(value: &str) -> String {
    let (sign, digits) = match value.strip_prefix('-') {
        Some(digits) => ("−", digits),
        None => ("", value),
    };
    let (whole, rest) = match digits.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => digits.split_at(at),
        None => (digits, ""),
    };
    let mut out = sign.to_owned();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_whole_and_readable() {
        for (value, text) in [
            ("0", "0"),
            ("999", "999"),
            ("21192840", "21,192,840"),
            ("-1234.5678", "−1,234.5678"),
            ("0.000001", "0.000001"),
            ("12345678901234567890123", "12,345,678,901,234,567,890,123"),
        ] {
            assert_eq!(amount(value), text);
        }
    }
}
