//! Tells upstream apps of templates with faults: the event `template.invalid`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::config::Config;
use crate::events::{self, Event, Origin, Queued};
use crate::keys::KeyRing;
use crate::mail::problem::Problem;
use crate::store::{self, Pool, event_outbox};
use crate::vitals::Pulse;

/// The most problems of a template that an event lists.
const MOST: usize = 20;
/// How long after a failure the database is asked again.
const PAUSE: Duration = Duration::from_secs(5);

/// What is wrong with each template.
pub(super) type Faults = BTreeMap<String, Vec<String>>;

/// Problems by the templates that cannot be used because of them.
pub(super) fn by_template(problems: &[Problem]) -> Faults {
    let mut faults = Faults::new();
    for problem in problems {
        let templates: BTreeSet<_> = problem.affects.iter().map(|variant| variant.template).collect();
        for template in templates {
            let errors = faults.entry(template.as_str().to_owned()).or_default();
            if errors.len() < MOST {
                errors.push(problem.to_string());
            }
        }
    }
    faults
}

/// Queues an event for each template whose faults are new.
pub(super) async fn announce(
    mut faults: watch::Receiver<Faults>,
    config: Arc<ArcSwap<Config>>,
    keys: Arc<ArcSwap<KeyRing>>,
    pool: Pool,
    woken: Arc<Notify>,
    pulse: Pulse,
    stop: CancellationToken,
) {
    let mut told = Faults::new();
    while let Some(Ok(())) = stop.run_until_cancelled(pulse.waiting(faults.changed())).await {
        let found = faults.borrow_and_update().clone();
        let source = config.load().events.source.clone();
        let now = crate::clock::now();
        let new = found.iter().filter(|(template, errors)| told.get(*template) != Some(*errors));
        let events: Vec<Queued> =
            new.map(|(template, errors)| event(template, errors, &keys.load(), &source, now)).collect();
        if !events.is_empty() {
            while let Err(error) = queue(&pool, &events, now).await {
                warn!(%error, "the event template.invalid is not yet written; trying again");
                if stop.run_until_cancelled(pulse.waiting(tokio::time::sleep(PAUSE))).await.is_none() {
                    return;
                }
            }
            woken.notify_one();
        }
        told = found;
    }
}

async fn queue(pool: &Pool, events: &[Queued], now: DateTime<Utc>) -> Result<(), store::Error> {
    let connection = pool.get().await?;
    event_outbox::insert(&connection, events, now).await
}

/// Daemons that see the same fault on the same day give its event the same id: whoever hears of it from several takes it for
/// one.
fn event(template: &str, errors: &[String], keys: &KeyRing, source: &str, now: DateTime<Utc>) -> Queued {
    let day = now.date_naive().to_string();
    let parts: Vec<&[u8]> =
        [template, &day].into_iter().chain(errors.iter().map(String::as_str)).map(str::as_bytes).collect();
    let id = Uuid::from_bytes(keys.fingerprint("template.invalid", &parts));
    let event = Event::TemplateInvalid { template: template.to_owned(), errors: errors.to_vec() };
    events::cloud_event(&event, template, id, now, source, &Origin::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::render::Loaded;

    #[test]
    fn a_fault_in_a_partial_is_one_of_every_template_that_includes_it() {
        let home = tempfile::tempdir().unwrap();
        for (file, text) in [("invite/body.txt.hbs", "{{nme}}"), ("partials/lone.txt.hbs", "{{#if}}")] {
            let path = home.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let faults = by_template(&Loaded::read(home.path(), &[]).unwrap().problems);
        assert!(faults["invite"].iter().any(|e| e.starts_with("invite/body.txt.hbs:1:3: unknown placeholder `nme`")));
        assert_eq!(faults.len(), crate::mail::catalogue::Template::ALL.len(), "the others have no files at all");
    }

    #[test]
    fn the_same_fault_has_the_same_id() {
        let keys = KeyRing::generate(crate::clock::now());
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let make = |errors: &[&str], at| {
            let errors: Vec<String> = errors.iter().map(|e| (*e).to_owned()).collect();
            let body: serde_json::Value =
                serde_json::from_str(&event("invite", &errors, &keys, "regrant", at).body).unwrap();
            (body["id"].clone(), body["data"]["errors"].clone())
        };
        let (id, errors) = make(&["a", "b"], at);
        assert_eq!(errors, serde_json::json!(["a", "b"]));
        assert_eq!(make(&["a", "b"], at + chrono::TimeDelta::hours(2)).0, id);
        assert_ne!(make(&["a"], at).0, id);
        assert_ne!(make(&["a", "b"], at + chrono::TimeDelta::days(1)).0, id);
    }
}
