//! `password.change`: somebody who is signed in, or who came in with a temporary password, chooses a new one.
//!
//! A wrong current password is a failed sign-in: it takes the time of an unknown person's and counts towards the lockout.

use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::body::UserName;
use crate::commands::context::Context;
use crate::commands::credentials;
use crate::commands::document::{Doc, Documented, SecretField, exactly_one_of};
use crate::commands::handle::Handle;
use crate::commands::proofs::Which;
use crate::commands::tokens::{self, Presented};
use crate::commands::{Asked, Command, Lane, Reply, Stop};
use crate::domain::access::Audience;
use crate::domain::account::{ChangeRules, ChangedBy};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{Purpose, State};
use crate::keys::KeyRing;
use crate::world::Wants;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = exactly_one_of(&[&["user", "current_password"], &["user?", "change_token"]])))]
#[expect(clippy::struct_field_names, reason = "callers know it by this name")]
pub struct Change {
    /// Whose password. Needed with `current_password`; with `change_token` it may stand there too, and must be the same person.
    user: Option<UserName>,
    /// The password so far, also a temporary one.
    #[schemars(with = "Option<SecretField>")]
    current_password: Option<SecretString>,
    /// Instead of `current_password`: what `session.login` answered a temporary password with. Works once.
    #[schemars(with = "Option<SecretField>")]
    change_token: Option<SecretString>,
    /// The new password.
    #[schemars(with = "SecretField")]
    new_password: SecretString,
    /// The session in which the person does this: it stays, with the new `session_epoch` (ask `session.check`). One that support opened in their name ends all the same.
    session_id: Option<Handle>,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// How many sessions it ended.
    sessions_ended: usize,
}

impl Documented for Change {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "A person replaces their password, knowing the present one or holding a change token.",
        description: "Give either `user` and `current_password`, or `change_token`. A wrong current password counts as a failed \
                      sign-in. Ends the person's other sessions (`sessions.end_on_password_change`), voids all open \
                      tickets, and mails `password_changed`.",
        errors: &[
            Code::InvalidCredentials,
            Code::AccountLocked,
            Code::AmbiguousUser,
            Code::UserBlocked,
            Code::UserInactive,
            Code::TemporaryPasswordExpired,
            Code::TokenInvalid,
            Code::TokenExpired,
            Code::TokenUsed,
            Code::TokenSuperseded,
            Code::TokenRevoked,
            Code::PasswordUnchanged,
            Code::PasswordRejected,
        ],
        events: &["password.changed", "session.revoked", "user.locked"],
        example: r#"{
            "user": {"id": "ada"},
            "current_password": "Correct-Horse-7-Battery",
            "new_password": "Tr0ub4dor-And-Three!",
            "session_id": "019ac2f0-7c1a-7000-8000-000000000001"
        }"#,
        answer: r#"{"sessions_ended": 2}"#,
    };
}

/// How the person proves who they are.
enum Proof<'a> {
    Password(&'a UserName, &'a SecretString),
    Token(&'a SecretString),
}

impl Change {
    fn proof(&self) -> Result<Proof<'_>, Rejection> {
        match (&self.user, &self.current_password, &self.change_token) {
            (Some(user), Some(password), None) => Ok(Proof::Password(user, password)),
            (_, None, Some(token)) => Ok(Proof::Token(token)),
            _ => Err(Rejection::new(
                Code::InvalidBody,
                "give either `user` and `current_password`, or the `change_token` of session.login",
            )),
        }
    }

    /// Whose ticket it is, if it is good and the named person's.
    fn redeemable(&self, cx: &mut Context<'_>, token: &SecretString) -> Result<(String, Uuid), Stop> {
        let id = tokens::opened(token, Purpose::PasswordChange, cx.env.keys)?;
        let owner = cx.world.owner_of_ticket(id).map(|account| account.id().to_owned()).ok_or_else(tokens::invalid)?;
        cx.touch(&owner);
        // Before anything is told of the ticket.
        if self.user.as_ref().is_some_and(|name| !cx.world.find(name).contains(&owner)) {
            return Err(tokens::invalid().into());
        }
        tokens::usable(cx, &Presented::Token(token), Purpose::PasswordChange)
    }

    /// Whose password it is has been shown, by the password so far or by a change token's ticket.
    fn replace(&self, cx: &mut Context<'_>, owner: &str, ticket: Option<Uuid>) -> Result<Reply, Stop> {
        let now = cx.now;
        let account = cx.account(owner)?;
        credentials::may_enter(account)?;
        // A token has a time of its own, which began while the temporary password was good.
        if ticket.is_none() {
            credentials::temporary_still_works(account, now)?;
        }
        let present = account.password_hash.clone();
        let stays = self.session_id.map(Handle::id);
        let stays = stays.filter(|id| account.sessions.iter().any(|s| s.id == *id && !s.is_impersonated()));
        // Both are asked for before either is looked at: the pool works on them side by side.
        let unchanged = present.map(|present| cx.verify(Which::New, &self.new_password, &present));
        let accepted = cx.accept_password(owner, &self.new_password);
        if unchanged.transpose()?.is_some_and(|found| found.matches) {
            return Err(
                Rejection::new(Code::PasswordUnchanged, "This is your password already. Choose another one.").into()
            );
        }
        let hash = accepted?;
        if let Some(ticket) = ticket {
            let ticket = cx.account(owner)?.ticket_mut(ticket).ok_or(Stop::Bug("a usable ticket vanished"))?;
            ticket.close(State::Completed, now);
        }
        let rules = ChangeRules {
            end_sessions: cx.env.config.sessions.end_on_password_change,
            except_session: stays,
            ..ChangeRules::default()
        };
        let change = cx.change_password(owner, hash, ChangedBy::Itself, rules)?;
        Ok(Reply::of(Answer { sessions_ended: change.ended.len() }))
    }
}

impl Command for Change {
    const NAME: &'static str = "password.change";
    const LANE: Lane = Lane::Credentials;
    const AUDIENCE: Audience = Audience::SelfService;
    const SECRETS: &'static [&'static str] = &["current_password", "change_token", "new_password"];

    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        wants.users.extend(self.user.clone());
        if let Some(token) = &self.change_token {
            Presented::Token(token).wants(wants, keys);
        }
        wants.live_sessions = true;
    }

    fn pace(&self, asked: Asked<'_>) -> Duration {
        asked.of_a_sign_in()
    }

    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        match self.proof()? {
            Proof::Password(user, password) => {
                let known = credentials::prove(cx, user, password)?;
                let result = self.replace(cx, &known.id, None);
                credentials::settle(cx, &known, result)
            }
            Proof::Token(token) => {
                let (owner, ticket) = self.redeemable(cx, token)?;
                self.replace(cx, &owner, Some(ticket))
            }
        }
    }
}

#[cfg(test)]
mod tests;
