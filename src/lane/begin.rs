//! Mails whose first attempt begins with the transaction that asks for them; and those that get none.

use chrono::{DateTime, Utc};

use crate::domain::account::Account;
use crate::domain::ticket::Ticket;
use crate::events::{self, EmailNews, Event, Origin, QueuedEvent};
use crate::mail::sender::{Claimed, Handover, Reservation};
use crate::store::emails::{self, PersonOfMail, TicketOfMail};
use crate::world::World;
use crate::world::mailing::{Begins, NewEmail};

use super::decide::DecisionInputs;

/// Takes permits for as many of the queued mails as there are permits; these are [`Begins::Begun`] then.
pub fn begin(world: &mut World, handover: &Handover, mut reservation: Reservation, now: DateTime<Utc>) -> Vec<Claimed> {
    let mut emails = std::mem::take(&mut world.emails);
    let claimed = emails
        .iter_mut()
        .filter(|mail| mail.begins == Begins::Queued)
        .filter_map(|mail| {
            let account = world.account(&mail.user_id)?;
            let ticket = mail.ticket_id.and_then(|id| account.tickets.iter().find(|ticket| ticket.id == id));
            let claimed = handover.claim(&mut reservation, row(mail), ticket.map(of_mail), person(account), now)?;
            mail.begins = Begins::Begun;
            Some(claimed)
        })
        .collect();
    world.emails = emails;
    claimed
}

/// Tells of mails that are given up from the first, since nothing is sent to their address: as of those that are given up later.
pub fn tell_suppressed(world: &mut World, inputs: &mut DecisionInputs<'_>) {
    let source = &inputs.env.config.events.source;
    let events: Vec<QueuedEvent> = world
        .emails
        .iter()
        .filter(|mail| mail.begins == Begins::Suppressed)
        .map(|mail| {
            let event = Event::Email {
                email_id: mail.id,
                template: mail.template.as_str().to_owned(),
                news: EmailNews::Suppressed,
                smtp_reply: None,
            };
            let origin = Origin {
                command_id: mail.command_id.as_deref(),
                traceparent: mail.traceparent.as_deref(),
                ..Origin::default()
            };
            let id = inputs.ids.next(inputs.now, inputs.rng);
            events::cloud_event(&event, &mail.user_id, id, inputs.now, source, &origin)
        })
        .collect();
    world.events.extend(events);
}

fn row(mail: &NewEmail) -> emails::QueuedEmail {
    emails::QueuedEmail {
        id: mail.id,
        user_id: mail.user_id.clone(),
        ticket_id: mail.ticket_id,
        template: mail.template.as_str().to_owned(),
        site: mail.site.clone(),
        locale: mail.locale.clone(),
        to_address: mail.to.clone(),
        facts: mail.facts.clone(),
        attempts: 0,
        queued_at: mail.queued_at,
        give_up_at: mail.give_up_at,
        smtp_reply: None,
        command_id: mail.command_id.clone(),
        traceparent: mail.traceparent.clone(),
    }
}

fn of_mail(ticket: &Ticket) -> TicketOfMail {
    TicketOfMail {
        id: ticket.id,
        purpose: Some(ticket.purpose),
        key_id: ticket.key_id.clone(),
        state: Some(ticket.state),
        expires_at: ticket.expires_at,
    }
}

fn person(account: &Account) -> PersonOfMail {
    PersonOfMail {
        id: account.profile.id.clone(),
        username: account.profile.username.clone(),
        display_name: account.profile.display_name.clone(),
        email: account.profile.email.clone(),
        blocked: account.blocked,
    }
}
