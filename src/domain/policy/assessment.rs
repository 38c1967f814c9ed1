//! Which rules a password breaks.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::strength::strength;
use super::{BLOCKLIST, CHARACTERS, DIGIT, LOWERCASE, PERSONAL, Policy, SPECIAL, UPPERCASE, Violation};

/// Whose password it is. Empty where unknown.
#[derive(Clone, Copy, Default)]
pub struct Personal<'a> {
    /// The username.
    pub username: &'a str,
    /// The email address.
    pub email: &'a str,
    /// The name.
    pub display_name: &'a str,
}

/// What there is to say of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// All broken rules, in the order of the configuration. Empty: acceptable.
    pub violations: Vec<Violation>,
    /// zxcvbn score, 0 (guessed at once) to 4.
    pub strength: u8,
}

impl Policy {
    /// All rules that `password` breaks, but for `history`. `blocklisted`: whether it is on the list, looked up by the caller.
    pub fn violations(
        &self,
        password: &str,
        personal: &Personal<'_>,
        site_name: &str,
        blocklisted: bool,
    ) -> Vec<Violation> {
        self.assess(password, personal, site_name, blocklisted).violations
    }

    /// The broken rules and the strength, which costs a millisecond or so.
    ///
    /// Scripts without case (Japanese, Arabic, Hindi …) have neither upper- nor lowercase letters, so a letter of theirs
    /// meets both rules: a person is never asked to mix in a script that is not theirs. Such passwords draw from a larger
    /// alphabet; how guessable they are is for `min_length`, `min_strength` and the blocklist to say.
    pub fn assess(&self, password: &str, personal: &Personal<'_>, site_name: &str, blocklisted: bool) -> Assessment {
        let password = normalised(password);
        let length = length(&password);
        let has = |wanted: fn(char) -> bool| password.chars().any(wanted);
        let mut violations = Vec::new();
        let mut check = |broken: bool, rule, message: Cow<'static, str>| {
            if broken {
                violations.push(Violation::new(rule, message));
            }
        };
        check(length < self.min_length.max(1), "min_length", self.min_length_message());
        check(length > self.max_length, "max_length", self.max_length_message());
        check(has(char::is_control), "characters", CHARACTERS.into());
        check(
            self.require_uppercase && !has(|c| c.is_uppercase() || is_caseless(c)),
            "require_uppercase",
            UPPERCASE.into(),
        );
        check(
            self.require_lowercase && !has(|c| c.is_lowercase() || is_caseless(c)),
            "require_lowercase",
            LOWERCASE.into(),
        );
        check(self.require_digit && !has(char::is_numeric), "require_digit", DIGIT.into());
        check(self.require_special && !has(is_special), "require_special", SPECIAL.into());
        let (strength, advice) = strength(&password, personal, site_name);
        check(strength < self.min_strength, "min_strength", advice);
        check(self.forbid_personal && is_personal(&password, personal), "forbid_personal", PERSONAL.into());
        check(blocklisted, "blocklist_file", BLOCKLIST.into());
        Assessment { violations, strength }
    }

    /// Whether it breaks `max_length`, which costs nothing to know.
    pub fn is_too_long(&self, password: &str) -> bool {
        length(&normalised(password)) > self.max_length
    }
}

fn length(normalised: &str) -> u32 {
    u32::try_from(normalised.chars().count()).unwrap_or(u32::MAX)
}

/// The password as it is hashed.
fn normalised(password: &str) -> Zeroizing<String> {
    // Room for all of it at once: growing would leave copies behind that nobody wipes.
    let mut text = Zeroizing::new(String::with_capacity(password.len() * 3));
    text.extend(password.nfc());
    text
}

/// A letter that has no upper and lower form. Marks that belong to a letter (vowel signs, accents) count as one too.
fn is_caseless(c: char) -> bool {
    c.is_alphabetic() && !c.is_uppercase() && !c.is_lowercase()
}

fn is_special(c: char) -> bool {
    !c.is_alphanumeric() && !c.is_control()
}

/// Whether the username, the local part of the email address or a word of the name stands in the password.
///
/// Words of fewer than 3 characters do not count (2 in scripts without case, where a family name has no more): "Al" is part of
/// too much.
fn is_personal(password: &str, personal: &Personal<'_>) -> bool {
    let fold = |text: &str| Zeroizing::new(text.nfc().collect::<String>().to_lowercase());
    let password = fold(password);
    let local_part = personal.email.rsplit_once('@').map_or(personal.email, |(local, _)| local);
    let name = personal.display_name.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '-');
    [personal.username, local_part].into_iter().chain(name).any(|word| {
        let word = fold(word.trim());
        let least = if word.chars().any(is_caseless) { 2 } else { 3 };
        word.chars().count() >= least && password.contains(word.as_str())
    })
}
