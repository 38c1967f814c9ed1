//! What is said of every kind of wrong value.

use super::problems;

/// `key = value` below its table, or from the environment, and what is said of it.
pub(super) fn fault(path: &str, value: &str, variable: bool) -> String {
    let found = if variable {
        let name = format!("REGRANT__{}", path.replace('.', "__").to_uppercase());
        problems("", &[(&name, value)])
    } else {
        let (table, key) = path.rsplit_once('.').unwrap();
        problems(&format!("[{table}]\n{key} = {value}\n"), &[])
    };
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}

/// Key, value in TOML, and what is said.
const WRONG: &[(&str, &str, &str)] = &[
    ("login.max_failures", r#""many""#, r#""many" is a string; write the number without quotes"#),
    ("login.max_failures", r#""12""#, r#""12" is a string; write the number without quotes"#),
    ("login.max_failures", "1.5", "a number with a point is not a whole number; write one, such as 10"),
    ("login.max_failures", "true", "true is not a whole number; write one, such as 10"),
    ("login.max_failures", "0", "0 is not from 1 to 4294967295"),
    ("login.max_failures", "-1", "-1 is out of range; write a whole number from 0 to 4294967295"),
    ("login.max_failures", "99999999999", "99999999999 is out of range; write a whole number from 0 to 4294967295"),
    ("login.max_failures", "[1]", "this list is not a whole number; write one, such as 10"),
    ("login.lockout", "90", r#"90 has no unit; write "90s" for seconds (or ms, m, h, d)"#),
    ("login.lockout", r#""0s""#, "it must be longer than 0s"),
    (
        "login.lockout",
        "true",
        r#"true is not a duration; write it as a string with a unit, such as "90s", "15m" or "24h""#,
    ),
    (
        "login.lockout",
        r#""soon""#,
        r#""soon" is not a duration; write numbers with a unit (ms, s, m, h, d), such as "90s", "15m", "1h30m" or "30d""#,
    ),
    ("manual_entry.allowed", r#""yes""#, r#""yes" is not a boolean; write true or false, without quotes"#),
    ("manual_entry.allowed", "1", "1 is not a boolean; write true or false, without quotes"),
    ("password_reset.code_length", "5", "5 is not from 6 to 10"),
    ("password_reset.code_length", "300", "300 is out of range; write a whole number from 0 to 255"),
    ("password_reset.method", r#""sms""#, r#""sms" is not possible here; write "link" or "code""#),
    ("mail.transport", "7", r#"7 is not possible here; write "smtp" or "file""#),
    (
        "mail.from",
        r#""nobody""#,
        r#""nobody" is not an email address; write an address, such as "Example <no-reply@example.com>""#,
    ),
    (
        "mail.from",
        r#""a\r\nBcc: x <x@y.z>""#,
        r#""a\r\nBcc: x <x@y.z>" holds a control character (a line break?); write it on one line"#,
    ),
    ("mail.smtp.hello_name", r#""a b""#, r#""a b" is not a host name; write one such as "mail.example.com""#),
    ("mail.smtp.connections", "0", "0 is not from 1 to 1000"),
    ("database.max_connections", "0", "0 is not from 1 to 1000"),
    ("broker.prefix", r#""a/b""#, r#""a/b" is not 1 to 64 of the characters A-Z a-z 0-9 _ . -"#),
    ("broker.prefix", r#""""#, r#""" is not 1 to 64 of the characters A-Z a-z 0-9 _ . -"#),
    (
        "http.listen",
        r#""localhost:80""#,
        r#""localhost:80" is not an address to listen on; write an IP address and a port, such as "127.0.0.1:9464" or "[::1]:9464""#,
    ),
    (
        "http.listen",
        "9464",
        r#"9464 is a number, not a string; write an IP address and a port, such as "127.0.0.1:9464" or "[::1]:9464""#,
    ),
    ("keys.file", r#""""#, r#""" is empty; write a path"#),
    ("events.source", "5", "5 is a number, not a string; write it in quotes"),
    ("events.source", r#""a b""#, r#""a b" is not a URI reference; write a name or URL without spaces"#),
    ("password.hashing.memory_kib", "7", "7 is not from 8 to 1048576"),
    ("password.hashing.memory_kib", "2000000", "2000000 is not from 8 to 1048576"),
    ("password.hashing.parallelism", "65", "65 is not from 1 to 64"),
    ("password.policy.max_length", "257", "257 is not from 1 to 256"),
    ("password.policy.min_length", "257", "257 is not from 1 to 256"),
    (
        "password.policy.max_length",
        "10",
        "10 is less than `password.policy.min_length`, which is 12 unless it is set, too",
    ),
    ("password.policy.min_strength", "5", "5 is not from 0 to 4"),
    ("log.level", r#""debgu""#, r#""debgu" is not a level; did you mean "debug"?"#),
    (
        "log.level",
        r#""info,lapin=loud""#,
        r#""info,lapin=loud" is not a level; write one of off, error, warn, info, debug, trace, or for single modules "info,regrant::mail=debug""#,
    ),
    ("log.format", r#""xml""#, r#""xml" is not possible here; write "text" or "json""#),
    (
        "sites.default.timezone",
        r#""Europe/Berlni""#,
        r#""Europe/Berlni" is not a time zone; did you mean "Europe/Berlin"?"#,
    ),
    ("sites.default.name", r#""""#, r#""" is empty"#),
    (
        "sites.default.web_url",
        r#""app.example.com""#,
        r#""app.example.com" is not a URL; write it as "https://app.example.com""#,
    ),
    (
        "sites.default.web_url",
        r#""ftp://x""#,
        r#""ftp://x" does not start with https:// (or http://); write it as "https://app.example.com""#,
    ),
    (
        "sites.default.web_url",
        r#""https://x/{token}""#,
        r#""https://x/{token}" holds {token}, which only the addresses of pages have; write it as "https://app.example.com""#,
    ),
    (
        "sites.default.web_url",
        r#""https://x/ ""#,
        r#""https://x/ " holds a space or another character that nobody sees (in a URL, a space is %20); write it as "https://app.example.com""#,
    ),
    (
        "sites.default.cancel_url",
        r#""https:///x/{token}""#,
        r#""https:///x/{token}" has no host; write it as "https://app.example.com/cancel?token={token}""#,
    ),
    (
        "sites.default.invite_url",
        r#""https://x/<{token}>""#,
        r#""https://x/<{token}>" holds one of the characters " < > \ ^ `, which end a link in a mail (write them as %XX); write it as "https://app.example.com/invite?token={token}""#,
    ),
    (
        "sites.default.reset_url",
        r#""https://x/r""#,
        r#""https://x/r" does not hold {token}; write it as "https://app.example.com/reset?token={token}""#,
    ),
    (
        "sites.default.cancel_url",
        r#""https://x/{token}{token}""#,
        r#""https://x/{token}{token}" holds {token} more than once; write it as "https://app.example.com/cancel?token={token}""#,
    ),
    (
        "sites.default.verify_url",
        r#""https://{token}.x/""#,
        r#""https://{token}.x/" holds {token} before the path; write it as "https://app.example.com/verify?token={token}""#,
    ),
    (
        "sites.default.support_email",
        r#""nobody""#,
        r#""nobody" is not an email address; write one such as "support@example.com""#,
    ),
    ("sites.default.locale", r#""german""#, r#""german" is not a language tag; write one such as "de" or "pt-BR""#),
    (
        "publishers.shop.commands",
        r#""*""#,
        r#""*" is not a list; write a list of strings, such as ["password.reset.*", "session.*"]"#,
    ),
    (
        "publishers.shop.commands",
        "[5]",
        r#"this list holds 5, which is not a string; write a list of strings, such as ["password.reset.*", "session.*"]"#,
    ),
    ("publishers.shop.commands", r#"["user.gte"]"#, r#""user.gte" covers no command; did you mean "user.get"?"#),
    (
        "publishers.shop.commands",
        r#"["email.forward"]"#,
        r#""email.forward" covers no command; did you mean "email.report"?"#,
    ),
    ("publishers.shop.commands", r#"["sesion.*"]"#, r#""sesion.*" covers no command; did you mean "session.*"?"#),
    ("publishers.shop.commands", r#"["password*"]"#, r#""password*" covers no command; did you mean "password.*"?"#),
    (
        "publishers.shop.commands",
        r#"["xyz"]"#,
        r#""xyz" covers no command; write a command's name, "password.reset.*" or "*""#,
    ),
    (
        "roles.admin.permissions",
        r#"["email.foward"]"#,
        r#""email.foward" covers no command; did you mean "email.forward"?"#,
    ),
    ("roles.admin.scope", r#""none""#, r#""none" is not possible here; write "all" or "site""#),
];

#[test]
fn wrong_values_in_the_file_are_named_with_their_reason() {
    for (path, value, said) in WRONG {
        assert_eq!(fault(path, value, false), format!("wrong value for `{path}` in regrant.toml:2: {said}"));
    }
}

#[test]
fn wrong_values_in_the_environment_are_named_with_the_variable() {
    for (path, value, said) in [
        ("login.max_failures", "many", r#""many" is not a whole number; write one, such as 10"#),
        ("login.max_failures", "-1", r#""-1" is out of range; write a whole number from 0 to 4294967295"#),
        ("login.max_failures", "", r#""" is not a whole number; write one, such as 10"#),
        ("login.lockout", "60", r#""60" has no unit; write "60s" for seconds (or ms, m, h, d)"#),
        ("manual_entry.allowed", "maybe", r#""maybe" is not a boolean; write true or false, without quotes"#),
    ] {
        let name = path.replace('.', "__").to_uppercase();
        assert_eq!(
            fault(path, value, true),
            format!("wrong value for `{path}` in environment variable REGRANT__{name}: {said}")
        );
    }
}
