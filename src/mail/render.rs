//! Templates, checked and ready, and what they make of the values of an email.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::catalogue::Template;
use super::check::{self, Body, Checked, Mail};
use super::context::{Context, Value};
use super::locate::{FileId, Locale, Part, ReadError, Sources, Variant};
use super::piece::{Piece, escape_html, escape_nothing};
use super::problem::Problem;
use super::wording::Language;
use super::{clean, piece};

/// The longest subject, in characters: what a header line and an inbox can take.
const SUBJECT_LENGTH: usize = 255;

/// An email as it will be sent. `Debug` shows sizes only: the texts hold links and codes.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One line without control characters, at most 255 characters. Holds no link or code.
    pub subject: String,
    /// The plain text body, with `\n` at line ends.
    pub text: String,
    /// The HTML body.
    pub html: String,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered")
            .field("subject_length", &self.subject.len())
            .field("text_length", &self.text.len())
            .field("html_length", &self.html.len())
            .finish()
    }
}

/// An email cannot be written. Names places and placeholders, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A value that is always there is missing.
    #[error("{template}: `{placeholder}` has no value ({file}:{line}:{column})", file = file.display())]
    MissingValue {
        /// The template.
        template: Template,
        /// The placeholder without a value.
        placeholder: &'static str,
        /// The file in which it stands, relative to the templates directory.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// The template has faults and has never been without.
    #[error("the email template {variant} has faults: `regrant templates check` shows them")]
    Invalid {
        /// Which one.
        variant: Variant,
    },
}

/// A templates directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read at all.
    #[error("email templates: {0}; set `templates.directory` to where they are")]
    Read(#[from] ReadError),
    /// Some of it is wrong.
    #[error("{}", super::report::problems(.0))]
    Problems(Vec<Problem>),
}

impl LoadError {
    /// The faults in templates; none when the directory could not be read.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Read(_) => &[],
            Self::Problems(problems) => problems,
        }
    }
}

/// A templates directory as it was found: what is right of it, and what is wrong.
#[derive(Debug)]
pub struct Loaded {
    /// Every email; those with faults cannot be rendered (but see [`TemplateSet::keep_last_good`]).
    pub set: TemplateSet,
    /// All faults, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// What is no fault, but something to mention: files that nothing uses and that nobody meant for an email, and what
    /// emails can be sent with although it is hardly meant.
    pub warnings: Vec<Problem>,
    /// Which file serves which part, of emails with faults too.
    pub files: Vec<Source>,
}

impl Loaded {
    /// Reads and checks a directory. `sites` are the configured ones.
    pub fn read(directory: &Path, sites: &[&str]) -> Result<Self, ReadError> {
        let mut sources = Sources::read(directory, sites)?;
        let Checked { mails, partials, problems, warnings: found } = check::check(&sources);
        let paths = sources.paths();
        let mut files = Vec::new();
        for (variant, part) in mails.keys().flat_map(|variant| Part::ALL.map(|part| (variant.clone(), part))) {
            let Some(file) = sources.locate(&variant, part) else { continue };
            let path = |file: &FileId| file.path(&paths).to_owned();
            let file = path(&file);
            let key = (variant, part);
            let partials = partials.get(&key).into_iter().flat_map(|files| files.iter().map(path)).collect();
            files.push(Source { variant: key.0, part, file, partials });
        }
        let mut set = TemplateSet::default();
        for (variant, mail) in mails {
            let ready = mail.map(|mail| Arc::new(Ready { mail, paths: Arc::clone(&paths) }));
            set.insert(variant, ready);
        }
        let mut warnings = std::mem::take(&mut sources.strays);
        warnings.extend(found);
        Ok(Self { set, problems, warnings, files })
    }

    /// The same, all or nothing.
    ///
    /// # Errors
    /// The directory cannot be read, or anything in it is wrong: the error holds every problem.
    pub fn without_problems(directory: &Path, sites: &[&str]) -> Result<Self, LoadError> {
        let loaded = Self::read(directory, sites)?;
        if loaded.problems.is_empty() { Ok(loaded) } else { Err(LoadError::Problems(loaded.problems)) }
    }
}

/// A mail and the names of the files that it was made of.
#[derive(Debug)]
struct Ready {
    mail: Mail,
    paths: Arc<[PathBuf]>,
}

/// One email in its locales; `None` where it has faults.
#[derive(Clone, Debug, Default)]
struct ByLocale {
    default: Option<Arc<Ready>>,
    locales: BTreeMap<Locale, Option<Arc<Ready>>>,
}

/// All emails, checked. It never changes; a reload makes a new one.
#[derive(Clone, Debug, Default)]
pub struct TemplateSet {
    /// Those that hold for all sites without files of their own.
    base: BTreeMap<Template, ByLocale>,
    /// Those of sites with files of their own.
    sites: BTreeMap<String, BTreeMap<Template, ByLocale>>,
}

/// Which file serves a part of an email.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The email.
    pub variant: Variant,
    /// The part.
    pub part: Part,
    /// The file, relative to the templates directory.
    pub file: PathBuf,
    /// The shared pieces that it includes, directly or through others, relative to the templates directory.
    pub partials: Vec<PathBuf>,
}

impl TemplateSet {
    /// Reads and checks a directory, all or nothing. `sites` are the configured ones.
    ///
    /// # Errors
    /// The directory cannot be read, or anything in it is wrong: the error holds every problem.
    pub fn load(directory: &Path, sites: &[&str]) -> Result<Self, LoadError> {
        Loaded::without_problems(directory, sites).map(|loaded| loaded.set)
    }

    /// Puts the last good version, from `previous`, where an email of this set has faults: what that site and locale were
    /// served before. If their faulty files are new, that is what serves everybody else.
    pub fn keep_last_good(&mut self, previous: &Self) {
        for (variant, valid) in self.variants() {
            if valid {
                continue;
            }
            let site = variant.site.as_deref().unwrap_or_default();
            let (_, good) = previous.find(variant.template, site, variant.locale.as_ref().map(Locale::as_str));
            if let Some(good) = good.cloned() {
                self.insert(variant, Some(good));
            }
        }
    }

    /// Whether the email is sent at all: `enabled` in its `template.toml`. An email with faults counts as
    /// enabled, so that it fails to be written instead of being silently cancelled.
    #[must_use]
    pub fn enabled(&self, template: Template, site: &str, locale: Option<&str>) -> bool {
        self.find(template, site, locale).1.is_none_or(|ready| ready.mail.settings.enabled)
    }

    /// Writes an email, for the most specific of site and locale that there is.
    ///
    /// # Errors
    /// A value that is always there is missing, or the template has faults.
    pub fn render(
        &self,
        template: Template,
        site: &str,
        locale: Option<&str>,
        context: &Context,
    ) -> Result<Rendered, RenderError> {
        let (variant, ready) = self.find(template, site, locale);
        let ready = ready.ok_or_else(|| RenderError::Invalid { variant: variant() })?;
        let mail = &ready.mail;
        let run = |body: &Body, language, escape| ready.run(template, body, language, context, escape);
        let [subject, text, html] = mail.languages;
        Ok(Rendered {
            subject: clean::single_line(&run(&mail.subject, subject, escape_nothing)?, SUBJECT_LENGTH),
            text: clean::tidy(&run(&mail.text, text, escape_nothing)?),
            html: run(&mail.html, html, escape_html)?,
        })
    }

    /// The email that serves a site and locale: theirs, or the next less specific one.
    #[must_use]
    pub fn serving(&self, template: Template, site: &str, locale: Option<&str>) -> Variant {
        self.find(template, site, locale).0()
    }

    /// Every email that has files of its own, and whether it can be rendered.
    #[must_use]
    pub fn variants(&self) -> Vec<(Variant, bool)> {
        self.all().map(|(variant, ready)| (variant, ready.is_some())).collect()
    }

    /// What `template.toml` says the email is for.
    #[must_use]
    pub fn description(&self, template: Template) -> Option<&str> {
        self.base.get(&template)?.default.as_ref()?.mail.settings.description.as_deref()
    }

    fn all(&self) -> impl Iterator<Item = (Variant, Option<&Arc<Ready>>)> {
        let sites = self.sites.iter().map(|(site, templates)| (Some(site), templates));
        [(None, &self.base)].into_iter().chain(sites).flat_map(|(site, templates)| {
            templates.iter().flat_map(move |(template, mails)| {
                let locales = mails.locales.iter().map(|(locale, ready)| (Some(locale), ready));
                [(None, &mails.default)].into_iter().chain(locales).map(move |(locale, ready)| {
                    let variant = Variant { template: *template, site: site.cloned(), locale: locale.cloned() };
                    (variant, ready.as_ref())
                })
            })
        })
    }

    fn insert(&mut self, variant: Variant, ready: Option<Arc<Ready>>) {
        let templates = match variant.site {
            Some(site) => self.sites.entry(site).or_default(),
            None => &mut self.base,
        };
        let mails = templates.entry(variant.template).or_default();
        match variant.locale {
            Some(locale) => drop(mails.locales.insert(locale, ready)),
            None => mails.default = ready,
        }
    }

    /// The email that serves a site and locale, and (to be made when asked) which one that is.
    fn find<'a>(
        &'a self,
        template: Template,
        site: &'a str,
        locale: Option<&str>,
    ) -> (impl Fn() -> Variant + 'a, Option<&'a Arc<Ready>>) {
        let own = self.sites.get(site).and_then(|templates| templates.get(&template));
        let mails = own.or_else(|| self.base.get(&template));
        // A tag that is none is as good as no tag: the default is sent rather than nothing.
        let locale = locale.and_then(|tag| tag.parse::<Locale>().ok());
        let found = locale.and_then(|locale| {
            let mails = mails?;
            locale.fallbacks().find_map(|tag| mails.locales.get_key_value(&tag))
        });
        let ready = match found {
            Some((_, ready)) => ready.as_ref(),
            None => mails.and_then(|mails| mails.default.as_ref()),
        };
        let site = own.map(|_| site);
        let variant = move || Variant {
            template,
            site: site.map(str::to_owned),
            locale: found.map(|(locale, _)| locale.clone()),
        };
        (variant, ready)
    }
}

impl Ready {
    /// Runs the program of a body.
    fn run(
        &self,
        template: Template,
        body: &Body,
        language: Language,
        context: &Context,
        escape: fn(&str, &mut String),
    ) -> Result<String, RenderError> {
        let mut out = String::with_capacity(body.size + body.size / 4);
        write(&body.pieces, language, context, escape, &mut out).map_err(|missing| RenderError::MissingValue {
            template,
            placeholder: missing.placeholder,
            file: missing.at.file.path(&self.paths).to_owned(),
            line: missing.at.line,
            column: missing.at.column,
        })?;
        Ok(out)
    }
}

struct Missing {
    placeholder: &'static str,
    at: piece::At,
}

fn write(
    pieces: &[Piece],
    language: Language,
    context: &Context,
    escape: fn(&str, &mut String),
    out: &mut String,
) -> Result<(), Missing> {
    for piece in pieces {
        match piece {
            Piece::Text { text, .. } => out.push_str(text),
            Piece::Value { placeholder, style, at } => match context.value(placeholder) {
                Some(Value::Absent) if placeholder.may_be_absent => {}
                None | Some(Value::Absent) => {
                    return Err(Missing { placeholder: placeholder.name, at: *at });
                }
                Some(value) => value.write(language, *style, out, escape),
            },
            Piece::Branch { condition, then, otherwise } => {
                let taken = if condition.holds(context) { then } else { otherwise };
                write(taken, language, context, escape, out)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
