//! What a caller does about an error.

use crate::domain::rejection::Code;

/// The way out.
pub const fn advice(code: Code) -> &'static str {
    match code {
        Code::InvalidMessage => {
            "Fix the publisher: the message says which property is wrong. The command is a dead letter."
        }
        Code::UnknownCommand => {
            "Fix the routing key: the message names the nearest right one. The command is a dead letter."
        }
        Code::InvalidBody => "Fix the body: the message names the field. What cannot be read at all is a dead letter.",
        Code::MessageIdReused => "Make a new `message_id` for every new command.",
        Code::PublisherNotAllowed => {
            "Let the operator extend `[publishers.<name>]`, or connect as the right broker user."
        }
        Code::ActorRequired => {
            "Name the person of support in `actor`, or let the operator make the publisher a `system`."
        }
        Code::Forbidden => "Tell the person of support that their role does not cover this.",
        Code::ForbiddenTarget => "Somebody with more rights must do it.",
        Code::UserNotFound => "Check the name; put the profile first if it is new.",
        Code::AmbiguousUser => "Ask again with `id` or `username`.",
        Code::UserBlocked => "`user.unblock`, if that is right.",
        Code::UserInactive => "`user.activate`, if that is right.",
        Code::UserExists => "Choose another username, or find out whose it is with `user.get`.",
        Code::TokenInvalid => "The link was cut or belongs to another purpose: offer to ask for a new one.",
        Code::TokenExpired => "Offer to ask for a new one.",
        Code::TokenUsed => "The person may have clicked twice: offer to sign in, and to ask for a new one.",
        Code::TokenSuperseded => "Point at the newest mail, with the time in `newer_requested_at`.",
        Code::TokenRevoked => {
            "It was withdrawn, by support, by \"it was not me\", or by a changed password or address: offer to ask for a new one."
        }
        Code::CodeInvalid => "Let the person try again, and show how many tries are left.",
        Code::TooManyAttempts => "Offer to ask for a new code.",
        Code::RequestExpired => "Make a new request.",
        Code::RequestCompleted => "There is nothing to do: what was asked for is done.",
        Code::NoRequest => "Make a request first.",
        Code::NoInvite => "Send an invitation first.",
        Code::AlreadyAccepted => "The person has an account: a password reset helps them.",
        Code::PasswordRejected => "Show the sentences in `violations` beside the field, as they are.",
        Code::PasswordUnchanged => "Ask for another password than the present one.",
        Code::InvalidCredentials => "Say that the name or the password is not right; never which.",
        Code::AccountLocked => "Show until when, and offer a reset: it ends the lockout.",
        Code::PasswordChangeRequired => {
            "After a sign-in: ask for a new password, then `password.change` with the `change_token`. To support: a temporary password is pending, so issue a new one instead of a reset."
        }
        Code::TemporaryPasswordExpired => "Support issues a new one.",
        Code::ManualEntryDisabled => "Send a reset or an invitation instead.",
        Code::EmailNotFound => "Take the id from `history.emails`.",
        Code::ForwardNotAllowed => {
            "Leave `to` out, or let the operator set `mail.allow_forward` and give the role `email.forward`."
        }
        Code::AddressSuppressed => "Correct the address, or `email.unsuppress` when it works again.",
        Code::SessionNotFound => "Treat the person as signed out.",
        Code::SealedRequired => "Seal the secret to the key that `daemon.info` tells.",
        Code::SealedInvalid => "Ask `daemon.info` for the key again: it may have been rotated.",
        Code::Expired => {
            "You said that you would not wait so long (`expiration`), or the command came so late that what it asks for would have run out by now, or a newer temporary password is there. Nothing was done: send a new command if it is still wanted."
        }
        Code::Internal => "It was tried for a quarter of an hour and is a dead letter now: tell the operator.",
    }
}

/// What `details` may hold, and what that is.
pub const fn details(code: Code) -> &'static [(&'static str, &'static str)] {
    match code {
        Code::AmbiguousUser => &[
            (
                "candidates",
                "`id`, `username`, `site` of each; to administrative callers, and to whoever has the password",
            ),
            ("index", "which of several names"),
        ],
        Code::UserExists => &[("field", "`username`")],
        Code::TokenExpired => &[("expired_at", "when")],
        Code::TokenSuperseded => &[("newer_requested_at", "when the newer one was asked for")],
        Code::CodeInvalid => &[("attempts_left", "tries before the code dies; counted also where nobody was sent one")],
        Code::PasswordRejected => &[("violations", "`rule` and `message` of each broken rule")],
        Code::AccountLocked => &[("locked_until", "until when")],
        Code::PasswordChangeRequired => {
            &[("change_token", "for `password.change`; told once"), ("expires_at", "when the token stops working")]
        }
        Code::Forbidden | Code::ForbiddenTarget => &[("index", "which of several names")],
        _ => &[],
    }
}

/// An example of `details`.
pub fn example_details(code: Code) -> serde_json::Value {
    use serde_json::json;
    match code {
        Code::AmbiguousUser => json!({ "candidates": [
            { "id": "ada", "username": "ada", "site": "default" },
            { "id": "ada-2", "username": "ada.work", "site": "work" },
        ] }),
        Code::UserExists => json!({ "field": "username" }),
        Code::TokenExpired => json!({ "expired_at": "2026-11-22T14:02:00.000Z" }),
        Code::TokenSuperseded => json!({ "newer_requested_at": "2026-11-22T14:02:00.000Z" }),
        Code::CodeInvalid => json!({ "attempts_left": 4 }),
        Code::PasswordRejected => {
            json!({ "violations": [{ "rule": "min_length", "message": "Use at least 12 characters." }] })
        }
        Code::AccountLocked => json!({ "locked_until": "2026-11-22T14:17:00.000Z" }),
        _ => json!({}),
    }
}
