//! Ids: those that no profile may have, and those that are used again.

use serde_json::{Value, json};

use crate::harness::Place;

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
