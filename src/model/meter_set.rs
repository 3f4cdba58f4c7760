//! The meters of a project, which read an event together.
//!
//! Their pointers are found in one walk of the event's `data`, and what is found is read
//! once, however many meters count it: a value of 256 KB under a hundred meters is
//! unescaped and hashed once.

use std::cell::OnceCell;

use super::decimal::Decimal;
use super::event::Event;
use super::meter::{
    Aggregation, Definition, Measure, Meter, Predicate, Reading, UNIQUE_BYTES, is_groupable,
    number, unique,
};
use super::pointer_set::{PointerIndex, PointerSet, ResolvedPointers};
use super::scalar::Scalar;

/// Meters, with their pointers joined.
#[derive(Debug, Default)]
pub struct MeterSet {
    meters: Vec<IndexedMeter>,
    pointers: PointerSet,
}

/// A meter, and which pointers of the set are its own.
#[derive(Debug)]
struct IndexedMeter {
    meter: Meter,
    value: Option<PointerIndex>,
    group_by: Box<[PointerIndex]>,
    /// Those of its conditions.
    conditions: Box<[PointerIndex]>,
}

impl MeterSet {
    /// The set of `meters`, whose readings are in their order.
    pub fn new(meters: Vec<Meter>) -> Self {
        let mut pointers = PointerSet::default();
        let meters = meters.into_iter();
        let meters = meters.map(|meter| IndexedMeter::new(meter, &mut pointers));
        Self {
            meters: meters.collect(),
            pointers,
        }
    }

    /// Whether a meter counts events of this type, if their `data` is right.
    pub fn counts(&self, event_type: &str) -> bool {
        self.of_type(event_type).next().is_some()
    }

    /// What the meters read of `event`: those that count it. Costs one walk of its data,
    /// and nothing if no meter is for its type.
    pub fn readings(&self, event: &Event) -> Vec<Reading> {
        if !self.counts(event.event_type()) {
            return vec![];
        }
        let found = self.pointers.resolve(data(event));
        let values = Values::new(found, self.pointers.place_count());
        let counting = self.of_type(event.event_type());
        counting.filter_map(|meter| meter.read(&values)).collect()
    }

    fn of_type(&self, event_type: &str) -> impl Iterator<Item = &IndexedMeter> {
        let meters = self.meters.iter();
        meters.filter(move |indexed| indexed.meter.definition.is_for(event_type))
    }
}

impl IndexedMeter {
    fn new(meter: Meter, pointers: &mut PointerSet) -> Self {
        let Definition {
            value,
            group_by,
            conditions,
            ..
        } = &meter.definition;
        let mut insert = |pointer| pointers.insert(pointer);
        Self {
            value: value.as_ref().map(&mut insert),
            group_by: group_by.iter().map(&mut insert).collect(),
            conditions: conditions.iter().map(|one| insert(&one.pointer)).collect(),
            meter,
        }
    }

    /// What it reads of an event of its type; `None` if its conditions do not hold.
    fn read(&self, values: &Values<'_>) -> Option<Reading> {
        let Meter { id, definition } = &self.meter;
        let mut conditions = definition.conditions.iter().zip(&self.conditions);
        let counts = conditions.all(|(condition, at)| match &condition.test {
            Predicate::Exists(exists) => values.exists(*at) == *exists,
            Predicate::OneOf(wanted) => values
                .scalar(*at)
                .is_some_and(|value| wanted.contains(value)),
        });
        counts.then(|| Reading {
            meter: id.clone(),
            measure: self.measure(definition.aggregation, values),
            group: self.group(values),
        })
    }

    fn measure(&self, aggregation: Aggregation, values: &Values<'_>) -> Measure {
        let Some(at) = self.value else {
            return Measure::One;
        };
        let measure = match aggregation {
            Aggregation::UniqueCount => values.unique(at).map(Measure::Unique),
            _ => values.number(at).cloned().map(Measure::Number),
        };
        measure.unwrap_or(Measure::Skipped)
    }

    /// The group: the values of `group_by` in one form, as a JSON array.
    fn group(&self, values: &Values<'_>) -> String {
        let values: Vec<_> = self.group_by.iter().map(|at| values.group(*at)).collect();
        format!("[{}]", values.join(","))
    }
}

/// The JSON text of an event's `data`; empty, in which no pointer leads anywhere,
/// if it has none.
fn data(event: &Event) -> &str {
    let text = event.data().unwrap_or_default();
    std::str::from_utf8(text).expect("an event's data is JSON, and so UTF-8")
}

/// What the pointers lead to in one event, each read once and when it is asked for.
struct Values<'a> {
    found: ResolvedPointers<'a>,
    read: Vec<OnceCell<Value>>,
}

/// What one pointer leads to, in the forms that meters take it in.
struct Value {
    /// None for an object, an array, or nothing.
    scalar: Option<Scalar>,
    number: OnceCell<Option<Decimal>>,
    unique: OnceCell<Option<[u8; UNIQUE_BYTES]>>,
    group: OnceCell<Box<str>>,
}

impl<'a> Values<'a> {
    fn new(found: ResolvedPointers<'a>, len: usize) -> Self {
        #[cfg(test)]
        work::add(found.bytes_read());
        Self {
            found,
            read: std::iter::repeat_with(OnceCell::new).take(len).collect(),
        }
    }

    fn exists(&self, at: PointerIndex) -> bool {
        self.found.get(at).is_some()
    }

    fn value(&self, at: PointerIndex) -> &Value {
        self.read[at.get()].get_or_init(|| {
            let json = self.found.get(at);
            #[cfg(test)]
            work::add(json.map_or(0, str::len));
            Value {
                scalar: json.and_then(Scalar::read),
                number: OnceCell::new(),
                unique: OnceCell::new(),
                group: OnceCell::new(),
            }
        })
    }

    fn scalar(&self, at: PointerIndex) -> Option<&Scalar> {
        self.value(at).scalar.as_ref()
    }

    fn number(&self, at: PointerIndex) -> Option<&Decimal> {
        let value = self.value(at);
        let read = || value.scalar.as_ref().and_then(number);
        value.number.get_or_init(read).as_ref()
    }

    fn unique(&self, at: PointerIndex) -> Option<[u8; UNIQUE_BYTES]> {
        let value = self.value(at);
        let read = || value.scalar.as_ref().and_then(unique);
        *value.unique.get_or_init(read)
    }

    fn group(&self, at: PointerIndex) -> &str {
        let value = self.value(at);
        value.group.get_or_init(|| {
            let groupable = value.scalar.as_ref().filter(|scalar| is_groupable(scalar));
            groupable.unwrap_or(&Scalar::Null).to_json().into()
        })
    }
}

/// The bytes that reading events took, counted for tests.
#[cfg(test)]
mod work {
    use std::cell::Cell;

    thread_local! {
        static BYTES: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn add(bytes: usize) {
        BYTES.set(BYTES.get() + bytes);
    }

    pub(super) fn take() -> usize {
        BYTES.take()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::event;
    use crate::model::id::MeterId;

    /// A meter for each of `specs`, which lack what all have.
    fn set(specs: impl Iterator<Item = Value>) -> MeterSet {
        let meter = |(at, mut spec): (usize, Value)| {
            spec["event_type"] = "a".into();
            let written = serde_json::from_value(spec).unwrap();
            Meter {
                id: MeterId::new(i64::try_from(at).unwrap(), [7; 10]),
                definition: Definition::new(&written).unwrap(),
            }
        };
        MeterSet::new(specs.enumerate().map(meter).collect())
    }

    fn event_with(data: &str) -> Event {
        let text =
            format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"a","data":{data}}}"#);
        event::parse_structured(text.as_bytes()).unwrap()
    }

    /// The bytes that `meters` meters read of `data`, and that each read a value.
    fn work_of(meters: usize, data: &str, spec: impl Fn(usize) -> Value) -> usize {
        let set = set((0..meters).map(spec));
        let event = event_with(data);
        work::take();
        let readings = set.readings(&event);
        assert_eq!(readings.len(), meters);
        assert!(readings.iter().all(|read| read.measure != Measure::Skipped));
        work::take()
    }

    #[test]
    fn a_hundred_meters_walk_the_data_once() {
        let items: String = (0..8_000)
            .map(|n| format!("\"k{n}\":{{\"n\":{n}.50}},"))
            .collect();
        let data = format!(r#"{{{items}"plan":"pro","ok":true}}"#);
        let spec = |n: usize| {
            json!({
                "aggregation": "sum", "value": format!("/k{n}/n"),
                "group_by": ["/plan", format!("/k{}/n", n + 1)],
                "filters": [{ "pointer": "/ok", "equals": true }],
            })
        };
        let one = work_of(1, &data, spec);
        let hundred = work_of(100, &data, spec);
        assert!(one >= data.len());
        assert!(
            hundred < one + one / 10,
            "{one} bytes for one, {hundred} for a hundred"
        );
    }

    #[test]
    fn a_large_value_is_read_once_for_a_hundred_meters() {
        let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(200_000));
        let spec = |_| {
            json!({
                "aggregation": "unique_count", "value": "/text", "group_by": ["/text"],
                "filters": [{ "pointer": "/text", "exists": true }],
            })
        };
        let one = work_of(1, &data, spec);
        assert_eq!(work_of(100, &data, spec), one);
        assert!(one < 3 * data.len(), "{one} bytes");
    }

    #[test]
    fn an_event_of_no_meter_is_not_looked_into() {
        let set = set([json!({ "aggregation": "sum", "value": "/n" })].into_iter());
        let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"b","data":{"n":1}}"#;
        let event = event::parse_structured(text.as_bytes()).unwrap();
        work::take();
        assert_eq!(set.readings(&event), []);
        assert_eq!(work::take(), 0);
        assert!(!set.counts("b") && set.counts("a"));
    }

    #[test]
    fn each_meter_reads_its_own() {
        let set = set([
            json!({ "aggregation": "sum", "value": "/n" }),
            json!({ "aggregation": "count", "filters": [{ "pointer": "/n", "equals": 2 }] }),
            json!({ "aggregation": "max", "value": "/n/m" }),
            json!({ "aggregation": "count", "group_by": ["/n"] }),
        ]
        .into_iter());
        let readings = set.readings(&event_with(r#"{"n":{"m":1},"n":1.50}"#));
        let read: Vec<_> = readings
            .iter()
            .map(|reading| (format!("{:?}", reading.measure), &*reading.group))
            .collect();
        let expected = [("Number(…)", "[]"), ("Skipped", "[]"), ("One", "[1.5]")];
        assert_eq!(
            read,
            expected.map(|(measure, group)| (measure.to_owned(), group))
        );
    }
}
