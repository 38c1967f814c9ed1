//! What becomes of mail that a server refuses, or that has nothing to say any more.

use serde_json::{Value, json};

use crate::broker::proxy::Proxy;
use crate::harness::{
    Client, Command, Daemon, NEW_PASSWORD, Place, Plan, a_moment, mail_to, mails, shipped_templates, until, until_true,
};
use crate::smtp_server::{SmtpServer, Step};

async fn start() -> (Place, Daemon, Client) {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    (place, daemon, client)
}

async fn request(client: &Client, user: &str) {
    client.ok("password.reset.request", json!({ "user": { "id": user } })).await;
}

/// The person's newest mail in the history, as soon as `condition` holds for it.
async fn newest(client: &Client, user: &str, condition: impl Fn(&Value) -> bool) -> Value {
    until(&format!("the history of {user}'s mails"), async || {
        let mut history = client.ok("history.emails", json!({ "user": { "id": user } })).await;
        let row = history["rows"].as_array()?.first()?;
        condition(row).then(|| history["rows"][0].take())
    })
    .await
}

fn in_state(state: &str) -> impl Fn(&Value) -> bool {
    move |row| row["state"] == state
}

fn was_tried(row: &Value) -> bool {
    row["attempts"].as_i64() >= Some(1)
}

#[tokio::test]
async fn a_mail_is_made_as_the_contract_says() {
    let (place, _daemon, client) = start().await;
    client.user("ada").await;
    request(&client, "ada").await;
    let mail = mail_to(&place.mail, "ada@example.com", 1).await;
    assert_eq!(mail.header("from"), "\"Example Accounts\" <no-reply@example.com>");
    assert_eq!(mail.header("auto-submitted"), "auto-generated");
    assert_eq!(mail.header("x-auto-response-suppress"), "All");
    assert!(mail.header("content-type").starts_with("multipart/alternative"));
    for header in ["date", "message-id", "subject"] {
        assert_ne!(mail.header(header), "", "{header}");
    }
    let row = newest(&client, "ada", in_state("sent")).await;
    assert_eq!((&row["template"], &row["attempts"]), (&json!("password_reset_link"), &json!(1)));
    assert_eq!(row["subject"], mail.header("subject"));
    assert!(row["smtp_reply"].as_str().unwrap().starts_with("250 "), "{row}");
    assert_eq!(place.mail.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_key_of_signatures_that_was_replaced_is_said_to_need_a_restart() {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), include_str!("../../src/mail/message/testdata/rsa_pkcs8.pem")).unwrap();
    let plan = Plan::default().set("mail.dkim.domain", "example.com").set("mail.dkim.selector", "s1");
    let (place, daemon) = plan.set("mail.dkim.key_file", key.path().display()).start().await;
    let client = place.client().await;
    let reload = async |restarts: &str| {
        daemon.signal("HUP");
        until_true(restarts, async || daemon.log().contains(&format!("needs_restart={restarts}"))).await;
    };
    reload("0").await;
    std::fs::write(key.path(), include_str!("../../src/mail/message/testdata/ed25519.pem")).unwrap();
    reload("1").await;
    assert!(daemon.log().contains("key=\"mail.dkim.key_file\""), "{}", daemon.log());
    client.user("ada").await;
    request(&client, "ada").await;
    let signed = mail_to(&place.mail, "ada@example.com", 1).await.header("dkim-signature");
    assert!(signed.contains("a=rsa-sha256"), "{signed}");
}

#[tokio::test]
async fn a_deferred_mail_is_tried_again() {
    let (place, daemon, client) = start().await;
    client.user("ada").await;
    place.mail.refuse_rcpt("451 4.3.0 try again later", None);
    request(&client, "ada").await;
    let row = newest(&client, "ada", was_tried).await;
    assert_eq!(row["state"], "queued", "{row}");
    place.mail.heal();
    mail_to(&place.mail, "ada@example.com", 1).await;
    let row = newest(&client, "ada", in_state("sent")).await;
    assert!(row["attempts"].as_i64() >= Some(2), "{row}");
    assert!(row["smtp_reply"].as_str().unwrap().starts_with("250 "), "{row}");
    daemon.until_metric_at_least("regrant_emails_total", &["outcome=\"retried\""], 1).await;
    let attempt: String = place.value("select outcome || ' ' || reply from email_attempts where attempt = 1").await;
    assert!(attempt.starts_with("retry 451 4.3.0"), "{attempt}");
}

#[tokio::test]
async fn a_refused_mail_is_final_and_its_reason_on_record() {
    let (place, _daemon, client) = start().await;
    client.user("ada").await;
    let events = client.events("email.failed").await;
    place.mail.refuse_rcpt("550 5.1.1 no such user here", None);
    request(&client, "ada").await;
    let row = newest(&client, "ada", in_state("failed")).await;
    assert!(row["smtp_reply"].as_str().unwrap().contains("550 5.1.1 no such user here"), "{row}");
    let event = events.next().await.body;
    assert_eq!((&event["subject"], &event["data"]["state"]), (&json!("ada"), &json!("failed")), "{event}");
    assert_eq!(event["data"]["email_id"], row["email_id"]);
    place.mail.heal();
    a_moment().await;
    a_moment().await;
    assert_eq!(mails(&place.mail).len(), 0);
}

#[tokio::test]
async fn one_refused_address_does_not_delay_the_others() {
    let (place, _daemon, client) = start().await;
    client.users((0..60).map(|n| format!("u{n}"))).await;
    for n in 0..30 {
        let reply = if n % 2 == 0 { "451 4.7.1 greylisted" } else { "550 5.1.1 unknown" };
        place.mail.refuse_rcpt(reply, Some(&format!("u{n}@example.com")));
    }
    let commands =
        (0..60).map(|n| Command::new("password.reset.request", json!({ "user": { "id": format!("u{n}") } })));
    client.publish_all(commands).await;
    until_true("the others' mails", async || place.mail.messages().len() >= 30).await;
    until_true("the others on record", async || place.count("emails where state = 'sent'").await == 30).await;
    until_true("the refusals on record", async || place.count("emails where state = 'failed'").await == 15).await;
    assert_eq!(place.count("emails where state = 'queued' and attempts > 0").await, 15, "still being tried");
}

#[tokio::test]
async fn a_mail_whose_ticket_was_superseded_is_not_sent() {
    let (place, _daemon, client) = start().await;
    client.user("ada").await;
    place.mail.refuse_rcpt("451 4.3.0 try again later", None);
    request(&client, "ada").await;
    let first = newest(&client, "ada", was_tried).await["email_id"].take();
    request(&client, "ada").await;
    let second = newest(&client, "ada", |row| was_tried(row) && row["email_id"] != first).await["email_id"].take();
    place.mail.heal();
    let state = async |id: &Value| -> String {
        place.value(&format!("select state from emails where id = '{}'", id.as_str().unwrap())).await
    };
    until_true("the newer mail", async || state(&second).await == "sent").await;
    until_true("the older mail", async || state(&first).await == "cancelled").await;
    assert_eq!(mails(&place.mail).len(), 1);
    let token = mails(&place.mail)[0].token();
    client.ok("password.reset.inspect", json!({ "token": token })).await;
}

#[tokio::test]
async fn a_mail_whose_ticket_was_used_is_not_sent_again() {
    let (place, _daemon, client) = start().await;
    client.user("ada").await;
    // The message arrives, but the daemon does not hear of it.
    place.mail.drop_once_at(Step::Content);
    request(&client, "ada").await;
    let token = mail_to(&place.mail, "ada@example.com", 1).await.token();
    client.ok("password.reset.complete", json!({ "token": token, "new_password": NEW_PASSWORD })).await;
    until_true("the mail to be given up", async || {
        place.count("emails where template = 'password_reset_link' and state = 'cancelled'").await == 1
    })
    .await;
    let links = mails(&place.mail).iter().filter(|mail| mail.text().contains("/reset?token=")).count();
    assert_eq!(links, 1);
}

#[tokio::test]
async fn a_blocked_person_gets_no_mail() {
    let (place, _daemon, client) = start().await;
    client.user("ada").await;
    place.mail.refuse_rcpt("451 4.3.0 try again later", None);
    request(&client, "ada").await;
    newest(&client, "ada", was_tried).await;
    client.ok("user.block", json!({ "user": { "id": "ada" } })).await;
    place.mail.heal();
    newest(&client, "ada", in_state("cancelled")).await;
    assert_eq!(mails(&place.mail).len(), 0);
}

#[tokio::test]
async fn a_mail_whose_ticket_ran_out_is_not_sent() {
    let (place, _daemon) = Plan::default().set("password_reset.lifetime", "2s").start().await;
    let client = place.client().await;
    client.user("ada").await;
    place.mail.refuse_rcpt("451 4.3.0 try again later", None);
    let events = client.events("email.*").await;
    request(&client, "ada").await;
    let mail = newest(&client, "ada", in_state("expired")).await;
    let told = events.next().await;
    assert_eq!((told.routing_key.as_str(), &told.body["data"]["state"]), ("email.failed", &json!("expired")));
    assert_eq!(told.body["data"]["email_id"], mail["email_id"]);
    place.mail.heal();
    a_moment().await;
    assert_eq!(mails(&place.mail).len(), 0);
}

#[tokio::test]
async fn a_mail_to_a_suppressed_address_is_told_as_given_up() {
    let (place, _daemon, client) = start().await;
    client.user("ada").await;
    let events = client.events("email.*").await;
    // The address is suppressed while the mail waits; and from the first.
    place.mail.refuse_rcpt("451 4.3.0 try again later", None);
    request(&client, "ada").await;
    newest(&client, "ada", was_tried).await;
    place.run("insert into suppressions values ('ada@example.com', 'bounced', now())").await;
    let waited = newest(&client, "ada", in_state("suppressed")).await;
    client.ok("password.temporary.issue", json!({ "user": { "id": "ada" } })).await;
    let notice = newest(&client, "ada", in_state("suppressed")).await;
    for mail in [waited, notice] {
        let told = events.next().await;
        let data = &told.body["data"];
        assert_eq!((told.routing_key.as_str(), &data["state"]), ("email.failed", &json!("suppressed")));
        assert_eq!((&data["email_id"], &data["template"]), (&mail["email_id"], &mail["template"]));
    }
}

#[tokio::test]
async fn the_mail_server_is_away_and_comes_back() {
    let server = SmtpServer::start().await;
    let proxy = Proxy::start(server.address().to_string()).await;
    proxy.refuse(true);
    let place = Plan::default().smtp_address(&proxy.address).prepare_with(server).await;
    let daemon = place.start().await;
    let client = place.client().await;
    client.users((0..20).map(|n| format!("u{n}"))).await;
    for n in 0..20 {
        request(&client, &format!("u{n}")).await;
    }
    until_true("the gauge", async || daemon.metric("regrant_emails_pending", &[]).await == 20).await;
    until_true("giving it up", async || daemon.metric("regrant_mail_server_up", &[]).await == 0).await;
    proxy.refuse(false);
    until_true("all mails on record", async || place.count("emails where state = 'sent'").await == 20).await;

    // Connections that were open and idle when it went away are no trouble either.
    proxy.cut();
    request(&client, "u0").await;
    mail_to(&place.mail, "u0@example.com", 2).await;
    assert_eq!(place.mail.messages().len(), 21);
}

#[tokio::test]
async fn a_template_that_is_switched_off_sends_nothing() {
    let directory = shipped_templates();
    std::fs::write(directory.path().join("password_reset_link/template.toml"), "enabled = false\n").unwrap();
    let plan = Plan::default().set("templates.directory", directory.path().display());
    let (place, daemon) = plan.start().await;
    let client = place.client().await;
    client.user("ada").await;
    request(&client, "ada").await;
    newest(&client, "ada", in_state("cancelled")).await;
    daemon.until_metric("regrant_emails_total", &["password_reset_link", "outcome=\"cancelled\""], 1).await;
    a_moment().await;
    assert_eq!(mails(&place.mail).len(), 0);
}

#[tokio::test]
async fn the_file_transport_writes_what_would_have_been_sent() {
    let (place, _daemon) = Plan::default().set("mail.transport", "file").start().await;
    let client = place.client().await;
    client.user("ada").await;
    request(&client, "ada").await;
    newest(&client, "ada", in_state("sent")).await;
    let files: Vec<_> =
        std::fs::read_dir(place.home().join("outbox")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!(file.extension().unwrap(), "eml");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("To: ada@example.com") && text.contains("/reset?token="), "{text}");
    assert_eq!(mails(&place.mail).len(), 0);
}

#[tokio::test]
async fn a_suppressed_address_gets_no_mail_also_by_way_of_a_new_profile() {
    let (place, _daemon, client) = start().await;
    place.run("insert into suppressions values ('gone@example.com', 'bounced', now())").await;
    let create = json!({ "id": "new", "username": "new", "email": "Gone@example.com" });
    client.ok("password.temporary.issue", json!({ "create": create })).await;
    newest(&client, "new", in_state("suppressed")).await;
    request(&client, "new").await;
    assert!(place.mail.messages().is_empty());
    let shown = client.ok("user.get", json!({ "user": { "id": "new" } })).await;
    assert_eq!(shown["suppressed"], true);
}
