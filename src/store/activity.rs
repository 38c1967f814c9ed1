//! `activity`: every command that touched a person, refused ones too.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::Error;
use crate::world::NewActivity;

use super::pages::{Page, Range, STRIDE};
use super::schema::activity;
use super::statement::{column, statement};

/// Under what a mail that was sent again stands here. No command: operators do it at the shell.
pub const EMAILS_RETRY: &str = "emails.retry";

/// Writes rows.
///
/// # Errors
/// When the database fails.
pub async fn insert(mut connection: &AsyncPgConnection, rows: &[NewActivity]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    statement(
        "insert into activity \
         (id, at, kind, user_id, actor, publisher, command_id, outcome, ip, subject_key, details) \
         select * from unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind::<Array<SqlUuid>, _>(column(rows, |row| row.id))
    .bind::<Array<Timestamptz>, _>(column(rows, |row| row.at))
    .bind::<Array<Text>, _>(column(rows, |row| row.kind.as_str()))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.user_id.as_deref()))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.actor.as_deref()))
    .bind::<Array<Text>, _>(column(rows, |row| row.publisher.as_str()))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.command_id.as_deref()))
    .bind::<Array<Text>, _>(column(rows, |row| row.outcome.as_str()))
    .bind::<Array<Nullable<Text>>, _>(column(rows, |row| row.ip.as_deref()))
    .bind::<Array<Nullable<SqlUuid>>, _>(column(rows, |row| row.subject_key))
    .bind::<Array<Jsonb>, _>(column(rows, |row| &row.details))
    .execute(&mut connection)
    .await?;
    Ok(())
}

/// The epochs that erased people left behind, by what stands for them in histories. Their erasure is the newest there is of them.
///
/// # Errors
/// When the database fails.
pub async fn former_epochs(mut connection: &AsyncPgConnection, people: &[&str]) -> Result<Vec<(String, i64)>, Error> {
    #[derive(QueryableByName)]
    struct Left {
        #[diesel(sql_type = Text)]
        person: String,
        #[diesel(sql_type = BigInt)]
        epoch: i64,
    }
    if people.is_empty() {
        return Ok(Vec::new());
    }
    let left: Vec<Left> = statement(
        "select p.person, (e.details->>'session_epoch')::bigint as epoch from unnest(?) as p(person), \
         lateral (select details from activity where user_id = p.person and kind = 'user.erase' \
         order by id desc limit 1) e where jsonb_typeof(e.details->'session_epoch') = 'number'",
    )
    .bind::<Array<Text>, _>(people)
    .load(&mut connection)
    .await?;
    Ok(left.into_iter().map(|left| (left.person, left.epoch)).collect())
}

/// A row as it was written.
#[derive(Debug, Clone, Queryable, QueryableByName)]
#[diesel(table_name = activity, check_for_backend(diesel::pg::Pg))]
pub struct Row {
    /// Its id, in order of time.
    pub id: Uuid,
    /// When.
    pub at: DateTime<Utc>,
    /// The command.
    pub kind: String,
    /// The id of the person it touched; the pseudonym of one who was erased.
    pub user_id: Option<String>,
    /// Who acted.
    pub actor: Option<String>,
    /// Which publisher sent it.
    pub publisher: String,
    /// The message id.
    pub command_id: Option<String>,
    /// `ok` or an error code.
    pub outcome: String,
    /// Where the person was.
    pub ip: Option<String>,
    /// More.
    pub details: serde_json::Value,
}

/// Whose rows: each has an index in order of time.
#[derive(Debug, Clone, Copy)]
pub enum Of<'a> {
    /// What happened to a person.
    User(&'a str),
    /// What happened to a person's account: without sign-ins and sign-outs, which outnumber the rest.
    Account(&'a str),
    /// What a person of support, or the system, did.
    Actor(&'a str),
    /// Requests for an address that nobody had, as a keyed hash.
    Subject(Uuid),
    /// Everything.
    Everybody,
}

/// Which of those rows.
#[derive(Debug, Clone, Copy)]
pub struct Which<'a> {
    /// Ids below this one; the last one of the page before.
    pub before: Uuid,
    /// Ids from this one on.
    pub from: Uuid,
    /// Only rows of these commands.
    pub kinds: Option<&'a [&'a str]>,
    /// Only rows of this actor.
    pub actor: Option<&'a str>,
    /// A condition more, in SQL.
    pub also: Option<&'static str>,
}

impl Default for Which<'_> {
    fn default() -> Self {
        Self { before: Uuid::max(), from: Uuid::nil(), kinds: None, actor: None, also: None }
    }
}

/// A page of at most `limit` rows, newest first.
///
/// # Errors
/// When the database fails.
pub async fn page(
    connection: &mut AsyncPgConnection,
    of: Of<'_>,
    which: Which<'_>,
    limit: i64,
) -> Result<Page<Row>, Error> {
    let subject;
    // The index is found by these very words.
    let (whose, value) = match of {
        Of::User(id) => ("user_id = $1", Some(id)),
        Of::Account(id) => ("user_id = $1 and kind not like 'session.%'", Some(id)),
        Of::Actor(id) => ("actor = $1", Some(id)),
        Of::Subject(key) => {
            subject = key.to_string();
            ("subject_key = $1::uuid", Some(subject.as_str()))
        }
        Of::Everybody => ("$1::text is null", None),
    };
    let range = format!("select * from activity where {whose} and id < $2 and id >= $3 order by id desc");
    let also = which.also.map(|also| format!(" and ({also})")).unwrap_or_default();
    let picky = which.kinds.is_some() || which.actor.is_some() || which.also.is_some();
    let rows: Vec<Row> = diesel::sql_query(format!(
        "select id, at, kind, user_id, actor, publisher, command_id, outcome, ip, details from ({range} limit $4) a \
         where ($5 is null or kind = any($5)) and ($6 is null or actor = $6){also} order by id desc limit $7"
    ))
    .bind::<Nullable<Text>, _>(value)
    .bind::<SqlUuid, _>(which.before)
    .bind::<SqlUuid, _>(which.from)
    .bind::<BigInt, _>(if picky { STRIDE } else { limit + 1 })
    .bind::<Nullable<Array<Text>>, _>(which.kinds)
    .bind::<Nullable<Text>, _>(which.actor)
    .bind::<BigInt, _>(limit + 1)
    .load(connection)
    .await?;
    let Which { before, from, .. } = which;
    let range = Range { sql: &range, whose: value, before, from };
    Page::of(rows, limit, |row| row.id, picky.then_some(range), connection).await
}
