//! Keys are rotated under a running daemon, and nothing that was made with the old ones is lost.

use std::os::unix::fs::PermissionsExt as _;

use regrant::keys::KeyRing;
use regrant::store::{event_outbox, pool};
use regrant::world::QueuedEvent;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::harness::{Client, Daemon, NEW_PASSWORD, PASSWORD, Place, Plan, mail_to, until_true};

/// Tells a daemon that its key file changed, and waits until it uses it.
async fn reload(place: &Place, daemon: &Daemon, times: usize) {
    daemon.signal("HUP");
    until_true("the daemon to read the keys", async || {
        place.logs().matches("the keys changed and are in use").count() == times
    })
    .await;
}

fn keys(place: &Place) -> Value {
    serde_json::from_str(&place.shell(&["keys", "show", "--json"]).success()).unwrap()
}

fn id_of(keys: &Value, kind: &str, state: &str) -> String {
    let all = keys["keys"].as_array().unwrap();
    let found = all.iter().find(|key| key["kind"] == kind && key["state"] == state);
    found.unwrap_or_else(|| panic!("no {kind} key is {state}: {keys}"))["id"].as_str().unwrap().to_owned()
}

async fn code(place: &Place, address: &str, number: usize) -> String {
    let text = mail_to(&place.mail, address, number).await.text();
    text.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 8).unwrap().to_owned()
}

fn sealed(announced: &Value, secret: &str) -> Value {
    let public_key = announced["public_key"].as_str().unwrap();
    json!({ "sealed": regrant::keys::seal_to(public_key, secret).unwrap(), "key_id": announced["key_id"] })
}

async fn announced(client: &Client) -> Value {
    client.ok("daemon.info", json!({})).await["sealing_key"].clone()
}

#[tokio::test]
async fn what_was_sent_before_a_rotation_works_afterwards() {
    let (place, daemon) = Plan::default().set("password_reset.min_interval", "0s").start().await;
    let client = place.client().await;
    for id in ["link", "code"] {
        client.user(id).await;
        client.ok("password.reset.request", json!({ "user": { "id": id }, "method": id })).await;
    }
    let token = mail_to(&place.mail, "link@example.com", 1).await.token();
    let digits = code(&place, "code@example.com", 1).await;
    let old = keys(&place);
    let old_seal = announced(&client).await;

    let said = place.shell(&["keys", "rotate"]).success();
    let new = keys(&place);
    for kind in ["token", "sealing"] {
        let (before, after) = (id_of(&old, kind, "current"), id_of(&new, kind, "current"));
        assert_ne!(before, after);
        assert_eq!(id_of(&new, kind, "accepted"), before);
        assert!(said.contains(&before) && said.contains(&after), "{said}");
    }
    assert!(said.contains("SIGHUP"), "{said}");
    let mode = std::fs::metadata(place.home().join("regrant.keys")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(announced(&client).await, old_seal, "not before it is told");
    reload(&place, &daemon, 1).await;

    // New links are made with the new key, and announced is the new one.
    assert_eq!(announced(&client).await["key_id"], id_of(&new, "sealing", "current"));
    client.user("late").await;
    client.ok("password.reset.request", json!({ "user": { "id": "late" } })).await;
    let late = mail_to(&place.mail, "late@example.com", 1).await.token();
    let used: String = place.value("select key_id from tickets where user_id = 'late'").await;
    assert_eq!(used, id_of(&new, "token", "current"));
    assert_eq!(client.ok("password.reset.inspect", json!({ "token": late })).await["username"], "late");

    // The old link and code, with passwords sealed to the old key.
    let done = json!({ "token": sealed(&old_seal, &token), "new_password": sealed(&old_seal, PASSWORD) });
    client.ok("password.reset.complete", done).await;
    let done = json!({ "user": { "id": "code" }, "code": digits, "new_password": NEW_PASSWORD });
    client.ok("password.reset.complete", done).await;
    let login = json!({ "user": { "id": "link" }, "password": sealed(&announced(&client).await, PASSWORD) });
    client.ok("session.login", login).await;

    // What waited for its mail while the keys changed is sent with the key of its ticket.
    place.mail.refuse_rcpt("451 4.3.0 later", None);
    client.ok("password.reset.request", json!({ "user": { "id": "late" } })).await;
    until_true("the first attempt", async || place.count("email_attempts").await > 0).await;
    place.shell(&["keys", "rotate", "--token"]).success();
    reload(&place, &daemon, 2).await;
    place.mail.heal();
    let delayed = mail_to(&place.mail, "late@example.com", 2).await.token();
    client.ok("password.reset.inspect", json!({ "token": delayed })).await;
    assert_eq!(daemon.stop().await, 0);
    // The same after a restart.
    let _again = place.start().await;
    client.ok("password.reset.inspect", json!({ "token": delayed })).await;
}

#[tokio::test]
async fn daemons_with_files_of_their_own_rotate_in_two_steps() {
    let place = Place::new().await;
    let first = place.start().await;
    let second = place.start().await;
    let client = place.client().await;
    let before = keys(&place);
    place.shell(&["keys", "rotate", "--standby"]).success();
    let said = place.shell(&["keys", "rotate"]).failure();
    assert!(said.contains("is on standby") && said.contains("--promote"), "{said}");
    reload(&place, &first, 1).await;
    reload(&place, &second, 2).await;
    assert_eq!(announced(&client).await["key_id"], before["sealing_key"]["key_id"]);
    place.shell(&["keys", "rotate", "--promote"]).success();
    // One daemon uses the new keys, the other only knows them: it reads what the first one makes all the same.
    reload(&place, &first, 3).await;
    client.users((0..8).map(|n| format!("user{n}"))).await;
    for n in 0..8 {
        client.ok("password.reset.request", json!({ "user": { "id": format!("user{n}") } })).await;
    }
    for n in 0..8 {
        let token = mail_to(&place.mail, &format!("user{n}@example.com"), 1).await.token();
        client.ok("password.reset.inspect", json!({ "token": token })).await;
    }
    drop((first, second));
}

#[tokio::test]
async fn a_pepper_comes_into_use_without_a_restart() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.user("ada").await;
    client.ok("password.set", json!({ "user": { "id": "ada" }, "new_password": PASSWORD })).await;
    let hash = async || -> String { place.value("select password_hash from users").await };
    let login = json!({ "user": { "id": "ada" }, "password": PASSWORD });
    for round in 1..3 {
        let before = hash().await;
        place.shell(&["keys", "rotate", "--pepper"]).success();
        reload(&place, &daemon, round).await;
        client.ok("session.login", login.clone()).await;
        let after = hash().await;
        assert!(after != before && after.contains(",keyid="), "{before} {after}");
        client.ok("session.login", login.clone()).await;
        assert_eq!(hash().await, after);
    }
    assert!(place.shell(&["keys", "show"]).success().contains("pepper"));
}

#[tokio::test]
async fn a_key_file_of_no_use_changes_nothing() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    let before = announced(&client).await;
    let file = place.home().join("regrant.keys");
    let good = std::fs::read_to_string(&file).unwrap();
    let other = tempfile::tempdir().unwrap().path().join("other.keys");
    regrant::keys::KeyRing::generate(regrant::clock::now()).save_new(&other).unwrap();
    for (content, said) in [
        ("version = 1\n".to_owned(), "is not a usable key file"),
        (std::fs::read_to_string(&other).unwrap(), "has another [index] key"),
    ] {
        std::fs::write(&file, content).unwrap();
        daemon.signal("HUP");
        until_true(said, async || place.logs().contains(said)).await;
        assert_eq!(announced(&client).await, before);
    }
    std::fs::write(&file, good).unwrap();
    let secrets = std::fs::read_to_string(&file).unwrap();
    let secrets = secrets.lines().filter_map(|line| line.strip_prefix("secret = "));
    assert!(secrets.into_iter().all(|secret| !place.logs().contains(secret.trim_matches('"'))));
}

/// Daemons that share a key file read it again one after the other: one that lags behind leaves to the others what it cannot
/// read, and deletes nothing.
#[tokio::test]
async fn an_event_that_is_encrypted_with_a_newer_key_waits_for_a_daemon_that_has_it() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.user("ada").await;
    place.until_all_is_told().await;
    let events = client.events("user.*").await;

    place.shell(&["keys", "rotate"]).success();
    let newer = KeyRing::load(&place.home().join("regrant.keys")).unwrap();
    let told = json!({ "subject": "eve", "id": "1" }).to_string();
    let erased = QueuedEvent { subject: "x".into(), name: "user.erased", body: newer.encrypt_at_rest(&told).unwrap() };
    let connection = pool::connect(&SecretString::from(place.database_url())).await.unwrap();
    event_outbox::insert(&connection, &[erased], regrant::clock::now()).await.unwrap();
    client.ok("user.block", json!({ "user": { "id": "ada" } })).await;
    assert_eq!(events.next().await.routing_key, "user.blocked", "others do not wait");
    until_true("the daemon to say what it waits for", async || {
        place.logs().contains("encrypted with a key which this daemon does not have")
    })
    .await;
    assert_eq!(place.value::<i64>("select sum(count) from event_outbox").await, 1);

    reload(&place, &daemon, 1).await;
    let event = events.next().await;
    assert_eq!((event.routing_key.as_str(), &event.body["subject"]), ("user.erased", &json!("eve")));
    place.until_all_is_told().await;
}
