//! `activity`: every command that touched a person, refused ones too.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::Error;
use super::schema::activity;

/// A row to be written.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = activity)]
pub struct NewActivity {
    /// Its id, in order of time.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// The command.
    pub kind: String,
    /// Whom it touched.
    pub user_id: Option<String>,
    /// Who acted.
    pub actor: Option<String>,
    /// Which publisher sent it.
    pub publisher: String,
    /// The message id.
    pub command_id: Option<String>,
    /// `ok` or an error code.
    pub outcome: String,
    /// Where the person was.
    pub ip: Option<String>,
    /// Keyed hash of an address that nobody has.
    pub subject_key: Option<Uuid>,
    /// More; no secret.
    pub details: serde_json::Value,
}

/// Writes rows.
///
/// # Errors
/// When the database fails.
pub async fn insert(connection: &mut AsyncPgConnection, rows: &[NewActivity]) -> Result<(), Error> {
    for chunk in rows.chunks(4000) {
        diesel::insert_into(activity::table).values(chunk.to_vec()).execute(connection).await?;
    }
    Ok(())
}
