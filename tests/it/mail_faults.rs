//! A mail server that fails in every way it can: mail waits for it, is lost nowhere, and nobody waits for somebody else's.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Client, Command, Daemon, Place, Plan, mail_to, mails, until_true};
use crate::smtp_server::{Options, SmtpServer, Step};

/// A daemon that loses patience with its mail server soon.
async fn hasty() -> (Place, Daemon, Client) {
    let (place, daemon) = Plan::default().set("mail.smtp.timeout", "1s").start().await;
    let client = place.client().await;
    (place, daemon, client)
}

async fn request_all(client: &Client, ids: &[String]) {
    for id in ids {
        client.ok("password.reset.request", json!({ "user": { "id": id } })).await;
    }
}

fn named(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}

async fn is_up(daemon: &Daemon) -> bool {
    daemon.metric("regrant_mail_server_up", &[]).await == 1
}

/// Everybody of these gets their mail, and who gets it twice gets the same one.
async fn all_get_theirs(place: &Place, ids: &[String]) {
    for id in ids {
        mail_to(&place.mail, &format!("{id}@example.com"), 1).await;
    }
    until_true("all mails on record", async || place.count("emails where state <> 'sent'").await == 0).await;
    for id in ids {
        let to = format!("{id}@example.com");
        let all = mails(&place.mail);
        let own: BTreeSet<_> = all.iter().filter(|mail| mail.to == to).map(|mail| mail.header("message-id")).collect();
        assert_eq!(own.len(), 1, "{to}");
    }
}

/// A fault at each step of the dialogue, one after the other.
async fn costs_no_mail(fault: impl Fn(&SmtpServer, Step)) {
    let (place, daemon, client) = hasty().await;
    let mut everybody = Vec::new();
    for (number, step) in [Step::Greeting, Step::Ehlo, Step::Mail, Step::Rcpt, Step::Data, Step::Body, Step::Content]
        .into_iter()
        .enumerate()
    {
        let ids = named(&format!("u{number}n"), 2);
        client.users(ids.iter().cloned()).await;
        // A kept connection has its greeting behind it.
        place.mail.cut().await;
        fault(&place.mail, step);
        let before = place.mail.connections();
        request_all(&client, &ids).await;
        until_true("somebody who tries", async || place.mail.connections() > before).await;
        place.mail.heal();
        everybody.extend(ids);
        until_true(&format!("mail after a fault at {step:?}"), async || {
            place.count("emails where state = 'sent'").await == i64::try_from(everybody.len()).unwrap()
        })
        .await;
    }
    all_get_theirs(&place, &everybody).await;
    until_true("a mail server that works", async || is_up(&daemon).await).await;
}

#[tokio::test]
async fn a_server_that_falls_silent_at_any_step_costs_no_mail() {
    costs_no_mail(SmtpServer::hang_at).await;
}

#[tokio::test]
async fn a_server_that_hangs_up_at_any_step_costs_no_mail() {
    costs_no_mail(SmtpServer::drop_at).await;
}

#[tokio::test]
async fn a_server_that_talks_nonsense_at_any_step_costs_no_mail() {
    costs_no_mail(|server, step| server.reply_at(step, "%&/ what?")).await;
}

#[tokio::test]
async fn a_server_that_closes_down_at_any_step_costs_no_mail() {
    costs_no_mail(|server, step| server.reply_at(step, "421 4.3.2 closing down")).await;
}

/// Who fails at something that mail does not need, and says so every few seconds, keeps no mail from its next attempt.
#[tokio::test]
async fn mails_are_tried_again_while_the_database_fails_at_something_else() {
    let (place, daemon, client) = hasty().await;
    client.users(["ada".to_owned()]).await;
    place.run("alter table erasures rename to away").await;
    until_true("the trouble", async || daemon.log().contains("\\\"erasures\\\" does not exist")).await;
    place.mail.reply_at(Step::Rcpt, "451 4.3.0 later");
    request_all(&client, &["ada".to_owned()]).await;
    until_true("a failed attempt", async || place.count("email_attempts").await == 1).await;
    place.mail.heal();
    mail_to(&place.mail, "ada@example.com", 1).await;
}

#[tokio::test]
async fn while_the_server_is_away_no_mail_is_tried_and_then_all_are_at_once() {
    let (place, daemon, client) = hasty().await;
    let ids = named("u", 30);
    client.users(ids.iter().cloned()).await;
    place.mail.reply_at(Step::Greeting, "554 5.3.2 not now");
    request_all(&client, &ids).await;
    until_true("giving it up", async || !is_up(&daemon).await).await;
    let tried = place.count("email_attempts").await;
    assert!(tried < 15, "{tried} attempts, with eight connections");
    // The circuit goes on trying the server, without a mail.
    let looks = place.mail.connections();
    until_true("looks", async || place.mail.connections() >= looks + 2).await;
    assert_eq!(place.count("email_attempts").await, tried);
    let log = daemon.log();
    assert!(log.contains("the mail server does not work") && log.contains("not now"), "{log}");

    place.mail.heal();
    all_get_theirs(&place, &ids).await;
    assert!(is_up(&daemon).await);
    daemon.until_metric("regrant_reconnects_total", &["target=\"smtp\""], 1).await;
    assert_eq!(mails(&place.mail).len(), 30, "each once");
}

/// Whole mails, several at once over a connection, as to a server that offers CHUNKING.
#[tokio::test]
async fn a_server_that_nobody_waits_for_any_more_is_not_taken_for_one_that_is_away() {
    let (place, daemon, client) = hasty().await;
    let ids = named("u", 6);
    client.users(ids.iter().cloned()).await;
    place.mail.reply_at(Step::Greeting, "554 5.3.2 not now");
    request_all(&client, &ids).await;
    until_true("giving it up", async || !is_up(&daemon).await).await;
    for id in &ids {
        client.ok("user.block", json!({ "user": { "id": id } })).await;
    }
    place.mail.heal();
    until_true("a mail server that works", async || is_up(&daemon).await).await;
    until_true("the last mails to be cancelled", async || place.count("emails where state <> 'cancelled'").await == 0)
        .await;
    assert_eq!(mails(&place.mail).len(), 0);

    client.ok("user.unblock", json!({ "user": { "id": "u0" } })).await;
    client.ok("password.reset.request", json!({ "user": { "id": "u0" }, "actor": "system" })).await;
    mail_to(&place.mail, "u0@example.com", 1).await;
}

#[tokio::test]
async fn a_connection_that_ends_under_several_mails_costs_none_of_them() {
    let mut options = Options::default();
    options.extensions.push("CHUNKING");
    let plan = Plan::default().set("mail.smtp.timeout", "1s").set("mail.smtp.connections", 2);
    let place = plan.prepare_with(SmtpServer::with(options).await).await;
    let daemon = place.start().await;
    let client = place.client().await;
    let mut everybody = Vec::new();
    for (round, step) in [Step::Mail, Step::Rcpt, Step::Body, Step::Content].into_iter().enumerate() {
        let ids = named(&format!("u{round}n"), 40);
        client.users(ids.iter().cloned()).await;
        let fault = if round % 2 == 0 { SmtpServer::drop_once_at } else { SmtpServer::hang_once_at };
        let begun = place.mail.messages().len();
        // Slow enough to be struck in their midst.
        place.mail.wait_at(if step == Step::Rcpt { Step::Mail } else { Step::Rcpt }, Duration::from_millis(10));
        let request = |id: &String| ("password.reset.request", json!({ "user": { "id": id } })).into();
        client.publish_all(ids.iter().map(request)).await;
        until_true("mail that flows", async || place.mail.messages().len() > begun).await;
        fault(&place.mail, step);
        everybody.extend(ids);
        until_true(&format!("mail after a fault at {step:?}"), async || {
            place.count("emails where state = 'sent'").await == i64::try_from(everybody.len()).unwrap()
        })
        .await;
        place.mail.heal();
    }
    all_get_theirs(&place, &everybody).await;
    until_true("a mail server that works", async || is_up(&daemon).await).await;
}

#[tokio::test]
async fn a_domain_that_is_slow_delays_no_other() {
    let (place, daemon) = Plan::default().set("mail.smtp.timeout", "30s").start().await;
    let client = place.client().await;
    // The server asks theirs before it takes a recipient, and theirs does not answer.
    place.mail.hang_at_rcpt("@slow.example");
    for n in 0..200 {
        let user = json!({ "id": format!("s{n}"), "username": format!("s{n}"), "email": format!("s{n}@slow.example") });
        client.ok("invite.send", json!({ "user": user })).await;
    }
    until_true("slow mail at the server", async || place.mail.connections() >= 6).await;
    let ids = named("u", 100);
    client.users(ids.iter().cloned()).await;
    request_all(&client, &ids).await;
    // Long before the first of the slow ones is given up.
    for id in &ids {
        mail_to(&place.mail, &format!("{id}@example.com"), 1).await;
    }
    until_true("these on record", async || place.count("emails where state = 'sent'").await == 100).await;
    assert_eq!(place.count("email_attempts").await, 0, "the slow ones are still at it");
    assert!(is_up(&daemon).await, "one domain is not the server");
    assert!(place.mail.connections() <= 8);
}

/// Whoever asks for mail to addresses whose domains never answer holds up nobody, and stops no mail.
#[tokio::test]
async fn many_domains_that_never_answer_are_not_the_server() {
    let (place, daemon) = Plan::default().set("mail.smtp.timeout", "1s").set("mail.smtp.connections", 4).start().await;
    let client = place.client().await;
    place.mail.hang_at_rcpt(".hanging.example");
    for n in 0..12 {
        let email = format!("h{n}@d{n}.hanging.example");
        let user = json!({ "id": format!("h{n}"), "username": format!("h{n}"), "email": email });
        client.ok("invite.send", json!({ "user": user })).await;
    }
    until_true("each tried once", async || {
        place.count("(select distinct email_id from email_attempts) as tried").await == 12
    })
    .await;
    let ids = named("u", 20);
    client.users(ids.iter().cloned()).await;
    request_all(&client, &ids).await;
    for id in &ids {
        mail_to(&place.mail, &format!("{id}@example.com"), 1).await;
    }
    let log = daemon.log();
    assert!(is_up(&daemon).await && !log.contains("the mail server does not work"), "{log}");
}

#[tokio::test]
async fn a_domain_that_is_slow_holds_up_nothing_that_is_due_either() {
    let (place, _daemon) =
        Plan::default().set("mail.smtp.timeout", "30s").set("mail.smtp.connections", 1).start().await;
    let client = place.client().await;
    place.mail.refuse_rcpt("451 4.7.1 greylisted, come back later", None);
    for n in 0..20 {
        let user = json!({ "id": format!("s{n}"), "username": format!("s{n}"), "email": format!("s{n}@slow.example") });
        client.ok("invite.send", json!({ "user": user })).await;
    }
    let ids = named("u", 3);
    client.users(ids.iter().cloned()).await;
    request_all(&client, &ids).await;
    until_true("greylisting", async || place.count("email_attempts where outcome = 'retry'").await >= 23).await;
    place.mail.heal();
    place.mail.wait_at(Step::Rcpt, Duration::from_millis(20));
    all_get_theirs(&place, &ids).await;
}

#[tokio::test]
async fn a_server_that_takes_its_time_is_not_given_up() {
    let (place, daemon, client) = hasty().await;
    place.mail.wait_at(Step::Data, Duration::from_millis(600));
    let ids = named("u", 40);
    client.users(ids.iter().cloned()).await;
    request_all(&client, &ids).await;
    all_get_theirs(&place, &ids).await;
    assert_eq!(place.count("email_attempts").await, 0);
    assert!(is_up(&daemon).await);
    assert_eq!(mails(&place.mail).len(), 40, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_not_tried_again_and_again() {
    let server = SmtpServer::with(Options { auth: Some("PLAIN"), ..Options::default() }).await;
    let address = server.address();
    let plan = Plan::default().smtp_address(format!("user:wrong@{address}")).set("mail.smtp.timeout", "2s");
    let place = plan.prepare_with(server).await;
    let daemon = place.start().await;
    let client = place.client().await;
    let ids = named("u", 20);
    client.users(ids.iter().cloned()).await;
    request_all(&client, &ids).await;
    until_true("giving it up", async || !is_up(&daemon).await).await;
    let connections = place.mail.connections();
    assert!(connections <= 12, "{connections}");
    let log = daemon.log();
    assert!(log.contains("535") && !log.contains("wrong"), "{log}");
    assert_eq!(place.count("emails where state = 'queued'").await, 20);
    let check = place.shell(&["check"]);
    assert!(check.code == 1 && check.out.contains("535"), "{}", check.out);
}

/// A client that has more connections than the server allows is turned away, with a 421 and while its own idle ones are kept open.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_allows_few_connections_gets_all_mail_through_these() {
    for most in [1, 3] {
        let (place, daemon) = Plan::default().start().await;
        place.mail.limit_connections(most);
        // So that the next mail does not find the connection of the one before.
        place.mail.wait_at(Step::Mail, Duration::from_millis(300));
        let client = place.client().await;
        let ids = named("u", 20);
        client.users(ids.iter().cloned()).await;
        let request = |id: &String| Command::new("password.reset.request", json!({ "user": { "id": id } }));
        let asked = client.begin_all(&ids.iter().map(request).collect::<Vec<_>>()).await;
        for one in asked {
            assert_eq!(client.reply(&one).await["ok"], true);
        }
        until_true("all mails", async || place.count("emails where state = 'sent'").await == 20).await;
        assert!(is_up(&daemon).await && !daemon.log().contains("no mail is tried"), "{}", daemon.log());
        assert!((1..=most).contains(&place.mail.connections()), "{}", place.mail.connections());
        assert!(daemon.log().contains("turned a connection away"), "{}", daemon.log());
        assert_eq!(place.count("email_attempts").await, 0, "no attempt failed");
        assert_eq!(daemon.stop().await, 0);
    }
}
