//! The words for JSON and parameters that are not what was expected: the one place
//! that translates what serde says, whose own words never reach an answer.
//!
//! Called by whatever reads what comes from outside. What serde says is known by how
//! it begins; of anything else it is only said where it is.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Path, Segment};

use super::refusal::{UNNAMED, kind_of_text, shown_name};
use crate::error::Invalid;

/// What a time is to be.
pub const TIME: &str = "an RFC 3339 timestamp with a zone, as 2026-01-31T12:00:00Z";
/// What is said of a value of which no more is known.
const SOMETHING_ELSE: &str = "expected a value as the API documentation at /docs describes it";

/// Reads the JSON object that `body` must be.
///
/// # Errors
/// [`Invalid`], which names the first field that is wrong by its path, and says what
/// was expected there and what kind of thing came.
pub fn from_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Invalid> {
    let text = utf8(body).map_err(|invalid| of_body(&invalid.detail))?;
    // A sequence would be read as the fields in their order.
    let kind = kind_of(text);
    if kind.is_some_and(|kind| kind != OBJECT) {
        check_syntax(text)?;
        let got = kind.unwrap_or(OBJECT);
        return Err(of_body(&format!("expected {OBJECT}, got {got}")));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = Place::of(error.path());
        // Of malformed JSON serde may notice first what it is not.
        let described = |()| {
            let error = error.into_inner();
            if error.is_data() {
                describe(&place, &message(&error))
            } else {
                place.invalid(not_malformed(&error))
            }
        };
        check_syntax(text).map_or_else(|malformed| malformed, described)
    })?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(read)
}

fn check_syntax(text: &str) -> Result<(), Invalid> {
    let read: Result<IgnoredAny, _> = serde_json::from_str(text);
    read.map(drop).map_err(|error| malformed(&error))
}

/// What was expected where serde_json calls malformed what is not: the name of a variant,
/// a number that can be held, fewer levels.
fn not_malformed(error: &serde_json::Error) -> &'static str {
    match expected_by_syntax(error) {
        "expected a JSON value" => "expected a string",
        expected => expected,
    }
}

fn malformed(error: &serde_json::Error) -> Invalid {
    of_body(&format!("expected JSON: {}", syntax(error)))
}

fn of_body(detail: &str) -> Invalid {
    Invalid::body(format!("the body: {detail}"))
}

/// Reads the parameters of a query.
///
/// # Errors
/// [`Invalid`], which names the parameter.
pub fn from_query<T: DeserializeOwned>(query: &str) -> Result<T, Invalid> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let fields = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let place = Place::of(error.path());
        describe(&place, &error.into_inner().to_string())
    })
}

/// What is wrong with a document of which `expected` was expected: a CloudEvent, an
/// array of them.
pub fn of_document(expected: &str, error: &serde_json::Error) -> Invalid {
    if !error.is_data() {
        return Invalid::body(format!("expected {expected}: {}", syntax(error)));
    }
    let described = describe(&Place::default(), &message(error));
    match (described.field, described.detail.rsplit_once(", got ")) {
        (None, Some((_, got))) => Invalid::body(format!("expected {expected}, got {got}")),
        (None, None) => Invalid::body(format!("expected {expected}")),
        (field, _) => Invalid {
            field,
            detail: described.detail,
        },
    }
}

/// What makes a text no JSON, and where.
pub fn syntax(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "it ends too early".to_owned();
    }
    let (line, byte) = (error.line(), error.column());
    format!(
        "{}, at byte {byte} of line {line}",
        expected_by_syntax(error)
    )
}

fn expected_by_syntax(error: &serde_json::Error) -> &'static str {
    let text = error.to_string();
    let known = SYNTAX.iter().find(|(begins, _)| text.starts_with(begins));
    known.map_or("expected something else", |(_, expected)| expected)
}

/// What a serde_json error of what was not malformed says, without where it is.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&*place).unwrap_or(&text).to_owned()
}

/// How serde_json begins, and what it means.
const SYNTAX: [(&str, &str); 17] = [
    ("expected `:`", "expected a colon after a member's name"),
    ("expected `,` or `]`", "expected a comma or ] after an item"),
    (
        "expected `,` or `}`",
        "expected a comma or } after a member",
    ),
    ("expected ident", "expected true, false or null"),
    ("expected value", "expected a JSON value"),
    ("expected `\"`", "expected a double quote"),
    (
        "invalid escape",
        "expected an escape that JSON knows, such as \\n",
    ),
    ("invalid number", "expected a number as JSON writes them"),
    (
        "number out of range",
        "expected a number that is not as large",
    ),
    ("invalid unicode", "expected characters of Unicode"),
    (
        "control character",
        "expected control characters in strings as escapes",
    ),
    (
        "key must be a string",
        "expected a member's name in double quotes",
    ),
    ("lone leading surrogate", "expected surrogates in pairs"),
    (
        "unexpected end of hex escape",
        "expected surrogates in pairs",
    ),
    ("trailing comma", "expected no comma after the last one"),
    ("trailing characters", "expected nothing after the end"),
    ("recursion limit", "expected up to 127 levels of nesting"),
];

/// The text of a document, which must be UTF-8.
///
/// # Errors
/// [`Invalid`], which says where it is not.
pub fn utf8(json: &[u8]) -> Result<&str, Invalid> {
    std::str::from_utf8(json).map_err(|error| {
        let at = error.valid_up_to();
        Invalid::body(format!("expected UTF-8, got another byte at offset {at}"))
    })
}

/// Where in what was sent something is wrong.
#[derive(Default)]
struct Place {
    /// As it is shown; empty for the whole.
    shown: String,
    /// The last name as it was sent.
    last: String,
}

impl Place {
    fn of(path: &Path) -> Self {
        let mut place = Self::default();
        for segment in path.iter() {
            match segment {
                Segment::Seq { index } => place.shown.push_str(&format!("[{index}]")),
                Segment::Map { key } | Segment::Enum { variant: key } => place.enter(key),
                Segment::Unknown => {}
            }
        }
        place
    }

    fn enter(&mut self, name: &str) {
        self.shown = self.member(name);
        self.last = name.to_owned();
    }

    /// The field `name` below it, as it is shown.
    fn member(&self, name: &str) -> String {
        let separator = if self.shown.is_empty() { "" } else { "." };
        format!("{}{separator}{}", self.shown, shown_name(name))
    }

    fn invalid(&self, detail: impl Into<String>) -> Invalid {
        match &*self.shown {
            "" => of_body(&detail.into()),
            field => Invalid::new(field.to_owned(), detail.into()),
        }
    }
}

/// What serde found wrong at `place`. A missing or unknown field stands in its message
/// alone.
fn describe(place: &Place, message: &str) -> Invalid {
    if let Some(name) = within(message, "missing field `", "`") {
        let detail = "expected a value, got nothing: it is required";
        return Invalid::new(place.member(name), detail);
    }
    if let Some(name) = within(message, "duplicate field `", "`") {
        return Invalid::new(place.member(name), "expected once, got it twice");
    }
    if let Some((name, known)) = named(message, "unknown field `") {
        let field = if place.last == name {
            place.shown.clone()
        } else {
            place.member(name)
        };
        return unknown_field(field, known);
    }
    if let Some((name, known)) = named(message, "unknown variant `") {
        let known = known.unwrap_or_else(|| "nothing".to_owned());
        let got = kind_of_text(name);
        return place.invalid(format!("expected one of {known}, got {got}"));
    }
    let mismatch = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|begins| message.strip_prefix(begins)?.rsplit_once(", expected "));
    let length = message.strip_prefix("invalid length ");
    // Only arrays have a wrong one, also where an object is read from its members.
    let length = length.and_then(|text| Some(("sequence", text.rsplit_once(", expected ")?.1)));
    let mismatch = mismatch.or(length);
    if let Some((got, expected)) = mismatch {
        return place.invalid(mismatched(got, expected));
    }
    // Our own rules say what they expected; serde_json's words for malformed JSON,
    // which begin so too, do not come here.
    if message.starts_with("expected ") {
        return place.invalid(message);
    }
    let known = SCALARS
        .iter()
        .find(|(begins, _)| message.starts_with(begins));
    place.invalid(known.map_or(SOMETHING_ELSE, |(_, expected)| expected))
}

/// The refusal of a field that is not one of the `known`.
fn unknown_field(field: String, known: Option<String>) -> Invalid {
    let what = if field.ends_with(UNNAMED) {
        "a name that is "
    } else {
        ""
    };
    let expected = match known {
        Some(known) => format!("{what}not known here, expected one of {known}"),
        None => format!("{what}not known here, expected nothing"),
    };
    Invalid::new(field, expected)
}

/// How the standard library's refusals of a parameter begin.
const SCALARS: [(&str, &str); 7] = [
    ("invalid digit", "expected a whole number of 0 or more"),
    (
        "cannot parse integer",
        "expected a whole number of 0 or more",
    ),
    ("number too large", "expected a smaller number"),
    ("number too small", "expected a larger number"),
    (
        "number would be zero",
        "expected a whole number of 1 or more",
    ),
    ("provided string was not", "expected true or false"),
    ("invalid float", "expected a number"),
];

fn within<'m>(message: &'m str, begins: &str, ends: &str) -> Option<&'m str> {
    message.strip_prefix(begins)?.strip_suffix(ends)
}

/// The name that `message` is about, and those it might have been.
fn named<'m>(message: &'m str, begins: &str) -> Option<(&'m str, Option<String>)> {
    let rest = message.strip_prefix(begins)?;
    match rest.rsplit_once("`, expected ") {
        Some((name, known)) => Some((name, Some(list(known)))),
        None => Some((rest.rsplit_once("`, ").map_or(rest, |(name, _)| name), None)),
    }
}

/// `one of a, b` or `` `a` or `b` `` as a list.
fn list(known: &str) -> String {
    let names = known.split('`').skip(1).step_by(2);
    names.collect::<Vec<_>>().join(", ")
}

const OBJECT: &str = "a JSON object";

fn mismatched(got: &str, expected: &str) -> String {
    let (wanted, is_number) = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => ("a whole number of 0 or more", true),
        "a nonzero u32" | "a nonzero u64" => ("a whole number of 1 or more", true),
        "i8" | "i16" | "i32" | "i64" => ("a whole number", true),
        "f32" | "f64" => ("a number", true),
        "a boolean" => ("true or false", false),
        "a sequence" => ("an array", false),
        "a map" => ("an object", false),
        "a timestamp string" => (TIME, false),
        "an object" | "an attribute's value" | "a JSON value" => (expected, false),
        "unit" | "unit variant" | "string or map" | "a string" => ("a string", false),
        "any valid JSON value" => ("a JSON value", false),
        _ if expected.starts_with("struct ") => ("an object", false),
        _ if expected.starts_with("internally tagged enum") => ("an object", false),
        _ if expected.starts_with("enum ") || expected.ends_with("identifier") => {
            ("a string", false)
        }
        _ if expected.starts_with("a tuple") || expected.starts_with("tuple ") => {
            ("an array", false)
        }
        _ => return SOMETHING_ELSE.to_owned(),
    };
    let number = Some(got).filter(|_| is_number).and_then(kind_of_number);
    let got = number.unwrap_or_else(|| kind_of_unexpected(got));
    format!("expected {wanted}, got {got}")
}

/// What is wrong with a number where another kind of number was expected.
fn kind_of_number(got: &str) -> Option<&'static str> {
    if got.starts_with("floating point") {
        return Some("one with a fraction or too many digits");
    }
    let number = within(got, "integer `", "`")?;
    Some(match number {
        "0" => "zero",
        number if number.starts_with('-') => "a negative number",
        _ => "one that is too large",
    })
}

/// What serde calls a value by, as JSON does.
fn kind_of_unexpected(got: &str) -> &'static str {
    let kinds = [
        ("string", "a string"),
        ("character", "a string"),
        ("boolean", "a Boolean"),
        ("integer", "a number"),
        ("floating point", "a number"),
        ("number", "a number"),
        ("null", "null"),
        ("unit value", "null"),
        ("sequence", "an array"),
        ("map", "an object"),
        ("newtype variant", "an object"),
    ];
    let kind = kinds.iter().find(|(begins, _)| got.starts_with(begins));
    kind.map_or("something else", |(_, kind)| kind)
}

/// What kind of value a JSON text begins as; none where nothing is.
fn kind_of(text: &str) -> Option<&'static str> {
    let first = text
        .trim_start_matches([' ', '\t', '\r', '\n'])
        .bytes()
        .next()?;
    Some(match first {
        b'{' => OBJECT,
        b'[' => "an array",
        b'"' => "a string",
        b't' | b'f' => "a Boolean",
        b'n' => "null",
        _ => "a number",
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::model::id::EndpointId;
    use crate::model::time::Time;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by nobody")]
    struct Whole {
        name: String,
        count: Option<u32>,
        is_on: Option<bool>,
        part: Option<Part>,
        parts: Option<Vec<Part>>,
        state: Option<State>,
        at: Option<Time>,
        endpoint: Option<EndpointId>,
        share: Option<f64>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by nobody")]
    struct Part {
        pointer: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum State {
        Failed,
        Canceled,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by nobody")]
    struct Asked {
        limit: Option<usize>,
        is_on: Option<bool>,
        since: Option<Time>,
        state: Option<State>,
    }

    #[test]
    fn every_kind_of_error_names_the_field_and_what_was_expected() {
        let mut said = String::new();
        for body in [
            "{}",
            r#"{"name": 5}"#,
            r#"{"name": null}"#,
            r#"{"name": ["a"]}"#,
            r#"{"name": "a", "name": "b"}"#,
            r#"{"name": "a", "nmae": "b"}"#,
            r#"{"name": "a", "count": -1}"#,
            r#"{"name": "a", "count": 1.5}"#,
            r#"{"name": "a", "count": 5000000000}"#,
            r#"{"name": "a", "count": "5"}"#,
            r#"{"name": "a", "is_on": "yes"}"#,
            r#"{"name": "a", "is_on": 1}"#,
            r#"{"name": "a", "share": {}}"#,
            r#"{"name": "a", "part": {}}"#,
            r#"{"name": "a", "part": "x"}"#,
            r#"{"name": "a", "part": []}"#,
            r#"{"name": "a", "parts": {}}"#,
            r#"{"name": "a", "parts": [{"pointer": "x"}, {"pointer": true}]}"#,
            r#"{"name": "a", "parts": [{"pointer": "x", "at line 1": 1}]}"#,
            r#"{"name": "a", "state": "lost"}"#,
            r#"{"name": "a", "state": 5}"#,
            r#"{"name": "a", "state": {"failed": 1}}"#,
            r#"{"name": "a", "state": {}}"#,
            r#"{"name": "a", "share": 1e999}"#,
            r#"{"name": "a", "at": "yesterday"}"#,
            r#"{"name": "a", "at": 1700000000}"#,
            r#"{"name": "a", "endpoint": "evt_1"}"#,
            "[\"a\"]",
            "\"a\"",
            "5",
            "null",
            "",
            "{",
            r#"{"name": "a",}"#,
            r#"{"name": 'a'}"#,
            "{name: 1}",
            r#"{"name": "a"} x"#,
            r#"{"name": "a" "b"}"#,
            r#"{"name": "\x"}"#,
            r#"{"name": tru}"#,
            "{\"name\": \"a\nb\"}",
        ] {
            let invalid = from_body::<Whole>(body.as_bytes()).unwrap_err();
            said.push_str(&format!("{body:?} => {invalid}\n"));
        }
        said.push_str(
            &from_body::<Whole>(b"{\"\xff\": 1}")
                .unwrap_err()
                .to_string(),
        );
        let deep = "[".repeat(200) + &"]".repeat(200);
        let deep = format!(r#"{{"name": "a", "more": {deep}}}"#);
        said.push('\n');
        said.push_str(&from_body::<Whole>(deep.as_bytes()).unwrap_err().to_string());
        insta::assert_snapshot!(said, @r#"
        "{}" => name: expected a value, got nothing: it is required
        "{\"name\": 5}" => name: expected a string, got a number
        "{\"name\": null}" => name: expected a string, got null
        "{\"name\": [\"a\"]}" => name: expected a string, got an array
        "{\"name\": \"a\", \"name\": \"b\"}" => name: expected once, got it twice
        "{\"name\": \"a\", \"nmae\": \"b\"}" => nmae: not known here, expected one of name, count, is_on, part, parts, state, at, endpoint, share
        "{\"name\": \"a\", \"count\": -1}" => count: expected a whole number of 0 or more, got a negative number
        "{\"name\": \"a\", \"count\": 1.5}" => count: expected a whole number of 0 or more, got one with a fraction or too many digits
        "{\"name\": \"a\", \"count\": 5000000000}" => count: expected a whole number of 0 or more, got one that is too large
        "{\"name\": \"a\", \"count\": \"5\"}" => count: expected a whole number of 0 or more, got a string
        "{\"name\": \"a\", \"is_on\": \"yes\"}" => is_on: expected true or false, got a string
        "{\"name\": \"a\", \"is_on\": 1}" => is_on: expected true or false, got a number
        "{\"name\": \"a\", \"share\": {}}" => share: expected a number, got an object
        "{\"name\": \"a\", \"part\": {}}" => part.pointer: expected a value, got nothing: it is required
        "{\"name\": \"a\", \"part\": \"x\"}" => part: expected an object, got a string
        "{\"name\": \"a\", \"part\": []}" => part: expected an object, got an array
        "{\"name\": \"a\", \"parts\": {}}" => parts: expected an array, got an object
        "{\"name\": \"a\", \"parts\": [{\"pointer\": \"x\"}, {\"pointer\": true}]}" => parts[1].pointer: expected a string, got a Boolean
        "{\"name\": \"a\", \"parts\": [{\"pointer\": \"x\", \"at line 1\": 1}]}" => parts[0].…: a name that is not known here, expected one of pointer
        "{\"name\": \"a\", \"state\": \"lost\"}" => state: expected one of failed, canceled, got a string of 4 characters
        "{\"name\": \"a\", \"state\": 5}" => state: expected a string
        "{\"name\": \"a\", \"state\": {\"failed\": 1}}" => state.failed: expected a string, got a number
        "{\"name\": \"a\", \"state\": {}}" => state: expected a string
        "{\"name\": \"a\", \"share\": 1e999}" => share: expected a number that is not as large
        "{\"name\": \"a\", \"at\": \"yesterday\"}" => at: expected an RFC 3339 timestamp with a zone, as 2026-01-31T12:00:00Z, got a string of 9 characters
        "{\"name\": \"a\", \"at\": 1700000000}" => at: expected an RFC 3339 timestamp with a zone, as 2026-01-31T12:00:00Z, got a number
        "{\"name\": \"a\", \"endpoint\": \"evt_1\"}" => endpoint: expected an id that begins with "ep_" and has 26 more characters of 0-9 a-z
        "[\"a\"]" => the body: expected a JSON object, got an array
        "\"a\"" => the body: expected a JSON object, got a string
        "5" => the body: expected a JSON object, got a number
        "null" => the body: expected a JSON object, got null
        "" => the body: expected JSON: it ends too early
        "{" => the body: expected JSON: it ends too early
        "{\"name\": \"a\",}" => the body: expected JSON: expected a member's name in double quotes, at byte 14 of line 1
        "{\"name\": 'a'}" => the body: expected JSON: expected a JSON value, at byte 10 of line 1
        "{name: 1}" => the body: expected JSON: expected a member's name in double quotes, at byte 2 of line 1
        "{\"name\": \"a\"} x" => the body: expected JSON: expected nothing after the end, at byte 15 of line 1
        "{\"name\": \"a\" \"b\"}" => the body: expected JSON: expected a comma or } after a member, at byte 14 of line 1
        "{\"name\": \"\\x\"}" => the body: expected JSON: expected an escape that JSON knows, such as \n, at byte 12 of line 1
        "{\"name\": tru}" => the body: expected JSON: expected true, false or null, at byte 13 of line 1
        "{\"name\": \"a\nb\"}" => the body: expected JSON: expected control characters in strings as escapes, at byte 11 of line 1
        the body: expected UTF-8, got another byte at offset 2
        more: not known here, expected one of name, count, is_on, part, parts, state, at, endpoint, share
        "#);
    }

    #[test]
    fn every_kind_of_parameter_is_named() {
        let mut said = String::new();
        for query in [
            "limit=x",
            "limit=",
            "limit=-1",
            "limit=99999999999999999999",
            "limit=1&limit=2",
            "is_on=yes",
            "since=yesterday",
            "since=2026-01-31T12:00:00+01:00",
            "state=lost",
            "kind=x",
        ] {
            let invalid = from_query::<Asked>(query).unwrap_err();
            said.push_str(&format!("{query} => {invalid}\n"));
        }
        insta::assert_snapshot!(said, @r#"
        limit=x => limit: expected a whole number of 0 or more
        limit= => limit: expected a whole number of 0 or more
        limit=-1 => limit: expected a whole number of 0 or more
        limit=99999999999999999999 => limit: expected a smaller number
        limit=1&limit=2 => limit: expected once, got it twice
        is_on=yes => is_on: expected true or false
        since=yesterday => since: expected an RFC 3339 timestamp with a zone, as 2026-01-31T12:00:00Z, got a string of 9 characters
        since=2026-01-31T12:00:00+01:00 => since: expected an RFC 3339 timestamp with a zone, as 2026-01-31T12:00:00Z, got a string of 25 characters; a + in a query is written %2B
        state=lost => state: expected one of failed, canceled, got a string of 4 characters
        kind=x => kind: not known here, expected one of limit, is_on, since, state
        "#);
    }

    #[test]
    fn what_is_not_known_is_not_repeated() {
        for message in [
            "data did not match any variant of untagged enum X",
            "failed to parse year in date",
            "invalid type: map, expected a Duration",
        ] {
            let mut place = Place::default();
            place.enter("a");
            place.enter("b");
            assert_eq!(
                describe(&place, message).to_string(),
                format!("a.b: {SOMETHING_ELSE}")
            );
        }
        let long = "x".repeat(500);
        let told = describe(
            &Place::default(),
            &format!("unknown variant `{long}`, expected `a`"),
        );
        assert_eq!(
            told.to_string(),
            "the body: expected one of a, got a string of 500 characters"
        );
    }
}
