//! The commands: one file each, with its body, its permission, its decision and its tests. [`ALL`] is the one list.
//!
//! A command that changes something implements [`Command`]: a pure decision on loaded accounts. A read-only one
//! implements [`query::Query`]. The engine in [`crate::lane`] knows neither by name.

pub mod body;
pub mod context;
pub mod credentials;
pub mod document;
pub mod email;
pub mod erasing;
pub mod history;
pub mod invite;
pub mod mail_request;
pub mod mailing;
pub mod password;
pub mod proofs;
pub mod query;
pub mod session;
pub mod tokens;
pub mod user;
pub mod world;

mod daemon;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod rights;
#[cfg(test)]
pub mod testing;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::domain::access::Audience;
use crate::domain::rejection::{Code, Rejection};
use crate::keys::KeyRing;
use crate::metrics::{LoginOutcome, Metrics};
use crate::spelling;

use body::{Client, Envelope, Unreadable, UserName};
use context::Context;
use document::{Documented, Reference};
use query::Query;
use world::{Wants, World};

/// The queue that a command waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Only state and mail.
    State,
    /// Hashes or checks a password.
    Credentials,
    /// Read-only.
    Queries,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 3] = [Self::State, Self::Credentials, Self::Queries];

    /// The last part of the queue's name, and the metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Credentials => "credentials",
            Self::Queries => "queries",
        }
    }
}

/// What a command is answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// `result`.
    pub result: Map<String, Value>,
    /// Fields of `result` that are told once and never recorded.
    pub secrets: &'static [&'static str],
}

impl Reply {
    /// A reply of these fields; anything but an object is a bug that shows as an empty result.
    pub fn of(answer: impl Serialize) -> Self {
        match serde_json::to_value(answer) {
            Ok(Value::Object(result)) => Self { result, secrets: &[] },
            _ => Self::default(),
        }
    }
}

/// Why a decision did not end in a reply.
#[derive(Debug)]
pub enum Stop {
    /// A rule refuses it.
    Rejected(Rejection),
    /// A rule refuses it, and these details are told once and never recorded.
    RejectedWithSecret(Rejection, &'static [&'static str]),
    /// Proofs about passwords are needed first.
    Unproven,
    /// The daemon contradicts itself: the command is tried again later.
    Bug(&'static str),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// A command that changes something.
///
/// `decide` runs more than once: first on a snapshot, to learn which password proofs it needs, and last on locked
/// accounts, inside the transaction. Before it refuses, it must have changed nothing but what a refusal is meant to
/// leave behind (counters of wrong tries).
pub trait Command: DeserializeOwned + Send + Sync + 'static {
    /// The routing key.
    const NAME: &'static str;
    /// The queue.
    const LANE: Lane;
    /// Who may send it.
    const AUDIENCE: Audience;
    /// Fields that may be sealed, and must be if `secrets.require_sealed` is set.
    const SECRETS: &'static [&'static str] = &[];

    /// What must be loaded before it can decide.
    fn wants(&self, wants: &mut Wants, keys: &KeyRing);

    /// Keys of the limits that it falls under, once the people are known.
    fn limits(&self, _client: &Client, _world: &World, _keys: &KeyRing) -> Vec<Uuid> {
        Vec::new()
    }

    /// Decides.
    ///
    /// # Errors
    /// [`Stop`].
    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop>;

    /// For answers whose moment would tell what their words do not, such as whether a name is known: they leave so long after
    /// the command's arrival, or a multiple of it. Zero for all others: they leave at once.
    fn pace(&self, _asked: Asked<'_>) -> Duration {
        Duration::ZERO
    }
}

/// What an answer's pace follows from.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Whether the person asked, and not support or a system.
    pub by_the_person: bool,
    /// `ok` or the error's code.
    pub outcome: &'a str,
    /// The configuration.
    pub config: &'a Config,
}

impl Asked<'_> {
    /// Requests that are answered the same whoever they are for.
    pub fn of_a_request(self) -> Duration {
        if self.by_the_person { self.config.password_reset.answer_after } else { Duration::ZERO }
    }

    /// A wrong code is counted, and there may be nobody whose code it could be.
    pub fn of_a_code(self) -> Duration {
        if [Code::CodeInvalid, Code::TooManyAttempts].iter().any(|code| self.outcome == code.as_str()) {
            self.config.password_reset.answer_after
        } else {
            Duration::ZERO
        }
    }

    /// A wrong password is counted, its hash may be of any cost, and there may be nobody whose password it could be.
    pub fn of_a_sign_in(self) -> Duration {
        if self.outcome == Code::InvalidCredentials.as_str() { self.config.login.answer_after } else { Duration::ZERO }
    }
}

/// A [`Command`] behind a pointer.
pub trait Decide: Send + Sync {
    /// As [`Command::wants`].
    fn wants(&self, wants: &mut Wants, keys: &KeyRing);
    /// As [`Command::limits`].
    fn limits(&self, client: &Client, world: &World, keys: &KeyRing) -> Vec<Uuid>;
    /// As [`Command::decide`].
    ///
    /// # Errors
    /// As there.
    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop>;
    /// As [`Command::pace`].
    fn pace(&self, asked: Asked<'_>) -> Duration;
}

impl<C: Command> Decide for C {
    fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        Command::wants(self, wants, keys);
    }
    fn limits(&self, client: &Client, world: &World, keys: &KeyRing) -> Vec<Uuid> {
        Command::limits(self, client, world, keys)
    }
    fn decide(&self, cx: &mut Context<'_>) -> Result<Reply, Stop> {
        Command::decide(self, cx)
    }
    fn pace(&self, asked: Asked<'_>) -> Duration {
        Command::pace(self, asked)
    }
}

/// Reads a body's own fields as a `T`.
type Read<T> = fn(Map<String, Value>) -> Result<Box<T>, Unreadable>;

/// How a body becomes something that can run.
#[derive(Clone, Copy)]
pub enum Parse {
    /// For commands.
    Command(Read<dyn Decide>),
    /// For queries.
    Query(Read<dyn query::Answer>),
}

/// A row of the list of commands.
#[derive(Clone, Copy)]
pub struct Spec {
    /// The routing key.
    pub name: &'static str,
    /// The queue.
    pub lane: Lane,
    /// Who may send it.
    pub audience: Audience,
    /// Fields that may be sealed.
    pub secrets: &'static [&'static str],
    /// From body to command.
    pub parse: Parse,
    /// What the reference says of it.
    pub reference: Reference,
}

const fn command<C: Command + Documented>() -> Spec {
    Spec {
        name: C::NAME,
        lane: C::LANE,
        audience: C::AUDIENCE,
        secrets: C::SECRETS,
        parse: Parse::Command(|fields| Ok(Box::new(body::fields::<C>(fields)?))),
        reference: Reference::of::<C>(),
    }
}

const fn query<Q: Query + Documented>() -> Spec {
    Spec {
        name: Q::NAME,
        lane: Lane::Queries,
        audience: Q::AUDIENCE,
        secrets: Q::SECRETS,
        parse: Parse::Query(|fields| Ok(Box::new(body::fields::<Q>(fields)?))),
        reference: Reference::of::<Q>(),
    }
}

/// Every command there is.
pub const ALL: &[Spec] = &[
    command::<user::put::Put>(),
    query::<user::get::Get>(),
    query::<user::search::Search>(),
    command::<user::activate::Activate>(),
    command::<user::deactivate::Deactivate>(),
    command::<user::block::Block>(),
    command::<user::unblock::Unblock>(),
    command::<user::erase::Erase>(),
    command::<password::reset_request::ResetRequest>(),
    command::<password::reset_inspect::ResetInspect>(),
    command::<password::reset_complete::ResetComplete>(),
    command::<password::reset_resend::ResetResend>(),
    command::<password::reset_cancel::ResetCancel>(),
    command::<password::change::Change>(),
    command::<password::set::Set>(),
    command::<password::temporary_issue::TemporaryIssue>(),
    query::<password::check::Check>(),
    command::<invite::send::Send>(),
    command::<invite::resend::Resend>(),
    command::<invite::revoke::Revoke>(),
    query::<invite::inspect::Inspect>(),
    command::<invite::accept::Accept>(),
    command::<email::verification_send::Send>(),
    command::<email::verification_complete::Complete>(),
    command::<email::resend::Resend>(),
    command::<email::report::Report>(),
    command::<email::unsuppress::Unsuppress>(),
    query::<email::explain::Explain>(),
    command::<session::login::Login>(),
    command::<session::logout::Logout>(),
    query::<session::check::Check>(),
    command::<session::force_logout::ForceLogout>(),
    command::<session::impersonate::Impersonate>(),
    query::<history::emails::Emails>(),
    query::<history::passwords::Passwords>(),
    query::<history::activity::Activity>(),
    query::<daemon::Info>(),
];

/// The command with this routing key.
pub fn find(name: &str) -> Option<&'static Spec> {
    ALL.iter().find(|spec| spec.name == name)
}

/// The names of a lane's commands: its queue's bindings.
pub fn names(lane: Lane) -> Vec<&'static str> {
    ALL.iter().filter(|spec| spec.lane == lane).map(|spec| spec.name).collect()
}

/// A command that can run, or a query that can be answered.
pub enum Ready {
    /// A command.
    Command(Box<dyn Decide>),
    /// A query.
    Query(Box<dyn query::Answer>),
}

/// A body that was understood.
pub struct Parsed {
    /// `actor` and `context`.
    pub envelope: Envelope,
    /// The command, unless its secrets could not be opened.
    pub ready: Result<Ready, Unopened>,
    /// What exactly was asked, as a keyed hash: of the body as it came, or of what it says if secrets in it were sealed. What is
    /// sealed again is another text of the same content.
    pub fingerprint: Uuid,
}

/// A body whose secrets could not be opened, or came plain and must not.
#[derive(Debug, Clone, PartialEq)]
pub struct Unopened {
    /// What the caller is told.
    pub rejection: Rejection,
    /// Whom the command is about, if what can be read of it says so.
    pub user: Option<UserName>,
}

/// Why a body was not understood: goes to the caller and into the dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct Invalid {
    /// `invalid_message` or `invalid_body`.
    pub code: Code,
    /// What and where; no value of the body.
    pub detail: String,
}

impl Spec {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Invalid`]; a body that is understood but whose sealed secrets cannot be opened is no error here.
    pub fn read(&self, body: &[u8], keys: &KeyRing, require_sealed: bool) -> Result<Parsed, Invalid> {
        let invalid = |e: Unreadable| Invalid { code: Code::InvalidBody, detail: e.detail };
        if body.len() > body::MAX_BODY {
            let detail = format!("the body has {} bytes; at most {} are read", body.len(), body::MAX_BODY);
            return Err(Invalid { code: Code::InvalidMessage, detail });
        }
        let mut fields = body::object(body).map_err(invalid)?;
        let unsealed = body::unseal(&mut fields, SECRET_FIELDS, self.secrets, keys, require_sealed);
        let fingerprint = match unsealed {
            Ok(true) => self.fingerprint(&Zeroizing::new(serde_json::to_vec(&fields).unwrap_or_default()), keys),
            Ok(false) | Err(_) => self.fingerprint(body, keys),
        };
        let envelope = body::envelope(&mut fields).map_err(invalid)?;
        if let Err(rejection) = unsealed {
            let user = fields.remove("user").and_then(|name| serde_json::from_value(name).ok());
            return Ok(Parsed { envelope, ready: Err(Unopened { rejection, user }), fingerprint });
        }
        let ready = match self.parse {
            Parse::Command(parse) => parse(fields).map(Ready::Command),
            Parse::Query(parse) => parse(fields).map(Ready::Query),
        };
        Ok(Parsed { envelope, ready: Ok(ready.map_err(invalid)?), fingerprint })
    }

    fn fingerprint(&self, body: &[u8], keys: &KeyRing) -> Uuid {
        Uuid::from_bytes(keys.fingerprint("inbox.body", &[self.name.as_bytes(), body]))
    }
}

/// Names of fields whose plain values are replaced before a message is kept anywhere.
pub const SECRET_FIELDS: &[&str] = &[
    "password",
    "new_password",
    "current_password",
    "temporary_password",
    "password_hash",
    "token",
    "change_token",
    "code",
];

/// Whether a field of that name holds a secret, or was meant to: `newPassword`, `new-password`, `passwd`, `tokens`. A name
/// that is misspelt is refused, and what stands in it is as secret.
pub fn is_secret_name(name: &str) -> bool {
    let name: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    name.ends_with("code") || SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// Parts of names of secrets.
pub const SECRET_NAMES: &[&str] = &["pass", "pwd", "token", "secret"];

/// The command that somebody probably meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    spelling::nearest(name, ALL.iter().map(|spec| spec.name))
}

/// Counts what only some commands have to tell: how sign-ins ended.
pub fn observe(name: &str, outcome: &str, metrics: &Metrics) {
    if name == session::login::Login::NAME
        && let Some(outcome) = LoginOutcome::ALL.iter().find(|o| o.as_str() == outcome)
    {
        metrics.login(*outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_secrets_are_redacted() {
        for (i, spec) in ALL.iter().enumerate() {
            assert!(ALL.iter().skip(i + 1).all(|other| other.name != spec.name), "{} is listed twice", spec.name);
            assert!(
                spec.secrets.iter().all(|s| SECRET_FIELDS.contains(s)),
                "{}: a secret that is not redacted",
                spec.name
            );
        }
    }

    #[test]
    fn publishers_and_roles_may_name_every_command_and_no_other() {
        let mut names: Vec<&str> = ALL.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        assert_eq!(names, crate::config::COMMANDS);
    }

    #[test]
    fn the_nearest_command_is_the_one_that_was_meant() {
        for (wrong, meant) in [
            ("pasword.reset.request", Some("password.reset.request")),
            ("session.logn", Some("session.login")),
            ("User.Get", Some("user.get")),
            ("users.get", Some("user.get")),
            ("user.unlock", Some("user.unblock")),
            ("xyzzy", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong), meant, "{wrong}");
        }
    }

    /// Every secret field of every command.
    const STARRED: [(&str, &[&str]); 7] = [
        ("email.verification.complete", &["token", "code"]),
        ("invite.accept", &["token", "new_password"]),
        ("password.change", &["current_password", "change_token", "new_password"]),
        ("password.check", &["new_password"]),
        ("password.reset.complete", &["token", "code", "new_password"]),
        ("password.set", &["new_password"]),
        ("session.login", &["password"]),
    ];

    #[test]
    fn every_secret_may_be_sealed_and_must_be_if_the_configuration_says_so() {
        let mut found: Vec<_> = ALL.iter().filter(|s| !s.secrets.is_empty()).map(|s| (s.name, s.secrets)).collect();
        found.sort_unstable();
        assert_eq!(found, STARRED);
        let keys = KeyRing::generate(crate::clock::now());
        let key = keys.sealing_key();
        let sealed = |text: &str| {
            let sealed = crate::keys::seal_to(&key.public_key, text).unwrap();
            serde_json::json!({ "sealed": sealed, "key_id": key.key_id })
        };
        let code = |name: &str, field: &str, value: &Value, require: bool| {
            let body = serde_json::json!({ field: value }).to_string();
            match find(name).unwrap().read(body.as_bytes(), &keys, require) {
                Ok(Parsed { ready: Err(Unopened { rejection, .. }), .. }) => {
                    assert!(rejection.message.contains(&format!("`{field}`")), "{}", rejection.message);
                    assert!(!rejection.message.contains("Geheim"), "{}", rejection.message);
                    Some(rejection.code)
                }
                // Opened; that other fields are missing comes later.
                Ok(_) => None,
                Err(invalid) => {
                    assert_eq!(invalid.code, Code::InvalidBody);
                    assert!(
                        invalid.detail.contains("missing field") && !invalid.detail.contains("Geheim"),
                        "{}",
                        invalid.detail
                    );
                    None
                }
            }
        };
        for (name, fields) in STARRED {
            for field in fields {
                let (plain, good) = (Value::from("Geheim"), sealed("Geheim"));
                assert_eq!(code(name, field, &plain, true), Some(Code::SealedRequired), "{name} {field}");
                assert_eq!(code(name, field, &plain, false), None, "{name} {field}");
                for require in [true, false] {
                    assert_eq!(code(name, field, &good, require), None, "{name} {field}");
                    let mut unknown = good.clone();
                    unknown["key_id"] = "gone".into();
                    let mut more = good.clone();
                    more["and"] = "more".into();
                    let mut broken = good.clone();
                    broken["sealed"] = "R2VoZWlt".into();
                    for bad in [
                        unknown,
                        more,
                        broken,
                        sealed("Ge\0heim"),
                        serde_json::json!({ "sealed": "" }),
                        serde_json::json!({}),
                    ] {
                        assert_eq!(code(name, field, &bad, require), Some(Code::SealedInvalid), "{name} {field} {bad}");
                    }
                }
            }
        }
        // Without a star: they come as they are, whatever the configuration says, and may be sealed.
        for (name, field) in [
            ("password.reset.inspect", "token"),
            ("password.reset.inspect", "code"),
            ("password.reset.cancel", "token"),
            ("invite.inspect", "token"),
        ] {
            assert_eq!(code(name, field, &Value::from("Geheim"), true), None, "{name} {field}");
            assert_eq!(code(name, field, &sealed("Geheim"), true), None, "{name} {field}");
        }
    }

    #[test]
    fn what_cannot_be_opened_says_all_the_same_whom_it_is_about() {
        let keys = KeyRing::generate(crate::clock::now());
        let named = |name: &str, body: Value| {
            let parsed = find(name).unwrap().read(body.to_string().as_bytes(), &keys, true).unwrap();
            parsed.ready.err().unwrap().user
        };
        let ada = serde_json::json!({ "email": "Ada@Example.com" });
        let login = serde_json::json!({ "user": ada, "password": "Geheim" });
        assert_eq!(named("session.login", login), Some(UserName::Email("ada@example.com".to_owned())));
        let accept = serde_json::json!({ "token": "Geheim", "new_password": "Geheim" });
        assert_eq!(named("invite.accept", accept), None);
        let nobody = serde_json::json!({ "user": "ada", "password": "Geheim" });
        assert_eq!(named("session.login", nobody), None);
    }

    #[test]
    fn a_body_over_the_limit_is_not_parsed() {
        let keys = KeyRing::generate(crate::clock::now());
        let body = vec![b' '; body::MAX_BODY + 1];
        let error = find("user.put").unwrap().read(&body, &keys, false).err().unwrap();
        assert_eq!(error.code, Code::InvalidMessage);
    }
}
