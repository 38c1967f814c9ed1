//! The one list of all commands, and how a body becomes one of them.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::access::Audience;
use crate::domain::rejection::{Code, Outcome, Rejection};
use crate::keys::KeyRing;
use crate::metrics::Metrics;
use crate::spelling;

use super::body::{self, Envelope, Unreadable, UserName};
use super::document::{Documented, Reference};
use super::query::{self, Query};
use super::{Command, Decide, Lane, SECRET_FIELDS, daemon, email, history, invite, password, session, user};

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
    /// As [`Command::observe`]; of a query nothing.
    pub observe: fn(Outcome, &Metrics),
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
        observe: C::observe,
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
        observe: |_, _| {},
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

/// The command that somebody probably meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    spelling::nearest(name, ALL.iter().map(|spec| spec.name))
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
    /// What exactly was asked, as a keyed hash: `fingerprint.rs` says of what.
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

impl From<Unreadable> for Invalid {
    fn from(unreadable: Unreadable) -> Self {
        Self { code: Code::InvalidBody, detail: unreadable.detail }
    }
}

impl Spec {
    /// Whether the daemon would understand these fields: for those who would rather know before they send. Secrets are taken to be
    /// plain.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn check(&self, mut fields: Map<String, Value>) -> Result<(), Invalid> {
        let read = body::envelope(&mut fields).and_then(|_| match self.parse {
            Parse::Command(parse) => parse(fields).map(drop),
            Parse::Query(parse) => parse(fields).map(drop),
        });
        read.map_err(Invalid::from)
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Invalid`]; a body that is understood but whose sealed secrets cannot be opened is no error here.
    ///
    /// # Panics
    /// Never: what was read from JSON can be written as JSON.
    pub fn read(&self, body: &[u8], keys: &KeyRing, require_sealed: bool) -> Result<Parsed, Invalid> {
        if body.len() > body::MAX_BODY {
            let detail = format!("the body has {} bytes; at most {} are read", body.len(), body::MAX_BODY);
            return Err(Invalid { code: Code::InvalidMessage, detail });
        }
        let mut fields = body::object(body).map_err(Invalid::from)?;
        let unsealed = body::unseal(&mut fields, SECRET_FIELDS, self.secrets, keys, require_sealed);
        let fingerprint = self.fingerprint(&fields, body.len(), keys);
        let envelope = body::envelope(&mut fields).map_err(Invalid::from)?;
        if let Err(rejection) = unsealed {
            let user = fields.remove("user").and_then(|name| serde_json::from_value(name).ok());
            return Ok(Parsed { envelope, ready: Err(Unopened { rejection, user }), fingerprint });
        }
        let ready = match self.parse {
            Parse::Command(parse) => parse(fields).map(Ready::Command),
            Parse::Query(parse) => parse(fields).map(Ready::Query),
        };
        Ok(Parsed { envelope, ready: Ok(ready.map_err(Invalid::from)?), fingerprint })
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
