//! Rows past their retention are deleted in small steps, and all others stay, in every table.

use std::collections::BTreeSet;
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use regrant::config::Config;
use regrant::store::pool;
use regrant::store::retention::{self, Rules, STEP, Sweep};
use secrecy::SecretString;
use serde_json::json;

use crate::harness::{Command, Place, Plan, until_true};

/// Every table, and how it is kept from growing for ever. Whoever adds one thinks of that, and writes it down here.
const TABLES: [(&str, &str); 12] = [
    ("__diesel_schema_migrations", "a row a migration"),
    ("users", "a row a person, until user.erase"),
    ("tickets", "retention.tickets"),
    ("sessions", "sessions.lifetime"),
    ("suppressions", "retention.activity, once nobody has the address"),
    ("emails", "retention.emails"),
    ("email_attempts", "retention.emails"),
    ("activity", "retention.activity"),
    ("inbox", "retention.commands"),
    ("event_outbox", "empty but for what the broker has not taken yet"),
    ("erasures", "empty but for what is not finished yet"),
    ("rate_limits", "two days after the last request"),
];

#[tokio::test]
async fn no_table_is_forgotten() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let tables = place.rows("select tablename::text from pg_tables where schemaname = 'public'").await;
    let tables: BTreeSet<String> = tables.into_iter().map(|row| row.get(0)).collect();
    assert_eq!(tables, TABLES.iter().map(|(table, _)| (*table).to_owned()).collect());
}

/// A `UUIDv7` made `days` days ago, the `i`th of that moment.
fn id(days: u32) -> String {
    format!(
        "(lpad(to_hex((extract(epoch from now() - interval '{days} days') * 1000)::bigint), 12, '0') || '70008000' \
         || lpad(to_hex(i), 12, '0'))::uuid"
    )
}

/// Inserts `count` rows of an age into every table, with the state and expiry that decide whether a row may go.
async fn rows(place: &Place, count: usize, days: u32, state: &str, expires: &str) {
    let (id, at, each) =
        (id(days), format!("now() - interval '{days} days'"), format!("from generate_series(1, {count}) i"));
    let (ticket, mail, ended) = match state {
        "open" => ("open", "queued", "null".to_owned()),
        _ => ("completed", "sent", at.clone()),
    };
    place
        .run(&format!(
            "insert into tickets (id, user_id, purpose, method, key_id, state, requester, requested_at, created_at, expires_at)
                select {id}, '{state}{days}.' || i, 'invite', 'link', 'k', '{ticket}', 'self', {at}, {at}, {expires} {each};
            insert into sessions (id, user_id, created_at, expires_at, ended_at)
                select {id}, 'u' || i, {at}, {expires}, {ended} {each};
            insert into emails (id, user_id, template, site, to_address, facts, state, queued_at, next_attempt_at, give_up_at)
                select {id}, 'u' || i, 'invite', 'default', 'x', '{{}}', '{mail}', {at}, 'infinity', 'infinity' {each};
            insert into email_attempts select {id}, 1, {at}, 'failed', null {each};
            insert into activity (id, at, kind, publisher, outcome) select {id}, {at}, '{state}', 'guest', 'ok' {each};
            insert into inbox select md5('{state}{days}' || i)::uuid, {id}, '{{}}', {at} {each};
            insert into suppressions select '{state}{days}.' || i, 'bounced', {at} {each};
            insert into rate_limits select md5('{state}{days}' || i)::uuid, {at}, 1, {at} {each}"
        ))
        .await;
}

const CLEANED: [&str; 8] =
    ["tickets", "sessions", "emails", "email_attempts", "activity", "inbox", "suppressions", "rate_limits"];

async fn counts(place: &Place) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in CLEANED {
        counts.push(place.count(table).await);
    }
    counts
}

async fn connect(place: &Place) -> AsyncPgConnection {
    pool::connect(&SecretString::from(place.database_url())).await.unwrap()
}

/// Steps until nothing is left to do at once; checks that none is larger than it may be. How many there were.
async fn sweep(place: &Place, connection: &mut AsyncPgConnection, rules: &Rules) -> usize {
    let (mut sweep, now) = (Sweep::default(), regrant::clock::now());
    let (mut before, mut steps) = (counts(place).await, 0);
    loop {
        let more = sweep.step(connection, rules, now).await.unwrap();
        let limits = sweep.limits(connection, rules, now).await.unwrap();
        let after = counts(place).await;
        for (table, (before, after)) in CLEANED.iter().zip(before.iter().zip(&after)) {
            assert!(before - after <= STEP, "{table}: {before} to {after} in one step");
        }
        (before, steps) = (after, steps + 1);
        if !more && !limits {
            return steps;
        }
    }
}

fn rules(change: impl FnOnce(&mut Config)) -> Rules {
    let mut config = Config::default();
    change(&mut config);
    Rules::from(&config)
}

#[tokio::test]
async fn what_is_past_its_time_goes_in_bounded_steps_and_the_rest_stays() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let (past, future) = ("now() - interval '1 hour'", "now() + interval '1 hour'");
    rows(&place, 5000, 500, "closed", past).await;
    rows(&place, 3, 0, "closed", future).await;
    let mut connection = connect(&place).await;
    let steps = sweep(&place, &mut connection, &rules(|_| {})).await;
    assert!((3..8).contains(&steps), "5000 rows of each table, 2000 at a time, took {steps} steps");
    assert_eq!(counts(&place).await, [3; 8]);
}

#[tokio::test]
async fn each_table_has_its_own_time() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    for days in [1, 5, 20, 60, 200, 500] {
        rows(&place, 1, days, "closed", "now()").await;
    }
    let mut connection = connect(&place).await;
    sweep(&place, &mut connection, &rules(|_| {})).await;
    let [tickets, sessions, emails, attempts, activity, inbox, suppressions, limits] = [4, 3, 4, 4, 5, 2, 5, 1];
    assert_eq!(counts(&place).await, [tickets, sessions, emails, attempts, activity, inbox, suppressions, limits]);
    let shorter = rules(|config| {
        config.retention.tickets = Duration::from_secs(6 * 86_400);
        config.retention.emails = Duration::from_secs(2 * 86_400);
        config.retention.activity = Duration::from_secs(30 * 86_400);
        config.retention.commands = Duration::from_secs(86_400 / 2);
    });
    sweep(&place, &mut connection, &shorter).await;
    assert_eq!(counts(&place).await, [2, 3, 1, 1, 3, 0, 3, 1]);
}

#[tokio::test]
async fn what_is_still_good_outlives_its_retention() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let (past, future) = ("now() - interval '1 hour'", "now() + interval '1 hour'");
    // More of them than a step looks at: what lies behind must be reached all the same.
    rows(&place, 2500, 500, "open", future).await;
    rows(&place, 10, 499, "open", past).await;
    rows(&place, 10, 498, "closed", future).await;
    place
        .run(
            "insert into users (id, username, username_key, email, email_key, site, created_at, updated_at)
                values ('a', 'a', 'a', 'a', 'open500.7', 'default', now(), now())",
        )
        .await;
    let mut connection = connect(&place).await;
    let (rules, now, mut sweep) = (rules(|_| {}), regrant::clock::now(), Sweep::default());
    for _ in 0..4 {
        sweep.step(&mut connection, &rules, now).await.unwrap();
    }
    let left = counts(&place).await;
    // Queued mails stay too; the address that somebody has stays suppressed; logs do not care.
    assert_eq!(left[..7], [2500, 2500, 2510, 0, 0, 0, 1]);
    assert_eq!(place.count("tickets where state <> 'open' or expires_at < now()").await, 0);
    assert_eq!(place.count("sessions where ended_at is not null or expires_at < now()").await, 0);
}

/// Each is counted once, whichever daemon comes to it.
#[tokio::test]
async fn tickets_that_run_out_are_counted_once() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let (past, future) = ("now() - interval '1 hour'", "now() + interval '1 hour'");
    rows(&place, 2100, 1, "open", past).await;
    rows(&place, 5, 2, "open", future).await;
    rows(&place, 5, 3, "closed", past).await;
    let (mut one, mut other) = (connect(&place).await, connect(&place).await);
    let now = regrant::clock::now();
    let (first, second) = tokio::join!(retention::run_out(&mut one, now), retention::run_out(&mut other, now));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.iter().all(|purpose| purpose == "invite"));
    assert!(first.len() <= 2000 && second.len() <= 2000);
    let third = retention::run_out(&mut one, now).await.unwrap();
    assert_eq!(first.len() + second.len() + third.len(), 2100);
    assert_eq!(retention::run_out(&mut one, now).await.unwrap().len(), 0);
}

/// Whatever addresses are asked for from one place: no more rows than its limit, and none for what is refused.
#[tokio::test]
async fn a_flood_leaves_few_rows() {
    let (place, _daemon) = Plan::default().set("password_reset.max_per_ip_per_hour", 30).start().await;
    let client = place.client().await;
    let ask = |i: usize| {
        let user = json!({ "email": format!("nobody{i}@example.com") });
        Command::new("password.reset.request", json!({ "user": user, "context": { "ip": "192.0.2.1" } }))
    };
    let commands: Vec<Command> = (0..400).map(ask).collect();
    for correlation in client.begin_all(&commands).await {
        assert_eq!(client.reply(&correlation).await["result"], json!({ "accepted": true }));
    }
    // One for the IP, and one for each address that it could still ask for.
    assert_eq!(place.count("rate_limits").await, 31);
}

/// A daemon with a huge purge before it answers as ever, and gets through it.
#[tokio::test]
async fn a_huge_purge_does_not_keep_it_from_answering() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    rows(&place, 60_000, 500, "closed", "now()").await;
    rows(&place, 1000, 500, "open", "now()").await;
    let (one, other) = (place.start().await, place.start().await);
    let client = place.client().await;
    let mut answered = 0;
    until_true("the end of the purge", async || {
        client.user(&format!("u{}", answered % 100)).await;
        client.ok("password.reset.request", json!({ "user": { "id": format!("u{}", answered % 100) } })).await;
        answered += 1;
        place.count("activity where kind = 'closed'").await
            + place.count("rate_limits where last_at < now() - interval '3 days'").await
            + place.count("tickets where id < '01900000-0000-7000-8000-000000000000'").await
            == 0
    })
    .await;
    assert!(answered > 5, "{answered}");
    assert_eq!(place.count("users").await, i64::min(answered, 100));
    let expired = ["purpose=\"invite\"", "event=\"expired\""];
    assert!(
        one.metric("regrant_tickets_total", &expired).await + other.metric("regrant_tickets_total", &expired).await
            <= 1000
    );
    assert_eq!((one.stop().await, other.stop().await), (0, 0));
}

/// A person who is made and asks for a reset in the same batch: the limits that were counted before hold.
#[tokio::test]
async fn limits_hold_for_somebody_who_is_put_in_the_same_batch() {
    let (place, daemon) = Plan::default().set("password_reset.max_per_day", 2).start().await;
    let client = place.client().await;
    let put =
        |email: &str| Command::new("user.put", json!({ "user": { "id": "ada", "username": "ada", "email": email } }));
    let ask = || Command::new("password.reset.request", json!({ "user": { "id": "ada" } }));
    client.ask(put("one@example.com")).await;
    for _ in 0..2 {
        client.ask(ask()).await;
    }
    client.ok("user.erase", json!({ "user": { "id": "ada" }, "reason": "asked" })).await;
    assert_eq!(daemon.stop().await, 0);
    // They wait together, so they are taken together, and in their order.
    let commands = [put("one@example.com"), ask(), put("two@example.com"), ask(), ask()];
    let mut correlations = Vec::new();
    for command in &commands {
        correlations.push(client.begin(command).await);
    }
    let _daemon = place.start().await;
    for correlation in correlations {
        assert_eq!(client.reply(&correlation).await["ok"], true);
    }
    let decisions = place
        .rows("select details->>'decision' from activity where user_id = 'ada' and kind = 'password.reset.request' order by id")
        .await;
    let decisions: Vec<String> = decisions.into_iter().map(|row| row.get(0)).collect();
    assert_eq!(decisions, ["throttled", "throttled", "throttled"]);
}
