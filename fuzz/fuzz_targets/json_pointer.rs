//! JSON pointers of meters and what they find, against serde_json's own. An input
//! is a pointer on a line, then a document.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::model::decimal::{DIGITS_MAX, Decimal};
use millrace::model::pointer::Pointer;
use millrace::model::pointer_set::PointerSet;
use millrace::model::scalar::Scalar;
use millrace_fuzz::line_and_rest;
use serde_json::Value;
use serde_json::value::RawValue;

fuzz_target!(|input: &[u8]| {
    let Some((text, json)) = line_and_rest(input) else {
        return;
    };
    number(text);
    let Ok(pointer) = Pointer::parse(text) else {
        return;
    };
    assert_eq!(pointer.as_str(), text);
    let mut set = PointerSet::default();
    let place = set.insert(&pointer);
    let resolved = set.resolve(json);
    if serde_json::from_str::<&RawValue>(json).is_err() {
        return;
    }
    let found = resolved.get(place);
    // What no tree can hold is found all the same: 1e999, half a surrogate pair.
    if let Ok(document) = serde_json::from_str::<Value>(json) {
        let value = found.map(|found| serde_json::from_str::<Value>(found).expect("it is JSON"));
        assert_eq!(value.as_ref(), document.pointer(text));
    }
    if let Some(scalar) = found.and_then(Scalar::read) {
        let form = scalar.to_json();
        assert_eq!(Scalar::read(&form), Some(scalar), "one value has one form");
    }
});

/// What a meter adds up is a number of JSON, and has one plain form.
fn number(text: &str) {
    let Some(decimal) = Decimal::parse(text) else {
        return;
    };
    let plain = decimal.as_str();
    assert_eq!(Decimal::parse(plain).as_ref(), Some(&decimal));
    let digits = plain.bytes().filter(u8::is_ascii_digit).count();
    assert!(
        digits <= DIGITS_MAX + 1 && !plain.contains(['e', 'E']),
        "{plain}"
    );
    // Rounding the mantissa first may cost the last bit.
    let (written, plain): (f64, f64) = (text.parse().unwrap(), plain.parse().unwrap());
    assert!(
        (written - plain).abs() <= written.abs() * f64::EPSILON,
        "{written} {plain}"
    );
}
