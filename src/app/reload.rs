//! Takes over what changed while the daemon runs: configuration on SIGHUP, templates whenever they are saved.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::hashing::{HashPool, blocklist};
use crate::keys::KeyRing;
use crate::mail::catalogue::Template;
use crate::mail::render::{Loaded, TemplateSet};
use crate::mail::watch::Watch;
use crate::metrics::Metrics;
use crate::vitals::Pulse;

use super::daemon::Shared;
use super::faults::{Faults, NO_EMAIL};

/// How often the templates directory is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The most problems that are logged at once; `regrant templates check` shows all.
const PROBLEMS: usize = 20;

/// Begins to look at the templates directory, if that is wanted. It is to be read after this.
pub(super) async fn watch_of_templates(config: &Config) -> Option<Watch> {
    if !config.templates.watch {
        return None;
    }
    Some(Watch::new(&config.templates.directory, LOOK).await)
}

/// Takes over templates that were saved.
pub(super) struct TemplateWatch {
    pub(super) watch: Watch,
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) templates: Arc<ArcSwap<TemplateSet>>,
    pub(super) metrics: Metrics,
    pub(super) faults: Arc<watch::Sender<Faults>>,
    pub(super) pulse: Pulse,
}

impl TemplateWatch {
    /// Works until `stop`. A moment after the last change: a half-written file is seen as it should be.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { mut watch, config, templates, metrics, faults, pulse } = self;
        // Asked before each look, and waiting for the look itself is no progress: a directory may hang on a dead file server.
        let directory = || {
            pulse.beat();
            config.load().templates.directory.clone()
        };
        while stop.run_until_cancelled(watch.changed(directory)).await.is_some() {
            tokio::task::block_in_place(|| reload_templates(&config.load(), &templates, &metrics, &faults));
        }
    }
}

/// Takes over new templates; where one has faults, its last good version stays, and metric, log and event say so.
///
/// Returns which templates are in use now, for the log line of a reload.
fn reload_templates(
    config: &Config,
    templates: &ArcSwap<TemplateSet>,
    metrics: &Metrics,
    faults: &watch::Sender<Faults>,
) -> &'static str {
    let sites: Vec<&str> = config.sites.keys().map(String::as_str).collect();
    match Loaded::read(&config.templates.directory, &sites) {
        Ok(loaded) => {
            let found = Faults::of(&loaded);
            let Loaded { mut set, problems, .. } = loaded;
            show_templates(metrics, &set, &found);
            set.keep_last_good(&templates.load());
            templates.store(Arc::new(set));
            found.mention_warnings(&faults.borrow());
            faults.send_replace(found);
            if problems.is_empty() {
                info!("the email templates were read again: all are good and in use");
                return "all";
            }
            for problem in problems.iter().take(PROBLEMS) {
                if problem.affects.is_empty() {
                    error!(
                        "a fault that no email has yet, but a daemon that is started now would refuse to: {problem}"
                    );
                } else {
                    error!("email template refused, its last good version stays in use: {problem}");
                }
            }
            let count = problems.len();
            warn!(problems = count, "the email templates were read again: those without faults are in use");
            "those without faults, and the last good versions of the others"
        }
        // The directory as a whole: moved away, or not to be read. No file of it can be used.
        Err(reason) => {
            let reason = reason.to_string();
            let all = Template::ALL.map(|t| (t.as_str().to_owned(), vec![reason.clone()])).into();
            faults.send_modify(|faults| faults.errors = all);
            show(metrics, &templates.load(), &faults.borrow(), |_| false);
            error!("the templates were not reloaded, the last good ones stay in use: {reason}");
            "none, the last good ones stay in use"
        }
    }
}

pub(super) fn show_templates(metrics: &Metrics, set: &TemplateSet, faults: &Faults) {
    show(metrics, set, faults, |valid| valid);
}

fn show(metrics: &Metrics, set: &TemplateSet, faults: &Faults, is_good: impl Fn(bool) -> bool) {
    // `sites/default/` and the base have the same labels: such a series is good when both are.
    let variants = set.variants();
    let mut series = BTreeMap::new();
    for (variant, valid) in &variants {
        let labels = (variant.template.as_str(), variant.site_label(), variant.locale_label());
        *series.entry(labels).or_insert(true) &= is_good(*valid);
    }
    series.insert((NO_EMAIL, "default", "default"), !faults.errors.contains_key(NO_EMAIL));
    metrics.templates_valid(series.into_iter().map(|((t, s, l), valid)| (t, s, l, valid)));
}

/// Takes over a key file that was rotated. One that is of no use changes nothing: the daemon goes on with the keys it has.
pub(super) fn reload_keys(path: &Path, keys: &ArcSwap<KeyRing>, hashing: &HashPool) {
    let old = keys.load_full();
    let new = match KeyRing::load(path) {
        Ok(new) if new.has_same_index(&old) => new,
        Ok(_) => {
            let path = path.display();
            error!(
                "the keys were not reloaded: {path} has another [index] key, so it is another key file; the old keys stay"
            );
            return;
        }
        Err(error) => {
            error!(%error, "the keys were not reloaded, the old ones stay in use");
            return;
        }
    };
    if new.summary() == old.summary() {
        return;
    }
    if let Err(error) = hashing.set_peppers(new.peppers()) {
        error!(%error, "the keys were not reloaded, the old ones stay in use");
        return;
    }
    info!(token = new.token_key_id(), sealing = new.sealing_key().key_id, "the keys changed and are in use");
    keys.store(Arc::new(new));
}

/// Says so if a list of passwords that are refused cannot refuse them.
pub(super) fn mention_blocklist(config: &Config) {
    if let Some(list) = &config.password.policy.blocklist_file
        && let Err(error) = blocklist::check(list)
    {
        warn!(list = %list.display(), "password.policy.blocklist_file: {error}");
    }
}

/// Takes over a new configuration, except settings that need a restart; and each template that is good. Of templates with
/// faults the last good version stays. A configuration that cannot be used changes nothing, not even templates.
pub(super) fn apply_reload(shared: &Shared, reload: &impl Fn() -> Result<Config, String>) {
    let Shared { config, templates, metrics, faults, .. } = shared;
    let old = config.load_full();
    let new = match reload() {
        Ok(new) => new,
        Err(reason) => {
            error!("the configuration was not reloaded, the old one stays in force:\n{reason}");
            return;
        }
    };
    let mut kept = crate::config::restart_needed(&old, &new);
    for key in &kept {
        warn!(key, "this setting changed, but needs a restart");
    }
    let key = "mail.dkim.key_file".to_owned();
    let dkim = shared.dkim.as_deref().zip(old.mail.dkim.as_ref());
    // With another selector it is another key that is wanted: neither is taken up without the other.
    if !kept.contains(&key) && dkim.is_some_and(|(dkim, setting)| !dkim.is_in(&setting.key_file)) {
        warn!(key, "the file that this setting names changed, but needs a restart");
        kept.push(key);
    }
    let reloaded = old.reloaded(new);
    mention_blocklist(&reloaded);
    let taken_over = reload_templates(&reloaded, templates, metrics, faults);
    config.store(Arc::new(reloaded));
    info!(templates = taken_over, needs_restart = kept.len(), "the configuration was reloaded");
}
