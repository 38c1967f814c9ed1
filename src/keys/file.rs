//! The key file: TOML, readable by its owner (and perhaps a group). Written anew only to rotate keys, and then as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::derive::Key;
use super::ring::{KeyRing, NamedKey};
use super::rotate::MAX_KEYS;
use super::sealed::BASE64;

/// No key file comes near this size, in bytes; a wrong path might.
const MAX_SIZE: u64 = 64 * 1024;

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    index: Index,
    token: Vec<Entry>,
    sealing: Vec<Entry>,
    #[serde(default)]
    pepper: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    secret: SecretString,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    created_at: String,
    #[serde(default)]
    standby: bool,
    replaced_at: Option<String>,
    secret: SecretString,
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

fn render(ring: &KeyRing) -> Zeroizing<String> {
    use std::fmt::Write as _;
    let mut text = Zeroizing::new(String::with_capacity(4096));
    text.push_str(
        "# regrant key file. Whoever has it can open accounts: keep it out of the database, the repository and shared backups,\n\
         # but do keep a safe copy: without it, links that were sent stop working (and with a pepper, all passwords).\n\
         version = 1\n\n\
         # Fingerprints, which must stay the same: never change this one.\n\
         [index]\n",
    );
    // Writing to a String cannot fail.
    let _ = writeln!(text, "secret = \"{}\"", Zeroizing::new(BASE64.encode(ring.index.as_slice())).as_str());
    for (kind, about, keys) in [
        (
            "token",
            "Links, codes and signatures: the first one that is not on standby makes new ones, all are accepted.",
            &ring.token,
        ),
        (
            "sealing",
            "Secrets sealed to the daemon: the first one that is not on standby is announced, all open.",
            &ring.sealing,
        ),
        (
            "pepper",
            "Password hashes: the first one that is not on standby goes into new hashes, a hash names the one it was made with.",
            &ring.pepper,
        ),
    ] {
        for (n, key) in keys.iter().enumerate() {
            let about = if n == 0 { format!("# {about}\n") } else { String::new() };
            let created_at = key.created_at.to_rfc3339_opts(SecondsFormat::Millis, true);
            let mut state = String::new();
            if key.standby {
                state.push_str("standby = true\n");
            }
            if let Some(at) = key.replaced_at {
                let _ = writeln!(state, "replaced_at = \"{}\"", at.to_rfc3339_opts(SecondsFormat::Millis, true));
            }
            let secret = Zeroizing::new(BASE64.encode(key.secret.as_slice()));
            let _ = write!(
                text,
                "\n{about}[[{kind}]]\nid = \"{}\"\ncreated_at = \"{created_at}\"\n{state}secret = \"{}\"\n",
                key.id,
                secret.as_str()
            );
        }
    }
    text
}

fn parse(text: &str) -> Result<KeyRing, String> {
    if text.len() as u64 > MAX_SIZE {
        return Err(format!("it is longer than {MAX_SIZE} bytes"));
    }
    let document: Document = toml::from_str(text).map_err(|error| fault(text, &error))?;
    if document.version != 1 {
        return Err(format!("it is of version {}, and this release reads version 1", document.version));
    }
    let ring = KeyRing {
        index: secret("index.secret", &document.index.secret)?,
        token: named("token", document.token, 32)?,
        sealing: named("sealing", document.sealing, 32)?,
        // The `keyid` of an Argon2 PHC string holds 8 bytes.
        pepper: named("pepper", document.pepper, 8)?,
    };
    if ring.token.is_empty() || ring.sealing.is_empty() {
        return Err("it needs at least one [[token]] and one [[sealing]] key".to_owned());
    }
    for (kind, keys) in [("token", &ring.token), ("sealing", &ring.sealing)] {
        if keys.iter().all(|key| key.standby) {
            return Err(format!("every [[{kind}]] key is on standby: one must be in use"));
        }
    }
    Ok(ring)
}

/// The place and the fault. Only messages that name keys are repeated: others quote the line or the value, which is a secret.
fn fault(text: &str, error: &toml::de::Error) -> String {
    let line =
        error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
    let message = error.message();
    let what = if message.starts_with("unknown field") || message.starts_with("missing field") {
        message
    } else {
        "not TOML, or a value of the wrong kind"
    };
    format!("line {line}: {what}")
}

fn named(kind: &str, entries: Vec<Entry>, longest_id: usize) -> Result<Vec<NamedKey>, String> {
    if entries.len() > MAX_KEYS {
        return Err(format!(
            "it has {} [[{kind}]] keys; at most {MAX_KEYS} are accepted: remove the oldest ones",
            entries.len()
        ));
    }
    let mut keys: Vec<NamedKey> = Vec::with_capacity(entries.len());
    for (n, entry) in entries.into_iter().enumerate() {
        let place = format!("{kind} key {}", n + 1);
        let sound = (1..=longest_id).contains(&entry.id.len())
            && entry.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !sound {
            return Err(format!("{place}: its id must have 1 to {longest_id} letters, digits, - or _"));
        }
        if keys.iter().any(|key| key.id == entry.id) {
            return Err(format!("{place}: another {kind} key has the same id"));
        }
        let time = |name, text: &str| {
            let time = DateTime::parse_from_rfc3339(text);
            time.map(|time| time.with_timezone(&Utc)).map_err(|_| format!("{place}: {name} is not an RFC 3339 time"))
        };
        keys.push(NamedKey {
            id: entry.id,
            created_at: time("created_at", &entry.created_at)?,
            standby: entry.standby,
            replaced_at: entry.replaced_at.as_deref().map(|text| time("replaced_at", text)).transpose()?,
            secret: secret(&format!("{place}: secret"), &entry.secret)?,
        });
    }
    Ok(keys)
}

fn secret(place: &str, text: &SecretString) -> Result<Key, String> {
    let mut key = Zeroizing::new([0_u8; 33]);
    match BASE64.decode_slice(text.expose_secret(), key.as_mut_slice()) {
        Ok(32) if key[..32].iter().any(|byte| *byte != key[0]) => {
            let mut exact = Zeroizing::new([0_u8; 32]);
            exact.copy_from_slice(&key[..32]);
            Ok(exact)
        }
        Ok(32) => Err(format!("{place} is not random: make a key file with `regrant keys init`")),
        _ => Err(format!("{place} is not 32 bytes in base64")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::TokenUse;
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

    #[test]
    fn damaged_files_are_explained_without_their_content() {
        let good = render(&ring()).to_string();
        let secret = good.lines().rfind(|line| line.starts_with("secret")).unwrap().to_owned();
        let content = secret.split('"').nth(1).unwrap();
        for (damaged, said) in [
            (String::new(), "line 1: missing field `version`"),
            (good.replace("version = 1", "version = 2"), "it is of version 2, and this release reads version 1"),
            (good.replace("[[token]]", "[[tokens]]"), "unknown field `tokens`, expected one of"),
            (good.replace(&secret, &format!("secret = {content}")), "not TOML, or a value of the wrong kind"),
            (good.replace(&secret, &format!("secret = [\"{content}\"]")), "not TOML, or a value of the wrong kind"),
            (format!("token = \"{content}\"\n"), "not TOML, or a value of the wrong kind"),
            (good.replace(content, &content[4..]), "pepper key 1: secret is not 32 bytes in base64"),
            (
                good.replace(content, &format!("{}{content}", &content[..4])),
                "pepper key 1: secret is not 32 bytes in base64",
            ),
            (good.replace(content, &format!("{}=", "A".repeat(43))), "pepper key 1: secret is not random"),
            (good.replace("created_at = \"", "created_at = \"x"), "token key 1: created_at is not an RFC 3339 time"),
            (good.replace("id = \"", "id = \"ä"), "token key 1: its id must have 1 to 32 letters"),
            (
                format!(
                    "version = 1\ntoken = []\nsealing = []\n{}",
                    &good[good.find("[index]").unwrap()..good.find("\n# Links").unwrap()]
                ),
                "at least one [[token]]",
            ),
            (format!("{good}{}", "#".repeat(70_000)), "longer than 65536 bytes"),
        ] {
            let reason = parse(&damaged).unwrap_err();
            assert!(reason.contains(said), "{reason} / {said}");
            assert!(!reason.contains(content), "{reason}");
        }
    }

    #[test]
    fn ids_are_unique_and_keys_not_too_many() {
        let mut ring = ring();
        ring.token.push(ring.token[0].clone());
        assert!(parse(&render(&ring)).unwrap_err().contains("token key 2: another token key has the same id"));
        ring.token = (0..=MAX_KEYS).map(|n| NamedKey { id: format!("k{n}"), ..ring.token[0].clone() }).collect();
        assert!(parse(&render(&ring)).unwrap_err().contains("at most 16"));
    }
}
