//! Scalars: the leaves of a JSON document in a form that can be compared. One value
//! has one form, however it was written.

use super::decimal::Decimal;
use super::number::Number;

/// A JSON value that is neither object nor array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number: in its plain form, so that `1`, `1.0` and `1e0` are one; as its
    /// significant digits and a power of ten if that form is too long.
    Number(Box<str>),
    /// A string, unescaped.
    String(Box<str>),
}

impl Scalar {
    /// Reads a valid JSON text; `None` for an object or an array.
    pub fn read(json: &str) -> Option<Self> {
        match json.as_bytes().first()? {
            b'{' | b'[' => None,
            b'"' => Some(Self::String(serde_json::from_str(json).ok()?)),
            b'n' => Some(Self::Null),
            b't' => Some(Self::Bool(true)),
            b'f' => Some(Self::Bool(false)),
            _ => Some(Self::Number(number(json))),
        }
    }

    /// The JSON text of its one form.
    pub fn to_json(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(truth) => truth.to_string(),
            Self::Number(text) => text.to_string(),
            Self::String(text) => serde_json::Value::from(&**text).to_string(),
        }
    }
}

/// The one form of a number.
fn number(json: &str) -> Box<str> {
    if let Some(decimal) = Decimal::parse(json) {
        return decimal.as_str().into();
    }
    // As it was written if it has an exponent beyond any use.
    let Some(number) = Number::parse(json) else {
        return json.into();
    };
    let text = number.to_string();
    // One that is short but for its zeros.
    match Decimal::parse(&text) {
        Some(decimal) => decimal.as_str().into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_form() {
        for (written, form) in [
            ("null", "null"),
            ("true", "true"),
            ("false", "false"),
            ("1.0", "1"),
            ("10e-1", "1"),
            (r#""\u0061\/\n""#, r#""a/\n""#),
            (r#""\u0000""#, "\"\\u0000\""),
            ("1e300", "1e300"),
            ("10e299", "1e300"),
            ("1E+300", "1e300"),
            ("-0.10e-299", "-1e-300"),
            (&format!("1.5{}", "0".repeat(60)), "1.5"),
            (&format!("0.{}", "0".repeat(60)), "0"),
            ("1e99999999999999999999", "1e99999999999999999999"),
        ] {
            assert_eq!(Scalar::read(written).unwrap().to_json(), form, "{written}");
        }
        assert_ne!(Scalar::read("1"), Scalar::read("\"1\""));
        assert_eq!(Scalar::read("[1]"), None);
        assert_eq!(Scalar::read("{}"), None);
        assert_eq!(Scalar::read(""), None);
    }
}
