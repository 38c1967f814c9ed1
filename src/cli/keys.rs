//! `regrant keys init` and `regrant keys show`.

use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::keys::{KeyRing, KeysError};

/// Makes a key file and says so. An existing file stays as it is.
///
/// # Errors
/// [`KeysError`]: the file exists, or cannot be written.
pub fn init(path: &Path, pepper: bool, now: DateTime<Utc>) -> Result<String, KeysError> {
    let ring = KeyRing::generate(now);
    let ring = if pepper { ring.with_pepper(now) } else { ring };
    ring.save_new(path)?;
    Ok(format!(
        "Wrote new keys to {} (readable by its owner only).\n\
         Keep a safe copy: without it, links and codes that were sent stop working{}.\n",
        path.display(),
        if pepper { ", and no password can be checked" } else { "" },
    ))
}

/// The keys' ids and ages, and the public key that publishers seal secrets to; nothing secret.
///
/// # Errors
/// [`KeysError`] of the key file.
pub fn show(path: &Path, json: bool) -> Result<String, KeysError> {
    let ring = KeyRing::load(path)?;
    let sealing = ring.sealing_keys();
    if json {
        let shown = serde_json::json!({ "file": path, "keys": ring.summary(), "sealing_key": ring.sealing_key(), "sealing_keys": sealing });
        return Ok(format!("{shown:#}\n"));
    }
    let mut lines = vec![format!("Keys in {}", path.display()), String::new()];
    for key in ring.summary() {
        let created_at = key.created_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let state = if key.current { "current" } else { "accepted" };
        lines.push(format!("  {:<8} {:<10} made {created_at}  {state}", key.kind, key.id));
    }
    lines.extend([String::new(), format!("Seal secrets to ({}):", sealing[0].algorithm), String::new()]);
    lines.extend(
        sealing.iter().take(1).map(|key| format!("  key_id      {}\n  public_key  {}\n", key.key_id, key.public_key)),
    );
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_can_be_shown_without_its_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etc/regrant.keys");
        let said = init(&path, true, crate::clock::now()).unwrap();
        assert!(
            said.starts_with(&format!("Wrote new keys to {}", path.display()))
                && said.contains("no password can be checked"),
            "{said}"
        );
        assert!(matches!(init(&path, false, crate::clock::now()), Err(KeysError::Exists(_))));

        let ring = KeyRing::load(&path).unwrap();
        let file = std::fs::read_to_string(&path).unwrap();
        let secrets: Vec<_> =
            file.lines().filter_map(|line| line.strip_prefix("secret = ")).map(|s| s.trim_matches('"')).collect();
        assert_eq!(secrets.len(), 4);
        for shown in [show(&path, false).unwrap(), show(&path, true).unwrap()] {
            assert!(
                shown.contains(&ring.sealing_key().public_key)
                    && shown.contains(ring.token_key_id())
                    && shown.contains("pepper")
            );
            assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
        }
        let json: serde_json::Value = serde_json::from_str(&show(&path, true).unwrap()).unwrap();
        assert_eq!(json["sealing_key"]["key_id"], ring.sealing_key().key_id);
    }
}
