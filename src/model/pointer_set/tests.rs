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
