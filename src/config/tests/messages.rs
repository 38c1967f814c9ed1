//! What is said of a faulty configuration.

use super::{SITE, load, problems, values::fault};

#[test]
fn all_unknown_keys_are_named_at_once() {
    let text = "\n[mail.smtp]\nadress = \"secret\"\n[pasword]\nx = 1\n[sites.default]\nrest_url = 5\n[roles.admin]\npermission = []\n";
    assert_eq!(
        problems(text, &[("REGRANT__MAIL__SMTP__ADRESS2", "s"), ("REGRANT__LOGN__LOCKOUT", "s"), ("REGRANT__", "s")]),
        [
            "unknown key `\"\"` in environment variable REGRANT__: the keys of the top level are broker, database, mail, http, health, keys, \
             templates, sites, password_reset, invite, verification, manual_entry, temporary_password, login, sessions, secrets, \
             password, events, shutdown, retention, log, publishers, roles",
            "unknown key `logn` in environment variable REGRANT__LOGN__LOCKOUT: did you mean `login` (REGRANT__LOGIN)?",
            "unknown key `mail.smtp.adress` in regrant.toml:3: did you mean `mail.smtp.url`?",
            "unknown key `mail.smtp.adress2` in environment variable REGRANT__MAIL__SMTP__ADRESS2: did you mean `mail.smtp.url` (REGRANT__MAIL__SMTP__URL)?",
            "unknown key `pasword` in regrant.toml:5: did you mean `password`?",
            "unknown key `roles.admin.permission` in regrant.toml:9: did you mean `roles.admin.permissions`?",
            "unknown key `sites.default.rest_url` in regrant.toml:7: did you mean `sites.default.reset_url`?",
        ]
    );
}

#[test]
fn sections_are_not_values() {
    assert_eq!(
        problems("mail = 5\n", &[("REGRANT__LOGIN", "x")]),
        [
            "wrong value for `mail` in regrant.toml:1: it is a section; write [mail] and its keys below",
            "wrong value for `login` in environment variable REGRANT__LOGIN: it is a section; write [login] and its keys below",
        ]
    );
    assert!(
        problems("", &[("REGRANT__LOGIN", "x"), ("REGRANT__LOGIN__LOCKOUT", "1s")])[0]
            .contains("environment variable REGRANT__LOGIN__LOCKOUT contradicts another variable")
    );
}

#[test]
fn no_message_tells_a_secret() {
    for (path, value) in [
        ("broker.url", r#""http://user:SECRET@host""#),
        ("broker.url", r#""amqp://user:SECRET/x@host""#),
        ("broker.url", "[\"SECRET\"]"),
        ("broker.url", r#""""#),
        ("database.url", r#""mysql://user:SECRET@host/db""#),
        ("database.url", r#""postgres://user:SECRET@host:port/db""#),
        ("database.url", r#""postgres://host/db?pass=SECRET""#),
        ("mail.smtp.url", r#""smtp://user:SECRET@host?tls=SECRET""#),
        ("mail.smtp.url", r#""smtps://user:SECRET@host?tls=none""#),
        ("mail.smtp.url", r#""smtp://user:SECRET@host/SECRET""#),
        ("mail.smtp.url", r#""SECRET""#),
        ("broker.url", r#""amqp://user:SECRET@"#),
        ("broker.ulr", r#""amqp://user:SECRET@""#),
    ] {
        let (table, key) = path.rsplit_once('.').unwrap();
        let message = load(&format!("[{table}]\n{key} = {value}\n"), &[]).expect_err(value);
        assert!(message.contains("regrant.toml"), "{message}");
        assert!(!message.contains("SECRET"), "{message}");
    }
    assert_eq!(
        fault("broker.url", r#""http://h""#, false),
        "wrong value for `broker.url` in regrant.toml:2: the value is not a usable URL (the scheme is not amqp or amqps); \
         write amqp://user:password@host:5672/vhost, with special characters in the password as %XX"
    );
    let config = load("[broker]\nurl = \"amqp://user:SECRET@host\"\n", &[]).unwrap();
    assert!(!format!("{config:?}").contains("SECRET"));
    assert!(!config.to_toml().contains("SECRET"));
    assert!(config.to_toml().contains("url = \"amqp://[hidden]@host\""));
}

#[test]
fn a_syntax_error_says_where() {
    let message = load("[broker]\nurl = \"amqp://user:SECRET@host\nprefix = \"ü\" x\n", &[]).unwrap_err();
    assert_eq!(message, "regrant.toml is not valid TOML: line 2, column 31: invalid basic string, expected `\"`");
    let message = load("[log]\nlevel = 'a'\nlevel = 'b'\n", &[]).unwrap_err();
    assert_eq!(message, "regrant.toml is not valid TOML: line 3, column 1: duplicate key");
}

#[test]
fn dkim_needs_all_its_keys() {
    assert!(load("", &[]).unwrap().mail.dkim.is_none());
    assert_eq!(
        problems("[mail.dkim]\ndomain = \"a b\"\n", &[]),
        [
            "wrong value for `mail.dkim.domain` in regrant.toml:2: \"a b\" is not a DNS name",
            "`mail.dkim.selector` is missing: [mail.dkim] needs domain, selector and key_file",
            "`mail.dkim.key_file` is missing: [mail.dkim] needs domain, selector and key_file",
        ]
    );
}

#[test]
fn an_inherited_fault_is_said_once() {
    let text = SITE.replace("/reset?token={token}", "/reset") + "[sites.north]\n[sites.\"../x\"]\n";
    assert_eq!(
        problems(&text, &[]),
        [
            "[sites.\"../x\"]: the name of a site is a directory's name too; use letters, digits, _ . - and no dot at the start",
            "wrong value for `sites.default.reset_url` in regrant.toml:5: \"https://app.example.com/reset\" does not hold {token}; \
             write it as \"https://app.example.com/reset?token={token}\"",
        ]
    );
}

#[test]
fn where_there_is_no_file_what_is_missing_comes_with_where_it_was_looked_for() {
    let problems = crate::config::Config::default().validate_for_run().unwrap_err().problems();
    assert_eq!(
        problems.last().unwrap(),
        "there is no configuration file: looked for ./regrant.toml, /etc/regrant/regrant.toml"
    );
    assert!(problems.len() > 2, "{problems:?}");
}

#[test]
fn the_daemon_needs_a_publisher_and_a_site() {
    let missing = |text: &str| load(text, &[]).unwrap().validate_for_run().unwrap_err().problems();
    let both = missing("");
    assert_eq!(both.len(), 2);
    assert_eq!(
        both[0],
        "no publisher may send any command, so there is nothing to do. Write, with the broker user of your app:\n\n      \
         [publishers.shop]\n      commands = [\"password.reset.*\", \"session.*\"]\n"
    );
    // What the messages tell one to write is enough.
    let advice: String = both.iter().filter_map(|problem| problem.split_once("\n\n")).map(|(_, toml)| toml).collect();
    load(&advice, &[]).unwrap().validate_for_run().unwrap();

    assert_eq!(
        missing(&format!(
            "{}[publishers.a]\ncommands = [\"*\"]\n",
            SITE.replace("web_url", "cancel_url").replace(".com\"\nr", ".com/{token}\"\nr")
        )),
        [
            "`sites.default.web_url` is missing; write, for example, web_url = \"https://app.example.com\" below [sites.default]"
        ]
    );
}
