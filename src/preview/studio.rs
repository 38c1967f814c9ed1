//! What the page shows: the templates as they were last saved, kept up to date.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::Config;
use crate::mail::Problem;
use crate::mail::locate::{Locale, MAX_FILE_SIZE, Variant};
use crate::mail::render::{Loaded, Source, TemplateSet};
use crate::mail::watch::Watch;

/// How often the directory is looked at: short, because half a second is noticed by whoever waits for the page to change.
const LOOK: Duration = Duration::from_millis(120);

/// A templates directory at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// A number that grows with every change.
    pub revision: u64,
    /// The emails. Where one has faults, its last good version, if there was one since the start.
    pub set: TemplateSet,
    /// Emails whose files have faults now.
    pub faulty: BTreeSet<Variant>,
    /// Every fault in the directory.
    pub problems: Vec<Problem>,
    /// What is no fault, but something to mention.
    pub warnings: Vec<Problem>,
    /// Which files serve which part, as they are now.
    pub files: Vec<Source>,
    /// The names of the sites.
    pub sites: Vec<String>,
    /// Why the directory could not be read, if it could not: all else is as it was before.
    pub unreadable: Option<String>,
}

/// The state of an email's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The email is shown as its files are.
    Good,
    /// Its files have faults: what is shown is what they were before.
    LastGood,
    /// Its files have faults, and have had since the start: there is nothing to show.
    Faulty,
}

impl Snapshot {
    /// Reads the directory, keeping good versions of what came before.
    fn read(config: &Config, previous: Option<&Self>) -> Result<Self, String> {
        let sites = sites(config);
        let names: Vec<&str> = sites.iter().map(String::as_str).collect();
        let loaded = Loaded::read(&config.templates.directory, &names).map_err(|e| e.to_string())?;
        let Loaded { mut set, problems, warnings, files } = loaded;
        let faulty = set.variants().into_iter().filter(|(_, good)| !good).map(|(variant, _)| variant).collect();
        if let Some(previous) = previous {
            set.keep_last_good(&previous.set);
        }
        let revision = previous.map_or(0, |previous| previous.revision + 1);
        Ok(Self { revision, set, faulty, problems, warnings, files, sites, unreadable: None })
    }

    /// How the email of that variant stands.
    #[must_use]
    pub fn standing(&self, variant: &Variant) -> Standing {
        if !self.faulty.contains(variant) {
            return Standing::Good;
        }
        let kept = self.set.variants().into_iter().any(|(known, shown)| shown && known == *variant);
        if kept { Standing::LastGood } else { Standing::Faulty }
    }

    /// The problems that keep the email of that variant from being used.
    pub fn problems_of<'a>(&'a self, variant: &'a Variant) -> impl Iterator<Item = &'a Problem> {
        self.problems.iter().filter(move |problem| problem.affects.contains(variant))
    }

    /// The languages that any template has files in.
    #[must_use]
    pub fn locales(&self) -> BTreeSet<Locale> {
        self.set.variants().into_iter().filter_map(|(variant, _)| variant.locale).collect()
    }

    /// The files to show beside an email: those that serve it, others with problems of it, then the shared pieces in it.
    #[must_use]
    pub fn files_of(&self, variant: &Variant) -> Vec<PathBuf> {
        let sources = || self.files.iter().filter(|source| source.variant == *variant);
        let served = sources().map(|source| &source.file);
        let partials = sources().flat_map(|source| &source.partials);
        let mut files: Vec<PathBuf> = Vec::new();
        for file in served.chain(self.problems_of(variant).map(|problem| &problem.file)).chain(partials) {
            if !files.contains(file) {
                files.push(file.clone());
            }
        }
        files
    }
}

/// The configured sites. Without a configuration those that have a directory: whoever only has the templates can look at
/// all of them.
#[must_use]
pub fn sites(config: &Config) -> Vec<String> {
    let mut sites: BTreeSet<String> = config.sites.keys().cloned().collect();
    if config.source.is_none() {
        let entries = fs::read_dir(config.templates.directory.join("sites")).into_iter().flatten().flatten();
        sites.extend(entries.filter(|e| e.path().is_dir()).filter_map(|e| e.file_name().into_string().ok()));
    }
    sites.into_iter().collect()
}

/// The templates as last saved, for all who look at them.
#[derive(Debug)]
pub struct Studio {
    /// The configuration; only sites, lifetimes and the templates directory are used.
    pub config: Config,
    now: RwLock<Arc<Snapshot>>,
    changes: watch::Sender<u64>,
}

impl Studio {
    /// Reads the templates; those with faults are no error, but something to show.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(config: Config) -> Result<Self, String> {
        let snapshot = Snapshot::read(&config, None)
            .map_err(|reason| format!("email templates: {reason}; set `templates.directory` to where they are"))?;
        let changes = watch::Sender::new(snapshot.revision);
        Ok(Self { config, now: RwLock::new(Arc::new(snapshot)), changes })
    }

    /// What there is now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells of each new revision, and first of the present one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Reads the directory again.
    pub fn refresh(&self) -> Arc<Snapshot> {
        let before = self.snapshot();
        let snapshot = Snapshot::read(&self.config, Some(&before)).unwrap_or_else(|reason| Snapshot {
            revision: before.revision + 1,
            set: before.set.clone(),
            faulty: before.faulty.clone(),
            problems: before.problems.clone(),
            warnings: before.warnings.clone(),
            files: before.files.clone(),
            sites: before.sites.clone(),
            unreadable: Some(reason),
        });
        let snapshot = Arc::new(snapshot);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&snapshot);
        self.changes.send_replace(snapshot.revision);
        snapshot
    }

    /// Reads the directory whenever something in it was saved, for ever, and tells `saved` of it.
    pub async fn follow(&self, saved: impl Fn(&Snapshot)) {
        let directory = || self.config.templates.directory.clone();
        let mut watch = Watch::new(&directory(), LOOK).await;
        // What was saved since the first reading.
        self.refresh();
        loop {
            watch.changed(directory).await;
            saved(&self.refresh());
        }
    }

    /// The text of one of the templates' files, as it is on the disk now; empty if it cannot be read. Only for paths that
    /// a [`Snapshot`] names.
    #[must_use]
    pub fn text(&self, file: &Path) -> String {
        let path = self.config.templates.directory.join(file);
        let small = fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= MAX_FILE_SIZE);
        let bytes = if small { fs::read(path).unwrap_or_default() } else { Vec::new() };
        String::from_utf8_lossy(&bytes).replace("\r\n", "\n").replace('\r', "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Template;

    fn studio() -> (tempfile::TempDir, Studio) {
        let home = tempfile::tempdir().unwrap();
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("email_templates");
        copy(&templates, home.path());
        let mut config = Config::default();
        config.templates.directory = home.path().to_owned();
        let studio = Studio::open(config).unwrap();
        (home, studio)
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }

    fn invite() -> Variant {
        Variant { template: Template::Invite, site: None, locale: None }
    }

    #[test]
    fn a_broken_file_leaves_the_last_good_version_and_a_mended_one_is_good_again() {
        let (home, studio) = studio();
        assert_eq!(studio.snapshot().problems, []);
        let file = home.path().join("invite/subject.hbs");
        let good = fs::read_to_string(&file).unwrap();
        fs::write(&file, "Come in to {{site.nmae}}").unwrap();
        let broken = studio.refresh();
        assert_eq!(broken.standing(&invite()), Standing::LastGood);
        assert_eq!(broken.problems_of(&invite()).count(), 1);
        assert_eq!(broken.standing(&Variant { template: Template::SignedOut, ..invite() }), Standing::Good);
        fs::write(&file, good).unwrap();
        let mended = studio.refresh();
        assert_eq!(mended.standing(&invite()), Standing::Good);
        assert!(mended.problems.is_empty() && mended.revision > broken.revision);
    }

    #[test]
    fn what_was_broken_from_the_start_has_nothing_to_show_but_its_problems_and_files() {
        let (home, studio) = studio();
        fs::write(home.path().join("invite/body.txt.hbs"), "{{#if").unwrap();
        let studio = Studio::open(studio.config).unwrap();
        let snapshot = studio.snapshot();
        assert_eq!(snapshot.standing(&invite()), Standing::Faulty);
        let files = snapshot.files_of(&invite());
        assert!(files.contains(&PathBuf::from("invite/body.txt.hbs")), "{files:?}");
        assert_eq!(studio.text(Path::new("invite/body.txt.hbs")), "{{#if");
    }

    #[test]
    fn a_directory_that_went_away_changes_nothing_but_is_told() {
        let (home, studio) = studio();
        let away = home.path().with_extension("away");
        fs::rename(home.path(), &away).unwrap();
        let snapshot = studio.refresh();
        assert!(snapshot.unreadable.is_some());
        assert_eq!(snapshot.standing(&Variant { template: Template::SignedOut, ..invite() }), Standing::Good);
        fs::rename(&away, home.path()).unwrap();
        assert!(studio.refresh().unreadable.is_none());
    }

    #[test]
    fn without_a_configuration_directories_are_sites() {
        let (home, studio) = studio();
        let subject = home.path().join("sites/north/invite/subject.hbs");
        fs::create_dir_all(subject.parent().unwrap()).unwrap();
        fs::write(subject, "Come in to {{site.name}}").unwrap();
        let snapshot = studio.refresh();
        assert_eq!(snapshot.problems, []);
        assert_eq!(snapshot.sites, ["default", "north"]);
        let served = snapshot.set.serving(Template::Invite, "north", Some("de"));
        assert_eq!(served.site.as_deref(), Some("north"));
    }
}
