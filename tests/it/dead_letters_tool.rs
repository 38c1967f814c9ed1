//! `regrant dead-letters`: nothing is lost by looking, and a replay is the command that it was.

use std::collections::BTreeSet;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use lapin::types::AMQPValue;
use serde_json::{Value, json};

use crate::harness::{Client, Command, Place, Plan, a_moment, server, until_true};

const TRIGGER: &str = "create function fail() returns trigger as $$ begin raise exception 'poisoned'; end $$ language plpgsql; \
    create trigger poison before insert or update on users for each row when (new.id like 'poison%') execute function fail()";

fn put(id: &str) -> Command {
    let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
    Command::new("user.put", json!({ "user": user })).id(&format!("put-{id}"))
}

/// The command on its last attempt.
fn last(mut command: Command) -> Command {
    command.headers.insert("x-regrant-attempts".into(), AMQPValue::LongLongInt(5));
    command
}

/// A letter as a daemon leaves it.
fn letter(n: usize) -> Command {
    put(&format!("u{n:05}"))
        .header("x-regrant-reason", "internal")
        .header("x-regrant-detail", "the disk was full")
        .header("x-regrant-command", "user.put")
        .header("x-regrant-failed-at", "2026-11-22T09:30:00.000Z")
        .header("x-regrant-attempts", "6")
}

fn tool(place: &Place, arguments: &[&str]) -> Value {
    let said = place.shell(&[&["dead-letters"], arguments, &["--json"]].concat()).success();
    serde_json::from_str(&said).unwrap()
}

fn ids(listed: &Value, field: &str) -> Vec<String> {
    let letters = listed["letters"].as_array().unwrap();
    letters.iter().map(|letter| letter[field].as_str().unwrap().to_owned()).collect()
}

/// Three letters of three kinds, in this order.
async fn buried(place: &Place, client: &Client) {
    place.run(TRIGGER).await;
    client.ask(last(put("poison"))).await;
    client.ask(Command::raw("password.reset.request", "{not json").id("garbage")).await;
    let secret = json!({ "user": { "id": "ada" }, "new_password": "Hunter2-Hunter2", "nonsense": 1 });
    client.ask(Command::new("password.set", secret).id("secret")).await;
    until_true("three letters", async || client.depth("dead").await == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_filtered_and_shown_and_stay_where_they_are() {
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    assert_eq!(place.shell(&["dead-letters", "list"]).success(), "there are no dead letters\n");
    buried(&place, &client).await;

    let all = tool(&place, &["list"]);
    assert_eq!(ids(&all, "message_id"), ["secret", "garbage", "put-poison"], "newest first");
    assert_eq!(ids(&all, "reason"), ["invalid_body", "invalid_body", "internal"]);
    assert_eq!((&all["waiting"], &all["matching"]), (&json!(3), &json!(3)));
    for (arguments, expected) in [
        (&["--reason", "internal"][..], &["put-poison"][..]),
        (&["--command", "password.*"], &["secret", "garbage"]),
        (&["--publisher", "guest", "--command", "password.set"], &["secret"]),
        (&["--publisher", "shop"], &[]),
        (&["--since", "1h"], &["secret", "garbage", "put-poison"]),
        (&["--until", "1h"], &[]),
        (&["--limit", "1"], &["secret"]),
    ] {
        let listed = tool(&place, &[&["list"], arguments].concat());
        assert_eq!(ids(&listed, "message_id"), expected, "{arguments:?}");
    }
    assert_eq!(ids(&tool(&place, &["list"]), "id"), ids(&all, "id"), "an id stays");

    let table = place.shell(&["dead-letters", "list", "--limit", "2"]).success();
    assert!(table.starts_with("ID ") && table.ends_with("the newest 2 of 3; --limit shows more\n"), "{table}");
    let poison = &all["letters"][2];
    let shown = place.shell(&["dead-letters", "show", &poison["id"].as_str().unwrap()[..6], "garbage"]).success();
    for part in ["poisoned", "put-poison", "poison@example.com", "user_id: guest", "{not json", "x-regrant-attempts: 6"]
    {
        assert!(shown.contains(part), "{part} is not in: {shown}");
    }
    let shown = tool(&place, &["show", "secret"]);
    assert_eq!(shown[0]["body"]["new_password"], "[redacted]");
    assert!(!shown.to_string().contains("Hunter2") && shown[0]["redacted"] == true, "{shown}");
    let nothing = place.shell(&["dead-letters", "show", "nobody"]).failure();
    assert!(nothing.contains("`nobody`"), "{nothing}");

    let left: Vec<String> = client.dead(3).await.iter().map(|dead| dead.message_id().to_owned()).collect();
    assert_eq!(left, ["put-poison", "garbage", "secret"], "looking changed nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_runs_once_with_the_rights_of_its_publisher() {
    let plan = Plan::default().toml("[publishers.shop]\ncommands = [\"user.put\"]\nsystem = true");
    let (place, daemon) = plan.start().await;
    let (client, shop) = (place.client().await, place.shop().await);
    place.run(TRIGGER).await;
    shop.ask(last(put("poison"))).await;
    // Buried twice, as after a crash in a bad moment.
    shop.ask(last(put("poison"))).await;
    until_true("both letters", async || client.depth("dead").await == 2).await;

    let tried = tool(&place, &["replay", "--all", "--dry-run"]);
    assert_eq!((&tried["replayed"], &tried["dry_run"]), (&json!(2), &json!(true)));
    client.until_depth("dead", 2).await;
    place.run("drop trigger poison on users").await;
    let replayed = tool(&place, &["replay", "--all", "--reason", "internal"]);
    assert_eq!(replayed, json!({ "dry_run": false, "replayed": 2, "refused": 0, "failed": 0, "not_replayed": [] }));
    until_true("both to be done", async || {
        let done = daemon.metric("regrant_commands_total", &["user.put", "outcome=\"ok\""]).await;
        done + daemon.metric("regrant_commands_total", &["user.put", "outcome=\"duplicate\""]).await == 2
    })
    .await;
    let publisher: String =
        place.value("select publisher from activity where user_id = 'poison' and outcome = 'ok'").await;
    assert_eq!(publisher, "shop");
    assert_eq!(client.depth("dead").await, 0);
    assert_eq!(tool(&place, &["replay", "--all"])["replayed"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_tag_a_replay_signs_the_publishers_name() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    place.run(TRIGGER).await;
    client.ask(last(put("poison"))).await;
    until_true("the letter", async || client.depth("dead").await == 1).await;
    place.run("drop trigger poison on users").await;
    // The operator's own broker user may neither send commands nor speak for others.
    let sound = std::fs::read_to_string(place.config()).unwrap();
    let shop = sound.replace(&server("AMQP_URL"), &server("AMQP_SHOP_URL"));
    std::fs::write(place.config(), shop.replace("regrant.keys", "elsewhere.keys")).unwrap();
    let refused = place.shell(&["dead-letters", "replay", "--all"]);
    assert!(refused.out.contains("impersonator") && refused.out.contains("elsewhere.keys"), "{refused:?}");
    client.until_depth("dead", 1).await;
    std::fs::write(place.config(), shop).unwrap();
    assert_eq!(tool(&place, &["replay", "put-poison"])["replayed"], 1);
    until_true("the command to be done", async || place.count("users where id = 'poison'").await == 1).await;
    let publisher: String =
        place.value("select publisher from activity where user_id = 'poison' and outcome = 'ok'").await;
    assert_eq!(publisher, "guest");
    assert_eq!(daemon.metric("regrant_commands_total", &["user.put", "outcome=\"invalid\""]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redacted_letter_says_why_it_stays_and_what_to_do() {
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    buried(&place, &client).await;
    let refused = place.shell(&["dead-letters", "replay", "secret"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.out.contains("secrets") && refused.out.contains("ask the publisher `guest` to send it again"),
        "{refused:?}"
    );
    let all = tool(&place, &["replay", "--all", "--command", "password.*", "--dry-run"]);
    assert_eq!((&all["replayed"], &all["refused"]), (&json!(1), &json!(1)));
    client.until_depth("dead", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_needs_a_word_and_takes_only_what_was_meant() {
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    buried(&place, &client).await;
    place.shell(&["dead-letters", "drop"]).code_is(2);
    for filter in [&[][..], &["--reason", "internal"]] {
        let asked = place.shell(&[&["dead-letters", "drop", "--all"], filter].concat()).failure();
        assert!(asked.contains("--yes"), "{asked}");
    }
    client.until_depth("dead", 3).await;
    assert_eq!(tool(&place, &["drop", "garbage", "--dry-run"])["dropped"], 1);
    assert_eq!(tool(&place, &["drop", "garbage"])["dropped"], 1, "a name is a word");
    assert_eq!(ids(&tool(&place, &["list"]), "message_id"), ["secret", "put-poison"]);
    assert_eq!(tool(&place, &["drop", "--all", "--reason", "internal", "--yes"])["dropped"], 1);
    assert_eq!(ids(&tool(&place, &["list"]), "message_id"), ["secret"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_dropping_asks_about_what_was_not_named() {
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    buried(&place, &client).await;
    let (code, shown) = place.typed(&["dead-letters", "drop", "garbage"], "");
    assert!(code == 0 && shown.contains("1 dropped") && !shown.contains("for good?"), "{shown}");
    let (code, shown) = place.typed(&["dead-letters", "drop", "--all"], "n\n");
    assert!(code == 1 && shown.contains("Delete 2 for good?") && shown.contains("nothing was dropped"), "{shown}");
    let (code, shown) = place.typed(&["dead-letters", "drop", "--all", "--reason", "internal"], "y\n");
    assert!(code == 0 && shown.contains("Delete 1 for good?") && shown.contains("1 dropped"), "{shown}");
    assert_eq!(ids(&tool(&place, &["list"]), "message_id"), ["secret"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_there_are_looking_loses_none_and_keeps_each_portions_order() {
    // More than are taken together.
    const LETTERS: usize = 1300;
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.bury_all((0..LETTERS).map(letter)).await;
    let listed = tool(&place, &["list", "--limit", "2000"]);
    assert_eq!(ids(&listed, "message_id").into_iter().collect::<BTreeSet<_>>().len(), LETTERS);
    tool(&place, &["drop", "put-u00700", "--yes"]);
    let left: Vec<String> = client.dead(LETTERS - 1).await.iter().map(|dead| dead.message_id().to_owned()).collect();
    let expected: Vec<String> = (0..LETTERS).filter(|n| *n != 700).map(|n| format!("put-u{n:05}")).collect();
    each_portion_in_order(LETTERS, left, expected);
}

/// What was taken by one channel goes back in its order; which channel's goes first is the broker's affair.
fn each_portion_in_order(letters: usize, left: Vec<String>, expected: Vec<String>) {
    let breaks = left.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(breaks <= letters.div_ceil(500), "{left:?}");
    assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), expected.into_iter().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_those_that_match_are_dropped_of_many() {
    const LETTERS: usize = 1300;
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    // Each one by itself, hundreds on a channel.
    let reason = |n: usize| if n.is_multiple_of(2) { "internal" } else { "invalid_body" };
    client.bury_all((0..LETTERS).map(|n| letter(n).header("x-regrant-reason", reason(n)))).await;
    assert_eq!(tool(&place, &["drop", "--all", "--reason", "internal", "--yes"])["dropped"], LETTERS / 2);
    let left: Vec<String> = client.dead(LETTERS / 2).await.iter().map(|dead| dead.message_id().to_owned()).collect();
    let expected: Vec<String> = (0..LETTERS).filter(|n| n % 2 == 1).map(|n| format!("put-u{n:05}")).collect();
    each_portion_in_order(LETTERS, left, expected);
    assert_eq!(client.depth("dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_a_replay_loses_and_doubles_nothing() {
    const LETTERS: usize = 1500;
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.bury_all((0..LETTERS).map(letter)).await;
    let mut killed = 0;
    for round in 0_u64.. {
        let mut replay = place.command(&["dead-letters", "replay", "--all"]);
        let mut replay = replay.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(60 + 35 * (round % 8))).await;
        if replay.try_wait().unwrap().is_some_and(|status| status.success()) {
            break;
        }
        replay.kill().unwrap();
        replay.wait().unwrap();
        killed += 1;
        if killed == 12 {
            tool(&place, &["replay", "--all"]);
            break;
        }
    }
    assert!(killed > 0);
    until_true("every command to be done", async || {
        // What the last one that was killed had taken may come back only now.
        if client.depth("dead").await > 0 {
            tool(&place, &["replay", "--all"]);
        }
        place.count("users").await == i64::try_from(LETTERS).unwrap()
    })
    .await;
    until_true("the queue to be empty", async || client.depth("commands.state").await == 0).await;
    a_moment().await;
    assert_eq!(client.depth("dead").await, 0);
    let done: i64 = place.value("select count(*) from activity where kind = 'user.put' and outcome = 'ok'").await;
    assert_eq!(done, i64::try_from(LETTERS).unwrap(), "each took effect once");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_at_once_share_the_work() {
    const LETTERS: usize = 600;
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.bury_all((0..LETTERS).map(letter)).await;
    let start = || {
        let mut replay = place.command(&["dead-letters", "replay", "--all", "--json"]);
        replay.stdout(Stdio::piped()).spawn().unwrap()
    };
    let both = [start(), start()];
    let replayed = both.map(|replay| {
        let output = replay.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["replayed"].as_u64().unwrap()
    });
    assert_eq!(replayed.iter().sum::<u64>(), LETTERS as u64, "{replayed:?}");
    until_true("every command to be done", async || place.count("users").await == i64::try_from(LETTERS).unwrap())
        .await;
    assert_eq!(client.depth("dead").await, 0);
}

fn rabbitmqctl(arguments: &[&str]) {
    let output = Process::new("rabbitmqctl").args(arguments).output().expect("rabbitmqctl is not installed");
    assert!(output.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A full queue of dead letters, as an operator's policy makes it.
struct Full(String);

impl Full {
    fn new(place: &Place) -> Self {
        let policy = place.prefix.clone();
        let pattern = format!("^{}\\.dead$", place.prefix);
        let definition = r#"{"max-length": 1, "overflow": "reject-publish"}"#;
        rabbitmqctl(&["set_policy", &policy, &pattern, definition, "--apply-to", "queues"]);
        Self(policy)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        rabbitmqctl(&["clear_policy", &self.0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_buried_stays_in_its_lane_and_is_buried_later() {
    const MESSAGES: usize = 20;
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    let full = Full::new(&place);
    let ids: BTreeSet<String> = (0..MESSAGES).map(|n| format!("garbage-{n}")).collect();
    let mut garbage = ids.iter().map(|id| Command::raw("user.block", "{not json").id(id));
    // The broker refuses only when it knows that the queue is full: not in the middle of what comes together. So one after the
    // other, until it does.
    let refused = || daemon.log().contains("it goes back to its queue");
    for (buried, command) in garbage.by_ref().enumerate() {
        client.publish(command).await;
        until_true("the letter, or its refusal", async || {
            refused() || client.depth("dead").await > u32::try_from(buried).unwrap()
        })
        .await;
        if refused() {
            break;
        }
    }
    client.publish_all(garbage).await;
    until_true("a letter that goes back to its lane", async || refused()).await;
    // Neighbours are done all the same.
    client.user("ada").await;
    assert!(client.depth("dead").await < u32::try_from(MESSAGES).unwrap());
    drop(full);
    until_true("every letter", async || client.depth("dead").await >= u32::try_from(MESSAGES).unwrap()).await;
    let buried: BTreeSet<String> =
        client.dead(MESSAGES).await.iter().map(|letter| letter.message_id().to_owned()).collect();
    assert_eq!(buried, ids);
    until_true("an empty lane", async || client.depth("commands.state").await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_whose_queue_was_unbound_or_deleted_find_it_again() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.unbind_dead().await;
    client.publish(Command::raw("user.block", "{not json").id("unbound")).await;
    assert_eq!(client.dead(1).await[0].message_id(), "unbound");
    client.delete_dead().await;
    client.publish(Command::raw("user.block", "{not json").id("deleted")).await;
    until_true("the letter", async || place.shell(&["dead-letters", "show", "deleted"]).code == 0).await;
    assert_eq!(client.dead(1).await[0].message_id(), "deleted");
    assert_eq!(daemon.stop().await, 0);
}
