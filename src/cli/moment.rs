//! Moments as operators type them: `2h` (ago), `2026-11-22T09:30:00Z`, `2026-11-22`.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use crate::config::parse_duration;

/// A moment, absolute or relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This long before now.
    Ago(Duration),
    /// At this time.
    At(DateTime<Utc>),
}

impl Moment {
    /// The moment.
    pub fn seen_from(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Ago(duration) => now - duration,
            Self::At(at) => at,
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = DateTime::parse_from_rfc3339(text).map(|at| Self::At(at.to_utc()));
        let day = || {
            let day = text.parse::<NaiveDate>().ok()?;
            Some(Self::At(day.and_time(NaiveTime::MIN).and_utc()))
        };
        at.ok().or_else(day).or_else(|| parse_duration(text).ok().map(Self::Ago)).ok_or_else(|| {
            "write how long ago (30m, 2h, 7d) or when, in UTC (2026-11-22 or 2026-11-22T09:30:00Z)".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_durations_or_dates() {
        let now: DateTime<Utc> = "2026-11-22T09:30:00Z".parse().unwrap();
        for (text, expected) in [
            ("2h", "2026-11-22T07:30:00Z"),
            ("1h30m", "2026-11-22T08:00:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("2026-11-20T10:00:00+02:00", "2026-11-20T08:00:00Z"),
        ] {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(moment.seen_from(now), expected.parse::<DateTime<Utc>>().unwrap(), "{text}");
        }
        for text in ["", "2", "yesterday", "2026-13-01", "-2h"] {
            assert!(text.parse::<Moment>().unwrap_err().contains("30m"), "{text}");
        }
    }
}
