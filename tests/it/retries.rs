//! A command that fails unexpectedly is tried again later, and never holds up its neighbours.

use lapin::types::AMQPValue;
use serde_json::json;

use crate::harness::{Command, Daemon, Place, Plan, server, until_true};

/// Makes every write of the user `poison` fail.
const TRIGGER: &str = "create function fail() returns trigger as $$ begin raise exception 'poisoned'; end $$ language plpgsql; \
    create trigger poison before insert or update on users for each row when (new.id = 'poison') execute function fail()";

fn put(id: &str) -> Command {
    let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
    Command::new("user.put", json!({ "user": user }))
}

/// A poisoned command among a hundred others, all in one batch.
async fn poisoned(place: &Place, daemon: &Daemon) -> (crate::harness::Client, String) {
    place.run(TRIGGER).await;
    let client = place.client().await;
    daemon.signal("STOP");
    let mut commands: Vec<Command> = (0..100).map(|n| put(&format!("u{n}"))).collect();
    commands.insert(50, put("poison").id("the-poison"));
    let mut correlations = client.begin_all(&commands).await;
    daemon.signal("CONT");
    let poison = correlations.remove(50);
    for correlation in correlations {
        assert_eq!(client.reply(&correlation).await["ok"], true);
    }
    (client, poison)
}

#[tokio::test]
async fn neighbours_are_done_and_the_failed_one_is_tried_again() {
    let (place, daemon) = Plan::default().start().await;
    let (client, poison) = poisoned(&place, &daemon).await;
    assert_eq!(place.count("users").await, 100);
    place.run("drop trigger poison on users").await;
    let reply = client.reply(&poison).await;
    assert_eq!((&reply["ok"], &reply["message_id"]), (&json!(true), &json!("the-poison")), "{reply}");
    assert_eq!(place.count("users where id = 'poison'").await, 1);
    daemon.until_metric_at_least("regrant_commands_total", &["user.put", "outcome=\"retried\""], 1).await;
    assert_eq!(client.depth("dead").await, 0);
}

#[tokio::test]
async fn a_retry_keeps_the_rights_of_its_publisher_without_impersonation() {
    // The daemon's own user has no rights at all here.
    let (place, daemon) = Plan::default().broker_url(server("AMQP_SHOP_URL")).start().await;
    let (client, poison) = poisoned(&place, &daemon).await;
    until_true("a retry", async || {
        daemon.metric("regrant_commands_total", &["user.put", "outcome=\"retried\""]).await >= 1
    })
    .await;
    place.run("drop trigger poison on users").await;
    assert_eq!(client.reply(&poison).await["ok"], true);
    let publisher: String = place.value("select publisher from activity where user_id = 'poison'").await;
    assert_eq!(publisher, "guest");
}

/// RabbitMQ routes by CC too, whenever the message is published: also when it comes back from a retry queue.
#[tokio::test]
async fn a_message_that_names_further_lanes_runs_in_its_own_and_is_multiplied_by_no_retry() {
    let (place, daemon) = Plan::default().start().await;
    place.run(TRIGGER).await;
    let client = place.client().await;
    let more = AMQPValue::FieldArray(vec![AMQPValue::LongString("session.login".into())].into());
    let mut command = put("poison");
    command.headers.insert("CC".into(), more);
    let poison = client.begin(&command).await;
    // Both copies ask for an answer: the other lane's comes first.
    assert_eq!(client.reply(&poison).await["error"]["code"], "invalid_message");
    daemon.until_metric_at_least("regrant_commands_total", &["user.put", "outcome=\"retried\""], 2).await;
    place.run("drop trigger poison on users").await;
    until_true("the poisoned one", async || place.count("users where id = 'poison'").await == 1).await;
    let login = json!({ "user": { "id": "poison" }, "password": "x" });
    assert_eq!(client.error("session.login", login).await, "invalid_credentials");
    assert_eq!(client.depth("dead").await, 1, "the other lane's copy");
    let letter = client.dead(1).await.remove(0);
    assert_eq!(letter.header("x-regrant-reason"), "invalid_message");
    assert!(letter.header("x-regrant-detail").contains("belongs to `state`"), "{:?}", letter.headers());
    assert!(!letter.headers().contains_key("CC"));
}

#[tokio::test]
async fn delays_grow_and_the_message_waits_at_the_broker() {
    let (place, daemon) = Plan::default().start().await;
    let (client, poison) = poisoned(&place, &daemon).await;
    for (queue, attempts) in [("retry.1s", 1), ("retry.5s", 2), ("retry.30s", 3)] {
        until_true(&format!("attempt {attempts}"), async || {
            daemon.metric("regrant_commands_total", &["user.put", "outcome=\"retried\""]).await >= attempts
        })
        .await;
        if queue == "retry.30s" {
            until_true("the message in its retry queue", async || client.depth(queue).await == 1).await;
        }
    }
    let log = daemon.log();
    for attempt in 1..=3 {
        assert!(log.contains(&format!("attempt={attempt}")), "{log}");
    }
    assert!(!client.has_reply(&poison));
    assert_eq!(client.depth("dead").await, 0);
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn after_the_last_attempt_it_is_a_dead_letter_and_the_caller_hears_of_it() {
    let (place, _daemon) = Plan::default().start().await;
    place.run(TRIGGER).await;
    let client = place.client().await;
    let mut last = put("poison");
    last.headers.insert("x-regrant-attempts".into(), lapin::types::AMQPValue::LongLongInt(5));
    let reply = client.ask(last.clone()).await;
    assert_eq!(reply["error"]["code"], "internal", "{reply}");
    let letter = &client.dead(1).await[0];
    assert_eq!(letter.header("x-regrant-reason"), "internal");
    assert!(letter.header("x-regrant-detail").contains("poisoned"), "{letter:?}");
    assert_eq!(letter.header("x-regrant-attempts"), "6");
    assert_eq!(letter.body, last.body);
}
