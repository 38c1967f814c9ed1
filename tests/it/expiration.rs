//! A command that nobody waits for any more is not executed.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Command, Place, a_moment};

fn put(id: &str) -> Command {
    let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
    Command::new("user.put", json!({ "user": user }))
}

#[tokio::test]
async fn what_expired_while_no_daemon_ran_is_not_executed() {
    let place = Place::new().await;
    assert_eq!(place.start().await.stop().await, 0);
    let client = place.client().await;
    client.publish(put("late").expires_after_ms(100)).await;
    client.publish(put("patient").expires_after_ms(600_000)).await;
    a_moment().await;
    let _daemon = place.start().await;
    client.user("last").await;
    let ids: Vec<String> = place.rows("select id from users order by id").await.iter().map(|row| row.get(0)).collect();
    assert_eq!(ids, ["last", "patient"]);
}

#[tokio::test]
async fn what_expires_in_the_daemons_own_hands_is_answered_and_not_executed() {
    let place = Place::new().await;
    let daemon = place.start().await;
    let client = place.client().await;
    // The broker hands them over in time, and so does not drop them any more.
    daemon.signal("STOP");
    let late = client.begin(&put("late").expires_after_ms(4_000)).await;
    let patient = client.begin(&put("patient").expires_after_ms(600_000)).await;
    // A timestamp has whole seconds.
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    daemon.signal("CONT");
    assert_eq!(client.reply(&patient).await["ok"], true);
    let reply = client.reply(&late).await;
    assert_eq!(reply["error"]["code"], "expired", "{reply}");
    assert_eq!(place.count("users").await, 1);
    assert_eq!(client.depth("dead").await, 0);
    daemon.until_metric("regrant_commands_total", &["user.put", "outcome=\"expired\""], 1).await;
}

#[tokio::test]
async fn the_timestamp_says_since_when_the_caller_waits() {
    let place = Place::new().await;
    let _daemon = place.start().await;
    let client = place.client().await;
    let reply = client.ask(put("late").asked(-60).expires_after_ms(30_000)).await;
    assert_eq!(reply["error"]["code"], "expired", "{reply}");
    assert_eq!(client.ask(put("patient").asked(-60).expires_after_ms(600_000)).await["ok"], true);
    assert_eq!(place.count("users").await, 1);
}

#[tokio::test]
async fn a_sign_in_that_nobody_waits_for_is_counted_as_one() {
    let place = Place::new().await;
    let daemon = place.start().await;
    let client = place.client().await;
    let login = json!({ "user": { "id": "ada" }, "password": "late" });
    let late = Command::new("session.login", login).asked(-60).expires_after_ms(30_000);
    assert_eq!(client.ask(late).await["error"]["code"], "expired");
    assert_eq!(daemon.metric("regrant_logins_total", &["outcome=\"expired\""]).await, 1);
}
