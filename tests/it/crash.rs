//! SIGKILL at the worst moment.

use std::collections::BTreeMap;

use serde_json::json;

use crate::harness::{Command, NEW_PASSWORD, Place, mail_to, mails, until_true};
use crate::smtp_server::Step;

fn request(n: usize) -> Command {
    Command::new("password.reset.request", json!({ "user": { "id": format!("u{n}") } }))
}

#[tokio::test]
async fn a_killed_daemon_leaves_nobody_without_a_mail() {
    let place = Place::new().await;
    let daemon = place.start().await;
    let client = place.client().await;
    let events = client.events("password.reset.requested").await;
    client.users((0..200).map(|n| format!("u{n}"))).await;

    let publishing = client.publish_all((0..200).map(request));
    let killing = async {
        until_true("the first ticket", async || place.count("tickets").await > 0).await;
        daemon.kill();
    };
    tokio::join!(publishing, killing);
    let daemon = place.launch();
    until_true("some mails", async || place.mail.messages().len() >= 40).await;
    daemon.kill();
    let daemon = place.start().await;

    until_true("all mails on record", async || place.count("emails where state = 'sent'").await == 200).await;
    assert_eq!(place.count("emails").await, 200);
    let open = "select count(distinct user_id) from tickets where state = 'open'";
    assert_eq!((place.count("tickets").await, place.value::<i64>(open).await), (200, 200));
    let mut by_person: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mail in mails(&place.mail) {
        by_person.entry(mail.to.clone()).or_default().push(mail.header("message-id"));
    }
    assert_eq!(by_person.len(), 200);
    for (person, mut ids) in by_person {
        assert!(ids.len() <= 3, "{person} got {} copies", ids.len());
        ids.dedup();
        assert_eq!(ids.len(), 1, "copies for {person} differ in their Message-ID: {ids:?}");
    }
    let mut told = std::collections::BTreeSet::new();
    while told.len() < 200 {
        told.insert(events.next().await.body["subject"].as_str().unwrap().to_owned());
    }
    // The link of before the crash is the one that works after it.
    let token = mail_to(&place.mail, "u7@example.com", 1).await.token();
    client.ok("password.reset.complete", json!({ "token": token, "new_password": NEW_PASSWORD })).await;
    assert_eq!(client.depth("dead").await, 0);
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_mail_that_was_in_flight_comes_again_under_the_same_message_id() {
    let place = Place::new().await;
    let daemon = place.start().await;
    let client = place.client().await;
    client.users(["u0", "u1"].map(str::to_owned)).await;
    // The server has the whole message, and the daemon does not know it yet.
    place.mail.hang_at(Step::Content);
    client.publish(request(0)).await;
    mail_to(&place.mail, "u0@example.com", 1).await;
    daemon.kill();
    place.mail.heal();

    let daemon = place.start().await;
    client.publish(request(1)).await;
    mail_to(&place.mail, "u1@example.com", 1).await;
    let second = mail_to(&place.mail, "u0@example.com", 2).await;
    let first = mail_to(&place.mail, "u0@example.com", 1).await;
    assert_eq!(first.header("message-id"), second.header("message-id"));
    assert_eq!(first.token(), second.token());
    until_true("the mail on record", async || {
        place.count("emails where user_id = 'u0' and state = 'sent' and attempts = 2").await == 1
    })
    .await;
    assert_eq!(daemon.stop().await, 0);
}
