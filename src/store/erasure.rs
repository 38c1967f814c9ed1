//! Erasing a person from every table, in bounded steps.
//!
//! The person's row goes first. That waits for every transaction that holds it: those that change the person, and those in
//! which they act ([`super::accounts::load_actors`]). Whatever those wrote is there to be cleaned afterwards, and nobody writes
//! anything new. Then each table is cleaned by an index, newest rows first: as much as almost everybody has. What is left of
//! unusual people is work for [`step`], which any daemon does; the row of `erasures` that asks for it does not name them.

use std::collections::BTreeSet;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

use crate::keys::KeyRing;
use crate::world::World;
use crate::world::erasing::Erased;

use super::schema::{erasures, users};
use super::{Error, event_outbox};

mod cleaning;

use cleaning::Cleaning;

/// Rows of a table that one transaction cleans, of all people whom it erases.
pub const STEP: i64 = 2000;
/// Rows that are looked at for each person all the same, however many are erased together.
const LEAST: i64 = 500;
/// Waiting events that are looked through. In a backlog that is longer, the rest shows the person until it is published.
const WAITING: i32 = 10_000;
/// Rows of them that are looked at together: each is as long as a page.
const PAGE: i64 = 500;

/// Erases the people whom a batch's decisions took out of the world. To be called before anything is written: somebody may
/// have been put anew under the same id or name. Returns the templates of the mails that were cancelled.
///
/// # Errors
/// When the database fails, or what stays of the person cannot be made unreadable: the transaction must be rolled back.
///
/// # Panics
/// Never: what is known of the person can be written as JSON.
pub async fn erase(
    connection: &mut AsyncPgConnection,
    world: &mut World,
    keys: &KeyRing,
) -> Result<Vec<String>, Error> {
    let people = std::mem::take(&mut world.erased);
    if people.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = people.iter().map(|p| p.id.as_str()).collect();
    diesel::delete(users::table.filter(users::id.eq_any(&ids))).execute(connection).await?;
    let taken: BTreeSet<String> = world.accounts().map(|a| a.email_key().to_owned()).collect();
    let limit = (STEP / i64::try_from(people.len()).unwrap_or(STEP)).max(LEAST);
    let mut cancelled = Vec::new();
    for person in &people {
        // What is stored is all of them: nothing of somebody new is written yet.
        let mut cleaning = Cleaning { connection, keys, person, before: Uuid::max(), limit, full: false };
        cancelled.extend(cleaning.run(&taken).await?);
        if cleaning.full {
            leave(connection, keys, person).await?;
        }
    }
    encrypt_waiting(connection, keys, &people).await?;
    for event in &mut world.events {
        if let Some(person) = people.iter().find(|p| event.subject == p.id || names(&event.body, &p.id)) {
            // Encrypted, and not left out: upstream apps must hear of it.
            event.body = keys.encrypt_at_rest(&event.body)?;
            event.subject.clone_from(&person.key);
        }
    }
    world.erased = people;
    Ok(cancelled)
}

/// Leaves the rest of an erasure to whichever daemon comes to it.
async fn leave(connection: &mut AsyncPgConnection, keys: &KeyRing, person: &Erased) -> Result<(), Error> {
    let text = serde_json::to_string(person).expect("text and ids can be written as JSON");
    let row = (
        erasures::id.eq(person.until),
        erasures::sealed.eq(keys.encrypt_at_rest(&text)?),
        erasures::due_at.eq(diesel::dsl::now),
    );
    diesel::insert_into(erasures::table).values(row).execute(connection).await?;
    Ok(())
}

/// What a step of the work that was left came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do, or others are at it.
    Idle,
    /// There may be more; the templates of the mails that were cancelled.
    Worked(Vec<String>),
    /// An erasure was sealed with a key that the key file does not have: it is tried again in an hour.
    Unreadable,
}

/// Does a bounded part of what erasures left over.
///
/// # Errors
/// When the database fails: then nothing of the step is done.
pub async fn step(connection: &mut AsyncPgConnection, keys: &KeyRing) -> Result<Step, Error> {
    connection
        .transaction::<_, Error, _>(async |connection| {
            let due: Option<(Uuid, String)> = erasures::table
                .filter(erasures::due_at.le(diesel::dsl::now))
                .order(erasures::due_at)
                .select((erasures::id, erasures::sealed))
                .for_update()
                .skip_locked()
                .first(connection)
                .await
                .optional()?;
            let Some((id, sealed)) = due else { return Ok(Step::Idle) };
            let opened = keys.decrypt_at_rest(&sealed);
            let Some(person) = opened.and_then(|text| serde_json::from_str::<Erased>(&text).ok()) else {
                let later = sql::<diesel::sql_types::Timestamptz>("now() + interval '1 hour'");
                let row = erasures::table.filter(erasures::id.eq(id));
                diesel::update(row).set(erasures::due_at.eq(later)).execute(connection).await?;
                return Ok(Step::Unreadable);
            };
            let before = person.until;
            let mut cleaning = Cleaning { connection, keys, person: &person, before, limit: STEP, full: false };
            let cancelled = cleaning.run(&BTreeSet::new()).await?;
            if !cleaning.full {
                diesel::delete(erasures::table.filter(erasures::id.eq(id))).execute(connection).await?;
            }
            Ok(Step::Worked(cancelled))
        })
        .await
}

/// Whether the text of an event holds an id, as JSON writes it.
fn names(body: &str, id: &str) -> bool {
    body.contains(&Value::from(id).to_string())
}

/// Events that are committed and not yet published: they will be, but until then they must not show the person.
async fn encrypt_waiting(connection: &mut AsyncPgConnection, keys: &KeyRing, people: &[Erased]) -> Result<(), Error> {
    let (mut after, mut seen) = (i64::MIN, 0);
    while seen < WAITING {
        let rows = event_outbox::page(connection, after, PAGE).await?;
        let theirs = rows.iter().filter(|row| people.iter().any(|p| names(&row.events, &p.id)));
        let theirs: Vec<i64> = theirs.map(|row| row.seq).collect();
        event_outbox::revise(connection, &theirs, |_, events| {
            for event in events {
                let person = people.iter().find(|p| event.subject == p.id || names(&event.body, &p.id));
                if let Some(person) = person {
                    event.body = keys.encrypt_at_rest(&event.body)?;
                    event.subject.clone_from(&person.key);
                }
            }
            Ok(())
        })
        .await?;
        if i64::try_from(rows.len()) != Ok(PAGE) {
            break;
        }
        after = rows.last().map_or(after, |row| row.seq);
        seen += rows.iter().map(|row| row.count).sum::<i32>();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_as_json_writes_it() {
        let body = serde_json::json!({ "subject": "o\"hara", "data": { "actor": "ada" } }).to_string();
        assert!(names(&body, "ada") && names(&body, "o\"hara"));
        assert!(!names(&body, "ad") && !names(&body, "o"));
    }
}
