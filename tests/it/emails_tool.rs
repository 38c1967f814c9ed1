//! `regrant emails`: what failed is found, and sent again where that still makes sense, once.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Client, Daemon, NEW_PASSWORD, Place, Plan, mail_to, until_true};

fn tool(place: &Place, arguments: &[&str]) -> Value {
    let said = place.shell(&[&["emails"], arguments, &["--json"]].concat()).success();
    serde_json::from_str(&said).unwrap()
}

fn column(page: &Value, field: &str) -> Vec<String> {
    let rows = page["rows"].as_array().unwrap().iter();
    rows.map(|row| row[field].as_str().unwrap().to_owned()).collect()
}

/// A request for a password of each, refused by the mail server.
async fn refused(plan: Plan, users: &[&str]) -> (Place, Daemon, Client) {
    let (place, daemon) = plan.start().await;
    let client = place.client().await;
    place.mail.refuse_rcpt("550 5.1.1 <somebody@example.com> no such user", None);
    for user in users {
        client.user(user).await;
        client.ok("password.reset.request", json!({ "user": { "id": user } })).await;
    }
    let all = i64::try_from(users.len()).unwrap();
    until_true("all to fail", async || place.count("emails where state = 'failed'").await == all).await;
    place.mail.heal();
    (place, daemon, client)
}

async fn email_of(place: &Place, user: &str) -> String {
    place.value(&format!("select id::text from emails where user_id = '{user}' order by id limit 1")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn emails_are_listed_filtered_and_paged_with_masked_addresses() {
    let (place, _daemon, client) = refused(Plan::default(), &["ada", "eve", "uma"]).await;
    client.ok("invite.send", json!({ "user": { "id": "bob", "username": "bob", "email": "bob@example.com" } })).await;
    until_true("the invitation", async || place.count("emails where state = 'sent'").await == 1).await;

    assert_eq!(column(&tool(&place, &["list"]), "user_id"), ["bob", "uma", "eve", "ada"]);
    let failed = tool(&place, &["list", "--state", "failed"]);
    assert_eq!(column(&failed, "to"), ["u***@example.com", "e***@example.com", "a***@example.com"]);
    assert!(!failed.to_string().contains("somebody@"), "{failed}");
    let whole = tool(&place, &["list", "--state", "failed", "--show-addresses"]);
    assert_eq!(column(&whole, "to"), ["uma@example.com", "eve@example.com", "ada@example.com"]);
    for (arguments, expected) in [
        (&["--template", "invite"][..], &["bob"][..]),
        (&["--user", "eve"], &["eve"]),
        (&["--user", "eve", "--state", "sent"], &[]),
        (&["--state", "sent"], &["bob"]),
        (&["--state", "queued"], &[]),
        (&["--since", "1h", "--state", "failed"], &["uma", "eve", "ada"]),
        (&["--until", "1h"], &[]),
    ] {
        assert_eq!(column(&tool(&place, &[&["list"], arguments].concat()), "user_id"), expected, "{arguments:?}");
    }
    let first = tool(&place, &["list", "--state", "failed", "--limit", "2"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = tool(&place, &["list", "--state", "failed", "--limit", "2", "--cursor", cursor]);
    assert_eq!(column(&second, "user_id"), ["ada"]);
    assert_eq!(second["next_cursor"], Value::Null);
    let table = place.shell(&["emails", "list", "--limit", "1"]).success();
    assert!(table.starts_with("QUEUED ") && table.contains("there is more: --cursor"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_sent_again_once_and_the_record_goes_on() {
    let (place, _daemon, client) = refused(Plan::default(), &["ada"]).await;
    let id = email_of(&place, "ada").await;
    let tried = tool(&place, &["retry", &id, "--dry-run"]);
    assert_eq!((&tried["queued"], &tried["dry_run"]), (&json!([id]), &json!(true)));
    assert_eq!(place.count("emails where state = 'failed'").await, 1);

    // Two operators at the same moment: both wait for a row that somebody else holds.
    place.run("begin; select from emails for update").await;
    let start = || {
        let mut retry = place.command(&["emails", "retry", &id, "--json"]);
        retry.stdout(Stdio::piped()).spawn().unwrap()
    };
    let both = [start(), start()];
    until_true("both to wait", async || place.waiting_for_locks().await == 2).await;
    place.run("commit").await;
    let queued = both.map(|retry| {
        let report: Value = serde_json::from_slice(&retry.wait_with_output().unwrap().stdout).unwrap();
        report["queued"].as_array().unwrap().len()
    });
    assert_eq!(queued.iter().sum::<usize>(), 1, "{queued:?}");
    let mail = mail_to(&place.mail, "ada@example.com", 1).await;
    assert!(mail.header("message-id").contains(&id), "{}", mail.header("message-id"));
    until_true("the result", async || place.count("emails where state = 'sent' and attempts = 2").await == 1).await;
    assert_eq!(place.mail.messages_to("ada@example.com").len(), 1);
    assert_eq!(place.count("email_attempts where attempt = 1 and outcome = 'failed'").await, 1);
    let history = client.ok("history.activity", json!({ "user": { "id": "ada" }, "kinds": ["emails.retry"] })).await;
    let noted = history["rows"].as_array().unwrap();
    assert_eq!(noted.len(), 1, "{history}");
    assert_eq!((&noted[0]["publisher"], &noted[0]["details"]["email_id"]), (&json!("shell"), &json!(id)));
    let explained = client.ok("email.explain", json!({ "user": { "id": "ada" } })).await;
    assert_eq!(explained["verdict"], "accepted_by_smtp");

    let again = place.shell(&["emails", "retry", &id]);
    assert_eq!(again.code, 1);
    assert!(again.out.contains("it is `sent`, not failed"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_whose_time_was_over_gets_its_time_again() {
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.user("ada").await;
    place.mail.refuse_rcpt("550 no", None);
    client.ok("password.set", json!({ "user": { "id": "ada" }, "new_password": NEW_PASSWORD })).await;
    until_true("the notice to fail", async || place.count("emails where state = 'failed'").await == 1).await;
    place.mail.heal();
    place.run("update emails set give_up_at = now() - interval '1 day'").await;
    tool(&place, &["retry", "--template", "password_changed", "--state", "failed", "--yes"]);
    mail_to(&place.mail, "ada@example.com", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_any_more_says_why() {
    let templates = crate::harness::shipped_templates();
    let plan = Plan::default().set("templates.directory", templates.path().display());
    let users = ["blocked", "erased", "expired", "moved", "newer", "off", "suppressed"];
    let (place, _daemon, client) = refused(plan, &users).await;
    client.ok("user.block", json!({ "user": { "id": "blocked" } })).await;
    place.run("update tickets set expires_at = now() where user_id = 'expired'").await;
    place.run("update users set email = 'x@y.example', email_key = 'x@y.example' where id = 'moved'").await;
    client.ok("password.reset.request", json!({ "user": { "id": "newer" } })).await;
    place.run("insert into suppressions values ('suppressed@example.com', 'bounced', now())").await;
    // An erasure cancels what waits; one that failed before is only without its person.
    place.run("delete from users where id = 'erased'").await;
    place.run("update emails set template = 'invite' where user_id = 'off'").await;
    std::fs::write(templates.path().join("invite/template.toml"), "enabled = false\n").unwrap();

    let report = tool(&place, &["retry", "--all", "--yes"]);
    assert_eq!(report["queued"], json!([]), "{report}");
    for (user, why) in [
        ("blocked", "user.unblock"),
        ("erased", "the person was erased"),
        ("expired", "has expired"),
        ("moved", "email.resend"),
        ("newer", "no longer open"),
        ("off", "switched off"),
        ("suppressed", "email.unsuppress"),
    ] {
        let id = email_of(&place, user).await;
        let refused = report["refused"].as_array().unwrap().iter().find(|refused| refused["email_id"] == id.as_str());
        let refused = refused.unwrap_or_else(|| panic!("{user}: {report}"));
        assert!(refused["why"].as_str().unwrap().contains(why), "{user}: {refused}");
    }
    assert_eq!(place.count("emails where state = 'failed'").await, i64::try_from(users.len()).unwrap());
    assert_eq!(place.count("activity where kind = 'emails.retry'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_selection_all_that_failed_are_sent_again() {
    let (place, _daemon, _client) = refused(Plan::default(), &["ada", "eve", "uma"]).await;
    // No terminal, nobody to ask: that is no reason to do nothing.
    let one = tool(&place, &["retry", "--since", "1h", "--limit", "1"]);
    assert_eq!(one["queued"].as_array().unwrap().len(), 1);
    mail_to(&place.mail, "uma@example.com", 1).await;
    assert_eq!(place.count("emails where state = 'failed'").await, 2);
    let said = place.shell(&["emails", "retry"]).success();
    assert!(said.starts_with("2 queued"), "{said}");
    mail_to(&place.mail, "ada@example.com", 1).await;
    mail_to(&place.mail, "eve@example.com", 1).await;
    assert!(place.shell(&["emails", "retry", "--all"]).success().starts_with("0 queued"));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_many_at_once_need_a_word() {
    let (place, _daemon, _client) = refused(Plan::default(), &["ada", "eve", "uma"]).await;
    for arguments in [&["emails", "retry"][..], &["emails", "retry", "--all"], &["emails", "retry", "--since", "1h"]] {
        let (code, shown) = place.typed(arguments, "n\n");
        assert_eq!(code, 1, "{shown}");
        assert!(shown.contains("3 emails failed") && shown.contains("nothing was sent again"), "{shown}");
    }
    assert_eq!(place.count("emails where state = 'failed'").await, 3);
    // An id is a word; so are `--yes`, and a yes.
    let id = email_of(&place, "ada").await;
    for arguments in [&["emails", "retry", &id][..], &["emails", "retry", "--yes", "--limit", "1"]] {
        let (code, shown) = place.typed(arguments, "");
        assert!(code == 0 && shown.contains("1 queued") && !shown.contains("Go on?"), "{shown}");
    }
    let (code, shown) = place.typed(&["emails", "retry"], "y\n");
    assert!(code == 0 && shown.contains("Go on?") && shown.contains("1 queued"), "{shown}");
    for user in ["ada", "eve", "uma"] {
        mail_to(&place.mail, &format!("{user}@example.com"), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_that_failed_are_found_among_many_by_an_index() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    place
        .run(
            "insert into emails (id, user_id, template, site, to_address, facts, state, queued_at, next_attempt_at, give_up_at) \
             select (lpad(to_hex(1700000000000 + i), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0'))::uuid, 'u' || i, \
             'invite', 'default', 'u@example.com', '{}', case when i % 5000 = 1 then 'failed' else 'sent' end, now(), now(), now() \
             from generate_series(1, 20000) i; \
             analyze; select pg_stat_reset()",
        )
        .await;
    assert_eq!(tool(&place, &["list", "--state", "failed"])["rows"].as_array().unwrap().len(), 4);
    until_true("the statistics", async || {
        place.value::<i64>("select idx_scan from pg_stat_user_indexes where indexrelname = 'emails_unsent'").await > 0
    })
    .await;
    assert_eq!(place.value::<i64>("select seq_scan from pg_stat_user_tables where relname = 'emails'").await, 0);
}
