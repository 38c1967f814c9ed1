//! Language tags (BCP 47, RFC 5646) as names of directories.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A language tag in its customary spelling: `fr`, `fr-CA`, `zh-Hant-TW`. Tags that differ by case only
/// are the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locale(String);

impl Locale {
    /// The tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag itself and its less specific forms, by leaving out the last part again and again
    /// (RFC 4647, 3.4 "lookup"): `fr-CA`, `fr`.
    pub(in crate::mail) fn fallbacks(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.0.as_str()), |tag| {
            let (shorter, _) = tag.rsplit_once('-')?;
            // A single letter only announces what follows it (`de-x-formal`).
            match shorter.rsplit_once('-') {
                Some((before, last)) if last.len() == 1 => Some(before),
                _ => Some(shorter),
            }
        })
        .map(|tag| Self(tag.to_owned()))
    }
}

/// It is not a language tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a language tag such as `fr` or `fr-CA` (BCP 47)")]
pub struct NotALocale;

impl FromStr for Locale {
    type Err = NotALocale;

    fn from_str(tag: &str) -> Result<Self, Self::Err> {
        let mut parts = tag.split('-');
        let language = parts.next().unwrap_or_default();
        let is_language = matches!(language.len(), 2..=3) && language.bytes().all(|b| b.is_ascii_alphabetic());
        if !is_language || tag.len() > 35 {
            return Err(NotALocale);
        }
        let mut written = language.to_ascii_lowercase();
        let mut private = false;
        for part in parts {
            if !matches!(part.len(), 1..=8) || !part.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(NotALocale);
            }
            written.push('-');
            let lower = part.to_ascii_lowercase();
            match part.len() {
                2 if !private => written.push_str(&part.to_ascii_uppercase()),
                4 if !private && part.bytes().all(|b| b.is_ascii_alphabetic()) => {
                    written.push_str(&part[..1].to_ascii_uppercase());
                    written.push_str(&lower[1..]);
                }
                length => {
                    private |= length == 1;
                    written.push_str(&lower);
                }
            }
        }
        Ok(Self(written))
    }
}

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for Locale {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_out_in_their_customary_spelling() {
        for (written, tag) in
            [("FR-ca", "fr-CA"), ("zh-hANT-tw", "zh-Hant-TW"), ("es-419", "es-419"), ("de-X-Formal", "de-x-formal")]
        {
            assert_eq!(written.parse::<Locale>().unwrap().as_str(), tag);
        }
        for wrong in ["", "f", "french", "fr_CA", "fr-", "fr--CA", "é", "fr-123456789", "../x"] {
            assert_eq!(wrong.parse::<Locale>(), Err(NotALocale), "{wrong}");
        }
    }

    #[test]
    fn the_fallbacks_end_at_the_language() {
        let all = |tag: &str| {
            let fallbacks: Vec<_> = tag.parse::<Locale>().unwrap().fallbacks().map(|l| l.0).collect();
            fallbacks.join(" ")
        };
        assert_eq!(all("fr"), "fr");
        assert_eq!(all("fr-CA"), "fr-CA fr");
        assert_eq!(all("zh-Hant-TW"), "zh-Hant-TW zh-Hant zh");
        assert_eq!(all("de-x-formal"), "de-x-formal de");
    }
}
