//! A person's tickets as a history.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::domain::ticket::Ticket;

use super::Error;
use super::pages::Page;
use super::schema::tickets;
use super::tickets::Row;

/// A page of at most `limit` of the tickets with which somebody chooses a password, newest first, before `cursor`.
///
/// # Errors
/// When the database fails.
pub async fn of_user(
    connection: &mut AsyncPgConnection,
    user: &str,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Page<Ticket>, Error> {
    let before = cursor.unwrap_or(Uuid::max());
    let rows: Vec<Row> = tickets::table
        .filter(tickets::user_id.eq(user).and(tickets::id.lt(before)))
        .filter(sql::<Bool>("tickets.purpose in ('password_reset', 'invite')"))
        .order(tickets::id.desc())
        .limit(limit + 1)
        .select(Row::as_select())
        .load(connection)
        .await?;
    let found = rows.into_iter().map(Ticket::try_from).collect::<Result<_, _>>()?;
    Ok(Page::cut(found, limit, |ticket: &Ticket| ticket.id))
}
