//! Numbers of JSON by their exact value: however one is written, and of whatever size.
//!
//! Told apart and ordered by their digits, never through a float. Nothing is written
//! out, so `1e308` costs as little as `1`.

use std::cmp::Ordering;
use std::fmt;

/// Significant digits of an exponent; with more a number is none that can be read.
const EXPONENT_LEN_MAX: usize = 18;
/// Significant digits of a divisor: the remainders of one of them, and a digit, fit
/// into 128 bits.
pub const DIVISOR_DIGITS_MAX: usize = 37;

/// A number: `digits` × 10^`exponent`, less than zero or not.
///
/// In its one form: digits without zeros at either end, none for zero, which has no
/// sign.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Number {
    is_negative: bool,
    digits: Box<str>,
    exponent: i64,
}

impl Number {
    /// Reads a number as JSON writes it (RFC 8259 §6); `None` if its exponent has more
    /// than 18 digits, though it may have any number of zeros before them.
    ///
    /// `text` must be one. Cost: its length.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, ""));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let written = [whole, fraction].concat();
        let ends = written.trim_end_matches('0');
        let digits = ends.trim_start_matches('0');
        if digits.is_empty() {
            return Some(Self::zero());
        }
        let cut = i64::try_from(written.len() - ends.len()).ok()?;
        let places = i64::try_from(fraction.len()).ok()?;
        Some(Self {
            is_negative,
            digits: digits.into(),
            exponent: self::exponent(exponent)? + cut - places,
        })
    }

    /// Whether [`parse`](Self::parse) reads it, at less cost.
    pub fn is_readable(text: &str) -> bool {
        let exponent = text.split_once(['e', 'E']);
        exponent.is_none_or(|(mantissa, exponent)| {
            self::exponent(exponent).is_some() || !mantissa.contains(|c| matches!(c, '1'..='9'))
        })
    }

    fn zero() -> Self {
        Self {
            is_negative: false,
            digits: "".into(),
            exponent: 0,
        }
    }

    /// Whether it has no fraction.
    pub fn is_integer(&self) -> bool {
        self.exponent >= 0
    }

    /// How many significant digits it has.
    pub fn digits(&self) -> usize {
        self.digits.len()
    }

    /// Whether `divisor`, of [`DIVISOR_DIGITS_MAX`] digits at most, goes into it
    /// without a remainder; into nothing but zero if that is zero.
    pub fn is_multiple_of(&self, divisor: &Self) -> bool {
        if self.digits.is_empty() {
            return true;
        }
        let Ok(modulus @ 1..) = divisor.digits.parse::<u128>() else {
            return false;
        };
        // Without a zero at its end it has no factor of ten to give away.
        let Ok(zeros) = usize::try_from(self.exponent - divisor.exponent) else {
            return false;
        };
        let digits = self.digits.bytes().chain(std::iter::repeat_n(b'0', zeros));
        let remainder = digits.fold(0, |remainder, digit| {
            (remainder * 10 + u128::from(digit - b'0')) % modulus
        });
        remainder == 0
    }

    /// Digits that [`is_multiple_of`](Self::is_multiple_of) looks at.
    pub fn division_steps(&self, divisor: &Self) -> u64 {
        let zeros = u64::try_from(self.exponent - divisor.exponent).unwrap_or_default();
        (self.digits.len() as u64).saturating_add(zeros)
    }

    /// The integer that it is, if 128 bits hold it.
    pub fn to_i128(&self) -> Option<i128> {
        let size: i128 = match &*self.digits {
            "" => 0,
            digits => digits.parse().ok()?,
        };
        let power = 10_i128.checked_pow(self.exponent.try_into().ok()?)?;
        let size = size.checked_mul(power)?;
        Some(if self.is_negative { -size } else { size })
    }

    /// The float that is nearest, unless that is infinite.
    pub fn to_f64(&self) -> Option<f64> {
        let float: f64 = self.to_string().parse().ok()?;
        Some(float).filter(|float| float.is_finite())
    }

    /// The power of ten of its first digit, and one.
    fn magnitude(&self) -> i64 {
        let len = i64::try_from(self.digits.len()).unwrap_or(i64::MAX);
        self.exponent.saturating_add(len)
    }
}

/// By value.
impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.is_negative, &*number.digits) {
            (_, "") => 0,
            (true, _) => -1,
            (false, _) => 1,
        };
        let by_size = || {
            let by_magnitude = self.magnitude().cmp(&other.magnitude());
            by_magnitude.then_with(|| self.digits.cmp(&other.digits))
        };
        match sign(self).cmp(&sign(other)) {
            Ordering::Equal if self.is_negative => by_size().reverse(),
            Ordering::Equal if self.digits.is_empty() => Ordering::Equal,
            Ordering::Equal => by_size(),
            by_sign => by_sign,
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// In its one form: `-125e-1`.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        let sign = if self.is_negative { "-" } else { "" };
        match self.exponent {
            0 => write!(f, "{sign}{}", self.digits),
            exponent => write!(f, "{sign}{}e{exponent}", self.digits),
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn exponent(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    match digits.trim_start_matches('0') {
        "" => Some(0),
        digits if digits.len() > EXPONENT_LEN_MAX => None,
        digits => digits.parse::<i64>().ok().map(|size| sign * size),
    }
}

/// The numbers in a JSON text as they are written, in their order: what a parser that
/// makes floats of them leaves out.
#[derive(Debug, Clone)]
pub struct NumberTexts<'a> {
    rest: &'a str,
}

impl<'a> NumberTexts<'a> {
    /// Those in `json`, which must be valid.
    pub fn new(json: &'a str) -> Self {
        Self { rest: json }
    }
}

impl<'a> Iterator for NumberTexts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let is_start = |byte: &u8| matches!(byte, b'"' | b'-' | b'0'..=b'9');
            let start = self.rest.bytes().position(|byte| is_start(&byte))?;
            let found = &self.rest[start..];
            if found.starts_with('"') {
                self.rest = &found[string_len(found)..];
                continue;
            }
            let is_part = |byte| matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E' | b'0'..=b'9');
            let end = found.bytes().position(|byte| !is_part(byte));
            let (number, rest) = found.split_at(end.unwrap_or(found.len()));
            self.rest = rest;
            return Some(number);
        }
    }
}

/// Bytes of the string that `text` begins with, and its quotes.
fn string_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            // What is escaped may be a quote.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap()
    }

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        for same in [
            &[
                "1",
                "1.0",
                "1e0",
                "10e-1",
                "0.1E+1",
                "1000e-0003",
                "0.001e3",
            ][..],
            &["0", "-0", "0.0", "-0e5", "0e99999999999999999999", "0E-7"],
            &["1E300", "10e299", "0.1e301"],
            &["-12.50", "-125e-1", "-1.25E1"],
            &["1e-400", "0.1e-399"],
        ] {
            for text in same {
                assert_eq!(number(text), number(same[0]), "{text}");
                assert_eq!(number(text).to_string(), number(same[0]).to_string());
                assert_eq!(number(text).cmp(&number(same[0])), Ordering::Equal);
            }
        }
        assert_ne!(
            number("12345678901234567.89"),
            number("12345678901234567.90")
        );
        assert_ne!(number("1"), number("-1"));
        assert_ne!(number("1e-400"), number("0"));
        assert_ne!(number("9007199254740993"), number("9007199254740992"));
    }

    #[test]
    fn numbers_are_ordered_by_value() {
        let ascending = [
            "-1e300",
            "-12.5",
            "-12.49",
            "-1",
            "-1e-400",
            "0",
            "1e-401",
            "1e-400",
            "0.12",
            "0.123",
            "0.13",
            "1",
            "9",
            "10",
            "12345678901234567.89",
            "12345678901234567.90",
            "18446744073709551615",
            "18446744073709551616",
            "1e300",
        ];
        for pair in ascending.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
            assert!(number(pair[1]) > number(pair[0]), "{pair:?}");
        }
    }

    #[test]
    fn a_multiple_is_one_exactly() {
        for (number_, divisor, is_multiple) in [
            ("0.3", "0.1", true),
            ("0.35", "0.1", false),
            ("0", "7", true),
            ("1e308", "7", false),
            ("1e308", "0.0000000128", true),
            ("12345678901234567.89", "0.01", true),
            ("12345678901234567.891", "0.01", false),
            ("9007199254740993", "2", false),
            ("-4.5", "1.5", true),
            ("1", "0.3", false),
            ("0.00000001", "1e-8", true),
            ("1", "0", false),
            ("3", "1e-300", true),
            ("1e-400", "1", false),
        ] {
            let is = number(number_).is_multiple_of(&number(divisor));
            assert_eq!(is, is_multiple, "{number_} {divisor}");
        }
    }

    #[test]
    fn an_exponent_beyond_reason_is_not_read() {
        assert_eq!(Number::parse("1e-9999999999999999999"), None);
        for text in [
            "1e-9999999999999999999",
            "0e9999999999999999999",
            "1e300",
            "1",
        ] {
            assert_eq!(Number::is_readable(text), Number::parse(text).is_some());
        }
        assert!(number("1e-999999999999999999") > number("0"));
        assert_eq!(number("1e000000000000000000000000001"), number("10"));
    }

    #[test]
    fn integers_and_floats_are_read_off() {
        assert_eq!(number("1.5e1").to_i128(), Some(15));
        assert_eq!(number("-0").to_i128(), Some(0));
        assert_eq!(number("0.5").to_i128(), None);
        assert_eq!(number("1e300").to_i128(), None);
        assert_eq!(number("-1.25").to_f64(), Some(-1.25));
        assert!(number("1e2").is_integer() && !number("1e-2").is_integer());
    }

    #[test]
    fn the_numbers_of_a_text_are_those_outside_of_strings() {
        let json = r#" {"1":[-1.50,2e+3 ,"4\"5\\", 6], "\\":{"\u00e97":8}, "é9": 0} "#;
        let found: Vec<_> = NumberTexts::new(json).collect();
        assert_eq!(found, ["-1.50", "2e+3", "6", "8", "0"]);
    }

    proptest! {
        /// Scaled integers are the model.
        #[test]
        fn values_compare_as_scaled_integers_do(
            (a, b) in (-10_000_i64..10_000, -10_000_i64..10_000),
            (e, f) in (0_u32..6, 0_u32..6),
        ) {
            let (x, y) = (number(&format!("{a}e-{e}")), number(&format!("{b}e-{f}")));
            let scaled = |n: i64, places: u32| i128::from(n) * 10_i128.pow(6 - places);
            prop_assert_eq!(x.cmp(&y), scaled(a, e).cmp(&scaled(b, f)));
            prop_assert_eq!(x == y, scaled(a, e) == scaled(b, f));
            if b != 0 {
                prop_assert_eq!(x.is_multiple_of(&y), scaled(a, e) % scaled(b, f) == 0);
            }
        }
    }
}
