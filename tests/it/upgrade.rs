//! The release before goes on working while the next one migrates: expand, then contract (ARCHITECTURE.md, "The schema").

use regrant::store::packed_events::unpack;
use regrant::store::{event_outbox, pool};
use regrant::world::QueuedEvent;
use secrecy::SecretString;
use serde_json::json;

use crate::harness::{Command, NEW_PASSWORD, Place, mail_to, until_true};

/// Everything that a migration may do while this build runs, done to every table. Each statement is a transaction of its own:
/// one that locked several tables could get into a deadlock with the daemon's.
async fn expand(place: &Place) {
    let tables = "select table_name::text from information_schema.tables \
                  where table_schema = 'public' and not starts_with(table_name, '__diesel')";
    for table in place.rows(tables).await {
        let table: String = table.get(0);
        place.run(&format!("alter table {table} add column next_release text")).await;
        place.run(&format!("alter table {table} add column next_release_too int not null default 7")).await;
        place.run(&format!("create index concurrently on {table} (next_release)")).await;
    }
    place.run("create table next_release (id bigint primary key)").await;
    place.run("insert into __diesel_schema_migrations (version) values ('20991231000000')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_goes_on_while_the_next_release_migrates() {
    let place = Place::new().await;
    let daemon = place.start().await;
    let client = place.client().await;
    // Its statements are prepared before, and work after.
    everything(&place, &client, "before").await;
    let invitations: Vec<Command> = (0..300)
        .map(|n| {
            let user =
                json!({ "id": format!("u{n}"), "username": format!("u{n}"), "email": format!("u{n}@example.com") });
            Command::new("invite.send", json!({ "user": user }))
        })
        .collect();
    let asked = client.begin_all(&invitations).await;
    expand(&place).await;
    for asked in asked {
        assert_eq!(client.reply(&asked).await["ok"], true);
    }
    until_true("all mails", async || place.count("emails where state = 'queued'").await == 0).await;
    assert_eq!(place.count("emails where template = 'invite' and state in ('sent', 'delivered')").await, 301);
    everything(&place, &client, "after").await;
    assert_eq!(daemon.metric("regrant_commands_total", &["outcome=\"retried\""]).await, 0);
    assert_eq!(daemon.stop().await, 0);

    // One of this build that starts now, while others are ahead.
    place.shell(&["check"]).success();
    let daemon = place.start().await;
    everything(&place, &client, "later").await;
    assert_eq!(daemon.stop().await, 0);
}

/// Commands that read and write every table.
async fn everything(place: &Place, client: &crate::harness::Client, id: &str) {
    let user = json!({ "id": id });
    let profile = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
    client.ok("invite.send", json!({ "user": profile })).await;
    let token = mail_to(&place.mail, &format!("{id}@example.com"), 1).await.token();
    client.ok("invite.accept", json!({ "token": token, "new_password": NEW_PASSWORD })).await;
    client.ok("session.login", json!({ "user": user, "password": NEW_PASSWORD })).await;
    client.error("session.login", json!({ "user": user, "password": "wrong" })).await;
    client.ok("password.reset.request", json!({ "user": user, "context": { "ip": "203.0.113.9" } })).await;
    client.ok("session.force_logout", json!({ "users": [user] })).await;
    for query in ["user.get", "email.explain", "history.emails", "history.passwords", "history.activity"] {
        client.ok(query, json!({ "user": user })).await;
    }
    client.ok("user.search", json!({ "q": id })).await;
    until_true("the mails of this person", async || place.count("emails where state = 'queued'").await == 0).await;
    let email: String =
        place.value(&format!("select id::text from emails where user_id = '{id}' and template = 'invite'")).await;
    client.ok("email.report", json!({ "email_id": email, "kind": "delivered" })).await;
    let gone = json!({ "id": format!("{id}-gone"), "username": format!("{id}-gone"), "email": "gone@example.com" });
    client.ok("user.put", json!({ "user": gone })).await;
    client.ok("user.erase", json!({ "user": { "id": format!("{id}-gone") }, "reason": "asked to" })).await;
}

/// There was a row for each event: what waits stays as it is, and in its order, there and back.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_wait_are_packed_and_unpacked() {
    const DOWN: &str = include_str!("../../migrations/2026-11-22-000005_packed_events/down.sql");
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let event =
        |subject: &str, body: &str| QueuedEvent { subject: subject.into(), name: "user.put", body: body.into() };
    let odd = [
        event("o\"hara\n\\", r#"{"b": 1.50, "a": "\u0001\"", "a": []}"#),
        event("ada", "key1.c2VhbGVk"),
        event("ada", "{}"),
    ];
    let url = SecretString::from(place.database_url());
    let connection = pool::connect(&url).await.unwrap();
    let now = regrant::clock::now();
    event_outbox::insert(&connection, &odd, now).await.unwrap();
    event_outbox::insert(&connection, &odd[1..], now).await.unwrap();
    let expected: Vec<_> =
        odd.iter().chain(&odd[1..]).map(|e| (e.subject.clone(), e.name.into(), e.body.clone())).collect();

    place.run(DOWN).await;
    place.run("delete from __diesel_schema_migrations where version = '20261122000005'").await;
    let rows = place.rows("select subject, name, body from event_outbox order by seq").await;
    let single: Vec<(String, String, String)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(single, expected);

    place.shell(&["migrate"]).success();
    event_outbox::insert(&connection, &odd[..1], now).await.unwrap();
    let rows = place.rows("select events, count from event_outbox order by seq").await;
    assert!(rows.iter().all(|row| row.get::<_, i32>(1) == 1));
    assert_eq!(place.value::<i64>("select count(distinct created_at) from event_outbox").await, 1);
    let packed = rows.iter().flat_map(|row| unpack(row.get(0)).unwrap()).map(|e| (e.subject, e.name, e.body));
    let packed: Vec<(String, String, String)> = packed.collect();
    assert_eq!(packed[..5], single);
    assert_eq!(packed[5..], single[..1]);
}
