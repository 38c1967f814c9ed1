//! Events leave in order for each person and once each, with three daemons that act at the same time on the same people.

use std::collections::{BTreeMap, BTreeSet};

use regrant::domain::account::{Account, Profile};
use regrant::store::packed_events::unpack;
use regrant::store::{Error, accounts, event_outbox, pool};
use regrant::world::QueuedEvent;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::harness::{Command, PASSWORD, Place, a_moment, until_true};

const PEOPLE: usize = 6;
const ROUNDS: usize = 40;

async fn nothing_to_tell(place: &Place) {
    until_true("all mails to be out", async || place.count("emails where state = 'queued'").await == 0).await;
    place.until_all_is_told().await;
}

async fn epochs(place: &Place) -> BTreeMap<String, i64> {
    place.rows("select id, session_epoch from users").await.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn named(n: usize) -> Value {
    json!({ "id": format!("u{n}") })
}

/// What was told of a person so far.
#[derive(Default, Debug)]
struct Told {
    blocked: Option<bool>,
    active: Option<bool>,
    epoch: i64,
    opened: BTreeSet<String>,
    /// Commands of which something was told.
    commands: BTreeSet<String>,
    log: Vec<String>,
}

impl Told {
    /// What is told must be possible after what was told before.
    fn hear(&mut self, name: &str, data: &Value) {
        self.log.push(format!("{name} {data}"));
        let log = || self.log.join("\n");
        let flip = |flag: &mut Option<bool>, to: bool, log: &str| {
            assert_ne!(*flag, Some(to), "told twice in a row, or in another order than it happened:\n{log}");
            *flag = Some(to);
        };
        match name {
            "user.blocked" | "user.unblocked" => flip(&mut self.blocked, name == "user.blocked", &log()),
            "user.activated" | "user.deactivated" => flip(&mut self.active, name == "user.activated", &log()),
            "session.opened" => {
                assert_ne!(self.blocked, Some(true), "somebody who is blocked signs in:\n{}", log());
                assert_ne!(self.active, Some(false), "somebody who is inactive signs in:\n{}", log());
                self.opened.insert(data["session_id"].as_str().unwrap().to_owned());
            }
            "session.revoked" => {
                // Each of them grew it by one: none is missing, doubled or late.
                self.epoch += 1;
                assert_eq!(data["session_epoch"], self.epoch, "{}", log());
                for session in data["session_ids"].as_array().unwrap() {
                    assert!(self.opened.remove(session.as_str().unwrap()), "not open: {session}\n{}", log());
                }
                assert!(self.opened.is_empty(), "all sessions ended, and some are still open:\n{}", log());
            }
            "email.sent" => {
                let command = data["command_id"].as_str().unwrap();
                assert!(self.commands.contains(command), "the mail comes before its reason:\n{}", log());
            }
            _ => {}
        }
        self.commands.insert(data["command_id"].as_str().unwrap().to_owned());
    }
}

#[tokio::test]
async fn what_is_told_of_a_person_is_told_in_the_order_in_which_it_happened_and_once() {
    let place = Place::new().await;
    let daemons = [place.start().await, place.start().await, place.start().await];
    let client = place.client().await;
    client.users((0..PEOPLE).map(|n| format!("u{n}"))).await;
    for n in 0..PEOPLE {
        let set = json!({ "user": named(n), "new_password": PASSWORD });
        client.ok("password.set", set).await;
    }
    nothing_to_tell(&place).await;
    let before = epochs(&place).await;
    let events = client.events("#").await;

    let names =
        ["user.block", "session.login", "user.unblock", "session.force_logout", "user.deactivate", "user.activate"];
    let mut commands = Vec::new();
    for round in 0..ROUNDS {
        for n in 0..PEOPLE {
            // Each person gets them in another order, so that the same commands meet in all ways.
            let name = names[(round * (n + 1) + n) % names.len()];
            let body = match name {
                "session.login" => json!({ "user": named(n), "password": PASSWORD }),
                "session.force_logout" => json!({ "users": [named(n)] }),
                _ => json!({ "user": named(n) }),
            };
            commands.push(Command::new(name, body));
            if round % 4 == n % 4 {
                commands.push(Command::new("password.reset.request", json!({ "user": named(n) })));
            }
        }
    }
    for correlation in client.begin_all(&commands).await {
        client.reply(&correlation).await;
    }

    nothing_to_tell(&place).await;
    a_moment().await;
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    for (id, epoch) in &before {
        told.insert(id.clone(), Told { epoch: *epoch, ..Told::default() });
    }
    let mut ids = BTreeSet::new();
    while let Some(event) = events.try_next().await {
        let id = event.body["id"].as_str().unwrap().to_owned();
        assert!(ids.insert(id), "told twice: {}", event.body);
        let person = event.body["subject"].as_str().unwrap();
        told.get_mut(person).unwrap().hear(&event.routing_key, &event.body["data"]);
    }
    for (id, epoch) in epochs(&place).await {
        assert_eq!(told[&id].epoch, epoch, "the last that was told of {id} is how it is");
    }
    for daemon in daemons {
        assert!(daemon.metric("regrant_commands_total", &["outcome=\"ok\""]).await > 0, "a daemon had nothing to do");
    }
}

#[tokio::test]
async fn a_profile_that_several_create_at_once_is_created_once() {
    let place = Place::new().await;
    let _daemons = [place.start().await, place.start().await, place.start().await];
    let client = place.client().await;
    let events = client.events("user.*").await;
    for round in 0..25 {
        let id = format!("new{round}");
        let put = |n: usize| {
            let user = json!({ "id": id, "username": id, "email": format!("{id}.{n}@example.com") });
            Command::new("user.put", json!({ "user": user }))
        };
        let commands: Vec<Command> = (0..6).map(put).collect();
        for correlation in client.begin_all(&commands).await {
            let reply = client.reply(&correlation).await;
            assert_eq!(reply["ok"], true, "{reply}");
        }
        for n in 0..6 {
            let event = events.next().await;
            let expected = if n == 0 { "user.created" } else { "user.updated" };
            let told = (event.routing_key.as_str(), &event.body["subject"]);
            assert_eq!(told, (expected, &json!(id)), "event {n}: {}", event.body);
        }
    }
    assert_eq!(place.count("users").await, 25);
}

/// Also in the same microsecond, which is all that the database keeps of a moment.
#[tokio::test]
async fn of_those_who_create_a_profile_in_the_same_moment_all_but_one_decide_again() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let connection = pool::connect(&SecretString::from(place.database_url())).await.unwrap();
    let profile = Profile {
        id: "ada".into(),
        username: "ada".into(),
        email: "ada@example.com".into(),
        site: "default".into(),
        ..Profile::default()
    };
    let new = Account::new(profile, regrant::clock::now());
    accounts::write(&connection, [&new].into_iter()).await.unwrap();
    let again = accounts::write(&connection, [&new].into_iter()).await;
    assert!(matches!(again, Err(Error::Conflict(_))), "{again:?}");
}

/// A subscriber that takes nothing holds up those whose events it does not take; of a row, the rest is told once.
#[tokio::test]
async fn a_row_that_cannot_be_read_holds_up_nobody_and_stays() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let strange = "insert into event_outbox (count, events, created_at) values (1, '[{}]', now())";
    place.run(strange).await;
    let daemon = place.start().await;
    let client = place.client().await;
    let events = client.events("user.created").await;
    client.user("ada").await;
    assert_eq!(events.next().await.body["subject"], "ada");
    place.run(strange).await;
    client.user("bob").await;
    assert_eq!(events.next().await.body["subject"], "bob");
    daemon.until_metric("regrant_events_pending", &[], 2).await;
    // It is tried again and again meanwhile, and told once.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let told = |seq| daemon.log().matches(&format!("the row {seq} of event_outbox cannot be read")).count();
    let rows = place.rows("select seq from event_outbox where events = '[{}]'").await;
    let seqs: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(seqs.iter().map(told).collect::<Vec<_>>(), [1, 1], "{}", daemon.log());
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn of_a_row_that_the_broker_takes_in_part_the_rest_stays() {
    let place = Place::new().await;
    let _daemon = place.start().await;
    let client = place.client().await;
    let events = client.events("#").await;
    let full = client.refuse_events("user.blocked").await;
    let row = [
        ("ada", "user.created"),
        ("ada", "user.blocked"),
        ("bob", "user.updated"),
        ("ada", "user.updated"),
        ("bob", "user.blocked"),
        ("eve", "user.updated"),
    ];
    let queued = row.map(|(subject, name)| QueuedEvent {
        subject: subject.to_owned(),
        name,
        body: json!({ "subject": subject }).to_string(),
    });
    let url = SecretString::from(place.database_url());
    let connection = pool::connect(&url).await.unwrap();
    event_outbox::insert(&connection, &queued, regrant::clock::now()).await.unwrap();

    let left = async || {
        let rows = place.rows("select events, count from event_outbox").await;
        let left = rows.iter().flat_map(|row| unpack(row.get(0)).unwrap()).map(|e| (e.subject, e.name));
        let left: Vec<(String, String)> = left.collect();
        let count: i32 = rows.iter().map(|row| row.get::<_, i32>(1)).sum();
        assert_eq!(usize::try_from(count), Ok(left.len()));
        left
    };
    let stays = [("ada", "user.blocked"), ("ada", "user.updated"), ("bob", "user.blocked")];
    until_true("what can be told", async || left().await.len() < row.len()).await;
    assert_eq!(left().await, stays.map(|(subject, name)| (subject.to_owned(), name.to_owned())));
    full.delete().await;
    place.until_all_is_told().await;

    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(event) = events.try_next().await {
        told.entry(event.body["subject"].as_str().unwrap().to_owned()).or_default().push(event.routing_key);
    }
    assert_eq!(told["eve"], ["user.updated"]);
    assert_eq!((told["bob"][0].as_str(), told["bob"][1].as_str()), ("user.updated", "user.blocked"));
    assert_eq!(told["bob"].iter().filter(|name| *name == "user.updated").count(), 1);
    assert_eq!(told["ada"].iter().filter(|name| *name == "user.created").count(), 1);
    assert_eq!(told["ada"][told["ada"].len() - 2..], ["user.blocked", "user.updated"]);
}

/// A subscriber that takes nothing holds up nobody else, however much it does not take; and others do not get all of that
/// again and again.
#[tokio::test]
async fn a_full_queue_holds_up_only_whom_its_events_are_about() {
    const REFUSED: usize = 150;
    let place = Place::new().await;
    let url = SecretString::from(place.database_url());
    let daemon = place.start().await;
    let client = place.client().await;
    let events = client.events("#").await;
    let full = client.refuse_events("user.created").await;
    let connection = pool::connect(&url).await.unwrap();
    let tell = async |subject: &str, name: &'static str| {
        let body = json!({ "subject": subject }).to_string();
        let queued = [QueuedEvent { subject: subject.to_owned(), name, body }];
        event_outbox::insert(&connection, &queued, regrant::clock::now()).await.unwrap();
    };
    for n in 0..REFUSED {
        tell(&format!("u{n}"), "user.created").await;
    }
    tell("eve", "user.blocked").await;
    events.up_to("user.blocked").await;
    tell("u0", "user.blocked").await;
    tell("kim", "user.created").await;
    tell("eve", "user.unblocked").await;
    let told = events.up_to("user.unblocked").await;
    assert!(
        told.iter().any(|event| event.body["subject"] == "kim"),
        "what is new is told once, though one does not take it"
    );
    assert!(told.iter().all(|event| event.routing_key != "user.blocked"), "u0's later event waits for the earlier one");
    // It is tried again meanwhile.
    for _ in 0..2 {
        events.up_to("user.created").await;
    }
    assert_eq!(place.count("event_outbox").await, i64::try_from(REFUSED + 2).unwrap());

    full.delete().await;
    place.until_all_is_told().await;
    let mut told = Vec::new();
    while let Some(event) = events.try_next().await {
        told.push((event.body["subject"].as_str().unwrap().to_owned(), event.routing_key));
    }
    for n in 0..REFUSED {
        assert!(told.contains(&(format!("u{n}"), "user.created".to_owned())), "u{n}");
    }
    assert!(told.len() < REFUSED + 50, "{} events", told.len());
    let of_u0: Vec<&str> = told.iter().filter(|(subject, _)| subject == "u0").map(|(_, name)| name.as_str()).collect();
    assert_eq!(of_u0.last(), Some(&"user.blocked"), "{of_u0:?}");
    assert_eq!(of_u0.iter().filter(|name| **name == "user.blocked").count(), 1);
    assert!(daemon.log().contains("names=\"user.created\""), "the log names what is refused");
}

/// Nor does a subscriber that takes one event now and then get the same ones for ever.
#[tokio::test]
async fn a_slow_subscriber_gets_each_event_of_a_person_once_and_in_order() {
    let place = Place::new().await;
    let _daemon = place.start().await;
    let client = place.client().await;
    let slow = client.one_event_at_a_time("user.#").await;
    let connection = pool::connect(&SecretString::from(place.database_url())).await.unwrap();
    let names = ["user.created", "user.updated", "user.updated", "user.updated", "user.blocked", "user.unblocked"];
    for (subject, names) in [("eve", &["user.created", "user.updated"] as &[_]), ("ada", &names)] {
        let queued: Vec<QueuedEvent> = (0..)
            .zip(names.iter().copied())
            .map(|(n, name)| {
                let body = json!({ "subject": subject, "n": n }).to_string();
                QueuedEvent { subject: subject.to_owned(), name, body }
            })
            .collect();
        event_outbox::insert(&connection, &queued, regrant::clock::now()).await.unwrap();
    }
    let mut got: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for _ in 0..names.len() + 2 {
        let event = slow.next().await;
        got.entry(event.body["subject"].as_str().unwrap().to_owned())
            .or_default()
            .push(event.body["n"].as_i64().unwrap());
    }
    assert_eq!(got["ada"], [0, 1, 2, 3, 4, 5]);
    assert_eq!(got["eve"], [0, 1]);
    place.until_all_is_told().await;
}

#[tokio::test]
async fn rows_of_many_events_stay_on_their_pages() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    let body = json!({ "data": "x".repeat(400) }).to_string();
    let queued = vec![QueuedEvent { subject: "ada".into(), name: "user.updated", body }; 200];
    let url = SecretString::from(place.database_url());
    let connection = pool::connect(&url).await.unwrap();
    event_outbox::insert(&connection, &queued, regrant::clock::now()).await.unwrap();
    let whole = "octet_length(events) between 7400 and 8000 and pg_column_size(events) = octet_length(events) + 4";
    let rows = place.count("event_outbox").await;
    assert_eq!(place.count(&format!("event_outbox where {whole}")).await, rows - 1, "all but the last");
    assert_eq!(place.value::<i64>("select sum(count) from event_outbox").await, 200);
    let pieces = "select pg_relation_size(reltoastrelid) from pg_class where oid = 'event_outbox'::regclass";
    assert_eq!(place.value::<i64>(pieces).await, 0);
}
