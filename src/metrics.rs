//! What the daemon counts, in Prometheus' terms.
//!
//! Labels are enums or names from lists that are fixed at start: no method takes free text, so no label can ever hold a
//! person's data, and the number of series is bounded. Every series that can be known at start is there from the start, at 0:
//! `rate()` needs a first value, and an alert on a series that does not exist never fires.

mod labels;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

pub use labels::{CommandOutcome, EmailOutcome, Lane, LoginOutcome, Target, TicketEvent, TicketPurpose};

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
}

/// From a query of half a millisecond to a command that waited for a lock.
const COMMAND_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// `timestamp` has whole seconds, so the first ones are coarse; the last ones show a daemon that was away.
const LAG_SECONDS: &[f64] = &[0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0];
/// Around the 15 ms of the default costs, up to what an imported hash may cost.
const HASH_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5];
/// From a mail server next door to one that was away for a day.
const DELIVERY_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0,
    86_400.0,
];

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
                "1 if the template on disk is good; 0 if it is broken and the last good one is used.",
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

    /// How many emails wait, and how old the oldest one is.
    pub fn emails_pending(&self, count: usize, oldest: Option<Duration>) {
        self.0.emails_pending.set(whole(count));
        self.0.emails_oldest_pending.set(oldest.unwrap_or_default().as_secs_f64());
    }

    /// How many events wait.
    pub fn events_pending(&self, count: usize) {
        self.0.events_pending.set(whole(count));
    }

    /// A message was moved to the dead letters. A reason that is not known is counted as `unknown`.
    pub fn dead_letter(&self, reason: &str) {
        self.0.dead_letters.with_label_values(&[known(&self.0.dead_letter_reasons, reason)]).inc();
    }

    /// Which template files are good: `(template, site, locale, valid)`, with `""` for no site or no locale of its own.
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

    /// A reply could not be delivered.
    pub fn reply_dropped(&self) {
        self.0.replies_dropped.inc();
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

/// Makes metrics and registers them.
struct Maker(Registry);

impl Maker {
    fn register<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> prometheus::Result<C> {
        let metric = metric?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name, help))
    }

    fn float_gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.register(Gauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    fn histograms(&self, name: &str, help: &str, label: &str, buckets: &[f64]) -> prometheus::Result<HistogramVec> {
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &[label]))
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
