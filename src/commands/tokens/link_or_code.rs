//! Bodies by which a person presents a mail's link or code.

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use crate::commands::body::UserName;
use crate::commands::document::{SecretField, exactly_one_of};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::Purpose;
use crate::keys::KeyRing;
use crate::world::Wants;

/// What a person presents of the mail that they received.
#[derive(Debug, Clone)]
pub enum Presented<'a> {
    /// The link's token.
    Token(&'a SecretString),
    /// A name and the digits that were typed.
    Code(&'a UserName, &'a SecretString),
}

impl<'a> Presented<'a> {
    /// From a body's optional fields.
    ///
    /// # Errors
    /// `invalid_body` unless there is either a token, or a user and a code.
    pub fn new(
        token: Option<&'a SecretString>,
        user: Option<&'a UserName>,
        code: Option<&'a SecretString>,
    ) -> Result<Self, Rejection> {
        match (token, user, code) {
            (Some(token), None, None) => Ok(Self::Token(token)),
            (None, Some(user), Some(code)) => Ok(Self::Code(user, code)),
            _ => Err(Rejection::new(Code::InvalidBody, "give either `token`, or `user` and `code`")),
        }
    }

    /// The keys of the limits under which tries at a code count that nobody was sent.
    pub fn limits(&self, purpose: Purpose, keys: &KeyRing) -> Vec<Uuid> {
        match self {
            Self::Token(_) => Vec::new(),
            Self::Code(user, _) => super::guess_limits(keys, purpose, user).to_vec(),
        }
    }

    /// What must be loaded to find the ticket.
    pub fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        match self {
            // A forged token is recognised here, before it costs a look-up.
            Self::Token(token) => wants.tickets.extend(keys.open_token(token.expose_secret()).map(|t| t.ticket)),
            Self::Code(user, _) => {
                wants.users.push((*user).clone());
                wants.newest_tickets = true;
            }
        }
    }
}

/// A body that is nothing else. One with more fields declares these three itself: serde's `flatten` would lose the names of fields
/// in refusals.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = exactly_one_of(&[&["token"], &["user", "code"]])))]
pub struct LinkOrCode {
    /// From the link in the mail. Either this, or `user` and `code`.
    #[schemars(with = "Option<SecretField>")]
    token: Option<SecretString>,
    /// Who types the code.
    user: Option<UserName>,
    /// From the mail.
    #[schemars(with = "Option<SecretField>")]
    code: Option<SecretString>,
}

impl LinkOrCode {
    /// The alternative that was chosen.
    ///
    /// # Errors
    /// As [`Presented::new`].
    pub fn presented(&self) -> Result<Presented<'_>, Rejection> {
        Presented::new(self.token.as_ref(), self.user.as_ref(), self.code.as_ref())
    }

    /// As [`Presented::limits`]; none of a body that is refused.
    pub fn limits(&self, purpose: Purpose, keys: &KeyRing) -> Vec<Uuid> {
        self.presented().map_or_else(|_| Vec::new(), |presented| presented.limits(purpose, keys))
    }

    /// As [`Presented::wants`]; nothing for a body that is refused.
    pub fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        if let Ok(presented) = self.presented() {
            presented.wants(wants, keys);
        }
    }
}
