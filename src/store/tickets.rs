//! `tickets`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::domain::ticket::{Method, Purpose, Requester, State, Ticket};

use super::Error;
use super::schema::tickets;
use super::statement::{Literally, column, statement};

/// The number of a person's tickets of each purpose, the newest, that a code may belong to.
const NEWEST: i64 = 8;
/// The number of a person's tickets of all purposes, the newest, among which those are looked for: whatever support does over and
/// over, a look-up is short.
const AMONG: i64 = 1000;

#[derive(Queryable, Selectable, QueryableByName)]
#[diesel(table_name = tickets, check_for_backend(diesel::pg::Pg))]
pub(super) struct Row {
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

/// Who owns these tickets. Ownership never changes, so no lock is needed.
///
/// # Errors
/// When the database fails.
pub async fn owners(mut connection: &AsyncPgConnection, ids: &BTreeSet<Uuid>) -> Result<Vec<String>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(tickets::table.filter(tickets::id.eq_any(ids)).select(tickets::user_id).load(&mut connection).await?)
}

/// Open tickets of people, and the named ones in any state; with `newest` also each person's latest of each purpose.
///
/// # Errors
/// When the database fails.
pub async fn load(
    mut connection: &AsyncPgConnection,
    users: &[&str],
    named: &BTreeSet<Uuid>,
    newest: bool,
) -> Result<Vec<Ticket>, Error> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<Row> = tickets::table
        // A literal: a prepared statement with a parameter cannot use the index of open tickets.
        .filter(tickets::user_id.eq_any(users).and(Literally("tickets.state = 'open'")))
        .select(Row::as_select())
        .load(&mut connection)
        .await?;
    if !named.is_empty() {
        rows.extend(
            tickets::table.filter(tickets::id.eq_any(named)).select(Row::as_select()).load(&mut connection).await?,
        );
    }
    if newest {
        let latest: Vec<Row> = statement(
            "select t.* from unnest(?) as wanted(id), lateral (\
             select n.*, row_number() over (partition by purpose order by id desc) as place \
             from (select * from tickets where user_id = wanted.id order by id desc limit ?) n) t where t.place <= ?",
        )
        .bind::<Array<Text>, _>(users)
        .bind::<BigInt, _>(AMONG)
        .bind::<BigInt, _>(NEWEST)
        .load(&mut connection)
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
    mut connection: &AsyncPgConnection,
    changed: impl Iterator<Item = &'a Ticket>,
) -> Result<(), Error> {
    let mut tickets: Vec<&Ticket> = changed.filter(|ticket| ticket.dirty).collect();
    if tickets.is_empty() {
        return Ok(());
    }
    // An older ticket must have left the index of open ones before its successor enters.
    tickets.sort_by_key(|ticket| ticket.state == State::Open);
    statement(
        "insert into tickets (id, user_id, purpose, method, key_id, state, requester, actor, requested_at, created_at, \
         expires_at, wrong_tries, closed_at, newer_requested_at) \
         select * from unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         on conflict (id) do update set state = excluded.state, wrong_tries = excluded.wrong_tries, \
         closed_at = excluded.closed_at, newer_requested_at = excluded.newer_requested_at",
    )
    .bind::<Array<SqlUuid>, _>(column(&tickets, |ticket| ticket.id))
    .bind::<Array<Text>, _>(column(&tickets, |ticket| ticket.user_id.as_str()))
    .bind::<Array<Text>, _>(column(&tickets, |ticket| ticket.purpose.as_str()))
    .bind::<Array<Text>, _>(column(&tickets, |ticket| ticket.method.as_str()))
    .bind::<Array<Text>, _>(column(&tickets, |ticket| ticket.key_id.as_str()))
    .bind::<Array<Text>, _>(column(&tickets, |ticket| ticket.state.as_str()))
    .bind::<Array<Text>, _>(column(&tickets, |ticket| ticket.requester.as_str()))
    .bind::<Array<Nullable<Text>>, _>(column(&tickets, |ticket| match &ticket.requester {
        Requester::Actor(id) => Some(id.as_str()),
        Requester::Itself | Requester::System => None,
    }))
    .bind::<Array<Timestamptz>, _>(column(&tickets, |ticket| ticket.requested_at))
    .bind::<Array<Timestamptz>, _>(column(&tickets, |ticket| ticket.created_at))
    .bind::<Array<Timestamptz>, _>(column(&tickets, |ticket| ticket.expires_at))
    .bind::<Array<Integer>, _>(column(&tickets, |ticket| ticket.wrong_tries))
    .bind::<Array<Nullable<Timestamptz>>, _>(column(&tickets, |ticket| ticket.closed_at))
    .bind::<Array<Nullable<Timestamptz>>, _>(column(&tickets, |ticket| ticket.newer_requested_at))
    .execute(&mut connection)
    .await?;
    Ok(())
}
