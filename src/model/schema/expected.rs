//! The words for what a schema expected: of the data nothing is repeated but names of
//! properties, and nothing is long.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};

use crate::model::refusal::{shown_name, shown_path};

/// Characters of one description.
pub(super) const EXPECTED_LEN_MAX: usize = 160;
/// Characters of a path into the data that are shown.
const PATH_LEN_MAX: usize = 200;

/// A path into a document as it is shown: what does not look like a name is left out of
/// it, and it is not long.
pub(super) fn shown(pointer: &str) -> String {
    shortened(&shown_path(pointer, '/'), PATH_LEN_MAX)
}

/// What was expected where `error` is.
pub(super) fn of(error: &ValidationError<'_>) -> String {
    let words = match error.kind() {
        Kind::Type { kind } => format!("expected {}", types(kind)),
        Kind::Required { property } => format!("expected the property {property}"),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            format!("expected no property {}", list(unexpected))
        }
        Kind::Enum { options } => format!("expected one of {options}"),
        Kind::Constant { expected_value } => format!("expected {expected_value}"),
        Kind::Minimum { limit } => format!("expected {limit} or more"),
        Kind::Maximum { limit } => format!("expected {limit} or less"),
        Kind::ExclusiveMinimum { limit } => format!("expected more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("expected less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("expected a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("expected at least {limit} characters"),
        Kind::MaxLength { limit } => format!("expected up to {limit} characters"),
        Kind::MinItems { limit } => format!("expected at least {limit} items"),
        Kind::MaxItems { limit } => format!("expected up to {limit} items"),
        Kind::AdditionalItems { limit } => format!("expected up to {limit} items"),
        Kind::MinProperties { limit } => format!("expected at least {limit} properties"),
        Kind::MaxProperties { limit } => format!("expected up to {limit} properties"),
        Kind::UniqueItems => "expected no item twice".to_owned(),
        Kind::Pattern { pattern } => format!("expected a match of {pattern}"),
        Kind::Format { format } => format!("expected the format {format}"),
        Kind::FalseSchema if error.schema_path().as_str().ends_with("Properties") => {
            "expected no properties".to_owned()
        }
        Kind::FalseSchema => "expected nothing here".to_owned(),
        Kind::AnyOf { context } => alternatives(error, context, "anyOf"),
        Kind::OneOfNotValid { context } => alternatives(error, context, "oneOf"),
        Kind::OneOfMultipleValid { .. } => {
            "expected what only one schema of oneOf describes".to_owned()
        }
        Kind::Not { .. } => "expected what the schema of not does not describe".to_owned(),
        Kind::Contains => "expected an item that contains describes".to_owned(),
        Kind::PropertyNames { error } => {
            format!("expected other names of properties: {}", of(error))
        }
        Kind::UnevaluatedItems { .. } => "expected no more items".to_owned(),
        Kind::Custom { message, .. } => message.clone(),
        Kind::ContentEncoding { content_encoding } => {
            format!("expected the encoding {content_encoding}")
        }
        Kind::ContentMediaType { content_media_type } => {
            format!("expected the media type {content_media_type}")
        }
        _ => format!("expected what {} describes", error.kind().keyword()),
    };
    shortened(&words, EXPECTED_LEN_MAX)
}

/// What any of several schemas expected, if each is about the value itself.
fn alternatives(
    error: &ValidationError<'_>,
    context: &[Vec<ValidationError<'static>>],
    keyword: &str,
) -> String {
    let own = |inner: &&ValidationError<'static>| inner.instance_path() == error.instance_path();
    let words = context
        .iter()
        .map(|errors| errors.first().filter(own).map(of))
        .collect::<Option<Vec<_>>>();
    match words {
        Some(words) if !words.is_empty() => {
            let rest = words[1..].iter().map(|words| {
                let bare = words.strip_prefix("expected ");
                format!(" or {}", bare.unwrap_or(words))
            });
            words[0].clone() + &rest.collect::<String>()
        }
        _ => format!("expected what one schema of {keyword} describes"),
    }
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(kind) => kind.to_string(),
        TypeKind::Multiple(kinds) => {
            let names: Vec<_> = kinds.iter().map(|kind| kind.to_string()).collect();
            names.join(" or ")
        }
    }
}

fn list(names: &[String]) -> String {
    let quoted: Vec<_> = names
        .iter()
        .map(|name| format!("{:?}", shown_name(name)))
        .collect();
    quoted.join(", ")
}

/// `text`, or its beginning if it has more than `len_max` characters.
pub(super) fn shortened(text: &str, len_max: usize) -> String {
    match text.char_indices().nth(len_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
