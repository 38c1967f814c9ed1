//! What was probably meant by a key that does not exist.

use std::cmp::Reverse;

use crate::spelling::{self, ALIKE};

use super::{
    Config,
    error::place,
    layers,
    visit::{ANY_NAME, Schema, join},
};

/// From here on it is a slip of the pen.
const NEARLY_THE_SAME: f64 = 0.9;

/// Names that people write for ours, which no measure of spelling would find.
const SYNONYMS: &[(&str, &[&str])] = &[
    ("url", &["address", "dsn", "host", "hostname", "password", "port", "server", "uri", "user", "username"]),
    ("url_file", &["password_file"]),
    ("listen", &["address", "bind"]),
    ("directory", &["dir", "path", "folder"]),
    ("file", &["path"]),
    ("lifetime", &["ttl", "expiry", "expires_in", "timeout", "validity"]),
    ("from", &["sender"]),
    ("max_attempts", &["max_failures"]),
    ("max_failures", &["max_attempts"]),
    ("timezone", &["tz"]),
    ("permissions", &["allow", "commands"]),
    ("commands", &["allow", "permissions"]),
    ("max_connections", &["pool_size"]),
    ("connections", &["pool_size"]),
];

/// How much a key that does not exist is like one that does: by spelling, or because it is a synonym.
fn likeness(name: &str, key: &str) -> f64 {
    let synonyms = SYNONYMS.iter().filter(|(right, _)| *right == key).flat_map(|(_, synonyms)| synonyms.iter());
    synonyms
        // A synonym must be nearly exact, and loses against the same likeness to the name itself.
        .map(|synonym| spelling::likeness(name, synonym) - 0.05)
        .filter(|likeness| *likeness >= 0.85)
        .fold(spelling::likeness(name, key), f64::max)
}

/// The sentence for a key that does not exist: where it stands and what was probably meant.
pub(crate) fn unknown_key(path: &[String], origin: Option<&str>) -> String {
    let advice = advice(path, origin.is_some_and(layers::is_environment));
    format!("unknown key `{}`{}: {advice}", join(path), place(origin))
}

fn advice(path: &[String], environment: bool) -> String {
    let schema = Schema::of::<Config>();
    let all = || schema.keys.iter().chain(&schema.tables);
    let Some((leaf, parent)) = path.split_last() else {
        return "an empty name".to_owned();
    };
    let siblings: Vec<&str> = all()
        .filter_map(|known| known.split_last())
        .filter(|(_, above)| matches(above, parent))
        .map(|(name, _)| name.as_str())
        .collect();
    let suggest = |known: &[String]| {
        if environment {
            format!("did you mean `{}` ({})?", join(known), layers::variable(known))
        } else {
            format!("did you mean `{}`?", join(known))
        }
    };
    // `REGRANT__BROKER_URL`, or a point or underscore too many: the right words, grouped in another way.
    let words = path.join("_");
    if let Some(known) = all().find(|known| known.len() != path.len() && known.join("_") == words) {
        return suggest(known);
    }
    let sibling = spelling::most_alike(siblings.iter().copied(), |key| likeness(leaf, key));
    // A right key in the wrong table.
    let shared = |known: &[String]| known.iter().zip(path).take_while(|(a, b)| a == b).count();
    let elsewhere = all()
        .filter(|known| known.len() > 1 && known.last() == Some(leaf))
        .filter(|known| !known.iter().any(|name| name == ANY_NAME))
        .min_by_key(|known| Reverse(shared(known)));
    match (sibling, elsewhere) {
        (Some((name, likeness)), elsewhere)
            if likeness >= NEARLY_THE_SAME || (elsewhere.is_none() && likeness >= ALIKE) =>
        {
            return suggest(&[parent, &[name.to_owned()]].concat());
        }
        (_, Some(elsewhere)) => return suggest(elsewhere),
        _ => {}
    }
    let table = if parent.is_empty() { "the top level".to_owned() } else { format!("[{}]", join(parent)) };
    format!("the keys of {table} are {}", siblings.join(", "))
}

fn matches(pattern: &[String], path: &[String]) -> bool {
    pattern.len() == path.len() && pattern.iter().zip(path).all(|(wanted, name)| wanted == ANY_NAME || wanted == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, origin: Option<&str>) -> String {
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        unknown_key(&path, origin)
    }

    #[test]
    fn names_the_nearest_key() {
        assert_eq!(
            said("mail/smtp/adress", Some("/etc/regrant/regrant.toml:4")),
            "unknown key `mail.smtp.adress` in /etc/regrant/regrant.toml:4: did you mean `mail.smtp.url`?"
        );
        assert_eq!(
            said("mail/smtp/adress", Some("environment variable REGRANT__MAIL__SMTP__ADRESS")),
            "unknown key `mail.smtp.adress` in environment variable REGRANT__MAIL__SMTP__ADRESS: \
             did you mean `mail.smtp.url` (REGRANT__MAIL__SMTP__URL)?"
        );
        for (wrong, right) in [
            ("databse", "database"),
            ("passwrd_reset", "password_reset"),
            ("password_reset/min_intervall", "password_reset.min_interval"),
            ("password/policy/minlength", "password.policy.min_length"),
            ("broker/URL", "broker.url"),
            ("broker/url_fil", "broker.url_file"),
            ("http/address", "http.listen"),
            ("sites/north.eu/rest_url", "sites.\"north.eu\".reset_url"),
            ("publishers/*/command", "publishers.\"*\".commands"),
            ("roles/admin/commands", "roles.admin.permissions"),
            ("mail/max_failures", "login.max_failures"),
            ("mail/url", "mail.smtp.url"),
            ("login/max_attempts", "login.max_failures"),
            ("database/password", "database.url"),
            ("invite/timeout", "invite.lifetime"),
            ("mail/dkim/selectr", "mail.dkim.selector"),
            ("login_max_failures", "login.max_failures"),
            ("broker_url", "broker.url"),
            ("password_reset_lifetime", "password_reset.lifetime"),
            ("mail/smtp_url", "mail.smtp.url"),
            ("database_url", "database.url"),
            ("log_level", "log.level"),
            ("http_listen", "http.listen"),
            ("keys_file", "keys.file"),
            ("retention_commands", "retention.commands"),
            ("password/policy_min_length", "password.policy.min_length"),
            ("password/reset/lifetime", "password_reset.lifetime"),
            ("mail_smtp_url_file", "mail.smtp.url_file"),
        ] {
            let said = said(wrong, None);
            assert!(said.ends_with(&format!("did you mean `{right}`?")), "{wrong}: {said}");
        }
    }

    #[test]
    fn lists_the_keys_when_none_is_near() {
        assert_eq!(
            said("manual_entry/xyz", Some("regrant.toml:9")),
            "unknown key `manual_entry.xyz` in regrant.toml:9: the keys of [manual_entry] are allowed, force_logout"
        );
        assert!(said("zzz", None).contains("the keys of the top level are broker, database, mail"));
    }
}
