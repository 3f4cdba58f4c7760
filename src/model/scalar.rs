//! Scalars: the leaves of a JSON document in a form that can be compared. One value
//! has one form, however it was written.

use super::decimal::Decimal;

/// A JSON value that is neither object nor array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number: in its plain form, so that `1`, `1.0` and `1e0` are one; as it
    /// was written if that form is too long.
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
            _ => Some(Self::Number(match Decimal::parse(json) {
                Some(decimal) => decimal.as_str().into(),
                None => json.into(),
            })),
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
        ] {
            assert_eq!(Scalar::read(written).unwrap().to_json(), form, "{written}");
        }
        assert_ne!(Scalar::read("1"), Scalar::read("\"1\""));
        assert_eq!(Scalar::read("[1]"), None);
        assert_eq!(Scalar::read("{}"), None);
        assert_eq!(Scalar::read(""), None);
    }
}
