//! Why a command was refused: the error codes that callers see.

use serde::Serialize;
use serde_json::{Map, Value};

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal,)*) => {
        /// An error code, as callers see it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        pub enum Code { $($(#[doc = $doc])* #[serde(rename = $name)] $variant,)* }

        impl Code {
            /// Every code, in the order of the reference.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The code as callers see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// The code of this name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == name)
            }

            /// What it means, for the reference.
            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$variant => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

codes! {
    /// The message's envelope breaks a rule: size, properties, time.
    InvalidMessage => "invalid_message",
    /// No command has this routing key.
    UnknownCommand => "unknown_command",
    /// The body is not the JSON object that the command takes.
    InvalidBody => "invalid_body",
    /// The publisher used this message id for something else.
    MessageIdReused => "message_id_reused",
    /// The publisher may not send this command.
    PublisherNotAllowed => "publisher_not_allowed",
    /// An administrative command without a person who acts.
    ActorRequired => "actor_required",
    /// The actor's roles do not cover the command or the target's site.
    Forbidden => "forbidden",
    /// The target may do more than the actor.
    ForbiddenTarget => "forbidden_target",
    /// No profile has this name.
    UserNotFound => "user_not_found",
    /// Several profiles have this email.
    AmbiguousUser => "ambiguous_user",
    /// The person is blocked.
    UserBlocked => "user_blocked",
    /// The person is deactivated.
    UserInactive => "user_inactive",
    /// Another profile has this username.
    UserExists => "user_exists",
    /// Not a token that this daemon made.
    TokenInvalid => "token_invalid",
    /// The token's time is over.
    TokenExpired => "token_expired",
    /// The token was used.
    TokenUsed => "token_used",
    /// A newer request replaced it.
    TokenSuperseded => "token_superseded",
    /// It was withdrawn.
    TokenRevoked => "token_revoked",
    /// The code is wrong.
    CodeInvalid => "code_invalid",
    /// The code died of wrong tries.
    TooManyAttempts => "too_many_attempts",
    /// The last request is past its expiry.
    RequestExpired => "request_expired",
    /// The last request was completed.
    RequestCompleted => "request_completed",
    /// There was no request.
    NoRequest => "no_request",
    /// There was no invitation.
    NoInvite => "no_invite",
    /// The invitation was accepted already.
    AlreadyAccepted => "already_accepted",
    /// The password breaks the policy.
    PasswordRejected => "password_rejected",
    /// The new password is the old one.
    PasswordUnchanged => "password_unchanged",
    /// Unknown person or wrong password.
    InvalidCredentials => "invalid_credentials",
    /// Too many wrong passwords.
    AccountLocked => "account_locked",
    /// A temporary password must be changed first.
    PasswordChangeRequired => "password_change_required",
    /// The temporary password's time is over.
    TemporaryPasswordExpired => "temporary_password_expired",
    /// Setting passwords by hand is switched off.
    ManualEntryDisabled => "manual_entry_disabled",
    /// No such email in the history.
    EmailNotFound => "email_not_found",
    /// Forwarding copies is switched off or not permitted.
    ForwardNotAllowed => "forward_not_allowed",
    /// The address bounced or complained.
    AddressSuppressed => "address_suppressed",
    /// No such session.
    SessionNotFound => "session_not_found",
    /// Plain secrets are refused.
    SealedRequired => "sealed_required",
    /// The sealed secret cannot be opened.
    SealedInvalid => "sealed_invalid",
    /// It came too late: the caller stopped waiting, or what was asked for would be over.
    Expired => "expired",
    /// Something failed that should not.
    Internal => "internal",
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it was asked.
    Done,
    /// It was refused.
    Refused(Code),
}

impl Outcome {
    /// `ok` or the error's code: in the activity log, in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Refused(code) => code.as_str(),
        }
    }

    /// The error's code, if it was refused.
    pub const fn refused(self) -> Option<Code> {
        match self {
            Self::Done => None,
            Self::Refused(code) => Some(code),
        }
    }
}

/// A refusal: a code for programs, a sentence for people, details for both.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// The code.
    pub code: Code,
    /// A sentence that may be shown.
    pub message: String,
    /// More, by name; holds no secret.
    pub details: Map<String, Value>,
}

impl Rejection {
    /// A refusal without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Map::new() }
    }

    /// The same with one more detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}
