//! Reads a templates directory into memory. It looks only where templates may lie, so that no link to
//! a directory above can lead it in circles; and takes nothing from outside of the directory, however it is linked: what
//! stands in a template is mailed, and who edits templates may not read all that the daemon can.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{FileId, Form, Locale, MAX_FILE_SIZE, MAX_FILES, Part, SourceFile, Sources};
use crate::mail::catalogue::Template;
use crate::mail::problem::{Problem, Rule};
use crate::spelling::nearest;

const PARTIALS: &str = "partials";
const SITES: &str = "sites";

/// The directory cannot be read as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there, or may not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is more in it than templates can be.
    #[error("{path} holds more than {MAX_FILES} files: is it the right directory?", path = path.display())]
    TooManyFiles {
        /// The directory.
        path: PathBuf,
    },
}

pub(super) fn read(directory: &Path, sites: &[&str]) -> Result<Sources, ReadError> {
    // From here on the same directory, also if a link to it is changed meanwhile.
    let real = fs::canonicalize(directory).map_err(|source| ReadError::Io { path: directory.to_owned(), source })?;
    let mut reader = Reader { root: directory, real: &real, sites, sources: Sources::default(), seen: 0 };
    for entry in reader.list(Path::new(""))? {
        match (entry.name.as_str(), entry.is_directory) {
            (PARTIALS, true) => reader.all_partials(None, &entry.path)?,
            (SITES, true) => reader.all_sites(&entry.path)?,
            (name, true) => {
                if let Some(template) = reader.template_name(name, &entry.path, &[PARTIALS, SITES]) {
                    reader.template(template, None, &entry.path)?;
                }
            }
            (_, false) => reader.unknown_file(&entry.path, "lies beside the templates"),
        }
    }
    Ok(reader.sources)
}

struct Entry {
    name: String,
    /// Relative to the root.
    path: PathBuf,
    is_directory: bool,
}

struct Reader<'a> {
    /// As it is configured.
    root: &'a Path,
    /// Where that is, without links.
    real: &'a Path,
    sites: &'a [&'a str],
    sources: Sources,
    seen: usize,
}

impl Reader<'_> {
    /// What lies in a directory, in the order of names, without what editors and systems leave there.
    fn list(&mut self, path: &Path) -> Result<Vec<Entry>, ReadError> {
        let failed = |source| ReadError::Io { path: self.root.join(path), source };
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.real.join(path)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if is_hidden(&name) || is_left_behind(&name) && !entry.path().is_dir() {
                continue;
            }
            self.seen += 1;
            if self.seen > MAX_FILES {
                return Err(ReadError::TooManyFiles { path: self.root.to_owned() });
            }
            let path = path.join(&name);
            let Some(name) = name.to_str().map(str::to_owned) else {
                self.unused(&path, "the name is not UTF-8", "rename it");
                continue;
            };
            // Follows links: deployments put them in front of directories.
            match fs::metadata(entry.path()) {
                Ok(found) if found.is_dir() && !self.is_inside(&entry.path()) => {
                    self.sources.problems.push(elsewhere(&path));
                }
                Ok(found) if found.is_dir() || found.is_file() => {
                    entries.push(Entry { name, path, is_directory: found.is_dir() });
                }
                // A pipe, a socket, a device: to open one could take for ever.
                Ok(_) => self.unused(&path, "is not a regular file", "remove it"),
                // Deleted, or its link not yet set, while we look: as if it had never been there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.unreadable(&path, &error),
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn all_sites(&mut self, path: &Path) -> Result<(), ReadError> {
        for entry in self.list(path)? {
            if !entry.is_directory {
                self.unknown_file(&entry.path, "lies beside the sites");
                continue;
            }
            if !self.sites.contains(&entry.name.as_str()) {
                let known = self.sites.join("`, `");
                let help = match nearest(&entry.name, self.sites.iter().copied()) {
                    Some(site) => format!("did you mean `{site}`?"),
                    None => {
                        format!("add [sites.{}] to the configuration, or remove it; sites are: `{known}`", entry.name)
                    }
                };
                let message = format!("there is no site `{}` in the configuration", entry.name);
                self.problem(Rule::UnknownSite, &entry.path, message, help);
                continue;
            }
            for inner in self.list(&entry.path)? {
                if !inner.is_directory {
                    self.unknown_file(&inner.path, "lies beside the site's templates");
                } else if inner.name == PARTIALS {
                    self.all_partials(Some(&entry.name), &inner.path)?;
                } else if let Some(template) = self.template_name(&inner.name, &inner.path, &[PARTIALS]) {
                    self.template(template, Some(&entry.name), &inner.path)?;
                }
            }
        }
        Ok(())
    }

    /// One template's directory, with its locales.
    fn template(&mut self, template: Template, site: Option<&str>, path: &Path) -> Result<(), ReadError> {
        for entry in self.list(path)? {
            if !entry.is_directory {
                self.part(template, site, None, &entry);
                continue;
            }
            let Some(locale) = self.locale(&entry) else { continue };
            for inner in self.list(&entry.path)? {
                if inner.is_directory {
                    let message = format!("a directory `{}` has no meaning here", inner.name);
                    let help = "below a language there are only the four files of an email";
                    self.problem(Rule::UnknownFile, &inner.path, message, help);
                } else {
                    self.part(template, site, Some(&locale), &inner);
                }
            }
        }
        Ok(())
    }

    fn part(&mut self, template: Template, site: Option<&str>, locale: Option<&Locale>, entry: &Entry) {
        let Some(part) = Part::ALL.into_iter().find(|part| part.file_name() == entry.name) else {
            let names = Part::ALL.map(Part::file_name);
            let help = match nearest(&entry.name, names) {
                // A copy that a file manager or an editor has made.
                Some(name) if self.real.join(&entry.path).with_file_name(name).exists() => {
                    format!("remove it: `{name}` is there, and is the one that is used")
                }
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("an email is made of {}", names.join(", ")),
            };
            self.unused(&entry.path, format!("nothing uses a file called `{}`", entry.name), help);
            return;
        };
        let key = (template, site.map(str::to_owned), locale.cloned(), part);
        if let Some(other) = self.sources.parts.get(&key) {
            let other = self.sources.file(*other).path.display();
            let message = format!("it is for the same language as {other}");
            let help = "names of languages differ by more than upper and lower case: keep one";
            self.problem(Rule::UnknownLocale, &entry.path, message, help);
            return;
        }
        let id = self.load(&entry.path, locale);
        self.sources.parts.insert(key, id);
    }

    /// The language that a directory is for.
    fn locale(&mut self, entry: &Entry) -> Option<Locale> {
        let error = match entry.name.parse::<Locale>() {
            Ok(locale) => return Some(locale),
            Err(error) => error,
        };
        let help = match entry.name.replace('_', "-").parse::<Locale>() {
            Ok(locale) => format!("did you mean `{locale}`?"),
            Err(_) => "overrides for a language lie in a directory such as `fr` or `fr-CA`".to_owned(),
        };
        self.problem(Rule::UnknownLocale, &entry.path, format!("`{}` is {error}", entry.name), help);
        None
    }

    /// The partials of a site or of all, with those of each language.
    fn all_partials(&mut self, site: Option<&str>, path: &Path) -> Result<(), ReadError> {
        let (directories, files): (Vec<_>, Vec<_>) = self.list(path)?.into_iter().partition(|entry| entry.is_directory);
        self.partials(site, None, files);
        for entry in directories {
            if let Some(locale) = self.locale(&entry) {
                let inner = self.list(&entry.path)?;
                self.partials(site, Some(&locale), inner);
            }
        }
        Ok(())
    }

    fn partials(&mut self, site: Option<&str>, locale: Option<&Locale>, entries: Vec<Entry>) {
        for entry in entries {
            let name = entry.name.strip_suffix(".hbs").filter(|_| !entry.is_directory);
            let Some(name) = name else {
                let message = format!("nothing uses `{}`", entry.name);
                let help = "partials are files called NAME.html.hbs, NAME.txt.hbs or, for both, NAME.hbs";
                let ending = Path::new(&entry.name).extension();
                if entry.is_directory || ending.is_some_and(|ending| ending == "txt") {
                    self.problem(Rule::UnknownFile, &entry.path, message, help);
                } else {
                    self.unused(&entry.path, message, help);
                }
                continue;
            };
            let (name, form) = match name.rsplit_once('.') {
                Some((name, "html")) => (name, Some(Form::Html)),
                Some((name, "txt")) => (name, Some(Form::Text)),
                _ => (name, None),
            };
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if name.is_empty() || !name.chars().all(plain) {
                let message = format!("`{name}` cannot be the name of a partial");
                let help = "use letters, digits, `-` and `_`";
                self.problem(Rule::UnknownFile, &entry.path, message, help);
                continue;
            }
            let key = (name.to_owned(), form);
            let id = self.load(&entry.path, locale);
            self.sources.partials.entry((site.map(str::to_owned), locale.cloned())).or_default().insert(key, id);
        }
    }

    /// The template that a directory is for. It may be called `others` too.
    fn template_name(&mut self, name: &str, path: &Path, others: &[&str]) -> Option<Template> {
        let template = name.parse().ok();
        if template.is_none() {
            let names = Template::ALL.map(Template::as_str);
            let help = match nearest(name, names.into_iter().chain(others.iter().copied())) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("templates are: {}", names.join(", ")),
            };
            self.problem(Rule::UnknownTemplate, path, format!("there is no template `{name}`"), help);
        }
        template
    }

    /// Takes a file in, empty if it cannot be read: whoever needs it is then known to be broken.
    fn load(&mut self, path: &Path, locale: Option<&Locale>) -> FileId {
        let (text, fault) = match self.text(path) {
            Ok(text) => (text, None),
            Err(problem) => (String::new(), Some(*problem)),
        };
        self.sources.add(SourceFile { path: path.to_owned(), text, fault, locale: locale.cloned() })
    }

    /// The text of a file, without a byte order mark and with `\n` for line ends.
    fn text(&self, path: &Path) -> Result<String, Box<Problem>> {
        use io::Read;
        let problem = |rule, message: String| Box::new(Problem::of(rule, path, message));
        let failed = |error: io::Error| problem(Rule::Unreadable, format!("cannot be read: {error}"));
        let real = fs::canonicalize(self.real.join(path)).map_err(failed)?;
        if !real.starts_with(self.real) {
            return Err(Box::new(elsewhere(path)));
        }
        let file = fs::File::open(real).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE_SIZE {
            return Err(problem(Rule::TooLarge, format!("is larger than {} KiB", MAX_FILE_SIZE / 1024)));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.split(|b| *b == b'\n').count();
            let found = problem(Rule::Unreadable, format!("is not UTF-8 (line {line})"));
            Box::new(found.help("save it again with the encoding UTF-8"))
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
        match control_character(path, &text) {
            Some(found) => Err(Box::new(found)),
            None => Ok(text),
        }
    }

    /// Whether something lies in the directory after all links are followed. Those of Kubernetes do (`..data`).
    fn is_inside(&self, path: &Path) -> bool {
        // What has just been deleted is found out by whoever reads it.
        fs::canonicalize(path).map_or(true, |real| real.starts_with(self.real))
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let problem = Problem::of(Rule::Unreadable, path, format!("cannot be read: {error}"));
        self.sources.problems.push(problem);
    }

    fn unknown_file(&mut self, path: &Path, place: &str) {
        let help = "remove it, or hide it by a name that begins with a dot";
        self.unused(path, format!("nothing uses this file, which {place}"), help);
    }

    /// A file that nothing uses: a fault if somebody may have written it for an email, and else something to mention.
    fn unused(&mut self, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        let problem = Problem::of(Rule::UnknownFile, path, message).help(help);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let list = if is_stray(&name) { &mut self.sources.strays } else { &mut self.sources.problems };
        list.push(problem);
    }

    fn problem(&mut self, rule: Rule, path: &Path, message: impl Into<String>, help: impl Into<String>) {
        self.sources.problems.push(Problem::of(rule, path, message).help(help));
    }
}

/// A control character other than tabs and line breaks: nobody types one. In UTF-16, every second byte of a Latin letter is
/// NUL, also between the two braces of a placeholder, which would be mailed as it stands.
fn control_character(path: &Path, text: &str) -> Option<Problem> {
    let (at, found) = text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\t' | '\n'))?;
    if found == '\0' {
        let problem = Problem::of(Rule::Unreadable, path, "is UTF-16, or no text at all");
        return Some(problem.help("save it again with the encoding UTF-8"));
    }
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let (line, column) = (text[..at].matches('\n').count() + 1, text[line_start..at].chars().count() + 1);
    let message = format!("there is a control character (U+{:04X}) here, which nobody sees", u32::from(found));
    Some(
        Problem::of(Rule::Unreadable, path, message)
            .at(text, line, column, 1)
            .help("delete it, and type what was meant"),
    )
}

fn elsewhere(path: &Path) -> Problem {
    let help =
        "what a template holds is mailed: put a copy in the place of the link, or let it lead to somewhere inside";
    Problem::of(Rule::Unreadable, path, "is a link that leads out of the templates directory").help(help)
}

/// Whether a file is one that nobody wrote for an email, by its name: notes, a picture. With any other one, words would be
/// missing in an email and nobody would say so.
fn is_stray(name: &str) -> bool {
    let name = name.to_lowercase();
    let beginning = name.split('.').next().unwrap_or_default();
    let ending = Path::new(&name).extension().and_then(OsStr::to_str).unwrap_or_default();
    !matches!(ending, "hbs" | "handlebars" | "html" | "htm" | "toml")
        && !matches!(beginning, "subject" | "body" | "template")
        && nearest(&name, Part::ALL.map(Part::file_name)).is_none()
}

/// What begins with a dot: hidden files, and directories such as `.git`.
pub(in crate::mail) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a file is one of those for people, or that editors, patches and package upgrades leave beside another: it is there although
/// nobody wrote it for an email. A directory is none of them by its name: it may be that of a site.
pub(in crate::mail) fn is_left_behind(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let ending = Path::new(name.as_ref()).extension().and_then(OsStr::to_str).unwrap_or_default();
    name.starts_with('#')
        || name.ends_with('~')
        || LEFT_BEHIND.contains(&ending)
        || name == "README.md"
        // vim's probe of whether it may write into a directory
        || name == "4913"
}

/// Endings of swap files and backups, of rejected patches, and of the other version of a file that somebody edited: dpkg,
/// ucf, rpm and pacman put it there.
#[rustfmt::skip]
const LEFT_BEHIND: [&str; 26] = [
    "swp", "swo", "swx", "bak", "save", "old", "orig", "rej", "tmp",
    "dpkg-dist", "dpkg-old", "dpkg-new", "dpkg-tmp", "dpkg-bak", "dpkg-backup", "dpkg-remove",
    "ucf-dist", "ucf-old", "ucf-new",
    "rpmnew", "rpmsave", "rpmorig", "pacnew", "pacsave", "pacorig", "new",
];
