//! The fingerprint of an event: equal for two submissions of the same content.
//!
//! SHA-256 over a tagged, length-prefixed walk of the event. Object members are
//! sorted, strings unescaped, integer and Boolean attributes spelled as text
//! (binary mode has no other way to carry them), and text and Base64 data
//! counted as bytes. `specversion` is left out: there is only one.

use std::borrow::Cow;
use std::fmt;

use ring::digest::{SHA256, digest};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::draft::{AttributeScalar, Data, Draft};
use super::media::MediaType;
use super::text::Text;
use crate::error::Invalid;
use crate::model::parse_error;

/// The fingerprint of `draft`, whose attributes must be valid and sorted by name.
///
/// # Errors
/// Names `data` when it is JSON that no parser can hold: nested more than 128
/// deep, a number out of range, half a surrogate pair; or when its content type
/// is not JSON and it is not a string.
pub(super) fn of(draft: &Draft<'_>) -> Result<[u8; 32], Invalid> {
    let mut out = Vec::with_capacity(1024);
    for attribute in &draft.attributes {
        if matches!(&*attribute.name, "specversion" | "datacontenttype") {
            continue;
        }
        write_text(&mut out, &attribute.name);
        match &attribute.value {
            AttributeScalar::String(text) => write_text(&mut out, text),
            AttributeScalar::Integer(number) => write_text(&mut out, &number.to_string()),
            AttributeScalar::Boolean(truth) => {
                write_text(&mut out, if *truth { "true" } else { "false" })
            }
        }
    }
    out.push(b'.');
    write_data(&mut out, draft)?;
    let hash = digest(&SHA256, &out);
    Ok(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn write_data(out: &mut Vec<u8>, draft: &Draft<'_>) -> Result<(), Invalid> {
    let media_type = draft.text("datacontenttype");
    match (&draft.data, media_type) {
        (Data::Json(_), None) => write_text(out, "application/json"),
        (_, Some(media_type)) => write_text(out, media_type),
        (_, None) => out.push(b'-'),
    }
    match &draft.data {
        Data::None => {}
        Data::Json(json) if media_type.is_none_or(MediaType::text_is_json) => {
            write_json(out, json)?;
        }
        Data::Json(json) => write_bytes(out, string(json)?.as_bytes()),
        Data::Text(text) => write_bytes(out, text.as_bytes()),
        Data::Binary(bytes) => write_bytes(out, bytes),
    }
    Ok(())
}

/// The JSON value that `bytes` are, if they are one that parsers can hold.
pub(super) fn json_in(bytes: &[u8]) -> Option<&RawValue> {
    let json: &RawValue = serde_json::from_slice(bytes).ok()?;
    write_json(&mut Vec::with_capacity(bytes.len()), json).ok()?;
    Some(json)
}

/// The data of an event and what it is said to be, by which two events are told
/// apart: JSON by its values, and so that bytes in Base64 without a content type, or
/// with one of JSON, are the JSON that they are.
///
/// # Errors
/// As [`of`].
pub(super) fn data_of(draft: &Draft<'_>) -> Result<DataIdentity, Invalid> {
    let media_type = draft.text("datacontenttype");
    let is_json = media_type.is_none_or(MediaType::text_is_json);
    let mut content = Vec::with_capacity(1024);
    let mut implied = None;
    match &draft.data {
        Data::None => {}
        Data::Json(json) if is_json => {
            implied = Some("application/json");
            write_json(&mut content, json)?;
        }
        Data::Json(json) => write_bytes(&mut content, string(json)?.as_bytes()),
        Data::Text(text) => write_bytes(&mut content, text.as_bytes()),
        Data::Binary(bytes) => match json_in(bytes).filter(|_| is_json) {
            Some(json) => {
                implied = Some("application/json");
                write_json(&mut content, json)?;
            }
            None => write_bytes(&mut content, bytes),
        },
    }
    Ok(DataIdentity {
        media_type: media_type.or(implied).map(str::to_owned),
        content,
    })
}

/// See [`data_of`].
pub(super) struct DataIdentity {
    /// The content type, be it only implied.
    pub media_type: Option<String>,
    /// Empty without data, and with data never.
    pub content: Vec<u8>,
}

/// The text of `data` whose content type is not JSON.
fn string(json: &RawValue) -> Result<Cow<'_, str>, Invalid> {
    match serde_json::from_str(json.get()) {
        Ok(Text(text)) => Ok(text),
        Err(_) => Err(Invalid::new(
            "data",
            "expected a string, as datacontenttype is not JSON",
        )),
    }
}

fn write_json(out: &mut Vec<u8>, json: &RawValue) -> Result<(), Invalid> {
    out.push(b'j');
    let mut deserializer = serde_json::Deserializer::from_str(json.get());
    CanonicalWriter(out)
        .deserialize(&mut deserializer)
        .map_err(|error| {
            Invalid::new(
                "data",
                format!(
                    "expected a JSON value within the usual bounds: {}",
                    parse_error::syntax(&error)
                ),
            )
        })
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'b');
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b's');
    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Writes whatever JSON value it meets, with the members of objects sorted.
struct CanonicalWriter<'o>(&'o mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for CanonicalWriter<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CanonicalWriter<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.push(b'n');
        Ok(())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        self.0.push(if truth { b't' } else { b'f' });
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.0.push(b'i');
        self.0.extend_from_slice(&number.to_be_bytes());
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.0.push(b'u');
        self.0.extend_from_slice(&number.to_be_bytes());
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.0.push(b'd');
        self.0.extend_from_slice(&number.to_be_bytes());
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        write_text(self.0, text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push(b'[');
        while items.next_element_seed(CanonicalWriter(self.0))?.is_some() {}
        self.0.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.0.push(b'{');
        let start = self.0.len();
        let mut places = Vec::new();
        loop {
            let key = self.0.len();
            if members.next_key_seed(CanonicalWriter(self.0))?.is_none() {
                break;
            }
            let value = self.0.len();
            members.next_value_seed(CanonicalWriter(self.0))?;
            places.push(MemberSpan {
                key,
                value,
                end: self.0.len(),
            });
        }
        sort_members(self.0, start, places);
        self.0.push(b'}');
        Ok(())
    }
}

/// Where a member stands in the buffer: its key, then its value.
struct MemberSpan {
    key: usize,
    value: usize,
    end: usize,
}

/// Reorders the members written since `start`; a key given twice keeps its order.
fn sort_members(out: &mut Vec<u8>, start: usize, mut places: Vec<MemberSpan>) {
    let key = |place: &MemberSpan| &out[place.key..place.value];
    if places.is_sorted_by(|a, b| key(a) <= key(b)) {
        return;
    }
    places.sort_by(|a, b| key(a).cmp(key(b)));
    let unsorted = out.split_off(start);
    for MemberSpan { key, end, .. } in places {
        out.extend_from_slice(&unsorted[key - start..end - start]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::model::event::parse_structured;
    use crate::model::event::tests::{REQUIRED, binary, invalid, minimal, plain, structured, with};

    #[test]
    fn data_that_no_parser_can_hold_is_refused() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for data in [r#""\ud800""#, "1e999", &*deep] {
            let json = format!(
                r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{data}}}"#
            );
            assert_eq!(invalid(parse_structured(json.as_bytes())).0, "data");
        }
        for event in [
            json!({"data": {"a": 1}, "datacontenttype": "text/plain"}),
            json!({"data": null, "datacontenttype": "text/plain"}),
        ] {
            let mut whole = minimal();
            whole
                .as_object_mut()
                .unwrap()
                .extend(event.as_object().unwrap().clone());
            assert_eq!(invalid(structured(&whole)).0, "data");
        }
        let mut both = with("data", json!(null));
        both["data_base64"] = json!("");
        assert_eq!(invalid(structured(&both)).0, "data_base64");
    }

    #[test]
    fn the_modes_of_one_event_share_a_fingerprint() {
        let json = json!({
            "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "Euro € 😀",
            "datacontenttype": "application/json", "attempt": 5, "retry": true, "data": {"a": "é", "b": [1, 2]},
        });
        let whole = structured(&json).unwrap();
        let mut reordered =
            br#"{"data":{"b":[ 1,2 ] , "\u0061":"\u00e9"},"retry":true,"attempt":5,"#.to_vec();
        reordered.extend_from_slice(
            r#""subject":"Euro € \ud83d\ude00","type":"t","source":"\/s","id":"1","datacontenttype":"application/json","tenant":null,"specversion":"1.0"}"#.as_bytes(),
        );
        let headers = [
            ("ce-specversion", "1.0"),
            ("CE-Id", "%31"),
            ("ce-source", "\"/s\""),
            ("ce-type", "t"),
            ("ce-subject", "Euro%20%E2%82%AC%20%f0%9f%98%80"),
            ("ce-attempt", "5"),
            ("ce-retry", "true"),
            ("content-type", "application/json"),
        ];
        let in_headers = binary(&headers, r#" {"b":[1,2],"a":"é"} "#.as_bytes()).unwrap();
        let curl = r#"{"type":"t","id":"1","source":"/s"}"#;
        assert_eq!(
            parse_structured(&reordered).unwrap().fingerprint(),
            whole.fingerprint()
        );
        assert_eq!(in_headers.fingerprint(), whole.fingerprint());
        assert_eq!(
            plain(curl).unwrap().fingerprint(),
            structured(&minimal()).unwrap().fingerprint()
        );
    }

    #[test]
    fn data_counts_by_its_bytes_unless_it_is_json() {
        let of = |content_type, member: &str, data: &str| {
            let mut event = with("datacontenttype", json!(content_type));
            event[member] = json!(data);
            *structured(&event).unwrap().fingerprint()
        };
        let in_headers = |content_type: &str, body: &[u8]| {
            let headers = [&REQUIRED[..], &[("content-type", content_type)]].concat();
            *binary(&headers, body).unwrap().fingerprint()
        };
        assert_eq!(
            of("text/plain", "data", "hi"),
            in_headers("text/plain", b"hi")
        );
        assert_eq!(
            of("text/plain", "data", "hi"),
            of("text/plain", "data_base64", "aGk=")
        );
        assert_eq!(
            of("image/png", "data_base64", "aGk="),
            in_headers("image/png", b"hi")
        );
        assert_eq!(
            of("text/json", "data", "hi"),
            in_headers("text/json", b"\"hi\"")
        );
        assert_ne!(
            of("text/plain", "data", "hi"),
            of("text/html", "data", "hi")
        );
        let implied = structured(&with("data", json!("hi"))).unwrap();
        assert_eq!(*implied.fingerprint(), of("application/json", "data", "hi"));
    }

    #[test]
    fn another_content_has_another_fingerprint() {
        let events = [
            minimal(),
            with("id", json!("2")),
            with("subject", json!("1")),
            with("time", json!("2026-01-31T12:00:00Z")),
            with("ext", json!("1")),
            with("data", json!(null)),
            with("data", json!("")),
            with("data", json!([])),
            with("data", json!({})),
            with("data", json!(1)),
            with("data", json!(-1)),
            with("data", json!(1.0)),
            with("data", json!("1")),
            with("data", json!({"a": {"b": 1}})),
            with("data", json!({"a": {}, "b": 1})),
            with("data", json!({"b": {}, "a": 1})),
            with("data", json!([[1], 2])),
            with("data", json!([[1, 2]])),
            with("data_base64", json!("")),
            with("data_base64", json!("AA==")),
        ];
        let prints: std::collections::HashSet<_> = events
            .iter()
            .map(|event| *structured(event).unwrap().fingerprint())
            .collect();
        assert_eq!(prints.len(), events.len());
    }
}
