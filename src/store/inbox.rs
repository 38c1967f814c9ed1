//! `inbox`: what each command was answered.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, Jsonb, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::rejection::Outcome;
use crate::keys::KeyRing;

use super::Error;
use super::schema::inbox;
use super::statement::{column, statement};

/// An answered command.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = inbox, check_for_backend(diesel::pg::Pg))]
pub struct Answered {
    /// Keyed hash of publisher and message id.
    pub key: Uuid,
    /// Keyed hash of command and body.
    pub fingerprint: Uuid,
    /// The reply, without secrets and without the message id.
    pub reply: serde_json::Value,
    /// When it was processed.
    pub received_at: DateTime<Utc>,
}

/// Under what the answer to a message is remembered: keyed, because message ids may name people.
pub fn key(keys: &KeyRing, publisher: &str, message_id: &str) -> Uuid {
    Uuid::from_bytes(keys.fingerprint("inbox.key", &[publisher.as_bytes(), message_id.as_bytes()]))
}

/// What is remembered of an answer about somebody who was erased since: how it ended, and nothing of whom.
pub fn forgotten(outcome: &str) -> Value {
    if outcome == Outcome::Done.as_str() {
        return json!({ "ok": true, "result": { "person_erased": true } });
    }
    let message = "the person whom this was about was erased since";
    json!({ "ok": false, "error": { "code": outcome, "message": message, "details": { "person_erased": true } } })
}

/// What is known of keys.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that were answered before.
    pub answered: HashMap<Uuid, Answered>,
    /// Those whose answer is past its time: as good as forgotten, though no sweep has come by yet.
    pub outdated: Vec<Uuid>,
}

impl Found {
    fn of(rows: Vec<Answered>, since: DateTime<Utc>) -> Self {
        let mut found = Self::default();
        for row in rows {
            if row.received_at < since {
                found.outdated.push(row.key);
            } else {
                found.answered.insert(row.key, row);
            }
        }
        found
    }
}

/// Those of the keys that were answered before; answers from before `since` are past their time.
///
/// # Errors
/// When the database fails.
pub async fn find(mut connection: &AsyncPgConnection, keys: &[Uuid], since: DateTime<Utc>) -> Result<Found, Error> {
    let rows = inbox::table.filter(inbox::key.eq_any(keys)).select(Answered::as_select()).load(&mut connection).await?;
    Ok(Found::of(rows, since))
}

/// Makes room for new answers in the place of those that are past their time. Another daemon that does the same at once is waited for,
/// and then [`insert`] finds its answer.
///
/// # Errors
/// When the database fails.
pub async fn remove(connection: &mut AsyncPgConnection, outdated: &[Uuid], since: DateTime<Utc>) -> Result<(), Error> {
    if outdated.is_empty() {
        return Ok(());
    }
    statement("delete from inbox where key = any(?) and received_at < ?")
        .bind::<Array<SqlUuid>, _>(outdated)
        .bind::<Timestamptz, _>(since)
        .execute(connection)
        .await?;
    Ok(())
}

/// Records answers.
///
/// # Errors
/// [`Error::Conflict`] when another daemon answered one of them at the same time: the whole transaction is undone, and
/// its repetition finds the other's answer.
pub async fn insert(mut connection: &AsyncPgConnection, rows: &[Answered]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<&Answered> = rows.iter().collect();
    // One order for all daemons: two that hold the same repeated messages cannot wait for each other in a circle.
    rows.sort_by_key(|row| row.key);
    statement("insert into inbox (key, fingerprint, reply, received_at) select * from unnest(?, ?, ?, ?)")
        .bind::<Array<SqlUuid>, _>(column(&rows, |row| row.key))
        .bind::<Array<SqlUuid>, _>(column(&rows, |row| row.fingerprint))
        .bind::<Array<Jsonb>, _>(column(&rows, |row| &row.reply))
        .bind::<Array<Timestamptz>, _>(column(&rows, |row| row.received_at))
        .execute(&mut connection)
        .await?;
    Ok(())
}

/// Replaces what is remembered of answers; those that are past their time are left alone.
///
/// # Errors
/// When the database fails.
pub async fn forget(connection: &mut AsyncPgConnection, answers: &[(Uuid, Value)]) -> Result<(), Error> {
    if answers.is_empty() {
        return Ok(());
    }
    statement("update inbox i set reply = r.reply from unnest(?, ?) as r(key, reply) where i.key = r.key")
        .bind::<Array<SqlUuid>, _>(column(answers, |(key, _)| *key))
        .bind::<Array<Jsonb>, _>(column(answers, |(_, reply)| reply))
        .execute(connection)
        .await?;
    Ok(())
}
