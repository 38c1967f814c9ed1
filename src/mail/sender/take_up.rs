//! Taking up mail: the beginning of its attempt is committed before anything is handed over.

use std::collections::HashMap;

use diesel_async::AsyncConnection;
use uuid::Uuid;

use crate::domain::email_state::EmailState;
use crate::domain::explain::unsent;
use crate::mail::catalogue::Template;
use crate::mail::surroundings::Surroundings;
use crate::mail::verdict::{self, Verdict};
use crate::store;
use crate::store::due_emails::{self, Due, Place};
use crate::store::emails::{self, Locked, Outcome, QueuedEmail, Which};

use super::circuit::Phase;
use super::handover::Claimed;
use super::in_flight::{Permit, domain};
use super::leases::Moment;
use super::{Finished, LEASE, OTHERS_FIRST, Running, Sender};

/// What one look at the table came to.
#[derive(Default)]
pub(super) struct Taken {
    pub claimed: Vec<Claimed>,
    /// Mails that were not sent any more.
    pub settled: usize,
    /// Mails whose domain has had its share.
    pub held_back: usize,
    /// The table was asked, and answered.
    pub looked: bool,
    /// After which place to look on, if not from the beginning.
    look_on: Option<Place>,
}

/// How far the mails that are due were gone through. While some are passed over, each look goes on where the last one ended.
#[derive(Default)]
pub(super) struct Progress {
    after: Option<Place>,
    /// Mails to these domains were passed over.
    but_domains: Vec<String>,
    /// So were those of which an attempt was begun.
    but_begun: bool,
}

impl Progress {
    /// Where to look on; from the beginning if something was passed over that may go now.
    fn resume(&mut self, begun: bool, full: &[String]) -> Option<Place> {
        if (begun && self.but_begun) || self.but_domains.iter().any(|domain| !full.contains(domain)) {
            *self = Self::default();
        }
        self.after
    }

    fn note(&mut self, begun: bool, full: Vec<String>, taken: &Taken) {
        if taken.look_on == self.after {
            return;
        }
        if taken.look_on.is_none() {
            *self = Self::default();
            return;
        }
        self.after = taken.look_on;
        self.but_begun |= !begun;
        self.but_domains.extend(full);
        self.but_domains.sort_unstable();
        self.but_domains.dedup();
    }
}

impl Taken {
    /// Whether no mail is there whose time has come.
    fn found_nothing(&self) -> bool {
        self.looked && self.claimed.is_empty() && self.settled == 0 && self.held_back == 0
    }
}

impl Sender {
    /// Takes up mails that were just committed, each with its permit.
    pub(super) async fn take_fresh(&self, chosen: Vec<(Uuid, Permit)>) -> Taken {
        let ids: Vec<Uuid> = chosen.iter().map(|(id, _)| *id).collect();
        let mut permits: HashMap<Uuid, Permit> = chosen.into_iter().collect();
        self.take_up(Which::Fresh(&ids), |mail| permits.remove(&mail.id)).await
    }

    /// Takes up mails whose time has come, of domains that have not had their share.
    pub(super) async fn take_due(&self, most: usize, running: &Running, progress: &mut Progress) -> Taken {
        let half_open = *running.circuit.phase().borrow() == Phase::HalfOpen;
        if half_open {
            // One of those that waited for the mail server is to try it; whichever still has something to say.
            self.wake_waiting(running).await;
        }
        let own = running.leases.mails();
        let full = running.in_flight.full();
        let begun = self.database.is_back_for(OTHERS_FIRST);
        let due = Due {
            most: i64::try_from(most).unwrap_or(1),
            begun,
            but: &own,
            but_domains: &full,
            after: progress.resume(begun, &full),
        };
        let mut taken = self.take_up(Which::Due(due), |mail| running.in_flight.take(&domain(&mail.to_address))).await;
        taken.held_back += full.len();
        progress.note(begun, full, &taken);
        if half_open && begun && taken.found_nothing() && own.is_empty() {
            running.circuit.nothing_waits();
        }
        taken
    }

    /// Puts the beginning of attempts on record; settles mails that have nothing to say any more.
    async fn take_up(&self, which: Which<'_>, permit: impl FnMut(&QueuedEmail) -> Option<Permit> + Send) -> Taken {
        self.try_to_take_up(which, permit).await.unwrap_or_else(|error| {
            self.trouble("mail could not be taken up", &error);
            Taken::default()
        })
    }

    async fn try_to_take_up(
        &self,
        which: Which<'_>,
        mut permit: impl FnMut(&QueuedEmail) -> Option<Permit> + Send,
    ) -> Result<Taken, store::Error> {
        let mut connection = self.pool.get().await?;
        // Mostly nothing is.
        if matches!(which, Which::Due(_)) && !due_emails::any(&mut connection).await? {
            return Ok(Taken { looked: true, ..Taken::default() });
        }
        let templates = self.templates.load_full();
        let (taken, dropped) = connection
            .transaction::<_, store::Error, _>(async |connection| {
                let Locked { mails, tickets, people, look_on } = emails::lock(connection, which).await?;
                let (now, from) = (crate::clock::now(), Moment::now());
                let around = Surroundings::of(connection, mails.iter(), tickets, people).await?;
                let mut taken = Taken { looked: true, look_on, ..Taken::default() };
                let mut dropped = Vec::new();
                for mail in mails {
                    let (ticket, person) = (around.ticket(&mail), around.person(&mail));
                    let mut verdict = verdict::verdict(&mail, ticket, person, around.is_suppressed(&mail), now);
                    let template = mail.template.parse::<Template>();
                    if template.is_ok_and(|t| !templates.enabled(t, &mail.site, mail.locale.as_deref())) {
                        verdict = Verdict::Cancel(unsent::TEMPLATE_OFF);
                    }
                    let settle = |state, why: Option<&str>| {
                        let reply = why.map(str::to_owned);
                        Outcome { state, reply, failed: false, ..Outcome::of(mail.id, mail.attempts, now) }
                    };
                    let outcome = match (verdict, person) {
                        (Verdict::Send, Some(person)) => {
                            let Some(permit) = permit(&mail) else {
                                taken.held_back += 1;
                                continue;
                            };
                            taken.claimed.push(Claimed {
                                ticket: ticket.cloned(),
                                person: person.clone(),
                                mail,
                                permit,
                                from,
                            });
                            continue;
                        }
                        (Verdict::Cancel(why), _) => settle(EmailState::Cancelled, Some(why)),
                        (Verdict::Expire, _) => settle(EmailState::Expired, None),
                        (Verdict::Suppress, _) => {
                            settle(EmailState::Suppressed, Some("the address bounced or complained"))
                        }
                        (Verdict::GiveUp, _) | (Verdict::Send, None) => settle(EmailState::Failed, None),
                    };
                    dropped.push(Finished { outcome, mail, waits_for_server: false, permit: None });
                }
                let ids: Vec<Uuid> = taken.claimed.iter().map(|c| c.mail.id).collect();
                emails::begin(connection, &ids, LEASE).await?;
                for claimed in &mut taken.claimed {
                    claimed.mail.attempts += 1;
                }
                self.settle(connection, &dropped, now).await?;
                taken.settled = dropped.len();
                Ok((taken, dropped))
            })
            .await?;
        for finished in &dropped {
            self.tell(finished);
            self.events.notify_one();
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_on(place: Option<Place>) -> Taken {
        Taken { looked: true, look_on: place, ..Taken::default() }
    }

    #[test]
    fn looks_go_on_where_the_last_one_ended_until_what_was_passed_over_may_go() {
        let place = |n| Some((crate::clock::now(), Uuid::from_u128(n)));
        let full = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut progress = Progress::default();
        assert_eq!(progress.resume(true, &full(&["big"])), None);
        let first = place(1);
        progress.note(true, full(&["big"]), &look_on(first));
        assert_eq!(progress.resume(true, &full(&["big", "other"])), first);
        progress.note(true, full(&["big", "other"]), &look_on(first));
        assert_eq!(progress.resume(true, &full(&["big"])), first, "there was more before the end of that look");
        let third = place(3);
        progress.note(true, full(&["big", "other"]), &look_on(third));
        assert_eq!(progress.resume(true, &full(&["big", "other", "new"])), third);
        assert_eq!(progress.resume(true, &full(&["big", "new"])), None, "mail to one of them may go now");

        progress.note(true, full(&["big"]), &look_on(first));
        progress.note(true, full(&["big"]), &look_on(None));
        assert_eq!(progress.resume(true, &full(&["big"])), None, "everything was looked at");

        progress.note(false, full(&[]), &look_on(first));
        assert_eq!(progress.resume(false, &[]), first);
        assert_eq!(progress.resume(true, &[]), None);
    }
}
