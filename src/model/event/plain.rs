//! The plain form, for curl: a JSON object with what matters and no ceremony.

use super::canonical::{Event, PlainDefaults};
use super::draft::{EVENT_BYTES_MAX, limit};
use super::members::{draft, members};
use super::rules;
use crate::error::{Invalid, Result};

/// The fields of the plain form; those beyond need the whole CloudEvent.
const FIELDS: [&str; 9] = [
    "type",
    "data",
    "id",
    "source",
    "subject",
    "tenant",
    "time",
    "datacontenttype",
    "dataschema",
];

/// Reads one event in the plain form `{type, data, …}`.
///
/// With a `specversion` it is a whole CloudEvent and read as one. Defaults do
/// not enter the fingerprint: the same plain event sent again has the same one.
///
/// # Errors
/// As [`parse_structured`](super::parse_structured), and [`Error::Invalid`] for a
/// field that the plain form does not have.
///
/// [`Error::Invalid`]: crate::error::Error::Invalid
pub fn parse_plain(json: &[u8], defaults: PlainDefaults<'_>) -> Result<Event> {
    limit("the event", json.len(), EVENT_BYTES_MAX)?;
    let members = members(json)?;
    let names = || members.attributes.iter().map(|(name, _)| &**name);
    if names().any(|name| name == "specversion") {
        return draft(members)?.finish(None);
    }
    if let Some(unknown) = names().find(|name| !FIELDS.contains(name)) {
        return Err(refuse(unknown).into());
    }
    draft(members)?.finish(Some(defaults))
}

fn refuse(unknown: &str) -> Invalid {
    rules::invalid(
        unknown,
        format!(
            "expected one of {}; other attributes need a whole CloudEvent, with \"specversion\": \"1.0\"",
            FIELDS.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::tests::{invalid, plain, text};

    #[test]
    fn the_plain_form_needs_only_a_type() {
        let event = plain(r#"{"type":"order.paid","data":{"total":10}}"#).unwrap();
        insta::assert_snapshot!(
            text(&event),
            @r#"{"specversion":"1.0","id":"generated","source":"/prj","type":"order.paid","time":"2026-01-31T12:00:00Z","data":{"total":10}}"#
        );
        let given = plain(
            r#"{"type":"t","id":"1","source":"/s","time":"2026-01-01T00:00:00Z","tenant":"a","subject":null}"#,
        );
        insta::assert_snapshot!(
            text(&given.unwrap()),
            @r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","tenant":"a","time":"2026-01-01T00:00:00Z"}"#
        );
        let whole = plain(r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","ext":1}"#);
        assert!(text(&whole.unwrap()).ends_with(r#""type":"t","ext":1}"#));
        assert_eq!(invalid(plain("{}")).0, "type");
        assert_eq!(
            invalid(plain(r#"{"specversion":"1.0","type":"t"}"#)).0,
            "id"
        );
    }

    #[test]
    fn the_plain_form_refuses_what_it_does_not_know() {
        let (field, message) = invalid(plain(r#"{"type":"t","payload":1}"#));
        assert_eq!(field, "payload");
        insta::assert_snapshot!(
            message,
            @r#"payload: expected one of type, data, id, source, subject, tenant, time, datacontenttype, dataschema; other attributes need a whole CloudEvent, with "specversion": "1.0""#
        );
    }

    #[test]
    fn defaults_stay_out_of_the_fingerprint() {
        let json = r#"{"type":"t","id":"1","data":{"a":1}}"#;
        let later = PlainDefaults {
            id: "other",
            source: "/elsewhere",
            time: "2027-01-01T00:00:00Z".parse().unwrap(),
        };
        let retried = parse_plain(json.as_bytes(), later).unwrap();
        let first = plain(json).unwrap();
        assert_eq!(first.fingerprint(), retried.fingerprint());
        assert_ne!(first.body(), retried.body());
    }
}
