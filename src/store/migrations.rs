//! The schema's versions, built into the binary.

use std::time::Duration;

use diesel::QueryableByName;
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use secrecy::SecretString;

use super::{Error, pool};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// The advisory lock that lets one of several starting daemons migrate while the others wait. They ask again and again: one
/// that waited inside a statement would hold a snapshot, which `create index concurrently` waits for.
const LOCK: &str = "select pg_try_advisory_lock(7234024361234) as locked";

/// How often the others ask.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    locked: bool,
}

/// Brings the schema up to date; returns the versions that were applied. Needs a multi-threaded runtime.
///
/// # Errors
/// [`Error::Unavailable`] when the server is away, [`Error::Failed`] when a migration fails: it is rolled back.
pub async fn run(url: &SecretString) -> Result<Vec<String>, Error> {
    // A connection of its own, which ends with the function: so does the lock.
    let mut connection: AsyncPgConnection = pool::connect(url).await?;
    connection.batch_execute("set statement_timeout = 0; set lock_timeout = 0").await?;
    while !diesel::sql_query(LOCK).get_result::<Locked>(&mut connection).await?.locked {
        tokio::time::sleep(AGAIN).await;
    }
    let mut harness = AsyncMigrationHarness::new(connection);
    let applied = harness.run_pending_migrations(MIGRATIONS).map_err(|e| Error::Failed(format!("migration: {e}")))?;
    Ok(applied.iter().map(ToString::to_string).collect())
}

/// Versions that this binary has and the database lacks.
///
/// # Errors
/// As [`run`].
pub async fn pending(url: &SecretString) -> Result<Vec<String>, Error> {
    let connection: AsyncPgConnection = pool::connect(url).await?;
    let mut harness = AsyncMigrationHarness::new(connection);
    let pending = harness.pending_migrations(MIGRATIONS).map_err(|e| Error::Failed(format!("migration: {e}")))?;
    Ok(pending.iter().map(|m| m.name().to_string()).collect())
}
