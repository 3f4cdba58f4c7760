//! The filter of an endpoint: which events it receives.
//!
//! Owns the event-type patterns and the tenant rule. Called by the API when an
//! endpoint is written and by the accept path for every event and endpoint, so
//! [`Filter::matches`] allocates nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Invalid;

/// Event types that Millrace itself publishes begin with this.
pub const RESERVED_PREFIX: &str = "millrace.";

/// The type of the event that tests an endpoint.
pub const TEST_TYPE: &str = "millrace.endpoint.test";

/// How many patterns an endpoint may have.
const PATTERNS_MAX: usize = 50;
/// How long a pattern may be, in characters.
const CHARS_MAX: usize = 255;

/// The events an endpoint receives: those of a type and, perhaps, of one tenant.
///
/// Its JSON is for the stores: reading it back checks each pattern, not how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    event_types: Vec<TypePattern>,
    tenant: Option<Box<str>>,
}

impl Filter {
    /// The filter of an endpoint that asks for `event_types` and belongs to `tenant`.
    ///
    /// # Errors
    /// [`Invalid`], which names `event_types` or one of them: no pattern or more
    /// than 50, or a malformed one (see [`TypePattern::parse`]). What a tenant may
    /// be is the events' rule, [`check_tenant`](super::event::check_tenant).
    pub fn new<T: AsRef<str>>(event_types: &[T], tenant: Option<&str>) -> Result<Self, Invalid> {
        if !(1..=PATTERNS_MAX).contains(&event_types.len()) {
            return Err(Invalid::new(
                "event_types",
                format!("expected 1 to {PATTERNS_MAX} event types; [\"*\"] is all of them"),
            ));
        }
        let event_types = event_types
            .iter()
            .enumerate()
            .map(|(at, text)| {
                TypePattern::parse(text.as_ref())
                    .map_err(|invalid| Invalid::new(format!("event_types[{at}]"), invalid.detail))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            event_types,
            tenant: tenant.map(Into::into),
        })
    }

    /// The patterns, in the order given.
    pub fn event_types(&self) -> &[TypePattern] {
        &self.event_types
    }

    /// The tenant whose events alone it lets through.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Whether an event of `event_type`, addressed to `tenant`, goes through.
    ///
    /// A filter with a tenant lets only events of that tenant through; one without
    /// lets the whole project's through, addressed to a tenant or not.
    pub fn matches(&self, event_type: &str, tenant: Option<&str>) -> bool {
        (self.tenant.is_none() || self.tenant.as_deref() == tenant)
            && self.event_types.iter().any(|p| p.matches(event_type))
    }
}

/// One entry of `event_types`: a type, `prefix.*`, or `*`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct TypePattern(Pattern);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Pattern {
    All,
    /// Its full stop included.
    Prefix(Box<str>),
    Exact(Box<str>),
}

impl TypePattern {
    /// Reads an exact type (`order.paid`), a prefix (`order.*`: whatever begins
    /// with `order.` and goes on, at any depth), or `*`.
    ///
    /// # Errors
    /// [`Invalid`] without a field: empty, longer than 255 characters, a `*`
    /// anywhere else, a control character, or space at either end.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if !is_sized(text) {
            return Err(Invalid::body(format!(
                "expected 1 to {CHARS_MAX} characters"
            )));
        }
        if text.trim() != text || text.contains(char::is_control) {
            return Err(Invalid::body(
                "expected no control characters, and no space at either end",
            ));
        }
        if text == "*" {
            return Ok(Self(Pattern::All));
        }
        let (pattern, literal) = match text.strip_suffix('*') {
            Some(prefix) => (Pattern::Prefix(prefix.into()), prefix),
            None => (Pattern::Exact(text.into()), text),
        };
        let is_cut_at_a_stop = literal.len() > 1 && literal.ends_with('.');
        if literal.contains('*') || (literal != text && !is_cut_at_a_stop) {
            return Err(Invalid::body(
                "expected an event type, a prefix that ends in \".*\", or \"*\"",
            ));
        }
        Ok(Self(pattern))
    }

    /// Reads what a list is narrowed to: as [`parse`](Self::parse) does, but publishers
    /// may send types that are no patterns, as `a*b`, and each can be asked for. So a
    /// prefix may be any, and all else is an exact type, however long.
    ///
    /// # Errors
    /// [`Invalid`] without a field: empty, or with a control character.
    pub fn for_list(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::body("expected at least one character"));
        }
        if text.contains(char::is_control) {
            return Err(Invalid::body("expected no control characters"));
        }
        Ok(Self(match text.strip_suffix('*') {
            Some("") => Pattern::All,
            Some(prefix) if prefix.ends_with('.') => Pattern::Prefix(prefix.into()),
            _ => Pattern::Exact(text.into()),
        }))
    }

    /// The one type it stands for, unless it stands for several.
    pub fn exact(&self) -> Option<&str> {
        match &self.0 {
            Pattern::Exact(exact) => Some(exact),
            Pattern::All | Pattern::Prefix(_) => None,
        }
    }

    /// Whether `event_type` is one of those it stands for.
    ///
    /// `*` stands for all that publishers send. An operational event (`millrace.…`)
    /// is for whoever asks for it by that name.
    pub fn matches(&self, event_type: &str) -> bool {
        match &self.0 {
            Pattern::All => !event_type.starts_with(RESERVED_PREFIX),
            Pattern::Prefix(prefix) => {
                event_type.len() > prefix.len() && event_type.starts_with(&**prefix)
            }
            Pattern::Exact(exact) => event_type == &**exact,
        }
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::All => f.write_str("*"),
            Pattern::Prefix(prefix) => write!(f, "{prefix}*"),
            Pattern::Exact(exact) => f.write_str(exact),
        }
    }
}

impl fmt::Debug for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for TypePattern {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<TypePattern> for String {
    fn from(pattern: TypePattern) -> String {
        pattern.to_string()
    }
}

fn is_sized(text: &str) -> bool {
    // Bytes first: counting characters of a body-sized text is not free.
    !text.is_empty() && text.len() <= CHARS_MAX * 4 && text.chars().count() <= CHARS_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(event_types: &[&str], tenant: Option<&str>) -> Filter {
        Filter::new(event_types, tenant).unwrap()
    }

    fn refusal(event_types: &[&str]) -> String {
        Filter::new(event_types, None).unwrap_err().to_string()
    }

    #[test]
    fn an_exact_type_matches_itself() {
        let filter = filter(&["order.paid"], None);
        assert!(filter.matches("order.paid", None));
        for other in ["order.paid.late", "order", "Order.paid", "order.pai", ""] {
            assert!(!filter.matches(other, None), "{other}");
        }
    }

    #[test]
    fn a_prefix_matches_at_any_depth_but_not_itself() {
        let filter = filter(&["order.*"], None);
        assert!(filter.matches("order.paid", None));
        assert!(filter.matches("order.line.added", None));
        for other in ["order", "order.", "orders.paid", "my.order.paid"] {
            assert!(!filter.matches(other, None), "{other}");
        }
    }

    #[test]
    fn a_star_matches_all_that_publishers_send() {
        let filter = filter(&["*"], None);
        assert!(filter.matches("order.paid", None));
        assert!(filter.matches("millracer", None));
        assert!(!filter.matches("millrace.key.created", None));
    }

    #[test]
    fn what_millrace_says_is_asked_for_by_name() {
        for pattern in ["millrace.*", "millrace.key.created"] {
            assert!(filter(&[pattern], None).matches("millrace.key.created", None));
        }
    }

    #[test]
    fn a_tenant_sees_only_its_own() {
        let project = filter(&["*"], None);
        let acme = filter(&["order.*"], Some("acme"));
        for (tenant, is_seen) in [(Some("acme"), true), (Some("ACME"), false), (None, false)] {
            assert!(project.matches("order.paid", tenant));
            assert_eq!(acme.matches("order.paid", tenant), is_seen);
        }
        assert!(!acme.matches("user.created", Some("acme")));
    }

    #[test]
    fn errors_name_the_pattern() {
        assert_eq!(
            refusal(&[]),
            "event_types: expected 1 to 50 event types; [\"*\"] is all of them"
        );
        assert!(refusal(&["a"; 51]).starts_with("event_types: "));
        for bad in ["a*", "*.a", "a.*.b", ".*", "**", "a.**", "a.*.*"] {
            assert_eq!(
                refusal(&["a", "*", bad]),
                "event_types[2]: expected an event type, a prefix that ends in \".*\", or \"*\"",
                "{bad}"
            );
        }
        assert!(refusal(&["a", ""]).starts_with("event_types[1]: expected 1 to 255"));
        assert!(refusal(&[&"é".repeat(256)]).contains("1 to 255 characters"));
        assert!(refusal(&[" a"]).contains("no space"));
        assert!(refusal(&["a\u{7}b"]).contains("no control characters"));
        assert!(Filter::new(&["é".repeat(255)], None).is_ok());
        assert!(Filter::new(&["a"; 50], None).is_ok());
    }

    #[test]
    fn json_reads_back() {
        let filter = filter(&["*", "order.*", "user.created"], Some("acme"));
        let json = serde_json::to_value(&filter).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"event_types": ["*", "order.*", "user.created"], "tenant": "acme"})
        );
        assert_eq!(serde_json::from_value::<Filter>(json).unwrap(), filter);
        assert!(serde_json::from_str::<TypePattern>("\"a*\"").is_err());
    }

    /// What a pattern means, said with the segments of the type.
    fn model_matches(pattern: &str, event_type: &str) -> bool {
        let pattern: Vec<_> = pattern.split('.').collect();
        let segments: Vec<_> = event_type.split('.').collect();
        match pattern.split_last() {
            Some((&"*", [])) => true,
            Some((&"*", prefix)) => {
                segments.starts_with(prefix)
                    && segments.len() > prefix.len()
                    && segments[prefix.len()..] != [""]
            }
            _ => pattern == segments,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_model(
            patterns in prop::collection::vec(r"\*|[ab](\.?[ab]){0,3}(\.\*)?", 1..4),
            own in prop::option::of("[xy]"),
            event_type in "[ab.]{1,6}",
            tenant in prop::option::of("[xy]"),
        ) {
            let filter = Filter::new(&patterns, own.as_deref()).unwrap();
            let expected = patterns.iter().any(|p| model_matches(p, &event_type))
                && match &own {
                    None => true,
                    Some(own) => tenant.as_ref() == Some(own),
                };
            prop_assert_eq!(filter.matches(&event_type, tenant.as_deref()), expected);
        }

        #[test]
        fn what_parses_reads_back(text in r"[a*. ]{0,5}") {
            if let Ok(pattern) = TypePattern::parse(&text) {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }
    }
}
