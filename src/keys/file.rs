//! The key file: TOML, readable by its owner (and perhaps a group). Written anew only to rotate keys, and then as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::ring::KeyRing;

mod format;

use format::{MAX_SIZE, parse, render};

/// Why the key file cannot be used. Never holds any of its content.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// There is no file.
    #[error("there is no key file {}: make one with `regrant keys init`, or set keys.file", .0.display())]
    Missing(PathBuf),
    /// `keys init` never replaces keys: that would void every open link.
    #[error("{} exists already and stays as it is: with new keys every link and code that was sent would stop working. To start \
             over, move the file away first", .0.display())]
    Exists(PathBuf),
    /// Users who have nothing to do with the daemon can read it.
    #[error("{} can be read or written by every user of this machine (mode {mode:04o}): run `chmod 600 {}`", .path.display(), .path.display())]
    OpenToEveryone {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file system refuses.
    #[error("cannot {action} the key file {}: {source}", .path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// `keys rotate` was asked for something that these keys do not allow.
    #[error("{}: {reason}", .path.display())]
    NotRotated {
        /// The file, which stays as it is.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// Not a key file, or a damaged one.
    #[error("{} is not a usable key file: {reason}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The place and the fault, without any content.
        reason: String,
    },
}

pub(super) fn load(path: &Path) -> Result<KeyRing, KeysError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeysError::Missing(path.to_owned()),
        _ => KeysError::Io { action: "read", path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(io)?;
    // Asked of the open file, so that it cannot be exchanged between the question and the reading.
    let found = file.metadata().map_err(io)?;
    if !found.is_file() {
        let reason = "it is a directory or a device; keys.file names the file itself".to_owned();
        return Err(KeysError::Unusable { path: path.to_owned(), reason });
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(KeysError::OpenToEveryone { path: path.to_owned(), mode });
    }
    if mode & 0o020 != 0 {
        tracing::warn!(file = %path.display(), mode = %format_args!("{mode:04o}"), "the key file can be changed by its group: `chmod 640` is enough");
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(io)?;
    parse(&text).map_err(|reason| KeysError::Unusable { path: path.to_owned(), reason })
}

pub(super) fn save_new(ring: &KeyRing, path: &Path) -> Result<(), KeysError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeysError::Exists(path.to_owned()),
        _ => KeysError::Io { action: "write", path: path.to_owned(), source },
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(|source| KeysError::Io {
        action: "make the directory of",
        path: path.to_owned(),
        source,
    })?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let written = file.write_all(render(ring).as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key file would pass for one that must not be replaced.
        fs::remove_file(path).map_err(io)?;
    }
    written.map_err(io)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)
}

/// Changes the key file in one step: whoever reads it sees the old one or the new one, whole. Its owner and permissions stay.
pub(super) fn update<T>(
    path: &Path,
    change: impl FnOnce(&mut KeyRing) -> Result<T, KeysError>,
) -> Result<(KeyRing, T), KeysError> {
    let io = |action| {
        move |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => KeysError::Missing(path.to_owned()),
            _ => KeysError::Io { action, path: path.to_owned(), source },
        }
    };
    // A link stays a link.
    let real = fs::canonicalize(path).map_err(io("find"))?;
    // Two at once would each lose the other's keys. The lock goes with the file: who waited looks whether it is still there.
    let (_lock, before) = loop {
        let file = File::open(&real).map_err(io("read"))?;
        file.lock().map_err(io("lock"))?;
        let (held, there) = (file.metadata().map_err(io("read"))?, fs::metadata(&real).map_err(io("read"))?);
        if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
            break (file, held);
        }
    };
    let mut ring = load(path)?;
    let outcome = change(&mut ring)?;
    let text = render(&ring);
    // What cannot be read again would lock every daemon out at its next start.
    parse(&text).map_err(|reason| KeysError::NotRotated { path: path.to_owned(), reason })?;
    let directory = real.parent().unwrap_or(Path::new("/"));
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    let fresh = directory.join(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
            fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.set_permissions(before.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &real)?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // Keys that are in use nowhere; after the renaming there is nothing to remove.
        let _ = fs::remove_file(&fresh);
    }
    written.map_err(io("replace"))?;
    Ok((ring, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::TokenUse;
    use secrecy::ExposeSecret;
    use uuid::Uuid;

    fn ring() -> KeyRing {
        KeyRing::generate(crate::clock::now()).with_pepper(crate::clock::now())
    }

    #[test]
    fn a_saved_ring_is_the_same_when_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/regrant.keys");
        let ring = ring();
        ring.save_new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = KeyRing::load(&path).unwrap();
        assert_eq!(render(&loaded).as_str(), render(&ring).as_str());
        let token = ring.token(ring.token_key_id(), TokenUse::Cancel, Uuid::from_u128(5)).unwrap();
        assert!(loaded.open_token(token.expose_secret()).is_some());
        assert_eq!(loaded.fingerprint("x", &[b"y"]), ring.fingerprint("x", &[b"y"]));
        assert_eq!(loaded.peppers().len(), 1);
    }

    #[test]
    fn an_existing_file_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("regrant.keys");
        fs::write(&path, "precious").unwrap();
        let error = ring().save_new(&path).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path().join("nowhere"), &link).unwrap();
        assert!(matches!(ring().save_new(&link).unwrap_err(), KeysError::Exists(_)));
        assert!(!directory.path().join("nowhere").exists());
    }

    #[test]
    fn permissions_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("regrant.keys");
        ring().save_new(&path).unwrap();
        for (mode, good) in [
            (0o400, true),
            (0o440, true),
            (0o600, true),
            (0o640, true),
            (0o660, true),
            (0o604, false),
            (0o644, false),
            (0o602, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let loaded = KeyRing::load(&path);
            assert_eq!(loaded.is_ok(), good, "{mode:o}: {loaded:?}");
            if let Err(error) = loaded {
                assert!(
                    error.to_string().contains(&format!("mode {mode:04o}")) && error.to_string().contains("chmod 600"),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn a_missing_file_says_how_to_make_one() {
        let error = KeyRing::load(Path::new("/nonexistent/regrant.keys")).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no key file /nonexistent/regrant.keys: make one with `regrant keys init`, or set keys.file"
        );
        for no_file in ["/tmp", "/dev/null"] {
            let error = KeyRing::load(Path::new(no_file)).unwrap_err().to_string();
            assert!(error.contains("keys.file names the file itself") && !error.contains("chmod"), "{error}");
        }
    }
}
