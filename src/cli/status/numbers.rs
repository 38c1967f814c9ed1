//! What daemons are doing, in numbers: from two looks at their metrics. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::commands::{self, Lane};

use super::fetch::{Answer, Problem};
use super::scrape::{Labels, Scrape, total};
use super::servers::{FailedMail, Queues};

/// Everything that is shown, at one moment. Rates are per second.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    /// The moment, RFC 3339.
    pub at: String,
    /// The seconds that percentiles cover; null: all since the daemons' start.
    pub percentiles_over: Option<u64>,
    /// Each daemon.
    pub daemons: Vec<Daemon>,
    /// Each lane, all daemons together.
    pub lanes: Vec<LaneNumbers>,
    /// Mail.
    pub mail: Mail,
    /// Events that are still to be published; null if no daemon tells.
    pub events_pending: Option<f64>,
    /// Sign-ins.
    pub logins: Logins,
    /// Hashing of passwords.
    pub hashing: Pace,
    /// Dead letters that wait; null if the broker was not asked.
    pub dead_letters: Option<u32>,
    /// Messages that wait for their next attempt; null if the broker was not asked.
    pub retrying: Option<u32>,
    /// Dead letters since the daemons' start, by reason.
    pub buried: BTreeMap<String, f64>,
    /// Connections that were lost and made again, by server.
    pub reconnects: BTreeMap<String, f64>,
    /// Everything that is wrong.
    pub troubles: Vec<String>,
    /// Mails that failed last.
    pub failed_mails: Vec<FailedMail>,
}

/// A daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Daemon {
    /// Its HTTP address.
    pub url: String,
    /// Whether it answers and is ready.
    pub ready: bool,
    /// What it is not ready for.
    pub problems: Vec<Problem>,
    /// Why it could not be asked.
    pub error: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Seconds since its start.
    pub uptime_seconds: Option<u64>,
    /// Memory in use.
    pub memory_bytes: Option<f64>,
    /// Whether it is connected to the broker; null if it does not tell.
    pub broker: Option<bool>,
    /// Whether the database answers it; null if it does not tell.
    pub database: Option<bool>,
}

/// A lane.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LaneNumbers {
    /// Its name.
    pub lane: String,
    /// Messages in its queue; null if the broker was not asked.
    pub waiting: Option<u32>,
    /// Commands that are worked on; null if no daemon tells.
    pub in_flight: Option<f64>,
    /// Commands that were done per second, including repeated ones; null if no daemon tells.
    pub done: Option<f64>,
    /// Commands per second that a rule refused, or that had expired; null if no daemon tells.
    pub refused: Option<f64>,
    /// Commands per second that were not understood, put aside for a retry, or buried; null if no daemon tells.
    pub failed: Option<f64>,
    /// The median duration, in seconds.
    pub p50: Option<f64>,
    /// The 99th percentile, in seconds.
    pub p99: Option<f64>,
}

/// Mail.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Mail {
    /// Mails that wait; null if no daemon tells.
    pub pending: Option<f64>,
    /// The age of the oldest waiting mail, in seconds; null if no daemon tells.
    pub oldest_seconds: Option<f64>,
    /// Mails per second, by outcome.
    pub rates: BTreeMap<String, f64>,
    /// The median time from the commit to the mail server's acceptance, in seconds.
    pub p50: Option<f64>,
    /// The 99th percentile, in seconds.
    pub p99: Option<f64>,
}

/// Sign-ins.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Logins {
    /// Successful sign-ins per second; null if no daemon tells.
    pub ok: Option<f64>,
    /// Refused sign-ins per second; null if no daemon tells.
    pub refused: Option<f64>,
}

/// How often something happens, and how long it takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pace {
    /// How often, per second; null if no daemon tells.
    pub rate: Option<f64>,
    /// The median duration, in seconds.
    pub p50: Option<f64>,
    /// The 99th percentile, in seconds.
    pub p99: Option<f64>,
}

/// Daemons as they answered, by URL.
pub type Answers = BTreeMap<String, Result<Answer, String>>;

/// What happened between two looks, of those daemons that answered both times.
pub fn between(earlier: &Answers, now: &Answers) -> Scrape {
    let mut all = Scrape::default();
    for (url, answer) in now {
        if let (Ok(now), Some(Ok(before))) = (answer, earlier.get(url)) {
            all.and(now.scrape.since(&before.scrape));
        }
    }
    all
}

/// All daemons together, as they are.
pub fn together(now: &Answers) -> Scrape {
    let mut all = Scrape::default();
    for answer in now.values().flatten() {
        all.and(answer.scrape.clone());
    }
    all
}

/// What the numbers are made of.
pub struct Looks<'a> {
    /// The daemons now.
    pub now: &'a Answers,
    /// What happened since the last look, and how long ago that was.
    pub lately: (&'a Scrape, Duration),
    /// What percentiles are taken from.
    pub longer: &'a Scrape,
    /// Seconds since 1970.
    pub clock: f64,
}

/// The numbers.
pub fn numbers(looks: &Looks<'_>) -> Status {
    let all = together(looks.now);
    let (lately, seconds) = (looks.lately.0, looks.lately.1.as_secs_f64().max(0.001));
    let rate = |name: &str, labels: Labels<'_>| lately.first(name, &[]).map(|_| lately.sum(name, labels) / seconds);
    let quantiles = |name: &str| {
        let of = |quantile| looks.longer.quantile(name, |_| true, quantile);
        (of(0.5), of(0.99))
    };
    let by = |name: &str, label: &str| {
        let mut values: BTreeMap<String, f64> = BTreeMap::new();
        for value in all.values_of(name, label) {
            values.insert(value.to_owned(), all.sum(name, &[(label, value)]));
        }
        values
    };
    let emails = all.values_of("regrant_emails_total", "outcome");
    let rates =
        emails.filter_map(|outcome| Some((outcome.to_owned(), rate("regrant_emails_total", &[("outcome", outcome)])?)));
    let (p50, p99) = quantiles("regrant_email_delivery_seconds");
    let mail = Mail {
        pending: all.max("regrant_emails_pending"),
        oldest_seconds: all.max("regrant_emails_oldest_pending_seconds"),
        rates: rates.collect(),
        p50,
        p99,
    };
    let (p50, p99) = quantiles("regrant_password_hash_seconds");
    let ok = rate("regrant_logins_total", &[("outcome", "ok")]);
    let all_logins = rate("regrant_logins_total", &[]);
    let mut status = Status {
        daemons: looks.now.iter().map(|(url, answer)| daemon(url, answer, looks.clock)).collect(),
        lanes: lanes(&all, lately, seconds, looks.longer),
        mail,
        events_pending: all.max("regrant_events_pending"),
        logins: Logins { ok, refused: all_logins.zip(ok).map(|(all, ok)| all - ok) },
        hashing: Pace { rate: rate("regrant_password_hash_seconds_count", &[]), p50, p99 },
        buried: by("regrant_dead_letters_total", "reason").into_iter().filter(|(_, count)| *count > 0.0).collect(),
        reconnects: by("regrant_reconnects_total", "target"),
        ..Status::default()
    };
    status.troubles = troubles(&status.daemons, &all);
    status
}

fn daemon(url: &str, answer: &Result<Answer, String>, clock: f64) -> Daemon {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Daemon { url: url.to_owned(), error: Some(error.clone()), ..Daemon::default() },
    };
    let scrape = &answer.scrape;
    let is_on = |name| scrape.first(name, &[]).map(|value| value > 0.5);
    let started = scrape.first("process_start_time_seconds", &[]);
    Daemon {
        url: url.to_owned(),
        ready: answer.problems.is_empty(),
        problems: answer.problems.clone(),
        error: None,
        version: scrape.values_of("regrant_build_info", "version").next().map(str::to_owned),
        uptime_seconds: started
            .and_then(|started| Duration::try_from_secs_f64((clock - started).max(0.0)).ok())
            .map(|up| up.as_secs()),
        memory_bytes: scrape.first("process_resident_memory_bytes", &[]),
        broker: is_on("regrant_broker_connected"),
        database: is_on("regrant_database_up"),
    }
}

fn lanes(all: &Scrape, lately: &Scrape, seconds: f64, longer: &Scrape) -> Vec<LaneNumbers> {
    let names = Lane::ALL.map(Lane::as_str).into_iter().chain(["unknown"]);
    let numbers = names.map(|lane| {
        let runs = |command: &str| commands::find(command).map_or("unknown", |spec| spec.lane.as_str()) == lane;
        let of = |outcomes: &[&str]| {
            let count = |outcome: &&str| {
                let commands = lately.values_of("regrant_commands_total", "command").filter(|command| runs(command));
                let one =
                    |command| lately.sum("regrant_commands_total", &[("command", command), ("outcome", *outcome)]);
                total(commands.map(one))
            };
            lately.first("regrant_commands_total", &[]).map(|_| total(outcomes.iter().map(count)) / seconds)
        };
        let quantile = |quantile| {
            let here = |labels: &BTreeMap<String, String>| labels.get("command").is_some_and(|command| runs(command));
            longer.quantile("regrant_command_duration_seconds", here, quantile)
        };
        LaneNumbers {
            lane: lane.to_owned(),
            waiting: None,
            in_flight: all
                .first("regrant_commands_in_flight", &[("lane", lane)])
                .map(|_| all.sum("regrant_commands_in_flight", &[("lane", lane)])),
            done: of(&["ok", "duplicate"]),
            refused: of(&["rejected", "expired"]),
            failed: of(&["invalid", "retried", "buried"]),
            p50: quantile(0.5),
            p99: quantile(0.99),
        }
    });
    numbers.collect()
}

fn troubles(daemons: &[Daemon], all: &Scrape) -> Vec<String> {
    let mut troubles = Vec::new();
    for daemon in daemons {
        let where_ = daemon.url.trim_start_matches("http://").trim_end_matches('/');
        troubles.extend(daemon.error.iter().map(|error| format!("{where_} does not answer: {error}")));
        troubles.extend(daemon.problems.iter().map(|problem| format!("{where_} {}: {}", problem.what, problem.reason)));
    }
    if all.labels_of("regrant_mail_server_up", 0.0).next().is_some() {
        troubles.push("the mail server does not work, and no mail is tried until it does: regrant check".to_owned());
    }
    let mut broken: Vec<String> = all
        .labels_of("regrant_template_valid", 0.0)
        .map(|labels| {
            let of = |label: &str| labels.get(label).map_or("", String::as_str);
            let variant: Vec<&str> = [of("site"), of("locale")].into_iter().filter(|part| !part.is_empty()).collect();
            if of("template") == "unknown" {
                return "a fault in the templates directory that no email has yet; no daemon would start with it: \
                        regrant templates check"
                    .to_owned();
            }
            let variant = if variant.is_empty() { String::new() } else { format!(" ({})", variant.join(", ")) };
            format!(
                "template {}{variant} is broken, its last good version is used: regrant templates check",
                of("template")
            )
        })
        .collect();
    broken.sort();
    broken.dedup();
    troubles.extend(broken);
    troubles
}

impl Status {
    /// Adds what the broker says.
    pub fn with_queues(&mut self, queues: Result<Queues, String>) {
        match queues {
            Err(error) => self.troubles.push(format!("what waits is not known: {error}")),
            Ok(queues) => {
                for (lane, depth) in &queues.lanes {
                    if let Some(numbers) = self.lanes.iter_mut().find(|numbers| numbers.lane == lane.as_str()) {
                        numbers.waiting = Some(depth.waiting);
                    }
                    if depth.consumers == 0 && depth.waiting > 0 {
                        self.troubles.push(format!("nobody takes commands from the lane `{}`", lane.as_str()));
                    }
                }
                if let Some(numbers) = self.lanes.iter_mut().find(|numbers| numbers.lane == "unknown") {
                    numbers.waiting = queues.unknown.map(|depth| depth.waiting);
                }
                (self.dead_letters, self.retrying) = (Some(queues.dead), Some(queues.retrying));
            }
        }
    }

    /// Adds what the database says.
    pub fn with_failed_mails(&mut self, mails: Result<Vec<FailedMail>, String>) {
        match mails {
            Ok(mails) => self.failed_mails = mails,
            Err(error) => self.troubles.push(format!("which mails failed is not known: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Depth;

    fn answer(page: &str, problems: Vec<Problem>) -> Answer {
        Answer { scrape: Scrape::parse(page).unwrap(), problems }
    }

    fn page(done: u32) -> String {
        format!(
            "regrant_commands_total{{command=\"user.put\",outcome=\"ok\"}} {done}\n\
             regrant_commands_total{{command=\"session.login\",outcome=\"rejected\"}} 4\n\
             regrant_commands_in_flight{{lane=\"state\"}} 3\nregrant_emails_pending 7\nregrant_broker_connected 1\n\
             regrant_mail_server_up 0\n\
             regrant_template_valid{{template=\"invite\",site=\"shop\",locale=\"\"}} 0\n\
             regrant_build_info{{version=\"0.1.0\"}} 1\nprocess_start_time_seconds 1000\n"
        )
    }

    #[test]
    fn rates_are_what_happened_between_two_looks_and_levels_are_what_is() {
        let problem = Problem { what: "database".into(), reason: "it is read-only".into() };
        let before = Answers::from([("http://a/".into(), Ok(answer(&page(10), vec![])))]);
        let now = Answers::from([
            ("http://a/".into(), Ok(answer(&page(30), vec![]))),
            ("http://b/".into(), Ok(answer(&page(100), vec![problem]))),
            ("http://c/".into(), Err("Connection refused".into())),
        ]);
        let lately = between(&before, &now);
        let all = together(&now);
        let looks = Looks { now: &now, lately: (&lately, Duration::from_secs(2)), longer: &all, clock: 4600.0 };
        let mut status = numbers(&looks);
        let state = &status.lanes[0];
        assert_eq!(
            (state.lane.as_str(), state.done, state.in_flight),
            ("state", Some(10.0), Some(6.0)),
            "b is new: it has no rate yet"
        );
        assert_eq!((status.lanes[1].refused, status.mail.pending), (Some(0.0), Some(7.0)));
        assert!(status.lanes[1].failed.is_some_and(f64::is_sign_positive), "not -0");
        assert_eq!((status.daemons[0].broker, status.daemons[2].broker), (Some(true), None));
        assert_eq!(status.daemons.iter().map(|daemon| daemon.ready).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(
            (status.daemons[0].uptime_seconds, status.daemons[0].version.as_deref()),
            (Some(3600), Some("0.1.0"))
        );
        assert_eq!(
            status.troubles,
            [
                "b database: it is read-only",
                "c does not answer: Connection refused",
                "the mail server does not work, and no mail is tried until it does: regrant check",
                "template invite (shop) is broken, its last good version is used: regrant templates check",
            ]
        );
        let nobody = Answers::from([("http://c/".into(), Err("Connection refused".into()))]);
        let none = together(&nobody);
        let looks = Looks { now: &nobody, lately: (&none, Duration::from_secs(2)), longer: &none, clock: 4600.0 };
        let unknown = numbers(&looks);
        assert_eq!((unknown.mail.pending, unknown.events_pending, unknown.lanes[0].in_flight), (None, None, None));
        let lane = &unknown.lanes[0];
        assert_eq!((lane.done, lane.refused, lane.failed), (None, None, None), "nobody told, so it is not 0");
        assert_eq!((unknown.logins, unknown.hashing.rate), (Logins::default(), None));
        let idle = Depth { waiting: 5, consumers: 0 };
        status.with_queues(Ok(Queues { lanes: vec![(Lane::State, idle)], unknown: None, retrying: 2, dead: 1 }));
        assert_eq!((status.lanes[0].waiting, status.dead_letters, status.retrying), (Some(5), Some(1), Some(2)));
        assert!(status.troubles[4].contains("nobody takes commands from the lane `state`"));
    }
}
