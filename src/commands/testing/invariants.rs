//! What must hold after every command.

use std::collections::HashMap;

use secrecy::ExposeSecret;
use serde_json::Value;

use super::Bed;
use crate::commands::tokens;
use crate::domain::account::Invitation;
use crate::domain::session::Session;
use crate::domain::ticket::{Purpose, State, Ticket};

impl Bed {
    /// What must hold at every moment.
    pub fn check_invariants(&self) {
        for account in self.world.accounts() {
            let mut open: HashMap<Purpose, usize> = HashMap::new();
            for ticket in account.tickets.iter().filter(|t| t.state == State::Open) {
                *open.entry(ticket.purpose).or_default() += 1;
            }
            assert!(open.values().all(|n| *n == 1), "{}: several open tickets of a purpose", account.id());
            if account.must_change_password() {
                assert!(account.password_hash.is_some(), "{}: nothing to sign in with", account.id());
            }
            for ticket in &account.tickets {
                assert_eq!(ticket.state == State::Open, ticket.closed_at.is_none(), "a closed ticket has a time");
                assert_eq!(ticket.user_id, account.id(), "a ticket in the wrong account");
                self.check_kept_secret(ticket);
            }
            let open = |purpose| account.tickets.iter().any(|t| t.purpose == purpose && t.state == State::Open);
            assert!(
                !account.must_change_password() || !open(Purpose::PasswordReset),
                "an emailed reset beside a temporary password"
            );
            assert!(
                !open(Purpose::Invite) || account.invitation == Invitation::Pending,
                "an open invitation of nobody"
            );
            let (may_sign_in, signed_in) = (account.active && !account.blocked, account.has_live_session(self.now));
            assert!(may_sign_in || !signed_in, "{}: signed in and shut out", account.id());
            for of_support in [false, true] {
                let counts = |s: &&Session| s.is_live(self.now) && s.is_impersonated() == of_support;
                let live = account.sessions.iter().filter(counts).count();
                assert!(live <= self.config.sessions.max_per_user as usize, "{}: too many sessions", account.id());
            }
        }
    }

    /// Tokens and codes are derived when a mail is rendered: they are in no mail's facts, no event and no log.
    fn check_kept_secret(&self, ticket: &Ticket) {
        let token = self.keys.token(&ticket.key_id, tokens::token_use(ticket.purpose), ticket.id).unwrap();
        let code = self.keys.code(&ticket.key_id, ticket.id, self.config.password_reset.code_length).unwrap();
        for secret in [token, code] {
            let secret = secret.expose_secret();
            assert!(self.world.events.iter().all(|event| !event.body.contains(secret)));
            assert!(self.world.emails.iter().all(|mail| !mail.facts.to_string().contains(secret)));
            assert!(!Value::Object(self.details.clone()).to_string().contains(secret));
        }
    }
}
