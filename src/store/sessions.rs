//! `sessions`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::domain::session::Session;

use super::Error;
use super::schema::{sessions, users};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = sessions, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: Uuid,
    user_id: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    end_reason: Option<String>,
    impersonated_by: Option<String>,
}

impl From<Row> for Session {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            user_id: row.user_id,
            created_at: row.created_at,
            expires_at: row.expires_at,
            ended_at: row.ended_at,
            end_reason: row.end_reason,
            impersonated_by: row.impersonated_by,
            dirty: false,
        }
    }
}

impl From<&Session> for Row {
    fn from(session: &Session) -> Self {
        let session = session.clone();
        Self {
            id: session.id,
            user_id: session.user_id,
            created_at: session.created_at,
            expires_at: session.expires_at,
            ended_at: session.ended_at,
            end_reason: session.end_reason,
            impersonated_by: session.impersonated_by,
        }
    }
}

/// What `session.check` needs to know.
pub struct Checked {
    /// The session.
    pub session: Session,
    /// Its owner's epoch.
    pub session_epoch: i64,
    /// Whether the owner is active and not blocked.
    pub user_may_sign_in: bool,
}

/// A session and what its owner's account says of it.
///
/// # Errors
/// When the database fails.
pub async fn check(connection: &mut AsyncPgConnection, id: Uuid) -> Result<Option<Checked>, Error> {
    let row: Option<(Row, i64, bool, bool)> = sessions::table
        .inner_join(users::table.on(users::id.eq(sessions::user_id)))
        .filter(sessions::id.eq(id))
        .select((Row::as_select(), users::session_epoch, users::active, users::blocked))
        .first(connection)
        .await
        .optional()?;
    Ok(row.map(|(row, session_epoch, active, blocked)| Checked {
        session: row.into(),
        session_epoch,
        user_may_sign_in: active && !blocked,
    }))
}

/// Who owns these sessions.
///
/// # Errors
/// When the database fails.
pub async fn owners(connection: &mut AsyncPgConnection, ids: &BTreeSet<Uuid>) -> Result<Vec<String>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sessions::table.filter(sessions::id.eq_any(ids)).select(sessions::user_id).load(connection).await?)
}

/// Live sessions of people (if asked), and the named ones in any state.
///
/// # Errors
/// When the database fails.
pub async fn load(
    connection: &mut AsyncPgConnection,
    users: &[&str],
    named: &BTreeSet<Uuid>,
    live: bool,
) -> Result<Vec<Session>, Error> {
    let mut rows: Vec<Row> = Vec::new();
    if live && !users.is_empty() {
        rows = sessions::table
            .filter(sessions::user_id.eq_any(users).and(sessions::ended_at.is_null()))
            .select(Row::as_select())
            .load(connection)
            .await?;
    }
    if !named.is_empty() {
        rows.extend(
            sessions::table.filter(sessions::id.eq_any(named)).select(Row::as_select()).load(connection).await?,
        );
    }
    rows.sort_by_key(|row| row.id);
    rows.dedup_by_key(|row| row.id);
    Ok(rows.into_iter().map(Session::from).collect())
}

/// Writes new and ended sessions in one statement.
///
/// # Errors
/// When the database fails.
pub async fn write<'a>(
    connection: &mut AsyncPgConnection,
    changed: impl Iterator<Item = &'a Session>,
) -> Result<(), Error> {
    let rows: Vec<Row> = changed.filter(|s| s.dirty).map(Row::from).collect();
    // A statement has at most 65,535 parameters.
    for rows in rows.chunks(5000).map(|rows| rows.iter().collect::<Vec<_>>()) {
        diesel::insert_into(sessions::table)
            .values(rows)
            .on_conflict(sessions::id)
            .do_update()
            .set((
                sessions::ended_at.eq(excluded(sessions::ended_at)),
                sessions::end_reason.eq(excluded(sessions::end_reason)),
            ))
            .execute(connection)
            .await?;
    }
    Ok(())
}
