//! The configuration: built-in defaults, over them a TOML file, over that the environment.
//!
//! - One file a section: its keys with unit and default, and the checks of their values.
//! - `visit.rs` is how a section names its keys, once; `read.rs` fills them and `show.rs` shows them.
//! - `layers.rs` makes the layers, which the `config` crate merges; `setting.rs` reads single values.
//! - `error.rs` collects all that is wrong; `unknown_key.rs` finds what was meant by a key.
//!
//! In the environment a key is `REGRANT__SECTION__KEY`: `REGRANT__MAIL__SMTP__URL`. Lists are separated by commas. Names in it
//! are lower-cased: publishers, roles and sites with capitals in their names (or `__`) can only be set in the file. An
//! empty value takes back an optional key. Relative paths are relative to the working directory, wherever the file is; those of
//! keys that end in `file` may begin with `$CREDENTIALS_DIRECTORY/` (systemd credentials).

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

mod access;
mod broker;
mod database;
mod duration;
mod error;
mod events;
mod health;
mod http;
mod invite;
mod keys;
mod layers;
mod log;
mod login;
mod mail;
mod manual_entry;
mod password;
mod password_reset;
mod read;
mod restart;
mod retention;
mod secrets;
mod sessions;
mod setting;
mod show;
mod shutdown;
mod site;
pub mod smtp_url;
mod templates;
mod temporary_password;
mod unknown_key;
mod url;
mod verification;
mod visit;

#[cfg(test)]
mod tests;

pub use access::{ANY_PUBLISHER, COMMANDS, PERMISSIONS, Publisher, Role, Scope, covers};
pub use broker::Broker;
pub use database::Database;
pub(crate) use duration::parse as parse_duration;
pub use error::ConfigError;
pub use events::Events;
pub use health::Health;
pub use http::Http;
pub use invite::Invite;
pub use keys::Keys;
pub use layers::Variables;
pub(crate) use log::level_fault;
pub use log::{Log, LogFormat};
pub use login::Login;
pub use mail::{Dkim, FileTransport, Mail, Smtp, Transport};
pub use manual_entry::ManualEntry;
pub use password::{Hashing, Password, Policy};
pub use password_reset::PasswordReset;
pub use restart::restart_needed;
pub use retention::Retention;
pub use secrets::Secrets;
pub use sessions::Sessions;
pub use shutdown::Shutdown;
pub use site::{DEFAULT_SITE, Site, TOKEN};
pub use templates::Templates;
pub use temporary_password::TemporaryPassword;
pub use verification::Verification;

use error::{Origins, Problems};
use visit::{Section, Visitor};

/// Names the file, if no argument does.
const FILE_VARIABLE: &str = "REGRANT_CONFIG";

/// Looked for in this order, if nothing names a file.
const USUAL_FILES: [&str; 2] = ["./regrant.toml", "/etc/regrant/regrant.toml"];

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[broker]`
    pub broker: Broker,
    /// `[database]`
    pub database: Database,
    /// `[mail]`
    pub mail: Mail,
    /// `[http]`
    pub http: Http,
    /// `[health]`
    pub health: Health,
    /// `[keys]`
    pub keys: Keys,
    /// `[templates]`
    pub templates: Templates,
    /// `[sites.<name>]`; [`DEFAULT_SITE`] is always there, and the others have what they inherit from it.
    pub sites: BTreeMap<String, Site>,
    /// `[password_reset]`
    pub password_reset: PasswordReset,
    /// `[invite]`
    pub invite: Invite,
    /// `[verification]`
    pub verification: Verification,
    /// `[manual_entry]`
    pub manual_entry: ManualEntry,
    /// `[temporary_password]`
    pub temporary_password: TemporaryPassword,
    /// `[login]`
    pub login: Login,
    /// `[sessions]`
    pub sessions: Sessions,
    /// `[secrets]`
    pub secrets: Secrets,
    /// `[password]`
    pub password: Password,
    /// `[events]`
    pub events: Events,
    /// `[shutdown]`
    pub shutdown: Shutdown,
    /// `[retention]`
    pub retention: Retention,
    /// `[log]`
    pub log: Log,
    /// `[publishers.<name>]`
    pub publishers: BTreeMap<String, Publisher>,
    /// `[roles.<name>]`
    pub roles: BTreeMap<String, Role>,
    /// The file that was read, if any.
    pub source: Option<PathBuf>,
    /// Where each value came from, for messages and `config show`.
    origins: Origins,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            broker: Broker::default(),
            database: Database::default(),
            mail: Mail::default(),
            http: Http::default(),
            health: Health::default(),
            keys: Keys::default(),
            templates: Templates::default(),
            sites: BTreeMap::from([(DEFAULT_SITE.to_owned(), Site::default())]),
            password_reset: PasswordReset::default(),
            invite: Invite::default(),
            verification: Verification::default(),
            manual_entry: ManualEntry::default(),
            temporary_password: TemporaryPassword::default(),
            login: Login::default(),
            sessions: Sessions::default(),
            secrets: Secrets::default(),
            password: Password::default(),
            events: Events::default(),
            shutdown: Shutdown::default(),
            retention: Retention::default(),
            log: Log::default(),
            publishers: BTreeMap::new(),
            roles: BTreeMap::new(),
            source: None,
            origins: Origins::new(),
        }
    }
}

impl Section for Config {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.section("broker", &mut self.broker);
        visitor.section("database", &mut self.database);
        visitor.section("mail", &mut self.mail);
        visitor.section("http", &mut self.http);
        visitor.section("health", &mut self.health);
        visitor.section("keys", &mut self.keys);
        visitor.section("templates", &mut self.templates);
        visitor.named("sites", &mut self.sites, Some(DEFAULT_SITE));
        visitor.section("password_reset", &mut self.password_reset);
        visitor.section("invite", &mut self.invite);
        visitor.section("verification", &mut self.verification);
        visitor.section("manual_entry", &mut self.manual_entry);
        visitor.section("temporary_password", &mut self.temporary_password);
        visitor.section("login", &mut self.login);
        visitor.section("sessions", &mut self.sessions);
        visitor.section("secrets", &mut self.secrets);
        visitor.section("password", &mut self.password);
        visitor.section("events", &mut self.events);
        visitor.section("shutdown", &mut self.shutdown);
        visitor.section("retention", &mut self.retention);
        visitor.section("log", &mut self.log);
        visitor.named("publishers", &mut self.publishers, None);
        visitor.named("roles", &mut self.roles, None);
    }
}

impl Config {
    /// Loads the configuration: from `path` (`--config`), else from the file that `REGRANT_CONFIG` names, else from the
    /// first that exists of `./regrant.toml` and `/etc/regrant/regrant.toml`; and from the process's environment.
    ///
    /// Values are checked, but something the daemon needs may still be missing: see [`Config::validate_for_run`].
    ///
    /// # Errors
    /// An unreadable file, a syntax error, or all unknown keys and wrong values at once.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_with(path, &std::env::vars_os().collect())
    }

    /// [`Config::load`] with these environment variables instead of the process's.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(path: Option<&Path>, variables: &Variables) -> Result<Self, ConfigError> {
        let source = find(path, variables, &USUAL_FILES.map(Path::new));
        let mut problems = Problems::default();
        let mut given = Vec::new();
        if let Some((path, how)) = &source {
            let text = fs::read_to_string(path).map_err(|reason| ConfigError::Unreadable {
                path: path.clone(),
                how,
                reason,
            })?;
            given.push(layers::file(path, &text)?);
        }
        given.push(layers::environment(variables, &mut problems));

        let mut config = Self { source: source.map(|(path, _)| path), ..Self::default() };
        let mut given = layers::merge(given);
        layers::find_credentials(&mut given, variables);
        read::fill(&mut config, &given, &mut problems);
        config.validate(&mut problems);
        config.origins.clone_from(&problems.origins);
        problems.into_result()?;
        Ok(config)
    }

    /// That defaults are in force because nobody wrote a file, where that is so: [`Config::load`] would find none.
    pub fn missing_file(path: Option<&Path>) -> Option<String> {
        let found = find(path, &std::env::vars_os().collect(), &USUAL_FILES.map(Path::new));
        found.is_none().then(no_file)
    }

    fn validate(&self, problems: &mut Problems) {
        self.broker.validate(problems);
        self.database.validate(problems);
        self.mail.validate(problems);
        site::validate(&self.sites, problems);
        self.password_reset.validate(problems);
        self.invite.validate(problems);
        self.verification.validate(problems);
        self.temporary_password.validate(problems);
        self.login.validate(problems);
        self.sessions.validate(problems);
        self.password.validate(problems);
        self.events.validate(problems);
        self.health.validate(problems);
        self.shutdown.validate(problems);
        self.retention.validate(problems);
        self.log.validate(problems);
        access::validate(&self.publishers, &self.roles, problems);
    }

    /// Checks that nothing is missing that the daemon needs: somebody who may send commands, and a site for links.
    ///
    /// # Errors
    /// All that is missing, with what to write.
    pub fn validate_for_run(&self) -> Result<(), ConfigError> {
        let mut problems = Problems::with_origins(&self.origins);
        access::missing(&self.publishers, &mut problems);
        site::missing(&self.sites, &mut problems);
        self.password.policy.missing(&mut problems);
        if self.source.is_none() && !problems.is_empty() {
            problems.say(no_file());
        }
        problems.into_result()
    }
}

fn no_file() -> String {
    format!("there is no configuration file: looked for {}", USUAL_FILES.join(", "))
}

/// The file to read, and how it was chosen.
fn find(path: Option<&Path>, variables: &Variables, usual: &[&Path]) -> Option<(PathBuf, &'static str)> {
    if let Some(path) = path {
        return Some((path.to_owned(), "given by --config"));
    }
    let named = variables.get(OsStr::new(FILE_VARIABLE)).filter(|path| !path.is_empty());
    if let Some(path) = named {
        return Some((path.into(), "named by REGRANT_CONFIG"));
    }
    usual
        .iter()
        // One that exists but cannot be looked at must not be passed over in silence.
        .find(|path| path.try_exists().unwrap_or(true))
        .map(|path| (path.to_path_buf(), "found there"))
}
