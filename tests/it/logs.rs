//! One line about each command, in both formats; and the trace of a request from its message to its mail.

use serde_json::{Map, Value, json};

use crate::harness::{Client, Command, Daemon, Place, Plan, mail_to, until, until_true};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn put(id: &str) -> Command {
    let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
    Command::new("user.put", json!({ "user": user }))
}

/// A command that ends in each way; the message ids tell which.
async fn every_ending(place: &Place, daemon: &Daemon) -> Client {
    let client = place.client().await;
    let done = put("ada").id("m-ok").header("traceparent", &format!("00-{TRACE}-{SPAN}-01"));
    client.ask(done.clone()).await;
    client.ask(done).await;
    client.ask(Command::new("user.block", json!({ "user": { "id": "nobody" } })).id("m-rejected")).await;
    client.ask(put("late").id("m-expired").asked(-60).expires_after_ms(30_000)).await;
    client.publish(Command::raw("user.put", "{").id("m-invalid").header("traceparent", "nonsense")).await;
    client.publish(Command::new("no.such.command", json!({})).id("m-unknown")).await;
    client.ask(Command::new("daemon.info", json!({})).id("m-query")).await;
    place
        .run(
            "create function fail() returns trigger as $$ begin raise exception 'poisoned'; end $$ language plpgsql; \
             create trigger poison before insert or update on users for each row when (new.id = 'bob') execute function fail()",
        )
        .await;
    let again = client.begin(&put("bob").id("m-retried")).await;
    until_true("a retry", async || daemon.log().contains("m-retried")).await;
    place.run("drop trigger poison on users").await;
    assert_eq!(client.reply(&again).await["ok"], true);
    client
}

/// The outcomes of the lines about this message, and the first line.
async fn lines_about(id: &str, count: usize, lines: impl Fn() -> Vec<Map<String, Value>>) -> (Vec<String>, Value) {
    let about = until(&format!("{count} lines about {id}"), async || {
        let of = |line: &Map<String, Value>| line["message"] == "command" && line.get("message_id") == Some(&json!(id));
        let about: Vec<Map<String, Value>> = lines().into_iter().filter(of).collect();
        (about.len() >= count).then_some(about)
    })
    .await;
    assert_eq!(about.len(), count, "{about:#?}");
    let outcomes = about.iter().map(|line| line["outcome"].as_str().unwrap().to_owned()).collect();
    (outcomes, Value::Object(about.into_iter().next().unwrap()))
}

#[tokio::test]
async fn a_reply_that_nobody_takes_is_told_with_its_queue_and_message() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    let correlation = client.begin_with(&put("ada").id("m-unheard"), "a-queue-that-is-gone").await;
    daemon.until_metric("regrant_replies_dropped_total", &[], 1).await;
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("reply could not be delivered")).unwrap_or_default();
    for word in ["a-queue-that-is-gone", "m-unheard", "user.put", &correlation] {
        assert!(line.contains(word), "{word}: {log}");
    }
}

/// The line as JSON says it.
fn from_json(log: &str) -> Vec<Map<String, Value>> {
    let lines = log.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}"))).collect()
}

/// The same of a line of text: `time LEVEL target: message key=value key="value"`.
fn from_text(log: &str) -> Vec<Map<String, Value>> {
    log.lines()
        .filter_map(|line| {
            let (head, fields) = line.split_once(" command ").map_or((line, ""), |(head, fields)| (head, fields));
            let level = head.split_whitespace().nth(1)?;
            let mut map = Map::new();
            map.insert("message".to_owned(), if fields.is_empty() { line } else { "command" }.into());
            map.insert("level".to_owned(), level.into());
            for (key, value) in fields.split(' ').filter_map(|field| field.split_once('=')) {
                map.insert(key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into()));
            }
            Some(map)
        })
        .collect()
}

async fn one_line_each(format: &str, read: fn(&str) -> Vec<Map<String, Value>>) {
    let (place, daemon) = Plan::default().set("log.format", format).start().await;
    let _client = every_ending(&place, &daemon).await;
    let lines = || read(&daemon.log());
    for (id, outcomes, lane, level, command) in [
        ("m-ok", ["ok", "duplicate"].as_slice(), "state", "INFO", "user.put"),
        ("m-rejected", &["user_not_found"], "state", "INFO", "user.block"),
        ("m-expired", &["expired"], "state", "INFO", "user.put"),
        ("m-invalid", &["invalid_body"], "state", "WARN", "user.put"),
        ("m-unknown", &["unknown_command"], "unknown", "WARN", "no.such.command"),
        ("m-query", &["ok"], "queries", "INFO", "daemon.info"),
        ("m-retried", &["retried", "ok"], "state", "WARN", "user.put"),
    ] {
        let (found, line) = lines_about(id, outcomes.len(), lines).await;
        assert_eq!(found, outcomes, "{id}");
        let said = [&line["lane"], &line["level"], &line["command"], &line["publisher"]];
        assert_eq!(said, [&json!(lane), &json!(level), &json!(command), &json!("guest")], "{line}");
        assert!(line["duration_ms"].as_f64().unwrap() >= 0.0, "{line}");
        assert!(line["lag_s"].as_i64().unwrap() >= 0, "{line}");
        assert_eq!(line["attempt"], 1, "{line}");
        let trace = if id == "m-ok" { [json!(TRACE), json!(SPAN)] } else { [Value::Null, Value::Null] };
        assert_eq!([line["trace_id"].clone(), line["span_id"].clone()], trace, "{line}");
    }
    let last = lines().into_iter().rfind(|line| line.get("message_id") == Some(&json!("m-retried"))).unwrap();
    assert_eq!((&last["outcome"], &last["attempt"]), (&json!("ok"), &json!(2)), "{last:?}");
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn json_has_one_line_about_each_command() {
    one_line_each("json", from_json).await;
}

#[tokio::test]
async fn text_has_one_line_about_each_command() {
    one_line_each("text", from_text).await;
}

#[tokio::test]
async fn a_trace_goes_from_the_message_to_the_mail_and_the_events() {
    let (place, daemon) = Plan::default().set("log.format", "json").start().await;
    let client = place.client().await;
    client.user("ada").await;
    place.until_all_is_told().await;
    let events = client.events("#").await;
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    let request = Command::new("password.reset.request", json!({ "user": { "id": "ada" } }));
    client.ask(request.id("m-traced").header("traceparent", &traceparent)).await;
    mail_to(&place.mail, "ada@example.com", 1).await;

    for event in events.up_to("email.sent").await {
        assert_eq!(event.body["traceparent"], json!(traceparent), "{}", event.body);
    }
    let recorded: Option<String> = place.value("select traceparent from emails").await;
    assert_eq!(recorded.as_deref(), Some(traceparent.as_str()));
    let mail = until("the line about the mail", async || {
        from_json(&daemon.log()).into_iter().find(|line| line["message"] == "mail")
    })
    .await;
    let ids = [&mail["trace_id"], &mail["span_id"], &mail["command_id"], &mail["outcome"]];
    assert_eq!(ids, [&json!(TRACE), &json!(SPAN), &json!("m-traced"), &json!("sent")], "{mail:?}");
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn an_address_in_place_of_a_field_or_a_command_is_masked() {
    let place = Place::new().await;
    let daemon = place.start().await;
    let client = place.client().await;
    let body = json!({ "user": { "id": "ada" }, "typed-secret@private.example": 1 });
    assert_eq!(client.ask(("user.get", body)).await["error"]["code"], "invalid_body");
    let unknown = client.ask(("reset.typed-secret@private.example", json!({}))).await;
    assert_eq!(unknown["error"]["code"], "unknown_command");
    let log = daemon.log();
    assert!(!log.contains("typed-secret") && log.contains("***@private.example"), "{log}");
}
