//! Who sent a message stays known, whatever the daemon does with it.

use serde_json::json;

use crate::harness::{Command, Dead, Place, Plan, server};

const SHOP: &str = "[publishers.shop]\ncommands = [\"password.reset.request\", \"user.block\"]";

fn garbage() -> Command {
    Command::raw("password.reset.request", "{not json")
}

fn user_id(letter: &Dead) -> Option<String> {
    letter.properties.user_id().as_ref().map(ToString::to_string)
}

#[tokio::test]
async fn a_command_has_the_rights_of_its_publisher_and_not_of_the_daemons_user() {
    let (place, _daemon) = Plan::default().toml(SHOP).start().await;
    let (client, shop) = (place.client().await, place.shop().await);
    client.user("ada").await;
    let request = json!({ "user": { "id": "ada" } });
    assert_eq!(shop.ok("password.reset.request", request.clone()).await, json!({ "accepted": true }));
    // Listed, but not the system, and without the right to name an actor.
    assert_eq!(shop.error("user.block", request.clone()).await, "actor_required");
    assert_eq!(shop.error("user.unblock", request.clone()).await, "publisher_not_allowed");
    let nobody = Command { signed: false, ..Command::new("password.reset.request", request) };
    assert_eq!(shop.ask(nobody).await["error"]["code"], "publisher_not_allowed");
}

#[tokio::test]
async fn an_impersonating_daemon_keeps_the_user_id_of_a_dead_letter() {
    let (place, _daemon) = Plan::default().toml(SHOP).start().await;
    let (client, shop) = (place.client().await, place.shop().await);
    shop.publish(garbage()).await;
    let letter = &client.dead(1).await[0];
    assert_eq!(user_id(letter).as_deref(), Some("shop"));
    assert_eq!(letter.header("x-regrant-publisher"), "");
}

/// A daemon whose broker user may not speak for others.
async fn plain_daemon() -> (Place, crate::harness::Daemon) {
    let url = server("AMQP_SHOP_URL");
    Plan::default().toml(SHOP).broker_url(url).start().await
}

#[tokio::test]
async fn another_daemon_signs_the_publishers_name() {
    let (place, _daemon) = plain_daemon().await;
    let client = place.client().await;
    client.user("ada").await;
    client.publish(garbage()).await;
    let letter = &client.dead(1).await[0];
    assert_eq!(user_id(letter), None);
    assert_eq!(letter.header("x-regrant-publisher"), "guest");
    assert!(letter.header("x-regrant-signature").len() > 20);
    assert_eq!(letter.body, garbage().body);
}

#[tokio::test]
async fn a_signature_holds_for_its_own_message_only() {
    let (place, _daemon) = plain_daemon().await;
    let (client, shop) = (place.client().await, place.shop().await);
    client.user("ada").await;
    let forged = Command::new("user.block", json!({ "user": { "id": "ada" } })).header("x-regrant-publisher", "guest");
    let refused = shop.ask(forged.clone().header("x-regrant-signature", "AAAA")).await;
    assert_eq!(refused["error"]["code"], "invalid_message", "{refused}");
    assert_eq!(client.dead(1).await[0].header("x-regrant-reason"), "invalid_message");

    // A genuine one, of another message.
    client.publish(garbage()).await;
    let genuine = client.dead(1).await[0].header("x-regrant-signature");
    let refused = shop.ask(forged.header("x-regrant-signature", &genuine)).await;
    assert_eq!(refused["error"]["code"], "invalid_message", "{refused}");
    assert!(!place.value::<bool>("select blocked from users where id = 'ada'").await);

    // What becomes of a forgery does not bear the forged name as if the daemon had vouched for it.
    let letter = &client.dead(1).await[0];
    assert_ne!(user_id(letter).as_deref(), Some("guest"));
}
