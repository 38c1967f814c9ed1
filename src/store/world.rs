//! Loads what a batch of commands wants, and writes what they changed: one statement a table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::domain::account::Account;
use crate::domain::email_address::email_key;
use crate::domain::ticket::Purpose;
use crate::world::{NewActivity, Wants, World};

use super::inbox::Answered;
use super::statement::in_one_go;
use super::{
    Error, accounts, activity, emails, event_outbox, inbox, limits, past_emails, sessions, suppressions, tickets,
};

/// Loads the world. With `lock`, accounts stay locked until the transaction ends, in id order.
///
/// # Errors
/// When the database fails.
pub async fn load(
    connection: &AsyncPgConnection,
    wants: &Wants,
    lock: bool,
    now: DateTime<Utc>,
) -> Result<World, Error> {
    let (mut ids, of_tickets, of_sessions, of_emails) = in_one_go!(
        accounts::ids_of(connection, &wants.users),
        tickets::owners(connection, &wants.tickets),
        sessions::owners(connection, &wants.sessions),
        past_emails::owners(connection, &wants.emails),
    );
    ids.extend(wants.ids.iter().cloned().chain(of_tickets).chain(of_sessions));
    let mut named_tickets = wants.tickets.clone();
    for (user, ticket) in of_emails {
        ids.insert(user);
        named_tickets.extend(ticket);
    }
    let people: Vec<&str> = ids.iter().map(String::as_str).collect();
    let actors: BTreeSet<String> = wants.actors.difference(&ids).cloned().collect();
    let (accounts, tickets, sessions, actors) = in_one_go!(
        // First the locks: what follows sees what was committed while they were waited for.
        accounts::load(connection, &ids, lock),
        tickets::load(connection, &people, &named_tickets, wants.newest_tickets),
        sessions::load(connection, &people, &wants.sessions, wants.live_sessions),
        accounts::load_actors(connection, &actors, lock),
    );
    let mut loaded: BTreeMap<String, Account> = accounts.into_iter().map(|a| (a.id().to_owned(), a)).collect();
    for ticket in tickets {
        if let Some(account) = loaded.get_mut(&ticket.user_id) {
            account.tickets.push(ticket);
        }
    }
    for session in sessions {
        if let Some(account) = loaded.get_mut(&session.user_id)
            && (session.is_live(now) || wants.sessions.contains(&session.id))
        {
            account.sessions.push(session);
        }
    }
    let mut world = World::new(loaded.into_values().collect(), actors);
    load_epochs(connection, wants, &mut world).await?;
    load_mail(connection, wants, lock, &mut world).await?;
    Ok(world)
}

/// Loads what those left behind who had the id of somebody new before.
async fn load_epochs(connection: &AsyncPgConnection, wants: &Wants, world: &mut World) -> Result<(), Error> {
    let new: BTreeMap<&str, &String> =
        wants.puts.iter().filter(|(id, _)| world.account(id).is_none()).map(|(id, key)| (key.as_str(), id)).collect();
    let keys: Vec<&str> = new.keys().copied().collect();
    let left = activity::former_epochs(connection, &keys).await?;
    let left = left.into_iter().filter_map(|(key, epoch)| Some(((*new.get(key.as_str())?).clone(), epoch)));
    world.add_former_epochs(left);
    Ok(())
}

/// Loads mails of the history and suppressed addresses; most commands need neither.
async fn load_mail(connection: &AsyncPgConnection, wants: &Wants, lock: bool, world: &mut World) -> Result<(), Error> {
    world.add_past_emails(past_emails::load(connection, &wants.emails, lock).await?);
    let people = wants.reset_mails.iter().flat_map(|name| world.find(name));
    let requests: BTreeSet<(String, Uuid)> = people
        .filter_map(|id| Some((id.clone(), world.account(&id)?.newest_ticket_of(Purpose::PasswordReset)?.id)))
        .collect();
    let requests: Vec<_> = requests.into_iter().collect();
    let newest = past_emails::newest_of_tickets(connection, &requests).await?;
    world.add_past_emails(newest);
    // Where a reported mail went: it need not be anybody's address any more.
    let reported = wants.emails.iter().filter_map(|id| world.past_email(*id)).map(|mail| email_key(&mail.to));
    let addresses: BTreeSet<String> = wants.addresses.iter().cloned().chain(reported).collect();
    world.add_suppressed(accounts::suppressed(connection, &addresses).await?);
    Ok(())
}

/// Loads limits into a world.
///
/// # Errors
/// When the database fails.
pub async fn load_limits(
    connection: &AsyncPgConnection,
    world: &mut World,
    keys: &BTreeSet<uuid::Uuid>,
) -> Result<(), Error> {
    world.add_limits(limits::load(connection, keys).await?);
    Ok(())
}

/// What is written beside the world.
pub struct Record<'a> {
    /// How long the attempts of mails that begin now are this daemon's alone.
    pub lease: Duration,
    /// How long a poller leaves the others alone: they are handed over in memory.
    pub grace: TimeDelta,
    /// What was done.
    pub activity: &'a [NewActivity],
    /// What commands were answered.
    pub answers: &'a [Answered],
}

/// Writes everything that the batch's decisions changed, and that they were made: a statement a table, which leave together and
/// are executed in this order.
///
/// # Errors
/// [`Error::Conflict`] when another transaction took a name first, counted a limit, or answered one of the commands.
pub async fn write(
    connection: &AsyncPgConnection,
    world: &World,
    record: Record<'_>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    in_one_go!(
        accounts::write(connection, world.accounts()),
        tickets::write(connection, world.accounts().flat_map(|a| &a.tickets)),
        sessions::write(connection, world.accounts().flat_map(|a| &a.sessions)),
        limits::write(connection, world.limits()),
        past_emails::write(connection, world.past_emails()),
        suppressions::write(connection, world.suppressions(), now),
        emails::insert(connection, &world.emails, record.lease, record.grace),
        event_outbox::insert(connection, &world.events, now),
        activity::insert(connection, record.activity),
        inbox::insert(connection, record.answers),
    );
    Ok(())
}
