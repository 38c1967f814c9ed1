//! A person's tickets: the newest wins.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Account;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::ticket::{Purpose, State, Ticket, timestamp};

impl Account {
    /// Withdraws every open ticket.
    pub fn void_tickets(&mut self, now: DateTime<Utc>) {
        for ticket in &mut self.tickets {
            ticket.close(State::Revoked, now);
        }
    }

    /// Adds a ticket; older open ones of the same purpose are superseded: the newest wins.
    pub fn open_ticket(&mut self, ticket: Ticket, now: DateTime<Utc>) {
        for older in self.tickets.iter_mut().filter(|t| t.is_open_for(ticket.purpose)) {
            older.close(State::Superseded, now);
            older.newer_requested_at = Some(ticket.requested_at);
        }
        self.tickets.push(ticket);
    }

    /// The open ticket of a purpose, also an expired one.
    pub fn open_ticket_of(&mut self, purpose: Purpose) -> Option<&mut Ticket> {
        self.tickets.iter_mut().find(|t| t.is_open_for(purpose))
    }

    /// The newest loaded ticket of a purpose, whatever became of it.
    pub fn newest_ticket_of(&self, purpose: Purpose) -> Option<&Ticket> {
        self.tickets.iter().filter(|t| t.purpose == purpose).max_by_key(|t| t.recency())
    }

    /// As [`Self::newest_ticket_of`], to change.
    pub fn newest_ticket_of_mut(&mut self, purpose: Purpose) -> Option<&mut Ticket> {
        self.tickets.iter_mut().filter(|t| t.purpose == purpose).max_by_key(|t| t.recency())
    }

    /// A loaded ticket.
    pub fn ticket(&self, id: Uuid) -> Option<&Ticket> {
        self.tickets.iter().find(|t| t.id == id)
    }

    /// A loaded ticket, to change.
    pub fn ticket_mut(&mut self, id: Uuid) -> Option<&mut Ticket> {
        self.tickets.iter_mut().find(|t| t.id == id)
    }

    /// Ok if a ticket of this person can be used now, else the precise reason why not.
    ///
    /// # Errors
    /// As [`Ticket::usable`]; `token_superseded` says when the newest request was made, not just the one after.
    pub fn usable(&self, ticket: &Ticket, now: DateTime<Utc>) -> Result<(), Rejection> {
        ticket.usable(now).map_err(|refusal| {
            let newest = self.newest_ticket_of(ticket.purpose).filter(|newest| newest.recency() > ticket.recency());
            let newest = newest.map(|t| t.requested_at).or(ticket.newer_requested_at);
            match newest {
                Some(at) if refusal.code == Code::TokenSuperseded => refusal.with("newer_requested_at", timestamp(at)),
                _ => refusal,
            }
        })
    }
}
