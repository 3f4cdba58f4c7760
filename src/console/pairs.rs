//! Names and values as queries and forms have them, and addresses made of them.

use url::form_urlencoded;

/// The pairs of a query or a form, decoded, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Those of `text`, which is `application/x-www-form-urlencoded`. Anything is.
    pub fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// Adds a pair.
    pub fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// The first value of `name`, if it is not empty: a field left empty was not filled in.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.iter();
        let found = pairs.find(|(given, value)| *given == name && !value.is_empty());
        found.map(|(_, value)| value)
    }

    /// The first value of `name` as it was given, which may be empty.
    pub fn text(&self, name: &str) -> &str {
        let found = self.iter().find(|(given, _)| *given == name);
        found.map_or("", |(_, value)| value)
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(given, _)| given == name);
        named.map(|(_, value)| value.as_str())
    }

    /// Every pair.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Pairs {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        )
    }
}

/// The address of `path` with the `pairs` that have a value.
pub fn href(path: &str, pairs: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            query.append_pair(name, value);
        }
    }
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// `text` as one segment of a path.
pub fn segment(text: &str) -> String {
    const KEPT: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(text, &KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_what_was_given_whatever_it_is() {
        let hostile = "a&b=c#?/%\"<é \u{202e}";
        let made = href(
            "/x",
            &[("q", Some(hostile)), ("none", None), ("empty", Some(""))],
        );
        let (path, query) = made.split_once('?').unwrap();
        assert_eq!(path, "/x");
        let pairs = Pairs::parse(query.as_bytes());
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [("q", hostile)]);
        assert_eq!(href("/x", &[]), "/x");
        assert_eq!(segment("a/b?c"), "a%2Fb%3Fc");
    }
}
