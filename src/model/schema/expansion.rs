//! The expansion of a schema: what it comes to with its references written out.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::error::Invalid;

/// Objects and arrays inside each other with every reference written out.
const EXPANDED_DEPTH_MAX: usize = 256;
/// Bytes of an index in a path.
const INDEX_BYTES: usize = 8;
/// Bytes of `/$dynamicRef` in a path.
const REFERENCE_BYTES: usize = 12;
/// Keywords with schemas for the very place that theirs is for.
const IN_PLACE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];
/// Keywords that look again at what those have found.
pub(super) const UNEVALUATED: [&str; 2] = ["unevaluatedProperties", "unevaluatedItems"];
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
pub(super) struct Expansion<'a> {
    root: &'a Value,
    anchors: HashMap<&'a str, &'a Value>,
    /// By the place of each object in memory; none while it is being counted.
    sizes: HashMap<*const Value, Option<Size>>,
    /// The most idle schemas that stand in one place.
    pub idle_max: u64,
}

/// What a place of a schema comes to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    /// Objects, each as often as references lead to it and as it is looked at again.
    pub objects: u64,
    /// Those that are looked at again for an unevaluated keyword in their place.
    again: u64,
    /// Schemas in its place that look at nothing.
    idle: u64,
    /// Bytes of the longest path within it, which errors have copies of.
    pub path_bytes: usize,
}

impl std::ops::Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            objects: self.objects.saturating_add(other.objects),
            again: self.again.saturating_add(other.again),
            idle: self.idle.saturating_add(other.idle),
            path_bytes: self.path_bytes.max(other.path_bytes),
        }
    }
}

impl<'a> Expansion<'a> {
    pub fn new(root: &'a Value, anchors: HashMap<&'a str, &'a Value>) -> Self {
        Self {
            root,
            anchors,
            sizes: HashMap::new(),
            idle_max: 0,
        }
    }

    pub fn size(&mut self, value: &'a Value, depth: usize) -> Result<Size, Invalid> {
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
        let mut path_bytes = 0;
        for (name, value) in members {
            let name = &**name;
            let size = match value {
                Value::Object(schemas) if BY_NAME.contains(&name) => {
                    self.sum_by_name(schemas, depth + 1)?
                }
                value => self.size(value, depth + 1)?,
            };
            path_bytes = path_bytes.max(name_bytes(name).saturating_add(size.path_bytes));
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
            path_bytes = path_bytes.max(REFERENCE_BYTES.saturating_add(size.path_bytes));
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
            path_bytes,
        })
    }

    fn sum_by_name(
        &mut self,
        schemas: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Size, Invalid> {
        schemas
            .iter()
            .try_fold(Size::default(), |sum, (name, value)| {
                let mut size = self.size(value, depth + 1)?;
                size.path_bytes = size.path_bytes.saturating_add(name_bytes(name));
                Ok(sum + size)
            })
    }

    fn sum(
        &mut self,
        mut values: impl Iterator<Item = &'a Value>,
        depth: usize,
    ) -> Result<Size, Invalid> {
        values.try_fold(Size::default(), |sum, value| {
            let mut size = self.size(value, depth + 1)?;
            size.path_bytes = size.path_bytes.saturating_add(INDEX_BYTES);
            Ok(sum + size)
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

/// Bytes of a name in a path, all of which may be escaped.
fn name_bytes(name: &str) -> usize {
    1 + 2 * name.len()
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
