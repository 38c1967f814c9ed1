//! What is written in a key file.

use base64::Engine;
use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::keys::derive::Key;
use crate::keys::ring::{KeyRing, NamedKey};
use crate::keys::rotate::MAX_KEYS;
use crate::keys::sealed::BASE64;

/// No key file comes near this size, in bytes; a wrong path might.
pub(super) const MAX_SIZE: u64 = 64 * 1024;

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

pub(super) fn render(ring: &KeyRing) -> Zeroizing<String> {
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

/// Reads it; else the place and the fault, without any content.
pub(super) fn parse(text: &str) -> Result<KeyRing, String> {
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

    fn ring() -> KeyRing {
        KeyRing::generate(crate::clock::now()).with_pepper(crate::clock::now())
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
