//! Times and durations in words. English for now, as the default templates are.

use chrono::{DateTime, Datelike, Offset, TimeDelta, Timelike};
use chrono_tz::{OffsetName, Tz};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment, in its own time zone: `22 November 2026 at 14:02 (UTC)`.
pub(super) fn time(at: DateTime<Tz>) -> String {
    let (day, year, hour, minute) = (at.day(), at.year(), at.hour(), at.minute());
    let month = MONTHS.get(at.month0() as usize).copied().unwrap_or_default();
    let zone = match at.offset().abbreviation() {
        Some(name) => name.to_owned(),
        // Many zones have no customary abbreviation: those are called by their offset.
        None => format!("UTC{}", at.offset().fix()),
    };
    format!("{day} {month} {year} at {hour:02}:{minute:02} ({zone})")
}

/// How long something lasts: `45 minutes`, `24 hours`, `3 days`. A little tolerance keeps "24 hours" what
/// it is when the email leaves some seconds later; beyond that it is rounded down, never up.
pub(super) fn duration(length: TimeDelta) -> String {
    const HOUR: i64 = 60;
    const DAY: i64 = 24 * HOUR;
    let minutes = (length.num_seconds() + 30) / 60;
    let (number, unit) = match minutes {
        ..1 => return "less than a minute".to_owned(),
        58..=62 => (1, "hour"),
        1..115 => (minutes, "minute"),
        _ => match (minutes + 5) / HOUR {
            hours if hours < 48 => (hours, "hour"),
            _ => ((minutes + HOUR) / DAY, "day"),
        },
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn a_time_is_written_in_its_zone() {
        let at = chrono::Utc.with_ymd_and_hms(2026, 7, 3, 22, 5, 59).unwrap();
        let cases = [
            (Tz::UTC, "3 July 2026 at 22:05 (UTC)"),
            (Tz::Europe__Berlin, "4 July 2026 at 00:05 (CEST)"),
            (Tz::America__New_York, "3 July 2026 at 18:05 (EDT)"),
            (Tz::America__Sao_Paulo, "3 July 2026 at 19:05 (UTC-03:00)"),
        ];
        for (zone, written) in cases {
            assert_eq!(time(at.with_timezone(&zone)), written);
        }
    }

    #[test]
    fn a_duration_is_never_overstated_by_much() {
        let cases = [
            (-5, "less than a minute"),
            (20, "less than a minute"),
            (60, "1 minute"),
            (15 * 60 - 2, "15 minutes"),
            (45 * 60, "45 minutes"),
            (3600 - 2, "1 hour"),
            (90 * 60, "90 minutes"),
            (2 * 3600 - 3, "2 hours"),
            (2 * 3600 + 50 * 60, "2 hours"),
            (24 * 3600 - 2, "24 hours"),
            (24 * 3600, "24 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600 - 9, "2 days"),
            (72 * 3600 - 10, "3 days"),
            (71 * 3600 - 90, "2 days"),
            (30 * 86400, "30 days"),
        ];
        for (seconds, written) in cases {
            assert_eq!(duration(TimeDelta::seconds(seconds)), written, "{seconds} s");
        }
    }
}
