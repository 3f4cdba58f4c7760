//! Parts of forms that [`parts`](super::parts) has none of: choices, boxes to tick, an
//! editor, and whose field a refusal is about.

use maud::{Markup, html};

use super::parts::icon;
use super::refusal::Refusal;

/// What a refusal says of each field of a form.
#[derive(Debug, Clone, Copy)]
pub struct Errors<'a>(pub Option<&'a Refusal>);

impl Errors<'_> {
    /// What is wrong with the field `name`, or with a part of it.
    pub fn of(self, name: &str) -> Option<String> {
        let refusal = self.0?;
        let rest = refusal.field.as_deref()?.strip_prefix(name)?;
        match rest.chars().next() {
            None => Some(refusal.detail.clone()),
            Some('[' | '.' | '/') => Some(format!("{name}{rest}: {}", refusal.detail)),
            Some(_) => None,
        }
    }
}

/// What stands above a form that was refused: the field's name leads to it.
pub fn refused(refusal: &Refusal) -> Markup {
    html! {
        div.note.is-bad role="alert" {
            (icon("alert"))
            div {
                h2 { (refusal.title) }
                p {
                    @if let Some(field) = &refusal.field { a href={ "#" (field) } { bdi { (field) } } ": " }
                    (refusal.detail) "."
                }
            }
        }
    }
}

/// One of several: `options` are values and their words.
pub fn select<'a>(
    name: &str,
    label: &str,
    options: impl IntoIterator<Item = (&'a str, &'a str)>,
    chosen: &str,
    error: Option<&str>,
) -> Markup {
    let described = error.map(|_| format!("{name}-e"));
    html! {
        div.field {
            label for=(name) { (label) }
            select id=(name) name=(name) aria-invalid=[error.map(|_| "true")] aria-describedby=[described] {
                @for (value, word) in options { option value=(value) selected[value == chosen] { (word) } }
            }
            @if let Some(error) = error { span.error id={ (name) "-e" } { (icon("alert")) span { (error) } } }
        }
    }
}

/// A field of a filter bar, whose label is read but not seen. Of one name there may be
/// several, so that none has an id.
pub fn filter(name: &str, label: &str, value: &str, list: Option<&str>, kind: &str) -> Markup {
    html! {
        div.field {
            input name=(name) aria-label=(label) type=(kind) value=(value) placeholder=(label) list=[list] autocomplete="off" spellcheck="false";
        }
    }
}

/// A choice in a filter bar; to that of the period leads the key `f`.
pub fn filter_choice<'a>(
    name: &str,
    label: &str,
    options: impl IntoIterator<Item = (&'a str, &'a str)>,
    chosen: &str,
) -> Markup {
    let is_first = name == "period";
    html! {
        div.field {
            label.sr for={ "f-" (name) } { (label) }
            select id={ "f-" (name) } name=(name) data-first-filter[is_first] {
                @for (value, word) in options { option value=(value) selected[value == chosen] { (word) } }
            }
        }
    }
}

/// A box to tick.
pub fn tick(name: &str, label: &str, is_ticked: bool, hint: &str, error: Option<&str>) -> Markup {
    let end = if error.is_some() { "e" } else { "h" };
    html! {
        div.field {
            label.tick { input id=(name) type="checkbox" name=(name) value="yes" checked[is_ticked] aria-invalid=[error.map(|_| "true")] aria-describedby={ (name) "-" (end) }; (label) }
            @match error {
                Some(error) => span.error id={ (name) "-e" } { (icon("alert")) span { (error) } },
                None => span.hint id={ (name) "-h" } { (hint) },
            }
        }
    }
}

/// Several lines of code, numbered.
pub fn editor(name: &str, label: &str, text: &str, hint: &str, error: Option<&str>) -> Markup {
    const ROWS_MIN: usize = 12;
    const ROWS_MAX: usize = 400;
    let rows = text.lines().count().clamp(ROWS_MIN, ROWS_MAX);
    let end = if error.is_some() { "e" } else { "h" };
    html! {
        div.field {
            label for=(name) { (label) }
            div.editor {
                ol aria-hidden="true" { @for line in 1..=rows { li { (line) } } }
                textarea id=(name) name=(name) rows=(rows) spellcheck="false" autocapitalize="off"
                    aria-invalid=[error.map(|_| "true")] aria-describedby={ (name) "-" (end) } { "\n" (text) }
            }
            @match error {
                Some(error) => span.error id={ (name) "-e" } { (icon("alert")) span { (error) } },
                None => span.hint id={ (name) "-h" } { (hint) },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_field_is_told_what_is_wrong_with_it_and_with_its_parts() {
        let of = |field: &str, name: &str| {
            let mut refusal =
                Refusal::new(StatusCode::BAD_REQUEST, "invalid", "Invalid", "expected x");
            refusal.field = Some(field.to_owned());
            Errors(Some(&refusal)).of(name)
        };
        assert_eq!(of("name", "name").as_deref(), Some("expected x"));
        let part = of("filters[0].equals", "filters");
        assert_eq!(part.as_deref(), Some("filters[0].equals: expected x"));
        assert_eq!(of("names", "name"), None);
        assert_eq!(of("value", "name"), None);
        assert_eq!(Errors(None).of("name"), None);
    }
}
