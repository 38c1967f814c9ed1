//! What `email.explain` reads: the newest mails of people with everything that became of them.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::domain::explain::{Failure, Mail, Suppression, Ticket};

use super::Error;
use super::schema::{email_attempts, emails, suppressions, tickets};

/// Failed attempts that are looked at: those of the newest mails.
const MAX_FAILURES: i64 = 500;

#[derive(Queryable, Selectable)]
#[diesel(table_name = emails, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: Uuid,
    user_id: String,
    ticket_id: Option<Uuid>,
    template: String,
    to_address: String,
    state: String,
    queued_at: DateTime<Utc>,
    give_up_at: DateTime<Utc>,
    sent_at: Option<DateTime<Utc>>,
    smtp_reply: Option<String>,
    resend_of: Option<Uuid>,
    command_id: Option<String>,
}

/// A person's newest mails.
///
/// # Errors
/// When the database fails.
pub async fn mails(connection: &mut AsyncPgConnection, user: &str, limit: i64) -> Result<Vec<Mail>, Error> {
    let rows: Vec<Row> = emails::table
        .filter(emails::user_id.eq(user))
        .order(emails::id.desc())
        .limit(limit)
        .select(Row::as_select())
        .load(connection)
        .await?;
    let mut failures = failures(connection, &rows).await?;
    let tickets = tickets_of(connection, &rows).await?;
    let mails = rows.into_iter().map(|row| Mail {
        failures: failures.remove(&row.id).unwrap_or_default(),
        ticket: row.ticket_id.and_then(|id| tickets.get(&id).cloned()),
        id: row.id,
        user_id: row.user_id,
        to: row.to_address,
        template: row.template,
        state: row.state,
        queued_at: row.queued_at,
        give_up_at: row.give_up_at,
        sent_at: row.sent_at,
        reply: row.smtp_reply,
        resend_of: row.resend_of,
        command_id: row.command_id,
    });
    Ok(mails.collect())
}

async fn failures(connection: &mut AsyncPgConnection, mails: &[Row]) -> Result<HashMap<Uuid, Vec<Failure>>, Error> {
    let ids: Vec<Uuid> = mails.iter().map(|mail| mail.id).collect();
    let rows = email_attempts::table
        .filter(email_attempts::email_id.eq_any(ids))
        .order((email_attempts::email_id.desc(), email_attempts::attempt))
        .limit(MAX_FAILURES)
        .select((
            email_attempts::email_id,
            email_attempts::attempt,
            email_attempts::at,
            email_attempts::outcome,
            email_attempts::reply,
        ))
        .load::<(Uuid, i32, _, _, _)>(connection)
        .await?;
    let mut failures: HashMap<Uuid, Vec<Failure>> = HashMap::new();
    for (id, attempt, at, outcome, reply) in rows {
        failures.entry(id).or_default().push(Failure { attempt, at, outcome, reply });
    }
    Ok(failures)
}

async fn tickets_of(connection: &mut AsyncPgConnection, mails: &[Row]) -> Result<HashMap<Uuid, Ticket>, Error> {
    let ids: BTreeSet<Uuid> = mails.iter().filter_map(|mail| mail.ticket_id).collect();
    let rows = tickets::table
        .filter(tickets::id.eq_any(ids))
        .select((tickets::id, tickets::state, tickets::expires_at, tickets::closed_at))
        .load::<(Uuid, _, _, _)>(connection)
        .await?;
    let tickets =
        rows.into_iter().map(|(id, state, expires_at, closed_at)| (id, Ticket { id, state, expires_at, closed_at }));
    Ok(tickets.collect())
}

/// Those of the addresses that nothing is sent to.
///
/// # Errors
/// When the database fails.
pub async fn suppressed(
    connection: &mut AsyncPgConnection,
    keys: &BTreeSet<String>,
) -> Result<Vec<Suppression>, Error> {
    let rows: Vec<(String, String, DateTime<Utc>)> = suppressions::table
        .filter(suppressions::email_key.eq_any(keys))
        .select((suppressions::email_key, suppressions::reason, suppressions::since))
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(|(email, reason, since)| Suppression { email, reason, since }).collect())
}
