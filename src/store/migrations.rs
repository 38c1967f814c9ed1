//! The schema's versions, built into the binary.

use std::collections::BTreeSet;
use std::time::Duration;

use diesel::QueryableByName;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::sql_types::{Array, Bool, Text};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use secrecy::SecretString;

use super::{Error, TABLES, pool};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// The advisory lock that lets one of several starting daemons migrate while the others wait. They ask again and again: one
/// that waited inside a statement would hold a snapshot, which `create index concurrently` waits for.
const LOCK: &str = "select pg_try_advisory_lock(7234024361234) as locked";

/// How often the others ask.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// Brings the schema up to date; returns the versions that were applied. Needs a multi-threaded runtime.
///
/// # Errors
/// [`Error::Unavailable`] when the server is away, [`Error::Failed`] when a migration fails: it is rolled back.
pub async fn run(url: &SecretString) -> Result<Vec<String>, Error> {
    // A connection of its own, which ends with the function: so does the lock.
    let mut connection: AsyncPgConnection = pool::connect(url).await?;
    // Where there is nothing to do, a role that may not make tables is enough.
    if lacking(&mut connection).await?.is_empty() {
        return Ok(Vec::new());
    }
    connection.batch_execute("set statement_timeout = 0; set lock_timeout = 0").await?;
    while !diesel::sql_query(LOCK).get_result::<Locked>(&mut connection).await?.locked {
        tokio::time::sleep(AGAIN).await;
    }
    let mut harness = AsyncMigrationHarness::new(connection);
    let applied = harness.run_pending_migrations(MIGRATIONS).map_err(|e| Error::of_words(format!("migration: {e}")))?;
    Ok(applied.iter().map(ToString::to_string).collect())
}

/// Versions that this binary has and the database lacks.
///
/// # Errors
/// As [`run`].
pub async fn pending(url: &SecretString) -> Result<Vec<String>, Error> {
    lacking(&mut pool::connect(url).await?).await
}

/// Not by diesel's own question, which begins with `create table` and needs the right to do that.
pub(super) async fn lacking(connection: &mut AsyncPgConnection) -> Result<Vec<String>, Error> {
    // Not kept across a question to the server: a migration cannot be sent between threads.
    let built_in: Vec<(String, String)> = MigrationSource::<Pg>::migrations(&MIGRATIONS)
        .map_err(|e| Error::of_words(format!("migration: {e}")))?
        .iter()
        .map(|migration| (migration.name().version().to_string(), migration.name().to_string()))
        .collect();
    let known: Known = diesel::sql_query("select to_regclass('__diesel_schema_migrations') is not null as known")
        .get_result(connection)
        .await?;
    let mut applied = BTreeSet::new();
    if known.known {
        let rows: Vec<Applied> = diesel::sql_query("select version::text as version from __diesel_schema_migrations")
            .load(connection)
            .await?;
        applied.extend(rows.into_iter().map(|row| row.version));
    }
    let lacking = built_in.into_iter().filter(|(version, _)| !applied.contains(version));
    Ok(lacking.map(|(_, name)| name).collect())
}

/// Tables with names of ours in a database that no migration has touched: somebody else's, over which the first migration
/// would stumble.
///
/// # Errors
/// As [`run`].
pub async fn in_the_way(connection: &mut AsyncPgConnection) -> Result<Vec<String>, Error> {
    #[derive(QueryableByName)]
    struct Table {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let all = MigrationSource::<Pg>::migrations(&MIGRATIONS).map_or(0, |all| all.len());
    if lacking(connection).await?.len() < all {
        return Ok(Vec::new());
    }
    let tables: Vec<Table> =
        diesel::sql_query("select t as name from unnest($1) t where to_regclass(t) is not null order by t")
            .bind::<Array<Text>, _>(TABLES.map(str::to_owned).to_vec())
            .load(connection)
            .await?;
    Ok(tables.into_iter().map(|table| table.name).collect())
}

#[derive(QueryableByName)]
struct Known {
    #[diesel(sql_type = Bool)]
    known: bool,
}

#[derive(QueryableByName)]
struct Applied {
    #[diesel(sql_type = Text)]
    version: String,
}

/// Indexes that no statement can use. A crash in the middle of `create index concurrently` leaves one behind, which the next
/// migration takes for a good one.
///
/// # Errors
/// When the database fails.
pub async fn unfinished_indexes(connection: &mut AsyncPgConnection) -> Result<Vec<String>, Error> {
    #[derive(QueryableByName)]
    struct Index {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let unfinished: Vec<Index> = diesel::sql_query(
        "select indexrelid::regclass::text as name from pg_index join pg_class on pg_class.oid = indrelid \
         where not indisvalid and pg_table_is_visible(indrelid) order by 1",
    )
    .load(connection)
    .await?;
    Ok(unfinished.into_iter().map(|index| index.name).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// The last schema that was made before there was a release to go on beside it.
    const BEFORE_RELEASES: &str = "2026-11-22-000005";

    /// What the release before, which still runs, would stumble over.
    fn contracts(statement: &str) -> Option<&'static str> {
        let says = |words: &str| statement.contains(words);
        match statement {
            _ if says("drop table") || says("drop column") => Some("drops what it may still use"),
            _ if says(" rename ") => Some("renames what it may still use"),
            _ if says("alter column") && says(" type ") => Some("changes a type"),
            _ if says("set not null") => Some("demands what it may not write"),
            _ if says("add column") && says("not null") && !says("default") => Some("demands what it does not write"),
            _ if says("add constraint") && !says("not valid") => Some("checks a whole table under a lock"),
            _ => None,
        }
    }

    #[test]
    fn migrations_only_expand() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let mut names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert!(names.len() >= 4);
        for name in names.iter().filter_map(|name| name.to_str()).filter(|name| !name.starts_with('.')) {
            let text = fs::read_to_string(directory.join(name).join("up.sql")).unwrap();
            let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
            for statement in code.join(" ").to_lowercase().split(';') {
                let fault = contracts(statement).filter(|_| &name[..BEFORE_RELEASES.len()] > BEFORE_RELEASES);
                assert_eq!(fault, None, "{name}: {statement}");
            }
        }
    }

    #[test]
    fn what_would_stop_the_release_before_is_told_from_what_would_not() {
        for bad in [
            "alter table users drop column email",
            "alter table users rename to people",
            "alter table users alter column email type bytea",
            "alter table users add column x int not null",
            "alter table users add constraint c check (true)",
        ] {
            assert!(contracts(bad).is_some(), "{bad}");
        }
        for good in [
            "create table x (id bigint not null)",
            "alter table users add column x int not null default 0",
            "alter table users add column x text",
            "alter table users add constraint c check (true) not valid",
            "alter table tickets drop constraint tickets_user_id_fkey",
        ] {
            assert_eq!(contracts(good), None, "{good}");
        }
    }
}
