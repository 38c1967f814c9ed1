//! A command that always fails, among ten thousand that do not.

use lapin::types::AMQPValue;
use serde_json::json;

use crate::harness::{Command, Plan, until_true};

const NEIGHBOURS: usize = 10_000;

fn put(id: &str) -> Command {
    let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
    Command::new("user.put", json!({ "user": user })).id(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_tried_again_and_buried_while_ten_thousand_neighbours_pass() {
    let (place, daemon) = Plan::default().start().await;
    place
        .run(
            "create function fail() returns trigger as $$ begin raise exception 'poisoned'; end $$ language plpgsql; \
             create trigger poison before insert or update on users for each row \
             when (new.id like 'poison%') execute function fail()",
        )
        .await;
    let client = place.client().await;
    daemon.signal("STOP");
    // One at the beginning of its way, and one at the end; the rest of that way takes a quarter of an hour.
    let mut dying = put("poison-last");
    dying.headers.insert("x-regrant-attempts".into(), AMQPValue::LongLongInt(5));
    let mut commands: Vec<Command> = (0..NEIGHBOURS).map(|n| put(&format!("u{n}"))).collect();
    commands.insert(NEIGHBOURS / 2, dying);
    commands.insert(NEIGHBOURS / 4, put("poison-first"));
    client.publish_all(commands).await;
    daemon.signal("CONT");
    let neighbours = i64::try_from(NEIGHBOURS).unwrap();
    until_true("every neighbour to be done", async || place.count("users").await == neighbours).await;

    let letter = &client.dead(1).await[0];
    assert_eq!((letter.message_id(), letter.header("x-regrant-reason").as_str()), ("poison-last", "internal"));
    assert_eq!(letter.header("x-regrant-attempts"), "6");
    // After 1 s and after 5 s; then it waits for its half minute.
    until_true("three attempts", async || client.depth("retry.30s").await == 1).await;
    for attempt in 1..=3 {
        assert!(daemon.log().contains(&format!("attempt={attempt}")));
    }
    let outcome = async |outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        daemon.metric("regrant_commands_total", &["user.put", &label]).await
    };
    assert_eq!(outcome("ok").await, neighbours);
    assert_eq!((outcome("retried").await, outcome("buried").await), (3, 1), "no neighbour was blamed");
    assert_eq!(place.count("users").await, neighbours);
    assert_eq!(daemon.stop().await, 0);
}

/// A right that is missing or a trigger that fails is one command's trouble, though the words are those of a database that nobody
/// has prepared.
#[tokio::test]
async fn what_only_one_command_misses_stops_no_other() {
    let (place, daemon) = Plan::default().start().await;
    place
        .run(
            "create function fail() returns trigger as $$ begin perform missing(); end $$ language plpgsql; \
             create trigger poison before insert or update on users for each row \
             when (new.id like 'poison%') execute function fail()",
        )
        .await;
    let client = place.client().await;
    let commands: Vec<Command> = ["a", "poison", "b", "c"].map(put).into();
    client.publish_all(commands).await;
    until_true("the neighbours to be done", async || place.count("users").await == 3).await;
    until_true("the next attempt", async || client.depth("retry.5s").await == 1).await;
    assert_eq!(daemon.troubles().await, [""; 0]);
    assert!(daemon.log().contains("missing() does not exist"), "{}", daemon.log());

    // What everybody misses is nobody's failure.
    for table in ["activity", "tickets", "suppressions"] {
        place.run(&format!("alter table {table} rename to away")).await;
        let id = format!("late-{table}");
        client.publish(put(&id)).await;
        daemon.wait_until_not_ready("database").await;
        place.run(&format!("alter table away rename to {table}")).await;
        until_true("whoever waited", async || place.count(&format!("users where id = '{id}'")).await == 1).await;
        let log = daemon.log();
        let named = format!("message_id=\"{id}\"");
        let late: Vec<&str> = log.lines().filter(|line| line.contains(&named)).collect();
        let late = late.join("\n");
        assert!(late.contains("attempt=1") && !late.contains("retried"), "{late}");
    }
}

/// A bug, wherever a message's way leads: it is that message's failure, and ends no lane.
#[cfg(feature = "crash-points")]
#[tokio::test]
async fn one_that_makes_the_daemon_panic_stops_no_other() {
    let place = Plan::default().prepare().await;
    let daemon = place.start_to_panic().await;
    let client = place.client().await;
    client.ok("user.put", json!({ "user": { "id": "ada", "username": "ada", "email": "ada@example.com" } })).await;
    let of_ada = |name: &str, id: &str| {
        let mut body = json!({ "user": { "id": "ada" } });
        if name == "session.login" {
            body["password"] = "wrong".into();
        }
        Command::new(name, body).id(id)
    };
    // Each is at the end of its way already.
    let dying = |mut command: Command| {
        command.headers.insert("x-regrant-attempts".into(), AMQPValue::LongLongInt(5));
        command
    };
    let poison = [
        dying(put("reading-state")),
        dying(of_ada("session.login", "reading-credentials")),
        dying(of_ada("user.get", "reading-query")),
        dying(put("limits-state")),
        dying(of_ada("session.login", "limits-credentials")),
        dying(put("decision-state")),
        dying(of_ada("session.login", "decision-credentials")),
        dying(of_ada("user.get", "query")),
    ];
    let neighbours: Vec<Command> = (0..poison.len()).map(|n| put(&format!("u{n}"))).collect();
    daemon.signal("STOP");
    let (failing, passing) = (client.begin_all(&poison).await, client.begin_all(&neighbours).await);
    daemon.signal("CONT");
    for asked in passing {
        assert_eq!(client.reply(&asked).await["ok"], true);
    }
    for asked in failing {
        assert_eq!(client.reply(&asked).await["error"]["code"], "internal");
    }
    for letter in client.dead(poison.len()).await {
        assert_eq!(letter.header("x-regrant-reason"), "internal", "{}", letter.message_id());
        assert!(letter.header("x-regrant-detail").ends_with(" panicked"), "{}", letter.header("x-regrant-detail"));
    }
    assert_eq!(place.count("users").await, 1 + i64::try_from(neighbours.len()).unwrap());

    // What cannot even be looked through for secrets is kept without its body.
    let unreadable = Command::raw("user.put", "{ this is not JSON").id("redacting");
    assert_eq!(client.ask(unreadable).await["error"]["code"], "invalid_body");
    let letter = &client.dead(1).await[0];
    assert_eq!((letter.body.as_slice(), letter.header("x-regrant-redacted").as_str()), (&b"[redacted]"[..], "true"));
    // What is done is answered.
    for command in [put("observing"), put("pace")] {
        assert_eq!(client.ask(command).await["ok"], true);
    }
    // Who is not at the end of the way is tried again.
    client.publish_all([put("reading-again"), put("limits-again"), of_ada("user.get", "query-again")]).await;
    until_true("two attempts", async || client.depth("retry.5s").await == 3).await;
    assert_eq!(client.ok("user.get", json!({ "user": { "id": "ada" } })).await["user"]["id"], "ada");
    assert_eq!(daemon.troubles().await, [""; 0]);
    assert_eq!(daemon.stop().await, 0);
}
