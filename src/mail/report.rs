//! What the shell prints about templates.

use std::fmt::Write;
use std::path::Path;

use super::locate::{Locale, Variant};
use super::problem::Problem;
use super::render::{Loaded, TemplateSet};

mod machine;

pub use machine::{json, sarif, unread_json, unread_sarif};

/// All problems with their lines, and how many there are: for standard error.
#[must_use]
pub fn problems(problems: &[Problem]) -> String {
    let mut out = String::new();
    for problem in problems {
        let _ = writeln!(out, "{problem:#}\n");
    }
    let files: std::collections::BTreeSet<_> = problems.iter().map(|p| &p.file).collect();
    let _ =
        write!(out, "{} in {} of the email templates", count(problems.len(), "problem"), count(files.len(), "file"));
    out
}

/// What is no fault, but something to mention, a line each.
#[must_use]
pub fn warnings(warnings: &[Problem]) -> String {
    let mut out = String::new();
    for warning in warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

/// The outcome of `regrant templates check`: every problem, or that there is none.
#[must_use]
pub fn check(directory: &Path, loaded: &Loaded) -> String {
    let warnings = warnings(&loaded.warnings);
    if !loaded.problems.is_empty() {
        return problems(&loaded.problems) + "\n" + &warnings;
    }
    let variants = loaded.set.variants();
    let overrides = variants.iter().filter(|(v, _)| v.site.is_some() || v.locale.is_some()).count();
    let mut out = format!("{}: all templates are good: ", directory.display());
    let _ = write!(out, "{}", count(variants.len() - overrides, "email"));
    if overrides > 0 {
        let _ = write!(out, ", {} for sites and languages", count(overrides, "variant"));
    }
    out.push('\n');
    for warning in switched_off_but_awaited(&loaded.set) {
        let _ = writeln!(out, "warning: {warning}");
    }
    out.push_str(&warnings);
    out
}

fn switched_off(email: &Variant) -> String {
    format!("{email} is switched off, so that people wait for it in vain")
}

/// A line for each email that is switched off although people cannot go on without it, naming its site and language.
#[must_use]
pub fn switched_off_but_awaited(set: &TemplateSet) -> Vec<String> {
    disabled_but_awaited(set).iter().map(switched_off).collect()
}

/// The templates that are switched off although people cannot go on without them.
fn disabled_but_awaited(set: &TemplateSet) -> Vec<Variant> {
    set.variants()
        .into_iter()
        .map(|(variant, _)| variant)
        .filter(|v| v.template.is_awaited())
        .filter(|v| {
            let site = v.site.as_deref().unwrap_or_default();
            let locale = v.locale.as_ref().map(Locale::as_str);
            !set.enabled(v.template, site, locale)
        })
        .collect()
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
