//! Queued mails whose time has come, the oldest first.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::Error;
use super::emails::{QUEUED, QueuedEmail};
use super::schema::emails;
use super::statement::statement;

/// The largest number of mails that a look goes through if it passes some over. They may be nearly all of a backlog, and each look
/// would read all of it before it found another.
pub const LOOK: i64 = 10_000;

/// A place among the mails that are due: the moment, and the mail's id.
pub type Place = (DateTime<Utc>, Uuid);

/// Which of the mails whose time has come.
pub struct Due<'a> {
    /// The largest number of mails.
    pub most: i64,
    /// Also those of which an attempt was begun. Its lease may be over only because nobody could prolong it.
    pub begun: bool,
    /// But for those that this daemon is at already.
    pub but: &'a [Uuid],
    /// And those to these domains, in lowercase.
    pub but_domains: &'a [String],
    /// Only those after this place.
    pub after: Option<Place>,
}

/// Whether the time of any mail has come.
///
/// # Errors
/// When the database fails.
pub async fn any(connection: &mut AsyncPgConnection) -> Result<bool, Error> {
    let due = emails::table.filter(QUEUED.and(emails::next_attempt_at.le(diesel::dsl::now)));
    Ok(diesel::select(diesel::dsl::exists(due)).get_result(connection).await?)
}

impl Due<'_> {
    /// Locks them, if nobody else is looking at them. Says after which place to look on: where this look ended if more are due after it,
    /// and where it began if it found as many as it may.
    pub(super) async fn lock(
        &self,
        connection: &mut AsyncPgConnection,
    ) -> Result<(Vec<QueuedEmail>, Option<Place>), Error> {
        let (after, after_id) = self.after.unwrap_or((DateTime::UNIX_EPOCH, Uuid::nil()));
        let passes_some_over = !self.begun || !self.but_domains.is_empty();
        let end = if passes_some_over { look(connection, (after, after_id)).await? } else { None };
        let (to, to_id) = end.unwrap_or((END_OF_TIME, Uuid::max()));
        let mails: Vec<QueuedEmail> = statement(
            "select id, user_id, ticket_id, template, site, locale, to_address, facts, attempts, queued_at, give_up_at, \
             smtp_reply, command_id, traceparent from emails where state = 'queued' and next_attempt_at <= now() \
             and (next_attempt_at, id) > (?, ?) and (next_attempt_at, id) <= (?, ?) \
             and (? or attempts = 0) and id <> all(?) and lower(substring(to_address from '[^@]*$')) <> all(?) \
             order by next_attempt_at limit ? for update skip locked",
        )
        .bind::<Timestamptz, _>(after)
        .bind::<SqlUuid, _>(after_id)
        .bind::<Timestamptz, _>(to)
        .bind::<SqlUuid, _>(to_id)
        .bind::<Bool, _>(self.begun)
        .bind::<Array<SqlUuid>, _>(self.but)
        .bind::<Array<Text>, _>(self.but_domains)
        .bind::<BigInt, _>(self.most)
        .load(connection)
        .await?;
        let is_full = i64::try_from(mails.len()).is_ok_and(|found| found >= self.most);
        Ok((mails, if is_full { self.after } else { end }))
    }
}

/// Later than any mail is due.
const END_OF_TIME: DateTime<Utc> = DateTime::from_timestamp(253_402_300_799, 0).expect("the year 9999");

/// Where a look that begins after a place ends, if more are due after that.
async fn look(connection: &mut AsyncPgConnection, (after, after_id): Place) -> Result<Option<Place>, Error> {
    #[derive(QueryableByName)]
    struct Last {
        #[diesel(sql_type = Timestamptz)]
        next_attempt_at: DateTime<Utc>,
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let last: Option<Last> = statement(
        "select next_attempt_at, id from emails where state = 'queued' and next_attempt_at <= now() \
         and (next_attempt_at, id) > (?, ?) order by next_attempt_at, id offset ? limit 1",
    )
    .bind::<Timestamptz, _>(after)
    .bind::<SqlUuid, _>(after_id)
    .bind::<BigInt, _>(LOOK)
    .get_result(connection)
    .await
    .optional()?;
    Ok(last.map(|last| (last.next_attempt_at, last.id)))
}
