//! Many JSON pointers (RFC 6901) into one document, found in one walk of it.
//!
//! Used at accept for every event that a meter counts, so the text is walked as it
//! stands: nothing is built of what lies beside the way, and what is found is given as
//! the publisher wrote it, numbers with all their digits. Each byte is looked at once,
//! however many pointers there are, however wide or deep the document is and however
//! often a name comes in it.

use std::collections::HashMap;
use std::ops::Range;

use super::pointer::Pointer;

/// The longest name of a member, as it is written, that a pointer's step can be: each
/// of its bytes escaped.
const NAME_BYTES_MAX: usize = 6 * super::pointer::LEN_MAX;

/// Pointers, joined where they lead the same way.
#[derive(Debug)]
pub struct PointerSet {
    /// The whole document first; each after the one it lies in.
    places: Vec<Place>,
    is_empty: bool,
}

/// A pointer of a [`PointerSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointerIndex(usize);

/// A place in a document that a pointer leads to or through.
#[derive(Debug, Default)]
struct Place {
    /// The place it lies in; of the whole document, itself.
    parent: usize,
    members: HashMap<Box<str>, usize>,
    elements: HashMap<usize, usize>,
}

impl Default for PointerSet {
    fn default() -> Self {
        Self {
            places: vec![Place::default()],
            is_empty: true,
        }
    }
}

impl PointerSet {
    /// Adds `pointer`. One that is there already has the same index.
    pub fn insert(&mut self, pointer: &Pointer) -> PointerIndex {
        self.is_empty = false;
        let mut place = 0;
        for step in pointer.steps() {
            place = match self.places[place].members.get(step) {
                Some(below) => *below,
                None => self.add(place, step),
            };
        }
        PointerIndex(place)
    }

    fn add(&mut self, parent: usize, step: &str) -> usize {
        let below = self.places.len();
        self.places.push(Place {
            parent,
            ..Place::default()
        });
        let parent = &mut self.places[parent];
        parent.members.insert(step.into(), below);
        parent
            .elements
            .extend(element_of(step).map(|at| (at, below)));
        below
    }

    /// How many places can be found: each [`PointerIndex::get`] is below.
    pub fn place_count(&self) -> usize {
        self.places.len()
    }

    /// What the pointers lead to in the JSON text `json`; nothing where it is none. Of
    /// members of the same name the last one is meant.
    pub fn resolve<'a>(&self, json: &'a str) -> ResolvedPointers<'a> {
        let mut walk = Walk {
            places: &self.places,
            json: json.as_bytes(),
            at: 0,
            found: vec![None; self.places.len()],
        };
        // Where no pointer leads there is nothing to look for.
        if !self.is_empty && walk.value_at(0).is_none() {
            walk.found.fill(None);
        }
        walk.forget_replaced();
        ResolvedPointers {
            json,
            bytes_read: walk.at,
            found: walk.found,
        }
    }
}

impl PointerIndex {
    /// Its place among those of its set.
    pub fn get(self) -> usize {
        self.0
    }
}

/// What the pointers of a set lead to in one document.
#[derive(Debug)]
pub struct ResolvedPointers<'a> {
    json: &'a str,
    bytes_read: usize,
    found: Vec<Option<Range<usize>>>,
}

impl<'a> ResolvedPointers<'a> {
    /// The JSON text that a pointer of the set leads to, if it leads anywhere.
    pub fn get(&self, pointer: PointerIndex) -> Option<&'a str> {
        self.json.get(self.found[pointer.0].clone()?)
    }

    /// How many bytes of the document were looked at.
    pub fn bytes_read(&self) -> usize {
        self.bytes_read
    }
}

/// The element that a step names (RFC 6901 §4): digits without a leading zero.
fn element_of(step: &str) -> Option<usize> {
    let is_plain = step == "0" || !step.starts_with(['0', '+']);
    step.parse().ok().filter(|_| is_plain)
}

/// A walk through a document, which only goes forward. `None` means that the document
/// is no JSON; what is JSON is not looked into further than it takes.
struct Walk<'a> {
    places: &'a [Place],
    json: &'a [u8],
    at: usize,
    /// Where the value at each place is: the last that was come upon.
    found: Vec<Option<Range<usize>>>,
}

impl Walk<'_> {
    /// Passes the value that is at `place`.
    fn value_at(&mut self, place: usize) -> Option<()> {
        self.skip_blank();
        let start = self.at;
        let Place {
            members, elements, ..
        } = &self.places[place];
        match self.json.get(self.at)? {
            b'{' if !members.is_empty() => self.members(members)?,
            b'[' if !elements.is_empty() => self.elements(elements)?,
            _ => self.skip_value()?,
        }
        self.found[place] = Some(start..self.at);
        Some(())
    }

    fn members(&mut self, wanted: &HashMap<Box<str>, usize>) -> Option<()> {
        self.at += 1;
        self.skip_blank();
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            self.skip_blank();
            let name = self.skip_string()?;
            self.skip_blank();
            self.take(b':')?;
            match place_of(&self.json[name], wanted) {
                Some(place) => self.value_at(place)?,
                None => self.skip_value()?,
            }
            self.skip_blank();
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
        }
    }

    fn elements(&mut self, wanted: &HashMap<usize, usize>) -> Option<()> {
        self.at += 1;
        self.skip_blank();
        if self.take(b']').is_some() {
            return Some(());
        }
        for index in 0.. {
            match wanted.get(&index) {
                Some(place) => self.value_at(*place)?,
                None => self.skip_value()?,
            }
            self.skip_blank();
            if self.take(b',').is_none() {
                break;
            }
        }
        self.take(b']')
    }

    /// Passes a value, whatever is in it.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            self.skip_blank();
            match self.json.get(self.at)? {
                b'"' => {
                    self.skip_string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                // What is not there at all is no value.
                b',' | b':' if depth == 0 => return None,
                b',' | b':' => self.at += 1,
                _ => self.skip_literal(),
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Passes a number, `true`, `false` or `null`.
    fn skip_literal(&mut self) {
        let ends = |byte: &u8| b",:]} \t\r\n\"[{".contains(byte);
        let rest = &self.json[self.at..];
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
    }

    /// Passes a string; where it is, its quotes included.
    fn skip_string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.take(b'"')?;
        loop {
            let rest = self.json.get(self.at..)?;
            self.at += rest.iter().position(|byte| b"\"\\".contains(byte))?;
            if self.take(b'"').is_some() {
                return Some(start..self.at);
            }
            // A backslash and what it escapes.
            self.at += 2;
        }
    }

    fn skip_blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.json.get(self.at) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.json.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    /// Forgets what was found in a member that another of its name replaced: it lies
    /// before it.
    fn forget_replaced(&mut self) {
        for (place, Place { parent, .. }) in self.places.iter().enumerate().skip(1) {
            let starts = |span: &Option<Range<usize>>| span.as_ref().map(|span| span.start);
            let parent = starts(&self.found[*parent]);
            if parent.is_none() || starts(&self.found[place]) < parent {
                self.found[place] = None;
            }
        }
    }
}

/// The place of the member whose name is `written`, in quotes.
fn place_of(written: &[u8], wanted: &HashMap<Box<str>, usize>) -> Option<usize> {
    if written.len() > NAME_BYTES_MAX + 2 {
        return None;
    }
    let inside = &written[1..written.len() - 1];
    if !inside.contains(&b'\\') {
        return wanted.get(std::str::from_utf8(inside).ok()?).copied();
    }
    let name: String = serde_json::from_slice(written).ok()?;
    wanted.get(&*name).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// What each of `pointers` leads to in `json`, all found at once.
    fn resolve<'a>(pointers: &[&str], json: &'a str) -> Vec<Option<&'a str>> {
        let mut set = PointerSet::default();
        let pointers = pointers.iter().map(|text| Pointer::parse(text).unwrap());
        let indexes: Vec<_> = pointers.map(|pointer| set.insert(&pointer)).collect();
        let resolved = set.resolve(json);
        indexes.iter().map(|index| resolved.get(*index)).collect()
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 6901 §5.
        let document = r#"{ "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3,
            "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8 }"#;
        let (pointers, expected): (Vec<_>, Vec<_>) = [
            ("/foo", r#"["bar", "baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
            ("", document),
        ]
        .map(|(pointer, expected)| (pointer, Some(expected)))
        .into_iter()
        .unzip();
        assert_eq!(resolve(&pointers, document), expected);
    }

    #[test]
    fn numbers_keep_their_digits() {
        let document = r#"{"a": [0.10000000000000000000001, 1.50E+2]}"#;
        assert_eq!(
            resolve(&["/a/0", "/a/1"], document),
            [Some("0.10000000000000000000001"), Some("1.50E+2")]
        );
    }

    #[test]
    fn a_place_that_is_not_there() {
        let document = r#"{"a": [1, {"b": null}], "c": "text", "01": 5}"#;
        let nowhere = [
            "/x", "/a/2", "/a/-", "/a/01", "/a/+1", "/a/b", "/c/0", "/a/1/b/c",
        ];
        assert_eq!(resolve(&nowhere, document), [None; 8]);
        assert_eq!(
            resolve(&["/a/1/b", "/01"], document),
            [Some("null"), Some("5")]
        );
    }

    #[test]
    fn what_is_no_json_has_no_places() {
        for json in [
            "", " ", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "[1", "\"", "\"\\", "}", ",",
        ] {
            assert_eq!(resolve(&["", "/a", "/0"], json), [None; 3], "{json}");
        }
    }

    #[test]
    fn of_members_of_one_name_the_last_is_meant() {
        assert_eq!(resolve(&["/a"], r#"{"a":1,"\u0061":2,"b":3}"#), [Some("2")]);
        let document = r#"{"a":{"b":{"c":1},"d":2},"a":{"b":3,"b":{"e":4}},"f":5}"#;
        assert_eq!(
            resolve(
                &["/a/b/c", "/a/b/e", "/a/d", "/a/b", "/f", "/a/b/c/g"],
                document
            ),
            [None, Some("4"), None, Some(r#"{"e":4}"#), Some("5"), None]
        );
        assert_eq!(
            resolve(&["/a/b", "/a"], r#"{"a":{"b":1},"a":2}"#),
            [None, Some("2")]
        );
    }

    /// Each pointer of a thousand, once alone and then all of them.
    fn bytes_read(pointers: impl Iterator<Item = String>, json: &str) -> usize {
        let mut set = PointerSet::default();
        for pointer in pointers {
            set.insert(&Pointer::parse(&pointer).unwrap());
        }
        set.resolve(json).bytes_read()
    }

    #[test]
    fn a_document_is_walked_once_for_all_pointers() {
        let wide: String = (0..100_000).map(|n| format!("\"m{n}\":{n},")).collect();
        let wide = format!("{{{wide}\"last\":{{\"a\":1}}}}");
        let repeated = format!("{{{}\"a\":[]}}", "\"a\":[[1],{\"b\":2}],".repeat(20_000));
        let deep = format!("{}{}", "{\"a\":".repeat(60_000), "1") + &"}".repeat(60_000);
        let nested = |n: usize| "/a".repeat(n % 17);
        for json in [&*wide, &*repeated, &*deep] {
            let many = (0..1000).flat_map(|n| {
                [
                    format!("/m{n}"),
                    format!("/a/{n}/b"),
                    nested(n),
                    format!("/last/{n}"),
                ]
            });
            assert_eq!(bytes_read(many, json), json.len());
            assert_eq!(
                bytes_read(["/last/a".to_owned()].into_iter(), json),
                json.len()
            );
        }
        assert_eq!(bytes_read(std::iter::empty(), &wide), 0);
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a~/\"\\\\é]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a~/\"é01]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// serde_json's own resolver is the model.
        #[test]
        fn it_finds_what_a_tree_would(
            document in documents(),
            texts in prop::collection::vec("(/(a|~0|~1|\"|é|0|1|2|01){0,2}){0,4}", 1..6),
            is_pretty in any::<bool>(),
        ) {
            let json = if is_pretty {
                serde_json::to_string_pretty(&document).unwrap()
            } else {
                document.to_string()
            };
            let pointers: Vec<_> = texts.iter().map(|text| &**text).collect();
            for (found, text) in resolve(&pointers, &json).into_iter().zip(&texts) {
                let found = found.map(|text| serde_json::from_str::<Value>(text).unwrap());
                prop_assert_eq!(found.as_ref(), document.pointer(text));
            }
        }

        #[test]
        fn anything_is_walked(json in any::<String>(), brackets in "[\\[\\]{}\",:\\\\a1 ]{0,40}") {
            resolve(&["", "/a", "/0/a", "/a/1"], &json);
            resolve(&["", "/a", "/0/a", "/a/1"], &brackets);
        }
    }
}
