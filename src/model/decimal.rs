//! Decimal numbers, as text: exact, bounded, never a float.

use std::fmt;

/// Digits a number may have, written out without an exponent.
pub const DIGITS_MAX: usize = 38;

/// A decimal number in its one plain form: `-12.5`, without an exponent, leading
/// zeros or trailing ones.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Decimal(Box<str>);

impl Decimal {
    /// Reads a number as JSON writes it (RFC 8259 §6), exponent and all; `None`
    /// for anything else, and for what would take more than 38 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, text) = match text.strip_prefix('-') {
            Some(rest) => ("-", rest),
            None => ("", text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, self::exponent(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        let is_whole = whole == "0" || (!whole.is_empty() && !whole.starts_with('0'));
        let mut all = whole.bytes().chain(fraction.bytes());
        if !is_whole || !all.all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        let places = i64::try_from(fraction.len()).ok()? - exponent;
        plain(sign, &digits, places).map(|text| Self(text.into()))
    }

    /// The plain form, which PostgreSQL's `numeric` reads.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn exponent(text: &str) -> Option<i64> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let is_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let digits = digits.trim_start_matches('0');
    let size = match digits {
        "" => 0,
        digits => digits.parse::<i32>().ok()?.into(),
    };
    is_digits.then_some(if is_negative { -size } else { size })
}

/// Writes out `digits`, the last `places` of which follow the point.
fn plain(sign: &str, digits: &str, places: i64) -> Option<String> {
    let leading = digits.trim_start_matches('0');
    let significant = leading.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".into());
    }
    let cut = i64::try_from(leading.len() - significant.len()).ok()?;
    let places = places - cut;
    let len = i64::try_from(significant.len()).ok()?;
    let width = if places <= 0 {
        len - places
    } else {
        len.max(places)
    };
    if usize::try_from(width).ok()? > DIGITS_MAX {
        return None;
    }
    let zeros = |n: i64| "0".repeat(usize::try_from(n).unwrap_or_default());
    Some(if places <= 0 {
        format!("{sign}{significant}{}", zeros(-places))
    } else if places >= len {
        format!("{sign}0.{}{significant}", zeros(places - len))
    } else {
        let (whole, fraction) = significant.split_at(usize::try_from(len - places).ok()?);
        format!("{sign}{whole}.{fraction}")
    })
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(number: &str) -> Option<String> {
        Decimal::parse(number).map(|decimal| decimal.as_str().to_owned())
    }

    #[test]
    fn one_number_has_one_form() {
        for (written, plain) in [
            ("0", "0"),
            ("-0.00", "0"),
            ("0e5", "0"),
            ("10", "10"),
            ("12.50", "12.5"),
            ("-12.5", "-12.5"),
            ("1e3", "1000"),
            ("1.5E+2", "150"),
            ("150e-1", "15"),
            ("1e-3", "0.001"),
            ("-0.00120", "-0.0012"),
            ("0.1", "0.1"),
            (
                "123456789012345678901234567890.12345678",
                "123456789012345678901234567890.12345678",
            ),
            ("1e37", "10000000000000000000000000000000000000"),
            ("1e0000000000000000000001", "10"),
        ] {
            assert_eq!(text(written).as_deref(), Some(plain), "{written}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_long_a_one() {
        for written in [
            "",
            "-",
            "+1",
            "01",
            ".5",
            "5.",
            "1e",
            "1e+",
            "1e1.5",
            "0x1",
            "1_000",
            " 1",
            "NaN",
            "Infinity",
            "1,5",
            "--1",
            "1e38",
            "1e-39",
            "1e999999999999",
            "٣",
            "\"1\"",
            "null",
        ] {
            assert_eq!(text(written), None, "{written}");
        }
        assert_eq!(text(&"9".repeat(39)), None);
        assert!(text(&"9".repeat(38)).is_some());
        assert_eq!(text(&format!("{}e5", "9".repeat(34))), None);
    }

    proptest! {
        /// Scaled integers are the model.
        #[test]
        fn the_value_stays(mantissa in any::<i64>(), exponent in -15i32..1, zeros in 0usize..4) {
            let written = format!("{mantissa}{}e{exponent}", "0".repeat(zeros));
            let plain = text(&written).unwrap();
            let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
            let places = u32::try_from(fraction.len()).unwrap();
            let scaled: i128 = format!("{whole}{fraction}").parse().unwrap();
            // Both at fifteen places.
            let up = 15 + exponent + i32::try_from(zeros).unwrap();
            prop_assert_eq!(
                scaled * 10i128.pow(15 - places),
                i128::from(mantissa) * 10i128.pow(u32::try_from(up).unwrap())
            );
            prop_assert_eq!(text(&plain), Some(plain.clone()));
            let is_cut = !plain.contains('.') || !plain.ends_with(['.', '0']);
            prop_assert!(is_cut, "{}", plain);
        }

        #[test]
        fn anything_is_read_or_refused(written in "[-+0-9.eE]{0,12}") {
            let is_json = serde_json::from_str::<serde_json::value::Number>(&written).is_ok();
            // JSON's grammar is ours; only the size differs.
            if let Some(plain) = text(&written) {
                prop_assert!(is_json || written.contains(['e', 'E']), "{written}: {plain}");
            }
            if is_json && !written.contains(['e', 'E']) {
                prop_assert!(text(&written).is_some(), "{}", written);
            }
        }
    }
}
