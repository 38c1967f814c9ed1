//! Several daemons on one broker and database.

use std::time::Duration;

use serde_json::json;

use crate::broker::proxy::Proxy;
use crate::harness::{Client, Command, Place, Plan, a_moment, address, mails, server, until_true};
use crate::smtp_server::Step;

#[tokio::test]
async fn two_daemons_share_the_work_and_each_request_is_served_once() {
    let place = Place::new().await;
    let daemons = [place.start().await, place.start().await];
    let client = place.client().await;
    let events = client.events("email.sent").await;
    client.users((0..200).map(|n| format!("u{n}"))).await;
    let commands: Vec<Command> = (0..200)
        .map(|n| Command::new("password.reset.request", json!({ "user": { "id": format!("u{n}") } })))
        .collect();
    for correlation in client.begin_all(&commands).await {
        assert_eq!(client.reply(&correlation).await["ok"], true);
    }
    until_true("200 mails", async || place.mail.messages().len() >= 200).await;
    a_moment().await;
    let mut to: Vec<String> = mails(&place.mail).into_iter().map(|mail| mail.to).collect();
    to.sort();
    to.dedup();
    assert_eq!((to.len(), place.mail.messages().len()), (200, 200));
    assert_eq!(place.count("tickets where state = 'open'").await, 200);

    let mut served = 0;
    for daemon in &daemons {
        let of_one = daemon.metric("regrant_commands_total", &["password.reset.request", "outcome=\"ok\""]).await;
        assert!(of_one > 0, "one daemon did everything");
        served += of_one;
    }
    assert_eq!(served, 200);
    for _ in 0..200 {
        events.next().await;
    }
    assert!(events.try_next().await.is_none());
    for daemon in daemons {
        assert_eq!(daemon.stop().await, 0);
    }
}

#[tokio::test]
async fn daemons_that_start_together_migrate_once() {
    let place = Place::new().await;
    let mut daemons = [place.launch(), place.launch(), place.launch()];
    for daemon in &mut daemons {
        daemon.wait_until_ready().await;
    }
    let client = place.client().await;
    client.user("ada").await;
}

#[tokio::test]
async fn a_persons_events_keep_their_order_whichever_daemon_acts() {
    let place = Place::new().await;
    let _daemons = [place.start().await, place.start().await];
    let client = place.client().await;
    let events = client.events("user.*").await;
    client.users((0..10).map(|n| format!("u{n}"))).await;
    for round in 0..20 {
        let name = if round % 2 == 0 { "user.block" } else { "user.unblock" };
        let commands: Vec<Command> =
            (0..10).map(|n| Command::new(name, json!({ "user": { "id": format!("u{n}") } }))).collect();
        for correlation in client.begin_all(&commands).await {
            assert_eq!(client.reply(&correlation).await["ok"], true);
        }
    }
    let mut by_person = std::collections::BTreeMap::<String, Vec<String>>::new();
    for _ in 0..210 {
        let event = events.next().await;
        by_person.entry(event.body["subject"].as_str().unwrap().to_owned()).or_default().push(event.routing_key);
    }
    for (person, told) in by_person {
        let expected = (0..20).map(|round| if round % 2 == 0 { "user.blocked" } else { "user.unblocked" });
        let expected: Vec<&str> = std::iter::once("user.created").chain(expected).collect();
        assert_eq!(told, expected, "{person}");
    }
}

/// Whoever acts in a batch is kept from being erased until it ends, and from nothing else: what the batch of another daemon
/// writes of them does not wait for it. A new username does.
#[tokio::test]
async fn whoever_acts_in_a_batch_can_be_changed_meanwhile() {
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.user("mia").await;
    place.run("begin; select from users where id = 'mia' for key share").await;
    client.ok("user.block", json!({ "user": { "id": "mia" } })).await;
    client.ok("user.unblock", json!({ "user": { "id": "mia" } })).await;
    let user = json!({ "id": "mia", "username": "maria", "email": "maria@example.com" });
    let renaming = client.begin(&Command::new("user.put", json!({ "user": user }))).await;
    until_true("somebody to wait for the row", async || place.waiting_for_locks().await > 0).await;
    place.run("commit").await;
    assert_eq!(client.reply(&renaming).await["ok"], true);
    let named = place.count("users where (username, username_key) = ('maria', 'maria')").await;
    assert_eq!(named, 1);
}

async fn request_all(client: &Client, people: usize) {
    client.users((0..people).map(|n| format!("u{n}"))).await;
    let request = |n| Command::new("password.reset.request", json!({ "user": { "id": format!("u{n}") } }));
    let requests: Vec<Command> = (0..people).map(request).collect();
    for correlation in client.begin_all(&requests).await {
        assert_eq!(client.reply(&correlation).await["ok"], true);
    }
}

/// A machine that is suspended, say: what it was about to send, others have sent when it goes on.
#[tokio::test]
async fn a_daemon_that_was_frozen_does_not_send_what_others_have_sent() {
    const CONNECTIONS: usize = 2;
    /// Mails that travel together on a connection.
    const TOGETHER: usize = 4;
    let (place, frozen) = Plan::default().set("mail.smtp.connections", CONNECTIONS).start().await;
    let client = place.client().await;
    place.mail.wait_at(Step::Data, Duration::from_secs(2));
    request_all(&client, 40).await;
    until_true("mail on its way", async || place.mail.connections() > 0).await;
    frozen.signal("STOP");
    place.mail.heal();
    let other = place.start().await;
    until_true("the other one to send them all", async || place.count("emails where state <> 'sent'").await == 0).await;
    frozen.signal("CONT");
    assert_eq!(frozen.stop().await, 0);
    drop(other);
    let sent = mails(&place.mail).len();
    assert!(sent <= 40 + CONNECTIONS * TOGETHER, "{sent} mails for 40 people");
}

/// While the database is away nobody can prolong a lease or write that a mail was accepted.
#[tokio::test]
async fn a_mail_that_was_accepted_while_the_database_was_away_is_not_sent_by_another_daemon() {
    let proxy = Proxy::start(address(&server("DATABASE_URL"), 5432)).await;
    let (place, _daemon) = Plan::default().database_address(&proxy.address).start().await;
    let mut other = place.start().await;
    let client = place.client().await;
    place.mail.wait_at(Step::Data, Duration::from_secs(2));
    request_all(&client, 12).await;
    until_true("mail on its way", async || place.mail.connections() > 0).await;
    proxy.refuse(true);
    proxy.cut();
    // Longer than a lease lasts.
    tokio::time::sleep(Duration::from_secs(17)).await;
    proxy.refuse(false);
    other.wait_until_ready().await;
    until_true("all on record", async || place.count("emails where state <> 'sent'").await == 0).await;
    assert_eq!(mails(&place.mail).len(), 12, "each once");
}
