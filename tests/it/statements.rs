//! The statements that the daemon sends, caught on their way, against a database of many people: none of those that run
//! for a command or in the background reads a whole table.

use std::collections::BTreeSet;

use regrant::config::Config;
use regrant::domain::email_state::EmailState;
use regrant::keys::KeyRing;
use regrant::store::TABLES;
use regrant::store::due_emails::{Due, LOOK};
use regrant::store::emails::{self, Which};
use regrant::store::erasure;
use regrant::store::pool;
use regrant::store::retention::{self, Rules, Sweep};
use regrant::store::search::{self, Search};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_postgres::SimpleQueryMessage;

use crate::harness::{
    Client, Command, NEW_PASSWORD, PASSWORD, Place, Plan, Sniffer, address, by_way_of, mail_to, mails, server,
    until_true,
};

/// `i` as a `UUIDv7` of a moment long ago.
const OLD_ID: &str = "(lpad(to_hex(1600000000000 + i), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0'))::uuid";

/// Fills all tables with rows that are long past their time, but for one in a hundred.
async fn fill(place: &Place, rows: usize) {
    let each = format!("from generate_series(1, {rows}) i");
    let at = "timestamptz '2020-09-13' + i * interval '1 ms'";
    let future = "timestamptz '2100-01-01'";
    place
        .run(&format!(
            "insert into users (id, username, username_key, email, email_key, site, created_at, updated_at)
                select 'f' || i, 'f' || i, 'f' || i, 'f' || i || '@x.org', 'f' || i || '@x.org', 'default', {at}, {at} {each};
            insert into tickets (id, user_id, purpose, method, key_id, state, requester, requested_at, created_at, expires_at)
                select {OLD_ID}, 'f' || i, 'password_reset', 'link', 'k',
                    case when i % 100 = 0 then 'open' else 'completed' end, 'self', {at}, {at}, {future} {each};
            insert into sessions (id, user_id, created_at, expires_at, ended_at)
                select {OLD_ID}, 'f' || i, {at}, {future}, case when i % 100 = 0 then null else {at} end {each};
            insert into suppressions select 'f' || i || '@y.org', 'bounced', {at} {each};
            insert into emails (id, user_id, template, site, to_address, facts, state, queued_at, next_attempt_at, give_up_at)
                select {OLD_ID}, 'f' || i, 'invite', 'default', 'f' || i || '@x.org', '{{}}'::jsonb,
                    case when i % 100 = 0 then 'queued' else 'sent' end, {at}, {future}, {future} {each};
            insert into email_attempts select {OLD_ID}, 1, {at}, 'failed', null {each};
            insert into activity (id, at, kind, user_id, publisher, outcome)
                select {OLD_ID}, {at}, 'user.put', 'f' || i, 'guest', 'ok' {each};
            insert into inbox select {OLD_ID}, {OLD_ID}, '{{}}'::jsonb, {at} {each};
            insert into event_outbox (count, events, created_at) select 1, '[]', {at} {each};
            insert into rate_limits select {OLD_ID}, {at}, 1, {at} {each};
            insert into erasures select {OLD_ID}, 'sealed', {future} {each};
            analyze"
        ))
        .await;
}

/// Every command that there is, on every way that it can take.
async fn exercise(place: &Place, client: &Client) {
    client.users(["ada", "eve"].map(str::to_owned)).await;
    client.user("ada").await;
    for name in [json!({ "id": "ada" }), json!({ "username": "ada" }), json!({ "email": "ada@example.com" })] {
        client.ok("user.get", json!({ "user": name })).await;
        client.ok("password.reset.request", json!({ "user": name, "context": { "ip": "192.0.2.1" } })).await;
    }
    until_true("three links", async || mails(&place.mail).len() >= 3).await;
    let token = mails(&place.mail).last().unwrap().token();
    let _ = client.ask(("password.reset.inspect", json!({ "token": token }))).await;
    let code = json!({ "user": { "id": "ada" }, "code": "12345678" });
    let _ = client.ask(("password.reset.inspect", code.clone())).await;
    let _ = client.ask(("password.reset.complete", merged(code, "new_password", NEW_PASSWORD))).await;
    client.ok("password.set", json!({ "user": { "id": "ada" }, "new_password": PASSWORD })).await;
    let login = json!({ "user": { "email": "ada@example.com" }, "password": PASSWORD });
    let session = client.ok("session.login", login.clone()).await["session_id"].take();
    client.ok("session.check", json!({ "session_id": session })).await;
    client.ok("session.logout", json!({ "session_id": session })).await;
    client.ok("session.login", login).await;
    client.ok("session.force_logout", json!({ "users": [{ "id": "ada" }, { "email": "eve@example.com" }] })).await;
    for command in ["user.block", "user.unblock", "user.deactivate", "user.activate"] {
        client.ok(command, json!({ "user": { "id": "eve" } })).await;
    }
    client.ok("invite.send", json!({ "user": { "id": "bob", "username": "bob", "email": "bob@example.com" } })).await;
    client.ok("invite.resend", json!({ "user": { "id": "bob" } })).await;
    let token = mail_to(&place.mail, "bob@example.com", 2).await.token();
    let _ = client.ask(("invite.inspect", json!({ "token": token }))).await;
    let _ = client.ask(("invite.accept", json!({ "token": token, "new_password": PASSWORD }))).await;
    let acted = json!({ "user": { "id": "eve" }, "actor": { "id": "ada" } });
    let _ = client.ask(("user.block", acted)).await;
    let eve = json!({ "user": { "id": "eve" } });
    client.ok("invite.send", eve.clone()).await;
    client.ok("invite.revoke", eve).await;
    client.user("gone").await;
    client.ok("password.reset.request", json!({ "user": { "id": "gone" } })).await;
    client.ok("user.erase", json!({ "user": { "id": "gone" }, "reason": "asked" })).await;
    client.ok("daemon.info", json!({})).await;
    let again = Command::new("user.unblock", json!({ "user": { "id": "eve" } })).id("twice");
    client.ask(again.clone()).await;
    client.ask(again).await;
    place.mail.refuse_rcpt("451 4.3.0 later", None);
    client.ok("password.reset.request", json!({ "user": { "id": "eve" } })).await;
    until_true("a refused mail", async || place.count("email_attempts").await > 0).await;
    place.mail.heal();
    until_true("all mails", async || place.count("emails where state = 'queued'").await == 0).await;
    let first = client.ok("history.emails", json!({ "user": { "id": "ada" }, "limit": 1 })).await;
    let next = json!({ "user": { "id": "ada" }, "cursor": first["next_cursor"] });
    client.ok("history.emails", next).await;
    for body in [
        json!({}),
        json!({ "q": "ada", "role": "x", "include_disabled": true }),
        json!({ "q": "ad", "site": "default", "status": "active" }),
        json!({ "status": "blocked" }),
        json!({ "status": "inactive" }),
        json!({ "status": "locked" }),
        json!({ "status": "force_password_reset" }),
        json!({ "status": "invited" }),
    ] {
        client.ok("user.search", body).await;
    }
    client.ok("history.passwords", json!({ "user": { "id": "ada" } })).await;
    for body in [
        json!({}),
        json!({ "kinds": ["user.put"] }),
        json!({ "by": "system" }),
        json!({ "user": { "id": "ada" } }),
        json!({ "user": { "id": "ada" }, "by": "system", "kinds": ["user.put"] }),
    ] {
        client.ok("history.activity", body).await;
    }
    for body in [json!({ "email": "ada@example.com" }), json!({ "user": { "id": "ada" } })] {
        client.ok("email.explain", body).await;
    }
    exercise_mail(client).await;
    place.run("update emails set state = 'failed' where id = (select id from emails order by id desc limit 1)").await;
    exercise_shell(place);
}

/// What operators look at without a command.
fn exercise_shell(place: &Place) {
    for state in EmailState::ALL {
        place.shell(&["emails", "list", "--state", state.as_str()]).success();
    }
    place.shell(&["emails", "list", "--template", "invite", "--since", "1h"]).success();
    place.shell(&["emails", "list", "--user", "ada", "--state", "failed"]).success();
    let nobody = "019ac2f0-7c1a-7000-8000-000000000001";
    assert!(place.shell(&["emails", "retry", nobody]).out.contains("no such email"));
    place.shell(&["emails", "retry", "--all", "--yes"]).success();
}

/// Commands about mails, and about addresses.
async fn exercise_mail(client: &Client) {
    let eve = json!({ "user": { "id": "eve" } });
    let again = client.ok("password.reset.resend", eve.clone()).await;
    client.ok("email.resend", json!({ "email_id": again["email_id"] })).await;
    let copy = json!({ "email_id": again["email_id"], "to": "elsewhere@example.org" });
    assert_eq!(client.error("email.resend", copy).await, "forward_not_allowed");
    client.ok("email.report", json!({ "email_id": again["email_id"], "kind": "complained" })).await;
    client.ok("email.unsuppress", json!({ "email": "eve@example.com" })).await;
    let unproven = json!({ "id": "uma", "username": "uma", "email": "uma@example.com" });
    client.ok("user.put", json!({ "user": unproven })).await;
    let uma = json!({ "user": { "email": "uma@example.com" }, "method": "code" });
    client.ok("email.verification.send", uma.clone()).await;
    let code = json!({ "user": { "id": "uma" }, "code": "00000000" });
    client.error("email.verification.complete", code).await;
}

fn merged(mut object: Value, key: &str, value: &str) -> Value {
    object[key] = value.into();
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_a_whole_table() {
    let sniffer = Sniffer::start(address(&server("DATABASE_URL"), 5432)).await;
    let place = Plan::default().database_address(&sniffer.address).prepare().await;
    let daemon = place.start().await;
    let client = place.client().await;
    exercise(&place, &client).await;
    // The gauges are read at a steady pace.
    until_true("the gauges", async || {
        let seen = sniffer.seen();
        ["emails where state", "event_outbox limit"].iter().all(|part| seen.iter().any(|s| s.text.contains(part)))
    })
    .await;
    assert_eq!(daemon.stop().await, 0);
    let url = SecretString::from(by_way_of(&place.database_url(), &sniffer.address));
    let mut connection = pool::connect(&url).await.unwrap();
    let now = regrant::clock::now();
    let (rules, mut sweep) = (Rules::from(&Config::default()), Sweep::default());
    sweep.step(&mut connection, &rules, now).await.unwrap();
    sweep.limits(&mut connection, &rules, now).await.unwrap();
    retention::run_out(&mut connection, now).await.unwrap();
    let keys = KeyRing::load(&place.home().join("regrant.keys")).unwrap();
    assert_eq!(erasure::step(&mut connection, &keys).await.unwrap(), erasure::Step::Idle);
    fill(&place, 20_000).await;
    // Searches that the first few people in order do not answer.
    for (text, role) in [(Some("f1999"), None), (Some("f1"), Some("admin")), (None, Some("admin"))] {
        let (text, role) = (text.map(str::to_owned), role.map(str::to_owned));
        search::page(&mut connection, &Search { text, role, now, ..Search::default() }, 51).await.unwrap();
    }

    let statements: Vec<_> = sniffer.seen().into_iter().filter(|statement| is_ours(&statement.text)).collect();
    let mut tables = BTreeSet::new();
    let mut wrong = Vec::new();
    place.run("set plan_cache_mode = force_generic_plan").await;
    for (number, statement) in statements.iter().enumerate() {
        tables.extend(TABLES.iter().filter(|table| statement.text.contains(**table)));
        let types = types(&place, &statement.parameters).await;
        let nulls = vec!["null"; statement.parameters.len()].join(", ");
        let (types, nulls) =
            if nulls.is_empty() { (String::new(), nulls) } else { (format!("({types})"), format!("({nulls})")) };
        place.run(&format!("prepare s{number}{types} as {}", statement.text)).await;
        // A search collects its matches with this setting: it may only not be able to do without.
        let collects = statement.text.starts_with("with found as materialized");
        place.run(if collects { "set enable_seqscan = off" } else { "reset enable_seqscan" }).await;
        let plan = explained(&place, &format!("execute s{number}{nulls}")).await;
        let mut read = BTreeSet::new();
        sequential(&plan, &mut read);
        // Counted up to a bound, whichever rows they are.
        if statement.text.contains("(select count from event_outbox limit 10000)") {
            read.remove("event_outbox");
        }
        if read.iter().any(|table| TABLES.contains(&table.as_str())) {
            wrong.push(format!("{}\n    reads all of {read:?}", statement.text));
        }
    }
    assert!(wrong.is_empty(), "{} of {} statements:\n{}", wrong.len(), statements.len(), wrong.join("\n"));
    assert_eq!(tables, TABLES.iter().copied().collect(), "some tables were never used");
    assert!(statements.len() > 30, "only {} statements were caught", statements.len());
}

/// Whether a statement is the daemon's, and not one of the driver's own questions about types.
fn is_ours(statement: &str) -> bool {
    let verb = statement.trim_start().split([' ', '\n']).next().unwrap_or_default().to_lowercase();
    ["select", "insert", "update", "delete", "with"].contains(&verb.as_str())
        && TABLES.iter().any(|table| statement.contains(table))
}

async fn types(place: &Place, ids: &[u32]) -> String {
    let mut names = Vec::new();
    for id in ids {
        let name =
            if *id == 0 { "unknown".to_owned() } else { place.value(&format!("select format_type({id}, null)")).await };
        names.push(name);
    }
    names.join(", ")
}

async fn explained(place: &Place, statement: &str) -> Value {
    let rows = place.sql.simple_query(&format!("explain (format json) {statement}")).await;
    let rows = rows.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    let text = rows.iter().find_map(|row| if let SimpleQueryMessage::Row(row) = row { row.get(0) } else { None });
    serde_json::from_str(text.unwrap()).unwrap()
}

/// The tables that a plan reads from their beginning to their end.
fn sequential(plan: &Value, into: &mut BTreeSet<String>) {
    match plan {
        Value::Object(node) => {
            if node.get("Node Type").is_some_and(|kind| kind.as_str().unwrap().contains("Seq Scan")) {
                into.insert(node["Relation Name"].as_str().unwrap().to_owned());
            }
            node.values().for_each(|value| sequential(value, into));
        }
        Value::Array(nodes) => nodes.iter().for_each(|node| sequential(node, into)),
        _ => {}
    }
}

/// Mail to a domain that has its share already is passed over, however much of it is due: a little with each look.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_to_one_domain_is_not_read_as_a_whole_to_find_the_mail_behind_it() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let (backlog, at) = (2 * LOOK + LOOK / 2, "timestamptz '2020-09-13'");
    place
        .run(&format!(
            "insert into emails (id, user_id, template, site, to_address, facts, state, queued_at, next_attempt_at, give_up_at)
             select {OLD_ID}, 'f' || i, 'invite', 'default',
                 case when i = {backlog} then 'last@x.org' else 'f' || i || '@Big.example' end,
                 '{{}}'::jsonb, 'queued', {at}, {at} + i / 1000 * interval '1 s', {at} from generate_series(1, {backlog}) i;
             analyze emails"
        ))
        .await;
    let mut connection = pool::connect(&SecretString::from(place.database_url())).await.unwrap();
    let full = ["big.example".to_owned()];
    let (mut after, mut found, mut ends) = (None, Vec::new(), Vec::new());
    for _ in 0..3 {
        let due = Due { most: 5, begun: true, but: &[], but_domains: &full, after };
        let locked = emails::lock(&mut connection, Which::Due(due)).await.unwrap();
        assert!(after < locked.look_on || locked.look_on.is_none(), "{after:?} {:?}", locked.look_on);
        found.push(locked.mails.into_iter().map(|mail| mail.to_address).collect::<Vec<_>>());
        after = locked.look_on;
        ends.push(after);
    }
    let [first, ..] = ends[..] else { panic!("{ends:?}") };
    let due = Due { most: 5, begun: true, but: &[], but_domains: &["x.org".to_owned()], after: first };
    let locked = emails::lock(&mut connection, Which::Due(due)).await.unwrap();
    assert_eq!((locked.mails.len(), locked.look_on), (5, first), "there is more before the end of that look");
    assert_eq!(after, None, "everything was looked at");
    assert_eq!(found, [vec![], vec![], vec!["last@x.org".to_owned()]]);
    let due = Due { most: 5, begun: true, but: &[], but_domains: &[], after: None };
    let locked = emails::lock(&mut connection, Which::Due(due)).await.unwrap();
    assert_eq!((locked.mails.len(), locked.look_on), (5, None), "nothing is passed over: the oldest");
}
