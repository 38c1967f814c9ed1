//! `rate_limits`: shared by all daemons.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel::sql_types::{Array, Integer, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::domain::limits::Limit;

use super::Error;
use super::schema::rate_limits;
use super::statement::{column, in_one_go, statement};

#[derive(Queryable, Selectable)]
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
pub async fn load(mut connection: &AsyncPgConnection, keys: &BTreeSet<Uuid>) -> Result<Vec<Limit>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<Row> = rate_limits::table
        .filter(rate_limits::key.eq_any(keys))
        .order(rate_limits::key)
        .select(Row::as_select())
        .for_no_key_update()
        .load(&mut connection)
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
pub async fn write<'a>(connection: &AsyncPgConnection, limits: impl Iterator<Item = &'a Limit>) -> Result<(), Error> {
    let (mut old, mut new): (Vec<&Limit>, Vec<&Limit>) = limits.filter(|l| l.dirty).partition(|l| l.stored);
    // One order for all daemons: their statements cannot wait for each other in a circle.
    old.sort_by_key(|limit| limit.key);
    new.sort_by_key(|limit| limit.key);
    let bind = |text: &'static str, limits: &[&Limit]| {
        statement(text)
            .bind::<Array<SqlUuid>, _>(column(limits, |limit| limit.key))
            .bind::<Array<Timestamptz>, _>(column(limits, |limit| limit.window_started_at))
            .bind::<Array<Integer>, _>(column(limits, |limit| limit.count))
            .bind::<Array<Timestamptz>, _>(column(limits, |limit| limit.last_at))
    };
    let execute = async |text, limits: &[&Limit]| match limits {
        [] => Ok(0),
        limits => bind(text, limits).execute(&mut &*connection).await,
    };
    // Not `on conflict do nothing`, which costs half as much again: a key that is there ends the transaction either way.
    let update = "update rate_limits l set window_started_at = w.window_started_at, count = w.count, last_at = w.last_at \
                  from unnest(?, ?, ?, ?) as w(key, window_started_at, count, last_at) where l.key = w.key";
    let insert = "insert into rate_limits (key, window_started_at, count, last_at) \
                  select * from unnest(?, ?, ?, ?)";
    in_one_go!(execute(update, &old), execute(insert, &new));
    Ok(())
}
