//! What a refusal may show of what was sent: never a value, nor a piece of one.
//!
//! A secret may stand in any field by mistake, and what is answered is kept in the logs
//! of both sides. So of a value no more than its kind and its length is said. A name is
//! structure: whoever misspelt it has to find it, so it is shown where it is as short
//! and as plain as names are, and no longer where it may be a secret in a name's place.

/// Characters of a name that is shown.
const NAME_LEN_MAX: usize = 64;
/// Digits of a name that is shown: keys, digests and card numbers have more.
const NAME_DIGITS_MAX: usize = 8;
/// Capitals of a name that is shown, as in `dueDate`: of what is random a third are.
const NAME_CAPITALS_MAX: usize = 4;
/// How keys and signing secrets begin.
const SECRET_PREFIXES: [&str; 4] = ["mr_", "mradmin_", "whsec_", "whsk_"];
/// What stands for a name that is not shown.
pub const UNNAMED: &str = "…";

/// `name` if it looks like one, or what stands for it.
pub fn shown_name(name: &str) -> &str {
    if is_like_a_name(name) { name } else { UNNAMED }
}

/// `path`, whose names have a `separator` between them, without those that are not
/// shown.
pub fn shown_path(path: &str, separator: char) -> String {
    let mut shown = String::with_capacity(path.len());
    for (at, name) in path.split(separator).enumerate() {
        if at > 0 {
            shown.push(separator);
        }
        if !name.is_empty() {
            shown.push_str(shown_name(name));
        }
    }
    shown
}

fn is_like_a_name(name: &str) -> bool {
    // Those of JSON Schema's own begin so.
    let rest = name.strip_prefix('$').unwrap_or(name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let count = |of: fn(&u8) -> bool| rest.bytes().filter(of).count();
    (1..=NAME_LEN_MAX).contains(&rest.len())
        && rest.bytes().all(plain)
        && !rest.starts_with(|first: char| first.is_ascii_uppercase())
        && count(u8::is_ascii_digit) <= NAME_DIGITS_MAX
        && count(u8::is_ascii_uppercase) <= NAME_CAPITALS_MAX
        && !SECRET_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// What is said of a text that came: how long it is.
pub fn kind_of_text(text: &str) -> String {
    match text.chars().count() {
        0 => "an empty string".to_owned(),
        1 => "a string of 1 character".to_owned(),
        chars => format!("a string of {chars} characters"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_if_it_looks_like_one() {
        for name in [
            "a",
            "event_types",
            "x-request-id",
            "in.2026-01-31",
            "0",
            "$ref",
            "additionalProperties",
            "customerURL",
        ] {
            assert_eq!(shown_name(name), name);
        }
        for other in [
            "",
            "A",
            "Secret",
            "aBCDEF",
            "a b",
            "a\0",
            "é",
            "a@b.c",
            "mr_abcdef",
            "mradmin_abcdef",
            "whsec_abc",
            "whsk_abc",
            "4111-1111-1",
            &"a".repeat(65),
        ] {
            assert_eq!(shown_name(other), UNNAMED, "{other}");
        }
        assert_eq!(shown_path("/items/0/Price", '/'), "/items/0/…");
        assert_eq!(shown_path("", '/'), "");
    }

    #[test]
    fn of_a_text_its_length_is_said() {
        assert_eq!(kind_of_text(""), "an empty string");
        assert_eq!(kind_of_text("é"), "a string of 1 character");
        assert_eq!(kind_of_text("née"), "a string of 3 characters");
    }
}
