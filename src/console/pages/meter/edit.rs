//! The forms of a meter: new, edit, delete, and counting older events.

use axum::extract::Path;
use axum::response::Response;
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::definition::Meter;
use crate::console::form::Form;
use crate::console::inputs::refused;
use crate::console::inputs::{Errors, editor, select, tick};
use crate::console::layout::{self, Page, Section, see_other};
use crate::console::pairs::{Pairs, segment};
use crate::console::parts::{self, Field, field};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::meter::Aggregation;
use crate::model::parse_error;

/// What each aggregation is called where it is chosen.
const AGGREGATIONS: [(&str, &str); 7] = [
    ("count", "Count: how many events there were"),
    ("sum", "Sum: the values added up"),
    ("average", "Average: the sum divided by the count"),
    ("min", "Min: the smallest value"),
    ("max", "Max: the largest value"),
    (
        "unique_count",
        "Unique count: how many different values there were",
    ),
    ("latest", "Latest: the value of the latest event"),
];

/// The form of a new meter.
pub async fn new(view: View) -> Response {
    new_page(&view, &Pairs::default(), None).await
}

/// Creates a meter: one request.
pub async fn create(view: View, form: Form) -> Result<Response, Refusal> {
    let made = match new_meter(&form.pairs) {
        Ok(body) => {
            view.send(Method::POST, "/v1/meters", Some(&body), Some(form.once()))
                .await
        }
        Err(refusal) => Err(refusal),
    };
    match made {
        Ok(made) => {
            let id = made["id"].as_str().unwrap_or_default();
            Ok(see_other(&view.path_of("meters", id), "meter"))
        }
        Err(refusal) if refusal.is_about_input() => {
            Ok(new_page(&view, &form.pairs, Some(&refusal)).await)
        }
        Err(refusal) => Err(refusal),
    }
}

/// What the API is to create: fields left empty are left out.
fn new_meter(form: &Pairs) -> Result<Value, Refusal> {
    let mut body = Map::new();
    for name in ["name", "event_type", "aggregation"] {
        body.insert(name.into(), form.text(name).into());
    }
    for name in ["description", "value"] {
        if let Some(given) = form.get(name) {
            body.insert(name.into(), given.into());
        }
    }
    let pointers: Vec<&str> = lines(form.text("group_by")).collect();
    if !pointers.is_empty() {
        body.insert("group_by".into(), json!(pointers));
    }
    if let Some(filters) = form.get("filters").filter(|text| !text.trim().is_empty()) {
        let filters: Value = serde_json::from_str(filters).map_err(|error| {
            of_field(
                "filters",
                format!("expected JSON: {}", parse_error::syntax(&error)),
            )
        })?;
        body.insert("filters".into(), filters);
    }
    if form.get("metric").is_some() {
        body.insert("metric".into(), true.into());
    }
    Ok(body.into())
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// That a field of a form is not as it must be.
fn of_field(name: &str, detail: impl Into<String>) -> Refusal {
    let mut refusal = Refusal::new(
        StatusCode::BAD_REQUEST,
        "invalid",
        "Invalid request",
        detail,
    );
    refusal.field = Some(name.to_owned());
    refusal
}

async fn new_page(view: &View, given: &Pairs, refusal: Option<&Refusal>) -> Response {
    let errors = Errors(refusal);
    let known = types(view).await;
    let fields = html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        (text(given, errors, "name", "Name", "What people call it: unique in the project", "Revenue"))
        (text(given, errors, "description", "Description", "A note for people; may be empty", ""))
        (types_field(given, errors, &known))
        (select("aggregation", "What it makes of them", AGGREGATIONS, given.get("aggregation").unwrap_or(Aggregation::Count.as_str()), errors.of("aggregation").as_deref()))
        (text(given, errors, "value", "Value", "Where in data it is, a JSON pointer; empty for a count", "/total"))
        (many(given, errors, "group_by", "Told apart by", "Up to 5 JSON pointers into data, one a line; tenants are told apart anyhow", "/plan"))
        (editor("filters", "Only if", given.text("filters"), "A JSON array of up to 10 filters, such as [{\"pointer\": \"/status\", \"in\": [\"paid\"]}]; empty for all events", errors.of("filters").as_deref()))
        (tick("metric", "Publish as a CloudWatch metric", given.get("metric").is_some(), "What it newly counts, by group, under its name", errors.of("metric").as_deref()))
        p.hint { "What a meter counts is fixed once it is made: usage before and after would not add up." }
        (buttons("Create meter", &view.path("meters")))
    };
    let page = Page {
        crumbs: &[("Meters", view.path("meters"))],
        body: layout::form(view, &view.path("meters/new"), fields),
        ..Page::new("New meter", Section::Meters)
    };
    answer(view, page, refusal)
}

#[derive(Deserialize)]
struct Names {
    data: Vec<Name>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

/// Event types to choose from; none where they cannot be told.
async fn types(view: &View) -> Vec<String> {
    let names: Option<Names> = view.get("/v1/event-types?limit=100").await.ok();
    let names = names.into_iter().flat_map(|names| names.data);
    names.map(|one| one.name).collect()
}

fn types_field(given: &Pairs, errors: Errors<'_>, known: &[String]) -> Markup {
    let error = errors.of("event_type");
    html! {
        div.field {
            label for="event_type" { "Event type" }
            input #event_type.mono name="event_type" value=(given.text("event_type")) list="types" required autocomplete="off" spellcheck="false"
                placeholder="invoice.paid" aria-invalid=[error.as_ref().map(|_| "true")] aria-describedby="event_type-h";
            @match &error {
                Some(error) => span.error #event_type-h { (parts::icon("alert")) span { (error) } },
                None => span.hint #event_type-h { "Exact, " code { "prefix.*" } ", or " code { "*" } " for all" },
            }
            datalist #types { @for name in known { option value=(name) {} } }
        }
    }
}

fn text(
    given: &Pairs,
    errors: Errors<'_>,
    name: &str,
    label: &str,
    hint: &str,
    placeholder: &str,
) -> Markup {
    field(&Field {
        name,
        label,
        value: given.text(name),
        hint,
        error: errors.of(name).as_deref(),
        placeholder,
        is_mono: name == "value",
        is_required: name == "name",
        rows: None,
    })
}

fn many(
    given: &Pairs,
    errors: Errors<'_>,
    name: &str,
    label: &str,
    hint: &str,
    placeholder: &str,
) -> Markup {
    field(&Field {
        name,
        label,
        value: given.text(name),
        hint,
        error: errors.of(name).as_deref(),
        placeholder,
        is_mono: true,
        is_required: false,
        rows: Some(3),
    })
}

fn buttons(word: &str, back: &str) -> Markup {
    html! {
        div.acts {
            button.btn.primary { (word) }
            a.btn href=(back) { "Cancel" }
        }
    }
}

/// `page`, with the status of the refusal that it shows.
fn answer(view: &View, page: Page<'_>, refusal: Option<&Refusal>) -> Response {
    let mut response = layout::page(view, page);
    if let Some(refusal) = refusal {
        *response.status_mut() = refusal.status_code();
    }
    response
}

async fn meter(view: &View, id: &str) -> Result<Meter, Refusal> {
    view.get(&path(id)).await
}

fn path(id: &str) -> String {
    format!("/v1/meters/{}", segment(id))
}

/// A page below that of a meter, with a form that is sent to its own address.
fn below(
    view: &View,
    meter: &Meter,
    (rest, title): (&str, &str),
    fields: Markup,
    refusal: Option<&Refusal>,
) -> Response {
    let of_meter = view.path_of("meters", &meter.id);
    let action = format!("{of_meter}/{rest}");
    let page = Page {
        crumbs: &[("Meters", view.path("meters")), (&meter.name, of_meter)],
        body: layout::form(view, &action, fields),
        ..Page::new(title, Section::Meters)
    };
    answer(view, page, refusal)
}

/// The form that changes a meter: one request.
pub async fn edit(view: View, Path((_, id)): Path<(String, String)>) -> Result<Response, Refusal> {
    let meter = meter(&view, &id).await?;
    let metric = if meter.metric { "yes" } else { "" };
    let given = [
        ("name", &*meter.name),
        ("description", &*meter.description),
        ("metric", metric),
    ];
    let given = Pairs::from(given);
    Ok(edit_page(&view, &meter, &given, None))
}

fn edit_page(view: &View, meter: &Meter, given: &Pairs, refusal: Option<&Refusal>) -> Response {
    let errors = Errors(refusal);
    let fields = html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        (text(given, errors, "name", "Name", "What people call it: unique in the project", ""))
        (text(given, errors, "description", "Description", "A note for people; may be empty", ""))
        (tick("metric", "Publish as a CloudWatch metric", given.get("metric").is_some(), "What it newly counts, by group, under its name", errors.of("metric").as_deref()))
        p.hint { "What it counts is fixed. To count something else, make another meter and count older events with it." }
        (buttons("Save", &view.path_of("meters", &meter.id)))
    };
    below(view, meter, ("edit", "Edit meter"), fields, refusal)
}

/// Changes a meter: one request, and one more if it is refused.
pub async fn save(
    view: View,
    Path((_, id)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Refusal> {
    let body = json!({
        "name": form.text("name"),
        "description": form.text("description"),
        "metric": form.is_ticked("metric"),
    });
    match view
        .send(Method::PATCH, &path(&id), Some(&body), None)
        .await
    {
        Ok(_) => Ok(see_other(&view.path_of("meters", &id), "meter")),
        Err(refusal) if refusal.is_about_input() => {
            let meter = meter(&view, &id).await?;
            Ok(edit_page(&view, &meter, &form.pairs, Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

/// Asks whether a meter is to be deleted: one request.
pub async fn ask_to_delete(
    view: View,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let meter = meter(&view, &id).await?;
    Ok(delete_page(&view, &meter, "", None))
}

fn delete_page(view: &View, meter: &Meter, typed: &str, refusal: Option<&Refusal>) -> Response {
    let label = format!("Type {} to delete it", meter.name);
    let fields = html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        p { "All that it has counted is deleted with it, for good. Events stay; another meter can count those that are kept." }
        (field(&Field {
            name: "confirm", label: &label, value: typed, error: Errors(refusal).of("confirm").as_deref(),
            is_required: true, ..Field::default()
        }))
        div.acts {
            button.btn.danger.primary { "Delete meter" }
            a.btn href=(view.path_of("meters", &meter.id)) { "Keep it" }
        }
    };
    below(
        view,
        meter,
        ("delete", "Delete this meter?"),
        fields,
        refusal,
    )
}

/// Deletes a meter whose name was typed: two requests.
pub async fn delete(
    view: View,
    Path((_, id)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Refusal> {
    let meter = meter(&view, &id).await?;
    let typed = form.text("confirm");
    if typed != meter.name {
        let refusal = of_field(
            "confirm",
            "expected the name of the meter, as it is written above",
        );
        return Ok(delete_page(&view, &meter, typed, Some(&refusal)));
    }
    view.send(Method::DELETE, &path(&id), None, None).await?;
    Ok(see_other(&view.path("meters"), "deleted"))
}

/// Asks which older events are to be counted: one request.
pub async fn ask_to_backfill(
    view: View,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let meter = meter(&view, &id).await?;
    Ok(backfill_page(&view, &meter, &Pairs::default(), None))
}

fn backfill_page(view: &View, meter: &Meter, given: &Pairs, refusal: Option<&Refusal>) -> Response {
    let errors = Errors(refusal);
    let fields = html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        p { "Events that are kept already are read, the newest first, and counted at their time. None counts twice, so asking again does no harm." }
        (text(given, errors, "since", "Received since", "In UTC, as 2026-01-31T12:00:00Z; empty for all that are kept", ""))
        (text(given, errors, "until", "Received before", "In UTC; empty for now", ""))
        (buttons("Count older events", &view.path_of("meters", &meter.id)))
    };
    below(
        view,
        meter,
        ("backfill", "Count older events?"),
        fields,
        refusal,
    )
}

/// Begins a back-fill: one request, and one more if it is refused.
pub async fn begin_backfill(
    view: View,
    Path((_, id)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Refusal> {
    let mut body = Map::new();
    for name in ["since", "until"] {
        if let Some(given) = form.get(name) {
            body.insert(name.into(), given.trim().into());
        }
    }
    let asked = format!("{}/backfill", path(&id));
    match view
        .send(Method::POST, &asked, Some(&body.into()), Some(form.once()))
        .await
    {
        Ok(_) => {
            let to = format!("{}#backfill", view.path_of("meters", &id));
            Ok(see_other(&to, "backfilling"))
        }
        Err(refusal) if refusal.is_about_input() => {
            let meter = meter(&view, &id).await?;
            Ok(backfill_page(&view, &meter, &form.pairs, Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_empty_is_left_out_and_json_is_checked() {
        let form = |text: &str| new_meter(&Pairs::parse(text.as_bytes()));
        let made = form(
            "name=a&event_type=x.*&aggregation=sum&value=/n&description=&group_by=%20/a%0D%0A%0D%0A/b&filters=[]&metric=yes",
        );
        assert_eq!(
            made.unwrap(),
            json!({
                "name": "a", "event_type": "x.*", "aggregation": "sum", "value": "/n",
                "group_by": ["/a", "/b"], "filters": [], "metric": true
            })
        );
        let made = form("name=a&event_type=x&aggregation=count&value=&group_by=&filters=%20");
        assert_eq!(
            made.unwrap(),
            json!({ "name": "a", "event_type": "x", "aggregation": "count" })
        );
        let refused = form("filters=[{]").unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("filters"));
        assert!(
            refused.detail.starts_with("expected JSON: "),
            "{}",
            refused.detail
        );
    }

    #[test]
    fn every_aggregation_can_be_chosen() {
        let known = Aggregation::ALL.map(Aggregation::as_str);
        assert_eq!(AGGREGATIONS.map(|(name, _)| name), known);
    }
}
