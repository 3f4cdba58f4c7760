//! Recovering an endpoint: what failed, or never went, is sent again, and how many that is
//! is said before.

use axum::extract::Path;
use axum::response::Response;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::{address, api_path, endpoint, framed, with_status};
use super::shown::Endpoint;
use crate::app;
use crate::console::form::{Form, form_tokens};
use crate::console::inputs::refused;
use crate::console::inputs::{Errors, tick};
use crate::console::layout::see_other;
use crate::console::pairs::{Pairs, href};
use crate::console::parts::{Field, TimeFormat, Tone, duration, field, icon, note, number, time};
use crate::console::refusal::Refusal;
use crate::console::visit::View;

type Named = Path<(String, String)>;

/// One of the two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Recover,
    ReplayMissing,
}

impl Way {
    /// The last part of its address, here and in the API.
    fn rest(self) -> &'static str {
        match self {
            Self::Recover => "/recover",
            Self::ReplayMissing => "/replay-missing",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Recover => "recover",
            Self::ReplayMissing => "replay_missing",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Recover => "Send again what failed",
            Self::ReplayMissing => "Send what never went",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Recover => {
                "Deliveries that were given up are tried again, each once, with the same webhook-id. \
                 What still waits or is being retried goes by itself."
            }
            Self::ReplayMissing => {
                "Events that match its types now and have no delivery to it get one: for an endpoint \
                 that is new, was turned off, or took too few types."
            }
        }
    }
}

/// How many would be sent.
#[derive(Debug, Deserialize)]
struct Preview {
    count: u64,
    is_exact: bool,
}

/// What is asked for, as it was typed.
struct Asked {
    since: String,
    until: String,
    include_pending: bool,
    /// Which of the periods that are offered, if it is one.
    last: Option<String>,
}

impl Asked {
    /// What `pairs` say; without a beginning, the last day.
    fn of(pairs: &Pairs) -> Self {
        let last = match pairs.get("last") {
            Some("1h") => 1,
            Some("7d") => 24 * 7,
            _ => 24,
        };
        let now = Timestamp::from_second(app::now().as_second()).unwrap_or_default();
        let since = now - SignedDuration::from_hours(last);
        Self {
            since: pairs
                .get("since")
                .map_or_else(|| since.to_string(), str::to_owned),
            until: pairs.text("until").to_owned(),
            include_pending: pairs.get("include_pending").is_some(),
            last: match pairs.get("since") {
                Some(_) => None,
                None => Some(pairs.get("last").unwrap_or("24h").to_owned()),
            },
        }
    }

    fn until(&self) -> Option<&str> {
        Some(&*self.until).filter(|until| !until.is_empty())
    }

    /// The body of the API's request.
    fn body(&self, way: Way) -> Value {
        let mut body = json!({ "since": self.since });
        if let Some(until) = self.until() {
            body["until"] = until.into();
        }
        if way == Way::Recover {
            body["include_pending"] = self.include_pending.into();
        }
        body
    }
}

/// `GET …/endpoints/{id}/recover`. Two calls of the API.
pub async fn ask_recover(view: View, Path((_, id)): Named) -> Result<Response, Refusal> {
    asked(&view, &id, Way::Recover).await
}

/// `POST …/endpoints/{id}/recover`. One call of the API.
pub async fn recover(view: View, Path((_, id)): Named, form: Form) -> Result<Response, Refusal> {
    begin(&view, &id, &form, Way::Recover).await
}

/// `GET …/endpoints/{id}/replay-missing`. Two calls of the API.
pub async fn ask_replay(view: View, Path((_, id)): Named) -> Result<Response, Refusal> {
    asked(&view, &id, Way::ReplayMissing).await
}

/// `POST …/endpoints/{id}/replay-missing`. One call of the API.
pub async fn replay(view: View, Path((_, id)): Named, form: Form) -> Result<Response, Refusal> {
    begin(&view, &id, &form, Way::ReplayMissing).await
}

async fn asked(view: &View, id: &str, way: Way) -> Result<Response, Refusal> {
    let asked = Asked::of(&view.query);
    let (found, told) = tokio::join!(endpoint(view, id), preview(view, id, way, &asked));
    let found = found?;
    Ok(match told {
        Ok(told) => shown(view, &found, way, &asked, Some(&told), None),
        Err(refusal) if refusal.is_about_input() => {
            shown(view, &found, way, &asked, None, Some(&refusal))
        }
        // It can be begun without the number.
        Err(_) => shown(view, &found, way, &asked, None, None),
    })
}

async fn begin(view: &View, id: &str, form: &Form, way: Way) -> Result<Response, Refusal> {
    let asked = Asked::of(&form.pairs);
    let body = asked.body(way);
    let path = api_path(id, way.rest());
    match view
        .send(Method::POST, &path, Some(&body), Some(form.once()))
        .await
    {
        Ok(begun) => {
            let recovery = begun["id"].as_str().unwrap_or_default();
            Ok(see_other(
                &view.path_of("recoveries", recovery),
                "recovering",
            ))
        }
        Err(refusal) if refusal.is_about_input() => {
            let found = endpoint(view, id).await?;
            Ok(shown(view, &found, way, &asked, None, Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

async fn preview(view: &View, id: &str, way: Way, asked: &Asked) -> Result<Preview, Refusal> {
    let pending = (way == Way::Recover && asked.include_pending).then_some("true");
    let path = href(
        "/v1/recoveries/preview",
        &[
            ("kind", Some(way.kind())),
            ("endpoint_id", Some(id)),
            ("since", Some(&asked.since)),
            ("until", asked.until()),
            ("include_pending", pending),
        ],
    );
    view.get(&path).await
}

fn shown(
    view: &View,
    found: &Endpoint,
    way: Way,
    asked: &Asked,
    told: Option<&Preview>,
    refusal: Option<&Refusal>,
) -> Response {
    let here = address(view, &found.id, way.rest());
    let body = html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        div.card {
            div.in.form {
                p.small.soft { (way.text()) }
                (periods(&here, way, asked, refusal))
                (count(view, told))
            }
            footer {
                a.btn href=(address(view, &found.id, "")) { "Keep as it is" }
                form method="post" action=(here) {
                    (form_tokens(view))
                    input type="hidden" name="since" value=(asked.since);
                    input type="hidden" name="until" value=(asked.until);
                    @if asked.include_pending { input type="hidden" name="include_pending" value="yes"; }
                    button.btn.primary { (icon("retry")) (deed(told)) }
                }
            }
        }
    };
    with_status(framed(view, found, way.title(), body), refusal)
}

/// The period: by a link, or from a time to another. Counted when it is asked for.
fn periods(here: &str, way: Way, asked: &Asked, refusal: Option<&Refusal>) -> Markup {
    const LAST: [(&str, &str); 3] = [
        ("1h", "Last hour"),
        ("24h", "Last 24 h"),
        ("7d", "Last 7 d"),
    ];
    let errors = Errors(refusal);
    let hint = "As 2026-11-30T09:41:00Z";
    html! {
        div.seg role="group" aria-label="Period" {
            @for (last, word) in LAST { a href=(href(here, &[("last", Some(last))])) aria-current=[(asked.last.as_deref() == Some(last)).then_some("true")] { (word) } }
        }
        form.form action=(here) {
            div.pair {
                (field(&Field { name: "since", label: "Created since (UTC)", value: &asked.since, hint, error: errors.of("since").as_deref(), is_mono: true, is_required: true, ..Field::default() }))
                (field(&Field { name: "until", label: "and before", value: &asked.until, hint: "Empty for now", error: errors.of("until").as_deref(), is_mono: true, ..Field::default() }))
            }
            @if way == Way::Recover {
                (tick("include_pending", "Pending ones too", asked.include_pending, "They are attempted now instead of at their time", None))
            }
            div.acts { button.btn { "Count again" } }
        }
        @if let Ok(since) = asked.since.parse::<Timestamp>() {
            p.small.soft { "Since " (time(since, TimeFormat::FullSeconds)) }
        }
    }
}

/// How many would be sent, and how long that takes.
fn count(view: &View, told: Option<&Preview>) -> Markup {
    let Some(told) = told else {
        return html! {};
    };
    let per_second = u64::from(view.console.app.config.recovery.per_second_max.max(1));
    let took = duration(told.count.div_ceil(per_second) * 1000);
    let title = match (told.count, told.is_exact) {
        (0, true) => "Nothing would be sent".to_owned(),
        (0, false) => "None found among the newest".to_owned(),
        (1, true) => "1 delivery would be sent".to_owned(),
        (n, true) => format!("{} deliveries would be sent", number(n)),
        (n, false) => format!("{} deliveries or more would be sent", number(n)),
    };
    let text = html! {
        @match (told.count, told.is_exact) {
            (0, true) => "There is nothing to recover in that time.",
            (_, true) => { "At most " (per_second) " a second: about " (took) "." },
            (_, false) => { "Counting stopped there: all of that time is gone through, at most " (per_second) " a second." },
        }
    };
    note(Tone::Info, &title, text, html! {})
}

/// What the button says: the deed, with the number.
fn deed(told: Option<&Preview>) -> String {
    match told {
        Some(Preview {
            count,
            is_exact: true,
        }) if *count > 0 => format!("Send {}", number(*count)),
        Some(Preview {
            count,
            is_exact: false,
        }) if *count > 0 => {
            format!("Send {} or more", number(*count))
        }
        _ => "Begin".to_owned(),
    }
}
