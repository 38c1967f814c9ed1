//! `emails` and `email_attempts`: at once the outbox and the history.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Int4, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::commands::mailing::NewEmail;

use super::Error;
use super::schema::{email_attempts, emails, tickets, users};

/// A row of a person's history.
#[derive(Queryable, Selectable)]
#[diesel(table_name = emails, check_for_backend(diesel::pg::Pg))]
pub struct Shown {
    /// The mail.
    pub id: Uuid,
    /// Which template.
    pub template: String,
    /// The subject, once rendered.
    pub subject: Option<String>,
    /// Where to.
    pub to_address: String,
    /// What became of it.
    pub state: String,
    /// Attempts begun.
    pub attempts: i32,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// When a server accepted it.
    pub sent_at: Option<DateTime<Utc>>,
    /// The server's last words.
    pub smtp_reply: Option<String>,
    /// The mail that it repeats.
    pub resend_of: Option<Uuid>,
    /// The ticket that it carries.
    pub ticket_id: Option<Uuid>,
}

/// A person's mails, newest first, before `cursor`.
///
/// # Errors
/// When the database fails.
pub async fn of_user(
    connection: &mut AsyncPgConnection,
    user: &str,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Shown>, Error> {
    let before = cursor.unwrap_or(Uuid::max());
    Ok(emails::table
        .filter(emails::user_id.eq(user).and(emails::id.lt(before)))
        .order(emails::id.desc())
        .limit(limit)
        .select(Shown::as_select())
        .load(connection)
        .await?)
}

/// Queues mails; a poller leaves them alone for `grace`, in which they are handed over in memory.
///
/// # Errors
/// When the database fails.
pub async fn insert(
    connection: &mut AsyncPgConnection,
    new: &[NewEmail],
    grace: chrono::TimeDelta,
) -> Result<(), Error> {
    for chunk in new.chunks(2000) {
        let rows: Vec<_> = chunk
            .iter()
            .map(|mail| {
                (
                    emails::id.eq(mail.id),
                    emails::user_id.eq(&mail.user_id),
                    emails::ticket_id.eq(mail.ticket_id),
                    emails::template.eq(mail.template.as_str()),
                    emails::site.eq(&mail.site),
                    emails::locale.eq(&mail.locale),
                    emails::to_address.eq(&mail.to),
                    emails::facts.eq(&mail.facts),
                    emails::state.eq(mail.begins.as_str()),
                    emails::queued_at.eq(mail.queued_at),
                    emails::next_attempt_at.eq(mail.queued_at + grace),
                    emails::give_up_at.eq(mail.give_up_at),
                    emails::resend_of.eq(mail.resend_of),
                    emails::command_id.eq(&mail.command_id),
                    emails::traceparent.eq(&mail.traceparent),
                )
            })
            .collect();
        diesel::insert_into(emails::table).values(rows).execute(connection).await?;
    }
    Ok(())
}

/// A queued mail as a sender sees it.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = emails, check_for_backend(diesel::pg::Pg))]
pub struct Queued {
    /// The mail.
    pub id: Uuid,
    /// Whom it tells.
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
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = tickets, check_for_backend(diesel::pg::Pg))]
pub struct TicketOfMail {
    /// The ticket.
    pub id: Uuid,
    /// What it allows.
    pub purpose: String,
    /// The key that derives its link or code.
    pub key_id: String,
    /// What became of it.
    pub state: String,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
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
    Due {
        /// Up to so many.
        most: i64,
        /// But for those that this daemon is at already.
        but: &'a [Uuid],
        /// And those to these domains, in lowercase.
        but_domains: &'a [String],
    },
}

/// Locks queued mails that nobody else is looking at, with what sending them depends on.
///
/// # Errors
/// When the database fails.
pub async fn lock(
    connection: &mut AsyncPgConnection,
    which: Which<'_>,
) -> Result<(Vec<Queued>, Vec<TicketOfMail>, Vec<PersonOfMail>), Error> {
    // A literal: a prepared statement with a parameter cannot use the index of queued mails.
    let base = emails::table.filter(sql::<Bool>("emails.state = 'queued'")).select(Queued::as_select());
    let mails: Vec<Queued> = match which {
        Which::Fresh(ids) => {
            let untried = emails::id.eq_any(ids).and(emails::attempts.eq(0));
            base.filter(untried).for_update().skip_locked().load(connection).await?
        }
        Which::Due { most, but, but_domains } => {
            let to_others = sql::<Bool>("lower(substring(emails.to_address from '[^@]*$')) <> all(")
                .bind::<Array<Text>, _>(but_domains)
                .sql(")");
            base.filter(emails::next_attempt_at.le(diesel::dsl::now).and(emails::id.ne_all(but)).and(to_others))
                .order(emails::next_attempt_at)
                .limit(most)
                .for_update()
                .skip_locked()
                .load(connection)
                .await?
        }
    };
    if mails.is_empty() {
        return Ok((mails, Vec::new(), Vec::new()));
    }
    let ticket_ids: Vec<Uuid> = mails.iter().filter_map(|m| m.ticket_id).collect();
    let user_ids: Vec<&str> = mails.iter().map(|m| m.user_id.as_str()).collect();
    let of_mails = tickets::table
        .filter(tickets::id.eq_any(ticket_ids))
        .select(TicketOfMail::as_select())
        .load(connection)
        .await?;
    let people =
        users::table.filter(users::id.eq_any(user_ids)).select(PersonOfMail::as_select()).load(connection).await?;
    Ok((mails, of_mails, people))
}

/// Puts the beginning of an attempt on record and keeps other pollers away for the length of a lease. Leases are the
/// database's time: the clocks of daemons may differ.
///
/// # Errors
/// When the database fails.
pub async fn begin(connection: &mut AsyncPgConnection, ids: &[Uuid], lease: Duration) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    diesel::update(emails::table.filter(emails::id.eq_any(ids)))
        .set((emails::attempts.eq(emails::attempts + 1), emails::next_attempt_at.eq(end_of(lease))))
        .execute(connection)
        .await?;
    Ok(())
}

/// Prolongs the lease of mails that are still being sent.
///
/// # Errors
/// When the database fails.
pub async fn prolong(connection: &mut AsyncPgConnection, ids: &[Uuid], lease: Duration) -> Result<(), Error> {
    let leased = sql::<Bool>("emails.state = 'queued'").and(emails::next_attempt_at.lt(end_of(lease)));
    diesel::update(emails::table.filter(emails::id.eq_any(ids).and(leased)))
        .set(emails::next_attempt_at.eq(end_of(lease)))
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes mails due that wait for their next attempt, if none has begun since: each with how many had.
///
/// # Errors
/// When the database fails.
pub async fn make_due(connection: &mut AsyncPgConnection, mails: &[(Uuid, i32)]) -> Result<(), Error> {
    let (ids, attempts): (Vec<Uuid>, Vec<i32>) = mails.iter().copied().unzip();
    diesel::sql_query(
        "update emails e set next_attempt_at = now() from unnest($1, $2) as w(id, attempts) \
         where e.id = w.id and e.attempts = w.attempts and e.state = 'queued' and e.next_attempt_at > now()",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<Int4>, _>(attempts)
    .execute(connection)
    .await?;
    Ok(())
}

type EndOfLease = SqlLiteral<Timestamptz>;

fn end_of(lease: Duration) -> EndOfLease {
    sql::<Timestamptz>(&format!("now() + interval '{} seconds'", lease.as_secs()))
}

/// What became of an attempt, or of a mail that was not sent.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The mail.
    pub id: Uuid,
    /// Its state now: `queued` for one more try.
    pub state: &'static str,
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
            state: "queued",
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
    connection: &mut AsyncPgConnection,
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
    let settled: Vec<Settled> = diesel::sql_query(
        // A report may be faster than the result of the attempt that it is about: it stands, and the rest is noted beside it.
        "update emails e set state = case e.state when 'queued' then r.state else e.state end, subject = coalesce(r.subject, e.subject), sent_at = r.sent_at, \
         smtp_reply = coalesce(r.reply, e.smtp_reply), next_attempt_at = r.next_attempt_at \
         from unnest($1, $2, $3, $4, $5, $6, $7) as r(id, state, subject, sent_at, reply, next_attempt_at, attempts) \
         where e.id = r.id and e.attempts = r.attempts and (e.state = 'queued' \
         or r.state = 'sent' and e.sent_at is null and e.state in ('delivered', 'bounced', 'complained')) returning e.id",
    )
    .bind::<Array<SqlUuid>, _>(results.iter().map(|r| r.id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(results.iter().map(|r| r.state).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(results.iter().map(|r| r.subject.as_deref()).collect::<Vec<_>>())
    .bind::<Array<Nullable<Timestamptz>>, _>(results.iter().map(|r| r.sent_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(results.iter().map(|r| r.reply.as_deref()).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(results.iter().map(|r| r.next_attempt_at).collect::<Vec<_>>())
    .bind::<Array<Int4>, _>(results.iter().map(|r| r.attempts).collect::<Vec<_>>())
    .load(connection)
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
                email_attempts::outcome.eq(if r.state == "queued" { "retry" } else { r.state }),
                email_attempts::reply.eq(r.reply.as_deref()),
            )
        })
        .collect();
    if !failed.is_empty() {
        diesel::insert_into(email_attempts::table).values(failed).on_conflict_do_nothing().execute(connection).await?;
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
    Ok(diesel::sql_query(
        "select count(*)::int4 as pending, min(queued_at) as oldest, min(next_attempt_at) as due \
         from (select queued_at, next_attempt_at from emails where state = 'queued' order by next_attempt_at limit 100000) q",
    )
    .get_result(connection)
    .await?)
}
