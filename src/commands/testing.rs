//! A whole world in memory, to test decisions without any server: publish a command, read the answer, look at what
//! changed.

#![expect(clippy::missing_panics_doc, reason = "tests")]
#![expect(clippy::needless_pass_by_value, reason = "`json!` makes values")]

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use rand::SeedableRng;
use rand::rngs::StdRng;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::config::{Config, Publisher, Role, Scope, Site};
use crate::domain::access::{ActorName, Sender, authorise};
use crate::domain::account::Account;
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State, Ticket};
use crate::ids::Ids;
use crate::keys::KeyRing;
use crate::mail::catalogue::Template;
use crate::world::World;
use crate::world::mailing::{Begins, NewEmail, PastEmail};

use super::context::{Context, Environment};
use super::proofs::Proofs;
use super::{Ready, Stop, tokens};

mod invariants;
mod pretended;

use pretended::{hash, prove};

/// A password that keeps the default policy.
pub const GOOD: &str = "Correct-Horse-7-Battery";
/// Another.
pub const BETTER: &str = "Tr0ub4dor-And-Three!";

/// What is done to an account before a test.
pub type Change = fn(&mut Account);

/// The world, and the settings that hold in it.
pub struct Bed {
    /// The time; moves only by [`Bed::wait`].
    pub now: DateTime<Utc>,
    /// The settings.
    pub config: Config,
    /// The keys.
    pub keys: KeyRing,
    /// Everything.
    pub world: World,
    /// Templates that are switched off.
    pub disabled: BTreeSet<Template>,
    /// What stands in `password.policy.blocklist_file`.
    pub blocklist: BTreeSet<String>,
    /// The publisher of the commands.
    pub publisher: String,
    /// When the person asked, if not now.
    pub requested_at: Option<DateTime<Utc>>,
    /// What the last command noted for the activity log.
    pub details: Map<String, Value>,
    /// Whom the last command touched.
    pub touched: Vec<String>,
    /// The address without a profile that the last command named, as a keyed hash.
    pub subject_key: Option<Uuid>,
    /// What the last command had worked out about passwords: `verify`, `hash`, `pretend`, `judge` (and not hashed).
    pub work: Vec<&'static str>,
    /// What the last answer told once and will never repeat.
    pub told_once: Vec<String>,
    rng: StdRng,
    ids: Ids,
}

impl Default for Bed {
    fn default() -> Self {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut config = Config::default();
        let site = Site {
            name: "Example".into(),
            web_url: "https://app.example.com".into(),
            reset_url: "https://app.example.com/reset?token={token}".into(),
            invite_url: "https://app.example.com/invite?token={token}".into(),
            verify_url: "https://app.example.com/verify?token={token}".into(),
            support_email: "support@example.com".into(),
            ..Site::default()
        };
        config.sites.extend(["default", "north", "south"].map(|name| (name.to_owned(), site.clone())));
        let publisher = |assert_actor, system| Publisher { commands: vec!["*".into()], assert_actor, system };
        config.publishers.insert("shop".into(), publisher(true, true));
        config.publishers.insert("web".into(), publisher(false, false));
        let role = |permissions: &[&str], scope| Role {
            permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
            scope,
        };
        config.roles.insert("admin".into(), role(&["*"], Scope::All));
        let manager = ["user.get", "password.reset.*", "password.set", "invite.*", "session.force_logout"];
        config.roles.insert("manager".into(), role(&manager, Scope::Site));
        config.roles.insert("member".into(), role(&[], Scope::Site));
        config.manual_entry.allowed = true;
        Self {
            now,
            config,
            keys: KeyRing::generate(now),
            world: World::default(),
            disabled: BTreeSet::new(),
            blocklist: BTreeSet::new(),
            publisher: "shop".into(),
            requested_at: None,
            details: Map::new(),
            touched: Vec::new(),
            subject_key: None,
            work: Vec::new(),
            told_once: Vec::new(),
            rng: StdRng::seed_from_u64(1),
            ids: Ids::default(),
        }
    }
}

impl Bed {
    /// A world with one member in it, about whom nobody was told yet.
    pub fn with_member(id: &str) -> Self {
        let mut bed = Self::default();
        bed.member(id);
        bed.quiet();
        bed
    }

    /// Lets time pass.
    pub fn wait(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
    }

    /// Goes on as another daemon whose clock is behind: the ids that it makes are smaller.
    pub fn on_a_daemon_behind(&mut self) {
        self.now -= TimeDelta::milliseconds(2);
        self.ids = Ids::default();
    }

    /// Puts a member of the default site.
    pub fn member(&mut self, id: &str) -> &mut Account {
        self.person(id, "default", "member")
    }

    /// Puts a person.
    pub fn person(&mut self, id: &str, site: &str, role: &str) -> &mut Account {
        let user = json!({
            "id": id, "username": id, "email": format!("{id}@example.com"), "site": site, "roles": [role],
            "email_verified": true,
        });
        self.ok("user.put", json!({ "user": user }));
        self.world.account_mut(id).unwrap()
    }

    /// Gives a person a password, without mail or events.
    pub fn password(&mut self, id: &str, password: &str) {
        self.world.account_mut(id).unwrap().password_hash = Some(hash(password));
    }

    /// The answer's `result`.
    pub fn ok(&mut self, command: &str, body: Value) -> Value {
        let shown = body.to_string();
        self.run(command, body).unwrap_or_else(|refused| panic!("{command} {shown}: {refused}"))
    }

    /// The error's code.
    pub fn refused(&mut self, command: &str, body: Value) -> Code {
        let refused = self.run(command, body).unwrap_err();
        *Code::ALL.iter().find(|code| refused["code"] == code.as_str()).unwrap()
    }

    /// Runs a command; an error is `{code, message, details}`. Of every command it is checked that a refusal changed
    /// nothing that it may not, and that no secret of the body went anywhere.
    pub fn run(&mut self, command: &str, body: Value) -> Result<Value, Value> {
        let before = self.essence();
        let (mails, events) = (self.world.emails.len(), self.world.events.len());
        self.details = Map::new();
        self.touched = Vec::new();
        self.subject_key = None;
        self.work = Vec::new();
        self.told_once = Vec::new();
        let secrets = secrets_of(&body);
        let answer = self.decide(command, body);
        if let Err(refusal) = &answer {
            assert_eq!(before, self.essence(), "{command} was refused and changed something: {refusal}");
            let news = self.world.events[events..].iter().all(|event| event.name == "user.locked");
            let letters = self.world.emails[mails..].iter().all(|mail| mail.template == Template::AccountLocked);
            assert!(news && letters, "{command} was refused and told somebody of it: {refusal}");
        }
        let mut written = format!("{:?} {:?}", self.details, self.touched);
        written.extend(self.world.events[events..].iter().map(|event| event.body.as_str()));
        written.extend(self.world.emails[mails..].iter().map(|mail| mail.facts.to_string()));
        assert!(self.told_once.iter().all(|s| !written.contains(s)), "{command}: a secret for once is in {written}");
        let answered = format!("{answer:?}");
        let kept = secrets.iter().all(|s| !written.contains(s) && !answered.contains(s));
        assert!(kept, "{command}: a secret of the body went into {written} {answered}");
        answer
    }

    /// What a refusal may not change: all but the counters of wrong tries, and the token that a temporary password is
    /// answered with.
    fn essence(&self) -> Vec<Account> {
        let mut accounts: Vec<Account> = self.world.accounts().cloned().collect();
        for account in &mut accounts {
            (account.failed_logins, account.locked_until, account.dirty) = (0, None, false);
            account.tickets.retain(|t| t.purpose != Purpose::PasswordChange);
            for ticket in &mut account.tickets {
                (ticket.wrong_tries, ticket.dirty) = (0, false);
                if ticket.state == State::TooManyAttempts {
                    (ticket.state, ticket.closed_at) = (State::Open, None);
                }
            }
        }
        accounts
    }

    fn decide(&mut self, command: &str, body: Value) -> Result<Value, Value> {
        let spec = super::find(command).unwrap();
        let parsed = spec.read(body.to_string().as_bytes(), &self.keys, self.config.secrets.require_sealed);
        let parsed = parsed.map_err(|invalid| json!({ "code": invalid.code.as_str(), "message": invalid.detail }))?;
        let refusal = |r: crate::domain::rejection::Rejection| json!({ "code": r.code.as_str(), "message": r.message, "details": r.details });
        let Ready::Command(ready) = parsed.ready.map_err(|unopened| refusal(unopened.rejection))? else {
            panic!("{command} is a query")
        };
        let disabled = self.disabled.clone();
        let enabled = move |template: Template, _: &str, _: Option<&str>| !disabled.contains(&template);
        let mut proofs = Proofs::default();
        for _ in 0..8 {
            let env = Environment { config: &self.config, keys: &self.keys, template_enabled: &enabled };
            let actor = match &parsed.envelope.actor {
                Some(ActorName::Id(id)) => self.world.actor(id).cloned(),
                _ => None,
            };
            let sender = Sender { name: &self.publisher, rules: self.config.publishers.get(&self.publisher) };
            let named = parsed.envelope.actor.as_ref();
            let authority = authorise(spec.name, spec.audience, sender, named, actor.as_ref(), &self.config.roles)
                .map_err(refusal)?;
            let mut cx = Context {
                env,
                now: self.now,
                requested_at: self.requested_at.unwrap_or(self.now),
                command: spec.name,
                message_id: Some("m"),
                publisher: &self.publisher,
                traceparent: None,
                authority,
                actor: actor.map(|a| a.profile.id),
                client: &parsed.envelope.client,
                world: &mut self.world,
                proofs: &mut proofs,
                rng: &mut self.rng,
                ids: &mut self.ids,
                touched: Vec::new(),
                subject_key: None,
                details: Map::new(),
            };
            let before: Vec<Account> = cx.world.accounts().cloned().collect();
            let result = ready.decide(&mut cx);
            if matches!(result, Err(Stop::Unproven)) {
                assert!(cx.world.accounts().eq(&before), "{command} changed something before its proofs were there");
            }
            self.details = std::mem::take(&mut cx.details);
            self.touched = std::mem::take(&mut cx.touched);
            self.subject_key = cx.subject_key;
            match result {
                Ok(reply) => {
                    self.told_once = texts(&reply.result, reply.secrets);
                    return Ok(Value::Object(reply.result));
                }
                Err(Stop::Rejected(rejection)) => return Err(refusal(rejection)),
                Err(Stop::RejectedWithSecret(rejection, secrets)) => {
                    self.told_once = texts(&rejection.details, secrets);
                    return Err(refusal(rejection));
                }
                Err(Stop::Bug(what)) => panic!("{command}: {what}"),
                Err(Stop::Unproven) => self.work.extend(prove(&mut proofs, &self.blocklist)),
            }
        }
        panic!("{command} never has enough proofs")
    }

    /// What a reset request was decided to be, as the activity log says it.
    pub fn decision(&self) -> &str {
        self.details["decision"].as_str().unwrap()
    }

    /// Signs a person in with [`GOOD`], which they get as their password; the session.
    pub fn sign_in(&mut self, id: &str) -> String {
        self.password(id, GOOD);
        let session = self.ok("session.login", json!({ "user": { "id": id }, "password": GOOD }));
        session["session_id"].as_str().unwrap().to_owned()
    }

    /// Asks for a reset in a person's name; its token.
    pub fn reset_link(&mut self, id: &str) -> String {
        self.ok("password.reset.request", json!({ "user": { "id": id }, "method": "link" }));
        self.token(id, Purpose::PasswordReset)
    }

    /// Asks for a reset in a person's name; its code.
    pub fn reset_code(&mut self, id: &str) -> String {
        self.ok("password.reset.request", json!({ "user": { "id": id }, "method": "code" }));
        self.code(id)
    }

    /// Forgets mails and events so far.
    pub fn quiet(&mut self) {
        self.mails();
        self.world.events.clear();
    }

    /// An account.
    pub fn account(&self, id: &str) -> &Account {
        self.world.account(id).unwrap()
    }

    /// A person's newest ticket of a purpose.
    pub fn ticket(&self, id: &str, purpose: Purpose) -> &Ticket {
        self.account(id).newest_ticket_of(purpose).unwrap()
    }

    /// The token of a person's newest ticket of a purpose, as the mail would carry it.
    pub fn token(&self, id: &str, purpose: Purpose) -> String {
        self.token_of(self.ticket(id, purpose))
    }

    /// The token of a ticket.
    pub fn token_of(&self, ticket: &Ticket) -> String {
        let token = self.keys.token(&ticket.key_id, tokens::token_use(ticket.purpose), ticket.id).unwrap();
        token.expose_secret().to_owned()
    }

    /// The code of a person's newest reset ticket.
    pub fn code(&self, id: &str) -> String {
        self.code_for(id, Purpose::PasswordReset)
    }

    /// The code of a person's newest ticket of a purpose.
    pub fn code_for(&self, id: &str, purpose: Purpose) -> String {
        let ticket = self.ticket(id, purpose);
        let code = self.keys.code(&ticket.key_id, ticket.id, self.config.password_reset.code_length).unwrap();
        code.expose_secret().to_owned()
    }

    /// Mails to be sent, since the last call.
    pub fn mails(&mut self) -> Vec<NewEmail> {
        let mails = std::mem::take(&mut self.world.emails);
        self.world.add_past_emails(mails.iter().map(PastEmail::from));
        mails.into_iter().filter(|mail| mail.begins == Begins::Queued).collect()
    }

    /// Templates of mails to be sent, since the last call.
    pub fn mailed(&mut self) -> Vec<Template> {
        self.mails().into_iter().map(|mail| mail.template).collect()
    }

    /// Names of events, since the last call.
    pub fn events(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.world.events).into_iter().map(|event| event.name).collect()
    }
}

fn secrets_of(body: &Value) -> Vec<String> {
    let fields = body.as_object().into_iter().flatten();
    let secret = fields.filter(|(name, _)| super::SECRET_FIELDS.contains(&name.as_str()));
    secret.filter_map(|(_, value)| value.as_str()).filter(|s| s.len() > 4).map(str::to_owned).collect()
}

fn texts(fields: &Map<String, Value>, names: &[&str]) -> Vec<String> {
    let secret = names.iter().filter_map(|name| fields.get(*name));
    secret.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect()
}
