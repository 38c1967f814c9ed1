//! `regrant keys init`, `show` and `rotate`.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::config::Config;
use crate::keys::{KeyKind, KeyRing, KeyState, KeySummary, KeysError, Step};

/// `regrant keys rotate`.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Rotate {
    /// Replace only the key that links, codes and signatures are made with.
    #[arg(long)]
    pub token: bool,
    /// Replace only the key that secrets are sealed to.
    #[arg(long)]
    pub sealing: bool,
    /// Replace only the pepper of password hashes, or add one if there is none. Without this flag the pepper stays.
    #[arg(long)]
    pub pepper: bool,
    /// Add the new keys without using them yet: the first of two steps where several daemons share a database.
    #[arg(long, group = "step")]
    pub standby: bool,
    /// Start using the keys added by --standby: the second step, once every daemon has loaded them.
    #[arg(long, group = "step")]
    pub promote: bool,
    /// Create no keys; delete replaced ones that are so old that nothing made with them can still be valid.
    #[arg(long, group = "step")]
    pub retire: bool,
}

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

/// The keys' ids and ages, what each is used for, and the public key that publishers seal secrets to; nothing secret.
///
/// # Errors
/// [`KeysError`] of the key file.
pub fn show(config: &Config, json: bool, now: DateTime<Utc>) -> Result<String, KeysError> {
    let path = &config.keys.file;
    let ring = KeyRing::load(path)?;
    let sealing = ring.sealing_keys();
    if json {
        let keys: Vec<_> = ring
            .summary()
            .iter()
            .map(|key| {
                let mut shown = serde_json::json!(key);
                shown["current"] = (key.state == KeyState::Current).into();
                shown["retirable_at"] = serde_json::json!(retirable_at(config, key));
                shown
            })
            .collect();
        let shown = serde_json::json!({ "file": path, "keys": keys, "sealing_key": ring.sealing_key(), "sealing_keys": sealing });
        return Ok(format!("{shown:#}\n"));
    }
    let mut lines = vec![format!("Keys in {}", path.display()), String::new()];
    lines.extend(ring.summary().iter().map(|key| {
        let (kind, age) = (key.kind.as_str(), days(now - key.created_at));
        format!("  {kind:<8} {:<10} made {} ({age})  {}", key.id, date(key.created_at), usage(config, key, now))
    }));
    lines.extend([String::new(), format!("Seal secrets to ({}):", sealing[0].algorithm), String::new()]);
    lines.extend(
        sealing.iter().take(1).map(|key| format!("  key_id      {}\n  public_key  {}\n", key.key_id, key.public_key)),
    );
    Ok(lines.join("\n"))
}

/// Makes new keys in the place of old ones, which stay accepted; says what happened, and what is to be done now.
///
/// # Errors
/// [`KeysError`]; then the file is as it was.
pub fn rotate(config: &Config, flags: Rotate, now: DateTime<Utc>) -> Result<String, KeysError> {
    let chosen = |kind: &KeyKind| match kind {
        KeyKind::Token => flags.token,
        KeyKind::Sealing => flags.sealing,
        KeyKind::Pepper => flags.pepper,
    };
    let mut kinds: Vec<KeyKind> = KeyKind::ALL.into_iter().filter(chosen).collect();
    if kinds.is_empty() {
        // A pepper is another matter: from then on passwords need the key file. But what is on standby was asked for before.
        kinds = if flags.promote { KeyKind::ALL.to_vec() } else { vec![KeyKind::Token, KeyKind::Sealing] };
    }
    let path = &config.keys.file;
    let step = match flags {
        Rotate { standby: true, .. } => Step::Standby,
        Rotate { promote: true, .. } => Step::Promote,
        Rotate { retire: true, .. } => Step::Retire(now - needed_for(config)),
        _ => Step::Replace,
    };
    let (ring, retired) = KeyRing::rotate_file(path, &kinds, step, now)?;
    let mut lines = vec![format!("{}:", path.display())];
    if flags.retire {
        if retired.is_empty() {
            let period = days(needed_for(config));
            return Ok(format!("No key was replaced more than {period} ago: all of them stay.\n"));
        }
        lines.extend(retired.iter().map(|(kind, id)| format!("  {:<8} {id:<10} deleted", kind.as_str())));
    } else {
        let wanted = if flags.standby { KeyState::Standby } else { KeyState::Current };
        let touched = ring.summary().into_iter().filter(|key| kinds.contains(&key.kind));
        let newest = touched.filter(|key| key.state == wanted || key.replaced_at == Some(now));
        lines.extend(
            newest.map(|key| format!("  {:<8} {:<10} {}", key.kind.as_str(), key.id, usage(config, &key, now))),
        );
    }
    lines.push(String::new());
    lines
        .push("Keep a safe copy of the file. Running daemons read it again on SIGHUP (`systemctl reload`).".to_owned());
    lines.push(
        "Daemons that systemd gives a copy of it when they start (LoadCredential=, as the packaged units do) need \
         `systemctl restart`."
            .to_owned(),
    );
    if flags.standby {
        lines.push(
            "Give the file to every daemon and reload or restart each; then do the same with `regrant keys rotate --promote`."
                .to_owned(),
        );
    }
    if kinds.contains(&KeyKind::Pepper) && !flags.retire {
        lines.push("Passwords that are set or used from then on cannot be checked without this file.".to_owned());
    }
    Ok(lines.join("\n") + "\n")
}

/// What a key is good for, in words.
fn usage(config: &Config, key: &KeySummary, now: DateTime<Utc>) -> String {
    let does = match (key.state, key.kind) {
        (KeyState::Standby, _) => return "on standby: known, not used yet".to_owned(),
        (KeyState::Current, KeyKind::Token) => return "current: makes links, codes and signatures".to_owned(),
        (KeyState::Current, KeyKind::Sealing) => return "current: announced for sealing".to_owned(),
        (KeyState::Current, KeyKind::Pepper) => return "current: goes into new password hashes".to_owned(),
        (KeyState::Accepted, KeyKind::Token) => "accepted: links, codes and signatures made",
        (KeyState::Accepted, KeyKind::Sealing) => "accepted: secrets sealed",
        (KeyState::Accepted, KeyKind::Pepper) => "accepted: passwords last set or used",
    };
    let until = key.replaced_at.map(|at| format!(" until {}", date(at))).unwrap_or_default();
    let retire = match retirable_at(config, key) {
        Some(at) if at <= now => "; not needed any more".to_owned(),
        Some(at) => format!("; needed until {}", date(at)),
        None => String::new(),
    };
    format!("{does}{until}{retire}")
}

/// How long after its replacement something can still need a key. Tickets that were made with it are in the database, if only to
/// be told apart from forged ones, until they are past their lifetime and `retention.tickets`; what was sealed to it or signed
/// with it may wait in a queue, or be a dead letter that is worth a replay, for as long.
fn needed_for(config: &Config) -> TimeDelta {
    let lifetimes = [
        config.retention.tickets,
        config.password_reset.lifetime,
        config.password_reset.code_lifetime,
        config.invite.lifetime,
        config.verification.lifetime,
    ];
    let longest = lifetimes.into_iter().max().unwrap_or_default();
    // A day for daemons that were told late, and for clocks.
    TimeDelta::from_std(longest.saturating_add(Duration::from_secs(86_400))).unwrap_or(TimeDelta::days(36_500))
}

/// When a key can be deleted. A pepper never by age: a hash may be as old as its account.
fn retirable_at(config: &Config, key: &KeySummary) -> Option<DateTime<Utc>> {
    let replaced_at = key.replaced_at.filter(|_| key.kind != KeyKind::Pepper && key.state == KeyState::Accepted)?;
    replaced_at.checked_add_signed(needed_for(config))
}

fn days(age: TimeDelta) -> String {
    match age.num_days() {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn date(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(path: &Path) -> Vec<String> {
        let file = std::fs::read_to_string(path).unwrap();
        let lines = file.lines().filter_map(|line| line.strip_prefix("secret = "));
        lines.map(|secret| secret.trim_matches('"').to_owned()).collect()
    }

    fn place(pepper: bool) -> (tempfile::TempDir, Config, DateTime<Utc>) {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.keys.file = directory.path().join("etc/regrant.keys");
        // The file holds milliseconds.
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let said = init(&config.keys.file, pepper, now).unwrap();
        assert!(said.starts_with(&format!("Wrote new keys to {}", config.keys.file.display())), "{said}");
        assert_eq!(said.contains("no password can be checked"), pepper);
        (directory, config, now)
    }

    #[test]
    fn what_is_made_can_be_shown_without_its_secrets() {
        let (_directory, config, now) = place(true);
        let path = &config.keys.file;
        assert!(matches!(init(path, false, now), Err(KeysError::Exists(_))));
        let ring = KeyRing::load(path).unwrap();
        let secrets = secrets(path);
        assert_eq!(secrets.len(), 4);
        for shown in [show(&config, false, now).unwrap(), show(&config, true, now).unwrap()] {
            for part in [&ring.sealing_key().public_key, ring.token_key_id(), "pepper", "current"] {
                assert!(shown.contains(part), "{shown}");
            }
            assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
        }
        let json: serde_json::Value = serde_json::from_str(&show(&config, true, now).unwrap()).unwrap();
        assert_eq!(json["sealing_key"]["key_id"], ring.sealing_key().key_id);
        assert_eq!(json["keys"][0]["kind"], "token");
        assert_eq!(json["keys"][0]["state"], "current");
        assert_eq!(json["keys"][0]["current"], true);
    }

    #[test]
    fn rotating_names_the_new_keys_and_what_the_old_ones_are_still_for() {
        let (_directory, config, now) = place(false);
        let path = &config.keys.file;
        let before = KeyRing::load(path).unwrap();
        let said = rotate(&config, Rotate::default(), now).unwrap();
        let after = KeyRing::load(path).unwrap();
        for part in [
            format!("token    {}   current: makes links, codes and signatures", after.token_key_id()),
            format!(
                "token    {}   accepted: links, codes and signatures made until {}",
                before.token_key_id(),
                date(now)
            ),
            format!("sealing  {}   current: announced", after.sealing_key().key_id),
            format!("sealing  {}   accepted", before.sealing_key().key_id),
            "SIGHUP".to_owned(),
            "`systemctl restart`".to_owned(),
        ] {
            assert!(said.contains(&part), "{part}\n{said}");
        }
        assert!(secrets(path).iter().all(|secret| !said.contains(secret)), "{said}");
        assert!(!said.contains("pepper") && after.peppers().is_empty());

        let only = |flags: Rotate| {
            let before = KeyRing::load(path).unwrap();
            rotate(&config, flags, now).unwrap();
            let after = KeyRing::load(path).unwrap();
            (
                before.token_key_id() != after.token_key_id(),
                before.sealing_key() != after.sealing_key(),
                before.peppers().len() != after.peppers().len(),
            )
        };
        assert_eq!(only(Rotate { token: true, ..Rotate::default() }), (true, false, false));
        assert_eq!(only(Rotate { sealing: true, ..Rotate::default() }), (false, true, false));
        assert_eq!(only(Rotate { pepper: true, ..Rotate::default() }), (false, false, true));
        assert_eq!(
            only(Rotate { standby: true, pepper: true, token: true, ..Rotate::default() }),
            (false, false, true)
        );
        assert_eq!(only(Rotate { promote: true, ..Rotate::default() }), (true, false, false));
    }

    #[test]
    fn keys_are_retired_when_no_ticket_can_need_them() {
        let (_directory, mut config, now) = place(false);
        let path = config.keys.file.clone();
        let old = KeyRing::load(&path).unwrap().token_key_id().to_owned();
        rotate(&config, Rotate::default(), now).unwrap();
        let retire = Rotate { retire: true, ..Rotate::default() };
        let shown = show(&config, false, now).unwrap();
        assert!(shown.contains(&format!("needed until {}", date(now + TimeDelta::days(91)))), "{shown}");
        let said = rotate(&config, retire, now + TimeDelta::days(91)).unwrap();
        assert_eq!(said, "No key was replaced more than 91 days ago: all of them stay.\n");
        // An invitation may be open longer than tickets are kept.
        config.invite.lifetime = Duration::from_secs(200 * 86_400);
        assert!(rotate(&config, retire, now + TimeDelta::days(200)).unwrap().contains("all of them stay"));
        config.invite.lifetime = Duration::from_secs(86_400);
        let later = now + TimeDelta::days(92);
        assert!(show(&config, false, later).unwrap().contains("not needed any more"));
        let said = rotate(&config, retire, later).unwrap();
        assert!(said.contains(&format!("token    {old}   deleted")), "{said}");
        assert_eq!(KeyRing::load(&path).unwrap().summary().len(), 2);
    }
}
