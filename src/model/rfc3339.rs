//! RFC 3339 timestamps (§5.6): the one reader of the times that events, bodies and
//! queries bring.

use jiff::Timestamp;
use jiff::civil::Date;

/// Nanoseconds are what a moment has; the RFC sets no bound on digits.
const FRACTION_DIGITS: usize = 9;
const DAY_S: i64 = 86_400;
/// The first moment of the year 0000, in seconds.
const FIRST_S: i64 = -62_167_219_200;
/// The last second of which the stores' milliseconds can be read back: the offset of any
/// zone may be added to it within the year 9999.
const LAST_S: i64 = 253_402_207_200;

/// The moment that `text` names, or `None` if it is no RFC 3339 timestamp.
///
/// The grammar is that of §5.6, with its ranges: offsets up to 23:59 either way, `T` and
/// `Z` in either case, a fraction of any length. A leap second is taken where §5.7 has
/// one, at the end of a June or December in UTC; it is the last moment of its day, so
/// that it counts for that day and no order is turned round. Years 0000 to 9999 are all
/// taken: what lies beyond the last moment there can be is that moment, and what an
/// offset puts before the year 0000 is its first.
pub fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_at_checked(10)?;
    let date = read_date(date)?;
    let time = time.strip_prefix(['T', 't'])?;
    let (clock, rest) = time.split_at_checked(8)?;
    let [hour, minute, second] = read_fields(clock, b"00:00:00")?;
    let (nanosecond, zone) = read_fraction(rest)?;
    let offset_s = read_offset(zone)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = date
        .duration_since(Date::constant(1970, 1, 1))
        .as_hours()
        .div_euclid(24);
    let at_s = |second: i64| days * DAY_S + hour * 3600 + minute * 60 + second - offset_s;
    if second < 60 {
        return Some(moment(at_s(second), nanosecond));
    }
    is_before_leap_second(at_s(59)).then(|| moment(at_s(59), 999_999_999))
}

fn moment(second: i64, nanosecond: i32) -> Timestamp {
    match second {
        ..FIRST_S => Timestamp::constant(FIRST_S, 0),
        LAST_S.. => Timestamp::constant(LAST_S, 0),
        _ => Timestamp::new(second, nanosecond).expect("it is within the years 0000 to 9999"),
    }
}

/// Whether a leap second may follow this one (§5.7).
fn is_before_leap_second(at_s: i64) -> bool {
    let day = at_s.div_euclid(DAY_S);
    let date = Date::constant(1970, 1, 1).checked_add(jiff::SignedDuration::from_hours(24 * day));
    at_s.rem_euclid(DAY_S) == DAY_S - 1
        && date.is_ok_and(|date| matches!((date.month(), date.day()), (6, 30) | (12, 31)))
}

fn read_date(text: &str) -> Option<Date> {
    let [century, year, month, day] = read_fields(text, b"0000-00-00")?;
    let part = |number: i64| i8::try_from(number).ok();
    let year = i16::try_from(century * 100 + year).ok()?;
    Date::new(year, part(month)?, part(day)?).ok()
}

/// The nanoseconds of `.` and digits, if it begins so, and what follows.
fn read_fraction(text: &str) -> Option<(i32, &str)> {
    let Some(rest) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, zone) = rest.split_at(len);
    let kept = &digits[..len.min(FRACTION_DIGITS)];
    let nanosecond = format!("{kept:0<FRACTION_DIGITS$}").parse().ok()?;
    (len > 0).then_some((nanosecond, zone))
}

/// How many seconds `Z` or `+hh:mm` is ahead of UTC.
fn read_offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let [hour, minute] = read_fields(rest, b"00:00")?;
    (hour <= 23 && minute <= 59).then_some(sign * (hour * 3600 + minute * 60))
}

/// The numbers of two digits in `text`, which is as `shape`: 0 stands for any digit.
fn read_fields<const N: usize>(text: &str, shape: &[u8]) -> Option<[i64; N]> {
    let fits = |(byte, shape): (u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        shape => byte == *shape,
    };
    if text.len() != shape.len() || !text.bytes().zip(shape).all(fits) {
        return None;
    }
    let mut digits = text.bytes().filter(u8::is_ascii_digit);
    let mut digit = || digits.next().map(|byte| i64::from(byte - b'0'));
    let mut fields = [0; N];
    for field in &mut fields {
        *field = digit()? * 10 + digit()?;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_grammar_has_is_read() {
        for (text, moment) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("2026-01-31t12:00:00z", "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:00-00:00", "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:00+23:59", "2026-01-30T12:01:00Z"),
            ("2026-01-31T12:00:00-23:59", "2026-02-01T11:59:00Z"),
            ("2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.5Z"),
            (
                "2026-01-31T12:00:00.1234567899999999Z",
                "2026-01-31T12:00:00.123456789Z",
            ),
            ("1969-12-31T23:59:59.75Z", "1969-12-31T23:59:59.75Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("0000-01-01T00:00:00.5+23:59", "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(parse(text), Some(moment.parse().unwrap()), "{text}");
        }
        let long = format!("2026-01-31T12:00:00.{}Z", "0".repeat(100_000));
        assert_eq!(parse(&long), parse("2026-01-31T12:00:00Z"));
    }

    #[test]
    fn what_it_has_not_is_refused() {
        for text in [
            "",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00Z",
            "2026-01-31 12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T23:60:00Z",
            "2026-01-31T12:00:61Z",
            "2026-02-30T12:00:00Z",
            "2023-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-01-00T12:00:00Z",
            "2026-01-31T12:00:00+24:00",
            "2026-01-31T12:00:00-24:00",
            "2026-01-31T12:00:00+00:60",
            "2026-01-31T12:00:00+0100",
            "2026-01-31T12:00:00+01",
            "2026-01-31T12:00:00 01:00",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00,5Z",
            "2026-01-31T12:00:00Z ",
            " 2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00Z[UTC]",
            "20260131T120000Z",
            "+002026-01-31T12:00:00Z",
            "-001-01-31T12:00:00Z",
            "2026-01-31T12:00:0é",
            "2026-01-31T12:00:00é",
            "2026-01-3é12:00:00Z",
            "２０２６-01-31T12:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_the_last_moment_of_its_day() {
        let last = parse("2016-12-31T23:59:59.999999999Z");
        for text in [
            "2016-12-31T23:59:60Z",
            "2016-12-31t23:59:60.75z",
            "2017-01-01T00:59:60+01:00",
            "2016-12-31T15:59:60-08:00",
            "2017-01-01T23:58:60+23:59",
            "2016-12-31T23:59:60-00:00",
        ] {
            assert_eq!(parse(text), last, "{text}");
        }
        assert!(parse("1972-06-30T23:59:60Z").is_some());
        for text in [
            "2026-01-31T12:00:60Z",
            "2026-01-31T23:59:60Z",
            "2016-12-31T23:58:60Z",
            "2016-12-31T22:59:60Z",
            "2016-12-31T23:59:60+01:00",
            "2016-12-30T23:59:60Z",
            "2016-09-30T23:59:60Z",
            "9999-12-31T23:59:60-01:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_lies_beyond_the_last_moment_is_that_moment() {
        let last = Timestamp::constant(LAST_S, 0);
        for text in [
            "9999-12-30T22:00:00.5Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.999999999-23:59",
            "9999-12-31T23:59:60Z",
        ] {
            assert_eq!(parse(text), Some(last), "{text}");
        }
        assert!(parse("9999-12-31T21:58:59.9+23:59") < Some(last));
        // As stores keep it.
        let read = Timestamp::from_millisecond(last.as_millisecond());
        assert_eq!(read.unwrap(), last);
    }

    proptest! {
        #[test]
        fn whatever_moment_is_written_is_read(second in FIRST_S..LAST_S, nanosecond in 0..1_000_000_000) {
            let moment = Timestamp::new(second, nanosecond).unwrap();
            prop_assert_eq!(parse(&moment.to_string()), Some(moment));
        }

        #[test]
        fn anything_is_read_or_refused(text in "\\PC{0,40}") {
            parse(&text);
        }
    }
}
