//! Sends queued mail: what was just committed at once, what a crash or a refusal left behind by a slow poll.
//!
//! The beginning of an attempt is on record, with a lease, before the message is handed over; so after a crash only mails
//! that were in flight can come twice, with the same Message-ID. Results are written back in batches.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use futures_util::FutureExt;
use rand::SeedableRng;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use crate::config::{Config, Site};
use crate::domain::email_address::email_key;
use crate::domain::explain::unsent;
use crate::domain::ticket::Purpose;
use crate::events::{self, Event, Origin};
use crate::ids::Ids;
use crate::keys::{KeyRing, TokenUse};
use crate::metrics::{EmailOutcome, Metrics};
use crate::store::emails::{self, Outcome, PersonOfMail, Queued, TicketOfMail, Which};
use crate::store::health::Health;
use crate::store::{self, Pool, accounts, event_outbox};

use super::catalogue::Template;
use super::context::{self, Facts, Person, Secrets, SiteFacts};
use super::message::{self, dkim::Dkim};
use super::render::TemplateSet;
use super::smtp::mask_addresses;
use super::transport::{Failure, Transport};
use super::verdict::{self, Verdict};

/// Mails that may wait in memory for their first attempt. More are left to the poll: a row is all that they need.
const HANDOVER: usize = 65_536;
/// Mails taken up for each connection to the server: enough to keep it busy, few enough that none waits long for its turn
/// after it was decided that it still makes sense.
const A_CONNECTION: usize = 8;
/// Results written together.
const TOGETHER: usize = 128;
/// How long an attempt is this daemon's alone; prolonged while it lasts.
const LEASE: Duration = Duration::from_secs(15);
/// How long results are tried to be written while the daemon stops.
const LAST_WORDS: Duration = Duration::from_secs(5);
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
    pub keys: Arc<ArcSwap<KeyRing>>,
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
    /// Its place among those in flight; free again when the result is written.
    #[expect(dead_code, reason = "held, not read")]
    permit: Option<OwnedSemaphorePermit>,
}

/// What one look at the table came to.
struct Taken {
    claimed: Vec<Claimed>,
    /// Mails that were not sent any more.
    settled: usize,
}

type Leases = Arc<Mutex<HashMap<Uuid, Instant>>>;

impl Sender {
    /// Sends until `stop`; then finishes what is in flight and writes the results.
    pub async fn run(self: Arc<Self>, mut fresh: mpsc::Receiver<Uuid>, stop: CancellationToken) {
        let leases = Leases::default();
        let most = (self.config.load().mail.smtp.connections * A_CONNECTION).clamp(8, 1024);
        let (results, finished) = mpsc::channel(most);
        let mut writer = tokio::spawn(Arc::clone(&self).write_results(finished, Arc::clone(&leases), stop.clone()));
        let prolonging = tokio::spawn(Arc::clone(&self).prolong(Arc::clone(&leases)));
        let places = Arc::new(Semaphore::new(most));
        let attempts = TaskTracker::new();
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut more_due = false;
        loop {
            let room = async {
                self.database.wait_until_up().await;
                places.acquire().await.map(drop)
            };
            tokio::select! {
                () = stop.cancelled() => break,
                // Nothing may be sent whose result is not written.
                _ = &mut writer => return,
                _ = room => {}
            }
            let room = places.available_permits().max(1);
            let mut ids = Vec::new();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = fresh.recv_many(&mut ids, room) => {}
                _ = poll.tick(), if !more_due => {}
                () = std::future::ready(()), if more_due => {}
            }
            let own: Vec<Uuid> = lock(&leases).keys().copied().collect();
            let due = ids.is_empty();
            let which = if due { Which::Due(i64::try_from(room).unwrap_or(1), &own) } else { Which::Fresh(&ids) };
            let taken = match self.take_up(which).await {
                Ok(taken) => taken,
                Err(error) => {
                    self.trouble("mail could not be taken up", &error);
                    more_due = false;
                    continue;
                }
            };
            // A full poll means that more is due: it goes on at once, and fresh mail still goes first.
            if due {
                more_due = taken.claimed.len() + taken.settled >= room;
            }
            for claimed in taken.claimed {
                lock(&leases).insert(claimed.mail.id, Instant::now());
                let Ok(permit) = Arc::clone(&places).acquire_owned().await else { break };
                let (sender, results) = (Arc::clone(&self), results.clone());
                attempts.spawn(async move {
                    let finished = sender.attempt_safely(claimed).await;
                    // The writer ends only after the last of these, or with the daemon.
                    let _ = results.send(Finished { permit: Some(permit), ..finished }).await;
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

    /// Puts the beginning of attempts on record; settles mails that have nothing to say any more.
    async fn take_up(&self, which: Which<'_>) -> Result<Taken, store::Error> {
        let mut connection = self.pool.get().await?;
        let templates = self.templates.load_full();
        let (claimed, dropped) = connection
            .transaction::<_, store::Error, _>(async |connection| {
                let (mails, tickets, people) = emails::lock(connection, which).await?;
                let now = crate::clock::now();
                let keys: BTreeSet<String> = mails.iter().map(|mail| email_key(&mail.to_address)).collect();
                let suppressed = accounts::suppressed(connection, &keys).await?;
                let tickets: HashMap<Uuid, TicketOfMail> = tickets.into_iter().map(|t| (t.id, t)).collect();
                let people: HashMap<String, PersonOfMail> = people.into_iter().map(|p| (p.id.clone(), p)).collect();
                let (mut claimed, mut dropped) = (Vec::new(), Vec::new());
                for mail in mails {
                    let ticket = mail.ticket_id.and_then(|id| tickets.get(&id));
                    let person = people.get(&mail.user_id);
                    let is_suppressed = suppressed.contains(&email_key(&mail.to_address));
                    let mut verdict = verdict::verdict(&mail, ticket, person, is_suppressed, now);
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
                            claimed.push(Claimed { ticket: ticket.cloned(), person: person.clone(), mail });
                            continue;
                        }
                        (Verdict::Cancel(why), _) => settle("cancelled", Some(why)),
                        (Verdict::Expire, _) => settle("expired", None),
                        (Verdict::Suppress, _) => settle("suppressed", Some("the address bounced or complained")),
                        (Verdict::GiveUp, _) | (Verdict::Send, None) => settle("failed", None),
                    };
                    dropped.push(Finished { outcome, mail, permit: None });
                }
                let ids: Vec<Uuid> = claimed.iter().map(|c| c.mail.id).collect();
                emails::begin(connection, &ids, LEASE).await?;
                for claimed in &mut claimed {
                    claimed.mail.attempts += 1;
                }
                self.settle(connection, &dropped, now).await?;
                Ok((claimed, dropped))
            })
            .await?;
        for finished in &dropped {
            self.tell(finished);
            self.events.notify_one();
        }
        Ok(Taken { claimed, settled: dropped.len() })
    }

    /// An attempt that ends with a result whatever happens.
    async fn attempt_safely(&self, claimed: Claimed) -> Finished {
        let mail = claimed.mail.clone();
        let attempt = std::panic::AssertUnwindSafe(self.attempt(claimed)).catch_unwind().await;
        let outcome = attempt.unwrap_or_else(|_| {
            let mut outcome = Outcome::of(mail.id, mail.attempts, crate::clock::now());
            outcome.reply = Some("sending panicked".to_owned());
            Self::postpone(&mut outcome, &mail, Failure::Transient);
            outcome
        });
        Finished { outcome, mail, permit: None }
    }

    /// One attempt, from rendering to the server's last word.
    async fn attempt(&self, claimed: Claimed) -> Outcome {
        let Claimed { mail, ticket, person } = claimed;
        let mut outcome = Outcome::of(mail.id, mail.attempts, crate::clock::now());
        match self.write(&mail, ticket.as_ref(), &person) {
            Ok((subject, built)) => {
                outcome.subject = Some(subject);
                match self.transport.send(&built.envelope, mail.id, &built.bytes).await {
                    Ok(accepted) => {
                        let now = crate::clock::now();
                        outcome.state = "sent";
                        outcome.sent_at = Some(now);
                        outcome.reply = Some(accepted.reply);
                        outcome.failed = false;
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
        outcome
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
            // A copy to another address is not addressed to the person.
            to_name: person.display_name.as_deref().filter(|_| email_key(&mail.to_address) == email_key(&person.email)),
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
        let keys = self.keys.load();
        let token = |use_| keys.token(&ticket.key_id, use_, ticket.id).ok_or_else(missing);
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
            code: Some(keys.code(&ticket.key_id, ticket.id, config.password_reset.code_length).ok_or_else(missing)?),
        })
    }

    /// Writes results as they come, those that are there together in one transaction.
    async fn write_results(
        self: Arc<Self>,
        mut finished: mpsc::Receiver<Finished>,
        leases: Leases,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::new();
        while finished.recv_many(&mut batch, TOGETHER).await > 0 {
            if !self.record_surely(&batch, &stop).await {
                error!(
                    mails = batch.len(),
                    "results of mails could not be written before the daemon ended: they may be sent again"
                );
            }
            let mut held = lock(&leases);
            for finished in batch.drain(..) {
                held.remove(&finished.outcome.id);
                self.tell(&finished);
            }
        }
    }

    /// Tries until the results are written: a mail that was accepted would be sent again otherwise. Gives up only a little
    /// after `stop`, or on results that the database refuses for good.
    async fn record_surely(&self, batch: &[Finished], stop: &CancellationToken) -> bool {
        loop {
            match self.record(batch).await {
                Ok(()) => return true,
                Err(error) if error.is_unavailable() => self.database.report_down(&error),
                Err(error) if batch.len() == 1 => {
                    error!(%error, email_id = %batch[0].mail.id, "the result of a mail cannot be written");
                    return false;
                }
                Err(error) => {
                    warn!(%error, "results of mails could not be written together; trying each alone");
                    let mut all = true;
                    for one in batch {
                        all &= Box::pin(self.record_surely(std::slice::from_ref(one), stop)).await;
                    }
                    return all;
                }
            }
            let again = async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.database.wait_until_up().await;
            };
            let over = async {
                stop.cancelled().await;
                tokio::time::sleep(LAST_WORDS).await;
            };
            tokio::select! {
                () = again => {}
                () = over => return false,
            }
        }
    }

    async fn record(&self, batch: &[Finished]) -> Result<(), store::Error> {
        let now = crate::clock::now();
        let mut connection = self.pool.get().await?;
        connection
            .transaction::<_, store::Error, _>(async |connection| self.settle(connection, batch, now).await)
            .await?;
        self.events.notify_one();
        Ok(())
    }

    /// Writes results, and the events of those that settle anything.
    #[expect(clippy::disallowed_methods, reason = "the seed of event ids")]
    async fn settle(
        &self,
        connection: &mut AsyncPgConnection,
        batch: &[Finished],
        now: DateTime<Utc>,
    ) -> Result<(), store::Error> {
        let outcomes: Vec<Outcome> = batch.iter().map(|f| f.outcome.clone()).collect();
        let settled = emails::finish(connection, &outcomes, now).await?;
        let (mut ids, mut rng) = (Ids::default(), rand::rngs::StdRng::from_rng(&mut rand::rng()));
        let config = self.config.load_full();
        let queued: Vec<events::Queued> = batch
            .iter()
            .filter(|finished| settled.contains(&finished.mail.id))
            .filter_map(|finished| Some((finished, event(finished)?)))
            .map(|(finished, event)| {
                let origin = Origin {
                    command_id: finished.mail.command_id.as_deref(),
                    traceparent: finished.mail.traceparent.as_deref(),
                    ..Origin::default()
                };
                let id = ids.next(now, &mut rng);
                events::cloud_event(&event, &finished.mail.user_id, id, now, &config.events.source, &origin)
            })
            .collect();
        event_outbox::insert(connection, &queued, now).await
    }

    fn tell(&self, finished: &Finished) {
        let Finished { outcome, mail, .. } = finished;
        let counted = match outcome.state {
            "sent" => EmailOutcome::Sent,
            "failed" => EmailOutcome::Failed,
            "cancelled" => EmailOutcome::Cancelled,
            "expired" => EmailOutcome::Expired,
            "suppressed" => EmailOutcome::Suppressed,
            _ => EmailOutcome::Retried,
        };
        self.metrics.email(&mail.template, counted);
        if let Some(sent_at) = outcome.sent_at {
            self.metrics.email_delivery((sent_at - mail.queued_at).to_std().unwrap_or_default());
        }
        let reply = outcome.reply.as_deref().map(mask_addresses);
        let (email_id, template, attempt) = (mail.id, mail.template.as_str(), mail.attempts);
        let traceparent = mail.traceparent.as_deref();
        match counted {
            EmailOutcome::Sent | EmailOutcome::Cancelled | EmailOutcome::Expired | EmailOutcome::Suppressed => {
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
            let prolonged = async { emails::prolong(&mut *self.pool.get().await?, &ids, LEASE).await };
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

/// What upstream apps hear of a result.
fn event(finished: &Finished) -> Option<Event> {
    let name = match finished.outcome.state {
        "sent" => "email.sent",
        "failed" => "email.failed",
        _ => return None,
    };
    let reply = finished.outcome.reply.as_deref().or(finished.mail.smtp_reply.as_deref());
    Some(Event::Email {
        name,
        email_id: finished.mail.id,
        template: finished.mail.template.clone(),
        state: finished.outcome.state,
        smtp_reply: reply.map(mask_addresses),
    })
}
