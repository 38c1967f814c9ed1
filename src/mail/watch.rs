//! Notices that something in the templates directory changed: by looking, which also works on network mounts, and where a
//! whole directory is swapped by a symlink.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::locate::{MAX_FILES, is_hidden, is_left_behind};

/// Follows a templates directory.
#[derive(Debug)]
pub struct Watch {
    every: Duration,
    used: u64,
    before: u64,
}

impl Watch {
    /// Begins to look at a directory, again and again after `every`. Read it after this, so that no change is missed.
    pub async fn new(directory: &Path, every: Duration) -> Self {
        let now = look(directory).await;
        Self { every, used: now, before: now }
    }

    /// Waits until something has changed, and then been the same for two looks: a half-written file is seen as it should
    /// be. `directory` is asked anew each time.
    pub async fn changed(&mut self, directory: impl Fn() -> PathBuf) {
        loop {
            tokio::time::sleep(self.every).await;
            let now = look(&directory()).await;
            let settled = now != self.used && now == self.before;
            self.before = now;
            if settled {
                self.used = now;
                return;
            }
        }
    }
}

async fn look(directory: &Path) -> u64 {
    let directory = directory.to_owned();
    // A look that failed sees nothing, and the next one sees what is there.
    tokio::task::spawn_blocking(move || fingerprint(&directory)).await.unwrap_or_default()
}

/// A number that changes when a file is written, added, removed or replaced, or becomes readable. What cannot be read counts
/// as not there, and so does what is no template by its name: a repository's `.git` has more files than there are to be.
pub fn fingerprint(directory: &Path) -> u64 {
    let mut sum = 0_u64;
    let mut waiting: Vec<PathBuf> = vec![directory.to_owned()];
    let mut seen = 0;
    while let Some(next) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        let mut place = DefaultHasher::new();
        next.hash(&mut place);
        for entry in entries.flatten() {
            let name = entry.file_name();
            if is_hidden(&name) {
                continue;
            }
            seen += 1;
            if seen > 4 * MAX_FILES {
                return sum;
            }
            // Asked of the open directory, which costs a fraction of finding the file by its path; but not of a link.
            let metadata = match entry.metadata() {
                Ok(metadata) if metadata.is_symlink() => fs::metadata(entry.path()),
                found => found,
            };
            let Ok(metadata) = metadata else { continue };
            if is_left_behind(&name) && !metadata.is_dir() {
                continue;
            }
            let mut hasher = place.clone();
            name.hash(&mut hasher);
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else {
                (metadata.mtime(), metadata.mtime_nsec(), metadata.len(), metadata.ino()).hash(&mut hasher);
                // Who may read it changes nothing else.
                (metadata.ctime(), metadata.ctime_nsec()).hash(&mut hasher);
            }
            // In whatever order they are listed.
            sum = sum.wrapping_add(hasher.finish());
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn every_kind_of_change_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("invite/subject.hbs");
        let mut seen = vec![fingerprint(home.path())];
        let mut changed = |what: &str| {
            let now = fingerprint(home.path());
            assert!(!seen.contains(&now), "{what}");
            assert_eq!(now, fingerprint(home.path()));
            seen.push(now);
        };
        fs::create_dir(home.path().join("invite")).unwrap();
        changed("a directory");
        fs::write(&file, "one").unwrap();
        changed("a new file");
        fs::write(&file, "three").unwrap();
        changed("another length");
        let other = home.path().join("invite/.subject.swp");
        fs::write(&other, "THREE").unwrap();
        fs::rename(&other, &file).unwrap();
        changed("a file renamed over another");
        fs::remove_file(&file).unwrap();
        fs::rename(home.path().join("invite"), home.path().join("moved")).unwrap();
        changed("a renamed directory");
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("subject.hbs"), "one").unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("subject.hbs"), home.path().join("moved/subject.hbs"))
            .unwrap();
        changed("a link");
        fs::write(elsewhere.path().join("subject.hbs"), "three").unwrap();
        changed("where a link leads");
        std::os::unix::fs::symlink(elsewhere.path(), home.path().join("linked")).unwrap();
        changed("a link to a directory");
        fs::write(elsewhere.path().join("body.hbs"), "one").unwrap();
        changed("a file in a directory to which a link leads");
        let body = elsewhere.path().join("body.hbs");
        let of = || fs::metadata(&body).map(|found| (found.ctime(), found.ctime_nsec())).unwrap();
        let before = of();
        // Within one tick of the system's clock two changes are one.
        while of() == before {
            for mode in [0o200, 0o644] {
                fs::set_permissions(&body, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        changed("who may read a file");
    }

    #[test]
    fn what_is_no_template_by_its_name_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("subject.hbs"), "one").unwrap();
        let before = fingerprint(home.path());
        fs::create_dir(home.path().join(".git")).unwrap();
        for name in [".git/index", "subject.hbs~", "subject.hbs.dpkg-dist", "README.md"] {
            fs::write(home.path().join(name), "two").unwrap();
        }
        assert_eq!(fingerprint(home.path()), before);
        // The name of a directory may be that of a site.
        fs::create_dir(home.path().join("shop.new")).unwrap();
        let before = fingerprint(home.path());
        fs::write(home.path().join("shop.new/subject.hbs"), "one").unwrap();
        assert_ne!(fingerprint(home.path()), before);
    }
}
