//! `event_outbox`: events that are committed but not yet confirmed by the broker.
//!
//! Events of one person leave in order: the person's row is locked while their event is written, so a later event has a
//! larger `seq`, or a later place in the same row; and one relay at a time, of all daemons, takes them in that order.
//!
//! What became of a mail is written without that lock. It still comes after what asked for the mail (committed before the
//! attempt) and before what was done because of it; a command that knows nothing of it may be told of before or after.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::world::QueuedEvent;

use super::Error;
use super::packed_events::{self, Waiting};
use super::schema::event_outbox;
use super::statement::{column, in_one_go, statement};

/// The advisory lock of the one relay: "regrant" as a number, so that it meets no other application's.
const RELAY_LOCK: i64 = 0x0072_6567_7261_6e74;

/// A row: events that were written by one transaction, as text ([`packed_events`]).
#[derive(Debug, Clone, Queryable, QueryableByName, Selectable)]
#[diesel(table_name = event_outbox, check_for_backend(diesel::pg::Pg))]
pub struct Row {
    /// Its place in the order.
    pub seq: i64,
    /// How many events there are.
    pub count: i32,
    /// The events.
    pub events: String,
    /// When they were written.
    pub created_at: DateTime<Utc>,
}

impl Row {
    /// The row's events in their order.
    ///
    /// # Errors
    /// When they were not written by a daemon like this one: one of another version may know them.
    pub fn unpack(&self) -> Result<Vec<Waiting>, Error> {
        packed_events::unpack(&self.events)
            .ok_or_else(|| Error::Failed(format!("the row {} of event_outbox cannot be read", self.seq)))
    }
}

/// Queues events in their order.
///
/// # Errors
/// When the database fails.
pub async fn insert(
    mut connection: &AsyncPgConnection,
    events: &[QueuedEvent],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let rows = packed_events::pack(events);
    statement(
        "insert into event_outbox (count, events, created_at) \
         select count, events, ? from unnest(?, ?) with ordinality as r(count, events, place) order by place",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<Array<Integer>, _>(column(&rows, |row| row.count))
    .bind::<Array<Text>, _>(column(&rows, |row| row.events.as_str()))
    .execute(&mut connection)
    .await?;
    Ok(())
}

/// The oldest rows but those that are passed over, if this transaction may relay: another's may be at it. If the database server
/// crashes, what it deleted last may be there again: nobody waits until that is on disk, since an event may be published twice
/// and none is lost.
///
/// Reading on after the last row would not do instead: a smaller `seq` may be committed later than a larger one.
///
/// # Errors
/// When the database fails.
pub async fn lead(connection: &AsyncPgConnection, limit: i64, passed_over: &[i64]) -> Result<Option<Vec<Row>>, Error> {
    #[derive(QueryableByName)]
    struct Got {
        #[diesel(sql_type = Bool)]
        got: bool,
    }
    let lock = statement("select pg_try_advisory_xact_lock(?) as got, set_config('synchronous_commit', 'off', true)")
        .bind::<BigInt, _>(RELAY_LOCK);
    // A hashed look-up for each row; `<> all` would go through the whole list for each.
    let oldest = statement(
        "select seq, count, events, created_at from event_outbox where seq not in (select unnest(?)) order by seq limit ?",
    )
    .bind::<Array<BigInt>, _>(passed_over)
    .bind::<BigInt, _>(limit);
    let (mut first, mut second) = (connection, connection);
    // What is read is what there is once the lock is held.
    let (Got { got }, rows) = in_one_go!(lock.get_result(&mut first), oldest.get_results(&mut second));
    Ok(got.then_some(rows))
}

/// The oldest rows after this one.
///
/// # Errors
/// When the database fails.
pub async fn page(connection: &mut AsyncPgConnection, after: i64, limit: i64) -> Result<Vec<Row>, Error> {
    let rows = event_outbox::table.filter(event_outbox::seq.gt(after)).order(event_outbox::seq).limit(limit);
    Ok(rows.select(Row::as_select()).load(connection).await?)
}

/// Whether no event waits.
///
/// # Errors
/// When the database fails.
pub async fn is_empty(connection: &mut AsyncPgConnection) -> Result<bool, Error> {
    let first = event_outbox::table.order(event_outbox::seq).select(event_outbox::seq);
    Ok(first.first::<i64>(connection).await.optional()?.is_none())
}

/// What is to stay of a row that was relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// The row.
    pub seq: i64,
    /// How many events it has.
    pub count: usize,
    /// The places of those that stay.
    pub stay: Vec<usize>,
}

/// Forgets all events but those that stay.
///
/// # Errors
/// When the database fails.
pub async fn forget(connection: &mut AsyncPgConnection, rows: &[Relayed]) -> Result<(), Error> {
    let touched = rows.iter().filter(|row| row.stay.len() < row.count);
    let seqs: Vec<i64> = touched.clone().map(|row| row.seq).collect();
    if touched.clone().all(|row| row.stay.is_empty()) {
        diesel::delete(event_outbox::table.filter(event_outbox::seq.eq_any(seqs))).execute(connection).await?;
        return Ok(());
    }
    revise(connection, &seqs, |seq, events| {
        let Some(row) = rows.iter().find(|row| row.seq == seq) else { return Ok(()) };
        let mut place = 0..;
        events.retain(|_| place.next().is_some_and(|place| row.stay.contains(&place)));
        Ok(())
    })
    .await
}

/// Changes events of rows; a row without any is deleted.
///
/// The rows are locked before they are read, in the order of `seq`: somebody may be changing them too. What was read of them
/// without a lock must not be written back, or an erased person's event would be readable again.
///
/// # Errors
/// When the database fails, or the change: then nothing is written.
pub async fn revise(
    connection: &mut AsyncPgConnection,
    seqs: &[i64],
    mut change: impl FnMut(i64, &mut Vec<Waiting>) -> Result<(), Error>,
) -> Result<(), Error> {
    if seqs.is_empty() {
        return Ok(());
    }
    let rows: Vec<Row> = event_outbox::table
        .filter(event_outbox::seq.eq_any(seqs))
        .order(event_outbox::seq)
        .select(Row::as_select())
        .for_update()
        .load(connection)
        .await?;
    let (mut gone, mut left, mut packed) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let mut events = row.unpack()?;
        change(row.seq, &mut events)?;
        if events.is_empty() {
            gone.push(row.seq);
        } else {
            left.push(row.seq);
            packed.push(packed_events::repack(&events));
        }
    }
    diesel::delete(event_outbox::table.filter(event_outbox::seq.eq_any(gone))).execute(connection).await?;
    statement(
        "update event_outbox o set count = r.count, events = r.events \
         from unnest(?, ?, ?) as r(seq, count, events) where o.seq = r.seq",
    )
    .bind::<Array<BigInt>, _>(left)
    .bind::<Array<Integer>, _>(column(&packed, |row| row.count))
    .bind::<Array<Text>, _>(column(&packed, |row| row.events.as_str()))
    .execute(connection)
    .await?;
    Ok(())
}

/// How many events wait, and since when the oldest.
#[derive(QueryableByName)]
pub struct Backlog {
    /// Waiting events, counted up to 10,000 rows.
    #[diesel(sql_type = BigInt)]
    pub pending: i64,
    /// When the oldest was written.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub oldest: Option<DateTime<Utc>>,
}

/// The backlog; bounded, so that it costs the same whatever waits. A row is up to a page.
///
/// # Errors
/// When the database fails.
pub async fn backlog(connection: &mut AsyncPgConnection) -> Result<Backlog, Error> {
    Ok(statement(
        "select (select coalesce(sum(count), 0) from (select count from event_outbox limit 10000) q) as pending, \
         (select created_at from event_outbox order by seq limit 1) as oldest",
    )
    .get_result(connection)
    .await?)
}
