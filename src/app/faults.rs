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
use crate::events::{self, Event, Origin, QueuedEvent};
use crate::keys::KeyRing;
use crate::mail::render::Loaded;
use crate::store::{self, Pool, event_outbox};
use crate::vitals::Pulse;

/// The most problems of a template that an event lists.
const MOST: usize = 20;
/// How long after a failure the database is asked again.
const PAUSE: Duration = Duration::from_secs(5);

/// The name for faults that concern no email: a directory of an unknown language, a piece that nothing includes. The daemon goes
/// on with them, but a new one would not start.
pub(super) const NO_EMAIL: &str = "unknown";

/// What is wrong in the templates directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Faults by the name of the template that cannot be used because of them, or [`NO_EMAIL`].
    pub(super) errors: BTreeMap<String, Vec<String>>,
    /// What is no fault, but something to mention.
    warnings: Vec<String>,
}

impl Faults {
    pub(super) fn of(loaded: &Loaded) -> Self {
        let mut errors = BTreeMap::<_, Vec<String>>::new();
        for problem in &loaded.problems {
            let mut names: BTreeSet<_> = problem.affects.iter().map(|variant| variant.template.as_str()).collect();
            if names.is_empty() {
                names.insert(NO_EMAIL);
            }
            for name in names {
                let errors = errors.entry(name.to_owned()).or_default();
                if errors.len() < MOST {
                    errors.push(problem.to_string());
                }
            }
        }
        Self { errors, warnings: loaded.warnings.iter().map(ToString::to_string).collect() }
    }

    /// Logs the warnings that were not there `before`.
    pub(super) fn mention_warnings(&self, before: &Self) {
        for warning in self.warnings.iter().filter(|warning| !before.warnings.contains(warning)) {
            warn!("among the email templates: {warning}");
        }
    }

    /// The faults in one line, if there are any.
    pub(super) fn summary(&self) -> Option<String> {
        let first = self.errors.values().flatten().next()?;
        let names: Vec<&str> = self.errors.keys().map(String::as_str).filter(|name| *name != NO_EMAIL).collect();
        let names = match names.as_slice() {
            [] => "no email has the fault, but a daemon that is started now would refuse to".to_owned(),
            names => format!("{} keep their last good version", names.join(", ")),
        };
        Some(format!("{names}: {first}; `regrant templates check` prints all faults"))
    }
}

/// Queues an event for each template whose faults are new.
pub(super) struct TemplateEvents {
    pub(super) faults: watch::Receiver<Faults>,
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) keys: Arc<ArcSwap<KeyRing>>,
    pub(super) pool: Pool,
    /// Wakes the relay that publishes them.
    pub(super) woken: Arc<Notify>,
    pub(super) pulse: Pulse,
}

impl TemplateEvents {
    /// Works until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { mut faults, config, keys, pool, woken, pulse } = self;
        let mut told = BTreeMap::new();
        while let Some(Ok(())) = stop.run_until_cancelled(pulse.waiting(faults.changed())).await {
            let found = faults.borrow_and_update().errors.clone();
            let source = config.load().events.source.clone();
            let now = crate::clock::now();
            let new = found.iter().filter(|(template, errors)| told.get(*template) != Some(*errors));
            let events: Vec<QueuedEvent> =
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
}

async fn queue(pool: &Pool, events: &[QueuedEvent], now: DateTime<Utc>) -> Result<(), store::Error> {
    let connection = pool.get().await?;
    event_outbox::insert(&connection, events, now).await
}

/// The event's id: daemons that see the same fault on the same day choose the same one, so that a listener takes their events for
/// one.
fn event(template: &str, errors: &[String], keys: &KeyRing, source: &str, now: DateTime<Utc>) -> QueuedEvent {
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

    #[test]
    fn a_fault_in_a_partial_is_one_of_every_template_that_includes_it() {
        let home = tempfile::tempdir().unwrap();
        for (file, text) in [("invite/body.txt.hbs", "{{nme}}"), ("partials/lone.txt.hbs", "{{#if}}")] {
            let path = home.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let faults = Faults::of(&Loaded::read(home.path(), &[]).unwrap()).errors;
        assert!(faults["invite"].iter().any(|e| e.starts_with("invite/body.txt.hbs:1:3: unknown placeholder `nme`")));
        assert!(faults[NO_EMAIL][0].starts_with("partials/lone.txt.hbs:"), "{:?}", faults[NO_EMAIL]);
        assert_eq!(faults.len(), 1 + crate::mail::catalogue::Template::ALL.len(), "the others have no files at all");
    }

    #[test]
    fn the_summary_says_what_is_used_meanwhile_and_shows_the_first_fault() {
        let of = |errors: &[(&str, &str)]| {
            let errors = errors.iter().map(|(name, error)| ((*name).to_owned(), vec![(*error).to_owned()])).collect();
            Faults { errors, warnings: vec!["notes.txt: nothing uses it".to_owned()] }.summary()
        };
        assert_eq!(of(&[]), None);
        assert_eq!(
            of(&[("invite", "invite/subject.hbs: cannot be read"), ("password_changed", "x")]).unwrap(),
            "invite, password_changed keep their last good version: invite/subject.hbs: cannot be read; \
             `regrant templates check` prints all faults"
        );
        let nobodys = of(&[(NO_EMAIL, "invites: there is no template `invites`")]).unwrap();
        assert!(nobodys.contains("started now would refuse") && nobodys.contains("`invites`"), "{nobodys}");
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
