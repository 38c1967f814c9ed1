//! What batches tell the metrics.

use chrono::{DateTime, TimeDelta, Utc};

use crate::broker::Delivery;
use crate::commands::Lane;
use crate::domain::ticket::{Purpose, State};
use crate::events::Event;
use crate::metrics::{self, EmailReport, Metrics, TicketEvent, TicketPurpose};
use crate::world::World;

use super::incoming::{self, Incoming};

/// The label of a lane.
pub fn lane(lane: Lane) -> metrics::Lane {
    match lane {
        Lane::State => metrics::Lane::State,
        Lane::Credentials => metrics::Lane::Credentials,
        Lane::Queries => metrics::Lane::Queries,
    }
}

/// From here on a publisher's clock is wrong, and not only read a moment earlier.
const AHEAD: TimeDelta = TimeDelta::seconds(5);

/// Notes that a publisher's clock is ahead: of every message, also of one that is refused for it.
pub fn ahead(metrics: &Metrics, delivery: &Delivery, now: DateTime<Utc>) {
    // What is no moment at all is one that is far ahead: milliseconds, or worse.
    let is_ahead = |asked: u64| i64::try_from(asked).unwrap_or(i64::MAX) > (now + AHEAD).timestamp();
    if delivery.properties.timestamp.is_some_and(is_ahead) {
        metrics.command_ahead();
    }
}

/// Notes how long a command waited. One without a timestamp does not say, and one that failed before waited on purpose.
pub fn lag(metrics: &Metrics, from: Lane, incoming: &Incoming) {
    if incoming.delivery.properties.timestamp.is_none() {
        return;
    }
    if incoming::attempts(&incoming.delivery) == 0 {
        metrics.command_lag(lane(from), incoming.waited);
    }
}

/// Counts what a committed batch did to tickets, accounts and mails of the past.
pub fn committed(metrics: &Metrics, world: &World, now: DateTime<Utc>) {
    tickets(metrics, world, now);
    for _ in world.events.iter().filter(|event| event.name == Event::USER_LOCKED) {
        metrics.lockout();
    }
    // The one thing that changes a mail of the past is what its provider says of it.
    for mail in world.past_emails().filter(|mail| mail.dirty) {
        if let Some(kind) = EmailReport::ALL.iter().find(|kind| kind.as_str() == mail.state) {
            metrics.email_report(*kind);
        }
    }
}

fn tickets(metrics: &Metrics, world: &World, now: DateTime<Utc>) {
    for ticket in world.accounts().flat_map(|a| &a.tickets).filter(|t| t.dirty) {
        let purpose = match ticket.purpose {
            Purpose::PasswordReset => TicketPurpose::PasswordReset,
            Purpose::Invite => TicketPurpose::Invite,
            Purpose::Verification => TicketPurpose::Verification,
            // An internal step of a sign-in.
            Purpose::PasswordChange => continue,
        };
        if ticket.created_at == now {
            metrics.ticket(purpose, TicketEvent::Opened);
        }
        match ticket.state {
            State::Open => {}
            State::Completed => metrics.ticket(purpose, TicketEvent::Used),
            State::Superseded => metrics.ticket(purpose, TicketEvent::Superseded),
            State::Revoked => metrics.ticket(purpose, TicketEvent::Revoked),
            State::TooManyAttempts => metrics.ticket(purpose, TicketEvent::TooManyAttempts),
        }
    }
}
