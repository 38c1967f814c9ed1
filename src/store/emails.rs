//! `emails` and `email_attempts`: at once the outbox and the history.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, Double, Int4, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::domain::email_state::EmailState;
use crate::domain::ticket::{Purpose, State};
use crate::world::mailing::{Begins, NewEmail};

use super::Error;
use super::due_emails::{Due, Place};
use super::schema::{email_attempts, emails, tickets, users};
use super::statement::{Literally, column, statement};

/// Queues mails: those that begin now with their attempt on record, and a lease for which it is this daemon's alone; the others
/// with a `grace` in which a poller leaves them to whom they are handed over in memory.
///
/// # Errors
/// When the database fails.
pub async fn insert(
    mut connection: &AsyncPgConnection,
    new: &[NewEmail],
    lease: Duration,
    grace: TimeDelta,
) -> Result<(), Error> {
    if new.is_empty() {
        return Ok(());
    }
    statement(
        "insert into emails (id, user_id, ticket_id, template, site, locale, to_address, facts, state, attempts, \
         queued_at, next_attempt_at, give_up_at, resend_of, command_id, traceparent) \
         select id, user_id, ticket_id, template, site, locale, to_address, facts, state, attempts, queued_at, \
         case when attempts > 0 then clock_timestamp() + make_interval(secs => ?) else next_attempt_at end, \
         give_up_at, resend_of, command_id, traceparent \
         from unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) as n(id, user_id, ticket_id, template, site, locale, \
         to_address, facts, state, attempts, queued_at, next_attempt_at, give_up_at, resend_of, command_id, traceparent)",
    )
    .bind::<Double, _>(lease.as_secs_f64())
    .bind::<Array<SqlUuid>, _>(column(new, |mail| mail.id))
    .bind::<Array<Text>, _>(column(new, |mail| mail.user_id.as_str()))
    .bind::<Array<Nullable<SqlUuid>>, _>(column(new, |mail| mail.ticket_id))
    .bind::<Array<Text>, _>(column(new, |mail| mail.template.as_str()))
    .bind::<Array<Text>, _>(column(new, |mail| mail.site.as_str()))
    .bind::<Array<Nullable<Text>>, _>(column(new, |mail| mail.locale.as_deref()))
    .bind::<Array<Text>, _>(column(new, |mail| mail.to.as_str()))
    .bind::<Array<Jsonb>, _>(column(new, |mail| &mail.facts))
    .bind::<Array<Text>, _>(column(new, |mail| mail.begins.as_str()))
    .bind::<Array<Int4>, _>(column(new, |mail| i32::from(mail.begins == Begins::Begun)))
    .bind::<Array<Timestamptz>, _>(column(new, |mail| mail.queued_at))
    .bind::<Array<Timestamptz>, _>(column(new, |mail| mail.queued_at + grace))
    .bind::<Array<Timestamptz>, _>(column(new, |mail| mail.give_up_at))
    .bind::<Array<Nullable<SqlUuid>>, _>(column(new, |mail| mail.resend_of))
    .bind::<Array<Nullable<Text>>, _>(column(new, |mail| mail.command_id.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column(new, |mail| mail.traceparent.as_deref()))
    .execute(&mut connection)
    .await?;
    Ok(())
}

/// A queued mail as a sender sees it.
#[derive(Debug, Clone, Queryable, QueryableByName, Selectable)]
#[diesel(table_name = emails, check_for_backend(diesel::pg::Pg))]
pub struct QueuedEmail {
    /// The mail.
    pub id: Uuid,
    /// The id of the person it is for.
    pub user_id: String,
    /// The ticket that it carries.
    pub ticket_id: Option<Uuid>,
    /// Which template.
    pub template: String,
    /// The person's site.
    pub site: String,
    /// The person's language.
    pub locale: Option<String>,
    /// Where to.
    pub to_address: String,
    /// Plain data for the template.
    pub facts: serde_json::Value,
    /// Attempts begun before this one.
    pub attempts: i32,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// No attempt is begun after this.
    pub give_up_at: DateTime<Utc>,
    /// The server's last words.
    pub smtp_reply: Option<String>,
    /// The command that asked for it.
    pub command_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// The ticket behind a mail, as far as sending depends on it.
#[derive(Debug, Clone)]
pub struct TicketOfMail {
    /// The ticket.
    pub id: Uuid,
    /// What it allows; none if only a newer version knows it.
    pub purpose: Option<Purpose>,
    /// The key that derives its link or code.
    pub key_id: String,
    /// What became of it; none if only a newer version knows it, which is not open.
    pub state: Option<State>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// Tickets behind mails. One that only a newer version understands must not hold up the other mails.
pub(super) async fn tickets_of_mails(
    mut connection: &AsyncPgConnection,
    ids: Vec<Uuid>,
) -> Result<Vec<TicketOfMail>, Error> {
    type Row = (Uuid, String, String, String, DateTime<Utc>);
    let rows: Vec<Row> = tickets::table
        .filter(tickets::id.eq_any(ids))
        .select((tickets::id, tickets::purpose, tickets::key_id, tickets::state, tickets::expires_at))
        .load(&mut connection)
        .await?;
    let ticket = |(id, purpose, key_id, state, expires_at): Row| TicketOfMail {
        id,
        purpose: Purpose::parse(&purpose),
        key_id,
        state: State::parse(&state),
        expires_at,
    };
    Ok(rows.into_iter().map(ticket).collect())
}

/// The person behind a mail.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = users, check_for_backend(diesel::pg::Pg))]
pub struct PersonOfMail {
    /// Upstream's id.
    pub id: String,
    /// Their username.
    pub username: String,
    /// Their name.
    pub display_name: Option<String>,
    /// Their address now.
    pub email: String,
    /// Whether support blocked them.
    pub blocked: bool,
}

/// Which mails to look at.
pub enum Which<'a> {
    /// Those just committed by this daemon, if nobody began an attempt yet.
    Fresh(&'a [Uuid]),
    /// Those whose time has come.
    Due(Due<'a>),
}

/// Mails that were locked, with what sending them depends on.
#[derive(Debug, Default)]
pub struct Locked {
    /// The mails.
    pub mails: Vec<QueuedEmail>,
    /// The tickets that they carry.
    pub tickets: Vec<TicketOfMail>,
    /// The people that they are for.
    pub people: Vec<PersonOfMail>,
    /// After which place to look on, if not from the beginning.
    pub look_on: Option<Place>,
}

/// Locks queued mails that nobody else is looking at.
///
/// # Errors
/// When the database fails.
pub async fn lock(connection: &mut AsyncPgConnection, which: Which<'_>) -> Result<Locked, Error> {
    let (mails, look_on) = match which {
        Which::Fresh(ids) => {
            let untried = emails::id.eq_any(ids).and(emails::attempts.eq(0)).and(QUEUED);
            let fresh = emails::table.filter(untried).select(QueuedEmail::as_select());
            (fresh.for_update().skip_locked().load(connection).await?, None)
        }
        Which::Due(due) => due.lock(connection).await?,
    };
    if mails.is_empty() {
        return Ok(Locked { look_on, ..Locked::default() });
    }
    let ticket_ids: Vec<Uuid> = mails.iter().filter_map(|m| m.ticket_id).collect();
    let tickets = tickets_of_mails(connection, ticket_ids).await?;
    let user_ids = column(&mails, |mail| mail.user_id.as_str());
    let people =
        users::table.filter(users::id.eq_any(user_ids)).select(PersonOfMail::as_select()).load(connection).await?;
    Ok(Locked { mails, tickets, people, look_on })
}

pub(super) const QUEUED: Literally = Literally("emails.state = 'queued'");

/// Puts the beginning of an attempt on record and keeps other pollers away for the length of a lease. Leases are the
/// database's time: the clocks of daemons may differ.
///
/// # Errors
/// When the database fails.
pub async fn begin(mut connection: &AsyncPgConnection, ids: &[Uuid], lease: Duration) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    statement(
        "update emails set attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => ?) where id = any(?)",
    )
    .bind::<Double, _>(lease.as_secs_f64())
    .bind::<Array<SqlUuid>, _>(ids)
    .execute(&mut connection)
    .await?;
    Ok(())
}

/// Prolongs the lease of mails that are still being sent, each with its attempt; says of which: nobody has begun another.
///
/// # Errors
/// When the database fails.
pub async fn prolong(
    mut connection: &AsyncPgConnection,
    mails: &[(Uuid, i32)],
    lease: Duration,
) -> Result<Vec<Uuid>, Error> {
    #[derive(QueryableByName)]
    struct Held {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let held: Vec<Held> = statement(
        "update emails e set next_attempt_at = greatest(e.next_attempt_at, now() + make_interval(secs => ?)) \
         from unnest(?, ?) as h(id, attempts) where e.id = h.id and e.attempts = h.attempts and e.state = 'queued' \
         returning e.id",
    )
    .bind::<Double, _>(lease.as_secs_f64())
    .bind::<Array<SqlUuid>, _>(column(mails, |(id, _)| *id))
    .bind::<Array<Int4>, _>(column(mails, |(_, attempts)| *attempts))
    .get_results(&mut connection)
    .await?;
    Ok(held.into_iter().map(|mail| mail.id).collect())
}

/// Makes mails due that wait for their next attempt, if none has begun since: each with how many had.
///
/// # Errors
/// When the database fails.
pub async fn make_due(mut connection: &AsyncPgConnection, mails: &[(Uuid, i32)]) -> Result<(), Error> {
    statement(
        "update emails e set next_attempt_at = now() from unnest(?, ?) as w(id, attempts) \
         where e.id = w.id and e.attempts = w.attempts and e.state = 'queued' and e.next_attempt_at > now()",
    )
    .bind::<Array<SqlUuid>, _>(column(mails, |(id, _)| *id))
    .bind::<Array<Int4>, _>(column(mails, |(_, attempts)| *attempts))
    .execute(&mut connection)
    .await?;
    Ok(())
}

/// What became of an attempt, or of a mail that was not sent.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The mail.
    pub id: Uuid,
    /// Its state now: queued for one more try.
    pub state: EmailState,
    /// The rendered subject, if it came so far.
    pub subject: Option<String>,
    /// When a server accepted it.
    pub sent_at: Option<DateTime<Utc>>,
    /// The server's words, or why none were heard.
    pub reply: Option<String>,
    /// When to try again.
    pub next_attempt_at: DateTime<Utc>,
    /// Attempts begun when it was settled: a later one has its own result.
    pub attempts: i32,
    /// Whether an attempt failed: it is noted on its own.
    pub failed: bool,
}

impl Outcome {
    /// The result of an attempt that failed and is to be repeated.
    pub fn of(id: Uuid, attempts: i32, now: DateTime<Utc>) -> Self {
        Self {
            id,
            state: EmailState::Queued,
            subject: None,
            sent_at: None,
            reply: None,
            next_attempt_at: now,
            attempts,
            failed: true,
        }
    }
}

/// Writes results in one statement; returns which mails they settled. A mail that is no longer queued (unless it was sent,
/// and is reported on already), or of which a later attempt has begun, stays as it is.
///
/// # Errors
/// When the database fails.
pub async fn finish(
    mut connection: &AsyncPgConnection,
    results: &[Outcome],
    at: DateTime<Utc>,
) -> Result<BTreeSet<Uuid>, Error> {
    #[derive(QueryableByName)]
    struct Settled {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    if results.is_empty() {
        return Ok(BTreeSet::new());
    }
    // A report may be faster than the result of the attempt that it is about: it stands, and the rest is noted beside it.
    let settled: Vec<Settled> = statement(
        "update emails e set state = case e.state when 'queued' then r.state else e.state end, \
         subject = coalesce(r.subject, e.subject), sent_at = r.sent_at, \
         smtp_reply = coalesce(r.reply, e.smtp_reply), next_attempt_at = r.next_attempt_at \
         from unnest(?, ?, ?, ?, ?, ?, ?) as r(id, state, subject, sent_at, reply, next_attempt_at, attempts) \
         where e.id = r.id and e.attempts = r.attempts and (e.state = 'queued' \
         or r.state = 'sent' and e.sent_at is null and e.state in ('delivered', 'bounced', 'complained')) returning e.id",
    )
    .bind::<Array<SqlUuid>, _>(column(results, |r| r.id))
    .bind::<Array<Text>, _>(column(results, |r| r.state.as_str()))
    .bind::<Array<Nullable<Text>>, _>(column(results, |r| r.subject.as_deref()))
    .bind::<Array<Nullable<Timestamptz>>, _>(column(results, |r| r.sent_at))
    .bind::<Array<Nullable<Text>>, _>(column(results, |r| r.reply.as_deref()))
    .bind::<Array<Timestamptz>, _>(column(results, |r| r.next_attempt_at))
    .bind::<Array<Int4>, _>(column(results, |r| r.attempts))
    .load(&mut connection)
    .await?;
    let settled: BTreeSet<Uuid> = settled.into_iter().map(|row| row.id).collect();
    let failed: Vec<_> = results
        .iter()
        .filter(|r| r.failed && settled.contains(&r.id))
        .map(|r| {
            (
                email_attempts::email_id.eq(r.id),
                email_attempts::attempt.eq(r.attempts),
                email_attempts::at.eq(at),
                email_attempts::outcome.eq(if r.state == EmailState::Queued { "retry" } else { r.state.as_str() }),
                email_attempts::reply.eq(r.reply.as_deref()),
            )
        })
        .collect();
    if !failed.is_empty() {
        diesel::insert_into(email_attempts::table)
            .values(failed)
            .on_conflict_do_nothing()
            .execute(&mut connection)
            .await?;
    }
    Ok(settled)
}

/// How many mails wait, and since when the oldest.
#[derive(QueryableByName)]
pub struct Backlog {
    /// Waiting mails, counted up to 100,000.
    #[diesel(sql_type = Int4)]
    pub pending: i32,
    /// When the oldest waiting mail was queued.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub oldest: Option<DateTime<Utc>>,
    /// Since when the mail that waits longest for an attempt is due; in the future if none is due yet.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub due: Option<DateTime<Utc>>,
}

/// The backlog, from the index of queued mails; bounded, so that a scrape costs the same whatever waits.
///
/// # Errors
/// When the database fails.
pub async fn backlog(connection: &mut AsyncPgConnection) -> Result<Backlog, Error> {
    Ok(statement(
        "select count(*)::int4 as pending, min(queued_at) as oldest, min(next_attempt_at) as due \
         from (select queued_at, next_attempt_at from emails where state = 'queued' order by next_attempt_at limit 100000) q",
    )
    .get_result(connection)
    .await?)
}
