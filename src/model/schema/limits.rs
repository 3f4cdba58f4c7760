//! The limits of a schema, beyond what its meta-schema says, so that validating an
//! event takes a bounded time.
//!
//! References are what makes a small schema large: each may be followed many times,
//! and those it leads to again. So they lead within the schema, and what it comes to
//! with each of them written out is bounded. Recursive ones cannot be written out;
//! the validator remembers what it has found of each value, but not where a value
//! fails, so that is looked for only as far as it is cheap ([`Cost::is_affordable_for`]).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::expected::shown;
use crate::error::Invalid;

/// Objects and arrays inside each other.
const DEPTH_MAX: usize = 32;
/// Objects and arrays inside each other with every reference written out.
const EXPANDED_DEPTH_MAX: usize = 256;
/// Patterns, in `pattern` and `patternProperties`.
const PATTERNS_MAX: usize = 100;
/// References, `$ref` and `$dynamicRef`.
const REFERENCES_MAX: usize = 500;
/// Objects with every reference written out.
const EXPANDED_MAX: u64 = 10_000;
/// Times a recursive schema may be entered anew to find where a value fails.
const ENTERED_MAX: u64 = 50_000;

/// What validating a value may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// Places where the schema begins anew; none in one that is not recursive.
    recursions: u64,
}

impl Cost {
    /// Whether it can be found out where `data` fails: a recursive schema may begin
    /// anew at each of its places for each level of the data.
    pub(super) fn is_affordable_for(self, data: &Value) -> bool {
        let times = (0..depth(data)).try_fold(1_u64, |times, _| {
            Some(times.checked_mul(self.recursions.max(1))?).filter(|times| *times <= ENTERED_MAX)
        });
        times.is_some()
    }
}

/// Levels of `data`; as deep as the parser lets it be.
fn depth(data: &Value) -> u32 {
    let inner = match data {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or_default()
}

/// Checks what `schema` is made of.
pub(super) fn check(schema: &Value) -> Result<Cost, Invalid> {
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
    let mut expansion = Expansion {
        root: schema,
        anchors: walk.anchors,
        sizes: HashMap::new(),
    };
    let size = expansion.size(schema, 1)?;
    if size.objects > EXPANDED_MAX {
        let expected = format!(
            "expected up to {EXPANDED_MAX} objects with every reference written out; \
             references that double at each step come to more"
        );
        return Err(Invalid::new("schema", expected));
    }
    Ok(Cost {
        recursions: size.recursions,
    })
}

/// Looks at every place of a schema.
#[derive(Default)]
struct SchemaWalk<'a> {
    patterns: usize,
    references: usize,
    anchors: HashMap<&'a str, &'a Value>,
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
        self.patterns += usize::from(text("pattern").is_some());
        let named = members.get("patternProperties").and_then(Value::as_object);
        self.patterns += named.map_or(0, Map::len);
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

/// What a schema comes to with its references written out.
struct Expansion<'a> {
    root: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
    /// By the place of each object in memory; none while it is being counted.
    sizes: HashMap<*const Value, Option<Size>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Objects, each as often as references lead to it.
    objects: u64,
    /// Places where it begins anew, which are not written out.
    recursions: u64,
}

impl std::ops::Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            objects: self.objects.saturating_add(other.objects),
            recursions: self.recursions.saturating_add(other.recursions),
        }
    }
}

impl<'a> Expansion<'a> {
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
            _ => return Ok(Size::default()),
        };
        let place: *const Value = value;
        match self.sizes.get(&place) {
            None => self.sizes.insert(place, None),
            Some(Some(size)) => return Ok(*size),
            Some(None) => {
                let (objects, recursions) = (0, 1);
                return Ok(Size {
                    objects,
                    recursions,
                });
            }
        };
        let targets: Vec<_> = ["$ref", "$dynamicRef"]
            .iter()
            .filter_map(|name| members.get(*name)?.as_str()?.strip_prefix('#'))
            .filter_map(|fragment| self.target(fragment))
            .collect();
        let (objects, recursions) = (1, 0);
        let own = Size {
            objects,
            recursions,
        };
        let size =
            own + self.sum(members.values(), depth)? + self.sum(targets.into_iter(), depth)?;
        self.sizes.insert(place, Some(size));
        Ok(size)
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
