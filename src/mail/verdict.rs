//! Whether a queued mail is still to be sent, and when to try again: pure rules.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::{Rng, RngExt};

use crate::domain::explain::unsent;
use crate::domain::ticket::State;
use crate::store::emails::{PersonOfMail, QueuedEmail, TicketOfMail};

use super::transport::Failure;

/// What to do with a queued mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it.
    Send,
    /// It has nothing to say any more.
    Cancel(&'static str),
    /// Its ticket ran out.
    Expire,
    /// Its address bounced or complained since.
    Suppress,
    /// It was tried for as long as it may be.
    GiveUp,
}

/// Decides at the moment before an attempt.
pub fn verdict(
    mail: &QueuedEmail,
    ticket: Option<&TicketOfMail>,
    person: Option<&PersonOfMail>,
    suppressed: bool,
    now: DateTime<Utc>,
) -> Verdict {
    let Some(person) = person else {
        return Verdict::Cancel("the person was erased");
    };
    if person.blocked {
        return Verdict::Cancel(unsent::BLOCKED);
    }
    match (mail.ticket_id, ticket) {
        (None, _) if now >= mail.give_up_at => Verdict::GiveUp,
        (Some(_), None) => Verdict::Cancel("its ticket is gone"),
        (Some(_), Some(ticket)) if ticket.state != Some(State::Open) => Verdict::Cancel(unsent::TICKET_CLOSED),
        (Some(_), Some(ticket)) if now >= ticket.expires_at => Verdict::Expire,
        (None, _) | (Some(_), Some(_)) if suppressed => Verdict::Suppress,
        (None, _) | (Some(_), Some(_)) => Verdict::Send,
    }
}

/// Seconds before the next attempt, by the number of those that failed.
const DELAYS: [u64; 8] = [2, 5, 15, 60, 300, 900, 1800, 3600];

/// A server that is away as a whole is asked again soon: it is not this mail's fault.
const UNREACHABLE: u64 = 60;

/// How long to wait before the next attempt: growing, and jittered by a quarter, so that mails that failed together do not
/// come back together.
pub fn delay(failed_attempts: i32, failure: Failure, rng: &mut impl Rng) -> Duration {
    let step = usize::try_from(failed_attempts.saturating_sub(1)).unwrap_or(0).min(DELAYS.len() - 1);
    let seconds = match failure {
        Failure::Unreachable => DELAYS[step].min(UNREACHABLE),
        _ => DELAYS[step],
    };
    Duration::from_secs(seconds).mul_f64(rng.random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ticket::Purpose;
    use rand::SeedableRng;
    use uuid::Uuid;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn mail(ticket: bool) -> QueuedEmail {
        QueuedEmail {
            id: Uuid::nil(),
            user_id: "ada".into(),
            ticket_id: ticket.then(Uuid::nil),
            template: "invite".into(),
            site: "default".into(),
            locale: None,
            to_address: "ada@example.com".into(),
            facts: serde_json::json!({}),
            attempts: 0,
            queued_at: at(0),
            give_up_at: at(100),
            smtp_reply: None,
            command_id: None,
            traceparent: None,
        }
    }

    fn ticket(state: Option<State>) -> TicketOfMail {
        TicketOfMail { id: Uuid::nil(), purpose: Some(Purpose::Invite), key_id: "k".into(), state, expires_at: at(100) }
    }

    fn person(blocked: bool) -> PersonOfMail {
        PersonOfMail {
            id: "ada".into(),
            username: "ada".into(),
            display_name: None,
            email: "ada@example.com".into(),
            blocked,
        }
    }

    #[test]
    fn only_what_still_makes_sense_is_sent() {
        let open = ticket(Some(State::Open));
        let free = person(false);
        let of = |mail: &QueuedEmail, ticket: Option<&TicketOfMail>, person: Option<&PersonOfMail>, now| {
            verdict(mail, ticket, person, false, at(now))
        };
        assert_eq!(of(&mail(true), Some(&open), Some(&free), 99), Verdict::Send);
        assert_eq!(of(&mail(true), Some(&open), Some(&free), 100), Verdict::Expire);
        assert_eq!(of(&mail(false), None, Some(&free), 99), Verdict::Send);
        assert_eq!(of(&mail(false), None, Some(&free), 100), Verdict::GiveUp);
        let closed = [State::Completed, State::Superseded, State::Revoked, State::TooManyAttempts];
        for state in closed.into_iter().map(Some).chain([None]) {
            let closed = ticket(state);
            assert!(matches!(of(&mail(true), Some(&closed), Some(&free), 1), Verdict::Cancel(_)), "{state:?}");
        }
        assert!(matches!(of(&mail(true), None, Some(&free), 1), Verdict::Cancel(_)));
        assert!(matches!(of(&mail(true), Some(&open), Some(&person(true)), 1), Verdict::Cancel(_)));
        assert!(matches!(of(&mail(true), Some(&open), None, 1), Verdict::Cancel(_)));
        let copy = QueuedEmail { to_address: "elsewhere@example.com".into(), ..mail(true) };
        assert_eq!(of(&copy, Some(&open), Some(&free), 1), Verdict::Send, "it was forwarded");
    }

    #[test]
    fn a_suppressed_address_gets_nothing_and_other_reasons_come_first() {
        let open = ticket(Some(State::Open));
        let of = |mail: &QueuedEmail, ticket: Option<&TicketOfMail>, now| {
            verdict(mail, ticket, Some(&person(false)), true, at(now))
        };
        assert_eq!(of(&mail(true), Some(&open), 99), Verdict::Suppress);
        assert_eq!(of(&mail(false), None, 99), Verdict::Suppress);
        assert_eq!(of(&mail(true), Some(&open), 100), Verdict::Expire);
        assert!(matches!(of(&mail(true), Some(&ticket(Some(State::Completed))), 1), Verdict::Cancel(_)));
    }

    #[test]
    fn delays_grow_and_are_bounded() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let mut of = |n, failure| delay(n, failure, &mut rng).as_secs_f64();
        assert!((1.5..2.5).contains(&of(1, Failure::Transient)));
        assert!((225.0..375.0).contains(&of(5, Failure::Transient)));
        assert!(of(i32::MAX, Failure::Transient) <= 4500.0);
        assert!(of(i32::MAX, Failure::Unreachable) <= 75.0);
        assert!(of(0, Failure::Ambiguous) >= 1.5);
    }
}
