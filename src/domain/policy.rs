//! What a password must be like (`[password.policy]`). Pure: history and blocklist are looked up elsewhere.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

mod assessment;
mod strength;

pub use assessment::{Assessment, Personal};

/// The most characters that any policy allows: they are hashed, so there must be an end.
pub const MAX_LENGTH: u32 = 256;

/// The rules for new passwords, but for the blocklist, whose file others know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
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
    /// Whether there is a list of passwords that are refused: the rule `blocklist_file`.
    pub blocklist: bool,
    /// The rules that hold, to be shown beside the field before anything is typed.
    pub rules: Vec<Violation>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_length: 12,
            max_length: MAX_LENGTH,
            require_uppercase: true,
            require_lowercase: true,
            require_digit: true,
            require_special: true,
            min_strength: 2,
            forbid_personal: true,
            history: 3,
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
    /// The policy for clients: every number, and every rule that holds with the sentence that tells it, to be shown beside the
    /// field before anything is typed. `blocklist`: whether there is one.
    pub fn describe(&self, blocklist: bool) -> Described {
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
            (blocklist, "blocklist_file", KNOWN.into()),
        ];
        let rules = rules.into_iter().filter(|(holds, ..)| *holds);
        let rules = rules.map(|(_, rule, message)| Violation { rule, message }).collect();
        Described { policy: *self, blocklist, rules }
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

#[cfg(test)]
mod tests;
