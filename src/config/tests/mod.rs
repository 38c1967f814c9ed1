//! Loading as a whole: which value wins, and where it comes from.

use std::{fs, path::PathBuf, time::Duration};

use lettre::message::Mailbox;
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

mod example;
mod messages;
mod values;

/// A directory with a `regrant.toml`, and messages without the directory's name.
struct Place(TempDir);

impl Place {
    fn new(text: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.file(), text).unwrap();
        place
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("regrant.toml")
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, String> {
        Config::load_with(Some(&self.file()), &env(variables))
            .map_err(|error| error.to_string().replace(&format!("{}/", self.0.path().display()), ""))
    }
}

fn env(variables: &[(&str, &str)]) -> Variables {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    Place::new(text).load(variables)
}

/// The problems, one a line.
fn problems(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let message = load(text, variables).expect_err("there should be problems");
    message.split("\n  - ").skip(1).map(str::to_owned).collect()
}

const SITE: &str = r#"
[sites.default]
name = "Example"
web_url = "https://app.example.com"
reset_url = "https://app.example.com/reset?token={token}"
invite_url = "https://app.example.com/invite?token={token}"
verify_url = "https://app.example.com/verify?token={token}"
support_email = "support@example.com"
"#;

#[test]
fn the_built_in_values_are_valid() {
    let config = load("", &[]).unwrap();
    assert_eq!(
        config.to_toml().lines().skip(1).collect::<Vec<_>>(),
        Config::default().to_toml().lines().skip(1).collect::<Vec<_>>()
    );
}

#[test]
fn files_may_be_systemd_credentials() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("regrant.smtp_url"), "smtp://u:p@mail.example.com\n").unwrap();
    let text = "[mail.smtp]\nurl_file = \"$CREDENTIALS_DIRECTORY/regrant.smtp_url\"\n\
                [keys]\nfile = \"$CREDENTIALS_DIRECTORY/regrant.keys\"\n[events]\nsource = \"$CREDENTIALS_DIRECTORY/x\"\n";
    let config = load(text, &[("CREDENTIALS_DIRECTORY", home.path().to_str().unwrap())]).unwrap();
    assert_eq!(config.mail.smtp.url.expose_secret(), "smtp://u:p@mail.example.com");
    assert_eq!(config.keys.file, home.path().join("regrant.keys"));
    assert_eq!(config.events.source, "$CREDENTIALS_DIRECTORY/x", "no path of a file");
    let outside = problems(text, &[]);
    assert!(outside[0].contains("cannot read the file /etc/credstore/regrant.smtp_url"), "{outside:?}");
}

#[test]
fn the_environment_goes_over_the_file_and_the_file_over_the_defaults() {
    let text = "[login]\nmax_failures = 4\nlockout = \"1m\"\n[mail]\nreply_to = \"a@example.com\"\n";
    let config = load(
        text,
        &[
            ("REGRANT__LOGIN__MAX_FAILURES", "3"),
            ("REGRANT__PASSWORD_RESET__MIN_INTERVAL", "0s"),
            ("REGRANT__MANUAL_ENTRY__ALLOWED", "True"),
            ("REGRANT__MAIL__SMTP__URL", "smtps://mail.example.com"),
            ("REGRANT__MAIL__REPLY_TO", ""),
            ("REGRANT__EVENTS__SOURCE", "007"),
            ("REGRANT__BROKER__PREFIX", "1.50"),
            ("REGRANT__PUBLISHERS__SHOP__COMMANDS", "password.reset.*, session.*,"),
            ("REGRANT__PUBLISHERS__SHOP__SYSTEM", "1"),
            ("REGRANT_CONFIG", "/nowhere"),
            ("REGRANT_LOG", "debug"),
            ("REGRANT_MAIL_FROM", "nobody"),
            ("MAIL__FROM", "nobody"),
        ],
    )
    .unwrap();
    assert_eq!(config.login.max_failures, 3);
    assert_eq!(config.login.lockout, Duration::from_secs(60));
    assert_eq!(config.password_reset.min_interval, Duration::ZERO);
    assert!(config.manual_entry.allowed);
    assert_eq!(config.mail.smtp.url.expose_secret(), "smtps://mail.example.com");
    assert!(config.mail.reply_to.is_none());
    assert_eq!(config.events.source, "007");
    assert_eq!(config.broker.prefix, "1.50");
    assert_eq!(config.publishers["shop"].commands, ["password.reset.*", "session.*"]);
    assert!(config.publishers["shop"].system);
    assert_eq!(config.retention.commands, Duration::from_secs(7 * 86_400));
}

#[test]
fn lists_in_the_environment_are_as_in_the_file_or_with_commas_alone() {
    let key = "REGRANT__PUBLISHERS__SHOP__COMMANDS";
    for (text, expected) in [
        ("user.get", &["user.get"][..]),
        (" user.get ,session.* ", &["user.get", "session.*"]),
        (r#"["user.get","session.*"]"#, &["user.get", "session.*"]),
        (r#" [ 'user.get', "session.*", ] "#, &["user.get", "session.*"]),
        ("[]", &[]),
        (",", &[]),
    ] {
        assert_eq!(load("", &[(key, text)]).unwrap().publishers["shop"].commands, expected, "{text}");
    }
    for text in ["[5]", "[user.get]", r#"["user.get""#, r#"["user.get"], session.*"#, "[\"user.get\"]\nx = 1"] {
        let said = problems("", &[(key, text)]).concat();
        let way_out = r#"is not a list of strings; write a list of strings, such as ["password.reset.*", "session.*"]"#;
        assert!(said.contains(key) && said.contains(way_out), "{text}: {said}");
    }
}

#[test]
fn names_of_publishers_roles_and_sites_survive() {
    let text = format!(
        "{SITE}{}",
        r#"
        [publishers."*"]
        commands = ["password.reset.request"]
        [publishers."Shop.front-end[0]"]
        commands = ["*"]
        [roles."Site Manager"]
        permissions = ["email.forward"]
        scope = "site"
        [sites."north.eu-1"]
        name = "North"
        "#
    );
    let config = load(&text, &[("REGRANT__PUBLISHERS__*__ASSERT_ACTOR", "true")]).unwrap();
    assert_eq!(config.publishers.keys().collect::<Vec<_>>(), ["*", "Shop.front-end[0]"]);
    assert!(config.publishers[ANY_PUBLISHER].assert_actor);
    assert_eq!(config.roles["Site Manager"].scope, Scope::Site);
    assert_eq!(config.sites.keys().collect::<Vec<_>>(), ["default", "north.eu-1"]);
}

#[test]
fn sites_inherit_from_the_default_one() {
    let text = format!(
        "[sites.a]\nname = \"A\"\ntimezone = \"Europe/Oslo\"\n{SITE}timezone = \"Asia/Tokyo\"\nfrom = \"x@example.com\"\n[sites.z]\n"
    );
    let config = load(&text, &[]).unwrap();
    let (default, a, z) = (&config.sites["default"], &config.sites["a"], &config.sites["z"]);
    assert_eq!((a.name.as_str(), a.timezone), ("A", chrono_tz::Tz::Europe__Oslo));
    assert_eq!((z.name.as_str(), z.timezone), ("Example", chrono_tz::Tz::Asia__Tokyo));
    assert_eq!(a.reset_url, default.reset_url);
    assert_eq!(a.from, "x@example.com".parse::<Mailbox>().ok());
}

#[test]
fn secrets_come_from_files() {
    let place = Place::new("[broker]\nurl_file = \"DIR/broker\"\n[mail.smtp]\nurl = \"smtp://plain\"\n");
    let dir = place.0.path().display().to_string();
    fs::write(place.file(), fs::read_to_string(place.file()).unwrap().replace("DIR", &dir)).unwrap();
    fs::write(place.0.path().join("broker"), "amqp://u:SECRET@h\n").unwrap();
    fs::write(place.0.path().join("smtp"), "smtp://u:SECRET@h\r\n").unwrap();
    // The environment goes over the file, although it is another key.
    let config = place.load(&[("REGRANT__MAIL__SMTP__URL_FILE", &format!("{dir}/smtp"))]).unwrap();
    assert_eq!(config.broker.url.expose_secret(), "amqp://u:SECRET@h");
    assert_eq!(config.mail.smtp.url.expose_secret(), "smtp://u:SECRET@h");
    let config = place.load(&[("REGRANT__BROKER__URL", "amqp://env")]).unwrap();
    assert_eq!(config.broker.url.expose_secret(), "amqp://env");

    fs::write(place.0.path().join("broker"), "http://u:SECRET@h\n\n").unwrap();
    let message = place.load(&[]).unwrap_err();
    assert!(
        message.contains("`broker.url` in the file that `broker.url_file` in regrant.toml:2 names: the value is not"),
        "{message}"
    );
    assert!(!message.contains("SECRET"), "{message}");

    fs::remove_file(place.0.path().join("broker")).unwrap();
    let message = place.load(&[]).unwrap_err();
    assert!(
        message.contains("wrong value for `broker.url_file` in regrant.toml:2: cannot read the file broker: No such file or directory"),
        "{message}"
    );
    assert_eq!(
        problems("[database]\nurl = \"postgres://a/SECRET\"\nurl_file = \"x\"\n", &[]),
        [
            "`database.url` in regrant.toml:2 and `database.url_file` in regrant.toml:3 are both given; remove one of them"
        ]
    );
}

#[test]
fn the_file_is_found_in_order() {
    let place = Place::new("");
    let file = place.file();
    let nowhere = place.0.path().join("nowhere.toml");
    let named = env(&[("REGRANT_CONFIG", "named.toml")]);
    let usual = [nowhere.as_path(), file.as_path()];
    let path = |path, variables: &Variables, usual: &[&Path]| find(path, variables, usual).map(|(path, _)| path);
    assert_eq!(path(Some(Path::new("a")), &named, &usual), Some("a".into()));
    assert_eq!(path(None, &named, &usual), Some("named.toml".into()));
    assert_eq!(path(None, &env(&[("REGRANT_CONFIG", "")]), &usual), Some(file.clone()));
    assert_eq!(path(None, &env(&[]), &usual[..1]), None);

    let error = Config::load_with(Some(&nowhere), &env(&[])).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "cannot read the configuration file {} (given by --config): No such file or directory (os error 2)",
            nowhere.display()
        )
    );
}
