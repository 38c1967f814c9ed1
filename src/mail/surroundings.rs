//! What it depends on, beside mails themselves, whether they are sent: their tickets, their people, the suppression list.

use std::collections::{BTreeSet, HashMap};

use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use crate::domain::email_address::email_key;
use crate::store::emails::{PersonOfMail, QueuedEmail, TicketOfMail};
use crate::store::{self, accounts};

/// That of several mails, as of now.
pub(super) struct Surroundings {
    tickets: HashMap<Uuid, TicketOfMail>,
    people: HashMap<String, PersonOfMail>,
    suppressed: BTreeSet<String>,
}

impl Surroundings {
    /// Of mails that were locked, together with their tickets and people.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn of(
        connection: &AsyncPgConnection,
        mails: impl Iterator<Item = &QueuedEmail>,
        tickets: Vec<TicketOfMail>,
        people: Vec<PersonOfMail>,
    ) -> Result<Self, store::Error> {
        let addresses: BTreeSet<String> = mails.map(|mail| email_key(&mail.to_address)).collect();
        Ok(Self {
            tickets: tickets.into_iter().map(|ticket| (ticket.id, ticket)).collect(),
            people: people.into_iter().map(|person| (person.id.clone(), person)).collect(),
            suppressed: accounts::suppressed(connection, &addresses).await?,
        })
    }

    /// The ticket that a mail carries, if it carries one that is still there.
    pub(super) fn ticket(&self, mail: &QueuedEmail) -> Option<&TicketOfMail> {
        mail.ticket_id.and_then(|id| self.tickets.get(&id))
    }

    /// The person it is for, unless they were erased.
    pub(super) fn person(&self, mail: &QueuedEmail) -> Option<&PersonOfMail> {
        self.people.get(&mail.user_id)
    }

    /// Whether nothing is sent to its address.
    pub(super) fn is_suppressed(&self, mail: &QueuedEmail) -> bool {
        self.suppressed.contains(&email_key(&mail.to_address))
    }
}
