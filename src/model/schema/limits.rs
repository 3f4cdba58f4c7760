//! The limits of a schema, beyond what its meta-schema says, so that compiling it and
//! validating an event take a bounded time.
//!
//! References are what makes a small schema large: each may be followed many times,
//! and those it leads to again. So they lead within the schema, and what it comes to
//! with each of them written out is bounded. `unevaluatedProperties` and
//! `unevaluatedItems` are the other: each looks again at all that stands in its place.
//! What recursive references come to is the data's to say, and the
//! [meter](super::meter)'s to bound.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::copies;
use super::expansion::{Expansion, UNEVALUATED};
use super::expected::shown;
use super::meter::Weights;
use super::patterns::PatternSizes;
use crate::error::Invalid;

/// Objects and arrays inside each other.
const DEPTH_MAX: usize = 32;
/// Patterns, in `pattern` and `patternProperties`.
const PATTERNS_MAX: usize = 100;
/// References, `$ref` and `$dynamicRef`.
const REFERENCES_MAX: usize = 500;
/// Objects with every reference written out, and again for each keyword that looks at
/// what others have not.
const EXPANDED_MAX: u64 = 10_000;
/// Bytes of any schema when compiled, about, of an object in it, and of what is in that
/// by each byte that is written.
const SCHEMA_BYTES: usize = 8192;
const OBJECT_BYTES: usize = 768;
const BYTES_PER_BYTE: usize = 6;
/// Idle schemas that take as long as a look at the data.
const IDLE_PER_STEP: u64 = 4;

/// What a schema comes to.
#[derive(Debug)]
pub(super) struct Cost {
    /// What looking at the data costs beside the looks themselves.
    pub weights: Weights,
    /// Patterns that the library compiles; those it does not are yet to be added.
    pub patterns: PatternSizes,
    /// Bytes of it when compiled, about, without patterns.
    pub bytes: usize,
}

/// Checks what `schema`, of `len` bytes, is made of.
pub(super) fn check(schema: &Value, len: usize) -> Result<Cost, Invalid> {
    let mut walk = SchemaWalk::default();
    walk.enter(schema, "schema", 1)?;
    let counts = [
        ("patterns", walk.patterns, PATTERNS_MAX),
        ("references", walk.references, REFERENCES_MAX),
    ];
    for (what, count, max) in counts {
        if count > max {
            let expected = format!("expected up to {max} {what}, got {count}");
            return Err(Invalid::new("schema", expected));
        }
    }
    let mut expansion = Expansion::new(schema, walk.anchors);
    let size = expansion.size(schema, 1)?;
    if size.objects > EXPANDED_MAX {
        let expected = format!(
            "expected up to {EXPANDED_MAX} objects with every reference written out; references \
             that double at each step, and unevaluatedProperties or unevaluatedItems inside \
             each other, come to more"
        );
        return Err(Invalid::new("schema", expected));
    }
    // What has not been evaluated is looked for in all of a place, for each keyword.
    let again = walk.objects.saturating_mul(1 + walk.unevaluated);
    let objects = again.min(usize::try_from(size.objects).unwrap_or(usize::MAX));
    let objects = objects.max(walk.objects);
    Ok(Cost {
        weights: Weights {
            element: expansion.idle_max / IDLE_PER_STEP,
            name_byte: walk.of_names.name_byte(),
            error: walk.copied_max as u64 / 16,
            path_bytes: size.path_bytes,
        },
        patterns: walk.of_names,
        bytes: SCHEMA_BYTES + objects.saturating_mul(OBJECT_BYTES) + len * BYTES_PER_BYTE,
    })
}

/// Looks at every place of a schema.
#[derive(Default)]
struct SchemaWalk<'a> {
    objects: usize,
    unevaluated: usize,
    patterns: usize,
    references: usize,
    anchors: HashMap<&'a str, &'a Value>,
    of_names: PatternSizes,
    /// The most bytes of it that an error has a copy of.
    copied_max: usize,
}

impl<'a> SchemaWalk<'a> {
    /// Enters `value`, which is `depth` levels down: [`DEPTH_MAX`] at most.
    fn enter(&mut self, value: &'a Value, path: &str, depth: usize) -> Result<(), Invalid> {
        let refused = |path: &str, expected: String| Err(Invalid::new(shown(path), expected));
        let children: Vec<(String, &Value)> = match value {
            Value::Object(members) => {
                if let Some(wrong) = self.object(value, members, depth) {
                    return refused(&format!("{path}/{}", wrong.name), wrong.expected);
                }
                let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
                members
                    .iter()
                    .map(|(name, value)| (escaped(name), value))
                    .collect()
            }
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(n, value)| (n.to_string(), value))
                .collect(),
            _ => return Ok(()),
        };
        if depth > DEPTH_MAX {
            return refused(
                path,
                format!("expected up to {DEPTH_MAX} levels of nesting"),
            );
        }
        for (name, value) in children {
            self.enter(value, &format!("{path}/{name}"), depth + 1)?;
        }
        Ok(())
    }

    /// Takes note of the members of an object; which of them is wrong, if one is.
    fn object(
        &mut self,
        object: &'a Value,
        members: &'a Map<String, Value>,
        depth: usize,
    ) -> Option<WrongMember> {
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        self.objects += 1;
        self.copied_max = self.copied_max.max(copies::of_error(members));
        let has = |name: &&&str| members.contains_key(**name);
        self.unevaluated += UNEVALUATED.iter().filter(has).count();
        self.patterns += usize::from(text("pattern").is_some());
        let named = members.get("patternProperties").and_then(Value::as_object);
        for pattern in named.into_iter().flat_map(Map::keys) {
            self.patterns += 1;
            if self.patterns <= PATTERNS_MAX
                && let Err(expected) = self.of_names.add_of_names(pattern)
            {
                let name = "patternProperties";
                return Some(WrongMember { name, expected });
            }
        }
        for name in ["$anchor", "$dynamicAnchor"] {
            if let Some(anchor) = text(name) {
                self.anchors.insert(anchor, object);
            }
        }
        for name in ["$ref", "$dynamicRef"] {
            let Some(reference) = text(name) else {
                continue;
            };
            self.references += 1;
            if !reference.starts_with('#') {
                let expected = "expected a reference to a place in this schema, beginning with #; \
                                nothing is fetched from elsewhere";
                return Some(WrongMember {
                    name,
                    expected: expected.to_owned(),
                });
            }
        }
        // Another base, or another draft, would escape the rules for the whole.
        let only_root = |name: &&&str| depth > 1 && text(name).is_some();
        let name = ["$id", "$schema"].iter().find(only_root)?;
        Some(WrongMember {
            name,
            expected: format!("expected {name} in the root of the schema only"),
        })
    }
}

/// A member of an object that a schema may not have.
struct WrongMember {
    name: &'static str,
    expected: String,
}
