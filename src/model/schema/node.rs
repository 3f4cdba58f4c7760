//! The data of an event as the validating library sees it: each look is counted, and
//! numbers are what is written.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet, btree_map};
use std::ops::ControlFlow;

use jsonschema::JsonType;
use jsonschema::json::{self, JsonNumber, NodeIdentity};
use serde_json::Value;

use super::json::{Json, number};
use super::meter::{Meter, Weights};
use crate::model::number::Number;

/// Bytes of an index in a path.
const INDEX_BYTES: usize = 8;

/// Data whose every look is counted.
pub(super) struct Metered;

/// A value, or the name of a member where names are looked at.
#[derive(Clone, Copy)]
enum Place<'a> {
    Value(&'a Json),
    Name(&'a str),
}

/// A place in the data.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    place: Place<'a>,
    meter: &'a Meter,
    /// Bytes of the paths to it, through the data and through the schema, which an error
    /// has copies of.
    path_bytes: usize,
}

impl<'a> Node<'a> {
    /// The whole of `data`.
    pub(super) fn new(data: &'a Json, meter: &'a Meter) -> Self {
        Self {
            place: Place::Value(data),
            meter,
            path_bytes: meter.path_below(0, 0),
        }
    }

    /// What counts the looks at it.
    pub(super) fn meter(&self) -> &'a Meter {
        self.meter
    }

    /// The number that is there.
    pub(super) fn number(&self) -> Option<Number> {
        match self.look() {
            Place::Value(Json::Number(text)) => {
                self.meter.charge_text(text.len());
                Some(number(text))
            }
            _ => None,
        }
    }

    /// The string that is there.
    pub(super) fn string(&self) -> Option<&'a str> {
        let text = match self.look() {
            Place::Value(Json::String(text)) => text,
            Place::Name(name) => name,
            Place::Value(_) => return None,
        };
        self.meter.charge_text(text.len());
        Some(text)
    }

    /// Whether `expected` is there.
    pub(super) fn is(&self, expected: &Json) -> bool {
        match (self.look(), expected) {
            (Place::Value(value), _) => is_equal(value, expected, self.meter),
            (Place::Name(name), Json::String(text)) => name == &**text,
            (Place::Name(_), _) => false,
        }
    }

    fn look(&self) -> Place<'a> {
        self.meter.charge(1);
        self.place
    }
}

/// Whether two values are one, which costs no more than the smaller of them.
fn is_equal(one: &Json, other: &Json, meter: &Meter) -> bool {
    meter.charge(1);
    match (one, other) {
        (Json::Number(a), Json::Number(b)) => {
            meter.charge_text(a.len() + b.len());
            one == other
        }
        (Json::String(a), Json::String(b)) => {
            meter.charge_text(a.len().min(b.len()));
            a == b
        }
        (Json::Array(a), Json::Array(b)) => {
            let mut pairs = a.iter().zip(b);
            a.len() == b.len() && pairs.all(|(a, b)| is_equal(a, b, meter))
        }
        (Json::Object(a), Json::Object(b)) => {
            let mut pairs = a.iter().zip(b);
            a.len() == b.len()
                && pairs.all(|((name, a), (other, b))| {
                    meter.charge_text(name.len().min(other.len()));
                    name == other && is_equal(a, b, meter)
                })
        }
        _ => one == other,
    }
}

impl json::Json for Metered {
    type Node<'a> = Node<'a>;
    type PreparedKey = Box<str>;
    type StringBuffer = ();
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> Box<str> {
        key.into()
    }

    /// For no object of ours: those hand out their names themselves, metered.
    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(Node<'_>) -> T) -> T {
        let meter = Meter::new(u64::MAX, Weights::default());
        f(Node {
            place: Place::Name(string),
            meter: &meter,
            path_bytes: 0,
        })
    }
}

impl<'a> json::Node<'a, Metered> for Node<'a> {
    type Object = Object<'a>;
    type Array = Array<'a>;
    type Number = Number;

    fn as_object(&self) -> Option<Object<'a>> {
        match self.look() {
            Place::Value(Json::Object(members)) => Some(Object {
                members,
                meter: self.meter,
                path_bytes: self.path_bytes,
            }),
            _ => None,
        }
    }

    fn as_array(&self) -> Option<Array<'a>> {
        match self.look() {
            Place::Value(Json::Array(items)) => Some(Array {
                items,
                meter: self.meter,
                path_bytes: self.path_bytes,
            }),
            _ => None,
        }
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.string().map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<Number> {
        self.number()
    }

    fn as_boolean(&self) -> Option<bool> {
        match self.look() {
            Place::Value(Json::Boolean(truth)) => Some(*truth),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self.look(), Place::Value(Json::Null))
    }

    fn is_number(&self) -> bool {
        matches!(self.look(), Place::Value(Json::Number(_)))
    }

    fn json_type(&self) -> JsonType {
        match self.look() {
            Place::Value(Json::Null) => JsonType::Null,
            Place::Value(Json::Boolean(_)) => JsonType::Boolean,
            Place::Value(Json::Number(_)) => JsonType::Number,
            Place::Value(Json::String(_)) | Place::Name(_) => JsonType::String,
            Place::Value(Json::Array(_)) => JsonType::Array,
            Place::Value(Json::Object(_)) => JsonType::Object,
        }
    }

    /// What `const` and `enum` of ours do not need: see [`Node::is`].
    fn equals_value(&self, expected: &Value) -> bool {
        Json::parse(&expected.to_string()).is_ok_and(|expected| self.is(&expected))
    }

    /// Of the data nothing is told, so that an error need not copy it.
    fn to_value(&self) -> Cow<'a, Value> {
        self.meter.charge_error(self.path_bytes);
        Cow::Owned(Value::Null)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        match self.look() {
            Place::Value(value) => Some(NodeIdentity::new(std::ptr::from_ref(value).addr())),
            // An empty name has no address of its own.
            Place::Name("") => {
                let meter = std::ptr::from_ref(self.meter).addr();
                Some(NodeIdentity::tagged(meter, 2))
            }
            Place::Name(name) => Some(NodeIdentity::tagged(name.as_ptr().addr(), 1)),
        }
    }
}

impl JsonNumber for Number {
    fn as_u64(&self) -> Option<u64> {
        self.to_i128()?.try_into().ok()
    }

    fn as_i64(&self) -> Option<i64> {
        self.to_i128()?.try_into().ok()
    }

    fn as_f64(&self) -> Option<f64> {
        self.to_f64()
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        let integer = self.to_i128().and_then(serde_json::Number::from_i128);
        let float = || self.to_f64().and_then(serde_json::Number::from_f64);
        Cow::Owned(integer.or_else(float).unwrap_or_else(|| 0.into()))
    }

    fn is_integer(&self) -> bool {
        Number::is_integer(self)
    }
}

/// An object in the data.
pub(super) struct Object<'a> {
    members: &'a BTreeMap<Box<str>, Json>,
    meter: &'a Meter,
    path_bytes: usize,
}

impl<'a> json::Object<'a, Metered> for Object<'a> {
    type Node = Node<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        self.members.len()
    }

    fn get(&self, key: &Box<str>) -> Option<Node<'a>> {
        self.meter.charge_element();
        let value = self.members.get(key)?;
        Some(member(key, value, self.meter, self.path_bytes))
    }

    fn members(&self) -> Members<'a> {
        Members {
            members: self.members.iter(),
            meter: self.meter,
            path_bytes: self.path_bytes,
        }
    }

    fn try_for_each_name_node<B>(
        &self,
        (): &mut (),
        mut f: impl FnMut(Node<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for name in self.members.keys() {
            self.meter.charge_element();
            f(Node {
                place: Place::Name(name),
                meter: self.meter,
                path_bytes: self.path_bytes,
            })?;
        }
        ControlFlow::Continue(())
    }
}

/// The member `name` of an object that paths of `path_bytes` lead to.
fn member<'a>(name: &str, value: &'a Json, meter: &'a Meter, path_bytes: usize) -> Node<'a> {
    // Each of its characters may be escaped in a path.
    let step_bytes = name.len().saturating_mul(2) + 1;
    Node {
        place: Place::Value(value),
        meter,
        path_bytes: meter.path_below(path_bytes, step_bytes),
    }
}

/// The members of an object, each of which is counted.
pub(super) struct Members<'a> {
    members: btree_map::Iter<'a, Box<str>, Json>,
    meter: &'a Meter,
    path_bytes: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.members.next()?;
        self.meter.charge_member(name);
        Some((name, member(name, value, self.meter, self.path_bytes)))
    }
}

/// An array in the data.
pub(super) struct Array<'a> {
    items: &'a [Json],
    meter: &'a Meter,
    path_bytes: usize,
}

impl<'a> json::Array<'a, Metered> for Array<'a> {
    type Node = Node<'a>;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn elements(&self) -> Elements<'a> {
        Elements {
            items: self.items.iter(),
            meter: self.meter,
            path_bytes: self.path_bytes,
        }
    }

    fn is_unique(&self) -> bool {
        let mut seen = HashSet::new();
        self.items.iter().all(|item| {
            self.meter.charge(item.steps().saturating_mul(2));
            let mut key = Vec::new();
            item.write_key(&mut key);
            seen.insert(key)
        })
    }
}

/// The elements of an array, each of which is counted.
pub(super) struct Elements<'a> {
    items: std::slice::Iter<'a, Json>,
    meter: &'a Meter,
    path_bytes: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        let item = self.items.next()?;
        self.meter.charge_element();
        Some(Node {
            place: Place::Value(item),
            meter: self.meter,
            path_bytes: self.meter.path_below(self.path_bytes, INDEX_BYTES),
        })
    }
}
