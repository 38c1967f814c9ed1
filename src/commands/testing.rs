//! A whole world in memory, to test decisions without any server: publish a command, read the answer, look at what
//! changed.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use rand::SeedableRng;
use rand::rngs::StdRng;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use crate::config::{Config, Publisher, Role, Scope, Site};
use crate::domain::access::{ActorName, Sender, authorise};
use crate::domain::account::Account;
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State, Ticket};
use crate::ids::Ids;
use crate::keys::KeyRing;
use crate::mail::catalogue::Template;

use super::context::{Context, Environment};
use super::mailing::{Begins, NewEmail};
use super::proofs::{Job, Proofs, Verified};
use super::world::World;
use super::{Ready, Stop, tokens};

/// A password that keeps the default policy.
pub const GOOD: &str = "Correct-Horse-7-Battery";
/// Another.
pub const BETTER: &str = "Tr0ub4dor-And-Three!";

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
    /// The publisher of the commands.
    pub publisher: String,
    /// When the person asked, if not now.
    pub requested_at: Option<DateTime<Utc>>,
    /// What the last command noted for the activity log.
    pub details: Map<String, Value>,
    /// Whom the last command touched.
    pub touched: Vec<String>,
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
            publisher: "shop".into(),
            requested_at: None,
            details: Map::new(),
            touched: Vec::new(),
            rng: StdRng::seed_from_u64(1),
            ids: Ids::default(),
        }
    }
}

impl Bed {
    /// Lets time pass.
    pub fn wait(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
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

    /// Runs a command; an error is `{code, message, details}`.
    pub fn run(&mut self, command: &str, body: Value) -> Result<Value, Value> {
        let spec = super::find(command).unwrap();
        let parsed = spec.read(body.to_string().as_bytes(), &self.keys, self.config.secrets.require_sealed);
        let parsed = parsed.map_err(|invalid| json!({ "code": invalid.code.as_str(), "message": invalid.detail }))?;
        let refusal = |r: crate::domain::rejection::Rejection| json!({ "code": r.code.as_str(), "message": r.message, "details": r.details });
        let Ready::Command(ready) = parsed.ready.map_err(refusal)? else { panic!("{command} is a query") };
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
            let result = ready.decide(&mut cx);
            self.details = std::mem::take(&mut cx.details);
            self.touched = std::mem::take(&mut cx.touched);
            match result {
                Ok(reply) => return Ok(Value::Object(reply.result)),
                Err(Stop::Rejected(rejection) | Stop::RejectedWithSecret(rejection, _)) => {
                    return Err(refusal(rejection));
                }
                Err(Stop::Bug(what)) => panic!("{command}: {what}"),
                Err(Stop::Unproven) => prove(&mut proofs),
            }
        }
        panic!("{command} never has enough proofs")
    }

    /// An account.
    pub fn account(&self, id: &str) -> &Account {
        self.world.account(id).unwrap()
    }

    /// A person's newest ticket of a purpose.
    pub fn ticket(&self, id: &str, purpose: Purpose) -> &Ticket {
        self.account(id).tickets.iter().filter(|t| t.purpose == purpose).max_by_key(|t| t.id).unwrap()
    }

    /// The token of a person's newest ticket of a purpose, as the mail would carry it.
    pub fn token(&self, id: &str, purpose: Purpose) -> String {
        let ticket = self.ticket(id, purpose);
        let token = self.keys.token(&ticket.key_id, tokens::token_use(purpose), ticket.id).unwrap();
        token.expose_secret().to_owned()
    }

    /// The code of a person's newest reset ticket.
    pub fn code(&self, id: &str) -> String {
        let ticket = self.ticket(id, Purpose::PasswordReset);
        let code = self.keys.code(&ticket.key_id, ticket.id, self.config.password_reset.code_length).unwrap();
        code.expose_secret().to_owned()
    }

    /// Mails to be sent, since the last call.
    pub fn mails(&mut self) -> Vec<NewEmail> {
        std::mem::take(&mut self.world.emails).into_iter().filter(|mail| mail.begins == Begins::Queued).collect()
    }

    /// Templates of mails to be sent, since the last call.
    pub fn mailed(&mut self) -> Vec<Template> {
        self.mails().into_iter().map(|mail| mail.template).collect()
    }

    /// Names of events, since the last call.
    pub fn events(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.world.events).into_iter().map(|event| event.name).collect()
    }

    /// What must hold at every moment.
    pub fn check_invariants(&self) {
        for account in self.world.accounts() {
            let mut open: HashMap<Purpose, usize> = HashMap::new();
            for ticket in account.tickets.iter().filter(|t| t.state == State::Open) {
                *open.entry(ticket.purpose).or_default() += 1;
            }
            assert!(open.values().all(|n| *n == 1), "{}: several open tickets of a purpose", account.id());
            if account.must_change_password {
                assert!(account.password_hash.is_some(), "{}: nothing to sign in with", account.id());
            }
            for ticket in &account.tickets {
                assert_eq!(ticket.state == State::Open, ticket.closed_at.is_none(), "a closed ticket has a time");
            }
        }
    }
}

/// Stands for Argon2: what matters here is which hash was made of what.
fn hash(password: &str) -> String {
    format!("hash of {password}")
}

fn prove(proofs: &mut Proofs) {
    for job in std::mem::take(&mut proofs.missing) {
        match job {
            Job::Verify(which, password, stored) => {
                let matches = stored == hash(password.expose_secret());
                proofs.verified.insert((which, stored), Verified { matches, outdated: false });
            }
            Job::Hash(which, password) => {
                proofs.hashed.insert(which, hash(password.expose_secret()));
            }
            Job::Pretend(_) => proofs.pretended = true,
            Job::Blocklist(_) => proofs.blocklisted = Some(false),
        }
    }
}
