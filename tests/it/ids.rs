//! Ids: those that no profile may have, and those that are used again.

use serde_json::{Value, json};

use crate::harness::{Command, Place};

fn profile(id: &str, username: &str) -> Value {
    json!({ "id": id, "username": username, "email": format!("{username}@example.com") })
}

/// A profile that was put before the name of systems was nobody's.
#[tokio::test]
async fn erasing_a_profile_that_is_called_as_systems_are_leaves_what_those_did() {
    let place = Place::new().await;
    let _daemon = place.start().await;
    let client = place.client().await;
    assert_eq!(client.error("user.put", json!({ "user": profile("system", "robot") })).await, "invalid_body");
    client.ok("user.put", json!({ "user": profile("robot", "robot") })).await;
    client.user("bob").await;
    client.ok("user.block", json!({ "user": { "id": "bob" }, "actor": "system" })).await;
    place.run("update users set id = 'system' where id = 'robot'").await;
    client.ok("user.block", json!({ "user": { "id": "system" }, "actor": "system" })).await;
    client.ok("user.erase", json!({ "user": { "id": "system" }, "reason": "not a person" })).await;
    assert_eq!(place.count("activity where kind = 'user.block' and actor = 'system'").await, 2);
    assert_eq!(place.count("activity where user_id = 'system' or actor like 'erased:%'").await, 0);
}

/// An app knows a stateless session by the id and the epoch in it: those of whoever had the id before must not pass.
#[tokio::test]
async fn an_id_that_is_used_again_goes_on_with_its_epoch() {
    let place = Place::new().await;
    let _daemons = [place.start().await, place.start().await];
    let client = place.client().await;
    let events = client.events("#").await;
    let put = async |id: &str| {
        client.ok("user.put", json!({ "user": profile(id, id) })).await["user"]["session_epoch"].clone()
    };
    let erase = async |id: &str| client.ok("user.erase", json!({ "user": { "id": id }, "reason": "asked" })).await;
    assert_eq!(put("ada").await, 0);
    client.ok("session.force_logout", json!({ "users": [{ "id": "ada" }] })).await;
    client.ok("session.impersonate", json!({ "user": { "id": "ada" }, "reason": "help" })).await;
    erase("ada").await;
    assert_eq!(put("ada").await, 2);
    erase("ada").await;
    assert_eq!((put("ada").await, put("bob").await), (json!(3), json!(0)));
    // Whatever the profile comes with, and together with others.
    erase("ada").await;
    let commands = ["ada", "eve"].map(|id| Command::new("invite.send", json!({ "user": profile(id, id) })));
    for correlation in client.begin_all(&commands).await {
        assert_eq!(client.reply(&correlation).await["ok"], true);
    }
    for (id, epoch) in [("ada", 4), ("eve", 0)] {
        assert_eq!(client.ok("user.get", json!({ "user": { "id": id } })).await["user"]["session_epoch"], epoch);
    }
    let told = events.up_to("user.erased").await;
    let revoked = &told[told.len() - 2];
    assert_eq!((revoked.routing_key.as_str(), &revoked.body["subject"]), ("session.revoked", &json!("ada")));
    let data = &revoked.body["data"];
    assert_eq!((&data["all"], &data["session_epoch"], &data["reason"]), (&json!(true), &json!(2), &json!("erased")));
}
