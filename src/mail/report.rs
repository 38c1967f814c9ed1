//! What the shell prints about templates.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::catalogue::Template;
use super::locate::{Locale, Part, Variant};
use super::problem::Problem;
use super::render::{Loaded, TemplateSet};

mod machine;

pub use machine::{json, sarif};

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

/// The outcome of `regrant templates check`: every problem, or that there is none.
#[must_use]
pub fn check(directory: &Path, loaded: &Loaded) -> String {
    if !loaded.problems.is_empty() {
        return problems(&loaded.problems) + "\n";
    }
    let variants = loaded.set.variants();
    let overrides = variants.iter().filter(|(v, _)| v.site.is_some() || v.locale.is_some()).count();
    let mut out = format!("{}: all templates are good: ", directory.display());
    let _ = write!(out, "{}", count(variants.len() - overrides, "email"));
    if overrides > 0 {
        let _ = write!(out, ", {} for sites and languages", count(overrides, "variant"));
    }
    out.push('\n');
    for template in disabled_but_awaited(&loaded.set) {
        let _ = writeln!(out, "warning: {}", switched_off(&template));
    }
    out
}

fn switched_off(email: &Variant) -> String {
    format!("{email} is switched off, so that people wait for it in vain")
}

/// The templates that are switched off although people cannot go on without them.
#[must_use]
pub fn disabled_but_awaited(set: &TemplateSet) -> Vec<Variant> {
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

/// `regrant templates list`: each template with its placeholders and the files that serve it.
#[must_use]
pub fn list(set: &TemplateSet) -> String {
    let mut served: BTreeMap<Template, BTreeMap<Variant, Vec<String>>> = BTreeMap::new();
    for source in set.sources() {
        let file = source.file.display().to_string();
        let files = served.entry(source.variant.template).or_default();
        let files = files.entry(source.variant).or_default();
        // The settings are the file behind `enabled`, which stands in the heading.
        if source.part != Part::Settings {
            files.push(file);
        }
    }
    let mut out = String::new();
    for template in Template::ALL {
        let state = if set.enabled(template, "", None) { "" } else { " (off)" };
        let _ = writeln!(out, "{template}{state}");
        let _ = writeln!(out, "  {}\n", set.description(template).unwrap_or(template.about()));
        placeholders(template, &mut out);
        let _ = writeln!(out, "\n  files");
        for (variant, files) in served.get(&template).into_iter().flatten() {
            let _ = writeln!(out, "    {:<24} {}", who(variant), files.join("  "));
        }
        out.push('\n');
    }
    out.push_str(
        "* must be shown in both bodies, in every language and site. ? may be missing: show it inside {{#if …}}.\n",
    );
    out
}

fn placeholders(template: Template, out: &mut String) {
    let shown = |name: &str| format!("{{{{{name}}}}}");
    let width = |f: fn(usize, usize) -> usize, get: &dyn Fn(&str, &str) -> usize| {
        template.placeholders().map(|p| get(p.name, p.kind.as_str())).fold(0, f)
    };
    let names = width(usize::max, &|name, _| shown(name).len());
    let kinds = width(usize::max, &|_, kind| kind.len());
    for p in template.placeholders() {
        let mark = match (template.required().contains(&p.name), p.may_be_absent) {
            (true, _) => '*',
            (_, true) => '?',
            _ => ' ',
        };
        let (name, kind) = (shown(p.name), p.kind);
        let _ = writeln!(out, "  {mark} {name:<names$}  {kind:<kinds$}  {}, e.g. {}", p.about, p.sample);
    }
}

fn who(variant: &Variant) -> String {
    match (&variant.site, &variant.locale) {
        (None, None) => "everyone".to_owned(),
        (None, Some(locale)) => locale.to_string(),
        (Some(site), None) => format!("site {site}"),
        (Some(site), Some(locale)) => format!("site {site}, {locale}"),
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
