//! The keywords that this version answers itself, for the library knows the numbers
//! of a schema as floats only: bounds, multiples, `const` and `enum`, all exact.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use jsonschema::paths::Location;
use jsonschema::{Keyword, ValidationError, ValidationOptions};
use serde_json::Value;

use super::expected::{EXPECTED_LEN_MAX, shortened};
use super::json::{Json, number};
use super::node::{Metered, Node};
use crate::model::number::{DIVISOR_DIGITS_MAX, Number};

/// A keyword of a schema, made ready.
type BoxedKeyword = Box<dyn for<'i> Keyword<'i, Metered>>;
/// What makes one, of the values that a schema gives it.
type Make = fn(&Json) -> Result<Assertion, String>;

const KEYWORDS: [(&str, Make); 7] = [
    ("minimum", |limit| {
        bound(limit, "{} or more", |order| order.is_ge())
    }),
    ("maximum", |limit| {
        bound(limit, "{} or less", |order| order.is_le())
    }),
    ("exclusiveMinimum", |limit| {
        bound(limit, "more than {}", |order| order.is_gt())
    }),
    ("exclusiveMaximum", |limit| {
        bound(limit, "less than {}", |order| order.is_lt())
    }),
    ("multipleOf", multiple),
    ("const", |value| {
        Ok(Assertion {
            rule: Rule::Const(value.clone()),
            expected: format!("expected {value}"),
        })
    }),
    ("enum", options),
];

/// `builder` with the keywords of the schema in `exact`.
pub(super) fn exact<'o, R>(
    builder: ValidationOptions<'o, R, Metered>,
    exact: &Arc<Json>,
) -> ValidationOptions<'o, R, Metered> {
    KEYWORDS.iter().fold(builder, |builder, (name, make)| {
        let exact = Arc::clone(exact);
        builder.with_keyword(*name, move |_, value, path| {
            make_keyword(*make, &exact, value, &path)
        })
    })
}

fn make_keyword<'s>(
    make: Make,
    exact: &Json,
    value: &'s Value,
    path: &Location,
) -> Result<BoxedKeyword, ValidationError<'s>> {
    // Where a reference led by a way that the library counts differently there may be
    // something else; then its floats have to do.
    let there = exact.pointer(path.as_str());
    let made = match there.filter(|there| there.to_value() == *value) {
        Some(exact) => make(exact),
        None => Json::parse(&value.to_string())
            .map_err(|error| error.to_string())
            .and_then(|value| make(&value)),
    };
    match made {
        // Each error has a copy of the words.
        Ok(assertion) => Ok(Box::new(Assertion {
            expected: shortened(&assertion.expected, EXPECTED_LEN_MAX),
            ..assertion
        })),
        Err(expected) => Err(ValidationError::schema(expected)),
    }
}

/// What a value must be, and the words for it.
struct Assertion {
    rule: Rule,
    expected: String,
}

enum Rule {
    /// In that order to the limit, if it is a number.
    Bound(Number, fn(Ordering) -> bool),
    /// A multiple of it, if it is a number.
    Multiple(Number),
    Const(Json),
    Enum {
        strings: HashSet<Box<str>>,
        others: Vec<Json>,
    },
}

fn bound(limit: &Json, words: &str, holds: fn(Ordering) -> bool) -> Result<Assertion, String> {
    let Json::Number(text) = limit else {
        return Err("expected number".to_owned());
    };
    Ok(Assertion {
        rule: Rule::Bound(number(text), holds),
        expected: format!("expected {}", words.replace("{}", text)),
    })
}

fn multiple(divisor: &Json) -> Result<Assertion, String> {
    let Json::Number(text) = divisor else {
        return Err("expected number".to_owned());
    };
    let divisor = number(text);
    if divisor.digits() > DIVISOR_DIGITS_MAX {
        let expected = format!("expected a number of up to {DIVISOR_DIGITS_MAX} digits");
        return Err(expected);
    }
    Ok(Assertion {
        rule: Rule::Multiple(divisor),
        expected: format!("expected a multiple of {text}"),
    })
}

fn options(options: &Json) -> Result<Assertion, String> {
    let Json::Array(items) = options else {
        return Err("expected array".to_owned());
    };
    let (mut strings, mut others) = (HashSet::new(), Vec::new());
    for item in items {
        match item {
            Json::String(text) => drop(strings.insert(text.clone())),
            other => others.push(other.clone()),
        }
    }
    Ok(Assertion {
        rule: Rule::Enum { strings, others },
        expected: format!("expected one of {options}"),
    })
}

impl Assertion {
    fn holds(&self, node: Node<'_>) -> bool {
        match &self.rule {
            Rule::Bound(limit, holds) => node.number().is_none_or(|number| {
                node.meter().charge_text(limit.digits());
                holds(number.cmp(limit))
            }),
            Rule::Multiple(divisor) => node.number().is_none_or(|number| {
                node.meter().charge(number.division_steps(divisor));
                number.is_multiple_of(divisor)
            }),
            Rule::Const(expected) => node.is(expected),
            Rule::Enum { strings, others } => match node.string() {
                Some(text) => strings.contains(text),
                None => others.iter().any(|option| node.is(option)),
            },
        }
    }
}

impl<'i> Keyword<'i, Metered> for Assertion {
    fn validate(&self, instance: Node<'i>) -> Result<(), ValidationError<'i>> {
        if self.holds(instance) {
            Ok(())
        } else {
            Err(ValidationError::custom(self.expected.clone()))
        }
    }

    fn is_valid(&self, instance: Node<'i>) -> bool {
        self.holds(instance)
    }
}
