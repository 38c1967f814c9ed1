//! Who may ask what about whom: the queries, which need a database. (Commands: `src/commands/rights.rs`.)

use std::fmt::Write as _;

use regrant::commands::{ALL, Lane};
use regrant::domain::access::Audience;
use serde_json::{Value, json};

use crate::harness::{Client, Command, Place, Plan};

/// An administrator, people who may do one thing everywhere or on their site, and members of two sites.
async fn place(queries: &[&str]) -> Place {
    let mut toml = String::from(
        "[sites.north]\n[sites.south]\n[roles.admin]\npermissions = [\"*\"]\n[publishers.shop]\ncommands = [\"*\"]\n",
    );
    for query in queries {
        let _ = writeln!(toml, "[roles.\"able {query}\"]\npermissions = [\"{query}\"]");
        let _ = writeln!(toml, "[roles.\"local {query}\"]\npermissions = [\"{query}\"]\nscope = \"site\"");
    }
    Plan::default().toml(&toml).prepare().await
}

async fn person(client: &Client, id: &str, site: &str, role: Option<&str>) {
    let roles: Vec<&str> = role.into_iter().collect();
    let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com"), "site": site, "roles": roles });
    client.ok("user.put", json!({ "user": user })).await;
}

/// `ok` or the error's code.
async fn outcome(client: &Client, query: &str, mut body: Value, actor: Option<&str>) -> String {
    if let Some(actor) = actor {
        body["actor"] = if actor == "system" { json!(actor) } else { json!({ "id": actor }) };
    }
    let reply = client.ask(Command::new(query, body)).await;
    reply["error"]["code"].as_str().unwrap_or("ok").to_owned()
}

/// The bodies that ask about somebody.
fn about(query: &str, target: &str) -> Vec<Value> {
    let user = json!({ "user": { "id": target } });
    match query {
        "user.get" | "history.emails" | "history.passwords" | "history.activity" => vec![user],
        "email.explain" => vec![user, json!({ "email": format!("{target}@example.com") })],
        // It lists people instead of asking about one: see below.
        "user.search" => Vec::new(),
        other => panic!("say here how `{other}` asks about somebody, so that it is known to check who may"),
    }
}

#[tokio::test]
async fn no_query_forgets_to_ask_who_may() {
    let queries: Vec<&str> = ALL
        .iter()
        .filter(|spec| spec.lane == Lane::Queries && spec.audience != Audience::SelfService)
        .map(|spec| spec.name)
        .collect();
    let place = place(&queries).await;
    let _daemon = place.start().await;
    let (client, shop) = (place.client().await, place.shop().await);
    person(&client, "root", "north", Some("admin")).await;
    person(&client, "gone", "north", Some("admin")).await;
    client.ok("user.deactivate", json!({ "user": { "id": "gone" } })).await;
    person(&client, "ada", "north", None).await;
    person(&client, "bob", "south", None).await;
    for query in queries {
        person(&client, "able", "north", Some(&format!("able {query}"))).await;
        person(&client, "local", "north", Some(&format!("local {query}"))).await;
        for (actor, target, expected) in [
            (None, "root", "ok"),
            (Some("system"), "root", "ok"),
            (Some("ghost"), "ada", "forbidden"),
            (Some("gone"), "ada", "forbidden"),
            (Some("ada"), "ada", "forbidden"),
            (Some("root"), "root", "ok"),
            (Some("able"), "ada", "ok"),
            (Some("able"), "bob", "ok"),
            (Some("able"), "local", "ok"),
            (Some("able"), "root", "forbidden_target"),
            (Some("local"), "ada", "ok"),
            (Some("local"), "bob", "forbidden"),
            (Some("local"), "able", "forbidden_target"),
        ] {
            for body in about(query, target) {
                let found = outcome(&client, query, body.clone(), actor).await;
                assert_eq!(found, expected, "{actor:?} asks {query} {body}");
            }
        }
        // An app that is no system and may name nobody.
        for (actor, expected) in
            [(None, "actor_required"), (Some("system"), "actor_required"), (Some("root"), "publisher_not_allowed")]
        {
            for body in about(query, "ada") {
                assert_eq!(outcome(&shop, query, body, actor).await, expected, "{query} by {actor:?}");
            }
        }
    }
}

#[tokio::test]
async fn who_is_limited_to_a_site_finds_its_people_only_and_sees_their_own_acts() {
    let place = place(&["user.search", "history.activity"]).await;
    let _daemon = place.start().await;
    let client = place.client().await;
    person(&client, "sue", "north", Some("local user.search")).await;
    person(&client, "hal", "north", Some("local history.activity")).await;
    person(&client, "ada", "north", None).await;
    person(&client, "bob", "south", None).await;

    for (body, found) in [
        (json!({}), vec!["ada", "hal", "sue"]),
        (json!({ "site": "north" }), vec!["ada", "hal", "sue"]),
        (json!({ "q": "bob" }), vec![]),
    ] {
        let mut body = body;
        body["actor"] = json!({ "id": "sue" });
        let users = client.ok("user.search", body.clone()).await["users"].take();
        let mut ids: Vec<&str> = users.as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, found, "{body}");
    }
    assert_eq!(outcome(&client, "user.search", json!({ "site": "south" }), Some("sue")).await, "forbidden");
    assert_eq!(outcome(&client, "user.search", json!({}), Some("ada")).await, "forbidden");

    let own = client.ok("history.activity", json!({ "actor": { "id": "hal" } })).await;
    assert_eq!(own["rows"], json!([]), "hal has done nothing so far");
    assert_eq!(outcome(&client, "history.activity", json!({ "by": "anyone" }), Some("hal")).await, "forbidden");
    assert_eq!(outcome(&client, "history.activity", json!({ "by": { "id": "sue" } }), Some("hal")).await, "forbidden");
}
