//! `inbox`: what each command was answered.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::Error;
use super::schema::inbox;

/// An answered command.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = inbox, check_for_backend(diesel::pg::Pg))]
pub struct Answered {
    /// Keyed hash of publisher and message id.
    pub key: Uuid,
    /// Keyed hash of command and body.
    pub fingerprint: Uuid,
    /// The reply, without secrets.
    pub reply: serde_json::Value,
    /// When it was processed.
    pub received_at: DateTime<Utc>,
}

/// Those of the keys that were answered before.
///
/// # Errors
/// When the database fails.
pub async fn find(connection: &mut AsyncPgConnection, keys: &[Uuid]) -> Result<Vec<Answered>, Error> {
    Ok(inbox::table.filter(inbox::key.eq_any(keys)).select(Answered::as_select()).load(connection).await?)
}

/// Records answers.
///
/// # Errors
/// [`Error::Conflict`] when another daemon answered one of them at the same time: the whole transaction is undone, and
/// its repetition finds the other's answer.
pub async fn insert(connection: &mut AsyncPgConnection, rows: &[Answered]) -> Result<(), Error> {
    if !rows.is_empty() {
        let mut rows = rows.to_vec();
        // One order for all daemons: two that hold the same repeated messages cannot wait for each other in a circle.
        rows.sort_by_key(|row| row.key);
        diesel::insert_into(inbox::table).values(rows).execute(connection).await?;
    }
    Ok(())
}
