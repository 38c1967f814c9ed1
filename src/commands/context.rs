//! What a decision is given, and through which it acts.

use chrono::{DateTime, Utc};
use rand::Rng;
use rand::rngs::StdRng;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::config::Config;
use crate::domain::access::Authority;
use crate::domain::account::{Account, ChangeRules, ChangedBy, PasswordChange};
use crate::domain::policy::{Personal, Policy, Violation};
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{Method, Purpose, State, Ticket};
use crate::events::{self, Event, Origin};
use crate::ids::Ids;
use crate::keys::KeyRing;
use crate::mail::catalogue::Template;
use crate::mail::context::{Author, Facts};

use super::Stop;
use super::body::{Client, UserName};
use super::mailing::{Begins, NewEmail};
use super::proofs::{Job, Proofs, Verified, Which};
use super::world::World;

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
            several => Err(self.ambiguous(several)),
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
        let id = self.id();
        let (now, max_age) = (self.now, self.env.config.mail.max_age);
        let enabled = self.env.template_enabled;
        let account = self.account(user)?;
        let locale = account.profile.locale.clone();
        let begins = if !enabled(template, &account.profile.site, locale.as_deref()) {
            Begins::Cancelled
        } else if account.suppressed {
            Begins::Suppressed
        } else {
            Begins::Queued
        };
        let email = NewEmail {
            id,
            user_id: user.to_owned(),
            ticket_id: ticket.map(|t| t.id),
            template,
            site: account.profile.site.clone(),
            locale,
            to: account.profile.email.clone(),
            facts: plain(facts),
            begins,
            queued_at: now,
            give_up_at: ticket.map_or(now + max_age, |t| t.expires_at),
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

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        Policy::from(&self.env.config.password.policy)
    }

    /// Whether a password belongs to a stored hash.
    ///
    /// # Errors
    /// [`Stop::Unproven`] until the pool has worked it out.
    pub fn verify(&mut self, which: Which, password: &SecretString, stored: &str) -> Result<Verified, Stop> {
        if let Some(found) = self.proofs.verified.get(&(which, stored.to_owned())) {
            return Ok(*found);
        }
        self.proofs.missing.push(Job::Verify(which, password.clone(), stored.to_owned()));
        Err(Stop::Unproven)
    }

    /// The same work as a verification, with nothing to verify against.
    ///
    /// # Errors
    /// [`Stop::Unproven`] until it was done.
    pub fn pretend(&mut self, password: &SecretString) -> Result<(), Stop> {
        if self.proofs.pretended {
            return Ok(());
        }
        self.proofs.missing.push(Job::Pretend(password.clone()));
        Err(Stop::Unproven)
    }

    /// A password's hash.
    ///
    /// # Errors
    /// [`Stop::Unproven`] until it is there.
    pub fn hash(&mut self, which: Which, password: &SecretString) -> Result<String, Stop> {
        if let Some(hash) = self.proofs.hashed.get(&which) {
            return Ok(hash.clone());
        }
        self.proofs.missing.push(Job::Hash(which, password.clone()));
        Err(Stop::Unproven)
    }

    /// The hash of a new password that keeps the policy, or every rule that it breaks.
    ///
    /// # Errors
    /// `password_rejected` with `details.violations`; [`Stop::Unproven`] until reuse is checked and the hash is there.
    pub fn accept_password(&mut self, user: &str, password: &SecretString) -> Result<String, Stop> {
        use secrecy::ExposeSecret;
        let policy = self.policy();
        let account = self.account(user)?;
        let profile = account.profile.clone();
        let remembered = account.remembered_hashes(policy.history);
        let personal = Personal {
            username: &profile.username,
            email: &profile.email,
            display_name: profile.display_name.as_deref().unwrap_or_default(),
        };
        let site_name = self.env.config.sites.get(&profile.site).map_or(profile.site.as_str(), |s| s.name.as_str());
        let blocklisted = match (&self.env.config.password.policy.blocklist_file, self.proofs.blocklisted) {
            (None, _) => false,
            (Some(_), Some(found)) => found,
            (Some(_), None) => {
                self.proofs.missing.push(Job::Blocklist(password.clone()));
                return Err(Stop::Unproven);
            }
        };
        let judged = self
            .proofs
            .judged
            .entry(user.to_owned())
            .or_insert_with(|| policy.violations(password.expose_secret(), &personal, site_name, blocklisted));
        let mut violations = judged.clone();
        // Ask for everything at once: the pool works on all of it side by side. Every broken rule is told, so reuse is
        // looked for also when another rule is broken; only what is too long is not worth the work.
        let too_long = violations.iter().any(|v| v.rule == "max_length");
        let reused: Vec<Result<Verified, Stop>> =
            remembered.iter().filter(|_| !too_long).map(|stored| self.verify(Which::New, password, stored)).collect();
        let hash = if violations.is_empty() { Some(self.hash(Which::New, password)) } else { None };
        let mut used_before = false;
        for found in reused {
            used_before |= found?.matches;
        }
        if used_before {
            violations.push(Violation::history(policy.history));
        }
        match hash {
            Some(hash) if !used_before => hash,
            _ => Err(rejected(&violations).into()),
        }
    }

    /// Writes a new password and everything that follows from it: events, mail, ended sessions.
    ///
    /// # Errors
    /// [`Stop::Bug`] when the account is not loaded.
    pub fn change_password(
        &mut self,
        user: &str,
        hash: String,
        by: ChangedBy,
        mut rules: ChangeRules,
    ) -> Result<PasswordChange, Stop> {
        rules.history = self.policy().history;
        let now = self.now;
        let temporary = rules.temporary_until.is_some();
        let account = self.account(user)?;
        let change = account.change_password(hash, by, &rules, now);
        let (epoch, all) = (account.session_epoch, !account.has_live_session(now));
        self.event(user, &Event::PasswordChanged { by, temporary });
        if change.sessions_ended {
            self.event(
                user,
                &Event::SessionRevoked {
                    session_ids: change.ended.clone(),
                    all,
                    session_epoch: epoch,
                    reason: Some("password_changed".to_owned()),
                },
            );
        }
        if change.verified {
            self.event(user, &Event::EmailVerified);
        }
        if change.accepted_invitation {
            self.event(user, &Event::InviteAccepted);
        }
        let facts = Facts {
            changed_at: Some(now),
            changed_by: Some(if by == ChangedBy::Admin { Author::Support } else { Author::You }),
            ..self.facts()
        };
        self.email(user, Template::PasswordChanged, None, &facts)?;
        Ok(change)
    }

    /// What a changed password does not mend: for people who cannot sign in all the same.
    pub fn warnings(&self, user: &str) -> Vec<&'static str> {
        let Some(account) = self.world.account(user) else { return Vec::new() };
        let mut warnings = Vec::new();
        if account.blocked {
            warnings.push("user_blocked");
        }
        if !account.active {
            warnings.push("user_inactive");
        }
        warnings
    }
}

fn rejected(violations: &[Violation]) -> Rejection {
    let shown: Vec<Value> =
        violations.iter().map(|v| serde_json::json!({ "rule": v.rule, "message": v.message })).collect();
    Rejection::new(Code::PasswordRejected, "The password does not meet the rules.").with("violations", shown)
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

/// The keyed hash under which an address without a profile is remembered.
pub fn subject_key(keys: &KeyRing, email_key: &str) -> Uuid {
    Uuid::from_bytes(keys.fingerprint("subject", &[email_key.as_bytes()]))
}

fn plain(facts: &impl Serialize) -> Value {
    serde_json::to_value(facts).unwrap_or_default()
}
