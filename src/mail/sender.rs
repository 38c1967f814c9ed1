//! Sends queued mail: what was just committed at once, what a crash or a refusal left behind by a slow poll.
//!
//! The beginning of an attempt is on record, with a lease, before the message is handed over; so after a crash only mails
//! that were in flight can come twice, with the same Message-ID. Results are written back in batches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, TimeDelta, Utc};
use diesel_async::AsyncConnection;
use rand::SeedableRng;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::config::{Config, Site};
use crate::domain::ticket::Purpose;
use crate::events::{self, Event, Origin};
use crate::ids::Ids;
use crate::keys::{KeyRing, TokenUse};
use crate::metrics::{EmailOutcome, Metrics};
use crate::store::emails::{self, Outcome, PersonOfMail, Queued, TicketOfMail, Which};
use crate::store::health::Health;
use crate::store::{self, Pool, event_outbox};

use super::catalogue::Template;
use super::context::{self, Facts, Person, Secrets, SiteFacts};
use super::message::{self, dkim::Dkim};
use super::render::TemplateSet;
use super::transport::{Failure, Transport};
use super::verdict::{self, Verdict};

/// Mails that may wait in memory for their first attempt. More are left to the poll: a row is all that they need.
const HANDOVER: usize = 65_536;
/// Mails that this daemon holds a lease of at a time.
const IN_FLIGHT: usize = 256;
/// Mails taken up together.
const TOGETHER: usize = 128;
/// How long an attempt is this daemon's alone; prolonged while it lasts.
const LEASE: TimeDelta = TimeDelta::seconds(10);
/// How often leases are prolonged.
const PROLONG: Duration = Duration::from_secs(3);
/// How often the table is asked for mail that is due.
const POLL: Duration = Duration::from_secs(1);

/// Where committed mail is handed over. Cheap to clone.
#[derive(Clone)]
pub struct Handover(mpsc::Sender<Uuid>);

impl Handover {
    /// A handover and its other end, for [`Sender::run`].
    pub fn new() -> (Self, mpsc::Receiver<Uuid>) {
        let (sender, receiver) = mpsc::channel(HANDOVER);
        (Self(sender), receiver)
    }

    /// Hands mails over for their first attempt; those that find no room are taken up by the poll.
    pub fn hand_over(&self, ids: impl Iterator<Item = Uuid>) {
        for id in ids {
            if self.0.try_send(id).is_err() {
                debug!("mail is left to the poll");
                return;
            }
        }
    }
}

/// What sending needs.
pub struct Sender {
    /// The configuration; a reload replaces it.
    pub config: Arc<ArcSwap<Config>>,
    /// Derives links and codes.
    pub keys: Arc<KeyRing>,
    /// The templates; a reload replaces them.
    pub templates: Arc<ArcSwap<TemplateSet>>,
    /// The database.
    pub pool: Pool,
    /// Whether the database answers.
    pub database: Health,
    /// The way out.
    pub transport: Transport,
    /// Signs, if configured.
    pub dkim: Option<Dkim>,
    /// Wakes the relay of events.
    pub events: Arc<Notify>,
    /// The metrics.
    pub metrics: Metrics,
}

/// A mail whose attempt is on record.
struct Claimed {
    mail: Queued,
    ticket: Option<TicketOfMail>,
    person: PersonOfMail,
}

/// A finished attempt on its way to the table.
struct Finished {
    outcome: Outcome,
    mail: Queued,
    _permit: Option<OwnedSemaphorePermit>,
}

type Leases = Arc<Mutex<HashMap<Uuid, Instant>>>;

impl Sender {
    /// Sends until `stop`; then finishes what is in flight and writes the results.
    pub async fn run(self: Arc<Self>, mut fresh: mpsc::Receiver<Uuid>, stop: CancellationToken) {
        let leases = Leases::default();
        let (results, finished) = mpsc::channel(IN_FLIGHT);
        let writer = tokio::spawn(Arc::clone(&self).write_results(finished, Arc::clone(&leases)));
        let prolonging = tokio::spawn(Arc::clone(&self).prolong(Arc::clone(&leases)));
        let places = Arc::new(Semaphore::new(IN_FLIGHT));
        let attempts = TaskTracker::new();
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut more_due = false;
        loop {
            let room = async {
                self.database.wait_until_up().await;
                places.acquire().await.map(drop)
            };
            if stop.run_until_cancelled(room).await.is_none() {
                break;
            }
            let room = places.available_permits().clamp(1, TOGETHER);
            let mut ids = Vec::new();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = fresh.recv_many(&mut ids, room) => {}
                _ = poll.tick(), if !more_due => {}
                () = std::future::ready(()), if more_due => {}
            }
            let claimed =
                if ids.is_empty() { self.claim_due(room).await } else { self.claim(Which::Fresh(&ids)).await };
            let due = ids.is_empty();
            let (claimed, dropped) = match claimed {
                Ok(done) => done,
                Err(error) => {
                    self.trouble("mail could not be taken up", &error);
                    continue;
                }
            };
            // A full poll means that more is due: it goes on at once, and fresh mail still goes first.
            if due {
                more_due = claimed.len() + dropped.len() >= room;
            }
            for (outcome, mail) in dropped {
                let _ = results.send(Finished { outcome, mail, _permit: None }).await;
            }
            for claimed in claimed {
                lock(&leases).insert(claimed.mail.id, Instant::now());
                let Ok(permit) = Arc::clone(&places).acquire_owned().await else { break };
                let (sender, results) = (Arc::clone(&self), results.clone());
                attempts.spawn(async move {
                    let (outcome, mail) = sender.attempt(claimed).await;
                    let _ = results.send(Finished { outcome, mail, _permit: Some(permit) }).await;
                });
            }
        }
        attempts.close();
        attempts.wait().await;
        drop(results);
        let _ = writer.await;
        prolonging.abort();
        self.transport.close().await;
    }

    async fn claim_due(&self, room: usize) -> Result<(Vec<Claimed>, Vec<(Outcome, Queued)>), store::Error> {
        self.claim(Which::Due(i64::try_from(room).unwrap_or(1))).await
    }

    /// Puts the beginning of attempts on record; drops mails that have nothing to say any more.
    async fn claim(&self, which: Which<'_>) -> Result<(Vec<Claimed>, Vec<(Outcome, Queued)>), store::Error> {
        let now = crate::clock::now();
        let mut connection = self.pool.get().await?;
        let templates = self.templates.load_full();
        connection
            .transaction::<_, store::Error, _>(async |connection| {
                let (mails, tickets, people) = emails::lock(connection, which, now).await?;
                let tickets: HashMap<Uuid, TicketOfMail> = tickets.into_iter().map(|t| (t.id, t)).collect();
                let people: HashMap<String, PersonOfMail> = people.into_iter().map(|p| (p.id.clone(), p)).collect();
                let (mut claimed, mut dropped) = (Vec::new(), Vec::new());
                for mail in mails {
                    let ticket = mail.ticket_id.and_then(|id| tickets.get(&id));
                    let person = people.get(&mail.user_id);
                    let mut verdict = verdict::verdict(&mail, ticket, person, now);
                    let template = mail.template.parse::<Template>();
                    if template.is_ok_and(|t| !templates.enabled(t, &mail.site, mail.locale.as_deref())) {
                        verdict = Verdict::Cancel("its template is switched off");
                    }
                    let outcome = |state, why: Option<&str>| Outcome {
                        id: mail.id,
                        state,
                        subject: None,
                        sent_at: None,
                        reply: why.map(str::to_owned),
                        next_attempt_at: now,
                        failed_attempt: None,
                    };
                    match (verdict, person) {
                        (Verdict::Send, Some(person)) => {
                            claimed.push(Claimed { ticket: ticket.cloned(), person: person.clone(), mail });
                        }
                        (Verdict::Cancel(why), _) => dropped.push((outcome("cancelled", Some(why)), mail)),
                        (Verdict::Expire, _) => dropped.push((outcome("expired", None), mail)),
                        (Verdict::GiveUp, _) | (Verdict::Send, None) => dropped.push((outcome("failed", None), mail)),
                    }
                }
                let ids: Vec<Uuid> = claimed.iter().map(|c| c.mail.id).collect();
                emails::begin(connection, &ids, now + LEASE).await?;
                for claimed in &mut claimed {
                    claimed.mail.attempts += 1;
                }
                Ok((claimed, dropped))
            })
            .await
    }

    /// One attempt, from rendering to the server's last word.
    async fn attempt(&self, claimed: Claimed) -> (Outcome, Queued) {
        let Claimed { mail, ticket, person } = claimed;
        let mut outcome = Outcome {
            id: mail.id,
            state: "queued",
            subject: None,
            sent_at: None,
            reply: None,
            next_attempt_at: crate::clock::now(),
            failed_attempt: Some(mail.attempts),
        };
        match self.write(&mail, ticket.as_ref(), &person) {
            Ok((subject, built)) => {
                outcome.subject = Some(subject);
                match self.transport.send(&built.envelope, mail.id, &built.bytes).await {
                    Ok(accepted) => {
                        let now = crate::clock::now();
                        outcome.state = "sent";
                        outcome.sent_at = Some(now);
                        outcome.reply = Some(accepted.reply);
                        outcome.failed_attempt = None;
                    }
                    Err(error) if error.kind == Failure::Permanent => {
                        outcome.state = "failed";
                        outcome.reply = Some(error.reply);
                    }
                    Err(error) => {
                        outcome.reply = Some(error.reply);
                        Self::postpone(&mut outcome, &mail, error.kind);
                    }
                }
            }
            Err(Unwritten::Final(why)) => {
                outcome.state = "failed";
                outcome.reply = Some(why);
            }
            Err(Unwritten::ForNow(why)) => {
                outcome.reply = Some(why);
                Self::postpone(&mut outcome, &mail, Failure::Transient);
            }
        }
        (outcome, mail)
    }

    #[expect(clippy::disallowed_methods, reason = "the seed of a delay's jitter")]
    fn postpone(outcome: &mut Outcome, mail: &Queued, failure: Failure) {
        let mut rng = rand::rngs::StdRng::from_rng(&mut rand::rng());
        // Never past its end: at that moment it is settled as expired or failed.
        let at = crate::clock::now() + verdict::delay(mail.attempts, failure, &mut rng);
        outcome.next_attempt_at = at.min(mail.give_up_at);
    }

    /// Renders a mail and makes its message. Links and codes exist only from here to the server.
    fn write(
        &self,
        mail: &Queued,
        ticket: Option<&TicketOfMail>,
        person: &PersonOfMail,
    ) -> Result<(String, message::Built), Unwritten> {
        let config = self.config.load();
        let template: Template = mail
            .template
            .parse()
            .map_err(|_| Unwritten::Final(format!("this version has no template `{}`", mail.template)))?;
        let site = config
            .sites
            .get(&mail.site)
            .or_else(|| config.sites.get(crate::config::DEFAULT_SITE))
            .ok_or_else(|| Unwritten::ForNow(format!("there is no section [sites.{}]", mail.site)))?;
        let secrets = match ticket {
            None => Secrets::default(),
            Some(ticket) => self.secrets(ticket, site, &config)?,
        };
        let facts: Facts = serde_json::from_value(mail.facts.clone())
            .map_err(|_| Unwritten::Final("its recorded facts cannot be read".to_owned()))?;
        let values = context::context(
            template,
            &SiteFacts {
                name: &site.name,
                web_url: &site.web_url,
                support_email: &site.support_email,
                timezone: site.timezone,
            },
            &Person { username: &person.username, display_name: person.display_name.as_deref(), email: &person.email },
            &facts,
            &secrets,
            &context::email_reference(mail.id),
            crate::clock::now(),
        );
        let rendered = self
            .templates
            .load()
            .render(template, &mail.site, mail.locale.as_deref().or(site.locale.as_deref()), &values)
            .map_err(|e| Unwritten::ForNow(e.to_string()))?;
        let parts = message::Parts {
            id: mail.id,
            date: mail.queued_at,
            from: site.from.as_ref().unwrap_or(&config.mail.from),
            reply_to: site.reply_to.as_ref().or(config.mail.reply_to.as_ref()),
            to_name: person.display_name.as_deref(),
            to_address: &mail.to_address,
            subject: &rendered.subject,
            text: &rendered.text,
            html: &rendered.html,
        };
        let built = message::build(&parts, self.dkim.as_ref()).map_err(|e| Unwritten::Final(e.to_string()))?;
        Ok((rendered.subject, built))
    }

    fn secrets(&self, ticket: &TicketOfMail, site: &Site, config: &Config) -> Result<Secrets, Unwritten> {
        let missing = || Unwritten::ForNow(format!("the key file lacks token key `{}`", ticket.key_id));
        let token = |use_| self.keys.token(&ticket.key_id, use_, ticket.id).ok_or_else(missing);
        let (url, use_) = match Purpose::parse(&ticket.purpose) {
            Some(Purpose::PasswordReset) => (&site.reset_url, TokenUse::PasswordReset),
            Some(Purpose::Invite) => (&site.invite_url, TokenUse::Invite),
            Some(Purpose::Verification) => (&site.verify_url, TokenUse::Verification),
            _ => return Err(Unwritten::Final(format!("a ticket for `{}` is never mailed", ticket.purpose))),
        };
        let cancel_link = match (&site.cancel_url, use_) {
            (Some(url), TokenUse::PasswordReset) => Some(link(url, &token(TokenUse::Cancel)?)),
            _ => None,
        };
        Ok(Secrets {
            link: Some(link(url, &token(use_)?)),
            cancel_link,
            code: Some(
                self.keys.code(&ticket.key_id, ticket.id, config.password_reset.code_length).ok_or_else(missing)?,
            ),
        })
    }

    /// Writes results as they come, those that are there together in one transaction.
    async fn write_results(self: Arc<Self>, mut finished: mpsc::Receiver<Finished>, leases: Leases) {
        let mut batch = Vec::new();
        while finished.recv_many(&mut batch, TOGETHER).await > 0 {
            // Results must not be lost: a mail that was accepted would be sent again.
            while let Err(error) = self.record(&batch).await {
                self.trouble("results of mails could not be written; trying again", &error);
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.database.wait_until_up().await;
            }
            let mut held = lock(&leases);
            for finished in batch.drain(..) {
                held.remove(&finished.outcome.id);
                self.tell(&finished);
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the seed of event ids")]
    async fn record(&self, batch: &[Finished]) -> Result<(), store::Error> {
        let now = crate::clock::now();
        let outcomes: Vec<Outcome> = batch.iter().map(|f| f.outcome.clone()).collect();
        let (mut ids, mut rng) = (Ids::default(), rand::rngs::StdRng::from_rng(&mut rand::rng()));
        let config = self.config.load_full();
        let queued: Vec<events::Queued> = batch
            .iter()
            .filter_map(|finished| {
                let name = match finished.outcome.state {
                    "sent" => "email.sent",
                    "failed" => "email.failed",
                    _ => return None,
                };
                let event = Event::Email {
                    name,
                    email_id: finished.mail.id,
                    template: finished.mail.template.clone(),
                    state: finished.outcome.state,
                    smtp_reply: finished.outcome.reply.clone().or_else(|| finished.mail.smtp_reply.clone()),
                };
                let origin = Origin {
                    command_id: finished.mail.command_id.as_deref(),
                    traceparent: finished.mail.traceparent.as_deref(),
                    ..Origin::default()
                };
                let id = ids.next(now, &mut rng);
                Some(events::cloud_event(&event, &finished.mail.user_id, id, now, &config.events.source, &origin))
            })
            .collect();
        let mut connection = self.pool.get().await?;
        connection
            .transaction::<_, store::Error, _>(async |connection| {
                emails::finish(connection, &outcomes, now).await?;
                event_outbox::insert(connection, &queued, now).await
            })
            .await?;
        if !queued.is_empty() {
            self.events.notify_one();
        }
        Ok(())
    }

    fn tell(&self, finished: &Finished) {
        let Finished { outcome, mail, .. } = finished;
        let counted = match outcome.state {
            "sent" => EmailOutcome::Sent,
            "failed" => EmailOutcome::Failed,
            "cancelled" => EmailOutcome::Cancelled,
            "expired" => EmailOutcome::Expired,
            _ => EmailOutcome::Retried,
        };
        self.metrics.email(&mail.template, counted);
        if let Some(sent_at) = outcome.sent_at {
            self.metrics.email_delivery((sent_at - mail.queued_at).to_std().unwrap_or_default());
        }
        let reply = outcome.reply.as_deref().map(without_addresses);
        let (email_id, template, attempt) = (mail.id, mail.template.as_str(), mail.attempts);
        let traceparent = mail.traceparent.as_deref();
        match counted {
            EmailOutcome::Sent | EmailOutcome::Cancelled | EmailOutcome::Expired => {
                info!(%email_id, template, outcome = counted.as_str(), attempt, reply, traceparent, "mail");
            }
            _ => warn!(%email_id, template, outcome = counted.as_str(), attempt, reply, traceparent, "mail"),
        }
    }

    /// Keeps other daemons from mails that are still being handed over here.
    async fn prolong(self: Arc<Self>, leases: Leases) {
        loop {
            tokio::time::sleep(PROLONG).await;
            let ids: Vec<Uuid> =
                lock(&leases).iter().filter(|(_, since)| since.elapsed() >= PROLONG).map(|(id, _)| *id).collect();
            if ids.is_empty() {
                continue;
            }
            let until: DateTime<Utc> = crate::clock::now() + LEASE;
            let prolonged = async { emails::prolong(&mut *self.pool.get().await?, &ids, until).await };
            if let Err(error) = prolonged.await {
                self.trouble("leases of mails could not be prolonged", &error);
            }
        }
    }

    fn trouble(&self, what: &str, error: &store::Error) {
        if error.is_unavailable() {
            self.database.report_down(error);
        } else {
            warn!(%error, "{what}");
        }
    }
}

/// Why there is no message.
enum Unwritten {
    /// Nothing will change that.
    Final(String),
    /// The configuration or a template is at fault: once it is mended, the mail can go.
    ForNow(String),
}

fn link(url: &str, token: &SecretString) -> SecretString {
    url.replace(crate::config::TOKEN, token.expose_secret()).into()
}

fn lock(leases: &Leases) -> std::sync::MutexGuard<'_, HashMap<Uuid, Instant>> {
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Servers like to repeat the recipient's address; logs must not.
fn without_addresses(reply: &str) -> String {
    let masked =
        |word: &str| if word.contains('@') { crate::domain::email_address::mask(word) } else { word.to_owned() };
    reply.split(' ').map(masked).collect::<Vec<_>>().join(" ")
}
