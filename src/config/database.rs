//! `[database]`: where everything is kept.

use secrecy::{ExposeSecret, SecretString};

use super::{
    Problems,
    visit::{Section, Visitor},
};

/// `[database]`: PostgreSQL.
#[derive(Clone, Debug)]
pub struct Database {
    /// Where the database is, with user and password. Also as `url_file`. Default `postgres://localhost/regrant`.
    pub url: SecretString,
    /// The maximum number of connections, 1 to 1000. Default 16.
    pub max_connections: usize,
    /// Whether the daemon brings the schema up to date when it starts. Default true.
    pub migrate_on_start: bool,
}

impl Default for Database {
    fn default() -> Self {
        Self { url: "postgres://localhost/regrant".into(), max_connections: 16, migrate_on_start: true }
    }
}

impl Section for Database {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.secret_url("url", &mut self.url);
        visitor.field("max_connections", &mut self.max_connections);
        visitor.field("migrate_on_start", &mut self.migrate_on_start);
    }
}

impl Database {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let url = self.url.expose_secret();
        let scheme = url.starts_with("postgres://") || url.starts_with("postgresql://");
        // The driver's own reader knows what a URL parser does not: several hosts, sockets, its parameters.
        problems.check(
            scheme && url.parse::<tokio_postgres::Config>().is_ok(),
            "database.url",
            "the value is not a PostgreSQL URL; write postgres://user:password@host:5432/database, with special \
             characters in the password as %XX, and only parameters that the driver knows",
        );
        problems.range(self.max_connections, 1..=1000, "database.max_connections");
    }
}
