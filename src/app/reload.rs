//! Takes over what changed while the daemon runs: configuration on SIGHUP, templates whenever they are saved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::mail::render::{Loaded, TemplateSet};
use crate::mail::{report, watch};
use crate::metrics::Metrics;

/// How often the templates directory is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Takes over templates that were saved, a moment after the last change: a half-written file is seen as it should be.
pub(super) async fn watch_templates(
    config: Arc<ArcSwap<Config>>,
    templates: Arc<ArcSwap<TemplateSet>>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let look = || {
        let directory = config.load().templates.directory.clone();
        tokio::task::spawn_blocking(move || watch::fingerprint(&directory))
    };
    let Ok(mut used) = look().await else { return };
    let mut before = used;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        let Ok(now) = look().await else { return };
        if now != used && now == before {
            used = now;
            reload_templates(&config.load(), &templates, &metrics);
            info!("the templates changed and were read again");
        }
        before = now;
    }
}

/// Takes over new templates; where one has faults, its last good version stays, and the metric says so.
fn reload_templates(config: &Config, templates: &ArcSwap<TemplateSet>, metrics: &Metrics) {
    let sites: Vec<&str> = config.sites.keys().map(String::as_str).collect();
    match Loaded::read(&config.templates.directory, &sites) {
        Ok(Loaded { mut set, problems }) => {
            show_templates(metrics, &set);
            set.keep_last_good(&templates.load());
            templates.store(Arc::new(set));
            if !problems.is_empty() {
                error!("templates with faults keep their last good version:\n{}", report::problems(&problems));
            }
        }
        Err(reason) => error!("the templates were not reloaded, the last good ones stay in use: {reason}"),
    }
}

pub(super) fn show_templates(metrics: &Metrics, set: &TemplateSet) {
    // `sites/default/` and the base have the same labels: such a series is good when both are.
    let variants = set.variants();
    let mut series = BTreeMap::new();
    for (variant, valid) in &variants {
        let labels = (variant.template.as_str(), variant.site_label(), variant.locale_label());
        *series.entry(labels).or_insert(true) &= *valid;
    }
    metrics.templates_valid(series.into_iter().map(|((t, s, l), valid)| (t, s, l, valid)));
}

/// Takes over a new configuration, but for what needs a restart; and new templates, if all are good.
pub(super) fn apply_reload(
    config: &ArcSwap<Config>,
    templates: &ArcSwap<TemplateSet>,
    metrics: &Metrics,
    reload: &impl Fn() -> Result<Config, String>,
) {
    let old = config.load_full();
    let new = match reload() {
        Ok(new) => new,
        Err(reason) => {
            error!("the configuration was not reloaded, the old one stays in force:\n{reason}");
            return;
        }
    };
    for key in crate::config::restart_needed(&old, &new) {
        warn!(key, "this setting changed, but needs a restart");
    }
    let kept = old.as_ref().clone();
    let mut merged = new;
    merged.broker = kept.broker;
    merged.database = kept.database;
    merged.http = kept.http;
    merged.keys = kept.keys;
    merged.templates = kept.templates;
    merged.log = kept.log;
    merged.mail.transport = kept.mail.transport;
    merged.mail.smtp = kept.mail.smtp;
    merged.mail.file = kept.mail.file;
    merged.mail.dkim = kept.mail.dkim;
    merged.password.hashing = kept.password.hashing;
    reload_templates(&merged, templates, metrics);
    config.store(Arc::new(merged));
    info!("reloaded");
}
