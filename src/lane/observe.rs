//! What batches tell the metrics.

use chrono::{DateTime, Utc};

use crate::commands::Lane;
use crate::commands::world::World;
use crate::domain::ticket::{Purpose, State};
use crate::metrics::{self, Metrics, TicketEvent, TicketPurpose};

/// The label of a lane.
pub fn lane(lane: Lane) -> metrics::Lane {
    match lane {
        Lane::State => metrics::Lane::State,
        Lane::Credentials => metrics::Lane::Credentials,
        Lane::Queries => metrics::Lane::Queries,
    }
}

/// Counts what a committed batch did to tickets.
pub fn tickets(metrics: &Metrics, world: &World, now: DateTime<Utc>) {
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
