//! Loads what a batch of commands wants, and writes what they changed: one statement a table.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::commands::mailing::{Begins, NewEmail};
use crate::commands::world::{Wants, World};
use crate::domain::account::Account;
use crate::domain::email_address::email_key;
use crate::domain::ticket::Purpose;

use super::{Error, accounts, event_outbox, limits, past_emails, sessions, suppressions, tickets};

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
    let mut named_tickets = wants.tickets.clone();
    for (user, ticket) in past_emails::owners(connection, &wants.emails).await? {
        ids.insert(user);
        named_tickets.extend(ticket);
    }
    let mut loaded: BTreeMap<String, Account> =
        accounts::load(connection, &ids, lock).await?.into_iter().map(|a| (a.id().to_owned(), a)).collect();
    let people: Vec<&str> = ids.iter().map(String::as_str).collect();
    for ticket in tickets::load(connection, &people, &named_tickets, wants.newest_tickets).await? {
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
    let actors = accounts::load_actors(connection, &actors, lock).await?;
    let mut world = World::new(loaded.into_values().collect(), actors);
    load_mail(connection, wants, lock, &mut world).await?;
    Ok(world)
}

/// Loads mails of the history and suppressed addresses; most commands need neither.
async fn load_mail(
    connection: &mut AsyncPgConnection,
    wants: &Wants,
    lock: bool,
    world: &mut World,
) -> Result<(), Error> {
    world.add_past_emails(past_emails::load(connection, &wants.emails, lock).await?);
    let people = wants.reset_mails.iter().flat_map(|name| world.find(name));
    let requests: BTreeSet<(String, Uuid)> = people
        .filter_map(|id| Some((id.clone(), world.account(&id)?.newest_ticket_of(Purpose::PasswordReset)?.id)))
        .collect();
    let requests: Vec<_> = requests.into_iter().collect();
    let newest = past_emails::newest_of_tickets(connection, &requests).await?;
    world.add_past_emails(newest);
    world.add_suppressed(accounts::suppressed(connection, &wants.addresses).await?);
    Ok(())
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

/// Writes everything that the batch's decisions changed, but for new mails, of which it is settled how they begin.
///
/// # Errors
/// [`Error::Conflict`] when another transaction took a name first.
pub async fn write(
    connection: &mut AsyncPgConnection,
    world: &mut World,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    accounts::write(connection, world.accounts()).await?;
    tickets::write(connection, world.accounts().flat_map(|a| &a.tickets)).await?;
    sessions::write(connection, world.accounts().flat_map(|a| &a.sessions)).await?;
    limits::write(connection, world.limits()).await?;
    past_emails::write(connection, world.past_emails()).await?;
    suppressions::write(connection, world.suppressions(), now).await?;
    suppress(connection, world).await?;
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
