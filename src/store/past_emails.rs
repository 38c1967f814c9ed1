//! Mails of the history, for commands that name them.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel::sql_types::{Array, Int4, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::world::mailing::PastEmail;

use super::Error;
use super::schema::emails;
use super::statement::{column, statement};

#[derive(Queryable, Selectable, QueryableByName)]
#[diesel(table_name = emails, check_for_backend(diesel::pg::Pg))]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    user_id: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    ticket_id: Option<Uuid>,
    #[diesel(sql_type = Text)]
    template: String,
    #[diesel(sql_type = Text)]
    site: String,
    #[diesel(sql_type = Text)]
    to_address: String,
    #[diesel(sql_type = Jsonb)]
    facts: serde_json::Value,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Int4)]
    attempts: i32,
}

impl From<Row> for PastEmail {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            user_id: row.user_id,
            ticket_id: row.ticket_id,
            template: row.template,
            site: row.site,
            to: row.to_address,
            facts: row.facts,
            state: row.state,
            attempts: row.attempts,
            dirty: false,
        }
    }
}

/// The people whom these mails are for, and the tickets that they carry. Neither ever changes, so no lock is needed.
///
/// # Errors
/// When the database fails.
pub async fn owners(
    mut connection: &AsyncPgConnection,
    ids: &BTreeSet<Uuid>,
) -> Result<Vec<(String, Option<Uuid>)>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let owners = emails::table.filter(emails::id.eq_any(ids)).select((emails::user_id, emails::ticket_id));
    Ok(owners.load(&mut connection).await?)
}

/// Mails by id. Locked if asked: a sender writes its result before or after, and not in between.
///
/// # Errors
/// When the database fails.
pub async fn load(
    mut connection: &AsyncPgConnection,
    ids: &BTreeSet<Uuid>,
    lock: bool,
) -> Result<Vec<PastEmail>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let query = emails::table.filter(emails::id.eq_any(ids)).order(emails::id).select(Row::as_select());
    let rows: Vec<Row> =
        if lock { query.for_no_key_update().load(&mut connection).await? } else { query.load(&mut connection).await? };
    Ok(rows.into_iter().map(PastEmail::from).collect())
}

/// The newest mail of each of these tickets; they are named with their owners.
///
/// # Errors
/// When the database fails.
pub async fn newest_of_tickets(
    mut connection: &AsyncPgConnection,
    tickets: &[(String, Uuid)],
) -> Result<Vec<PastEmail>, Error> {
    if tickets.is_empty() {
        return Ok(Vec::new());
    }
    // By the index of a person's history: a mail is younger than its ticket, so few rows are looked at.
    let rows: Vec<Row> = statement(
        "select e.* from unnest(?, ?) as wanted(user_id, ticket_id), \
         lateral (select id, user_id, ticket_id, template, site, to_address, facts, state, attempts from emails \
         where user_id = wanted.user_id and id > wanted.ticket_id and ticket_id = wanted.ticket_id \
         order by id desc limit 1) e",
    )
    .bind::<Array<Text>, _>(column(tickets, |(user, _)| user.as_str()))
    .bind::<Array<SqlUuid>, _>(column(tickets, |(_, ticket)| *ticket))
    .load(&mut connection)
    .await?;
    Ok(rows.into_iter().map(PastEmail::from).collect())
}

/// Writes new states; the rows are locked already.
///
/// # Errors
/// When the database fails.
pub async fn write<'a>(
    mut connection: &AsyncPgConnection,
    changed: impl Iterator<Item = &'a PastEmail>,
) -> Result<(), Error> {
    let changed: Vec<&PastEmail> = changed.filter(|mail| mail.dirty).collect();
    if changed.is_empty() {
        return Ok(());
    }
    statement("update emails e set state = r.state from unnest(?, ?) as r(id, state) where e.id = r.id")
        .bind::<Array<SqlUuid>, _>(column(&changed, |mail| mail.id))
        .bind::<Array<Text>, _>(column(&changed, |mail| mail.state.as_str()))
        .execute(&mut connection)
        .await?;
    Ok(())
}
