//! `rate_limits`: shared by all daemons.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::domain::limits::Limit;

use super::Error;
use super::schema::rate_limits;

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = rate_limits, check_for_backend(diesel::pg::Pg))]
struct Row {
    key: Uuid,
    window_started_at: chrono::DateTime<chrono::Utc>,
    count: i32,
    last_at: chrono::DateTime<chrono::Utc>,
}

/// Loads and locks limits in key order; those that do not exist yet are left out.
///
/// # Errors
/// When the database fails.
pub async fn load(connection: &mut AsyncPgConnection, keys: &BTreeSet<Uuid>) -> Result<Vec<Limit>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<Row> = rate_limits::table
        .filter(rate_limits::key.eq_any(keys))
        .order(rate_limits::key)
        .select(Row::as_select())
        .for_no_key_update()
        .load(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|r| Limit {
            key: r.key,
            window_started_at: r.window_started_at,
            count: r.count,
            last_at: r.last_at,
            stored: true,
            dirty: false,
        })
        .collect())
}

/// Writes what changed.
///
/// # Errors
/// [`Error::Conflict`] when a limit was counted before that was not known here: another transaction began to count it
/// meanwhile, or it is a profile's that the batch itself made. Who decided without it has to decide again, alone.
pub async fn write<'a>(
    connection: &mut AsyncPgConnection,
    limits: impl Iterator<Item = &'a Limit>,
) -> Result<(), Error> {
    let row =
        |l: &Limit| Row { key: l.key, window_started_at: l.window_started_at, count: l.count, last_at: l.last_at };
    let (mut old, mut new): (Vec<&Limit>, Vec<&Limit>) = limits.filter(|l| l.dirty).partition(|l| l.stored);
    // One order for all daemons: their statements cannot wait for each other in a circle.
    old.sort_by_key(|limit| limit.key);
    new.sort_by_key(|limit| limit.key);
    // A statement has at most 65,535 parameters.
    for limits in old.chunks(10_000) {
        let rows: Vec<Row> = limits.iter().map(|limit| row(limit)).collect();
        diesel::insert_into(rate_limits::table)
            .values(rows)
            .on_conflict(rate_limits::key)
            .do_update()
            .set((
                rate_limits::window_started_at.eq(excluded(rate_limits::window_started_at)),
                rate_limits::count.eq(excluded(rate_limits::count)),
                rate_limits::last_at.eq(excluded(rate_limits::last_at)),
            ))
            .execute(connection)
            .await?;
    }
    for limits in new.chunks(10_000) {
        let rows: Vec<Row> = limits.iter().map(|limit| row(limit)).collect();
        let written =
            diesel::insert_into(rate_limits::table).values(rows).on_conflict_do_nothing().execute(connection).await?;
        if written != limits.len() {
            return Err(Error::Conflict("a limit was counted before".to_owned()));
        }
    }
    Ok(())
}
