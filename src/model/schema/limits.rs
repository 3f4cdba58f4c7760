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

use super::expected::shown;
use super::meter::Weights;
use super::patterns::PatternSizes;
use crate::error::Invalid;

/// Objects and arrays inside each other.
const DEPTH_MAX: usize = 32;
/// Objects and arrays inside each other with every reference written out.
const EXPANDED_DEPTH_MAX: usize = 256;
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

/// Idle schemas that take as long as a look at the data.
const IDLE_PER_STEP: u64 = 4;

/// Keywords with schemas for the very place that theirs is for.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// Keywords that look again at what those have found.
const UNEVALUATED: [&str; 2] = ["unevaluatedProperties", "unevaluatedItems"];
/// Keywords whose schemas such a keyword has for itself, too.
const AGAIN: [&str; 7] = [
    "additionalProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "items",
    "prefixItems",
    "additionalItems",
    "contains",
];
/// Keywords whose value is schemas by name, no schema itself.
const BY_NAME: [&str; 6] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "dependencies",
];
/// Those of them whose schemas are for the very place that theirs is for.
const BY_NAME_IN_PLACE: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Keywords with which a schema looks at the data in any case.
const LOOKING: [&str; 9] = [
    "type",
    "const",
    "enum",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "pattern",
];

/// What a schema comes to with its references written out.
struct Expansion<'a> {
    root: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
    /// By the place of each object in memory; none while it is being counted.
    sizes: HashMap<*const Value, Option<Size>>,
    /// The most idle schemas that stand in one place.
    idle_max: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Objects, each as often as references lead to it and as it is looked at again.
    objects: u64,
    /// Those that are looked at again for an unevaluated keyword in their place.
    again: u64,
    /// Schemas in its place that look at nothing.
    idle: u64,
}

impl std::ops::Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            objects: self.objects.saturating_add(other.objects),
            again: self.again.saturating_add(other.again),
            idle: self.idle.saturating_add(other.idle),
        }
    }
}

impl<'a> Expansion<'a> {
    fn new(root: &'a Value, anchors: HashMap<&'a str, &'a Value>) -> Self {
        Self {
            root,
            anchors,
            sizes: HashMap::new(),
            idle_max: 0,
        }
    }

    fn size(&mut self, value: &'a Value, depth: usize) -> Result<Size, Invalid> {
        if depth > EXPANDED_DEPTH_MAX {
            let expected = format!(
                "expected up to {EXPANDED_DEPTH_MAX} levels with every reference written out"
            );
            return Err(Invalid::new("schema", expected));
        }
        let members = match value {
            Value::Array(items) => return self.sum(items.iter(), depth),
            Value::Object(members) => members,
            _ => {
                let idle = u64::from(value.is_boolean());
                return Ok(Size {
                    idle,
                    ..Size::default()
                });
            }
        };
        let place: *const Value = value;
        match self.sizes.get(&place) {
            None => self.sizes.insert(place, None),
            Some(Some(size)) => return Ok(*size),
            // Written out already.
            Some(None) => return Ok(Size::default()),
        };
        let size = self.size_of_object(members, depth)?;
        self.idle_max = self.idle_max.max(size.idle);
        self.sizes.insert(place, Some(size));
        Ok(size)
    }

    fn size_of_object(
        &mut self,
        members: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Size, Invalid> {
        // Beside a reference, draft 7 ignores all others.
        let is_idle =
            members.contains_key("$ref") || !LOOKING.iter().any(|name| members.contains_key(*name));
        let (mut objects, mut again, mut idle) = (1_u64, 1_u64, u64::from(is_idle));
        for (name, value) in members {
            let name = &**name;
            let size = match value {
                Value::Object(schemas) if BY_NAME.contains(&name) => {
                    self.sum(schemas.values(), depth + 1)?
                }
                value => self.size(value, depth + 1)?,
            };
            objects = objects.saturating_add(size.objects);
            if IN_PLACE.contains(&name) || BY_NAME_IN_PLACE.contains(&name) {
                again = again
                    .saturating_add(size.objects)
                    .saturating_add(size.again);
                idle = idle.saturating_add(size.idle);
            } else if AGAIN.contains(&name) {
                again = again.saturating_add(size.objects);
            }
        }
        for target in self.targets(members) {
            let size = self.size(target, depth + 1)?;
            objects = objects.saturating_add(size.objects);
            again = again
                .saturating_add(size.objects)
                .saturating_add(size.again);
            idle = idle.saturating_add(size.idle);
        }
        for _ in UNEVALUATED
            .iter()
            .filter(|name| members.contains_key(**name))
        {
            objects = objects.saturating_add(again);
        }
        Ok(Size {
            objects,
            again,
            idle,
        })
    }

    fn sum(
        &mut self,
        mut values: impl Iterator<Item = &'a Value>,
        depth: usize,
    ) -> Result<Size, Invalid> {
        values.try_fold(Size::default(), |sum, value| {
            Ok(sum + self.size(value, depth + 1)?)
        })
    }

    /// Where the references of an object lead.
    fn targets(&self, members: &Map<String, Value>) -> Vec<&'a Value> {
        ["$ref", "$dynamicRef"]
            .iter()
            .filter_map(|name| members.get(*name)?.as_str()?.strip_prefix('#'))
            .filter_map(|fragment| self.target(fragment))
            .collect()
    }

    /// Where a fragment leads; nowhere if the schema does not compile anyway.
    fn target(&self, fragment: &str) -> Option<&'a Value> {
        let fragment = percent_decoded(fragment);
        if fragment.is_empty() || fragment.starts_with('/') {
            self.root.pointer(&fragment)
        } else {
            self.anchors.get(&*fragment).copied()
        }
    }
}

/// `fragment` without its escapes, as URIs have them.
fn percent_decoded(fragment: &str) -> String {
    let mut decoded = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex
            .filter(|_| *first == b'%')
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(byte.unwrap_or(*first));
        rest = match byte {
            Some(_) => &after[2..],
            None => after,
        };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
