//! `regrant templates list|check|preview|send`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::config::{Config, DEFAULT_SITE};
use crate::mail::Template;
use crate::mail::listing::{Listing, Readers};
use crate::mail::locate::Locale;
use crate::mail::render::Loaded;
use crate::preview::{sample::Unknown, studio};

use super::{Outcome, print};

pub mod check;
pub mod preview;
pub mod send;

/// List the templates: their placeholders with samples, and which files are used for which site and language.
#[derive(Debug, Args)]
pub struct List {
    /// Only this template, for example `invite`.
    #[arg(long)]
    template: Option<Template>,
    /// Only the files used for people of this site.
    #[arg(long)]
    site: Option<String>,
    /// Only the files used for people of this language, for example `fr-CA`. Default with --site: the site's language.
    #[arg(long)]
    locale: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn read(config: &Config) -> Result<Loaded, String> {
    let sites = studio::sites(config);
    let sites: Vec<&str> = sites.iter().map(String::as_str).collect();
    Loaded::read(&config.templates.directory, &sites)
        .map_err(|e| format!("email templates: {e}; set `templates.directory` to where they are"))
}

/// Whether there is such a site, and such a language.
fn known(config: &Config, site: &str, locale: Option<&str>) -> Result<(), String> {
    let sites = studio::sites(config);
    if !sites.iter().any(|known| known == site) {
        return Err(Unknown::new("site", site, sites.iter().map(String::as_str)).to_string());
    }
    if let Some(tag) = locale {
        tag.parse::<Locale>().map_err(|reason| format!("--locale {tag}: {reason}"))?;
    }
    Ok(())
}

/// Prints what there is.
///
/// # Errors
/// When the directory cannot be read, or the site or language means nothing.
pub fn list(list: &List, config: &Config) -> Outcome {
    let site = list.site.as_deref().unwrap_or(DEFAULT_SITE);
    known(config, site, list.locale.as_deref())?;
    let its_own = || config.sites.get(site).and_then(|site| site.locale.as_deref());
    let locale = list.locale.as_deref().or_else(its_own);
    let readers = (list.site.is_some() || list.locale.is_some()).then_some(Readers { site, locale });
    let loaded = read(config)?;
    let listing = Listing::new(&config.templates.directory, &loaded, list.template, readers);
    print(&if list.json { format!("{:#}\n", json!(listing)) } else { listing.to_string() })?;
    Ok(ExitCode::SUCCESS)
}
