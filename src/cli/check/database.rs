//! PostgreSQL: reachable, writable, of the right schema, with the rights that the daemon's statements need, on time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Bool, Int4, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use secrecy::ExposeSecret;
use tokio_postgres::config::Host;

use crate::config::Config;
use crate::store::{Error, TABLES, migrations, pool, search};

use super::{Fault, Finding, Found, advice};

/// More than this and something is wrong with a clock.
const SKEW: Duration = Duration::from_secs(2);
/// More than this and commands are refused for their timestamp (`invalid_message`).
const MUCH_SKEW: Duration = Duration::from_secs(5 * 60);

const SETTING: &str = "database.url";

/// What to do where the migration could not make the index.
const NO_TRIGRAMS: &str = "user.search reads everybody, for want of an index. As a superuser `create extension pg_trgm`, \
                           then `create index concurrently users_search on users using gin \
                           (users_search_text(username_key, email_key, display_name) gin_trgm_ops)`";

/// The server, role and database of `database.url`.
struct Asked {
    address: String,
    role: String,
    name: String,
}

impl Asked {
    fn of(config: &Config) -> Self {
        let url: tokio_postgres::Config = config.database.url.expose_secret().parse().unwrap_or_default();
        let ports = url.get_ports();
        let hosts = url.get_hosts().iter().enumerate().map(|(number, host)| {
            let port = ports.get(number).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(host) => format!("{host}:{port}"),
                Host::Unix(path) => format!("{}/.s.PGSQL.{port}", path.display()),
            }
        });
        let role = url.get_user().map_or_else(|| std::env::var("USER").unwrap_or_default(), str::to_owned);
        let name = url.get_dbname().unwrap_or(&role).to_owned();
        Self { address: hosts.collect::<Vec<_>>().join(", "), role, name }
    }

    fn advice(&self, answer: &str) -> String {
        let place = advice::Place { server: "PostgreSQL", address: &self.address, setting: SETTING };
        advice::database(answer, advice::Database { place, role: &self.role, name: &self.name })
    }
}

/// What is tried.
pub fn tried(config: &Config) -> String {
    let Asked { address, role, name } = Asked::of(config);
    format!("PostgreSQL at {address}, database `{name}`, as `{role}`")
}

/// Connects, and looks.
pub async fn check(config: &Config) -> Finding {
    let asked = Asked::of(config);
    let refused = |error: Error| {
        let answer = words(&error);
        let advice = asked.advice(&answer);
        Fault::new(answer, advice)
    };
    let mut connection = pool::connect(&config.database.url).await.map_err(refused)?;
    let facts = Facts::ask(&mut connection).await.map_err(refused)?;
    facts.is_usable(&asked)?;
    let pending = migrations::pending(&config.database.url).await.map_err(|error| {
        let advice = format!("grant create on schema public to {}, or run `regrant migrate` as the owner.", asked.role);
        Fault::new(words(&error), advice)
    })?;
    let mut found = Found::new(format!("PostgreSQL {} answers", facts.version));
    found.warnings = facts.warnings(config, &asked);
    if !pending.is_empty() {
        let strange = migrations::in_the_way(&mut connection).await.map_err(refused)?;
        if !strange.is_empty() {
            let answer = format!("somebody else's tables are in the way: {}", strange.join(", "));
            let advice = format!("Give regrant a database of its own (create database …), and name that in {SETTING}.");
            return Err(Fault::new(answer, advice));
        }
        let missing = format!("the schema lacks {}", pending.join(", "));
        if !config.database.migrate_on_start {
            return Err(Fault::new(missing, "Run `regrant migrate`, as the role that owns the tables."));
        }
        if !facts.may_create {
            let advice = format!(
                "Run `regrant migrate` as the role that owns the tables, or: grant create on schema {} to {}.",
                facts.schema.as_deref().unwrap_or("public"),
                asked.role
            );
            return Err(Fault::new(format!("{missing}, and `{}` may not make tables", asked.role), advice));
        }
        found.said =
            format!("{}; {missing}: the next start brings it up to date (database.migrate_on_start)", found.said);
        return Ok(found);
    }
    let lacking = rights(&mut connection).await.map_err(refused)?;
    if !lacking.is_empty() {
        let advice = format!(
            "As the owner: grant select, insert, update, delete on all tables in schema {} to {}.",
            facts.schema.as_deref().unwrap_or("public"),
            asked.role
        );
        return Err(Fault::new(format!("`{}` may not {}", asked.role, lacking.join("; ")), advice));
    }
    found.said.push_str(", the schema is up to date");
    for index in migrations::unfinished_indexes(&mut connection).await.map_err(refused)? {
        found.warnings.push(format!(
            "the index `{index}` is of no use: it is being made now, or that was cut short. In the latter case, as the owner: \
             reindex index concurrently {index}"
        ));
    }
    if !search::is_indexed(&mut connection).await.map_err(refused)? {
        found.warnings.push(NO_TRIGRAMS.to_owned());
    }
    Ok(found)
}

/// Without what every error of the store begins with.
fn words(error: &Error) -> String {
    match error {
        Error::Unavailable(text) | Error::Conflict(text) | Error::Locked(text) | Error::Failed(text) => text.clone(),
    }
}

/// What the server says about itself.
struct Facts {
    version: String,
    read_only: bool,
    standby: bool,
    encoding: String,
    language: String,
    connections: i32,
    schema: Option<String>,
    may_create: bool,
    /// The database's clock minus ours, in milliseconds.
    skew: i64,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = Bool)]
    read_only: bool,
    #[diesel(sql_type = Bool)]
    standby: bool,
    #[diesel(sql_type = Text)]
    encoding: String,
    #[diesel(sql_type = Text)]
    language: String,
    #[diesel(sql_type = Int4)]
    connections: i32,
    #[diesel(sql_type = Nullable<Text>)]
    schema: Option<String>,
    #[diesel(sql_type = Bool)]
    may_create: bool,
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
}

impl Facts {
    async fn ask(connection: &mut AsyncPgConnection) -> Result<Self, Error> {
        let before = crate::clock::now();
        let row: Row = diesel::sql_query(
            "select split_part(current_setting('server_version'), ' ', 1) as version, \
             current_setting('transaction_read_only') = 'on' as read_only, pg_is_in_recovery() as standby, \
             getdatabaseencoding()::text as encoding, current_setting('lc_messages') as language, \
             least(current_setting('max_connections')::int4 - current_setting('superuser_reserved_connections')::int4, \
             (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user)) as connections, \
             current_schema()::text as schema, coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create, \
             clock_timestamp() as at",
        )
        .get_result(connection)
        .await?;
        let between = before + (crate::clock::now() - before) / 2;
        let Row { version, read_only, standby, encoding, language, connections, schema, may_create, at } = row;
        let skew = (at - between).num_milliseconds();
        Ok(Self { version, read_only, standby, encoding, language, connections, schema, may_create, skew })
    }

    fn is_usable(&self, asked: &Asked) -> Result<(), Fault> {
        if self.standby {
            return Err(Fault::new("it is a standby and takes no writes", format!("Name the primary in {SETTING}.")));
        }
        if self.read_only {
            let advice = format!(
                "Find out who set default_transaction_read_only (show; alter database {} reset default_transaction_read_only), or \
                 name another server in {SETTING}.",
                asked.name
            );
            return Err(Fault::new("it is read-only", advice));
        }
        if self.schema.is_none() {
            let advice =
                format!("create schema if not exists public; grant usage, create on schema public to {}.", asked.role);
            return Err(Fault::new("there is no schema in the search_path that this role may use", advice));
        }
        if self.skew.unsigned_abs() > millis(MUCH_SKEW) {
            return Err(Fault::new(
                self.clocks(),
                "Set both clocks by NTP (timedatectl): timestamps and leases depend on them.",
            ));
        }
        Ok(())
    }

    fn warnings(&self, config: &Config, asked: &Asked) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.skew.unsigned_abs() > millis(SKEW) {
            warnings.push(format!("{}: set both by NTP (timedatectl)", self.clocks()));
        }
        if self.encoding != "UTF8" {
            warnings.push(format!(
                "the database's encoding is {}: names beyond it cannot be stored; make it with UTF8",
                self.encoding
            ));
        }
        // Empty is what the server's environment says, which without a language is C.
        let english =
            ["C", "POSIX", "en"].iter().any(|name| self.language.starts_with(name)) || self.language.is_empty();
        if !english {
            warnings.push(format!(
                "its messages are in {}, and the daemon tells an outage from a command's failure by their English words: \
                 as a superuser, alter role {} set lc_messages = 'C'",
                self.language, asked.role
            ));
        }
        // Health and migrations have connections of their own.
        let wanted = config.database.max_connections + 2;
        if i64::from(self.connections) < i64::try_from(wanted).unwrap_or(i64::MAX) {
            warnings.push(format!(
                "a daemon may want {wanted} connections (database.max_connections), and this role gets {} in all",
                self.connections
            ));
        }
        warnings
    }

    fn clocks(&self) -> String {
        let way = if self.skew > 0 { "ahead of" } else { "behind" };
        let seconds = Duration::from_millis(self.skew.unsigned_abs()).as_secs_f64();
        format!("the database's clock is {seconds:.1} s {way} this machine's")
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the role may not do to which tables, one text a table.
async fn rights(connection: &mut AsyncPgConnection) -> Result<Vec<String>, Error> {
    #[derive(QueryableByName)]
    struct Lacking {
        #[diesel(sql_type = Text)]
        relation: String,
        #[diesel(sql_type = Text)]
        privileges: String,
    }
    let lacking: Vec<Lacking> = diesel::sql_query(
        "select t as relation, string_agg(p, ', ' order by n) as privileges from unnest($1) t, \
         unnest(array['select', 'insert', 'update', 'delete']) with ordinality as privilege(p, n) \
         where to_regclass(t) is null or not has_table_privilege(to_regclass(t), p) group by t order by t",
    )
    .bind::<Array<Text>, _>(TABLES.map(str::to_owned).to_vec())
    .load(connection)
    .await?;
    Ok(lacking.into_iter().map(|row| format!("{} on {}", row.privileges, row.relation)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            version: "15.8".into(),
            read_only: false,
            standby: false,
            encoding: "UTF8".into(),
            language: "en_US.UTF-8".into(),
            connections: 100,
            schema: Some("public".into()),
            may_create: true,
            skew: 10,
        }
    }

    fn asked() -> Asked {
        Asked { address: "db:5432".into(), role: "reg".into(), name: "people".into() }
    }

    #[test]
    fn a_sound_server_is_usable_without_a_word() {
        assert!(facts().is_usable(&asked()).is_ok());
        assert_eq!(facts().warnings(&Config::default(), &asked()), Vec::<String>::new());
    }

    #[test]
    fn what_keeps_a_daemon_from_working_is_a_fault() {
        for (facts, answer, advice) in [
            (Facts { standby: true, ..facts() }, "standby", "primary"),
            (Facts { read_only: true, ..facts() }, "read-only", "alter database people"),
            (Facts { schema: None, ..facts() }, "search_path", "to reg"),
            (Facts { skew: -301_000, ..facts() }, "301.0 s behind", "NTP"),
        ] {
            let fault = facts.is_usable(&asked()).unwrap_err();
            assert!(fault.answer.contains(answer) && fault.advice.contains(advice), "{fault:?}");
        }
    }

    #[test]
    fn what_will_hurt_later_is_a_warning() {
        for (facts, expected) in [
            (Facts { skew: 2500, ..facts() }, "2.5 s ahead of"),
            (Facts { encoding: "SQL_ASCII".into(), ..facts() }, "SQL_ASCII"),
            (Facts { language: "de_DE.UTF-8".into(), ..facts() }, "alter role reg set lc_messages = 'C'"),
            (Facts { connections: 10, ..facts() }, "this role gets 10"),
        ] {
            let warnings = facts.warnings(&Config::default(), &asked());
            assert!(warnings.len() == 1 && warnings[0].contains(expected), "{warnings:?}");
        }
    }

    #[test]
    fn what_is_tried_names_everything_but_the_password() {
        let mut config = Config::default();
        config.database.url = "postgres://reg:hunter2@db.example.com:6432/people".into();
        assert_eq!(tried(&config), "PostgreSQL at db.example.com:6432, database `people`, as `reg`");
        config.database.url = "not a url with hunter2".into();
        assert!(!tried(&config).contains("hunter2"));
    }
}
