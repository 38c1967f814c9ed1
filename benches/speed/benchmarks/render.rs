//! One mail from its facts to the bytes that are sent, in this process.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use regrant::mail::context::{self, Facts, Person, SAMPLE_SITE, Secrets};
use regrant::mail::message::{self, Parts};
use regrant::mail::{Template, TemplateSet};
use uuid::Uuid;

use crate::support::chart::{self, Panel};
use crate::support::options::{Known, Options};
use crate::support::report::{Report, Table};
use crate::support::statistics::number;

pub const OPTIONS: &[Known] = &[("samples", "50", "times that are taken"), ("mails", "400", "mails for each")];

/// The three steps of a mail.
const STEPS: [&str; 3] = ["values", "texts", "message"];

pub fn run(options: &Options) {
    let (samples, mails) = (options.get::<usize>("samples"), options.get::<usize>("mails"));
    let mut report = Report::begin("render");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("email_templates");
    let templates = TemplateSet::load(&directory, &["default"]).unwrap();
    let mut table = Table::new(
        format!("Microseconds for one mail, {samples} times {mails} mails: median (lowest to highest)"),
        &["values", "texts", "message", "together", "bytes"],
    );
    let mut rows = Vec::new();
    for (template, locale) in [
        (Template::PasswordResetLink, "en"),
        (Template::PasswordResetLink, "de"),
        (Template::PasswordResetLink, "ja"),
        (Template::PasswordResetCode, "en"),
    ] {
        let mut steps: [Vec<f64>; 3] = Default::default();
        let mut bytes = 0;
        // The first round warms up.
        for round in 0..=samples {
            let (times, size) = time(&templates, template, locale, mails);
            bytes = size;
            if round > 0 {
                steps.iter_mut().zip(times).for_each(|(step, time)| step.push(time));
            }
        }
        let together: Vec<f64> = (0..samples).map(|n| steps.iter().map(|step| step[n]).sum()).collect();
        let label = format!("{template} {locale}");
        let mut cells = steps.to_vec();
        cells.extend([together.clone(), vec![number(bytes)]]);
        table.row(label.clone(), cells);
        rows.push((label, together));
    }
    report.table(table);
    report.note(format!(
        "The steps: {}: what the placeholders stand for; subject, text and HTML; MIME.",
        STEPS.join(", ")
    ));
    let panel = Panel { title: "one mail, from facts to bytes".to_owned(), unit: "µs", rows };
    report.finish(&chart::distributions(&[panel]), options);
}

/// Microseconds a mail of each step, and the size of the message.
fn time(templates: &TemplateSet, template: Template, locale: &str, mails: usize) -> ([f64; 3], usize) {
    let now = regrant::clock::now();
    let facts = Facts {
        requested_at: Some(now),
        expires_at: Some(now + TimeDelta::hours(24)),
        request_ip: Some(std::net::IpAddr::from([203, 0, 113, 24])),
        ..Facts::default()
    };
    let link = "https://app.example.com/reset?token=AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGhIjKlMnOpQrStUvWx";
    let secrets = Secrets { link: Some(link.into()), cancel_link: Some(link.into()), code: Some("1234 5678".into()) };
    let person = Person { username: "ada", display_name: Some("Ada Lovelace"), email: "ada@example.com" };
    let from = "Example Accounts <no-reply@example.com>".parse().unwrap();
    let mut steps = [Duration::ZERO; 3];
    let mut size = 0;
    // Mail by mail, as the daemon does: each step finds in the cache what the one before has made.
    for _ in 0..mails {
        let start = Instant::now();
        let values = context::context(template, &SAMPLE_SITE, &person, &facts, &secrets, "KXVD-TRMQ", now);
        let known = Instant::now();
        let rendered = templates.render(template, "default", Some(locale), &values).unwrap();
        let written = Instant::now();
        let parts = Parts {
            id: Uuid::nil(),
            date: now,
            from: &from,
            reply_to: None,
            to_name: person.display_name,
            to_address: person.email,
            subject: &rendered.subject,
            text: &rendered.text,
            html: &rendered.html,
        };
        size = message::build(&parts, None).unwrap().bytes.len();
        let times = [known - start, written - known, written.elapsed()];
        steps.iter_mut().zip(times).for_each(|(step, time)| *step += time);
    }
    (steps.map(|step| step.as_secs_f64() / number(mails) * 1e6), size)
}
