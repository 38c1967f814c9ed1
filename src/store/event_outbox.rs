//! `event_outbox`: events that are committed but not yet confirmed by the broker.
//!
//! Events of one person leave in order: the person's row is locked while their event is written, so a later event has a
//! larger `seq`; and one relay at a time, of all daemons, takes rows in the order of `seq`.
//!
//! What became of a mail is written without that lock. It still comes after what asked for the mail (committed before the
//! attempt) and before what was done because of it; a command that knows nothing of it may be told of before or after.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::events::Queued;

use super::Error;
use super::schema::event_outbox;
use super::statement::{column, in_one_go, statement};

/// The advisory lock of the one relay: "regrant" as a number, so that it meets no other application's.
const RELAY_LOCK: i64 = 0x0072_6567_7261_6e74;

/// A waiting event.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = event_outbox, check_for_backend(diesel::pg::Pg))]
pub struct Waiting {
    /// Its place in the order.
    pub seq: i64,
    /// Whom it is about.
    pub subject: String,
    /// The routing key.
    pub name: String,
    /// The `CloudEvent`.
    pub body: String,
}

/// Queues events in their order.
///
/// # Errors
/// When the database fails.
pub async fn insert(mut connection: &AsyncPgConnection, events: &[Queued], now: DateTime<Utc>) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    statement(
        "insert into event_outbox (subject, name, body, created_at) \
         select subject, name, body, ? from unnest(?, ?, ?) with ordinality as e(subject, name, body, place) order by place",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Array<Text>, _>(column(events, |event| event.subject.as_str()))
    .bind::<Array<Text>, _>(column(events, |event| event.name))
    .bind::<Array<Text>, _>(column(events, |event| event.body.as_str()))
    .execute(&mut connection)
    .await?;
    Ok(())
}

/// The oldest waiting events, if this transaction may relay: another's may be at it. If the database server crashes, what it
/// deleted last may be there again: nobody waits until that is on disk, since an event may be published twice and none is lost.
///
/// # Errors
/// When the database fails.
pub async fn lead(connection: &AsyncPgConnection, limit: i64) -> Result<Option<Vec<Waiting>>, Error> {
    #[derive(QueryableByName)]
    struct Got {
        #[diesel(sql_type = Bool)]
        got: bool,
    }
    let lock = statement("select pg_try_advisory_xact_lock(?) as got, set_config('synchronous_commit', 'off', true)")
        .bind::<BigInt, _>(RELAY_LOCK);
    let oldest = event_outbox::table.order(event_outbox::seq).limit(limit).select(Waiting::as_select());
    let (mut first, mut second) = (connection, connection);
    // What is read is what there is once the lock is held.
    let (Got { got }, waiting) = in_one_go!(lock.get_result(&mut first), oldest.load(&mut second));
    Ok(got.then_some(waiting))
}

/// Whether no event waits.
///
/// # Errors
/// When the database fails.
pub async fn is_empty(connection: &mut AsyncPgConnection) -> Result<bool, Error> {
    let first = event_outbox::table.order(event_outbox::seq).select(event_outbox::seq);
    Ok(first.first::<i64>(connection).await.optional()?.is_none())
}

/// Forgets events that the broker confirmed.
///
/// # Errors
/// When the database fails.
pub async fn delete(connection: &mut AsyncPgConnection, seqs: &[i64]) -> Result<(), Error> {
    diesel::delete(event_outbox::table.filter(event_outbox::seq.eq_any(seqs))).execute(connection).await?;
    Ok(())
}

/// How many events wait, and since when the oldest.
#[derive(QueryableByName)]
pub struct Backlog {
    /// Waiting events, counted up to 100,000.
    #[diesel(sql_type = BigInt)]
    pub pending: i64,
    /// When the oldest was written.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub oldest: Option<DateTime<Utc>>,
}

/// The backlog; bounded, so that it costs the same whatever waits.
///
/// # Errors
/// When the database fails.
pub async fn backlog(connection: &mut AsyncPgConnection) -> Result<Backlog, Error> {
    Ok(statement(
        "select (select count(*) from (select 1 from event_outbox limit 100000) q) as pending, \
         (select created_at from event_outbox order by seq limit 1) as oldest",
    )
    .get_result(connection)
    .await?)
}
