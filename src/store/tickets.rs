//! `tickets`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel::upsert::excluded;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::domain::ticket::{Method, Purpose, Requester, State, Ticket};

use super::Error;
use super::schema::tickets;

/// A person's newest tickets that a code may belong to.
const NEWEST: i64 = 8;

#[derive(Queryable, Selectable, Insertable, QueryableByName)]
#[diesel(table_name = tickets, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: Uuid,
    user_id: String,
    purpose: String,
    method: String,
    key_id: String,
    state: String,
    requester: String,
    actor: Option<String>,
    requested_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    wrong_tries: i32,
    closed_at: Option<DateTime<Utc>>,
    newer_requested_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Ticket {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let unknown = |column: &str, value: &str| {
            Error::Failed(format!("tickets.{column} holds `{value}`, which this version does not know"))
        };
        let requester = match (row.requester.as_str(), row.actor) {
            ("system", _) => Requester::System,
            ("actor", Some(actor)) => Requester::Actor(actor),
            _ => Requester::Itself,
        };
        Ok(Self {
            id: row.id,
            user_id: row.user_id,
            purpose: Purpose::parse(&row.purpose).ok_or_else(|| unknown("purpose", &row.purpose))?,
            method: if row.method == "code" { Method::Code } else { Method::Link },
            key_id: row.key_id,
            state: State::parse(&row.state).ok_or_else(|| unknown("state", &row.state))?,
            requester,
            requested_at: row.requested_at,
            created_at: row.created_at,
            expires_at: row.expires_at,
            wrong_tries: row.wrong_tries,
            closed_at: row.closed_at,
            newer_requested_at: row.newer_requested_at,
            dirty: false,
        })
    }
}

impl From<&Ticket> for Row {
    fn from(ticket: &Ticket) -> Self {
        Self {
            id: ticket.id,
            user_id: ticket.user_id.clone(),
            purpose: ticket.purpose.as_str().to_owned(),
            method: ticket.method.as_str().to_owned(),
            key_id: ticket.key_id.clone(),
            state: ticket.state.as_str().to_owned(),
            requester: ticket.requester.as_str().to_owned(),
            actor: match &ticket.requester {
                Requester::Actor(id) => Some(id.clone()),
                _ => None,
            },
            requested_at: ticket.requested_at,
            created_at: ticket.created_at,
            expires_at: ticket.expires_at,
            wrong_tries: ticket.wrong_tries,
            closed_at: ticket.closed_at,
            newer_requested_at: ticket.newer_requested_at,
        }
    }
}

/// Who owns these tickets. Ownership never changes, so no lock is needed.
///
/// # Errors
/// When the database fails.
pub async fn owners(connection: &mut AsyncPgConnection, ids: &BTreeSet<Uuid>) -> Result<Vec<String>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(tickets::table.filter(tickets::id.eq_any(ids)).select(tickets::user_id).load(connection).await?)
}

/// Open tickets of people, and the named ones in any state; with `newest` also each person's latest.
///
/// # Errors
/// When the database fails.
pub async fn load(
    connection: &mut AsyncPgConnection,
    users: &[&str],
    named: &BTreeSet<Uuid>,
    newest: bool,
) -> Result<Vec<Ticket>, Error> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<Row> = tickets::table
        // A literal: a prepared statement with a parameter cannot use the index of open tickets.
        .filter(tickets::user_id.eq_any(users).and(sql::<Bool>("tickets.state = 'open'")))
        .select(Row::as_select())
        .load(connection)
        .await?;
    if !named.is_empty() {
        rows.extend(tickets::table.filter(tickets::id.eq_any(named)).select(Row::as_select()).load(connection).await?);
    }
    if newest {
        let latest: Vec<Row> = diesel::sql_query(
            "select t.* from unnest($1) as wanted(id), \
             lateral (select * from tickets where user_id = wanted.id order by id desc limit $2) t",
        )
        .bind::<diesel::sql_types::Array<diesel::sql_types::Text>, _>(users)
        .bind::<diesel::sql_types::BigInt, _>(NEWEST)
        .load(connection)
        .await?;
        rows.extend(latest);
    }
    rows.sort_by_key(|row| row.id);
    rows.dedup_by_key(|row| row.id);
    rows.into_iter().map(Ticket::try_from).collect()
}

/// Writes new and changed tickets in one statement.
///
/// # Errors
/// When the database fails.
pub async fn write<'a>(
    connection: &mut AsyncPgConnection,
    changed: impl Iterator<Item = &'a Ticket>,
) -> Result<(), Error> {
    let mut rows: Vec<Row> = changed.filter(|t| t.dirty).map(Row::from).collect();
    // An older ticket must have left the index of open ones before its successor enters.
    rows.sort_by_key(|row| row.state == "open");
    // A statement has at most 65,535 parameters.
    for rows in rows.chunks(4000).map(|rows| rows.iter().collect::<Vec<_>>()) {
        diesel::insert_into(tickets::table)
            .values(rows)
            .on_conflict(tickets::id)
            .do_update()
            .set((
                tickets::state.eq(excluded(tickets::state)),
                tickets::wrong_tries.eq(excluded(tickets::wrong_tries)),
                tickets::closed_at.eq(excluded(tickets::closed_at)),
                tickets::newer_requested_at.eq(excluded(tickets::newer_requested_at)),
            ))
            .execute(connection)
            .await?;
    }
    Ok(())
}
