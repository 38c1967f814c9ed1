//! The emails that exist, and the placeholders that each may use.
//!
//! Templates are files that anyone may change; what they may refer to is fixed here, with a type, an
//! explanation and a sample for each, so that the check, the documentation and the code cannot disagree.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spelling;

use super::placeholder::{self, Placeholder};

/// An email that the daemon can send, named after its directory in `email_templates/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// A link to choose a new password.
    PasswordResetLink,
    /// A code to choose a new password.
    PasswordResetCode,
    /// An invitation to a new account.
    Invite,
    /// A link that proves that the address is the person's own.
    EmailVerificationLink,
    /// A code that proves that the address is the person's own.
    EmailVerificationCode,
    /// A notice that the password was changed.
    PasswordChanged,
    /// A notice that support has made a temporary password. Never holds it.
    TemporaryPasswordIssued,
    /// A notice that the account is locked after wrong passwords.
    AccountLocked,
    /// A notice that all sessions were ended. Off by default.
    SignedOut,
}

impl Template {
    /// Every template, in the order in which lists show them.
    pub const ALL: [Self; 9] = [
        Self::PasswordResetLink,
        Self::PasswordResetCode,
        Self::Invite,
        Self::EmailVerificationLink,
        Self::EmailVerificationCode,
        Self::PasswordChanged,
        Self::TemporaryPasswordIssued,
        Self::AccountLocked,
        Self::SignedOut,
    ];

    /// The name: of the directory, in the history, in events and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PasswordResetLink => "password_reset_link",
            Self::PasswordResetCode => "password_reset_code",
            Self::Invite => "invite",
            Self::EmailVerificationLink => "email_verification_link",
            Self::EmailVerificationCode => "email_verification_code",
            Self::PasswordChanged => "password_changed",
            Self::TemporaryPasswordIssued => "temporary_password_issued",
            Self::AccountLocked => "account_locked",
            Self::SignedOut => "signed_out",
        }
    }

    /// When this email is sent, in one sentence.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::PasswordResetLink => "Sent when a new password was asked for: the link to choose it.",
            Self::PasswordResetCode => "Sent when a new password was asked for by code: the code to type in.",
            Self::Invite => "Sent when someone is invited: the link to choose a password and come in.",
            Self::EmailVerificationLink => "Sent to prove that an email address is right: the link to confirm it.",
            Self::EmailVerificationCode => "Sent to prove that an email address is right: the code to confirm it.",
            Self::PasswordChanged => "Sent after every change of a password, however it came about.",
            Self::TemporaryPasswordIssued => "Sent when support has made a temporary password, which it never holds.",
            Self::AccountLocked => "Sent when too many wrong passwords have locked an account for a while.",
            Self::SignedOut => "Sent when all sessions of a person were ended. Off by default.",
        }
    }

    /// Whether people wait for this email to go on: switching it off locks them out, so that
    /// `regrant check` warns about it.
    #[must_use]
    pub const fn is_awaited(self) -> bool {
        matches!(
            self,
            Self::PasswordResetLink
                | Self::PasswordResetCode
                | Self::Invite
                | Self::EmailVerificationLink
                | Self::EmailVerificationCode
        )
    }

    /// Every placeholder that this template may use: the common ones first.
    pub fn placeholders(self) -> impl Iterator<Item = &'static Placeholder> {
        placeholder::COMMON.iter().chain(self.own().iter().copied())
    }

    /// The placeholder of that dotted name, if this template may use it.
    #[must_use]
    pub fn placeholder(self, name: &str) -> Option<&'static Placeholder> {
        self.placeholders().find(|p| p.name == name)
    }

    /// The names of the placeholders that both bodies must show, whatever else they say.
    #[must_use]
    pub const fn required(self) -> &'static [&'static str] {
        match self {
            Self::PasswordResetLink => &["reset_link"],
            Self::PasswordResetCode => &["reset_code"],
            Self::Invite => &["invite_link", "user.username", "web_url"],
            Self::EmailVerificationLink => &["verification_link"],
            Self::EmailVerificationCode => &["verification_code"],
            Self::PasswordChanged | Self::TemporaryPasswordIssued | Self::AccountLocked | Self::SignedOut => &[],
        }
    }

    /// The placeholder that holds this template's one-time link or code, if it has one.
    #[must_use]
    pub const fn secret(self) -> Option<&'static str> {
        match self {
            Self::PasswordResetLink => Some("reset_link"),
            Self::PasswordResetCode => Some("reset_code"),
            Self::Invite => Some("invite_link"),
            Self::EmailVerificationLink => Some("verification_link"),
            Self::EmailVerificationCode => Some("verification_code"),
            Self::PasswordChanged | Self::TemporaryPasswordIssued | Self::AccountLocked | Self::SignedOut => None,
        }
    }

    /// The placeholders beside the common ones.
    fn own(self) -> &'static [&'static Placeholder] {
        use placeholder::{
            CANCEL_LINK, CHANGED_AT, CHANGED_BY, CHANGED_BY_SUPPORT, EXPIRES_AT, EXPIRES_IN, INVITE_LINK, INVITED_BY,
            LOCKED_UNTIL, REASON, REQUEST_IP, REQUESTED_AT, REQUESTED_BY_SUPPORT, RESET_CODE, RESET_LINK,
            VERIFICATION_CODE, VERIFICATION_LINK,
        };
        match self {
            Self::PasswordResetLink => &[
                &RESET_LINK,
                &CANCEL_LINK,
                &EXPIRES_AT,
                &EXPIRES_IN,
                &REQUESTED_AT,
                &REQUEST_IP,
                &REQUESTED_BY_SUPPORT,
            ],
            Self::PasswordResetCode => &[
                &RESET_CODE,
                &CANCEL_LINK,
                &EXPIRES_AT,
                &EXPIRES_IN,
                &REQUESTED_AT,
                &REQUEST_IP,
                &REQUESTED_BY_SUPPORT,
            ],
            Self::Invite => &[&INVITE_LINK, &EXPIRES_AT, &EXPIRES_IN, &REQUESTED_AT, &INVITED_BY],
            Self::EmailVerificationLink => {
                &[&VERIFICATION_LINK, &EXPIRES_AT, &EXPIRES_IN, &REQUESTED_AT, &REQUEST_IP, &REQUESTED_BY_SUPPORT]
            }
            Self::EmailVerificationCode => {
                &[&VERIFICATION_CODE, &EXPIRES_AT, &EXPIRES_IN, &REQUESTED_AT, &REQUEST_IP, &REQUESTED_BY_SUPPORT]
            }
            Self::PasswordChanged => &[&CHANGED_AT, &CHANGED_BY, &CHANGED_BY_SUPPORT, &REQUEST_IP],
            Self::TemporaryPasswordIssued => &[&CHANGED_AT, &EXPIRES_AT, &EXPIRES_IN],
            Self::AccountLocked => &[&CHANGED_AT, &LOCKED_UNTIL, &REQUEST_IP],
            Self::SignedOut => &[&CHANGED_AT, &CHANGED_BY, &CHANGED_BY_SUPPORT, &REASON],
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// There is no template of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no email template `{0}`; {choice}", choice = spelling::choice(.0, &Template::ALL.map(Template::as_str)))]
pub struct UnknownTemplate(pub String);

impl FromStr for Template {
    type Err = UnknownTemplate;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|t| t.as_str() == name).ok_or_else(|| UnknownTemplate(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for template in Template::ALL {
            assert_eq!(template.as_str().parse(), Ok(template));
            let json = serde_json::to_string(&template).unwrap();
            assert_eq!(json, format!("\"{template}\""));
            assert_eq!(serde_json::from_str::<Template>(&json).unwrap(), template);
        }
        let error = "invites".parse::<Template>().unwrap_err().to_string();
        assert!(error.contains("`invites`") && error.contains("signed_out"), "{error}");
    }

    #[test]
    fn required_and_secret_names_are_declared_and_always_there() {
        for template in Template::ALL {
            for name in template.required().iter().chain(template.secret().as_ref()) {
                let placeholder = template.placeholder(name).expect(name);
                assert!(!placeholder.may_be_absent, "{template}: {name}");
            }
        }
    }

    #[test]
    fn each_placeholder_has_a_slot_of_its_own() {
        let mut names = [None; placeholder::SLOTS];
        for placeholder in Template::ALL.into_iter().flat_map(Template::placeholders) {
            assert_eq!(*names[placeholder.slot].get_or_insert(placeholder.name), placeholder.name);
        }
        assert!(names.iter().all(Option::is_some));
    }

    #[test]
    fn no_name_stands_twice_or_hides_a_helper() {
        for template in Template::ALL {
            let mut names: Vec<_> = template.placeholders().map(|p| p.name).collect();
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "{template}");
            for helper in ["if", "unless", "each", "with", "lookup", "log", "raw", "len", "this"] {
                assert!(!names.contains(&helper));
            }
        }
    }
}
