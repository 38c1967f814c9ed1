//! Durations as people write them: `"90s"`, `"15m"`, `"24h"`, `"30d"`, `"500ms"`, `"1h30m"`.

use std::time::Duration;

/// Largest first, so that parts must come in this order. Milliseconds each.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Anything longer is a slip of the pen, and would overflow dates further on.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

const FORM: &str = r#"write numbers with a unit (ms, s, m, h, d), such as "90s", "15m", "1h30m" or "30d""#;

/// A number of hours.
pub(crate) const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

/// A number of days of 24 hours.
pub(crate) const fn days(days: u64) -> Duration {
    hours(days * 24)
}

/// A number of minutes.
pub(crate) const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// Reads a duration.
///
/// # Errors
/// The reason and the accepted form, to follow the value in a sentence.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("is not a duration; {FORM}"));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(no_unit(text));
    }
    let mut rest = text;
    let mut units = &UNITS[..];
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let Some(place) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(format!("is not a duration; {FORM}"));
        };
        // No digits, or more than fit.
        let number: u64 = match number.parse() {
            Ok(number) => number,
            Err(_) if digits == 0 => return Err(format!("is not a duration; {FORM}")),
            Err(_) => return Err(too_long()),
        };
        total = number
            .checked_mul(units[place].1)
            .and_then(|ms| total.checked_add(Duration::from_millis(ms)))
            .filter(|total| *total <= LONGEST)
            .ok_or_else(too_long)?;
        units = &units[place + 1..];
        rest = after;
    }
    Ok(total)
}

/// What to say of a bare number.
pub(crate) fn no_unit(number: impl std::fmt::Display) -> String {
    format!(r#"has no unit; write "{number}s" for seconds (or ms, m, h, d)"#)
}

fn too_long() -> String {
    "is longer than 100 years; write a shorter duration".to_owned()
}

/// Writes a duration in the largest unit that holds it exactly; days only from a week on (`24h`, but `30d`).
/// Anything finer than a millisecond is dropped: [`parse`] never makes it.
pub(crate) fn format(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    UNITS
        .iter()
        .find(|(unit, size)| ms.is_multiple_of(*size) && (*unit != "d" || ms >= 7 * size))
        .map_or_else(|| format!("{ms}ms"), |(unit, size)| format!("{}{unit}", ms / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_combinations() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("90s", 90_000),
            ("15m", 900_000),
            ("24h", 86_400_000),
            ("30d", 2_592_000_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            (" 60s ", 60_000),
            ("36500d", 3_153_600_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn says_the_form_when_it_is_not_one() {
        for text in ["", " ", "soon", "s", "1.5h", "-1s", "1h 30m", "30m1h", "1h1h", "1w", "1H", "1h30", "٣s"] {
            let reason = parse(text).unwrap_err();
            assert_eq!(reason, format!("is not a duration; {FORM}"), "{text}");
        }
        assert_eq!(parse("60").unwrap_err(), r#"has no unit; write "60s" for seconds (or ms, m, h, d)"#);
        for text in ["36501d", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse(text).unwrap_err(), too_long(), "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["0s", "500ms", "90s", "1m", "15m", "90m", "24h", "72h", "7d", "400d"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(format(parse("1h30m").unwrap()), "90m");
    }
}
