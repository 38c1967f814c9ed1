//! Mails that are sent again, reported on, held back; and addresses that are proven.

use regrant::domain::email_state::EmailState;
use regrant::store::emails::{Outcome, finish};
use regrant::store::pool;
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, Daemon, NEW_PASSWORD, Place, Plan, a_moment, mail_to, mails, until};

async fn start() -> (Place, Daemon, Client) {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.user("ada").await;
    (place, daemon, client)
}

async fn request(client: &Client, user: &str) {
    client.ok("password.reset.request", json!({ "user": { "id": user } })).await;
}

/// A person's mails, newest first, as soon as the newest is in this state.
async fn history(client: &Client, user: &str, state: &str) -> Vec<Value> {
    until(&format!("a mail of {user} that is {state}"), async || {
        let history = client.ok("history.emails", json!({ "user": { "id": user } })).await;
        let rows = history["rows"].as_array()?.clone();
        (rows.first()?["state"] == state).then_some(rows)
    })
    .await
}

#[tokio::test]
async fn a_reset_is_sent_again_with_the_same_link() {
    let (place, _daemon, client) = start().await;
    let ada = json!({ "user": { "id": "ada" } });
    assert_eq!(client.error("password.reset.resend", ada.clone()).await, "no_request");
    request(&client, "ada").await;
    let first = mail_to(&place.mail, "ada@example.com", 1).await;
    let answer = client.ok("password.reset.resend", ada.clone()).await;
    let second = mail_to(&place.mail, "ada@example.com", 2).await;
    assert_eq!(second.token(), first.token());
    assert_ne!(second.header("message-id"), first.header("message-id"));
    let rows = history(&client, "ada", "sent").await;
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["email_id"], &rows[0]["resend_of"]), (&answer["email_id"], &rows[1]["email_id"]));
    assert_eq!(rows[0]["ticket_id"], rows[1]["ticket_id"]);
    let expires_at: String = place
        .value("select to_char(expires_at at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') from tickets")
        .await;
    assert_eq!(answer["expires_at"], expires_at);
    // The third repeats the second.
    let third = client.ok("password.reset.resend", ada.clone()).await["email_id"].take();
    mail_to(&place.mail, "ada@example.com", 3).await;
    let rows = history(&client, "ada", "sent").await;
    assert_eq!((&rows[0]["email_id"], &rows[0]["resend_of"]), (&third, &answer["email_id"]));
    let body = json!({ "token": first.token(), "new_password": NEW_PASSWORD });
    client.ok("password.reset.complete", body).await;
    assert_eq!(client.error("password.reset.resend", ada).await, "request_completed");
    assert_eq!(client.error("email.resend", json!({ "email_id": third })).await, "request_completed");
}

#[tokio::test]
async fn a_copy_goes_to_another_address_where_that_is_allowed() {
    let roles = "[roles.helpdesk]\npermissions = [\"email.resend\"]\n[roles.admin]\npermissions = [\"*\"]\n";
    let place = Plan::default().set("mail.allow_forward", true).toml(roles).prepare().await;
    let _daemon = place.start().await;
    let client = place.client().await;
    for (id, role) in [("ada", "member"), ("hel", "helpdesk"), ("root", "admin")] {
        let user = json!({
            "id": id, "username": id, "email": format!("{id}@example.com"), "display_name": "Ada Lovelace", "roles": [role],
        });
        client.ok("user.put", json!({ "user": user })).await;
    }
    request(&client, "ada").await;
    let first = mail_to(&place.mail, "ada@example.com", 1).await;
    let id = history(&client, "ada", "sent").await[0]["email_id"].take();
    let copy = |actor: Value| json!({ "email_id": id, "to": "elsewhere@example.org", "actor": actor });
    assert_eq!(client.error("email.resend", copy(json!({ "id": "hel" }))).await, "forward_not_allowed");
    client.ok("email.resend", json!({ "email_id": id, "actor": { "id": "hel" } })).await;
    assert_eq!(mail_to(&place.mail, "ada@example.com", 2).await.token(), first.token());
    for (number, actor) in [json!({ "id": "root" }), json!("system")].into_iter().enumerate() {
        let answer = client.ok("email.resend", copy(actor)).await;
        let mail = mail_to(&place.mail, "elsewhere@example.org", number + 1).await;
        assert_eq!(mail.token(), first.token());
        // It names the person whom it is about, but is not addressed to them.
        assert_eq!(mail.header("to"), "elsewhere@example.org");
        let rows = history(&client, "ada", "sent").await;
        assert_eq!((&rows[0]["email_id"], &rows[0]["resend_of"]), (&answer["email_id"], &id));
        assert_eq!(rows[0]["to"], "elsewhere@example.org");
    }
    assert_eq!(client.error("email.resend", json!({ "email_id": Uuid::nil() })).await, "email_not_found");
    let stored = place.rows("select details::text from activity where kind = 'email.resend'").await;
    assert!(stored.iter().all(|row| !row.get::<_, String>(0).contains("elsewhere@")), "the log masks it");
}

#[tokio::test]
async fn copies_are_switched_off_unless_the_configuration_says_so() {
    let (_place, _daemon, client) = start().await;
    request(&client, "ada").await;
    let id = history(&client, "ada", "sent").await[0]["email_id"].take();
    let body = json!({ "email_id": id, "to": "elsewhere@example.org" });
    assert_eq!(client.error("email.resend", body).await, "forward_not_allowed");
}

#[tokio::test]
async fn a_hard_bounce_holds_back_everything_until_it_is_lifted() {
    let (place, daemon, client) = start().await;
    let events = client.events("email.bounced").await;
    request(&client, "ada").await;
    let mail = mail_to(&place.mail, "ada@example.com", 1).await;
    let id = history(&client, "ada", "sent").await[0]["email_id"].take();
    // This one waits for another try.
    place.mail.refuse_rcpt("451 4.3.0 try again later", None);
    client.ok("email.resend", json!({ "email_id": id })).await;
    history(&client, "ada", "queued").await;

    let message_id = mail.header("message-id");
    assert!(message_id.starts_with('<'), "{message_id}");
    let body = json!({ "smtp_message_id": message_id, "kind": "bounced", "detail": "550 5.1.1 no such user" });
    assert_eq!(client.ok("email.report", body).await, json!({ "email_id": id }));
    let event = events.next().await.body;
    assert_eq!((&event["subject"], &event["data"]["email_id"]), (&json!("ada"), &id));
    assert_eq!(
        (&event["data"]["state"], &event["data"]["smtp_reply"]),
        (&json!("bounced"), &json!("550 5.1.1 no such user"))
    );

    place.mail.heal();
    let rows = history(&client, "ada", "suppressed").await;
    assert_eq!(rows[1]["state"], "bounced");
    daemon.until_metric_at_least("regrant_emails_total", &["password_reset_link", "outcome=\"suppressed\""], 1).await;
    assert_eq!(client.ok("user.get", json!({ "user": { "id": "ada" } })).await["suppressed"], true);
    request(&client, "ada").await;
    let by_support = json!({ "user": { "id": "ada" }, "actor": "system" });
    assert_eq!(client.error("password.reset.request", by_support).await, "address_suppressed");
    a_moment().await;
    assert_eq!(mails(&place.mail).len(), 1);
    let details: String = place.value("select details::text from activity where kind = 'email.report'").await;
    let details: Value = serde_json::from_str(&details).unwrap();
    assert_eq!(
        (&details["email_id"], &details["kind"], &details["detail"]),
        (&id, &json!("bounced"), &json!("550 5.1.1 no such user"))
    );

    // Late and wrong ones change nothing.
    client.ok("email.report", json!({ "email_id": id, "kind": "delivered" })).await;
    assert_eq!(history(&client, "ada", "suppressed").await[1]["state"], "bounced");
    assert_eq!(
        client.error("email.report", json!({ "smtp_message_id": "<x@y>", "kind": "bounced" })).await,
        "email_not_found"
    );

    let body = json!({ "email": "ADA@example.com" });
    assert_eq!(client.ok("email.unsuppress", body.clone()).await, json!({ "unsuppressed": true }));
    assert_eq!(client.ok("email.unsuppress", body).await, json!({ "unsuppressed": false }));
    assert_eq!(place.count("suppressions").await, 0);
    request(&client, "ada").await;
    mail_to(&place.mail, "ada@example.com", 2).await;
}

#[tokio::test]
async fn an_address_that_nobody_has_can_be_suppressed_and_lifted() {
    let (place, _daemon) = Plan::default().set("mail.allow_forward", true).start().await;
    let client = place.client().await;
    client.user("ada").await;
    request(&client, "ada").await;
    let id = history(&client, "ada", "sent").await[0]["email_id"].take();
    let copy = json!({ "email_id": id, "to": "Elsewhere@example.org" });
    let copied = client.ok("email.resend", copy.clone()).await["email_id"].take();
    history(&client, "ada", "sent").await;
    mail_to(&place.mail, "Elsewhere@example.org", 1).await;
    history(&client, "ada", "sent").await;
    client.ok("email.report", json!({ "email_id": copied, "kind": "complained" })).await;
    assert_eq!(client.error("email.resend", copy.clone()).await, "address_suppressed");
    assert_eq!(client.ok("user.get", json!({ "user": { "id": "ada" } })).await["suppressed"], false);
    let lifted = client.ok("email.unsuppress", json!({ "email": "elsewhere@example.org" })).await;
    assert_eq!(lifted, json!({ "unsuppressed": true }));
    client.ok("email.resend", copy).await;
    mail_to(&place.mail, "Elsewhere@example.org", 2).await;
}

#[tokio::test]
async fn a_report_that_is_faster_than_the_result_of_the_attempt_stands() {
    let (place, _daemon, client) = start().await;
    request(&client, "ada").await;
    history(&client, "ada", "sent").await;
    // As it is between the server's last word and the result's row, when the provider was quick.
    place.run("update emails set state = 'queued', sent_at = null, next_attempt_at = now() + interval '1 hour'").await;
    let id: Uuid = place.value::<String>("select id::text from emails").await.parse().unwrap();
    client.ok("email.report", json!({ "email_id": id, "kind": "delivered" })).await;
    let now = regrant::clock::now();
    let result = Outcome { state: EmailState::Sent, sent_at: Some(now), failed: false, ..Outcome::of(id, 1, now) };
    let url = SecretString::from(place.database_url());
    let connection = pool::connect(&url).await.unwrap();
    assert!(finish(&connection, std::slice::from_ref(&result), now).await.unwrap().contains(&id));
    let row = history(&client, "ada", "delivered").await.remove(0);
    assert!(row["sent_at"].is_string(), "{row}");
    // Once, like every result.
    assert!(finish(&connection, &[result], now).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_address_is_proven_by_link_or_code() {
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    for (id, method) in [("ada", "link"), ("bob", "code")] {
        let events = client.events("email.verified").await;
        let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
        client.ok("user.put", json!({ "user": user })).await;
        let body = json!({ "user": { "email": format!("{id}@example.com") }, "method": method });
        assert_eq!(client.ok("email.verification.send", body.clone()).await, json!({ "accepted": true }));
        let mail = mail_to(&place.mail, &format!("{id}@example.com"), 1).await;
        let proof = if method == "link" {
            assert!(mail.text().contains("https://app.example.com/verify?token="));
            json!({ "token": mail.token() })
        } else {
            let wrong = json!({ "user": { "id": id }, "code": "00000000" });
            assert_eq!(client.error("email.verification.complete", wrong).await, "code_invalid");
            json!({ "user": { "id": id }, "code": digits(&mail.text()) })
        };
        assert_eq!(client.ok("email.verification.complete", proof.clone()).await, json!({ "user_id": id }));
        assert_eq!(events.next().await.body["subject"], id);
        let shown = client.ok("user.get", json!({ "user": { "id": id } })).await;
        assert_eq!((&shown["user"]["email_verified"], &shown["open_tickets"]), (&json!(true), &json!([])));
        assert_eq!(client.error("email.verification.complete", proof).await, "token_used");
        // Proven is proven: nothing more is sent, and the answer is the same.
        assert_eq!(client.ok("email.verification.send", body.clone()).await, json!({ "accepted": true }));
        let mut by_support = body;
        by_support["actor"] = "system".into();
        assert_eq!(client.error("email.verification.send", by_support).await, "request_completed");
    }
    let ghost = json!({ "user": { "email": "ghost@example.com" } });
    assert_eq!(client.ok("email.verification.send", ghost).await, json!({ "accepted": true }));
    a_moment().await;
    assert_eq!(mails(&place.mail).len(), 2);
    let decisions =
        "select string_agg(details->>'decision', ' ' order by id) from activity where kind = 'email.verification.send'";
    let decisions: String = place.value(decisions).await;
    assert_eq!(decisions, "sent already_verified sent already_verified unknown_address");
}

/// The code: eight digits, perhaps in groups.
fn digits(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<String>());
    let mut codes = lines.filter(|line| line.len() == 8 && line.bytes().all(|b| b.is_ascii_digit()));
    codes.next().unwrap_or_else(|| panic!("no code in this mail:\n{text}"))
}

#[tokio::test]
async fn a_new_profile_whose_address_is_suppressed_is_not_invited() {
    let (place, _daemon, client) = start().await;
    place.run("insert into suppressions values ('new@example.com', 'bounced', now())").await;
    for id in ["ada", "eve"] {
        let user = json!({ "id": id, "username": id, "email": "New@example.com" });
        assert_eq!(client.error("invite.send", json!({ "user": user })).await, "address_suppressed", "{id}");
        client.ok("user.put", json!({ "user": user })).await;
        let ask = json!({ "user": { "id": id }, "actor": "system" });
        assert_eq!(client.error("password.reset.request", ask).await, "address_suppressed", "{id}");
    }
}

/// However much else the person was mailed since.
#[tokio::test]
async fn what_became_of_the_last_reset_is_told_after_many_other_mails() {
    let (place, _daemon, client) = start().await;
    let reset = async |user: &str, method: &str| {
        client.user(user).await;
        request_by(&client, user, method).await;
    };
    let others = async |user: &str| {
        place.run("update users set email_verified = false").await;
        for _ in 0..9 {
            client.ok("email.verification.send", json!({ "user": { "id": user }, "actor": "system" })).await;
        }
    };
    reset("bob", "link").await;
    let token = mail_to(&place.mail, "bob@example.com", 1).await.token();
    client.ok("password.reset.complete", json!({ "token": token, "new_password": NEW_PASSWORD })).await;
    others("bob").await;
    let bob = json!({ "user": { "id": "bob" } });
    assert_eq!(client.error("password.reset.resend", bob).await, "request_completed");

    reset("eve", "code").await;
    let guess = json!({ "user": { "id": "eve" }, "code": "wrong" });
    for _ in 0..5 {
        client.error("password.reset.inspect", guess.clone()).await;
    }
    others("eve").await;
    assert_eq!(client.error("password.reset.inspect", guess).await, "too_many_attempts");
}

async fn request_by(client: &Client, user: &str, method: &str) {
    client.ok("password.reset.request", json!({ "user": { "id": user }, "method": method })).await;
}
