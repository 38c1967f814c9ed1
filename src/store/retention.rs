//! Deletes what is past its time, in bounded steps: each statement takes at most [`STEP`] rows by an index, so that a lane
//! never waits for it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::config::Retention;
use crate::ids;

use super::Error;

/// Rows a statement.
pub const STEP: i64 = 2000;

/// An array, not a join: the planner then looks each row up, whatever it believes about the table's size.
///
/// Histories are deleted by key range: their ids are in order of time.
const BY_ID: [(&str, &str); 3] = [
    (
        "email_attempts",
        "delete from email_attempts where ctid = any(array(select ctid from email_attempts where email_id < $1 order by email_id limit $2))",
    ),
    (
        "emails",
        "delete from emails where id = any(array(select id from emails where id < $1 and state <> 'queued' order by id limit $2))",
    ),
    (
        "activity",
        "delete from activity where id = any(array(select id from activity where id < $1 order by id limit $2))",
    ),
];

/// Closed or expired ones only: an open ticket outlives its retention if its lifetime says so.
const TICKETS: &str = "delete from tickets where id = any(array(select id from tickets where id < $1 and (state <> 'open' or expires_at < $3) order by id limit $2))";

const SESSIONS: &str = "delete from sessions where id = any(array(select id from sessions where id < $1 and (ended_at is not null or expires_at < $3) order by id limit $2))";

const INBOX: &str = "delete from inbox where key = any(array(select key from inbox where received_at < $1 order by received_at limit $2))";

/// One step over every table; returns how many rows went. Called again at once while it is a full step.
///
/// # Errors
/// When the database fails.
pub async fn step(
    connection: &mut AsyncPgConnection,
    rules: &Retention,
    session_lifetime: Duration,
    now: DateTime<Utc>,
) -> Result<usize, Error> {
    let mut most = 0;
    for (table, statement) in BY_ID {
        let age = if table == "activity" { rules.activity } else { rules.emails };
        let deleted = diesel::sql_query(statement)
            .bind::<SqlUuid, _>(ids::floor(now - age))
            .bind::<BigInt, _>(STEP)
            .execute(connection)
            .await?;
        most = most.max(deleted);
    }
    for (statement, age) in [(TICKETS, rules.tickets), (SESSIONS, session_lifetime)] {
        let deleted = diesel::sql_query(statement)
            .bind::<SqlUuid, _>(ids::floor(now - age))
            .bind::<BigInt, _>(STEP)
            .bind::<Timestamptz, _>(now)
            .execute(connection)
            .await?;
        most = most.max(deleted);
    }
    let deleted = diesel::sql_query(INBOX)
        .bind::<Timestamptz, _>(now - rules.commands)
        .bind::<BigInt, _>(STEP)
        .execute(connection)
        .await?;
    Ok(most.max(deleted))
}

/// Limits have no order of time: a sweep walks their keys, a step at a time, and forgets those that no rule looks back to.
/// Returns where the next step begins.
///
/// # Errors
/// When the database fails.
pub async fn sweep_limits(connection: &mut AsyncPgConnection, from: Uuid, now: DateTime<Utc>) -> Result<Uuid, Error> {
    #[derive(diesel::QueryableByName)]
    struct Last {
        #[diesel(sql_type = diesel::sql_types::Nullable<SqlUuid>)]
        last: Option<Uuid>,
    }
    // No window is longer than a day.
    let old = now - Duration::from_secs(2 * 86_400);
    let row: Last = diesel::sql_query(
        "with step as (select key, last_at from rate_limits where key > $1 order by key limit $2), \
         gone as (delete from rate_limits where key = any(array(select key from step where last_at < $3))) \
         select (select key from step order by key desc limit 1) as last",
    )
    .bind::<SqlUuid, _>(from)
    .bind::<BigInt, _>(STEP)
    .bind::<Timestamptz, _>(old)
    .get_result(connection)
    .await?;
    Ok(row.last.unwrap_or(Uuid::nil()))
}
