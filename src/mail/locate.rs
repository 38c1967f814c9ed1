//! Where templates lie, and which file serves which email.
//!
//! ```text
//! partials/[<locale>/]*.hbs
//! <template>/subject.hbs  body.html.hbs  body.txt.hbs  template.toml
//! <template>/<locale>/…                  any of the same four files
//! sites/<site>/<template>/[<locale>/]…   the same, for one site
//! sites/<site>/partials/[<locale>/]*.hbs
//! ```
//!
//! Each of the four is looked up by itself: site and locale, site and language, site, locale, language,
//! default. Partials likewise, with the locale of the body that includes them: a body and its partials are of one
//! language. The whole directory is read once, so that what was checked is what is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::catalogue::Template;
use super::problem::Problem;

mod locale;
mod read;

pub use locale::Locale;
pub use read::ReadError;
pub(super) use read::{is_hidden, is_left_behind};

/// The largest file that is read, in bytes.
pub const MAX_FILE_SIZE: u64 = 256 * 1024;
/// The most files that are read.
pub const MAX_FILES: usize = 2000;

/// One of the files that an email is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// `subject.hbs`
    Subject,
    /// `body.txt.hbs`
    Text,
    /// `body.html.hbs`
    Html,
    /// `template.toml`
    Settings,
}

impl Part {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Subject, Self::Text, Self::Html, Self::Settings];
    /// Those that every email must have.
    pub const WRITTEN: [Self; 3] = [Self::Subject, Self::Text, Self::Html];

    /// What it is called in lists, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Html => "html",
            Self::Settings => "settings",
        }
    }

    /// The name of the file.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Subject => "subject.hbs",
            Self::Text => "body.txt.hbs",
            Self::Html => "body.html.hbs",
            Self::Settings => "template.toml",
        }
    }
}

/// An email as one site or locale has it. Emails of sites and locales without files of their own are
/// those of the next less specific variant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Variant {
    /// The template.
    pub template: Template,
    /// The site with files of its own, or none for all sites.
    pub site: Option<String>,
    /// The locale with files of its own, or none for all locales.
    pub locale: Option<Locale>,
}

impl Variant {
    /// The site for a metric's label: `default` stands for all that have no files of their own.
    #[must_use]
    pub fn site_label(&self) -> &str {
        self.site.as_deref().unwrap_or("default")
    }

    /// The locale for a metric's label: `default` stands for all that have no files of their own.
    #[must_use]
    pub fn locale_label(&self) -> &str {
        self.locale.as_ref().map_or("default", Locale::as_str)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.template)?;
        match (&self.site, &self.locale) {
            (None, None) => Ok(()),
            (Some(site), None) => write!(f, " (site {site})"),
            (None, Some(locale)) => write!(f, " ({locale})"),
            (Some(site), Some(locale)) => write!(f, " (site {site}, {locale})"),
        }
    }
}

/// A file's place in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileId(usize);

impl FileId {
    /// The file's path among all [`Sources::paths`].
    pub fn path(self, paths: &[PathBuf]) -> &Path {
        paths.get(self.0).map_or(Path::new(""), PathBuf::as_path)
    }
}

/// A file as it was read.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    /// Relative to the templates directory.
    pub path: PathBuf,
    /// Without a byte order mark, with `\n` for line ends.
    pub text: String,
    /// What kept it from being read; `text` is empty then.
    pub fault: Option<Problem>,
    /// The language directory that it lies in.
    pub locale: Option<Locale>,
}

/// Which reading of a partial is meant: `layout.html.hbs` is the partial `layout` of HTML bodies,
/// `layout.txt.hbs` that of text bodies and subjects, `layout.hbs` that of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Form {
    Text,
    Html,
}

/// For whom a partial is looked up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place<'a> {
    pub site: Option<&'a str>,
    pub locale: Option<&'a Locale>,
}

impl Place<'_> {
    /// From the most specific to the least.
    fn fallbacks(self) -> impl Iterator<Item = (Option<String>, Option<Locale>)> {
        let sites = self.site.map(str::to_owned).into_iter().map(Some).chain([None]);
        let locales: Vec<_> = self.locale.into_iter().flat_map(Locale::fallbacks).map(Some).chain([None]).collect();
        sites.flat_map(move |site| locales.clone().into_iter().map(move |locale| (site.clone(), locale)))
    }
}

type Partials = BTreeMap<(String, Option<Form>), FileId>;
type Key = (Template, Option<String>, Option<Locale>, Part);

/// A templates directory in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    files: Vec<SourceFile>,
    parts: BTreeMap<Key, FileId>,
    partials: BTreeMap<(Option<String>, Option<Locale>), Partials>,
    /// Faults of the directory itself: names that mean nothing.
    pub problems: Vec<Problem>,
    /// Files that nothing uses and that nobody meant for an email.
    pub strays: Vec<Problem>,
}

impl Sources {
    /// Reads a directory. `sites` are the configured ones.
    pub fn read(directory: &Path, sites: &[&str]) -> Result<Self, ReadError> {
        read::read(directory, sites)
    }

    pub fn file(&self, id: FileId) -> &SourceFile {
        &self.files[id.0]
    }

    /// The file that serves a part of an email.
    pub fn locate(&self, variant: &Variant, part: Part) -> Option<FileId> {
        let place = Place { site: variant.site.as_deref(), locale: variant.locale.as_ref() };
        place.fallbacks().find_map(|(site, locale)| self.parts.get(&(variant.template, site, locale, part)).copied())
    }

    /// The partial of that name, as a body of that form and place sees it.
    pub fn partial(&self, name: &str, form: Form, place: Place<'_>) -> Option<FileId> {
        place.fallbacks().filter_map(|at| self.partials.get(&at)).find_map(|partials| {
            [Some(form), None].into_iter().find_map(|form| partials.get(&(name.to_owned(), form)).copied())
        })
    }

    /// The names of the partials that a body of that form and place sees.
    pub fn partial_names(&self, form: Form, place: Place<'_>) -> impl Iterator<Item = &str> {
        let seen = move |of: &Option<Form>| of.is_none_or(|of| of == form);
        let all = place.fallbacks().filter_map(|at| self.partials.get(&at)).flat_map(BTreeMap::keys);
        all.filter(move |(_, of)| seen(of)).map(|(name, _)| name.as_str())
    }

    /// Every partial, with its site and the form to read it in.
    pub fn partials(&self) -> impl Iterator<Item = (Option<&str>, Form, FileId)> {
        self.partials.iter().flat_map(|((site, _), partials)| {
            partials.iter().map(move |((_, form), id)| (site.as_deref(), form.unwrap_or(Form::Text), *id))
        })
    }

    /// Whether a site has partials of its own.
    pub fn has_partials(&self, site: &str) -> bool {
        self.partials.keys().any(|(of, _)| of.as_deref() == Some(site))
    }

    /// The path of each file, by its id.
    pub fn paths(&self) -> Arc<[PathBuf]> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// Every email that differs from the others by its files, the default of each template first.
    pub fn variants(&self) -> Vec<Variant> {
        let mut variants = BTreeSet::new();
        for template in Template::ALL {
            let of = self.parts.keys().filter(|key| key.0 == template);
            // A site's partials change all of its emails.
            let with_partials = self.partials.keys().map(|(site, _)| site.clone());
            let sites: BTreeSet<_> = of.clone().map(|key| key.1.clone()).chain(with_partials).chain([None]).collect();
            for site in sites {
                let here = of.clone().filter(|key| key.1.is_none() || key.1 == site);
                for locale in here.map(|key| key.2.clone()).chain([None]) {
                    variants.insert(Variant { template, site: site.clone(), locale });
                }
            }
        }
        variants.into_iter().collect()
    }

    /// The directory in which a part would be expected, for a message that it is missing.
    pub fn directory(variant: &Variant) -> PathBuf {
        let mut path = PathBuf::new();
        if let Some(site) = &variant.site {
            path.extend(["sites", site]);
        }
        path.push(variant.template.as_str());
        path
    }

    /// The same with one more file, which is no part of any email.
    #[cfg(test)]
    pub fn with_file(&self, path: &str, text: &str) -> (Self, FileId) {
        let mut sources = self.clone();
        let file = SourceFile { path: path.into(), text: text.to_owned(), fault: None, locale: None };
        let id = sources.add(file);
        (sources, id)
    }

    fn add(&mut self, file: SourceFile) -> FileId {
        self.files.push(file);
        FileId(self.files.len() - 1)
    }
}
