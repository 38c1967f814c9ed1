//! Messages that cannot be understood: each is answered, kept with its reason, and disturbs nobody.

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::{Command, Dead, Place, Plan};

/// A value in every bad message: it must never be logged, and never be kept where it is the value of a secret.
const VALUE: &str = "Sup3r-S3cret-Value";

/// A bad message, and the code and part of the explanation that are due.
struct Bad {
    command: Command,
    code: &'static str,
    said: &'static str,
}

fn bad(name: &str, body: impl Into<Vec<u8>>, code: &'static str, said: &'static str) -> Bad {
    Bad { command: Command::raw(name, body), code, said }
}

fn bodies() -> Vec<Bad> {
    const RESET: &str = "password.reset.request";
    const PUT: &str = "user.put";
    let body = |text: &str| text.replace("VALUE", VALUE);
    let mut not_utf8 = body(r#"{"user": {"id": "VALUE"#).into_bytes();
    not_utf8.extend(b"\xff\xfe\"}}");
    let large = |size: usize| {
        let head = body(r#"{"user": {"id": "VALUE"}"#);
        format!("{head}{}}}", " ".repeat(size - head.len() - 1))
    };
    vec![
        bad(RESET, not_utf8, "invalid_body", "not UTF-8"),
        bad(RESET, body("{not json VALUE"), "invalid_body", "not JSON"),
        bad(RESET, Vec::new(), "invalid_body", "not JSON"),
        bad(RESET, body(r#"["VALUE"]"#), "invalid_body", "not a JSON object"),
        bad(RESET, body(r#"{"user": {"id": "VALUE"}} {}"#), "invalid_body", "not JSON"),
        bad(RESET, format!("{{\"a\": {}", "[".repeat(50_000)), "invalid_body", "recursion limit"),
        bad(RESET, format!("{{\"a\": {}", "{\"a\":".repeat(12_000)), "invalid_body", "recursion limit"),
        bad(RESET, body(r#"{"user": {"id": "VALUE"}, "user": {"id": "b"}}"#), "invalid_body", "duplicate field `user`"),
        bad(RESET, body(r#"{"user": {"id": "VALUE\u0000"}}"#), "invalid_body", "NUL"),
        bad(RESET, body("{\"user\": {\"id\": \"VALUE\0\"}}"), "invalid_body", "not JSON"),
        bad(RESET, body(r#"{"user": "VALUE"}"#), "invalid_body", "`user`"),
        bad(RESET, body(r#"{"user": {"id": 12}, "context": "VALUE"}"#), "invalid_body", "`context`"),
        bad(RESET, body(r#"{"user": {"id": "VALUE"}, "usr": 1}"#), "invalid_body", "unknown field `usr`"),
        bad(RESET, body(r#"{"user": {"id": "VALUE", "email": "a@b.c"}}"#), "invalid_body", "exactly one"),
        bad(RESET, body(r#"{"method": "link"}"#), "invalid_body", "missing field `user`"),
        bad(RESET, body(r#"{"user": {"id": "VALUE"}, "method": "VALUE"}"#), "invalid_body", "`method`"),
        bad(
            PUT,
            body(r#"{"user": {"id": "VALUE", "username": "a", "email": "a@b.c", "roles": "VALUE"}}"#),
            "invalid_body",
            "`user.roles`",
        ),
        bad(RESET, large(64 * 1024 + 1), "invalid_message", "65537 bytes"),
        bad(RESET, large(1024 * 1024), "invalid_message", "1048576 bytes"),
        bad("no.such.command", body(r#"{"a": "VALUE"}"#), "unknown_command", "no.such.command"),
        bad("password.reset.requests", body(r#"{"a": "VALUE"}"#), "unknown_command", "password.reset.request`"),
        bad("", body(r#"{"a": "VALUE"}"#), "unknown_command", ""),
        bad("password.set", body(r#"{"user": {"id": "a"}, "new_password": 1, "usr": "VALUE"}"#), "invalid_body", "`"),
    ]
}

fn envelopes() -> Vec<Bad> {
    let sound = || Command::new("password.reset.request", json!({ "user": { "id": VALUE } }));
    let bad = |command, said| Bad { command, code: "invalid_message", said };
    vec![
        bad(Command { message_id: None, ..sound() }, "`message_id` is missing"),
        bad(sound().id(""), "`message_id` is missing"),
        bad(sound().id(&"x".repeat(129)), "128 characters"),
        bad(sound().id("a\0b"), "control characters"),
        bad(Command { content_type: Some("text/plain".to_owned()), ..sound() }, "application/json"),
        bad(sound().asked(3600), "5 minutes ahead"),
        bad(Command { timestamp: Some(u64::MAX), ..sound() }, "5 minutes ahead"),
        bad(sound().header("x-regrant-publisher", "guest"), "x-regrant-publisher"),
    ]
}

/// Each bad message among sound ones; returns the dead letters by message id.
async fn answered_and_kept(place: &Place, all: Vec<Bad>) -> Vec<(Bad, Dead)> {
    let daemon = place.start().await;
    let client = place.client().await;
    let mut commands = Vec::new();
    for (n, bad) in all.iter().enumerate() {
        let id = format!("good{n}");
        let good = json!({ "user": { "id": id, "username": id, "email": format!("{id}@example.com") } });
        commands.extend([
            Command::new("user.put", good.clone()),
            bad.command.clone(),
            Command::new("daemon.info", json!({})),
        ]);
    }
    let correlations = client.begin_all(&commands).await;
    for (triple, bad) in correlations.chunks(3).zip(&all) {
        let reply = client.reply(&triple[1]).await;
        assert_eq!(reply["error"]["code"], bad.code, "{:?}: {reply}", bad.said);
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(message.contains(bad.said), "{:?}: {message}", bad.said);
        assert!(!message.contains(VALUE), "{message}");
        for neighbour in [&triple[0], &triple[2]] {
            let reply = client.reply(neighbour).await;
            assert_eq!(reply["ok"], true, "beside {:?}: {reply}", bad.said);
        }
    }
    let mut dead: BTreeMap<String, Vec<Dead>> = BTreeMap::new();
    for letter in client.dead(all.len()).await {
        // Those without a sound id are told apart by what they say.
        dead.entry(letter.header("x-regrant-detail")).or_default().push(letter);
    }
    let mut pairs = Vec::new();
    for bad in all {
        let (_, letters) = dead
            .iter_mut()
            .find(|(detail, letters)| {
                detail.contains(bad.said) && letters.iter().any(|letter| same(&bad.command, letter))
            })
            .unwrap_or_else(|| panic!("no dead letter says {:?}", bad.said));
        let at = letters.iter().position(|letter| same(&bad.command, letter)).unwrap();
        pairs.push((bad, letters.remove(at)));
    }
    assert_eq!(client.depth("dead").await, 0);
    daemon.until_metric("regrant_dead_letters_total", &[], i64::try_from(pairs.len()).unwrap()).await;
    let ahead = pairs.iter().filter(|(bad, _)| bad.said.contains("ahead")).count();
    daemon.until_metric("regrant_commands_ahead_total", &[], i64::try_from(ahead).unwrap()).await;
    let log = daemon.log();
    assert!(!log.contains(VALUE), "{log}");
    assert_eq!(daemon.stop().await, 0);
    pairs
}

fn same(command: &Command, letter: &Dead) -> bool {
    letter.message_id() == command.message_id.as_deref().unwrap_or_default() && letter.routing_key == command.name
}

fn check_headers(bad: &Bad, letter: &Dead) {
    assert_eq!(letter.header("x-regrant-reason"), bad.code);
    assert!(letter.header("x-regrant-detail").contains(bad.said));
    assert_eq!(letter.header("x-regrant-command"), bad.command.name);
    assert_eq!(letter.header("x-regrant-attempts"), "1");
    let failed_at = letter.header("x-regrant-failed-at");
    assert!(failed_at.len() == "2026-01-01T00:00:00.000Z".len() && failed_at.ends_with('Z'), "{failed_at}");
    let properties = &letter.properties;
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
    assert_eq!(text(properties.user_id()).as_deref(), Some("guest"));
    assert_eq!(text(properties.content_type()), bad.command.content_type);
    assert_eq!(text(properties.message_id()), bad.command.message_id);
    assert_eq!(properties.timestamp(), &bad.command.timestamp);
    assert!(properties.correlation_id().is_some() && properties.reply_to().is_some());
    assert_eq!(properties.delivery_mode(), &Some(2));
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_answered_and_kept_as_they_came() {
    let place = Place::new().await;
    let pairs = answered_and_kept(&place, bodies()).await;
    for (bad, letter) in pairs {
        check_headers(&bad, &letter);
        if letter.header("x-regrant-redacted") != "true" {
            assert_eq!(letter.body, bad.command.body, "{:?}", bad.said);
        }
    }
}

#[tokio::test]
async fn properties_that_break_a_rule_are_answered_and_kept_as_they_came() {
    let place = Place::new().await;
    let pairs = answered_and_kept(&place, envelopes()).await;
    for (bad, letter) in pairs {
        check_headers(&bad, &letter);
        assert_eq!(letter.body, bad.command.body, "{:?}", bad.said);
    }
}

#[tokio::test]
async fn plain_secrets_are_taken_out_of_dead_letters_and_sealed_ones_stay() {
    let place = Place::new().await;
    let bodies = [
        r#"{"user": {"id": "a"}, "new_password": "VALUE", "usr": 1}"#,
        r#"{"user": {"id": "a"}, "new_password": "VALUE", "new_password": "VALUE"}"#,
        r#"{"user": {"id": "a"}, "n\u0065w_password": "VALUE", "usr": 1}"#,
        r#"{"user": {"id": "a"}, "new_password": "VALUE""#,
        r#"{"token": ["VALUE"], "code": {"sealed": "VALUE", "key_id": "k", "x": "VALUE"}}"#,
    ];
    let all = bodies.map(|body| bad("password.set", body.replace("VALUE", VALUE), "invalid_body", "")).into();
    for (_, letter) in answered_and_kept(&place, all).await {
        let body = String::from_utf8(letter.body.clone()).unwrap();
        assert!(!body.contains(VALUE) && body.contains("[redacted]"), "{body}");
        assert_eq!(letter.header("x-regrant-redacted"), "true");
    }
    // A request needs no password; whoever sends one along shall not lose it.
    let body = r#"{"user": {"id": "a"}, "new_password": {"sealed": "AAAA", "key_id": "k"}}"#;
    let sealed = bad("password.reset.request", body, "invalid_body", "unknown field `new_password`");
    for (bad, letter) in answered_and_kept(&place, vec![sealed]).await {
        assert_eq!(letter.body, bad.command.body);
        assert_eq!(letter.header("x-regrant-redacted"), "");
    }
}

#[tokio::test]
async fn the_largest_body_and_the_longest_message_id_are_served() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    let head = r#"{"user": {"id": "ada"}"#;
    let body = format!("{head}{}}}", " ".repeat(64 * 1024 - head.len() - 1));
    let command = Command::raw("password.reset.request", body).id(&"ä".repeat(127));
    assert_eq!(client.ask(command).await["ok"], true);
    let plain = Command { content_type: None, timestamp: None, ..Command::new("daemon.info", json!({})) };
    assert_eq!(client.ask(Command { message_id: None, ..plain }).await["ok"], true);
    assert_eq!(client.depth("dead").await, 0);
    assert_eq!(daemon.stop().await, 0);
}
