//! No password, token or code is kept or told anywhere but where it must be; and logs name nobody.

use std::fmt::Write as _;

use serde_json::json;

use crate::harness::{Command, NEW_PASSWORD, PASSWORD, Place, Plan, mail_to, mails, until_true};
use crate::smtp_server::Step;

const WRONG: &str = "Wrong-Guess-4711-Pony";
const TYPED_WRONG: &str = "Mistyped-Field-0815-Cow";

/// How the person is called; none of it belongs into a log.
const USERNAME: &str = "countess.of.l";
const NAME: &str = "Augusta Byron";

/// A run in which every kind of secret passes; returns all of them, and all that the daemon told the world.
async fn run(place: &Place) -> (Vec<String>, String) {
    let daemon = place.start().await;
    let client = place.client().await;
    let events = client.events("#").await;
    let mut secrets: Vec<String> = [PASSWORD, NEW_PASSWORD, WRONG, TYPED_WRONG].map(str::to_owned).into();

    let ada = json!({
        "id": "ada", "username": USERNAME, "email": "ada.lovelace@example.com", "display_name": NAME,
    });
    client.ok("invite.send", json!({ "user": ada })).await;
    let address = "ada.lovelace@example.com";
    let token = mail_to(&place.mail, address, 1).await.token();
    client.ok("invite.accept", json!({ "token": token, "new_password": PASSWORD })).await;
    secrets.push(token);
    let login = |password| json!({ "user": { "email": address }, "password": password });
    client.ok("session.login", login(PASSWORD)).await;
    client.ok("session.login", json!({ "user": { "username": USERNAME }, "password": PASSWORD })).await;
    client.ok("user.search", json!({ "q": "Augusta" })).await;
    assert_eq!(client.error("session.login", login(WRONG)).await, "invalid_credentials");

    for method in ["link", "code"] {
        let nobody = json!({ "user": { "email": "nobody.known@example.com" } });
        client.ok("password.reset.request", nobody).await;
        client.ok("password.reset.request", json!({ "user": { "email": address }, "method": method })).await;
    }
    until_true("the mail with the code", async || {
        mails(&place.mail).iter().any(|mail| mail.header("subject").to_lowercase().contains("code"))
    })
    .await;
    let all = mails(&place.mail);
    let link = all.iter().find(|mail| mail.text().contains("/reset?token=")).unwrap();
    secrets.push(link.token());
    let text = all.iter().find(|mail| mail.header("subject").to_lowercase().contains("code")).unwrap().text();
    let code = text.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 8).unwrap().to_owned();
    let complete = json!({ "user": { "id": "ada" }, "code": code, "new_password": "short" });
    assert_eq!(client.error("password.reset.complete", complete).await, "password_rejected");
    let complete = json!({ "user": { "id": "ada" }, "code": code, "new_password": NEW_PASSWORD });
    client.ok("password.reset.complete", complete).await;
    secrets.push(code);
    // Where it does not belong, and in a message that becomes a dead letter.
    assert_eq!(
        client.error("session.login", json!({ "user": TYPED_WRONG, "password": TYPED_WRONG })).await,
        "invalid_body"
    );
    client.publish(Command::raw("session.login", format!("{{\"password\": \"{TYPED_WRONG}\""))).await;
    place.mail.refuse_rcpt("550 5.1.1 <ada.lovelace@example.com>: no such user", None);
    client.ok("password.reset.request", json!({ "user": { "id": "ada" } })).await;
    until_true("the refusal", async || place.count("emails where state = 'failed'").await == 1).await;

    let mut told = String::new();
    for event in events.up_to("email.failed").await {
        told.push_str(&event.body.to_string());
    }
    for letter in client.dead(2).await {
        // Nobody can know what stands in a field where no secret belongs.
        let body = String::from_utf8_lossy(&letter.body).replace(&format!("\"user\":\"{TYPED_WRONG}\""), "");
        let _ = write!(told, "{body} {:?}", letter.headers());
    }
    told.push_str(&daemon.get("/metrics").await.1);
    assert_eq!(daemon.stop().await, 0);
    (secrets, told)
}

#[tokio::test]
async fn secrets_are_nowhere_but_in_their_mails() {
    let place = Plan::default().set("login.max_failures", 100).prepare().await;
    let (secrets, told) = run(&place).await;
    let (stored, logged) = (place.everything_stored().await, place.logs());
    assert!(stored.contains("ada.lovelace@example.com") && stored.contains("$argon2id$"), "nothing to look through");
    for secret in &secrets {
        assert!(!stored.contains(secret.as_str()), "{secret} is in the database");
        assert!(!logged.contains(secret.as_str()), "{secret} is in the log");
        assert!(!told.contains(secret.as_str()), "{secret} is in an event, dead letter or metric");
    }
    assert!(!logged.contains("$argon2id$"), "a hash is in the log");
    names_nobody(&logged);
}

/// No line holds an address, a name, or a part of one.
fn names_nobody(logged: &str) {
    for personal in ["ada.lovelace", "nobody.known", USERNAME, "Augusta", "Byron"] {
        let line = logged.lines().find(|line| line.contains(personal));
        assert!(line.is_none(), "{personal} is in the log: {line:?}");
    }
}

#[tokio::test]
async fn the_log_in_json_holds_no_secret_and_names_nobody() {
    let place = Plan::default().set("log.format", "json").set("login.max_failures", 100).prepare().await;
    let (secrets, _) = run(&place).await;
    let logged = place.logs();
    for line in logged.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(logged.contains("\"command\":\"session.login\""), "nothing to look through");
    for secret in &secrets {
        assert!(!logged.contains(secret.as_str()), "{secret} is in the log");
    }
    names_nobody(&logged);
}

#[tokio::test]
async fn the_most_talkative_log_holds_no_secret_either() {
    let place = Plan::default().set("log.level", "trace").prepare().await;
    let (secrets, _) = run(&place).await;
    let logged = place.logs();
    assert!(logged.contains("DEBUG") || logged.contains("TRACE"), "not talkative at all");
    for secret in &secrets {
        let line = logged.lines().find(|line| line.contains(secret.as_str()));
        assert!(line.is_none(), "{secret} is in the log: {line:?}");
    }
}

/// Filters like to show the link that they object to; the same mail again holds the same link, which is known by then.
#[tokio::test]
async fn a_mail_server_that_quotes_a_link_or_code_gives_it_away_to_nobody() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    let events = client.events("email.*").await;
    let (mut secrets, mut told) = (Vec::new(), String::new());
    for (id, method) in [("ada", "link"), ("bob", "code")] {
        client.user(id).await;
        client.ok("password.reset.request", json!({ "user": { "id": id }, "method": method })).await;
        let mail = mail_to(&place.mail, &format!("{id}@example.com"), 1).await;
        let text = mail.text();
        let secret = match method {
            "link" => mail.token(),
            _ => text.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 8).unwrap().to_owned(),
        };
        place.mail.reply_at(Step::Content, &format!("550 5.7.1 blocked [https://app.example.com/?token={secret}&x]"));
        let again = client.ok("password.reset.resend", json!({ "user": { "id": id } })).await;
        told.push_str(&events.up_to("email.failed").await.last().unwrap().body.to_string());
        place.mail.heal();
        let bounce =
            json!({ "email_id": again["email_id"], "kind": "bounced", "detail": format!("550 {secret}: spam") });
        client.ok("email.report", bounce).await;
        told.push_str(&events.up_to("email.bounced").await.last().unwrap().body.to_string());
        told.push_str(&client.ok("history.emails", json!({ "user": { "id": id } })).await.to_string());
        told.push_str(&client.ok("history.activity", json!({ "user": { "id": id } })).await.to_string());
        secrets.push(secret);
    }
    assert_eq!(daemon.stop().await, 0);
    for said in [place.everything_stored().await, place.logs(), told] {
        assert!(said.contains("[redacted]"), "nothing to look through: {said}");
        for secret in &secrets {
            assert!(!said.contains(secret.as_str()), "{secret}: {said}");
        }
    }
}
