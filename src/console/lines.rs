//! Lines of JSON as somebody typed it: on which of them a value stands that a path leads to.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The line, from 1, on which the value begins that `path` leads to: names and places
/// between slashes, as `items/0/price`. Where the path leads further than the text goes,
/// the line of the last value that is there. `None` of what is no JSON.
pub fn line_of(text: &str, path: &str) -> Option<usize> {
    let mut value: &RawValue = serde_json::from_str(text).ok()?;
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        match step(value, &segment.replace("~1", "/").replace("~0", "~")) {
            Some(inner) => value = inner,
            None => break,
        }
    }
    let at = value.get().as_ptr() as usize - text.as_ptr() as usize;
    Some(line_at(text, at))
}

/// The line, from 1, of the byte `at`.
fn line_at(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    before.filter(|byte| **byte == b'\n').count() + 1
}

fn step<'a>(value: &'a RawValue, segment: &str) -> Option<&'a RawValue> {
    let text = value.get();
    if let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
        return members.get(segment).copied();
    }
    let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    items.get(segment.parse::<usize>().ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_the_line_of_its_value() {
        let text =
            "\n{\n \"total\": 1,\n \"a/b\": [\n  1,\n  {\"price\":\n true}\n ], \"\u{e9}\": 2\n}";
        for (path, line) in [
            ("", 2),
            ("/total", 3),
            ("a~1b", 4),
            ("a~1b/1/price", 7),
            ("a~1b/1/missing", 6),
            ("a~1b/9", 4),
            ("\u{e9}", 8),
            ("none/of/these", 2),
        ] {
            assert_eq!(line_of(text, path), Some(line), "{path}");
        }
        assert_eq!(line_of("{", "a"), None);
        assert_eq!(line_of("", ""), None);
    }
}
