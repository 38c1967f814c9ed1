//! `regrant templates list`: what each email may show, and which file serves which site and language.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::catalogue::Template;
use super::locate::{Locale, Part, Variant};
use super::placeholder::{self, Kind, Placeholder};
use super::render::{Loaded, Source};

/// The widest line, where there is a choice.
const WIDTH: usize = 100;

/// The emails. `Display` is for people, `Serialize` for programs.
#[derive(Debug, Serialize)]
pub struct Listing<'a> {
    directory: &'a Path,
    templates: Vec<Email<'a>>,
}

/// One of them.
#[derive(Debug, Serialize)]
struct Email<'a> {
    name: Template,
    /// When it is sent.
    about: &'static str,
    /// What its `template.toml` says.
    description: Option<&'a str>,
    placeholders: Vec<Entry>,
    variants: Vec<Served<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry {
    #[serde(flatten)]
    placeholder: &'static Placeholder,
    /// Whether both bodies must show it.
    required: bool,
}

/// The files of an email, as one site and language get it.
#[derive(Debug, Serialize)]
struct Served<'a> {
    /// Which of the emails it is that has files of its own.
    #[serde(flatten)]
    variant: Variant,
    enabled: bool,
    /// Whether nothing is wrong with it.
    good: bool,
    files: Vec<File<'a>>,
}

#[derive(Debug, Serialize)]
struct File<'a> {
    part: Part,
    #[serde(rename = "file")]
    path: &'a Path,
    partials: &'a [PathBuf],
}

/// Whose emails are meant.
#[derive(Clone, Copy, Debug)]
pub struct Readers<'a> {
    /// People of this site.
    pub site: &'a str,
    /// People who read this language.
    pub locale: Option<&'a str>,
}

impl<'a> Listing<'a> {
    /// Lists one template or all; every variant that has files of its own, or those that serve certain readers.
    #[must_use]
    pub fn new(
        directory: &'a Path,
        loaded: &'a Loaded,
        template: Option<Template>,
        readers: Option<Readers<'_>>,
    ) -> Self {
        let asked = Template::ALL.into_iter().filter(|t| template.is_none_or(|only| only == *t));
        let templates = asked.map(|template| Email::new(loaded, template, readers)).collect();
        Self { directory, templates }
    }
}

impl<'a> Email<'a> {
    fn new(loaded: &'a Loaded, template: Template, readers: Option<Readers<'_>>) -> Self {
        let serving = readers.map(|Readers { site, locale }| loaded.set.serving(template, site, locale));
        let variants = loaded.set.variants().into_iter().filter(|(variant, _)| match &serving {
            Some(serving) => variant == serving,
            None => variant.template == template,
        });
        let entry = |p: &'static Placeholder| Entry { placeholder: p, required: template.required().contains(&p.name) };
        Self {
            name: template,
            about: template.about(),
            description: loaded.set.description(template),
            placeholders: template.placeholders().map(entry).collect(),
            variants: variants.map(|(variant, good)| Served::new(loaded, variant, good)).collect(),
        }
    }
}

impl<'a> Served<'a> {
    fn new(loaded: &'a Loaded, variant: Variant, good: bool) -> Self {
        let site = variant.site.as_deref().unwrap_or_default();
        let enabled = loaded.set.enabled(variant.template, site, variant.locale.as_ref().map(Locale::as_str));
        let of = loaded.files.iter().filter(|source| source.variant == variant);
        let files = of.map(|Source { part, file, partials, .. }| File { part: *part, path: file, partials }).collect();
        Self { variant, enabled, good, files }
    }

    fn readers(&self) -> String {
        match (&self.variant.site, &self.variant.locale) {
            (None, None) => "everyone".to_owned(),
            (None, Some(locale)) => locale.to_string(),
            (Some(site), None) => format!("site {site}"),
            (Some(site), Some(locale)) => format!("site {site}, {locale}"),
        }
    }
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "email templates in {}\n\nevery email may show\n", self.directory.display())?;
        write_placeholders(f, &placeholder::COMMON.iter().collect::<Vec<_>>())?;
        for email in &self.templates {
            write!(f, "\n{email}")?;
        }
        writeln!(
            f,
            "\nWhat may be missing belongs inside {{{{#if name}}}}…{{{{/if}}}}: without a value it shows nothing."
        )
    }
}

impl fmt::Display for Email<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n  {}", self.name, self.description.unwrap_or(self.about))?;
        let required: Vec<_> = self.placeholders.iter().filter(|p| p.required).map(|p| shown(p.placeholder)).collect();
        if !required.is_empty() {
            writeln!(f, "  Both bodies must show {}, in every language and for every site.", required.join(", "))?;
        }
        let own = self.placeholders.iter().map(|p| p.placeholder);
        let own: Vec<_> = own.filter(|p| placeholder::COMMON.iter().all(|common| common.name != p.name)).collect();
        writeln!(f, "\n  it may also show\n")?;
        write_placeholders(f, &own)?;
        for served in &self.variants {
            write!(f, "\n{served}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Served<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let off = if self.enabled { "" } else { " (switched off)" };
        let faulty = if self.good { "" } else { " (has faults: `regrant templates check` shows them)" };
        writeln!(f, "  files for {}{off}{faulty}", self.readers())?;
        for File { part, path, partials } in &self.files {
            writeln!(f, "    {:<9} {}", part.as_str(), path.display())?;
            if partials.is_empty() {
                continue;
            }
            let mut line = format!("{:14}with", "");
            for partial in *partials {
                let next = format!(" {}", partial.display());
                if line.len() + next.len() > WIDTH {
                    writeln!(f, "{line}")?;
                    line = format!("{:18}", "");
                }
                line += &next;
            }
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

fn shown(placeholder: &Placeholder) -> String {
    format!("{{{{{}}}}}", placeholder.name)
}

fn write_placeholders(f: &mut fmt::Formatter<'_>, placeholders: &[&Placeholder]) -> fmt::Result {
    let width = placeholders.iter().map(|p| shown(p).len()).max().unwrap_or_default();
    for p in placeholders {
        let absent = if p.may_be_absent && p.kind != Kind::Flag { ", may be missing" } else { "" };
        writeln!(f, "  {:<width$}  {}", shown(p), p.about)?;
        writeln!(f, "  {:<width$}  {}{absent}, e.g. {}", "", p.kind, p.sample)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn shipped() -> Loaded {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("email_templates");
        Loaded::read(&directory, &["default"]).unwrap()
    }

    #[test]
    fn every_placeholder_is_told_with_its_meaning_and_sample() {
        let loaded = shipped();
        let listing = Listing::new(Path::new("email_templates"), &loaded, None, None);
        let text = listing.to_string();
        let json = serde_json::to_value(&listing).unwrap();
        for (i, template) in Template::ALL.into_iter().enumerate() {
            let email = &json["templates"][i];
            assert_eq!(email["name"], template.as_str());
            let told = email["placeholders"].as_array().unwrap();
            for p in template.placeholders() {
                let sample = format!(", e.g. {}\n", p.sample);
                assert!(text.contains(p.about) && text.contains(&sample), "{template}: {}", p.name);
                let entry = told.iter().find(|entry| entry["name"] == p.name).unwrap();
                assert_eq!((&entry["about"], &entry["sample"]), (&p.about.into(), &p.sample.into()));
                assert_eq!(entry["required"], template.required().contains(&p.name));
            }
        }
    }

    #[test]
    fn each_file_is_named_for_each_language_with_the_pieces_in_it() {
        let loaded = shipped();
        let listing = Listing::new(Path::new("t"), &loaded, Some(Template::PasswordResetLink), None);
        let text = listing.to_string();
        let german = "  files for de\n    \
                      subject   password_reset_link/de/subject.hbs\n    \
                      text      password_reset_link/de/body.txt.hbs\n              \
                      with partials/de/not_me.txt.hbs partials/de/requested.txt.hbs\n                   \
                      partials/de/signature.txt.hbs\n    \
                      html      password_reset_link/de/body.html.hbs\n              \
                      with partials/aside.html.hbs partials/button.html.hbs ";
        assert!(text.contains(german), "{text}");
        assert!(text.contains("    settings  password_reset_link/template.toml\n"), "{text}");
        assert!(!text.contains("invite/"), "{text}");
    }

    /// The tables of docs/templates.md.
    fn tables() -> String {
        let mut out = String::new();
        let mut table = |title: &str, placeholders: &[&Placeholder], required: &[&str]| {
            let _ = write!(out, "### {title}\n\n| placeholder | what it is | sample |\n| --- | --- | --- |\n");
            for p in placeholders {
                let note = match p {
                    p if required.contains(&p.name) => ". **Must be shown**",
                    p if p.kind == Kind::Flag => ". To ask with `{{#if}}`, not to show",
                    p if p.may_be_absent => ". May be missing",
                    _ => "",
                };
                // A token as it is would be most of the table.
                let sample = p.sample.split_once("GbQx").map_or(p.sample.to_owned(), |(start, _)| format!("{start}…"));
                let _ = writeln!(out, "| `{}` | {}{note} | {sample} |", shown(p), p.about);
            }
            out.push('\n');
        };
        let common: Vec<_> = placeholder::COMMON.iter().collect();
        table("In every email", &common, &[]);
        for template in Template::ALL {
            // What every email may show stands in its table only where it must be shown.
            let placeholders: Vec<_> = template
                .placeholders()
                .filter(|p| template.required().contains(&p.name) || common.iter().all(|c| c.name != p.name))
                .collect();
            table(&format!("In `{template}`"), &placeholders, template.required());
        }
        out
    }

    #[test]
    fn the_document_tells_every_placeholder() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/templates.md");
        let document = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = document.split_once("<!-- placeholders: ").unwrap();
        let (comment, rest) = rest.split_once("-->\n").unwrap();
        let (told, after) = rest.split_once("<!-- end of placeholders -->").unwrap();
        let tables = format!("\n{}", tables());
        if std::env::var_os("INSTA_UPDATE").is_some_and(|wanted| wanted == "always") {
            let all = format!("{before}<!-- placeholders: {comment}-->\n{tables}<!-- end of placeholders -->{after}");
            std::fs::write(&path, all).unwrap();
        } else {
            assert_eq!(told, tables, "docs/templates.md is stale: INSTA_UPDATE=always cargo test --lib listing");
        }
    }

    #[test]
    fn readers_are_served_by_the_nearest_files() {
        let loaded = shipped();
        let of = |locale| {
            let readers = Readers { site: "default", locale: Some(locale) };
            let listing = Listing::new(Path::new("t"), &loaded, Some(Template::Invite), Some(readers));
            serde_json::to_value(listing).unwrap()["templates"][0]["variants"].clone()
        };
        for (asked, served) in [("fr-CA", "invite/fr/subject.hbs"), ("sv", "invite/subject.hbs")] {
            let variants = of(asked);
            assert_eq!(variants.as_array().unwrap().len(), 1);
            assert_eq!(variants[0]["files"][0]["file"], served);
        }
    }
}
