//! `emails` as operators look through them, and those that failed and are sent again.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Int4, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::Error;
use super::emails::{PersonOfMail, QueuedEmail, TicketOfMail, tickets_of_mails};
use super::pages::{Page, Range, STRIDE};
use super::schema::{emails, users};
use crate::domain::email_state::EmailState;

/// Which mails.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Only mails in this state.
    pub state: Option<EmailState>,
    /// Only mails of this template.
    pub template: Option<&'a str>,
    /// Only mails to this person.
    pub user: Option<&'a str>,
    /// Ids below this one; the last one of the page before.
    pub before: Uuid,
    /// Ids from this one on.
    pub from: Uuid,
}

/// A mail.
#[derive(Debug, QueryableByName)]
#[diesel(table_name = emails, check_for_backend(diesel::pg::Pg))]
pub struct Listed {
    /// The mail.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The id of the person it is for.
    #[diesel(sql_type = Text)]
    pub user_id: String,
    /// The ticket that it carries.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub ticket_id: Option<Uuid>,
    /// Which template.
    #[diesel(sql_type = Text)]
    pub template: String,
    /// Where to.
    #[diesel(sql_type = Text)]
    pub to_address: String,
    /// What became of it.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Attempts begun.
    #[diesel(sql_type = Int4)]
    pub attempts: i32,
    /// When it was queued.
    #[diesel(sql_type = Timestamptz)]
    pub queued_at: DateTime<Utc>,
    /// The time of the next attempt, while it waits.
    #[diesel(sql_type = Timestamptz)]
    pub next_attempt_at: DateTime<Utc>,
    /// When a server accepted it.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub sent_at: Option<DateTime<Utc>>,
    /// The server's last words.
    #[diesel(sql_type = Nullable<Text>)]
    pub smtp_reply: Option<String>,
    /// The mail that it repeats.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub resend_of: Option<Uuid>,
}

/// At most `limit` mails, newest first, by an index that is in this order. Of many that are looked at in vain a page is short,
/// and says where to go on.
///
/// # Errors
/// When the database fails.
pub async fn page(connection: &mut AsyncPgConnection, wanted: Wanted<'_>, limit: i64) -> Result<Page<Listed>, Error> {
    // The indexes are found by these very words.
    let (whose, order) = match (wanted.user, wanted.state) {
        (Some(_), _) => ("user_id = $1".to_owned(), "id desc"),
        // Few, but in the order of their next attempt.
        (None, Some(EmailState::Queued)) => ("$1::text is null and state = 'queued'".to_owned(), "next_attempt_at"),
        (None, None | Some(EmailState::Sent | EmailState::Delivered)) => ("$1::text is null".to_owned(), "id desc"),
        (None, Some(state)) => (format!("$1::text is null and state = '{}'", state.as_str()), "id desc"),
    };
    let range = format!("select * from emails where {whose} and id < $2 and id >= $3 order by {order}");
    let rows: Vec<Listed> = diesel::sql_query(format!(
        "select id, user_id, ticket_id, template, to_address, state, attempts, queued_at, next_attempt_at, sent_at, smtp_reply, \
         resend_of from ({range} limit $4) e where ($5 is null or state = $5) and ($6 is null or template = $6) \
         order by id desc limit $7"
    ))
    .bind::<Nullable<Text>, _>(wanted.user)
    .bind::<SqlUuid, _>(wanted.before)
    .bind::<SqlUuid, _>(wanted.from)
    .bind::<BigInt, _>(STRIDE)
    .bind::<Nullable<Text>, _>(wanted.state.map(EmailState::as_str))
    .bind::<Nullable<Text>, _>(wanted.template)
    .bind::<BigInt, _>(limit + 1)
    .load(connection)
    .await?;
    let Wanted { user: whose, before, from, .. } = wanted;
    let ordered = order == "id desc";
    Page::of(rows, limit, |row| row.id, ordered.then_some(Range { sql: &range, whose, before, from }), connection).await
}

/// A mail that is perhaps to be sent again.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The mail.
    pub mail: QueuedEmail,
    /// What became of it.
    pub state: String,
    /// The mail that it repeats.
    pub resend_of: Option<Uuid>,
}

/// Locks mails, in the order of their ids, and reads what sending them depends on. Nobody else sends one that failed; the lock is
/// for operators who do this twice.
///
/// # Errors
/// When the database fails.
pub async fn lock(
    connection: &mut AsyncPgConnection,
    ids: &[Uuid],
) -> Result<(Vec<Failed>, Vec<TicketOfMail>, Vec<PersonOfMail>), Error> {
    let rows: Vec<(QueuedEmail, String, Option<Uuid>)> = emails::table
        .filter(emails::id.eq_any(ids))
        .order(emails::id)
        .select((QueuedEmail::as_select(), emails::state, emails::resend_of))
        .for_no_key_update()
        .load(connection)
        .await?;
    let failed: Vec<Failed> =
        rows.into_iter().map(|(mail, state, resend_of)| Failed { mail, state, resend_of }).collect();
    let ticket_ids = failed.iter().filter_map(|failed| failed.mail.ticket_id).collect();
    let of_mails = tickets_of_mails(connection, ticket_ids).await?;
    let people = users::table
        .filter(users::id.eq_any(failed.iter().map(|failed| failed.mail.user_id.as_str()).collect::<Vec<_>>()))
        .select(PersonOfMail::as_select())
        .load(connection)
        .await?;
    Ok((failed, of_mails, people))
}

/// Queues mails that failed: the next poll of any daemon takes them up. Attempts go on being counted.
///
/// # Errors
/// When the database fails.
pub async fn requeue(connection: &mut AsyncPgConnection, mails: &[(Uuid, DateTime<Utc>)]) -> Result<(), Error> {
    if mails.is_empty() {
        return Ok(());
    }
    diesel::sql_query(
        "update emails e set state = 'queued', next_attempt_at = now(), give_up_at = r.give_up_at \
         from unnest($1, $2) as r(id, give_up_at) where e.id = r.id and e.state = 'failed'",
    )
    .bind::<Array<SqlUuid>, _>(mails.iter().map(|(id, _)| *id).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(mails.iter().map(|(_, until)| *until).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
