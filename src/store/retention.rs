//! Deletes what is past its time, in bounded steps: each statement looks at no more than [`STEP`] rows, by an index, so that
//! a lane never waits for it, whatever there is to delete. Several daemons may be at it at once.
//!
//! | table | how it ends |
//! | --- | --- |
//! | `users` | with [`super::erasure`] |
//! | `tickets`, `sessions`, `emails`, `email_attempts`, `activity`, `inbox` | here, by age |
//! | `suppressions` | stay while anybody has the address; then here, by age |
//! | `rate_limits` | here, when no rule looks back to them |
//! | `event_outbox` | when they are published |
//! | `erasures` | when they are done |

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::config::{Config, Retention};
use crate::ids;

use super::Error;

/// Rows a statement.
pub const STEP: i64 = 2000;

/// How often the limits are swept: all of their pages are read.
const EVERY: Duration = Duration::from_secs(3600);

/// Pages of `rate_limits` a statement: they hold fewer rows than [`STEP`].
const PAGES: i64 = 16;

/// An array, not a join: the planner then looks each row up, whatever it believes about the table's size.
///
/// Histories are deleted by key range: their ids are in order of time.
const BY_ID: [(&str, &str); 3] = [
    (
        "email_attempts",
        "delete from email_attempts where ctid = any(array(select ctid from email_attempts where email_id < $1 order by email_id limit $2))",
    ),
    (
        "emails",
        "delete from emails where id = any(array(select id from emails where id < $1 and state <> 'queued' order by id limit $2)) \
         and state <> 'queued'",
    ),
    (
        "activity",
        "delete from activity where id = any(array(select id from activity where id < $1 order by id limit $2))",
    ),
];

/// Closed or expired ones only: an open ticket outlives its retention if its lifetime says so. Such may be many, so each step
/// goes on where the last one ended.
const TICKETS: &str = "with seen as (select id, state, expires_at from tickets where id > $1 and id < $2 order by id limit $3), \
     gone as (delete from tickets where id = any(array(select id from seen where state <> 'open' or expires_at < $4)) returning 1) \
     select count(*) as seen, (select id from seen order by id desc limit 1) as last, (select count(*) from gone) as gone from seen";

const SESSIONS: &str = "with seen as (select id, ended_at, expires_at from sessions where id > $1 and id < $2 order by id limit $3), \
     gone as (delete from sessions where id = any(array(select id from seen where ended_at is not null or expires_at < $4)) returning 1) \
     select count(*) as seen, (select id from seen order by id desc limit 1) as last, (select count(*) from gone) as gone from seen";

/// Deletes suppressions of addresses that nobody has any more.
const SUPPRESSIONS: &str = "with seen as (select email_key, since from suppressions where email_key > $1 order by email_key limit $2), \
     gone as (delete from suppressions where email_key = any(array(select s.email_key from seen s where s.since < $3 \
     and (select 1 from users u where u.email_key = s.email_key limit 1) is null))) \
     select (select email_key from seen order by email_key desc limit 1) as last";

const INBOX: &str = "delete from inbox where key = any(array(select key from inbox where received_at < $1 order by received_at limit $2))";

/// Limits have no order of time: a sweep reads them in the order in which they lie on disk.
const RATE_LIMITS: &str = "delete from rate_limits where ctid >= ('(' || $1 || ',0)')::tid and ctid < ('(' || $2 || ',0)')::tid \
     and last_at < $3";

/// How long rows live.
#[derive(Debug, Clone)]
pub struct Rules {
    /// `[retention]`.
    pub ages: Retention,
    /// How long sessions last at most.
    pub sessions: Duration,
    /// How far the rules of limits look back.
    pub limits: Duration,
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            ages: config.retention.clone(),
            sessions: config.sessions.lifetime,
            // Few windows are longer than a day; clocks of publishers may be behind, and an outage may delay what they sent.
            limits: [
                config.password_reset.min_interval,
                config.password_reset.code_lifetime,
                config.verification.code_lifetime,
            ]
            .into_iter()
            .fold(DAY, Duration::max)
                + DAY,
        }
    }
}

/// Where the steps have come to. Each daemon has its own.
#[derive(Debug, Default)]
pub struct Sweep {
    tickets: Uuid,
    sessions: Uuid,
    suppressions: String,
    page: i64,
    limits_again_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Walked {
    #[diesel(sql_type = BigInt)]
    seen: i64,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    last: Option<Uuid>,
    #[diesel(sql_type = BigInt)]
    gone: i64,
}

impl Sweep {
    /// One step over every table; says whether there is more to do at once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn step(
        &mut self,
        connection: &mut AsyncPgConnection,
        rules: &Rules,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let mut more = by_age(connection, &rules.ages, now).await?;
        let walks = [(TICKETS, &mut self.tickets, rules.ages.tickets), (SESSIONS, &mut self.sessions, rules.sessions)];
        for (statement, from, age) in walks {
            let walked: Walked = diesel::sql_query(statement)
                .bind::<SqlUuid, _>(*from)
                .bind::<SqlUuid, _>(ids::floor(now - age))
                .bind::<BigInt, _>(STEP)
                .bind::<Timestamptz, _>(now)
                .get_result(connection)
                .await?;
            // At the end it begins anew, with the next round.
            let full = walked.seen >= STEP;
            *from = walked.last.filter(|_| full).unwrap_or_default();
            more |= full && walked.gone > 0;
        }
        self.suppressions(connection, rules, now).await?;
        Ok(more)
    }

    async fn suppressions(
        &mut self,
        connection: &mut AsyncPgConnection,
        rules: &Rules,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Nullable<Text>)]
            last: Option<String>,
        }
        let row: Row = diesel::sql_query(SUPPRESSIONS)
            .bind::<Text, _>(&self.suppressions)
            .bind::<BigInt, _>(STEP)
            .bind::<Timestamptz, _>(now - rules.ages.activity)
            .get_result(connection)
            .await?;
        self.suppressions = row.last.unwrap_or_default();
        Ok(())
    }

    /// Forgets limits that no rule looks back to, on the next few pages; says whether the table goes on after them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn limits(
        &mut self,
        connection: &mut AsyncPgConnection,
        rules: &Rules,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        #[derive(QueryableByName)]
        struct Size {
            #[diesel(sql_type = BigInt)]
            pages: i64,
        }
        if self.page == 0 {
            if now < self.limits_again_at {
                return Ok(false);
            }
            self.limits_again_at = now + EVERY;
        }
        let size: Size = diesel::sql_query(
            "select pg_relation_size('rate_limits') / current_setting('block_size')::bigint as pages",
        )
        .get_result(connection)
        .await?;
        diesel::sql_query(RATE_LIMITS)
            .bind::<BigInt, _>(self.page)
            .bind::<BigInt, _>(self.page + PAGES)
            .bind::<Timestamptz, _>(now - rules.limits)
            .execute(connection)
            .await?;
        self.page += PAGES;
        let more = self.page < size.pages;
        if !more {
            self.page = 0;
        }
        Ok(more)
    }
}

/// Histories and the inbox; says whether a step was full.
async fn by_age(connection: &mut AsyncPgConnection, ages: &Retention, now: DateTime<Utc>) -> Result<bool, Error> {
    let mut most = 0;
    for (table, statement) in BY_ID {
        let age = if table == "activity" { ages.activity } else { ages.emails };
        let deleted = diesel::sql_query(statement)
            .bind::<SqlUuid, _>(ids::floor(now - age))
            .bind::<BigInt, _>(STEP)
            .execute(connection)
            .await?;
        most = most.max(deleted);
    }
    let deleted = diesel::sql_query(INBOX)
        .bind::<Timestamptz, _>(now - ages.commands)
        .bind::<BigInt, _>(STEP)
        .execute(connection)
        .await?;
    Ok(most.max(deleted) >= usize::try_from(STEP).unwrap_or(usize::MAX))
}

/// Notes tickets whose time is over, each once whichever daemon comes to it; returns their purposes.
///
/// # Errors
/// When the database fails.
pub async fn run_out(connection: &mut AsyncPgConnection, now: DateTime<Utc>) -> Result<Vec<String>, Error> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        purpose: String,
    }
    let rows: Vec<Row> = diesel::sql_query(
        "update tickets set expired_at = $1 where id = any(array(select id from tickets \
         where state = 'open' and expired_at is null and expires_at <= $1 order by expires_at limit $2 \
         for update skip locked)) returning purpose",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(STEP)
    .load(connection)
    .await?;
    Ok(rows.into_iter().map(|row| row.purpose).collect())
}
