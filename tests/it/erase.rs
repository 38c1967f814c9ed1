//! Erasing a person: after a rich life, no column of any table holds anything of theirs, and everybody else keeps what is
//! theirs.

use regrant::commands;
use regrant::store::event_outbox::{self, Relayed};
use regrant::store::packed_events::unpack;
use regrant::store::pool;
use regrant::world::QueuedEvent;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::harness::{
    Client, Command, NEW_PASSWORD, PASSWORD, Place, Plan, a_moment, mail_to, mails, until, until_true,
};

const ID: &str = "user-7f3a91";
const USERNAME: &str = "Countess.Ada";
const EMAIL: &str = "ada.lovelace@example.com";
const OLD_EMAIL: &str = "ada.byron@example.com";
const NAME: &str = "Augusta Kingova";
const IP: &str = "198.51.100.77";
/// What must be nowhere, in lower case.
const PERSONAL: [&str; 8] = [ID, "countess", EMAIL, OLD_EMAIL, "augusta", "kingova", IP, "byron"];

/// The advisory lock of the relay.
const RELAY: i64 = 0x0072_6567_7261_6e74;

const ROLES: &str = "[roles.admin]\npermissions = [\"*\"]\nscope = \"all\"";

fn ada() -> Value {
    json!({ "id": ID })
}

fn erase() -> Value {
    json!({ "user": ada(), "reason": "request 4711" })
}

fn profile(email: &str) -> Value {
    json!({ "id": ID, "username": USERNAME, "email": email, "display_name": NAME, "roles": ["admin"], "locale": "en-GB" })
}

/// A command as the person's own app sends it, under an id that names them.
async fn own(client: &Client, name: &str, mut body: Value) -> Value {
    body["context"] = json!({ "ip": IP, "user_agent": "Ada's browser" });
    client.ask(Command::new(name, body).id(&format!("{ID}-{}", rand::random::<u32>()))).await
}

/// As [`own`], if the command exists.
async fn own_if_known(client: &Client, name: &str, body: Value) {
    if commands::find(name).is_some() {
        own(client, name, body).await;
    }
}

/// Everything that can happen to somebody, and that somebody can do.
async fn live(place: &Place, client: &Client) -> Vec<String> {
    // Before they have a profile.
    own(client, "password.reset.request", json!({ "user": { "email": OLD_EMAIL } })).await;
    own(client, "session.login", json!({ "user": { "email": EMAIL }, "password": PASSWORD })).await;
    own(client, "user.put", json!({ "user": profile(OLD_EMAIL) })).await;
    own(client, "invite.send", json!({ "user": ada() })).await;
    let token = mail_to(&place.mail, OLD_EMAIL, 1).await.token();
    own(client, "invite.accept", json!({ "token": token, "new_password": PASSWORD })).await;
    own(client, "user.put", json!({ "user": profile(EMAIL) })).await;
    for method in ["link", "code"] {
        own(client, "password.reset.request", json!({ "user": { "email": EMAIL }, "method": method })).await;
    }
    for (command, body) in [
        ("email.verification.send", json!({ "user": ada() })),
        ("password.temporary.issue", json!({ "user": ada() })),
        ("password.change", json!({ "user": ada(), "current_password": "x", "new_password": NEW_PASSWORD })),
        ("session.impersonate", json!({ "user": ada(), "reason": format!("{NAME} is stuck") })),
    ] {
        own_if_known(client, command, body).await;
    }
    own(client, "password.set", json!({ "user": ada(), "new_password": NEW_PASSWORD })).await;
    let login = |password| json!({ "user": { "username": USERNAME }, "password": password });
    let session = own(client, "session.login", login(NEW_PASSWORD)).await["result"]["session_id"].take();
    own(client, "session.logout", json!({ "session_id": session })).await;
    let session = own(client, "session.login", login(NEW_PASSWORD)).await["result"]["session_id"].take();
    let reason = format!("{NAME} <{EMAIL}> lost a phone at {IP}");
    own(client, "session.force_logout", json!({ "users": [ada()], "reason": reason })).await;
    for command in ["user.block", "user.unblock", "user.deactivate", "user.activate"] {
        own(client, command, json!({ "user": ada(), "reason": reason })).await;
    }
    // A mail that fails, with a reply that shows where it went; and what the provider says of another.
    place.mail.refuse_rcpt(&format!("550 5.1.1 <{EMAIL}>: {NAME} is unknown here"), Some(EMAIL));
    own(client, "password.reset.request", json!({ "user": { "email": EMAIL } })).await;
    until_true("a failed mail", async || place.count("emails where state = 'failed'").await > 0).await;
    place.mail.heal();
    let bounced: String =
        place.value(&format!("select id::text from emails where user_id = '{ID}' and state = 'sent' limit 1")).await;
    let report = json!({ "email_id": bounced, "kind": "bounced", "detail": format!("{EMAIL} does not exist") });
    own_if_known(client, "email.report", report).await;
    // What they do for others.
    let by_ada = |body: Value| {
        let mut body = body;
        body["actor"] = ada();
        body
    };
    own(client, "invite.send", by_ada(json!({ "user": { "id": "bob" } }))).await;
    own(client, "invite.resend", by_ada(json!({ "user": { "id": "bob" } }))).await;
    own(client, "password.reset.request", by_ada(json!({ "user": { "id": "eve" } }))).await;
    own(client, "user.block", by_ada(json!({ "user": { "id": "eve" } }))).await;
    own_if_known(client, "session.impersonate", by_ada(json!({ "user": { "id": "bob" }, "reason": "help" }))).await;
    // Locked out; hashes and a live session stay.
    place.run(&format!("update sessions set ended_at = null where id = '{}'", session.as_str().unwrap())).await;
    for _ in 0..10 {
        own(client, "session.login", login("Wrong-Guess-4711-Pony")).await;
    }
    // Two mails that cannot go out now: theirs, and an invitation in their name.
    place.run("delete from suppressions").await;
    place.mail.refuse_rcpt("451 4.3.0 later", None);
    own(client, "password.reset.request", json!({ "user": ada(), "actor": "system" })).await;
    own(client, "invite.resend", by_ada(json!({ "user": { "id": "bob" } }))).await;
    until_true("attempts", async || place.count("email_attempts where reply like '%later%'").await >= 2).await;
    place.until_all_is_told().await;
    place.run(&format!("insert into suppressions values ('{EMAIL}', 'bounced', now())")).await;
    let hashes =
        place.rows(&format!("select unnest(previous_hashes || password_hash) from users where id = '{ID}'")).await;
    hashes.into_iter().map(|row| row.get(0)).collect()
}

fn assert_nothing_of(personal: &[String], stored: &str) {
    for line in stored.lines() {
        let lower = line.to_lowercase();
        for text in personal {
            assert!(!lower.contains(&text.to_lowercase()), "`{text}` is still there: {line}");
        }
    }
}

fn personal() -> Vec<String> {
    PERSONAL.map(str::to_owned).into()
}

#[tokio::test]
async fn nothing_is_left_of_a_person_and_everything_of_the_others() {
    let (place, daemon) = Plan::default().toml(ROLES).start().await;
    let client = place.client().await;
    client.user("bob").await;
    client.user("eve").await;
    let hashes = live(&place, &client).await;
    assert!(hashes.len() >= 2, "{hashes:?}");
    let all: Vec<String> = personal().into_iter().chain(hashes).collect();
    let before = place.everything_stored().await.to_lowercase();
    for text in &all {
        assert!(
            before.contains(&text.to_lowercase()),
            "`{text}` was never stored: this test looks for the wrong thing"
        );
    }
    let histories = async || (place.count("activity").await, place.count("emails").await);
    let counted = histories().await;
    let put = Command::new("user.put", json!({ "user": { "id": "u2", "username": ID, "email": EMAIL } })).id("put-u2");
    assert_eq!(client.ask(put.clone()).await["ok"], true);
    client.ok("user.erase", json!({ "user": { "id": "u2" }, "reason": "a second profile" })).await;

    place.until_all_is_told().await;
    let events = client.events("user.erased").await;
    let message = Command::new("user.erase", erase()).id(&format!("erase-{ID}"));
    let reply = client.ask(message.clone()).await;
    assert_eq!(reply["result"], json!({ "erased": true }));
    assert_nothing_of(&all, &place.everything_stored().await);

    let event = events.next().await;
    assert_eq!((&event.body["subject"], &event.body["type"]), (&json!(ID), &json!("regrant.user.erased")));
    assert_eq!(histories().await, (counted.0 + 3, counted.1), "histories keep their rows");
    let of_ada = "(select user_id from activity where kind = 'user.erase' order by id desc limit 1)";
    assert!(place.count(&format!("activity where user_id = {of_ada} and kind = 'session.login'")).await >= 12);
    assert!(place.count(&format!("activity where actor = {of_ada} and user_id = 'bob'")).await >= 2);
    assert!(place.count(&format!("emails where user_id = {of_ada} and state = 'sent'")).await >= 4);
    assert_eq!(place.count(&format!("emails where user_id = {of_ada} and state = 'queued'")).await, 0);
    let reason: String = place
        .value(&format!(
            "select details->>'erased_because' from activity where user_id = {of_ada} \
        and kind = 'user.erase'"
        ))
        .await;
    assert_eq!(reason, "request 4711");
    for table in ["tickets", "sessions"] {
        assert_eq!(place.count(&format!("{table} where user_id not in ('bob', 'eve')")).await, 0, "{table}");
    }
    assert_eq!(place.count("suppressions").await, 0);
    assert_eq!(place.count("erasures").await, 0);
    daemon.until_metric_at_least("regrant_emails_total", &["outcome=\"cancelled\""], 1).await;

    // The same message once more, and the same wish.
    let again = client.ask(message).await;
    assert_eq!((&again["result"], &again["duplicate"]), (&json!({ "erased": true }), &json!(true)));
    assert_eq!(client.error("user.erase", erase()).await, "user_not_found");
    let repeated = client.ask(put).await;
    assert_eq!((&repeated["ok"], &repeated["duplicate"]), (&json!(true), &json!(true)));
    assert_nothing_of(&all, &repeated["result"].to_string());

    // Bob's invitation goes out, and does not say by whom; theirs does not.
    let sent = mails(&place.mail).len();
    place.mail.heal();
    until_true("bob's mail", async || place.count("emails where state = 'queued'").await == 0).await;
    a_moment().await;
    let later = &mails(&place.mail)[sent..];
    assert!(!later.is_empty() && later.iter().all(|mail| mail.to.contains("bob@")), "{later:?}");
    assert_nothing_of(&all, &later.iter().map(crate::harness::Mail::text).collect::<String>());
    assert_nothing_of(&all, &place.everything_stored().await);
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn the_same_id_is_somebody_new() {
    let (place, daemon) = Plan::default().toml(ROLES).start().await;
    let client = place.client().await;
    let put = json!({ "user": profile(EMAIL) });
    client.ok("user.put", put.clone()).await;
    client.ok("password.set", json!({ "user": ada(), "new_password": PASSWORD })).await;
    let login = json!({ "user": ada(), "password": PASSWORD });
    let session = client.ok("session.login", login.clone()).await["session_id"].take();
    client.ok("password.reset.request", json!({ "user": ada() })).await;
    let token = mail_to(&place.mail, EMAIL, 2).await.token();
    assert_eq!(daemon.stop().await, 0);
    // They wait together, so they are taken together, and in their order.
    let commands = [Command::new("user.erase", erase()), Command::new("user.put", put)];
    let correlations = [client.begin(&commands[0]).await, client.begin(&commands[1]).await];
    let _daemon = place.start().await;
    for correlation in correlations {
        assert_eq!(client.reply(&correlation).await["ok"], true);
    }
    let user = client.ok("user.get", json!({ "user": ada() })).await;
    assert_eq!((&user["user"]["has_password"], &user["open_tickets"]), (&json!(false), &json!([])));
    assert_eq!(client.error("session.login", login).await, "invalid_credentials");
    assert_eq!(client.ok("session.check", json!({ "session_id": session })).await["active"], false);
    let complete = json!({ "token": token, "new_password": NEW_PASSWORD });
    assert_eq!(client.error("password.reset.complete", complete).await, "token_invalid");
    assert_eq!(place.count(&format!("activity where user_id = '{ID}' and kind = 'password.set'")).await, 0);
    assert_eq!(place.count(&format!("activity where user_id = '{ID}' and kind = 'user.put'")).await, 1);
}

#[tokio::test]
async fn who_shares_the_mailbox_keeps_what_is_theirs() {
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.user("bob").await;
    let shared = json!({ "id": "twin", "username": "twin", "email": "bob@example.com" });
    client.ok("user.put", json!({ "user": shared })).await;
    client.ok("password.reset.request", json!({ "user": { "email": "bob@example.com" } })).await;
    assert_eq!(client.error("user.block", json!({ "user": { "email": "bob@example.com" } })).await, "ambiguous_user");
    until_true("two mails", async || mails(&place.mail).len() == 2).await;
    place.run("insert into suppressions values ('bob@example.com', 'complained', now())").await;
    place.until_all_is_told().await;
    client.ok("user.erase", json!({ "user": { "id": "twin" }, "reason": "asked" })).await;
    assert_nothing_of(&["twin".to_owned()], &place.everything_stored().await);
    assert_eq!(place.count("suppressions").await, 1);
    assert_eq!(place.count("emails where user_id = 'bob' and to_address = 'bob@example.com'").await, 1);
    assert_eq!(place.count("tickets where user_id = 'bob' and state = 'open'").await, 1);
    let decision: String = place
        .value("select details->>'decision' from activity where user_id = 'bob' and kind = 'password.reset.request'")
        .await;
    assert_eq!(decision, "sent");
    client.ok("user.erase", json!({ "user": { "id": "bob" }, "reason": "asked" })).await;
    assert_nothing_of(&["bob".to_owned()], &place.everything_stored().await);
}

/// While nobody relays, events wait in their table: readable for the daemon only, and in their order.
#[tokio::test]
async fn events_that_wait_are_published_and_do_not_show_the_person_until_then() {
    let (place, _daemon) = Plan::default().toml(ROLES).start().await;
    let client = place.client().await;
    client.user("bob").await;
    place.until_all_is_told().await;
    let events = client.events("#").await;
    place.run(&format!("select pg_advisory_lock({RELAY})")).await;
    client.ok("user.put", json!({ "user": profile(EMAIL) })).await;
    client.ok("user.block", json!({ "user": { "id": "bob" }, "actor": ada() })).await;
    client.ok("user.erase", erase()).await;
    client.ok("user.unblock", json!({ "user": { "id": "bob" } })).await;
    assert!(place.value::<i64>("select sum(count) from event_outbox").await >= 5);
    assert_nothing_of(&personal(), &place.everything_stored().await);
    client.ok("user.put", json!({ "user": profile("new@example.com") })).await;
    place.run(&format!("select pg_advisory_unlock({RELAY})")).await;
    let mut told = Vec::new();
    while told.iter().filter(|(name, _)| name == "user.created").count() < 2 {
        let event = events.next().await;
        if event.body["data"]["actor"] == ID {
            assert_eq!(event.body["subject"], "bob");
        }
        told.push((event.routing_key, event.body["subject"].as_str().unwrap().to_owned()));
    }
    let hers: Vec<&str> = told.iter().filter(|(_, who)| who == ID).map(|(name, _)| name.as_str()).collect();
    assert_eq!(hers, ["user.created", "user.erased", "user.created"]);
}

/// A row holds events of several people: only those that name the erased one change.
#[tokio::test]
async fn of_events_that_wait_in_one_row_only_the_persons_own_are_encrypted() {
    let (place, _daemon) = Plan::default().toml(ROLES).start().await;
    let client = place.client().await;
    client.users(["bob", "eve"].map(str::to_owned)).await;
    client.ok("user.put", json!({ "user": profile(EMAIL) })).await;
    place.until_all_is_told().await;
    let events = client.events("session.revoked").await;
    place.run(&format!("select pg_advisory_lock({RELAY})")).await;
    let people = json!([{ "id": "bob" }, ada(), { "id": "eve" }]);
    client.ok("session.force_logout", json!({ "users": people })).await;
    let read = async || {
        let rows = place.rows("select events from event_outbox where events like '%session.revoked%'").await;
        assert_eq!(rows.len(), 1);
        unpack(rows[0].get(0)).unwrap()
    };
    let before = read().await;
    client.ok("user.erase", erase()).await;
    let after = read().await;
    assert_eq!(before.len(), 3);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.name, after.name);
        if before.subject == ID {
            assert_nothing_of(&personal(), &format!("{after:?}"));
            assert_ne!(after.body, before.body);
        } else {
            assert_eq!(before, after);
        }
    }
    place.run(&format!("select pg_advisory_unlock({RELAY})")).await;
    for event in before {
        assert_eq!(events.next().await.body, serde_json::from_str::<Value>(&event.body).unwrap());
    }
}

/// Somebody is erased while their event is being relayed, and the broker does not take it: it stays as it is by then.
#[tokio::test]
async fn an_event_that_stays_is_not_written_back_as_it_was_read() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let url = SecretString::from(place.database_url());
    let mut relay = pool::connect(&url).await.unwrap();
    let queued = ["bob", ID].map(|id| QueuedEvent {
        subject: id.into(),
        name: "user.put",
        body: json!({ "subject": id }).to_string(),
    });
    event_outbox::insert(&relay, &queued, regrant::clock::now()).await.unwrap();
    let row = event_outbox::page(&mut relay, 0, 1).await.unwrap().remove(0);
    place.run(&format!("begin; update event_outbox set events = replace(events, '{ID}', 'erased')")).await;
    let forgotten = tokio::spawn(async move {
        event_outbox::forget(&mut relay, &[Relayed { seq: row.seq, count: 2, stay: vec![1] }]).await
    });
    until_true("the lock", async || place.count("pg_locks where not granted and pid <> pg_backend_pid()").await > 0)
        .await;
    place.run("commit").await;
    forgotten.await.unwrap().unwrap();
    let left: String = place.value("select events from event_outbox").await;
    assert_eq!(unpack(&left).unwrap().len(), 1);
    assert_nothing_of(&personal(), &left);
}

/// More than one transaction may clean. Whoever gets the id meanwhile loses nothing, and a daemon that dies leaves the rest
/// to another.
#[tokio::test]
async fn a_huge_history_is_erased_in_steps_whoever_does_them() {
    let (place, daemon) = Plan::default().toml(ROLES).start().await;
    let client = place.client().await;
    client.ok("user.put", json!({ "user": profile(EMAIL) })).await;
    client.user("bob").await;
    let id = "(lpad(to_hex((extract(epoch from now()) * 1000)::bigint - 1000000000 + i), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0'))::uuid";
    let each = "from generate_series(1, 9000) i";
    place
        .run(&format!(
            "insert into activity (id, at, kind, user_id, actor, publisher, outcome, ip)
                select {id}, now(), 'user.put', case when i % 2 = 0 then '{ID}' end, case when i % 2 = 1 then '{ID}' end,
                    'guest', 'ok', '{IP}' {each};
            insert into sessions (id, user_id, created_at, expires_at, ended_at)
                select {id}, '{ID}', now(), now() + interval '1 day', case when i > 5 then now() end {each};
            insert into tickets (id, user_id, purpose, method, key_id, state, requester, requested_at, created_at, expires_at)
                select {id}, '{ID}', 'password_reset', 'link', 'k', 'completed', 'self', now(), now(), now() {each};
            insert into emails (id, user_id, template, site, to_address, facts, state, queued_at, next_attempt_at, give_up_at)
                select {id}, '{ID}', 'invite', 'default', '{EMAIL}', '{{\"invited_by\": \"{NAME}\"}}', 'sent', now(), now(), now() {each};
            insert into email_attempts select {id}, 1, now(), 'failed', '{EMAIL}' {each}"
        ))
        .await;
    client.ok("user.erase", erase()).await;
    assert_eq!(place.count("erasures").await, 1);
    assert_nothing_of(&personal(), &place.rows("select sealed from erasures").await[0].get::<_, String>(0));
    // Nothing that still opens a door is left to later.
    assert_eq!(place.count(&format!("sessions where user_id = '{ID}' and ended_at is null")).await, 0);
    client.ok("user.put", json!({ "user": profile("new@example.com") })).await;
    client.ok("password.set", json!({ "user": ada(), "new_password": PASSWORD })).await;
    client.ok("session.login", json!({ "user": ada(), "password": PASSWORD })).await;
    daemon.kill();
    let daemons = [place.start().await, place.start().await];
    until_true("the end of the erasure", async || place.count("erasures").await == 0).await;
    for (rows, left) in [
        ("activity where user_id = ", 3),
        ("activity where actor = ", 0),
        ("sessions where user_id = ", 1),
        ("tickets where user_id = ", 0),
        ("emails where user_id = ", 1),
    ] {
        assert_eq!(place.count(&format!("{rows}'{ID}'")).await, left, "{rows}");
    }
    assert_nothing_of(&[EMAIL.to_owned(), IP.to_owned()], &place.everything_stored().await);
    assert_eq!(place.count("activity where kind = 'user.put'").await, 9000 + 3);
    for daemon in daemons {
        assert_eq!(daemon.stop().await, 0);
    }
}

/// Whatever is under way in other daemons when somebody is erased, about them or in their name: none of it stays.
#[tokio::test]
async fn commands_under_way_do_not_bring_a_person_back() {
    let place = Plan::default().toml(ROLES).prepare().await;
    let _daemons = [place.start().await, place.start().await];
    let client = place.client().await;
    client.user("bob").await;
    for round in 0..3 {
        client.ok("user.put", json!({ "user": profile(EMAIL) })).await;
        let mut commands = Vec::new();
        for i in 0..200 {
            commands.push(match i % 4 {
                0 => Command::new("user.unblock", json!({ "user": { "id": "bob" }, "actor": ada() })),
                1 => Command::new("password.reset.request", json!({ "user": { "username": USERNAME } })),
                2 => Command::new("user.deactivate", json!({ "user": { "email": EMAIL } })),
                _ => Command::new("invite.send", json!({ "user": { "id": "bob" }, "actor": ada() })),
            });
        }
        commands.insert(100 + round, Command::new("user.erase", erase()));
        let mut ended = 0;
        for correlation in client.begin_all(&commands).await {
            ended += usize::from(client.reply(&correlation).await["ok"] == true);
        }
        assert!(ended > 10, "{ended}");
        until_true("the mails in flight", async || place.count("event_outbox").await == 0).await;
        let names = [ID, "augusta", EMAIL].map(str::to_owned);
        let kept = until("results of mails in flight", async || {
            let stored = place.everything_stored().await;
            (place.count("emails where state = 'queued'").await == 0).then_some(stored)
        });
        assert_nothing_of(&names, &kept.await);
    }
}

/// Several profiles may have one address: a request for it decides about all of them, and each has a row of its own.
#[tokio::test]
async fn nobody_elses_row_holds_what_was_decided_about_somebody_who_is_erased() {
    let (place, daemon) = Plan::default().set("password_reset.min_interval", "60s").start().await;
    let client = place.client().await;
    for (id, username) in [("bob", "bob"), (ID, USERNAME)] {
        let profile = json!({ "id": id, "username": username, "email": EMAIL });
        client.ok("user.put", json!({ "user": profile })).await;
    }
    for _ in 0..2 {
        client.ok("password.reset.request", json!({ "user": { "email": EMAIL } })).await;
    }
    let held = "details ->> 'decision' = 'throttled' and details ->> 'limit' = 'password_reset.min_interval'";
    assert_eq!(place.count(&format!("activity where user_id = 'bob' and {held}")).await, 1);
    client.ok("user.erase", erase()).await;
    place.until_all_is_told().await;
    assert_nothing_of(&[ID.to_owned()], &place.everything_stored().await);
    assert_eq!(daemon.stop().await, 0);
}
