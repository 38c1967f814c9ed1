//! A person's tickets as a history.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::Error;
use super::schema::tickets;

/// A ticket of a person's history.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = tickets, check_for_backend(diesel::pg::Pg))]
pub struct TicketHistoryRow {
    /// The ticket.
    pub id: Uuid,
    /// What it allows.
    pub purpose: String,
    /// By link or code.
    pub method: String,
    /// What became of it.
    pub state: String,
    /// Who asked: `self`, `system` or `actor`.
    pub requester: String,
    /// Who, if it was an actor.
    pub actor: Option<String>,
    /// When they asked.
    pub requested_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When it stopped being open.
    pub closed_at: Option<DateTime<Utc>>,
}

/// Tickets with which a password is chosen, newest first, before `cursor`; and one more than `limit` if there are more.
///
/// # Errors
/// When the database fails.
pub async fn of_user(
    connection: &mut AsyncPgConnection,
    user: &str,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Vec<TicketHistoryRow>, Error> {
    let before = cursor.unwrap_or(Uuid::max());
    Ok(tickets::table
        .filter(tickets::user_id.eq(user).and(tickets::id.lt(before)))
        .filter(sql::<Bool>("tickets.purpose in ('password_reset', 'invite')"))
        .order(tickets::id.desc())
        .limit(limit + 1)
        .select(TicketHistoryRow::as_select())
        .load(connection)
        .await?)
}
