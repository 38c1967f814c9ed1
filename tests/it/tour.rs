//! The main job from end to end.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Command, NEW_PASSWORD, PASSWORD, Place, mail_to};

#[tokio::test]
async fn a_person_is_invited_signs_in_resets_and_is_signed_out() {
    let place = Place::new().await;
    let daemon = place.start().await;
    let client = place.client().await;
    let events = client.events("#").await;

    let ada = json!({ "id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada" });
    let invited = client.ok("invite.send", json!({ "user": ada })).await;
    assert_eq!(invited["user_id"], "ada");
    let invitation = mail_to(&place.mail, "ada@example.com", 1).await;
    assert!(invitation.text().contains("https://app.example.com/invite?token="), "{}", invitation.text());
    client.ok("invite.accept", json!({ "token": invitation.token(), "new_password": PASSWORD })).await;

    let login = json!({ "user": { "email": "Ada@Example.com" }, "password": PASSWORD });
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let session = client.ok("session.login", login.clone()).await;
        sessions.push(session["session_id"].as_str().unwrap().to_owned());
    }
    assert_ne!(sessions[0], sessions[1]);
    assert_eq!(active(&client, &sessions).await, [true, true]);

    let before = place.mail.messages_to("ada@example.com").len();
    let asked = client.ok("password.reset.request", json!({ "user": { "username": "ADA" } })).await;
    assert_eq!(asked, json!({ "accepted": true }));
    let mut number = before + 1;
    let reset = loop {
        let mail = mail_to(&place.mail, "ada@example.com", number).await;
        if mail.text().contains("https://app.example.com/reset?token=") {
            break mail;
        }
        number += 1;
    };
    let inspected = client.ok("password.reset.inspect", json!({ "token": reset.token() })).await;
    assert_eq!((&inspected["valid"], &inspected["username"]), (&json!(true), &json!("ada")));
    let done = json!({ "token": reset.token(), "new_password": NEW_PASSWORD });
    let completed = client.ok("password.reset.complete", done.clone()).await;
    assert_eq!(completed, json!({ "user_id": "ada", "sessions_ended": 2 }));
    assert_eq!(active(&client, &sessions).await, [false, false]);
    assert_eq!(client.error("password.reset.complete", done).await, "token_used");
    assert_eq!(client.error("session.login", login).await, "invalid_credentials");

    let login = json!({ "user": { "id": "ada" }, "password": NEW_PASSWORD });
    let session = client.ok("session.login", login).await["session_id"].as_str().unwrap().to_owned();
    let ended = client.ok("session.force_logout", json!({ "users": [{ "id": "ada" }, { "id": "ghost" }] })).await;
    assert_eq!(ended["ended"], json!([{ "user_id": "ada", "sessions": 1 }]));
    assert_eq!(ended["not_found"], json!([{ "id": "ghost" }]));
    assert_eq!(active(&client, &[session]).await, [false]);

    client.ok("user.block", json!({ "user": { "id": "ada" } })).await;
    let mut told = Vec::new();
    let mut ids = BTreeSet::new();
    for event in events.up_to("user.blocked").await {
        let (key, body) = (event.routing_key, event.body);
        let content_type = event.properties.content_type().as_ref().unwrap().to_string();
        assert!(content_type.starts_with("application/cloudevents+json"), "{content_type}");
        assert_eq!(event.properties.delivery_mode(), &Some(2));
        assert_eq!((&body["specversion"], &body["source"]), (&json!("1.0"), &json!("regrant")), "{body}");
        assert_eq!((&body["type"], &body["subject"]), (&json!(format!("regrant.{key}")), &json!("ada")), "{body}");
        assert!(body["time"].as_str().unwrap().ends_with('Z'), "{body}");
        assert!(ids.insert(body["id"].as_str().unwrap().to_owned()), "{body}");
        if !key.starts_with("email.") || key == "email.verified" {
            told.push(key);
        }
    }
    assert_eq!(
        told,
        [
            "user.created",
            "invite.sent",
            "password.changed",
            "email.verified",
            "invite.accepted",
            "session.opened",
            "session.opened",
            "password.reset.requested",
            "password.changed",
            "session.revoked",
            "session.opened",
            "session.revoked",
            "user.blocked"
        ]
    );
    assert_eq!(place.mail.violations(), Vec::<String>::new());
    assert_eq!(daemon.stop().await, 0);
}

async fn active(client: &crate::harness::Client, sessions: &[String]) -> Vec<bool> {
    let mut active = Vec::new();
    for session in sessions {
        let checked = client.ok("session.check", json!({ "session_id": session })).await;
        active.push(checked["active"].as_bool().unwrap());
    }
    active
}

#[tokio::test]
async fn replies_are_as_the_contract_says() {
    let place = Place::new().await;
    let daemon = place.start().await;
    let client = place.client().await;
    let command = Command::new("password.reset.request", json!({ "user": { "id": "ada" } })).id("m-1");
    let (body, properties) = client.full_reply(&client.begin(&command).await).await;
    assert_eq!(body, json!({ "ok": true, "message_id": "m-1", "result": { "accepted": true } }));
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "password.reset.request");
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_ne!(properties.delivery_mode(), &Some(2));

    let mut refused = client.ask(Command::new("user.block", json!({ "user": { "id": "ghost" } })).id("m-2")).await;
    let message = refused["error"]["message"].take();
    assert!(message.as_str().is_some_and(|text| !text.is_empty()), "{message}");
    let error = json!({ "code": "user_not_found", "message": Value::Null, "details": {} });
    assert_eq!(refused, json!({ "ok": false, "message_id": "m-2", "error": error }));
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_stopped_daemon_has_finished_what_it_began_and_the_next_one_goes_on() {
    let place = Place::new().await;
    let daemon = place.start().await;
    let client = place.client().await;
    client.users((0..60).map(|n| format!("z{n}"))).await;
    let request = |n| Command::new("password.reset.request", json!({ "user": { "id": format!("z{n}") } }));
    client.publish_all((0..30).map(request)).await;
    assert_eq!(daemon.stop().await, 0);
    client.publish_all((30..60).map(request)).await;
    let daemon = place.start().await;
    for n in 0..60 {
        mail_to(&place.mail, &format!("z{n}@example.com"), 1).await;
    }
    assert_eq!(place.mail.messages().len(), 60);
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn every_known_series_is_there_at_the_start_and_holds_nobodys_data() {
    let place = Place::new().await;
    let daemon = place.start().await;
    for (name, label) in [
        ("regrant_commands_total", "command=\"password.reset.request\""),
        ("regrant_commands_in_flight", "lane=\"credentials\""),
        ("regrant_emails_total", "template=\"password_reset_link\""),
        ("regrant_dead_letters_total", "reason=\"invalid_body\""),
        ("regrant_template_valid", "template=\"invite\""),
        ("regrant_broker_connected", ""),
        ("regrant_database_up", ""),
        ("regrant_reconnects_total", "target=\"database\""),
        ("regrant_logins_total", "outcome=\"invalid_credentials\""),
        ("regrant_tickets_total", "purpose=\"password_reset\""),
        ("regrant_build_info", "version="),
        ("process_open_fds", ""),
    ] {
        let all = daemon.metrics().await;
        let there = all.keys().any(|series| series.split('{').next() == Some(name) && series.contains(label));
        assert!(there, "{name} {label}");
    }
    assert_eq!(daemon.get("/healthz").await.0, 200);
    let client = place.client().await;
    client.user("zoe").await;
    client.ok("password.reset.request", json!({ "user": { "id": "zoe" } })).await;
    mail_to(&place.mail, "zoe@example.com", 1).await;
    daemon.until_metric_at_least("regrant_commands_total", &["password.reset.request", "outcome=\"ok\""], 1).await;
    assert!(daemon.metrics().await.keys().all(|series| !series.contains("zoe")));
    assert_eq!(daemon.stop().await, 0);
}
