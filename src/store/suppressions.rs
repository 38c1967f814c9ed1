//! `suppressions`: addresses that bounced for good or complained. Read together with the accounts.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use chrono::{DateTime, Utc};

use crate::world::mailing::Suppressions;

use super::Error;
use super::schema::suppressions;

/// Writes what changed. Of an address that is on the list already, the first reason and time stay.
///
/// # Errors
/// When the database fails.
pub async fn write(
    mut connection: &AsyncPgConnection,
    changed: &Suppressions,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    // In order of the addresses: the statements of several daemons cannot wait for each other in a circle.
    let lifted: Vec<&str> = changed.lifted().collect();
    if !lifted.is_empty() {
        let rows = suppressions::table.filter(suppressions::email_key.eq_any(lifted));
        diesel::delete(rows).execute(&mut connection).await?;
    }
    let added: Vec<_> = changed
        .added()
        .map(|(key, reason)| {
            (suppressions::email_key.eq(key), suppressions::reason.eq(reason), suppressions::since.eq(now))
        })
        .collect();
    if !added.is_empty() {
        diesel::insert_into(suppressions::table)
            .values(added)
            .on_conflict_do_nothing()
            .execute(&mut connection)
            .await?;
    }
    Ok(())
}
