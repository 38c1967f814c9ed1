//! What a decision is given, and through which it acts.

use chrono::{DateTime, Utc};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::config::Config;
use crate::domain::access::Authority;
use crate::domain::account::Account;
use crate::domain::email_address::email_key;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{Method, Purpose, State, Ticket, timestamp};
use crate::events::{self, Event, Origin};
use crate::ids::Ids;
use crate::keys::KeyRing;
use crate::mail::catalogue::Template;
use crate::mail::context::Facts;
use crate::world::World;
use crate::world::mailing::{Begins, NewEmail, PastEmail, Repeat};
use crate::world::subject_key;

use super::Stop;
use super::body::{Client, UserName};
use super::proofs::Proofs;

mod passwords;

/// What is the same for every command of the daemon until a reload.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The keys.
    pub keys: &'a KeyRing,
    /// Whether a template is switched on for a site and language.
    pub template_enabled: &'a (dyn Fn(Template, &str, Option<&str>) -> bool + Sync),
}

/// A decision's view of its command and of the world.
pub struct Context<'a> {
    /// Configuration, keys, templates.
    pub env: Environment<'a>,
    /// The time.
    pub now: DateTime<Utc>,
    /// When the person asked: the message's timestamp.
    pub requested_at: DateTime<Utc>,
    /// The command's name.
    pub command: &'static str,
    /// The message id.
    pub message_id: Option<&'a str>,
    /// The publisher's name.
    pub publisher: &'a str,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// In whose name it runs.
    pub authority: Authority,
    /// The actor as the body named it, for the record.
    pub actor: Option<String>,
    /// The person's device.
    pub client: &'a Client,
    /// Accounts and outgoing things.
    pub world: &'a mut World,
    /// Password proofs.
    pub proofs: &'a mut Proofs,
    /// Randomness.
    pub rng: &'a mut StdRng,
    /// Identifiers.
    pub ids: &'a mut Ids,
    /// Whom the command touched, for the activity log.
    pub touched: Vec<String>,
    /// An address that no profile has, as a keyed hash.
    pub subject_key: Option<Uuid>,
    /// What the activity log says beside the outcome; no secret.
    pub details: Map<String, Value>,
}

impl Context<'_> {
    /// A new identifier.
    pub fn id(&mut self) -> Uuid {
        self.ids.next(self.now, self.rng)
    }

    /// Uniform random bytes.
    pub fn random(&mut self, bytes: &mut [u8]) {
        self.rng.fill_bytes(bytes);
    }

    /// Whether support or a system asks.
    pub fn is_administrative(&self) -> bool {
        self.authority.is_administrative()
    }

    /// Adds to the activity log's details.
    pub fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.details.insert(name.to_owned(), value.into());
    }

    /// Records that the command touched a person.
    pub fn touch(&mut self, id: &str) {
        if !self.touched.iter().any(|t| t == id) {
            self.touched.push(id.to_owned());
        }
    }

    /// The one profile that a name means, if the authority reaches it.
    ///
    /// # Errors
    /// `user_not_found`, `ambiguous_user`, `forbidden`, `forbidden_target`.
    pub fn target(&mut self, name: &UserName) -> Result<String, Rejection> {
        let found = self.world.find(name);
        match found.as_slice() {
            [] => {
                self.unknown(name);
                Err(Rejection::new(Code::UserNotFound, "no profile has this name"))
            }
            [id] => {
                self.touch(id);
                if let Some(account) = self.world.account(id) {
                    self.authority.may_act_on(account, &self.env.config.roles)?;
                }
                Ok(id.clone())
            }
            several => {
                for id in several {
                    self.touch(id);
                }
                Err(self.ambiguous(several))
            }
        }
    }

    /// Notes an address that no profile has, without keeping the address.
    pub fn unknown(&mut self, name: &UserName) {
        if let UserName::Email(key) = name {
            self.subject_key = Some(subject_key(self.env.keys, key));
        }
    }

    /// The refusal of a name that several profiles share; administrative callers learn which.
    pub fn ambiguous(&self, ids: &[String]) -> Rejection {
        let refusal =
            Rejection::new(Code::AmbiguousUser, "several profiles share this email; name one by id or username");
        if self.is_administrative() { refusal.with("candidates", self.candidates(ids)) } else { refusal }
    }

    /// The profiles behind an ambiguous name, as far as the authority reaches.
    pub fn candidates(&self, ids: &[String]) -> Vec<Value> {
        candidates(ids.iter().filter_map(|id| self.world.account(id)), &self.authority, self.env.config)
    }

    /// An account that is known to be loaded.
    ///
    /// # Errors
    /// [`Stop::Bug`] when it is not.
    pub fn account(&mut self, id: &str) -> Result<&mut Account, Stop> {
        self.world.account_mut(id).ok_or(Stop::Bug("an account was used that was not loaded"))
    }

    /// Queues an event about a person.
    pub fn event(&mut self, user: &str, event: &Event) {
        let id = self.id();
        let origin = Origin {
            actor: self.actor.as_deref(),
            publisher: Some(self.publisher),
            command_id: self.message_id,
            traceparent: self.traceparent,
        };
        let queued = events::cloud_event(event, user, id, self.now, &self.env.config.events.source, &origin);
        self.world.events.push(queued);
    }

    /// When something ends that lives so long from when it was asked for. It may be in the place of something `good`.
    ///
    /// # Errors
    /// `expired` if its end is over and it would make an end of what is good: the command came too late to be of any use.
    pub fn ends_after(&self, lifetime: std::time::Duration, good: bool) -> Result<DateTime<Utc>, Rejection> {
        let end = self.requested_at + lifetime;
        if !good || self.now < end {
            return Ok(end);
        }
        let (asked, ended) = (timestamp(self.requested_at), timestamp(end));
        let why = format!(
            "asked for at {asked}, it would have run out at {ended}: the command came too late; send a new one"
        );
        Err(Rejection::new(Code::Expired, why))
    }

    /// Opens a ticket for a person; older open ones of the purpose are superseded. Lifetimes count from when the person
    /// asked.
    ///
    /// # Errors
    /// [`Stop::Bug`] when the account is not loaded.
    pub fn open_ticket(
        &mut self,
        user: &str,
        purpose: Purpose,
        method: Method,
        lifetime: std::time::Duration,
    ) -> Result<Ticket, Stop> {
        let ticket = Ticket {
            id: self.id(),
            user_id: user.to_owned(),
            purpose,
            method,
            key_id: self.env.keys.token_key_id().to_owned(),
            state: State::Open,
            requester: self.authority.requester(),
            requested_at: self.requested_at,
            created_at: self.now,
            expires_at: self.requested_at + lifetime,
            wrong_tries: 0,
            closed_at: None,
            newer_requested_at: None,
            dirty: true,
        };
        let now = self.now;
        self.account(user)?.open_ticket(ticket.clone(), now);
        Ok(ticket)
    }

    /// Queues a mail to a person.
    ///
    /// # Errors
    /// [`Stop::Bug`] when the account is not loaded.
    pub fn email(
        &mut self,
        user: &str,
        template: Template,
        ticket: Option<&Ticket>,
        facts: &Facts,
    ) -> Result<Uuid, Stop> {
        self.email_as(user, template, ticket, facts, Repeat::default())
    }

    /// Queues a mail to a person that repeats one of the history, perhaps to another address.
    ///
    /// # Errors
    /// [`Stop::Bug`] when the account is not loaded.
    ///
    /// # Panics
    /// Never: facts can be written as JSON.
    pub fn email_as(
        &mut self,
        user: &str,
        template: Template,
        ticket: Option<&Ticket>,
        facts: &Facts,
        repeat: Repeat,
    ) -> Result<Uuid, Stop> {
        let id = self.id();
        let (now, max_age) = (self.now, self.env.config.mail.max_age);
        let enabled = self.env.template_enabled;
        let profile = self.account(user)?.profile.clone();
        // The page that support looks at says nothing of the person.
        let of_the_page =
            self.client.locale.as_ref().filter(|_| !self.is_administrative()).map(|locale| locale.0.clone());
        let locale = profile.locale.or(of_the_page);
        let to = repeat.to.unwrap_or(profile.email);
        let begins = if !enabled(template, &profile.site, locale.as_deref()) {
            Begins::Cancelled
        } else if self.world.is_suppressed(&email_key(&to)) {
            Begins::Suppressed
        } else {
            Begins::Queued
        };
        let email = NewEmail {
            id,
            user_id: user.to_owned(),
            ticket_id: ticket.map(|t| t.id),
            template,
            site: profile.site,
            locale,
            to,
            facts: serde_json::to_value(facts).expect("times, text and flags can be written as JSON"),
            begins,
            queued_at: now,
            give_up_at: ticket.map_or(now + max_age, |t| t.expires_at),
            resend_of: repeat.of,
            command_id: self.message_id.map(str::to_owned),
            traceparent: self.traceparent.map(str::to_owned),
        };
        self.world.emails.push(email);
        Ok(id)
    }

    /// What a mail may say of the request behind it.
    pub fn facts(&self) -> Facts {
        Facts {
            requested_at: Some(self.requested_at),
            request_ip: self.client.ip,
            requested_by_support: self.is_administrative(),
            ..Facts::default()
        }
    }
}

/// Profiles behind an ambiguous name, as far as the authority reaches.
pub fn candidates<'a>(
    accounts: impl Iterator<Item = &'a Account>,
    authority: &Authority,
    config: &Config,
) -> Vec<Value> {
    accounts
        .filter(|a| authority.may_act_on(a, &config.roles).is_ok())
        .map(|a| serde_json::json!({ "id": a.profile.id, "username": a.profile.username, "site": a.profile.site }))
        .collect()
}

/// How what stands for an erased person begins. No profile has such an id.
pub const ERASED: &str = "erased:";

/// What stands for an erased person in histories. Whoever knows the id can still find what was, and nobody else can tell
/// whom it was about.
pub fn erased_key(keys: &KeyRing, user_id: &str) -> String {
    format!("{ERASED}{}", Uuid::from_bytes(keys.fingerprint("erased", &[user_id.as_bytes()])).simple())
}

/// What a mail of the history said beyond the person and site.
///
/// # Errors
/// [`Stop::Bug`] when what is stored cannot be read.
pub fn facts_of(mail: &PastEmail) -> Result<Facts, Stop> {
    mail.facts().map_err(|_| Stop::Bug("the facts of a mail cannot be read"))
}
