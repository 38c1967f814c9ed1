//! RabbitMQ or PostgreSQL away, at start or later: the daemon waits, says so, goes on by itself, and loses nothing.

use serde_json::json;

use crate::broker::proxy::Proxy;
use crate::harness::{Client, Command, Daemon, Place, Plan, a_moment, address, mails, server, until_true};

/// A place where both servers can be cut off; the tests' own connections do not pass through the proxies.
struct Fragile {
    database: Proxy,
    broker: Proxy,
    place: Place,
}

impl Fragile {
    async fn new() -> Self {
        let database = Proxy::start(address(&server("DATABASE_URL"), 5432)).await;
        let broker = Proxy::before_the_broker().await;
        let plan = Plan::default().database_address(&database.address).broker_url(broker.url(""));
        let place = plan.prepare().await;
        Self { database, broker, place }
    }
}

fn away(proxy: &Proxy) {
    proxy.refuse(true);
    proxy.cut();
}

fn back(proxy: &Proxy) {
    proxy.refuse(false);
}

fn put(n: usize) -> Command {
    let id = format!("u{n}");
    let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
    Command::new("user.put", json!({ "user": user })).id(&format!("put-{n}"))
}

fn request(n: usize) -> Command {
    let body = json!({ "user": { "id": format!("u{n}") } });
    Command::new("password.reset.request", body).id(&format!("reset-{n}"))
}

/// Waits until the daemon's only trouble is `what`.
async fn only_trouble(daemon: &Daemon, what: &str) {
    until_true(&format!("no other trouble than {what}"), async || daemon.troubles().await == [what]).await;
}

/// An outage is nobody's fault: it must not count as a failure of commands.
async fn nothing_was_blamed(daemon: &Daemon, client: &Client) {
    for outcome in ["retried", "buried", "invalid", "rejected"] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(daemon.metric("regrant_commands_total", &[&label]).await, 0, "{outcome}");
    }
    assert_eq!(daemon.metric("regrant_dead_letters_total", &[]).await, 0);
    for queue in ["dead", "retry.1s", "retry.5s", "commands.state"] {
        assert_eq!(client.depth(queue).await, 0, "{queue}");
    }
}

#[tokio::test]
async fn the_database_is_away_at_the_start() {
    let fragile = Fragile::new().await;
    away(&fragile.database);
    let mut daemon = fragile.place.launch();
    only_trouble(&daemon, "database").await;
    assert_eq!(daemon.get("/healthz").await.0, 200);
    let client = fragile.place.client().await;
    let commands: Vec<Command> = (0..20).map(put).collect();
    let correlations = client.begin_all(&commands).await;
    a_moment().await;
    assert_eq!(client.depth("commands.state").await, 20, "commands wait at the broker, where others could take them");
    back(&fragile.database);
    for correlation in correlations {
        assert_eq!(client.reply(&correlation).await["ok"], true);
    }
    daemon.wait_until_ready().await;
    nothing_was_blamed(&daemon, &client).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn the_database_goes_away_under_load() {
    let fragile = Fragile::new().await;
    let (place, database) = (&fragile.place, &fragile.database);
    let mut daemon = place.start().await;
    let client = place.client().await;
    for n in 0..3 {
        let commands: Vec<Command> = (n * 100..(n + 1) * 100).map(put).collect();
        let publishing = client.begin_all(&commands);
        let cutting = async {
            tokio::time::sleep(std::time::Duration::from_millis(20 * n as u64)).await;
            away(database);
        };
        let (correlations, ()) = tokio::join!(publishing, cutting);
        daemon.wait_until_not_ready("database").await;
        back(database);
        for correlation in correlations {
            assert_eq!(client.reply(&correlation).await["ok"], true);
        }
    }
    daemon.wait_until_ready().await;
    assert_eq!(place.count("users").await, 300);
    assert_eq!(place.count("activity").await, 300);
    daemon.until_metric_at_least("regrant_reconnects_total", &["database"], 1).await;
    daemon.until_metric("regrant_database_up", &[], 1).await;
    nothing_was_blamed(&daemon, &client).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn mail_survives_an_outage_of_the_database() {
    let fragile = Fragile::new().await;
    let (place, database) = (&fragile.place, &fragile.database);
    let daemon = place.start().await;
    let client = place.client().await;
    client.users((0..200).map(|n| format!("u{n}"))).await;
    client.publish_all((0..200).map(request)).await;
    until_true("the first mails", async || place.mail.messages().len() >= 10).await;
    away(database);
    daemon.wait_until_not_ready("database").await;
    back(database);
    until_true("all mails on record", async || place.count("emails where state = 'sent'").await == 200).await;
    let mut ids: Vec<(String, String)> =
        mails(&place.mail).iter().map(|mail| (mail.to.clone(), mail.header("message-id"))).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 200, "each person has one mail, perhaps twice under the same Message-ID");
    nothing_was_blamed(&daemon, &client).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn the_broker_is_away_at_the_start() {
    let fragile = Fragile::new().await;
    away(&fragile.broker);
    let mut daemon = fragile.place.launch();
    only_trouble(&daemon, "broker").await;
    daemon.until_metric("regrant_broker_connected", &[], 0).await;
    back(&fragile.broker);
    daemon.wait_until_ready().await;
    let client = fragile.place.client().await;
    client.user("ada").await;
    daemon.until_metric("regrant_broker_connected", &[], 1).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn both_are_away_at_the_start() {
    let fragile = Fragile::new().await;
    away(&fragile.broker);
    away(&fragile.database);
    let mut daemon = fragile.place.launch();
    daemon.wait_until_not_ready("broker").await;
    daemon.wait_until_not_ready("database").await;
    back(&fragile.database);
    only_trouble(&daemon, "broker").await;
    back(&fragile.broker);
    daemon.wait_until_ready().await;
    fragile.place.client().await.user("ada").await;
}

#[tokio::test]
async fn a_daemon_whose_servers_are_away_stops_when_asked() {
    let fragile = Fragile::new().await;
    away(&fragile.broker);
    away(&fragile.database);
    let daemon = fragile.place.launch();
    daemon.wait_until_not_ready("database").await;
    assert_eq!(daemon.stop().await, 0, "before it ever ran");

    back(&fragile.broker);
    back(&fragile.database);
    let daemon = fragile.place.start().await;
    away(&fragile.broker);
    away(&fragile.database);
    daemon.wait_until_not_ready("database").await;
    daemon.wait_until_not_ready("broker").await;
    assert_eq!(daemon.stop().await, 0, "after it ran");
}

#[tokio::test]
async fn the_broker_is_cut_off_under_load() {
    let fragile = Fragile::new().await;
    let (place, broker) = (&fragile.place, &fragile.broker);
    let mut daemon = place.start().await;
    let client = place.client().await;
    let events = client.events("password.reset.requested").await;
    client.users((0..300).map(|n| format!("u{n}"))).await;
    for n in 0..3 {
        let publishing = client.publish_all((n * 100..(n + 1) * 100).map(request));
        let cutting = async {
            tokio::time::sleep(std::time::Duration::from_millis(20 * n as u64)).await;
            away(broker);
        };
        tokio::join!(publishing, cutting);
        daemon.wait_until_not_ready("broker").await;
        back(broker);
        daemon.wait_until_ready().await;
    }
    until_true("all mails on record", async || place.count("emails where state = 'sent'").await == 300).await;
    assert_eq!(place.count("tickets where state = 'open'").await, 300);
    // Replies may have been lost on the way, as on any network: whoever asks again gets the first answer.
    for n in 0..300 {
        let again = client.ask(request(n)).await;
        assert_eq!((&again["ok"], &again["duplicate"]), (&json!(true), &json!(true)), "{again}");
    }
    let mut told = std::collections::BTreeSet::new();
    while told.len() < 300 {
        told.insert(events.next().await.body["subject"].as_str().unwrap().to_owned());
    }
    assert_eq!(place.count("tickets").await, 300);
    daemon.until_metric_at_least("regrant_reconnects_total", &["broker"], 1).await;
    nothing_was_blamed(&daemon, &client).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_of_a_command_is_not_its_fault() {
    let fragile = Fragile::new().await;
    let (place, database) = (&fragile.place, &fragile.database);
    let daemon = place.start().await;
    let client = place.client().await;
    client.user("ada").await;
    // The command has to wait for the person's row: there the connection breaks under it, again and again.
    place.run("begin; select 1 from users for update").await;
    let command = Command::new("user.block", json!({ "user": { "id": "ada" } }));
    let correlation = client.begin(&command).await;
    for times in 1..=3 {
        // Backends notice only when they get the lock that nobody is there any more: they add up.
        until_true("the command to wait for the row", async || place.waiting_for_locks().await >= times).await;
        database.cut();
    }
    place.run("commit").await;
    assert_eq!(client.reply(&correlation).await["ok"], true);
    assert_eq!(place.count("activity where kind = 'user.block'").await, 1);
    nothing_was_blamed(&daemon, &client).await;
}
