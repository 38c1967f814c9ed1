//! Times, durations and a few words in the language that an email is written in.
//!
//! The language is that of the file, not of the person: somebody whose language has no templates gets an English email,
//! and its dates must be English too.

use std::fmt::{self, Write};

use chrono::{DateTime, Datelike, Offset, TimeDelta, Timelike};
use chrono_tz::{OffsetName, Tz};

use super::context::Author;
use super::locate::Locale;

/// A language in which dates and durations are written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Language {
    #[default]
    English,
    German,
    French,
    Spanish,
    Japanese,
    /// Any other: figures and symbols that everybody reads (ISO 8601, SI).
    Other,
}

/// How much of a moment is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    /// The day and the time of day, with its zone.
    #[default]
    Full,
    /// The day: `{{date …}}`.
    Date,
    /// The time of day, with its zone: `{{time …}}`.
    Time,
}

impl Language {
    /// The language of a tag such as `de-AT`.
    pub fn of(locale: &Locale) -> Self {
        match locale.as_str().split('-').next().unwrap_or_default() {
            "en" => Self::English,
            "de" => Self::German,
            "fr" => Self::French,
            "es" => Self::Spanish,
            "ja" => Self::Japanese,
            _ => Self::Other,
        }
    }

    const fn months(self) -> [&'static str; 12] {
        match self {
            Self::German => [
                "Januar",
                "Februar",
                "März",
                "April",
                "Mai",
                "Juni",
                "Juli",
                "August",
                "September",
                "Oktober",
                "November",
                "Dezember",
            ],
            Self::French => [
                "janvier",
                "février",
                "mars",
                "avril",
                "mai",
                "juin",
                "juillet",
                "août",
                "septembre",
                "octobre",
                "novembre",
                "décembre",
            ],
            Self::Spanish => [
                "enero",
                "febrero",
                "marzo",
                "abril",
                "mayo",
                "junio",
                "julio",
                "agosto",
                "septiembre",
                "octubre",
                "noviembre",
                "diciembre",
            ],
            // The others write the month's number; it is here for the compiler only.
            Self::English | Self::Japanese | Self::Other => [
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
            ],
        }
    }

    /// A moment, in its own time zone: `22 November 2026 at 14:02 (UTC)`.
    pub fn time(self, at: DateTime<Tz>, style: Style) -> String {
        let mut out = String::with_capacity(48);
        // Writing into memory does not fail.
        let _ = match style {
            Style::Date => self.date(at, &mut out),
            Style::Time => self.clock(at, &mut out),
            Style::Full => self.date(at, &mut out).and_then(|()| {
                out.push_str(match self {
                    Self::English => " at ",
                    Self::French => " à ",
                    Self::German => ", ",
                    Self::Spanish if at.hour() == 1 => " a la ",
                    Self::Spanish => " a las ",
                    Self::Japanese | Self::Other => " ",
                });
                self.clock(at, &mut out)
            }),
        };
        out
    }

    fn date(self, at: DateTime<Tz>, out: &mut String) -> fmt::Result {
        let at = at.date_naive();
        let (year, number, day) = (at.year(), at.month(), at.day());
        let month = self.months().get(at.month0() as usize).copied().unwrap_or_default();
        match self {
            Self::German => write!(out, "{day}. {month} {year}"),
            Self::French if day == 1 => write!(out, "1er {month} {year}"),
            Self::English | Self::French => write!(out, "{day} {month} {year}"),
            Self::Spanish => write!(out, "{day} de {month} de {year}"),
            Self::Japanese => write!(out, "{year}年{number}月{day}日"),
            Self::Other => write!(out, "{year:04}-{number:02}-{day:02}"),
        }
    }

    fn clock(self, at: DateTime<Tz>, out: &mut String) -> fmt::Result {
        let (hour, minute) = (at.hour(), at.minute());
        match self {
            Self::German => write!(out, "{hour:02}:{minute:02} Uhr (")?,
            Self::French => write!(out, "{hour:02}h{minute:02} (")?,
            Self::English | Self::Spanish | Self::Japanese | Self::Other => write!(out, "{hour:02}:{minute:02} (")?,
        }
        match at.offset().abbreviation() {
            Some(name) => write!(out, "{name})"),
            // Many zones have no customary abbreviation: those are called by their offset.
            None => write!(out, "UTC{})", at.offset().fix()),
        }
    }

    /// How long something lasts: `45 minutes`, `24 hours`, `3 days`. A little tolerance keeps "24 hours" what
    /// it is when the email leaves some seconds later; beyond that it is rounded down, never up.
    pub fn duration(self, length: TimeDelta) -> String {
        const HOUR: i64 = 60;
        const DAY: i64 = 24 * HOUR;
        let minutes = (length.num_seconds() + 30) / 60;
        let (number, unit) = match minutes {
            ..1 => {
                return match self {
                    Self::English => "less than a minute",
                    Self::German => "weniger als eine Minute",
                    Self::French => "moins d’une minute",
                    Self::Spanish => "menos de un minuto",
                    Self::Japanese => "1分未満",
                    Self::Other => "< 1 min",
                }
                .to_owned();
            }
            58..=62 => (1, 1),
            1..115 => (minutes, 0),
            _ => match (minutes + 5) / HOUR {
                hours if hours < 48 => (hours, 1),
                _ => ((minutes + HOUR) / DAY, 2),
            },
        };
        let names = match (self, number) {
            (Self::English, 1) => [" minute", " hour", " day"],
            (Self::English, _) => [" minutes", " hours", " days"],
            (Self::German, 1) => [" Minute", " Stunde", " Tag"],
            (Self::German, _) => [" Minuten", " Stunden", " Tage"],
            (Self::French, 1) => [" minute", " heure", " jour"],
            (Self::French, _) => [" minutes", " heures", " jours"],
            (Self::Spanish, 1) => [" minuto", " hora", " día"],
            (Self::Spanish, _) => [" minutos", " horas", " días"],
            (Self::Japanese, _) => ["分", "時間", "日"],
            (Self::Other, _) => [" min", " h", " d"],
        };
        format!("{number}{}", names[unit])
    }

    /// Who did something, seen by the person who reads it.
    pub const fn author(self, author: Author) -> &'static str {
        match (self, author) {
            (Self::English | Self::Other, Author::You) => "you",
            (Self::English | Self::Other, Author::Support) => "support",
            (Self::German, Author::You) => "Sie selbst",
            (Self::German, Author::Support) => "unser Support",
            (Self::French, Author::You) => "vous-même",
            (Self::French, Author::Support) => "notre équipe d’assistance",
            (Self::Spanish, Author::You) => "usted",
            (Self::Spanish, Author::Support) => "nuestro equipo de soporte",
            (Self::Japanese, Author::You) => "お客様ご自身",
            (Self::Japanese, Author::Support) => "サポート担当",
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    const ALL: [Language; 6] =
        [Language::English, Language::German, Language::French, Language::Spanish, Language::Japanese, Language::Other];

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
            assert_eq!(Language::English.time(at.with_timezone(&zone), Style::Full), written);
        }
    }

    #[test]
    fn a_time_is_written_in_its_language() {
        let at = chrono::Utc.with_ymd_and_hms(2026, 3, 1, 9, 5, 0).unwrap().with_timezone(&Tz::Europe__Berlin);
        let written = ALL.map(|language| language.time(at, Style::Full));
        assert_eq!(
            written,
            [
                "1 March 2026 at 10:05 (CET)",
                "1. März 2026, 10:05 Uhr (CET)",
                "1er mars 2026 à 10h05 (CET)",
                "1 de marzo de 2026 a las 10:05 (CET)",
                "2026年3月1日 10:05 (CET)",
                "2026-03-01 10:05 (CET)",
            ]
        );
        assert_eq!(Language::German.time(at, Style::Date), "1. März 2026");
        assert_eq!(Language::German.time(at, Style::Time), "10:05 Uhr (CET)");
    }

    #[test]
    fn a_duration_is_written_in_its_language() {
        let shown = |seconds| ALL.map(|language| language.duration(TimeDelta::seconds(seconds)));
        assert_eq!(shown(86_400), ["24 hours", "24 Stunden", "24 heures", "24 horas", "24時間", "24 h"]);
        assert_eq!(shown(3600), ["1 hour", "1 Stunde", "1 heure", "1 hora", "1時間", "1 h"]);
        assert_eq!(shown(3 * 86_400), ["3 days", "3 Tage", "3 jours", "3 días", "3日", "3 d"]);
    }

    #[test]
    fn a_tag_names_its_language() {
        for (tag, language) in [("de", Language::German), ("fr-CA", Language::French), ("pt-BR", Language::Other)] {
            assert_eq!(Language::of(&tag.parse().unwrap()), language);
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
            assert_eq!(Language::English.duration(TimeDelta::seconds(seconds)), written, "{seconds} s");
        }
    }
}
