//! What a password must be like (`[password.policy]`). Pure: history and blocklist are looked up elsewhere.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;
use zxcvbn::zxcvbn;

/// The rules for new passwords.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Policy {
    /// Fewest characters (Unicode scalar values after NFC). Never less than 1.
    pub min_length: u32,
    /// Most characters.
    pub max_length: u32,
    /// An uppercase letter is needed, or a letter of a script without case.
    pub require_uppercase: bool,
    /// A lowercase letter is needed, or a letter of a script without case.
    pub require_lowercase: bool,
    /// A digit of any script is needed.
    pub require_digit: bool,
    /// Something other than letters and digits is needed; a space counts.
    pub require_special: bool,
    /// Least zxcvbn score, 0 to 4.
    #[schemars(range(max = 4))]
    pub min_strength: u8,
    /// Username, the email's local part and the words of the name must not be part of it, from 3 letters on.
    pub forbid_personal: bool,
    /// How many of the last passwords, the current one included, must not come again.
    pub history: u32,
    /// Whether there is a list of passwords that are refused: the rule `blocklist_file`.
    pub blocklist: bool,
}

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

/// A rule for passwords, with a sentence that can be shown to the person as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "PasswordRule")]
pub struct Violation {
    /// The rule's name in the configuration.
    pub rule: &'static str,
    /// What to do.
    pub message: Cow<'static, str>,
}

/// The policy for clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "PasswordPolicy")]
pub struct Described {
    /// Every number.
    #[serde(flatten)]
    pub policy: Policy,
    /// The rules that hold, to be shown beside the field before anything is typed.
    pub rules: Vec<Violation>,
}

/// What there is to say of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// All broken rules, in the order of the configuration. Empty: acceptable.
    pub violations: Vec<Violation>,
    /// zxcvbn score, 0 (guessed at once) to 4.
    pub strength: u8,
}

impl From<&crate::config::Policy> for Policy {
    fn from(config: &crate::config::Policy) -> Self {
        Self {
            min_length: config.min_length,
            max_length: config.max_length,
            require_uppercase: config.require_uppercase,
            require_lowercase: config.require_lowercase,
            require_digit: config.require_digit,
            require_special: config.require_special,
            min_strength: config.min_strength,
            forbid_personal: config.forbid_personal,
            history: config.history,
            blocklist: config.blocklist_file.is_some(),
        }
    }
}

impl Violation {
    /// The password is the current one or one before it; `history` is the setting.
    pub fn history(history: u32) -> Self {
        Self {
            rule: "history",
            message: match history {
                0 | 1 => "Choose a password other than your current one.".into(),
                n => format!("Choose a password that is not one of your last {n}.").into(),
            },
        }
    }

    fn new(rule: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { rule, message: message.into() }
    }
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

    /// The policy for clients: every number, and every rule that holds with the sentence that tells it, to be shown beside the
    /// field before anything is typed.
    pub fn describe(&self) -> Described {
        let history = Violation::history(self.history).message;
        let rules = [
            (true, "min_length", self.min_length_message()),
            (true, "max_length", self.max_length_message()),
            (self.require_uppercase, "require_uppercase", UPPERCASE.into()),
            (self.require_lowercase, "require_lowercase", LOWERCASE.into()),
            (self.require_digit, "require_digit", DIGIT.into()),
            (self.require_special, "require_special", SPECIAL.into()),
            (self.min_strength > 0, "min_strength", HARD_TO_GUESS.into()),
            (self.forbid_personal, "forbid_personal", PERSONAL.into()),
            (self.history > 0, "history", history),
            (self.blocklist, "blocklist_file", KNOWN.into()),
        ];
        let rules = rules.into_iter().filter(|(holds, ..)| *holds);
        Described { policy: self.clone(), rules: rules.map(|(_, rule, message)| Violation { rule, message }).collect() }
    }

    fn min_length_message(&self) -> Cow<'static, str> {
        match self.min_length {
            0 | 1 => "Enter a password.".into(),
            n => format!("Use at least {n} characters.").into(),
        }
    }

    fn max_length_message(&self) -> Cow<'static, str> {
        format!("Use at most {} characters.", self.max_length).into()
    }
}

const CHARACTERS: &str = "Use only characters that can be typed: no tabs, line breaks or other control characters.";
const UPPERCASE: &str = "Add an uppercase letter.";
const LOWERCASE: &str = "Add a lowercase letter.";
const DIGIT: &str = "Add a digit.";
const SPECIAL: &str = "Add a special character, such as a hyphen, a space or an exclamation mark.";
const HARD_TO_GUESS: &str = "Choose something that is hard to guess.";
const PERSONAL: &str = "Leave out your name, your username and your email address.";
const KNOWN: &str = "Choose a password that is not widely known.";
const BLOCKLIST: &str = "This password is widely known. Choose another one.";

/// Characters that are scored at once.
const WINDOW: usize = 32;
/// Windows that are scored at most.
const WINDOWS: usize = 3;

/// The password as it is hashed.
fn normalised(password: &str) -> Zeroizing<String> {
    // Room for all of it at once: growing would leave copies behind that nobody wipes.
    let mut text = Zeroizing::new(String::with_capacity(password.len() * 3));
    text.extend(password.nfc());
    text
}

fn length(normalised: &str) -> u32 {
    u32::try_from(normalised.chars().count()).unwrap_or(u32::MAX)
}

/// A letter that has no upper and lower form. Marks that belong to a letter (vowel signs, accents) count as one too.
fn is_caseless(c: char) -> bool {
    c.is_alphabetic() && !c.is_uppercase() && !c.is_lowercase()
}

fn is_special(c: char) -> bool {
    !c.is_alphanumeric() && !c.is_control()
}

/// The zxcvbn score, and what to do about it.
///
/// The time that zxcvbn takes grows with more than the square of the length: a random password of 100 characters costs it half
/// a second, a hostile one more than a second. So no more than [`WINDOW`] characters are given to it at once, and nothing more
/// once a part has the highest score: a password is at least as hard to guess as its strongest part. Of a longer one that is
/// weak all along, the first [`WINDOWS`] windows count.
fn strength(password: &str, personal: &Personal<'_>, site_name: &str) -> (u8, Cow<'static, str>) {
    let words = guessable_words(personal, site_name);
    let found = estimate(password, &words.iter().map(String::as_str).collect::<Vec<_>>());
    let advice = found.feedback().map(|feedback| {
        let warning = feedback.warning().map(|warning| warning.to_string());
        let suggestion = feedback.suggestions().first().map(ToString::to_string);
        [warning, suggestion].into_iter().flatten().collect::<Vec<_>>().join(" ")
    });
    let advice = match advice.filter(|advice| !advice.is_empty()) {
        Some(advice) => format!("Choose something that is harder to guess. {advice}").into(),
        None => "Choose something that is harder to guess: a few uncommon words, for example.".into(),
    };
    (u8::from(found.score()), advice)
}

fn estimate(password: &str, words: &[&str]) -> zxcvbn::Entropy {
    // Most passwords that are costly to score are random, and show it early.
    let (beginning, rest) = split(password, WINDOW / 2);
    let quick = zxcvbn(beginning, words);
    if rest.is_empty() || quick.score() == zxcvbn::Score::Four {
        return quick;
    }
    let (window, mut rest) = split(password, WINDOW);
    let mut best = zxcvbn(window, words);
    for _ in 1..WINDOWS {
        if rest.is_empty() || best.score() == zxcvbn::Score::Four {
            break;
        }
        let (window, after) = split(rest, WINDOW);
        let found = zxcvbn(window, words);
        if found.score() > best.score() {
            best = found;
        }
        rest = after;
    }
    best
}

/// The first `characters` characters, and what follows.
fn split(text: &str, characters: usize) -> (&str, &str) {
    text.split_at(text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at))
}

/// Words that an attacker who knows the person and the site would try first.
fn guessable_words(personal: &Personal<'_>, site_name: &str) -> Vec<String> {
    let whole = [personal.username, personal.email, personal.display_name, site_name];
    let parts = whole.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    let words = whole.iter().copied().chain(parts).filter(|word| (3..=128).contains(&word.len()));
    // Each word costs time, and a hostile profile could have hundreds.
    words.take(32).map(|word| word.nfc().collect::<String>().to_lowercase()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADA: Personal<'static> =
        Personal { username: "ada_l", email: "countess@example.com", display_name: "Ada King-Noel Lovelace" };

    fn policy() -> Policy {
        Policy {
            min_length: 12,
            max_length: 256,
            require_uppercase: true,
            require_lowercase: true,
            require_digit: true,
            require_special: true,
            min_strength: 2,
            forbid_personal: true,
            history: 3,
            blocklist: false,
        }
    }

    fn lenient() -> Policy {
        Policy {
            min_length: 1,
            require_uppercase: false,
            require_lowercase: false,
            require_digit: false,
            require_special: false,
            min_strength: 0,
            forbid_personal: false,
            ..policy()
        }
    }

    fn broken(policy: &Policy, password: &str) -> Vec<&'static str> {
        policy.violations(password, &ADA, "Example", false).iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn good_passwords_are_accepted() {
        for password in [
            "Correct-Horse-7-Battery",
            "Tr0ub4dor-And-Three!",
            "Grüne Äpfel rollen 3 mal",
            "私の猫は毎朝5時に鳴く、困る",
            "πράσινο Μήλο 42!",
        ] {
            assert_eq!(broken(&policy(), password), [""; 0], "{password}");
        }
    }

    #[test]
    fn all_broken_rules_are_listed_in_order() {
        assert_eq!(
            broken(&policy(), "short"),
            ["min_length", "require_uppercase", "require_digit", "require_special", "min_strength"]
        );
        assert_eq!(
            broken(&policy(), ""),
            [
                "min_length",
                "require_uppercase",
                "require_lowercase",
                "require_digit",
                "require_special",
                "min_strength"
            ]
        );
        let all = policy().violations("ada_l\t", &ADA, "Example", true);
        let rules: Vec<_> = all.iter().map(|violation| violation.rule).collect();
        assert_eq!(
            rules,
            [
                "min_length",
                "characters",
                "require_uppercase",
                "require_digit",
                "min_strength",
                "forbid_personal",
                "blocklist_file"
            ]
            .into_iter()
            .collect::<Vec<_>>()
        );
    }

    #[test]
    fn messages_can_be_shown_as_they_stand() {
        let messages: Vec<_> =
            policy().violations("password", &ADA, "Example", true).into_iter().map(|v| v.message).collect();
        assert_eq!(
            messages,
            [
                "Use at least 12 characters.",
                "Add an uppercase letter.",
                "Add a digit.",
                "Add a special character, such as a hyphen, a space or an exclamation mark.",
                "Choose something that is harder to guess. This is a top-10 common password. Add another word or two. Uncommon words are better.",
                "This password is widely known. Choose another one.",
            ]
        );
        assert_eq!(Violation::history(3).message, "Choose a password that is not one of your last 3.");
        assert_eq!(Violation::history(1).message, "Choose a password other than your current one.");
        assert_eq!(serde_json::to_value(Violation::history(1)).unwrap()["rule"], "history");
    }

    #[test]
    fn characters_are_counted_as_they_are_read() {
        let lenient = Policy { min_length: 4, max_length: 5, ..lenient() };
        assert_eq!(broken(&lenient, "äöü"), ["min_length"]);
        assert_eq!(broken(&lenient, "a\u{308}o\u{308}u\u{308}"), ["min_length"], "decomposed, they are still three");
        assert_eq!(broken(&lenient, "äöüßé"), [""; 0]);
        assert_eq!(broken(&lenient, "äöüßéx"), ["max_length"]);
        assert_eq!(broken(&Policy { min_length: 0, ..lenient }, ""), ["min_length"], "no password is none");
    }

    #[test]
    fn letters_and_digits_are_those_of_every_script() {
        let only = |rule: &str| Policy {
            require_uppercase: rule == "upper",
            require_lowercase: rule == "lower",
            require_digit: rule == "digit",
            require_special: rule == "special",
            ..lenient()
        };
        for (rule, good, bad) in [
            ("upper", ["Äpfel", "Жук", "猫", "שלום", "हिन्दी"], ["äpfel", "жук", "12-3", "😀", " "]),
            ("lower", ["ÄPFELs", "ЖУк", "猫", "สวัสดี", "ß"], ["ÄPFEL", "ЖУК", "12-3", "😀", " "]),
            ("digit", ["a1", "٣", "３", "九9", "²"], ["a", "九", "-", "😀", "Ä"]),
            ("special", ["a b", "a-b", "😀", "、", "€"], ["ab1", "猫", "Äß", "٣", "\u{7}a"]),
        ] {
            for password in good {
                assert!(!broken(&only(rule), password).iter().any(|r| r.contains(rule)), "{rule} {password}");
            }
            for password in bad {
                assert!(broken(&only(rule), password).iter().any(|r| r.contains(rule)), "{rule} {password}");
            }
        }
    }

    #[test]
    fn control_characters_are_refused() {
        for password in ["a\0b", "a\nb", "a\u{1b}b", "a\u{7f}b", "a\u{85}b"] {
            assert_eq!(broken(&lenient(), password), ["characters"], "{password:?}");
        }
        assert_eq!(broken(&lenient(), "👩\u{200d}💻 می\u{200c}خواهم"), [""; 0], "joiners belong to writing");
    }

    #[test]
    fn personal_words_are_found_in_any_case() {
        let policy = Policy { forbid_personal: true, ..lenient() };
        for password in ["x-ADA_L-1", "TheCountess!", "lovelace", "king-noel7", "adamant"] {
            assert_eq!(broken(&policy, password), ["forbid_personal"], "{password}");
        }
        for password in ["King of Noel", "example.com", "Correct-Horse-7-Battery"] {
            assert_eq!(broken(&policy, password), [""; 0], "{password}");
        }
        let tanaka = Personal { username: "a", email: "", display_name: "田中 花子" };
        assert_eq!(policy.violations("猫と田中と", &tanaka, "", false).len(), 1);
        let short = |username| Personal { username, ..Personal::default() };
        for (username, found) in [("Eve", 1), ("Al", 0), ("Жук", 1), ("Юл", 0), ("花", 0)] {
            assert_eq!(
                policy.violations("seven also жуки юла 花見", &short(username), "", false).len(),
                found,
                "{username}"
            );
        }
        assert_eq!(policy.violations("abc", &Personal::default(), "", false), []);
        assert_eq!(
            policy.violations("GRU\u{308}NWALD1", &Personal { display_name: "Jo Grünwald", ..tanaka }, "", false).len(),
            1
        );
    }

    #[test]
    fn what_is_known_of_the_person_and_the_site_is_easy_to_guess() {
        let policy = policy();
        let stranger = policy.assess("Zyxomatic Frobnitz", &Personal::default(), "Example", false);
        let known = Personal { username: "frobnitz", ..Personal::default() };
        let own = policy.assess("Zyxomatic Frobnitz", &known, "Zyxomatic", false);
        assert!(own.strength < stranger.strength, "{} {}", own.strength, stranger.strength);
    }

    #[test]
    fn the_description_names_what_holds() {
        let described = Policy { require_digit: false, ..policy() }.describe();
        let rules: Vec<_> = described.rules.iter().map(|rule| rule.rule).collect();
        assert_eq!(
            rules,
            [
                "min_length",
                "max_length",
                "require_uppercase",
                "require_lowercase",
                "require_special",
                "min_strength",
                "forbid_personal",
                "history"
            ]
        );
        assert_eq!(described.rules[0].message, "Use at least 12 characters.");
        let with_list = Policy { blocklist: true, ..policy() }.describe();
        assert_eq!(with_list.rules.last().map(|rule| rule.rule), Some("blocklist_file"));
        let shown = serde_json::to_value(&described).unwrap();
        assert_eq!((&shown["min_length"], &shown["require_digit"]), (&12.into(), &false.into()));
    }

    #[test]
    fn long_passwords_count_by_their_strongest_part() {
        let strength = |password: &str| lenient().assess(password, &Personal::default(), "Example", false).strength;
        assert_eq!(strength(&"a".repeat(256)), 0);
        assert_eq!(strength(&format!("{}kX9#mQ2vL7@pR4!zt", "a".repeat(64))), 4, "in the last window that counts");
        assert_eq!(strength(&format!("{}kX9#mQ2vL7@pR4!zt", "a".repeat(96))), 0, "behind it");
        assert_eq!(strength(&"猫".repeat(256)), strength(&"猫".repeat(96)), "characters are counted, not bytes");
        // zxcvbn alone takes more than a second for this one.
        assert_eq!(strength(&"4@8({[<369&#!1/|0$5+7%2".repeat(6)), 4);
        assert_eq!(strength(""), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_panics_and_form_does_not_matter(password in "\\PC{0,40}", any: String, name in "\\PC{0,20}") {
            let personal = Personal { username: &name, email: &any, display_name: &name };
            for password in [&password, &any] {
                let nfd: String = password.nfd().collect();
                let nfc: String = password.nfc().collect();
                prop_assert_eq!(policy().assess(&nfd, &personal, &name, false), policy().assess(&nfc, &personal, &name, false));
            }
        }
    }
}
