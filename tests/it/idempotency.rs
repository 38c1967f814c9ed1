//! A command takes effect once, however often it is delivered, and whichever daemon gets it.

use serde_json::{Value, json};

use crate::harness::{Command, PASSWORD, Place, a_moment, mail_to};

fn request(user: &str, message_id: &str) -> Command {
    Command::new("password.reset.request", json!({ "user": { "id": user } })).id(message_id)
}

#[tokio::test]
async fn a_repeated_command_changes_nothing_and_gets_the_first_reply() {
    let place = Place::new().await;
    let _daemon = place.start().await;
    let client = place.client().await;
    client.user("ada").await;
    let ask = json!({ "user": { "id": "ada" }, "actor": "system" });
    let command = Command::new("password.reset.request", ask).id("same");
    let first = client.ask(command.clone()).await;
    let again = client.ask(command).await;
    let mut expected = first.clone();
    expected["duplicate"] = true.into();
    assert_eq!(again, expected);
    assert!(first["result"]["tickets"][0]["ticket_id"].is_string(), "{first}");

    mail_to(&place.mail, "ada@example.com", 1).await;
    a_moment().await;
    assert_eq!(place.mail.messages().len(), 1);
    assert_eq!(place.count("tickets").await, 1);
}

#[tokio::test]
async fn a_repeated_refusal_is_repeated_too() {
    let place = Place::new().await;
    let _daemon = place.start().await;
    let client = place.client().await;
    let block = Command::new("user.block", json!({ "user": { "id": "ada" } })).id("early");
    assert_eq!(client.ask(block.clone()).await["error"]["code"], "user_not_found");
    client.user("ada").await;
    let again = client.ask(block).await;
    assert_eq!((&again["error"]["code"], &again["duplicate"]), (&json!("user_not_found"), &json!(true)));
    assert!(!place.value::<bool>("select blocked from users where id = 'ada'").await);
}

#[tokio::test]
async fn a_message_id_belongs_to_one_command_of_one_publisher() {
    let plan = crate::harness::Plan::default();
    let (place, _daemon) = plan.toml("[publishers.shop]\ncommands = [\"password.reset.request\"]").start().await;
    let (client, shop) = (place.client().await, place.shop().await);
    client.users(["ada", "eve"].map(str::to_owned)).await;
    assert_eq!(client.ask(request("ada", "one")).await["ok"], true);
    for other in [request("eve", "one"), Command::new("user.block", json!({ "user": { "id": "ada" } })).id("one")] {
        let refused = client.ask(other).await;
        assert_eq!(refused["error"]["code"], "message_id_reused", "{refused}");
        assert_eq!(refused["duplicate"], Value::Null);
    }
    // Somebody asked for her, and got nothing: support is told so.
    let activity = client.ok("history.activity", json!({ "user": { "id": "eve" } })).await;
    let newest = &activity["rows"][0];
    assert_eq!((&newest["kind"], &newest["outcome"]), (&json!("password.reset.request"), &json!("message_id_reused")));
    let explained = client.ok("email.explain", json!({ "user": { "id": "eve" } })).await;
    assert!(explained["steps"].to_string().contains("message_id_reused"), "{explained}");

    let of_another = shop.ask(request("eve", "one")).await;
    assert_eq!((&of_another["ok"], &of_another["duplicate"]), (&json!(true), &Value::Null));
    assert_eq!(place.count("tickets").await, 2);
    assert!(!place.value::<bool>("select blocked from users where id = 'ada'").await);
}

#[tokio::test]
async fn a_queries_answer_is_always_fresh() {
    let place = Place::new().await;
    let _daemon = place.start().await;
    let client = place.client().await;
    let query = Command::new("user.get", json!({ "user": { "id": "ada" } })).id("q");
    assert_eq!(client.ask(query.clone()).await["error"]["code"], "user_not_found");
    client.user("ada").await;
    let found = client.ask(query).await;
    assert_eq!((&found["ok"], &found["duplicate"]), (&json!(true), &Value::Null), "{found}");
}

#[tokio::test]
async fn copies_in_one_batch_act_once() {
    let place = Place::new().await;
    let daemon = place.start().await;
    let client = place.client().await;
    client.user("ada").await;
    // While it stands still, what is published gathers in its prefetch buffer.
    daemon.signal("STOP");
    let copies = client.begin_all(&vec![request("ada", "same"); 20]).await;
    let reused = client.begin(&Command::new("user.block", json!({ "user": { "id": "ada" } })).id("same")).await;
    daemon.signal("CONT");
    let mut fresh = 0;
    for copy in copies {
        let reply = client.reply(&copy).await;
        assert_eq!(reply["result"], json!({ "accepted": true }), "{reply}");
        fresh += usize::from(reply["duplicate"].is_null());
    }
    assert_eq!(fresh, 1);
    assert_eq!(client.reply(&reused).await["error"]["code"], "message_id_reused");
    mail_to(&place.mail, "ada@example.com", 1).await;
    a_moment().await;
    assert_eq!((place.mail.messages().len(), place.count("tickets").await), (1, 1));
}

#[tokio::test]
async fn copies_that_two_daemons_get_act_once() {
    let place = Place::new().await;
    let daemons = (place.start().await, place.start().await);
    let client = place.client().await;
    client.users((0..100).map(|n| format!("u{n}"))).await;
    let commands: Vec<Command> = (0..100)
        .flat_map(|n| {
            let login = json!({ "user": { "id": format!("u{n}") }, "new_password": PASSWORD });
            // Commands of both lanes: the second one hashes between its look at the inbox and its commit.
            let other = (n % 10 == 0).then(|| Command::new("password.set", login).id(&format!("p{n}")));
            let request = request(&format!("u{n}"), &format!("r{n}"));
            [Some(request.clone()), other.clone(), Some(request), other].into_iter().flatten()
        })
        .collect();
    let mut fresh = 0;
    for correlation in client.begin_all(&commands).await {
        let reply = client.reply(&correlation).await;
        assert_eq!(reply["ok"], true, "{reply}");
        fresh += usize::from(reply["duplicate"].is_null());
    }
    assert_eq!(fresh, 110);
    assert_eq!(place.count("tickets").await, 100);
    assert_eq!(place.count("activity where kind = 'password.set'").await, 10);
    let retried = daemons.0.metric("regrant_commands_total", &["outcome=\"retried\""]).await
        + daemons.1.metric("regrant_commands_total", &["outcome=\"retried\""]).await;
    assert_eq!(retried, 0, "a lost race is no failure");
}

#[tokio::test]
async fn what_is_past_its_time_is_forgotten_before_a_sweep_comes_by() {
    let place = Place::new().await;
    let _daemons = (place.start().await, place.start().await);
    let client = place.client().await;
    client.users(["ada", "eve"].map(str::to_owned)).await;
    let of_support = |user: &str| {
        let ask = json!({ "user": { "id": user }, "actor": "system" });
        Command::new("password.reset.request", ask).id("same")
    };
    let age = "update inbox set received_at = now() - interval '7 days 1 second'";
    client.ask(of_support("ada")).await;
    place.run(age).await;
    // Copies, whichever daemon gets them: one is done, in the place of the old answer.
    let mut fresh = 0;
    for copy in client.begin_all(&vec![of_support("eve"); 20]).await {
        let reply = client.reply(&copy).await;
        assert_eq!(reply["result"]["tickets"][0]["user_id"], "eve", "{reply}");
        fresh += usize::from(reply["duplicate"].is_null());
    }
    assert_eq!((fresh, place.count("tickets").await), (1, 2));
    assert_eq!(client.ask(of_support("ada")).await["error"]["code"], "message_id_reused");
    // Those who proved themselves are looked up before the transaction, too.
    let set = Command::new("password.set", json!({ "user": { "id": "ada" }, "new_password": PASSWORD })).id("set");
    assert_eq!(client.ask(set.clone()).await["ok"], true);
    place.run(age).await;
    let again = client.ask(set.clone()).await;
    assert_eq!((&again["duplicate"], &again["error"]["code"]), (&Value::Null, &json!("password_rejected")), "{again}");
    assert_eq!(client.ask(set).await["duplicate"], true);
}
