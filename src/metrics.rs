//! What the daemon counts, in Prometheus' terms.
//!
//! Labels are enums or names from lists that are fixed at start: no method takes free text, so no label can ever hold a
//! person's data, and the number of series is bounded. Every series that can be known at start is there from the start, at 0:
//! `rate()` needs a first value, and an alert on a series that does not exist never fires.

mod buckets;
mod labels;
mod levels;
mod make;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use buckets::{COMMAND_SECONDS, DELIVERY_SECONDS, HASH_SECONDS, LAG_SECONDS};
use make::Maker;

pub use labels::{
    CommandOutcome, EmailOutcome, EmailReport, Lane, LoginOutcome, PoolState, Target, TicketEvent, TicketPurpose,
};
pub use levels::{Usage, Waiting};

/// Stands for a name that is not in the list given at start.
const UNKNOWN: &str = "unknown";

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The names that are known at start. Others are counted as `unknown`.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The daemon's version.
    pub version: &'a str,
    /// Names of commands.
    pub commands: &'a [&'static str],
    /// Names of templates.
    pub templates: &'a [&'static str],
    /// Error codes with which messages become dead letters.
    pub dead_letter_reasons: &'a [&'static str],
}

/// All metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    commands: HashSet<&'static str>,
    templates: HashSet<&'static str>,
    dead_letter_reasons: HashSet<&'static str>,
    commands_total: IntCounterVec,
    command_duration: HistogramVec,
    command_lag: HistogramVec,
    in_flight: IntGaugeVec,
    password_hash: Histogram,
    emails: IntCounterVec,
    email_delivery: Histogram,
    emails_pending: IntGauge,
    emails_oldest_pending: Gauge,
    events_pending: IntGauge,
    dead_letters: IntCounterVec,
    template_valid: IntGaugeVec,
    /// The label values of `template_valid` that are shown now.
    templates_shown: Mutex<HashSet<(&'static str, String, String)>>,
    broker_connected: IntGauge,
    database_up: IntGauge,
    mail_server_up: IntGauge,
    reconnects: IntCounterVec,
    logins: IntCounterVec,
    tickets: IntCounterVec,
    replies_dropped: IntCounter,
    lockouts: IntCounter,
    email_reports: IntCounterVec,
    commands_ahead: IntCounter,
    clock_skew: Gauge,
    emails_overdue: Gauge,
    events_oldest_pending: Gauge,
    lane_backlog: IntGaugeVec,
    retries_waiting: IntGauge,
    dead_letters_waiting: IntGauge,
    hash_jobs: IntGauge,
    hash_threads: IntGauge,
    database_connections: IntGaugeVec,
    database_connections_max: IntGauge,
    database_waiters: IntGauge,
    smtp_connections: IntGauge,
    smtp_connections_max: IntGauge,
}

impl Metrics {
    /// Registers everything, and puts each series that is known at 0.
    ///
    /// # Errors
    /// Only if two metrics have the same name.
    pub fn new(known: &Known<'_>) -> Result<Self, prometheus::Error> {
        let make = Maker(Registry::new());
        let inner = Inner {
            commands: with_unknown(known.commands),
            templates: with_unknown(known.templates),
            dead_letter_reasons: with_unknown(known.dead_letter_reasons),
            commands_total: make.counters("regrant_commands_total", "Commands by how their delivery ended.", &["command", "outcome"])?,
            command_duration: make.histograms(
                "regrant_command_duration_seconds",
                "Time from taking up a command to its reply, in seconds; waiting in the queue not counted.",
                "command",
                COMMAND_SECONDS,
            )?,
            command_lag: make.histograms(
                "regrant_command_lag_seconds",
                "Time from a command's own timestamp (whole seconds) to taking it up, in seconds.",
                "lane",
                LAG_SECONDS,
            )?,
            in_flight: make.gauges("regrant_commands_in_flight", "Commands taken up and not yet answered.", &["lane"])?,
            password_hash: make.histogram(
                "regrant_password_hash_seconds",
                "Time of one password hash or verification on its thread, in seconds; waiting not counted.",
                HASH_SECONDS,
            )?,
            emails: make.counters("regrant_emails_total", "Emails by what became of them; a retry counts each attempt.", &["template", "outcome"])?,
            email_delivery: make.histogram(
                "regrant_email_delivery_seconds",
                "Time from the commit of the command that asked for an email to its acceptance by the mail server, in seconds.",
                DELIVERY_SECONDS,
            )?,
            emails_pending: make.gauge("regrant_emails_pending", "Emails that are still to be sent.")?,
            emails_oldest_pending: make.float_gauge(
                "regrant_emails_oldest_pending_seconds",
                "Age of the oldest email that is still to be sent, in seconds; 0 if there is none.",
            )?,
            events_pending: make.gauge("regrant_events_pending", "Events that are still to be published.")?,
            dead_letters: make.counters("regrant_dead_letters_total", "Messages moved to the dead letters, by error code.", &["reason"])?,
            template_valid: make.gauges(
                "regrant_template_valid",
                "1 if the template on disk is good; 0 if it is broken and the last good one is used. `unknown`: 0 if there are faults that no email has.",
                &["template", "site", "locale"],
            )?,
            templates_shown: Mutex::default(),
            broker_connected: make.gauge("regrant_broker_connected", "1 while connected to the broker.")?,
            database_up: make.gauge("regrant_database_up", "1 while the database answers.")?,
            mail_server_up: make.gauge(
                "regrant_mail_server_up",
                "1 while mail is sent; 0 while the mail server does not work and no mail is tried.",
            )?,
            reconnects: make.counters("regrant_reconnects_total", "Connections that were lost and made again.", &["target"])?,
            logins: make.counters("regrant_logins_total", "Sign-ins by how they ended.", &["outcome"])?,
            tickets: make.counters("regrant_tickets_total", "What happened to tickets.", &["purpose", "event"])?,
            replies_dropped: make.counter("regrant_replies_dropped_total", "Replies that could not be delivered.")?,
            lockouts: make.counter("regrant_lockouts_total", "Accounts that wrong passwords locked.")?,
            email_reports: make.counters(
                "regrant_email_reports_total",
                "Emails of which the mail provider reported something new.",
                &["kind"],
            )?,
            commands_ahead: make.counter(
                "regrant_commands_ahead_total",
                "Commands whose timestamp was more than 5 seconds ahead of this daemon's clock.",
            )?,
            clock_skew: make.float_gauge(
                "regrant_clock_skew_seconds",
                "How far this daemon's clock is ahead of the database's, in seconds; negative if it is behind.",
            )?,
            emails_overdue: make.float_gauge(
                "regrant_emails_overdue_seconds",
                "For how long the longest waiting email has been due for its next attempt, in seconds; 0 if none is due.",
            )?,
            events_oldest_pending: make.float_gauge(
                "regrant_events_oldest_pending_seconds",
                "Age of the oldest event that is still to be published, in seconds; 0 if there is none.",
            )?,
            lane_backlog: make.gauges("regrant_lane_backlog", "Commands that wait at the broker, for all daemons.", &["lane"])?,
            retries_waiting: make.gauge("regrant_retries_waiting", "Failed commands that wait at the broker for their next try.")?,
            dead_letters_waiting: make.gauge("regrant_dead_letters_waiting", "Messages in the queue of dead letters.")?,
            hash_jobs: make.gauge("regrant_hash_jobs", "Password hashes that are worked out or wait for a thread.")?,
            hash_threads: make.gauge("regrant_hash_threads", "Threads that work password hashes out.")?,
            database_connections: make.gauges("regrant_database_connections", "Pooled connections to the database.", &["state"])?,
            database_connections_max: make.gauge("regrant_database_connections_max", "The most connections to the database that the pool may have.")?,
            database_waiters: make.gauge("regrant_database_connection_waiters", "Tasks that wait for a connection to the database.")?,
            smtp_connections: make.gauge("regrant_smtp_connections_in_use", "Emails that are being handed over to the mail server.")?,
            smtp_connections_max: make.gauge(
                "regrant_smtp_connections_max",
                "The most connections to the mail server; 0 where emails are files.",
            )?,
            registry: make.0,
        };
        let build = Maker(inner.registry.clone()).gauges(
            "regrant_build_info",
            "1, with the version of the daemon.",
            &["version"],
        )?;
        build.with_label_values(&[known.version]).set(1);
        inner.registry.register(Box::new(ProcessCollector::for_self()))?;
        inner.start_at_zero();
        // As long as nobody has found that it does not work: an alert fires at 0.
        inner.mail_server_up.set(1);
        Ok(Self(Arc::new(inner)))
    }

    /// A delivery of a command ended. A name that is not known is counted as `unknown`.
    pub fn command(&self, name: &str, outcome: CommandOutcome) {
        let name = known(&self.0.commands, name);
        self.0.commands_total.with_label_values(&[name, outcome.as_str()]).inc();
    }

    /// How long a command took, from taking it up to its reply.
    pub fn command_duration(&self, name: &str, took: Duration) {
        self.0.command_duration.with_label_values(&[known(&self.0.commands, name)]).observe(took.as_secs_f64());
    }

    /// How long after its own timestamp a command was taken up.
    pub fn command_lag(&self, lane: Lane, lag: Duration) {
        self.0.command_lag.with_label_values(&[lane.as_str()]).observe(lag.as_secs_f64());
    }

    /// `count` commands were taken up. They are in flight until the guard is dropped.
    #[must_use = "the commands are in flight as long as the guard lives"]
    pub fn in_flight(&self, lane: Lane, count: usize) -> InFlight {
        let gauge = self.0.in_flight.with_label_values(&[lane.as_str()]);
        let count = whole(count);
        gauge.add(count);
        InFlight { gauge, count }
    }

    /// How long a password hash or verification took.
    pub fn password_hash(&self, took: Duration) {
        self.0.password_hash.observe(took.as_secs_f64());
    }

    /// What became of an email. A template that is not known is counted as `unknown`.
    pub fn email(&self, template: &str, outcome: EmailOutcome) {
        self.0.emails.with_label_values(&[known(&self.0.templates, template), outcome.as_str()]).inc();
    }

    /// How long an email took, from the commit of its command to its acceptance.
    pub fn email_delivery(&self, took: Duration) {
        self.0.email_delivery.observe(took.as_secs_f64());
    }

    /// How far this daemon's clock is ahead of the database's, in seconds.
    pub fn clock_skew(&self, seconds: f64) {
        self.0.clock_skew.set(seconds);
    }

    /// A command's timestamp lay in the future.
    pub fn command_ahead(&self) {
        self.0.commands_ahead.inc();
    }

    /// Wrong passwords locked an account.
    pub fn lockout(&self) {
        self.0.lockouts.inc();
    }

    /// The mail provider reported something new of an email.
    pub fn email_report(&self, kind: EmailReport) {
        self.0.email_reports.with_label_values(&[kind.as_str()]).inc();
    }

    /// A message was moved to the dead letters. A reason that is not known is counted as `unknown`.
    pub fn dead_letter(&self, reason: &str) {
        self.0.dead_letters.with_label_values(&[known(&self.0.dead_letter_reasons, reason)]).inc();
    }

    /// Which template files are good: `(template, site, locale, valid)`, with `""` for no site or no locale of its own. A
    /// template that is not known is shown as `unknown`.
    /// Series that are not in the list any more go away.
    pub fn templates_valid<'a>(&self, templates: impl IntoIterator<Item = (&'a str, &'a str, &'a str, bool)>) {
        let mut shown = self.0.templates_shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = HashSet::new();
        for (template, site, locale, valid) in templates {
            let template = known(&self.0.templates, template);
            self.0.template_valid.with_label_values(&[template, site, locale]).set(valid.into());
            now.insert((template, site.to_owned(), locale.to_owned()));
        }
        for (template, site, locale) in shown.difference(&now) {
            // It was shown, so it is there.
            let _ = self.0.template_valid.remove_label_values(&[*template, site.as_str(), locale.as_str()]);
        }
        *shown = now;
    }

    /// Whether the broker is connected.
    pub fn broker_connected(&self, connected: bool) {
        self.0.broker_connected.set(connected.into());
    }

    /// Whether the database answers.
    pub fn database_up(&self, up: bool) {
        self.0.database_up.set(up.into());
    }

    /// Whether the mail server works, as far as is known.
    pub fn mail_server_up(&self, up: bool) {
        self.0.mail_server_up.set(up.into());
    }

    /// A connection that was lost was made again.
    pub fn reconnect(&self, target: Target) {
        self.0.reconnects.with_label_values(&[target.as_str()]).inc();
    }

    /// A sign-in ended.
    pub fn login(&self, outcome: LoginOutcome) {
        self.0.logins.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Something happened to a ticket.
    pub fn ticket(&self, purpose: TicketPurpose, event: TicketEvent) {
        self.0.tickets.with_label_values(&[purpose.as_str(), event.as_str()]).inc();
    }

    /// Replies could not be delivered.
    pub fn replies_dropped(&self, count: u64) {
        self.0.replies_dropped.inc_by(count);
    }

    /// What is being done, at a glance.
    pub fn work(&self) -> Work {
        let all = |family: prometheus::proto::MetricFamily| family.get_metric().to_vec();
        let commands = self.0.commands_total.collect().into_iter().flat_map(all);
        let in_flight = self.0.in_flight.collect().into_iter().flat_map(all);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole numbers, counted up from 0")]
        Work {
            commands: commands.map(|counter| counter.get_counter().get_value()).sum::<f64>() as u64,
            in_flight: in_flight.map(|gauge| gauge.get_gauge().get_value()).sum::<f64>() as u64,
            emails_pending: self.0.emails_pending.get(),
            events_pending: self.0.events_pending.get(),
        }
    }

    /// Everything in the Prometheus text format 0.0.4 ([`CONTENT_TYPE`]).
    ///
    /// # Errors
    /// Only if a metric is inconsistent in itself.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.0.registry.gather())
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What a daemon is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Commands that ended, one way or another, since the start.
    pub commands: u64,
    /// Commands that are being worked on.
    pub in_flight: u64,
    /// Mails that wait, of all daemons.
    pub emails_pending: i64,
    /// Events that wait, of all daemons.
    pub events_pending: i64,
}

/// Commands that are being worked on.
#[derive(Debug)]
pub struct InFlight {
    gauge: IntGauge,
    count: i64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.sub(self.count);
    }
}

impl Inner {
    fn start_at_zero(&self) {
        // To ask for a series is to make it.
        let pairs = |counters: &IntCounterVec, names: &mut dyn Iterator<Item = &'static str>, outcomes: &[&str]| {
            for name in names {
                for outcome in outcomes {
                    counters.with_label_values(&[name, *outcome]);
                }
            }
        };
        pairs(
            &self.commands_total,
            &mut self.commands.iter().copied(),
            &texts(CommandOutcome::ALL, CommandOutcome::as_str),
        );
        pairs(
            &self.emails,
            &mut self.templates.iter().copied().filter(|name| *name != UNKNOWN),
            &texts(EmailOutcome::ALL, EmailOutcome::as_str),
        );
        let purposes = texts(TicketPurpose::ALL, TicketPurpose::as_str);
        pairs(&self.tickets, &mut purposes.into_iter(), &texts(TicketEvent::ALL, TicketEvent::as_str));
        for name in &self.commands {
            self.command_duration.with_label_values(&[name]);
        }
        for lane in texts(Lane::ALL, Lane::as_str) {
            self.command_lag.with_label_values(&[lane]);
            self.in_flight.with_label_values(&[lane]);
            self.lane_backlog.with_label_values(&[lane]);
        }
        for kind in texts(EmailReport::ALL, EmailReport::as_str) {
            self.email_reports.with_label_values(&[kind]);
        }
        for state in texts(PoolState::ALL, PoolState::as_str) {
            self.database_connections.with_label_values(&[state]);
        }
        for reason in &self.dead_letter_reasons {
            self.dead_letters.with_label_values(&[reason]);
        }
        for target in texts(Target::ALL, Target::as_str) {
            self.reconnects.with_label_values(&[target]);
        }
        for outcome in texts(LoginOutcome::ALL, LoginOutcome::as_str) {
            self.logins.with_label_values(&[outcome]);
        }
    }
}

fn with_unknown(names: &[&'static str]) -> HashSet<&'static str> {
    names.iter().copied().chain([UNKNOWN]).collect()
}

fn known(names: &HashSet<&'static str>, name: &str) -> &'static str {
    names.get(name).copied().unwrap_or(UNKNOWN)
}

fn texts<T: Copy>(all: &[T], text: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().copied().map(text).collect()
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
