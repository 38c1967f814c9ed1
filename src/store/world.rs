//! Loads what a batch of commands wants, and writes what they changed: one statement a table.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;

use crate::commands::mailing::{Begins, NewEmail};
use crate::commands::world::{Wants, World};
use crate::domain::account::Account;
use crate::domain::email_address::email_key;

use super::{Error, accounts, emails, event_outbox, limits, sessions, tickets};

/// Loads the world. With `lock`, accounts stay locked until the transaction ends, in id order.
///
/// # Errors
/// When the database fails.
pub async fn load(
    connection: &mut AsyncPgConnection,
    wants: &Wants,
    lock: bool,
    now: DateTime<Utc>,
) -> Result<World, Error> {
    let mut ids: BTreeSet<String> = accounts::ids_of(connection, &wants.users).await?;
    ids.extend(wants.ids.iter().cloned());
    ids.extend(tickets::owners(connection, &wants.tickets).await?);
    ids.extend(sessions::owners(connection, &wants.sessions).await?);
    let mut loaded: BTreeMap<String, Account> =
        accounts::load(connection, &ids, lock).await?.into_iter().map(|a| (a.id().to_owned(), a)).collect();
    let people: Vec<&str> = ids.iter().map(String::as_str).collect();
    for ticket in tickets::load(connection, &people, &wants.tickets, wants.newest_tickets).await? {
        if let Some(account) = loaded.get_mut(&ticket.user_id) {
            account.tickets.push(ticket);
        }
    }
    for session in sessions::load(connection, &people, &wants.sessions, wants.live_sessions).await? {
        if let Some(account) = loaded.get_mut(&session.user_id)
            && (session.is_live(now) || wants.sessions.contains(&session.id))
        {
            account.sessions.push(session);
        }
    }
    let actors: BTreeSet<String> = wants.actors.iter().filter(|id| !loaded.contains_key(*id)).cloned().collect();
    let actors = accounts::load(connection, &actors, false).await?;
    Ok(World::new(loaded.into_values().collect(), actors))
}

/// Loads limits into a world.
///
/// # Errors
/// When the database fails.
pub async fn load_limits(
    connection: &mut AsyncPgConnection,
    world: &mut World,
    keys: &BTreeSet<uuid::Uuid>,
) -> Result<(), Error> {
    world.add_limits(limits::load(connection, keys).await?);
    Ok(())
}

/// Writes everything that the batch's decisions changed.
///
/// # Errors
/// [`Error::Conflict`] when another transaction took a name first.
pub async fn write(
    connection: &mut AsyncPgConnection,
    world: &mut World,
    grace: chrono::TimeDelta,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    accounts::write(connection, world.accounts()).await?;
    tickets::write(connection, world.accounts().flat_map(|a| &a.tickets)).await?;
    sessions::write(connection, world.accounts().flat_map(|a| &a.sessions)).await?;
    limits::write(connection, world.limits()).await?;
    suppress(connection, world).await?;
    emails::insert(connection, &world.emails, grace).await?;
    event_outbox::insert(connection, &world.events, now).await
}

/// Looks up the addresses of people who are new or changed: what was loaded says nothing of a new address.
async fn suppress(connection: &mut AsyncPgConnection, world: &mut World) -> Result<(), Error> {
    let changed = |mail: &&NewEmail| {
        mail.begins == Begins::Queued && world.account(&mail.user_id).is_some_and(|a| a.dirty && !a.suppressed)
    };
    let addresses: BTreeSet<String> = world.emails.iter().filter(changed).map(|mail| email_key(&mail.to)).collect();
    if addresses.is_empty() {
        return Ok(());
    }
    let suppressed = accounts::suppressed(connection, &addresses).await?;
    for mail in &mut world.emails {
        if mail.begins == Begins::Queued && suppressed.contains(&email_key(&mail.to)) {
            mail.begins = Begins::Suppressed;
        }
    }
    Ok(())
}
