//! `sessions`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::domain::session::Session;

use super::Error;
use super::schema::{sessions, users};
use super::statement::{column, statement};

#[derive(Queryable, Selectable)]
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
pub async fn owners(mut connection: &AsyncPgConnection, ids: &BTreeSet<Uuid>) -> Result<Vec<String>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sessions::table.filter(sessions::id.eq_any(ids)).select(sessions::user_id).load(&mut connection).await?)
}

/// Live sessions of people (if asked), and the named ones in any state.
///
/// # Errors
/// When the database fails.
pub async fn load(
    mut connection: &AsyncPgConnection,
    users: &[&str],
    named: &BTreeSet<Uuid>,
    live: bool,
) -> Result<Vec<Session>, Error> {
    let mut rows: Vec<Row> = Vec::new();
    if live && !users.is_empty() {
        rows = sessions::table
            .filter(sessions::user_id.eq_any(users).and(sessions::ended_at.is_null()))
            .select(Row::as_select())
            .load(&mut connection)
            .await?;
    }
    if !named.is_empty() {
        rows.extend(
            sessions::table.filter(sessions::id.eq_any(named)).select(Row::as_select()).load(&mut connection).await?,
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
    mut connection: &AsyncPgConnection,
    changed: impl Iterator<Item = &'a Session>,
) -> Result<(), Error> {
    let sessions: Vec<&Session> = changed.filter(|session| session.dirty).collect();
    if sessions.is_empty() {
        return Ok(());
    }
    statement(
        "insert into sessions (id, user_id, created_at, expires_at, ended_at, end_reason, impersonated_by) \
         select * from unnest(?, ?, ?, ?, ?, ?, ?) \
         on conflict (id) do update set ended_at = excluded.ended_at, end_reason = excluded.end_reason",
    )
    .bind::<Array<SqlUuid>, _>(column(&sessions, |session| session.id))
    .bind::<Array<Text>, _>(column(&sessions, |session| session.user_id.as_str()))
    .bind::<Array<Timestamptz>, _>(column(&sessions, |session| session.created_at))
    .bind::<Array<Timestamptz>, _>(column(&sessions, |session| session.expires_at))
    .bind::<Array<Nullable<Timestamptz>>, _>(column(&sessions, |session| session.ended_at))
    .bind::<Array<Nullable<Text>>, _>(column(&sessions, |session| session.end_reason.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column(&sessions, |session| session.impersonated_by.as_deref()))
    .execute(&mut connection)
    .await?;
    Ok(())
}
