//! Mails that failed, and that an operator wants sent again. Whether one still makes sense is decided without I/O.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use serde_json::json;
use uuid::Uuid;

use crate::domain::access::SYSTEM;
use crate::domain::email_address::email_key;
use crate::domain::email_state::EmailState;
use crate::domain::explain::unsent;
use crate::store;
use crate::store::activity::{self, EMAILS_RETRY};
use crate::store::email_list::{self, Failed};
use crate::store::emails::{PersonOfMail, TicketOfMail};
use crate::world::NewActivity;

use super::catalogue::Template;
use super::render::TemplateSet;
use super::surroundings::Surroundings;
use super::verdict::{Verdict, verdict};

/// Mails per transaction.
const TOGETHER: usize = 200;
/// Stands for the publisher in the activity log.
const SHELL: &str = "shell";

/// How mails are sent again.
pub struct Order<'a> {
    /// The templates in force.
    pub templates: &'a TemplateSet,
    /// `mail.max_age`.
    pub max_age: Duration,
    /// Who wants it, for the activity log.
    pub operator: Option<&'a str>,
    /// Makes the ids of its rows.
    pub new_id: fn() -> Uuid,
    /// Only to see what would be done.
    pub dry_run: bool,
}

/// What became of mails.
#[derive(Debug, Default)]
pub struct Report {
    /// Those that are sent again.
    pub queued: Vec<Uuid>,
    /// Those that are not, each with the reason.
    pub refused: Vec<(Uuid, String)>,
}

/// Queues those mails that still make sense; the next poll of any daemon takes them up.
///
/// # Errors
/// When the database fails: some of many may be queued then.
pub async fn queue(
    connection: &mut AsyncPgConnection,
    ids: &[Uuid],
    order: &Order<'_>,
) -> Result<Report, store::Error> {
    let mut report = Report::default();
    for ids in ids.chunks(TOGETHER) {
        let now = crate::clock::now();
        let part = connection.transaction(async |connection| queue_some(connection, ids, order, now).await).await?;
        report.queued.extend(part.queued);
        report.refused.extend(part.refused);
    }
    Ok(report)
}

async fn queue_some(
    connection: &mut AsyncPgConnection,
    ids: &[Uuid],
    order: &Order<'_>,
    now: DateTime<Utc>,
) -> Result<Report, store::Error> {
    let (mails, tickets, people) = email_list::lock(connection, ids).await?;
    let around = Surroundings::of(connection, mails.iter().map(|failed| &failed.mail), tickets, people).await?;
    let (mut good, mut notes, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for failed in &mails {
        let mail = &failed.mail;
        let enabled = |template| order.templates.enabled(template, &mail.site, mail.locale.as_deref());
        let circumstances = Circumstances {
            ticket: around.ticket(mail),
            person: around.person(mail),
            suppressed: around.is_suppressed(mail),
            enabled: mail.template.parse().is_ok_and(enabled),
            max_age: order.max_age,
            now,
        };
        match again(failed, circumstances) {
            Ok(until) => {
                good.push((mail.id, until));
                notes.push(note(failed, order, now));
            }
            Err(why) => refused.push((mail.id, why)),
        }
    }
    let missing = ids.iter().filter(|id| !mails.iter().any(|failed| failed.mail.id == **id));
    refused.extend(missing.map(|id| (*id, "there is no such email".to_owned())));
    if !order.dry_run {
        email_list::requeue(connection, &good).await?;
        activity::insert(connection, &notes).await?;
    }
    Ok(Report { queued: good.into_iter().map(|(id, _)| id).collect(), refused })
}

/// The row of the person's activity log.
fn note(failed: &Failed, order: &Order<'_>, now: DateTime<Utc>) -> NewActivity {
    NewActivity {
        id: (order.new_id)(),
        at: now,
        kind: EMAILS_RETRY.to_owned(),
        user_id: Some(failed.mail.user_id.clone()),
        actor: Some(SYSTEM.to_owned()),
        publisher: SHELL.to_owned(),
        command_id: None,
        outcome: "ok".to_owned(),
        ip: None,
        subject_key: None,
        details: json!({ "email_id": failed.mail.id, "operator": order.operator }),
    }
}

/// What it depends on, as of now, whether a mail makes sense.
#[derive(Debug, Clone, Copy)]
struct Circumstances<'a> {
    ticket: Option<&'a TicketOfMail>,
    person: Option<&'a PersonOfMail>,
    suppressed: bool,
    /// Whether its template is switched on.
    enabled: bool,
    max_age: Duration,
    now: DateTime<Utc>,
}

/// Until when it is to be tried, or why not at all and what to do instead.
fn again(failed: &Failed, around: Circumstances<'_>) -> Result<DateTime<Utc>, String> {
    let Circumstances { ticket, person, suppressed, enabled, max_age, now } = around;
    if failed.state != EmailState::Failed.as_str() {
        return Err(format!(
            "it is `{}`, not failed; `email.resend` sends a mail of the history once more",
            failed.state
        ));
    }
    // A mail without a ticket is tried for as long as a new one: that its time was over is why it failed.
    let mut mail = failed.mail.clone();
    if mail.ticket_id.is_none() {
        mail.give_up_at = now + max_age;
    }
    match verdict(&mail, ticket, person, suppressed, now) {
        Verdict::Send => {}
        Verdict::Cancel(why @ unsent::BLOCKED) => return Err(format!("{why}; `user.unblock` first")),
        Verdict::Cancel(why) => return Err(why.to_owned()),
        Verdict::Expire => return Err("its link or code has expired; ask for a new one".to_owned()),
        Verdict::Suppress => {
            return Err("its address bounced or complained before; `email.unsuppress` lifts that".to_owned());
        }
        Verdict::GiveUp => return Err("mail.max_age leaves no time for it".to_owned()),
    }
    if mail.template.parse::<Template>().is_err() {
        return Err(format!("this version has no template `{}`", mail.template));
    }
    if !enabled {
        return Err(unsent::TEMPLATE_OFF.to_owned());
    }
    let moved = person.is_some_and(|person| email_key(&person.email) != email_key(&mail.to_address));
    // One that repeats another may be a copy that was meant for another address.
    if moved && failed.resend_of.is_none() {
        return Err("the person has another address by now; `email.resend` sends it there".to_owned());
    }
    Ok(ticket.map_or(mail.give_up_at, |ticket| ticket.expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ticket::{Purpose, State};
    use crate::store::emails::QueuedEmail;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn failed(template: &str, ticket: bool) -> Failed {
        Failed {
            mail: QueuedEmail {
                id: Uuid::nil(),
                user_id: "ada".into(),
                ticket_id: ticket.then(Uuid::nil),
                template: template.into(),
                site: "default".into(),
                locale: None,
                to_address: "Ada@example.com".into(),
                facts: serde_json::json!({}),
                attempts: 9,
                queued_at: at(-100),
                give_up_at: at(-10),
                smtp_reply: Some("550 no".into()),
                command_id: None,
                traceparent: None,
            },
            state: "failed".into(),
            resend_of: None,
        }
    }

    fn ticket() -> TicketOfMail {
        TicketOfMail {
            id: Uuid::nil(),
            purpose: Some(Purpose::Invite),
            key_id: "k".into(),
            state: Some(State::Open),
            expires_at: at(500),
        }
    }

    fn ada() -> PersonOfMail {
        PersonOfMail {
            id: "ada".into(),
            username: "ada".into(),
            display_name: None,
            email: "ada@example.com".into(),
            blocked: false,
        }
    }

    /// What becomes of a mail under changed circumstances.
    fn of(failed: &Failed, change: impl Fn(&mut TicketOfMail, &mut PersonOfMail)) -> Result<DateTime<Utc>, String> {
        let (mut ticket, mut person) = (ticket(), ada());
        change(&mut ticket, &mut person);
        let ticket = Some(&ticket).filter(|_| failed.mail.ticket_id.is_some());
        again(failed, Circumstances { ticket, person: Some(&person), ..around() })
    }

    fn around() -> Circumstances<'static> {
        Circumstances {
            ticket: None,
            person: None,
            suppressed: false,
            enabled: true,
            max_age: Duration::from_secs(3600),
            now: at(0),
        }
    }

    #[test]
    fn what_still_makes_sense_is_tried_until_its_ticket_ends_or_as_long_as_a_new_one() {
        assert_eq!(of(&failed("invite", true), |_, _| {}), Ok(at(500)));
        assert_eq!(of(&failed("password_changed", false), |_, _| {}), Ok(at(3600)));
    }

    #[test]
    fn what_does_not_is_refused_with_the_reason() {
        let why = |failed: &Failed, change: fn(&mut TicketOfMail, &mut PersonOfMail)| of(failed, change).unwrap_err();
        let invite = failed("invite", true);
        assert!(why(&invite, |ticket, _| ticket.state = Some(State::Superseded)).contains("no longer open"));
        assert!(why(&invite, |ticket, _| ticket.expires_at = at(0)).contains("expired"));
        assert!(why(&invite, |_, person| person.blocked = true).contains("user.unblock"));
        assert!(why(&invite, |_, person| person.email = "new@example.com".into()).contains("email.resend"));
        assert!(why(&failed("no_such", true), |_, _| {}).contains("`no_such`"));
        assert!(why(&Failed { state: "sent".into(), ..invite.clone() }, |_, _| {}).contains("`sent`"));

        let (ticket, person) = (ticket(), ada());
        let whole = Circumstances { ticket: Some(&ticket), person: Some(&person), ..around() };
        for (around, expected) in [
            (Circumstances { person: None, ..whole }, "erased"),
            (Circumstances { ticket: None, ..whole }, "ticket is gone"),
            (Circumstances { suppressed: true, ..whole }, "email.unsuppress"),
            (Circumstances { enabled: false, ..whole }, "switched off"),
        ] {
            let why = again(&invite, around).unwrap_err();
            assert!(why.contains(expected), "{expected} is not in: {why}");
        }
    }

    #[test]
    fn a_copy_goes_where_it_was_meant_to_go() {
        let copy = Failed { resend_of: Some(Uuid::max()), ..failed("invite", true) };
        assert_eq!(of(&copy, |_, person| person.email = "new@example.com".into()), Ok(at(500)));
    }
}
