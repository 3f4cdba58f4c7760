//! JSON as text, laid out for reading: every number and every text stays as it was
//! written, which a parser would not promise.

/// What a token is, by which it is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The name of a member.
    Key,
    /// A text.
    Text,
    /// A number.
    Number,
    /// `true`, `false` or `null`.
    Literal,
    /// What stands between them, and whatever is no JSON.
    Other,
}

/// A part of the text.
#[derive(Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// It, as it is shown.
    pub text: String,
}

/// Deeper than this nothing is moved further in.
const INDENT_MAX: usize = 40;

/// The tokens of `text`, a line for each member and item, and whether that is all of it:
/// no more than some `chars_max` are shown.
pub fn lay_out(text: &str, chars_max: usize) -> (Vec<Token>, bool) {
    let mut out = Layout {
        tokens: Vec::new(),
        depth: 0,
        chars_left: chars_max,
    };
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        if out.chars_left == 0 {
            return (out.tokens, false);
        }
        let end = match first {
            '"' => end_of_text(rest),
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            c if c.is_ascii_whitespace() => {
                rest = rest.trim_start();
                continue;
            }
            _ => rest
                .find(|c: char| c.is_ascii_whitespace() || "{}[],:\"".contains(c))
                .unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        let follows = rest.trim_start();
        out.add(token, follows);
    }
    (out.tokens, true)
}

/// Where the text that `rest` begins with ends.
fn end_of_text(rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

struct Layout {
    tokens: Vec<Token>,
    depth: usize,
    chars_left: usize,
}

impl Layout {
    fn add(&mut self, token: &str, follows: &str) {
        match token {
            "{" | "[" => {
                self.push(Kind::Other, token);
                self.depth += 1;
                if !follows.starts_with(['}', ']']) {
                    self.new_line();
                }
            }
            "}" | "]" => {
                self.depth = self.depth.saturating_sub(1);
                let is_empty = self
                    .tokens
                    .last()
                    .is_some_and(|last| last.text.ends_with(['{', '[']));
                if !is_empty {
                    self.new_line();
                }
                self.push(Kind::Other, token);
            }
            "," => {
                self.push(Kind::Other, token);
                self.new_line();
            }
            ":" => self.push(Kind::Other, ": "),
            text if text.starts_with('"') => {
                let is_key = follows.starts_with(':');
                self.push(if is_key { Kind::Key } else { Kind::Text }, text);
            }
            "true" | "false" | "null" => self.push(Kind::Literal, token),
            _ => self.push(Kind::Number, token),
        }
    }

    fn new_line(&mut self) {
        let line = format!("\n{}", "  ".repeat(self.depth.min(INDENT_MAX)));
        self.push(Kind::Other, &line);
    }

    fn push(&mut self, kind: Kind, text: &str) {
        let kept: String = text.chars().take(self.chars_left).collect();
        self.chars_left -= kept.chars().count();
        match self.tokens.last_mut() {
            Some(last) if last.kind == Kind::Other && kind == Kind::Other => last.text += &kept,
            _ => self.tokens.push(Token { kind, text: kept }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let (tokens, _) = lay_out(text, 10_000);
        tokens.iter().map(|token| token.text.as_str()).collect()
    }

    #[test]
    fn what_is_written_stays_as_it_is() {
        let text = r#"{"big":12345678901234567890.10,"e":1E400,"s":"a\"b,{}: \u0000","l":[1,true,null],"n":{},"m":[]}"#;
        assert_eq!(
            shown(text),
            "{\n  \"big\": 12345678901234567890.10,\n  \"e\": 1E400,\n  \
             \"s\": \"a\\\"b,{}: \\u0000\",\n  \"l\": [\n    1,\n    true,\n    null\n  ],\n  \
             \"n\": {},\n  \"m\": []\n}"
        );
        let without_space = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(without_space(&shown(text)), without_space(text));
    }

    #[test]
    fn keys_are_told_from_texts() {
        let (tokens, _) = lay_out(r#"{"a" : "b"}"#, 100);
        let kinds: Vec<_> = tokens
            .iter()
            .map(|token| (token.kind, token.text.trim()))
            .collect();
        assert!(kinds.contains(&(Kind::Key, "\"a\"")) && kinds.contains(&(Kind::Text, "\"b\"")));
    }

    #[test]
    fn no_text_is_too_long_too_deep_or_not_json() {
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        for text in [
            &*deep,
            "\"open",
            "{",
            "]]]]",
            "",
            "nonsense here",
            &"9".repeat(50_000),
        ] {
            let (tokens, _) = lay_out(text, 2_000);
            let chars: usize = tokens.iter().map(|token| token.text.chars().count()).sum();
            assert!(chars <= 2_000, "{chars}");
        }
        assert!(!lay_out(&deep, 2_000).1);
        assert!(lay_out("1", 1).1);
    }
}
