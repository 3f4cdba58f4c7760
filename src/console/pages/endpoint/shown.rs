//! What pages read of the API's answers about endpoints, their deliveries and their
//! recoveries, and the words for their states.

use std::collections::BTreeMap;

use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::console::parts::{Tone, state};

/// A page of the API's lists.
#[derive(Debug, Deserialize)]
pub struct Listed<T> {
    pub data: Vec<T>,
    pub next_cursor: Option<String>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            data: vec![],
            next_cursor: None,
        }
    }
}

/// An endpoint.
#[derive(Debug, Deserialize)]
pub struct Endpoint {
    pub id: String,
    pub uid: Option<String>,
    pub url: String,
    pub description: String,
    pub event_types: Vec<String>,
    pub tenant: Option<String>,
    pub state: String,
    pub rate_limit: Option<u32>,
    pub max_concurrency: Option<u32>,
    pub body_format: String,
    pub content_type: Option<String>,
    pub headers: BTreeMap<String, IgnoredAny>,
    pub auth: Option<Auth>,
    pub client_certificate: Option<Certificate>,
    pub metadata: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// How it authenticates.
#[derive(Debug, Deserialize)]
pub struct Auth {
    #[serde(rename = "type")]
    pub kind: String,
}

/// The certificate it is called with.
#[derive(Debug, Deserialize)]
pub struct Certificate {
    pub sha256: String,
}

/// How it does.
#[derive(Debug, Deserialize)]
pub struct Stats {
    pub breaker: Breaker,
    pub failing_since: Option<Timestamp>,
    pub disabled_at: Option<Timestamp>,
    pub latest: Latest,
}

/// Whether it is left alone.
#[derive(Debug, Deserialize)]
pub struct Breaker {
    pub state: String,
    pub failures: u32,
    pub retry_at: Option<Timestamp>,
}

/// Its latest deliveries by state.
#[derive(Debug, Deserialize)]
pub struct Latest {
    pub deliveries: u64,
    pub pending: u64,
    pub delivered: u64,
    pub failed: u64,
}

/// A delivery.
#[derive(Debug, Deserialize)]
pub struct Delivery {
    pub id: String,
    pub event_id: String,
    pub event_type: String,
    pub state: String,
    pub attempts_made: u32,
    pub attempts: Vec<Attempt>,
    pub created_at: Timestamp,
}

/// An attempt.
#[derive(Debug, Deserialize)]
pub struct Attempt {
    pub duration_ms: u64,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub response: Option<String>,
    pub request_headers: Option<BTreeMap<String, String>>,
}

impl Endpoint {
    /// What people call it: its description, or else its host.
    pub fn name(&self) -> &str {
        match self.description.trim() {
            "" => host(&self.url),
            description => description,
        }
    }

    /// Whether it takes events.
    pub fn is_enabled(&self) -> bool {
        self.state == "enabled"
    }

    /// Its state: sign, word and colour.
    pub fn state(&self, is_failing: bool) -> Markup {
        match &*self.state {
            "enabled" if is_failing => state(Tone::Bad, "alert", "Failing"),
            "enabled" => state(Tone::Ok, "check", "Enabled"),
            "disabled" => state(Tone::Off, "pause", "Turned off"),
            "gone" => state(Tone::Bad, "x", "Gone"),
            "failed" => state(Tone::Bad, "x", "Turned off: failed"),
            _ => state(Tone::Plain, "info", &self.state),
        }
    }
}

/// The host of a URL, and its port.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

impl Delivery {
    /// Its state, at an endpoint that takes events or does not.
    pub fn state(&self, is_enabled: bool) -> Markup {
        match (&*self.state, self.attempts_made) {
            ("delivered", _) => state(Tone::Ok, "check", "Delivered"),
            ("failed", _) => state(Tone::Bad, "x", "Failed"),
            ("canceled", _) => state(Tone::Off, "minus", "Canceled"),
            ("pending", _) if !is_enabled => state(Tone::Warn, "pause", "Waiting"),
            ("pending", 0) => state(Tone::Plain, "clock", "Pending"),
            ("pending", _) => state(Tone::Warn, "retry", "Retrying"),
            _ => state(Tone::Plain, "info", &self.state),
        }
    }

    /// The last attempt, if it failed.
    pub fn failure(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| !attempt.succeeded())
    }
}

impl Attempt {
    /// Whether it was answered 2xx.
    pub fn succeeded(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }

    /// What came: a status, or why none did.
    pub fn answer(&self) -> String {
        match (self.status, &self.error) {
            (Some(status), _) => status.to_string(),
            (None, Some(error)) => error.clone(),
            (None, None) => "no answer".to_owned(),
        }
    }
}

/// A recovery.
#[derive(Debug, Deserialize)]
pub struct Recovery {
    pub id: String,
    pub kind: String,
    pub state: String,
    pub endpoint_id: Option<String>,
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    pub tenant: Option<String>,
    pub since: Timestamp,
    pub until: Timestamp,
    pub progress: f64,
    pub examined: u64,
    pub resent: u64,
    pub skipped: u64,
    pub error: Option<String>,
    pub include_pending: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What a recovery has in its progress bar when it is whole.
const WHOLE: u32 = 1000;

impl Recovery {
    /// What it does.
    pub fn what(&self) -> &str {
        match &*self.kind {
            "recover" => "Send again what failed",
            "replay_missing" => "Send what never went",
            "retry" => "Retry deliveries",
            "archive" => "Archive a day",
            other => other,
        }
    }

    /// Whether it goes on.
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// Its state: sign, word and colour.
    pub fn state(&self) -> Markup {
        match &*self.state {
            "running" if self.progress >= 1.0 => state(Tone::Info, "clock", "Second look"),
            "running" => state(Tone::Info, "retry", "Running"),
            "done" => state(Tone::Ok, "check", "Done"),
            "canceled" => state(Tone::Off, "minus", "Canceled"),
            "failed" => state(Tone::Bad, "x", "Failed"),
            other => state(Tone::Plain, "info", other),
        }
    }

    /// How far it is.
    pub fn bar(&self) -> Markup {
        let tone = match &*self.state {
            "done" => Some("is-ok"),
            "failed" => Some("is-bad"),
            _ => None,
        };
        let part = self.progress.clamp(0.0, 1.0) * f64::from(WHOLE);
        let label = format!("{}: {:.0} %", self.what(), self.progress * 100.0);
        html! {
            progress class=[tone] value={ (format!("{part:.0}")) } max=(WHOLE) aria-label=(label) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_a_description_is_called_by_its_host() {
        for (url, name) in [
            ("https://hooks.example.com/a?b#c", "hooks.example.com"),
            ("http://127.0.0.1:9000", "127.0.0.1:9000"),
            ("https://[::1]:9/x", "[::1]:9"),
            ("", ""),
        ] {
            assert_eq!(host(url), name);
        }
    }
}
