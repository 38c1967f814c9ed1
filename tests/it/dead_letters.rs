//! Who sent a message stays known, whatever the daemon does with it.

use regrant::keys::KeyRing;
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

/// What `docs/operations.md` tells to do after the key file was stolen: rotate, and delete the older keys by hand.
#[tokio::test]
async fn whoever_stole_the_key_file_speaks_for_nobody_once_its_keys_are_gone() {
    let (place, daemon) = plain_daemon().await;
    let (client, shop) = (place.client().await, place.shop().await);
    client.user("ada").await;
    let file = place.home().join("regrant.keys");
    let stolen = KeyRing::load(&file).unwrap();
    let forged = |id: &str| {
        let command = Command::new("user.block", json!({ "user": { "id": "ada" } })).id(id);
        let signature = stolen.sign("publisher", &[b"guest", b"user.block", id.as_bytes(), &command.body]);
        command.header("x-regrant-publisher", "guest").header("x-regrant-signature", &signature)
    };
    place.shell(&["keys", "rotate"]).success();
    // As long as the key is in the file, what was signed with it is believed: a thief is as good as the daemon.
    assert_eq!(shop.ask(forged("m1")).await["ok"], true);
    client.ok("user.unblock", json!({ "user": { "id": "ada" } })).await;

    let text = std::fs::read_to_string(&file).unwrap();
    let kept: Vec<&str> = text.split_inclusive("\n\n").filter(|part| !part.contains("replaced_at")).collect();
    std::fs::write(&file, kept.concat()).unwrap();
    let left = KeyRing::load(&file).unwrap();
    assert!(left.has_same_index(&stolen) && left.summary().len() == 2, "{left:?}");
    assert_eq!(daemon.stop().await, 0);
    let _again = place.start().await;
    let refused = shop.ask(forged("m2")).await;
    assert_eq!(refused["error"]["code"], "invalid_message", "{refused}");
    assert!(!place.value::<bool>("select blocked from users where id = 'ada'").await);
}
