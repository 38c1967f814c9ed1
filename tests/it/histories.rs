//! Finding people, and what happened to them.

use std::collections::BTreeSet;

use regrant::domain::account::Status;
use regrant::store::search::{After, Found, Part, Search};
use regrant::store::{pool, search};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::harness::{Client, Daemon, NEW_PASSWORD, PASSWORD, Place, Plan, mail_to, until_true};

const SITES: &str = r#"
[sites.north]
[sites.south]
[roles.admin]
permissions = ["*"]
[roles.support]
permissions = ["user.search", "user.get", "history.*", "password.reset.*", "email.explain"]
scope = "site"
"#;

pub async fn start() -> (Place, Daemon, Client) {
    let (place, daemon) = Plan::default().toml(SITES).start().await;
    let client = place.client().await;
    (place, daemon, client)
}

/// Makes a profile with a name, a site and roles.
pub async fn person(client: &Client, id: &str, name: &str, site: &str, roles: &[&str]) {
    let user = json!({
        "id": id, "username": id, "email": format!("{id}@example.com"), "display_name": name, "site": site,
        "roles": roles, "email_verified": true,
    });
    client.ok("user.put", json!({ "user": user })).await;
}

fn names(found: &Value) -> Vec<&str> {
    found["users"].as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap()).collect()
}

async fn search(client: &Client, body: Value) -> Vec<String> {
    let found = client.ok("user.search", body).await;
    names(&found).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn people_are_found_by_any_part_of_their_names() {
    let (_place, _daemon, client) = start().await;
    for (id, name) in
        [("ada", "Ada Lovelace"), ("lovis", "Lovis Corinth"), ("zoe", "ZOË ÅKERLUND"), ("p_c", "100% Pure")]
    {
        person(&client, id, name, "default", &[]).await;
    }
    person(&client, "wang", "王芳", "default", &[]).await;
    for (q, expected) in [
        ("lovelace", vec!["ada"]),
        ("LACE", vec!["ada"]),
        // A username that begins with it comes first.
        ("lov", vec!["lovis", "ada"]),
        ("zoë åker", vec!["zoe"]),
        // The same letter, decomposed.
        ("zoe\u{308}", vec!["zoe"]),
        ("A@EXAMPLE", vec!["ada"]),
        ("  ada ", vec!["ada"]),
        // One or two characters stand for the beginning of a word.
        ("lo", vec!["lovis", "ada"]),
        ("ce", vec![]),
        ("王", vec!["wang"]),
        ("王芳", vec!["wang"]),
        // No character is a wildcard.
        ("%", vec![]),
        ("0% p", vec!["p_c"]),
        ("p_c", vec!["p_c"]),
        ("a_a", vec![]),
        ("\\", vec![]),
        // A match does not go across two names.
        ("adaada", vec![]),
        ("ghost", vec![]),
    ] {
        assert_eq!(search(&client, json!({ "q": q })).await, expected, "{q}");
    }
    let everybody = ["ada", "lovis", "p_c", "wang", "zoe"];
    assert_eq!(search(&client, json!({})).await, everybody);
    assert_eq!(search(&client, json!({ "q": " " })).await, everybody);
    let found = client.ok("user.search", json!({ "q": "ada" })).await;
    let user = client.ok("user.get", json!({ "user": { "id": "ada" } })).await;
    assert_eq!((&found["users"][0], &found["next_cursor"]), (&user["user"], &Value::Null));
}

#[tokio::test]
async fn people_are_found_by_their_state_and_role() {
    let (place, _daemon, client) = start().await;
    for id in ["ann", "bea", "cleo", "dora", "eve", "fay"] {
        person(&client, id, "Somebody", "default", if id == "ann" { &["support"] } else { &[] }).await;
    }
    client.ok("user.block", json!({ "user": { "id": "bea" } })).await;
    client.ok("user.deactivate", json!({ "user": { "id": "cleo" } })).await;
    let set = json!({ "user": { "id": "dora" }, "new_password": PASSWORD, "temporary": true });
    client.ok("password.set", set).await;
    client.ok("invite.send", json!({ "user": { "id": "eve" } })).await;
    place.run("update users set locked_until = now() + interval '1 hour' where id = 'fay'").await;
    for (body, expected) in [
        (json!({}), vec!["ann", "dora", "eve", "fay"]),
        (json!({ "include_disabled": true }), vec!["ann", "bea", "cleo", "dora", "eve", "fay"]),
        (json!({ "status": "active" }), vec!["ann"]),
        (json!({ "status": "blocked" }), vec!["bea"]),
        (json!({ "status": "blocked", "include_disabled": false }), vec!["bea"]),
        (json!({ "status": "inactive" }), vec!["cleo"]),
        (json!({ "status": "force_password_reset" }), vec!["dora"]),
        (json!({ "status": "invited" }), vec!["eve"]),
        (json!({ "status": "locked" }), vec!["fay"]),
        (json!({ "role": "support" }), vec!["ann"]),
        (json!({ "role": "nobody" }), vec![]),
        (json!({ "q": "somebody", "status": "locked", "site": "default" }), vec!["fay"]),
        (json!({ "q": "somebody", "site": "north" }), vec![]),
    ] {
        assert_eq!(search(&client, body.clone()).await, expected, "{body}");
        let found = client.ok("user.search", body.clone()).await;
        for user in found["users"].as_array().unwrap() {
            assert!(body["status"].is_null() || user["status"] == body["status"], "{user}");
        }
    }
    for wrong in [json!({ "limit": 201 }), json!({ "status": "x" }), json!({ "cursor": "x" }), json!({ "q": 5 })] {
        assert_eq!(client.error("user.search", wrong).await, "invalid_body");
    }
}

#[tokio::test]
async fn pages_of_a_search_are_one_list() {
    let (_place, _daemon, client) = start().await;
    for n in 0..12 {
        person(&client, &format!("u{n}"), if n % 2 == 0 { "Ulla Berg" } else { "Berga" }, "default", &[]).await;
    }
    person(&client, "berg", "Ulla", "default", &[]).await;
    let whole = search(&client, json!({ "q": "berg" })).await;
    assert_eq!((whole.len(), whole[0].as_str()), (13, "berg"));
    assert!(whole[1..].is_sorted());
    for limit in [1, 5, 12, 13, 14] {
        let (mut pages, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let found = client.ok("user.search", json!({ "q": "berg", "limit": limit, "cursor": cursor })).await;
            assert!(names(&found).len() <= limit);
            pages.extend(names(&found).into_iter().map(str::to_owned));
            cursor = found["next_cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        assert_eq!(pages, whole, "{limit}");
    }
}

#[tokio::test]
async fn whoever_is_limited_to_a_site_sees_its_people_only() {
    let (_place, _daemon, client) = start().await;
    for (id, site, roles) in
        [("root", "north", ["admin"]), ("mia", "north", ["support"]), ("ada", "north", ["x"]), ("bob", "south", ["x"])]
    {
        person(&client, id, "Somebody", site, &roles).await;
    }
    let mia = |mut body: Value| {
        body["actor"] = json!({ "id": "mia" });
        body
    };
    // Those who may do more are listed too.
    assert_eq!(search(&client, mia(json!({ "q": "somebody" }))).await, ["ada", "mia", "root"]);
    assert_eq!(search(&client, mia(json!({ "site": "north" }))).await, ["ada", "mia", "root"]);
    assert_eq!(client.error("user.search", mia(json!({ "site": "south" }))).await, "forbidden");
    assert_eq!(search(&client, json!({ "actor": { "id": "root" } })).await, ["ada", "bob", "mia", "root"]);
    assert_eq!(client.error("user.search", json!({ "actor": { "id": "ada" } })).await, "forbidden");
    for (query, user, code) in [
        ("history.activity", "bob", "forbidden"),
        ("history.passwords", "bob", "forbidden"),
        ("history.passwords", "root", "forbidden_target"),
        ("history.passwords", "ghost", "user_not_found"),
        ("history.activity", "ghost", "user_not_found"),
    ] {
        assert_eq!(client.error(query, mia(json!({ "user": { "id": user } }))).await, code, "{query} {user}");
    }
    assert_eq!(client.error("history.activity", mia(json!({ "by": "anyone" }))).await, "forbidden");
    assert_eq!(client.error("history.activity", mia(json!({ "by": { "id": "root" } }))).await, "forbidden");
}

/// The store's own search, among more people than it looks at in order.
#[tokio::test(flavor = "multi_thread")]
async fn few_and_many_are_found_among_thousands() {
    let place = Place::new().await;
    place.shell(&["migrate"]).success();
    place
        .run(
            "insert into users (id, username, username_key, email, email_key, display_name, site, roles, active, blocked, created_at, updated_at)
                select 'i' || i, n, n, n || '@x.org', n || '@x.org', case when i > 3000 then 'Zoe Late' else 'Early' end,
                    case when i % 5000 = 0 then 'tiny' else 'default' end,
                    case when i % 4000 = 0 then array['admin'] else array['member'] end, true, false, now(), now()
                from (select i, 'u' || lpad(i::text, 6, '0') as n from generate_series(1, 16000) i) s;
            analyze users",
        )
        .await;
    let mut connection = pool::connect(&SecretString::from(place.database_url())).await.unwrap();
    let mut find = async |search: Search, limit: i64| {
        let Found::People(found) = search::page(&mut connection, &search, limit).await.unwrap() else {
            panic!("too many for {search:?}")
        };
        found.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    };
    let now = regrant::clock::now();
    let of = |text: &str| Search { text: (!text.is_empty()).then(|| text.to_owned()), now, ..Search::default() };
    // Few, far from the beginning: collected.
    assert_eq!(find(of("5999@x"), 5).await, ["i5999", "i15999"]);
    assert_eq!(find(of("nowhere"), 5).await, [""; 0]);
    // Many, and none at the beginning: neither.
    assert_eq!(find(of("late"), 2).await, ["i3001", "i3002"]);
    let after = After { part: Part::Others, username_key: "u015998".to_owned() };
    assert_eq!(find(Search { after, ..of("late") }, 5).await, ["i15999", "i16000"]);
    // Many, from the beginning.
    assert_eq!(find(of("early"), 2).await, ["i1", "i2"]);
    assert_eq!(find(of("u0150"), 2).await, ["i15000", "i15001"]);
    assert_eq!(find(Search { role: Some("admin".into()), ..of("") }, 9).await, ["i4000", "i8000", "i12000", "i16000"]);
    let tiny = Search { site: Some("tiny".into()), ..of("late") };
    assert_eq!(find(tiny, 9).await, ["i5000", "i10000", "i15000"]);
    assert_eq!(find(Search { status: Some(Status::Blocked), ..of("late") }, 9).await, [""; 0]);
    // Without the extension it takes longer.
    assert!(search::is_indexed(&mut connection).await.unwrap());
    let checked = place.shell(&["check"]).success();
    assert!(!checked.contains("pg_trgm"), "{checked}");
    place.run("drop index users_search").await;
    let checked = place.shell(&["check"]).success();
    assert!(checked.contains("pg_trgm"), "{checked}");
    let Found::People(found) = search::page(&mut connection, &of("5999@x"), 5).await.unwrap() else { panic!() };
    assert_eq!(found.len(), 2);
}

async fn passwords(client: &Client, user: &str) -> Vec<Value> {
    let found = client.ok("history.passwords", json!({ "user": { "id": user } })).await;
    found["rows"].as_array().unwrap().clone()
}

fn outline(row: &Value) -> [&str; 4] {
    ["kind", "requested_by", "outcome", "method"].map(|field| row[field].as_str().unwrap_or("-"))
}

#[tokio::test]
async fn every_password_has_its_row() {
    let (place, _daemon, client) = start().await;
    person(&client, "root", "Root", "default", &["admin"]).await;
    person(&client, "ada", "Ada", "default", &[]).await;
    let ada = json!({ "user": { "id": "ada" } });
    let with = |more: Value| {
        let mut body = ada.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    client.ok("invite.send", with(json!({ "actor": { "id": "root" } }))).await;
    let token = mail_to(&place.mail, "ada@example.com", 1).await.token();
    client.ok("invite.accept", json!({ "token": token, "new_password": PASSWORD })).await;
    let change = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    client.ok("password.change", with(change)).await;
    let wrong = json!({ "current_password": "wrong", "new_password": "Another-Good-1!" });
    assert_eq!(client.error("password.change", with(wrong)).await, "invalid_credentials");
    client.ok("password.reset.request", with(json!({ "method": "code" }))).await;
    client.ok("password.reset.request", with(json!({ "actor": "system" }))).await;
    client.ok("password.temporary.issue", with(json!({ "actor": { "id": "root" } }))).await;
    client.ok("password.set", with(json!({ "new_password": "Yet-Another-Good-1!" }))).await;
    client.ok("password.reset.request", ada.clone()).await;
    place.run("update tickets set expires_at = now() where state = 'open' and user_id = 'ada'").await;
    client.ok("password.reset.request", with(json!({ "actor": { "id": "root" } }))).await;
    let history = passwords(&client, "ada").await;
    assert_eq!(
        history.iter().map(outline).collect::<Vec<_>>(),
        [
            ["password_reset", "root", "open", "link"],
            ["password_reset", "self", "superseded", "link"],
            ["password_set", "system", "completed", "-"],
            ["temporary_password", "root", "completed", "-"],
            ["password_reset", "system", "revoked", "link"],
            ["password_reset", "self", "superseded", "code"],
            ["password_change", "self", "completed", "-"],
            ["invite", "root", "completed", "link"],
        ]
    );
    assert!(history[3]["expires_at"].is_string() && history[3]["ticket_id"].is_null(), "{}", history[3]);
    for row in &history {
        assert_eq!(row["completed_at"].is_string(), row["outcome"] == "completed", "{row}");
        assert!(row["requested_at"].is_string());
    }
    place.run("update tickets set expires_at = now() where state = 'open' and user_id = 'ada'").await;
    assert_eq!(passwords(&client, "ada").await[0]["outcome"], "expired");
    // A completed reset is one row.
    let before = place.mail.messages().len();
    client.ok("password.reset.request", json!({ "user": { "id": "root" } })).await;
    until_true("the link", async || place.mail.messages().len() > before).await;
    let token = mail_to(&place.mail, "root@example.com", 1).await.token();
    client.ok("password.reset.complete", json!({ "token": token, "new_password": PASSWORD })).await;
    let of_root = passwords(&client, "root").await;
    assert_eq!(of_root.iter().map(outline).collect::<Vec<_>>(), [["password_reset", "self", "completed", "link"]]);
    // Page by page it is the same.
    let history = passwords(&client, "ada").await;
    for limit in 1..=9 {
        let (mut rows, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let page = client.ok("history.passwords", with(json!({ "limit": limit, "cursor": cursor }))).await;
            rows.extend(page["rows"].as_array().unwrap().clone());
            cursor = page["next_cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        assert_eq!(rows, history, "{limit}");
    }
}

#[tokio::test]
async fn an_imported_password_is_on_record() {
    let (_place, _daemon, client) = start().await;
    let hash = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
    let user = json!({ "id": "ada", "username": "ada", "email": "ada@example.com", "password_hash": hash });
    client.ok("user.put", json!({ "user": user })).await;
    let mut without = user;
    without.as_object_mut().unwrap().remove("password_hash");
    without["display_name"] = "Ada".into();
    client.ok("user.put", json!({ "user": without })).await;
    let history = passwords(&client, "ada").await;
    assert_eq!(history.iter().map(outline).collect::<Vec<_>>(), [["password_import", "system", "completed", "-"]]);
    assert!(!history[0].to_string().contains("$2b$"));
}

async fn activity(client: &Client, body: Value) -> Vec<Value> {
    let found = client.ok("history.activity", body).await;
    assert_eq!(found["next_cursor"], Value::Null);
    found["rows"].as_array().unwrap().clone()
}

fn kinds(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_command_that_touched_a_person_is_on_record() {
    let (_place, _daemon, client) = start().await;
    person(&client, "root", "Root", "default", &["admin"]).await;
    person(&client, "ada", "Ada", "default", &[]).await;
    let ada = json!({ "user": { "id": "ada" } });
    let as_root = json!({ "user": { "id": "ada" }, "reason": "fraud", "actor": { "id": "root" }, "context": { "ip": "192.0.2.7" } });
    client.ok("user.block", as_root).await;
    let by_ada = json!({ "user": { "id": "root" }, "actor": { "id": "ada" } });
    assert_eq!(client.error("user.block", by_ada).await, "forbidden");
    let login = json!({ "user": { "id": "ada" }, "password": "wrong" });
    assert_eq!(client.error("session.login", login).await, "invalid_credentials");
    let rows = activity(&client, ada.clone()).await;
    assert_eq!(kinds(&rows), ["session.login", "user.block", "user.put"]);
    let outcomes: Vec<_> = rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["invalid_credentials", "ok", "ok"]);
    let block = &rows[1];
    assert_eq!(
        (&block["user_id"], &block["actor"], &block["publisher"], &block["ip"], &block["details"]),
        (&json!("ada"), &json!("root"), &json!("guest"), &json!("192.0.2.7"), &json!({ "reason": "fraud" }))
    );
    assert_eq!((&rows[0]["actor"], &rows[2]["actor"]), (&Value::Null, &json!("system")));

    let of_root = activity(&client, json!({ "user": { "id": "root" } })).await;
    assert_eq!((kinds(&of_root), &of_root[0]["outcome"]), (vec!["user.block", "user.put"], &json!("forbidden")));

    // What somebody did: named, or asking for themselves.
    for body in [json!({ "by": { "id": "root" } }), json!({ "actor": { "id": "root" } })] {
        assert_eq!(kinds(&activity(&client, body).await), ["user.block"]);
    }
    let of_both = json!({ "user": { "id": "ada" }, "by": "system" });
    assert_eq!(kinds(&activity(&client, of_both).await), ["user.put"]);
    let everything = activity(&client, json!({})).await;
    assert_eq!(kinds(&everything), ["session.login", "user.block", "user.block", "user.put", "user.put"]);
    assert_eq!(activity(&client, json!({ "by": "anyone", "actor": { "id": "root" } })).await, everything);

    // Filtered by kinds and time, page by page.
    let some = json!({ "user": { "id": "ada" }, "kinds": ["user.block", "user.put"] });
    assert_eq!(kinds(&activity(&client, some).await), ["user.block", "user.put"]);
    assert_eq!(client.error("history.activity", json!({ "kinds": ["user.blok"] })).await, "invalid_body");
    let (from, to) = (&rows[2]["at"], &rows[0]["at"]);
    let since = activity(&client, json!({ "user": { "id": "ada" }, "from": from })).await;
    assert_eq!(since, rows);
    let until = activity(&client, json!({ "user": { "id": "ada" }, "from": from, "to": to })).await;
    assert_eq!(until, rows[1..]);
    assert_eq!(client.error("history.activity", json!({ "from": to, "to": from })).await, "invalid_body");
    let (mut paged, mut cursor) = (Vec::new(), Value::Null);
    for _ in 0..3 {
        let page = json!({ "user": { "id": "ada" }, "limit": 1, "cursor": cursor });
        let mut page = client.ok("history.activity", page).await;
        cursor = page["next_cursor"].take();
        paged.extend(page["rows"].as_array().unwrap().clone());
    }
    assert_eq!((paged, cursor), (rows, Value::Null));

    // The history of an erased person, for those who know the id.
    client.ok("user.erase", json!({ "user": { "id": "ada" }, "reason": "asked to" })).await;
    let rows = activity(&client, ada).await;
    assert_eq!(kinds(&rows), ["user.erase", "session.login", "user.block", "user.put"]);
    let ids: BTreeSet<_> = rows.iter().map(|row| row["user_id"].as_str().unwrap()).collect();
    assert!(ids.len() == 1 && !ids.contains("ada"), "{ids:?}");
    assert_eq!(client.error("history.activity", json!({ "user": { "id": "ghost" } })).await, "user_not_found");

    // So is what somebody did who was erased.
    let by_root = json!({ "by": { "id": "root" } });
    let before = activity(&client, by_root.clone()).await;
    assert_eq!(kinds(&before), ["user.block"]);
    client.ok("user.erase", json!({ "user": { "id": "root" }, "reason": "asked to" })).await;
    let after = activity(&client, by_root).await;
    assert_eq!((kinds(&after), &after[0]["at"]), (vec!["user.block"], &before[0]["at"]));
    assert_ne!(after[0]["actor"], "root");
    assert_eq!(activity(&client, json!({ "by": { "id": "ghost" } })).await, [Value::Null; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_shows_people_and_histories() {
    let (place, _daemon, client) = start().await;
    person(&client, "root", "Root", "default", &["admin"]).await;
    person(&client, "ada", "Ada Lovelace", "default", &[]).await;
    client.ok("password.reset.request", json!({ "user": { "id": "ada" }, "actor": "system" })).await;
    mail_to(&place.mail, "ada@example.com", 1).await;
    let found = place.shell(&["users", "search", "lovelace"]).success();
    assert!(found.starts_with("ID ") && found.contains("ada@example.com") && !found.contains("root"), "{found}");
    let page = place.shell(&["users", "search", "--limit", "1"]).success();
    let cursor = page.split("--cursor ").nth(1).unwrap().trim();
    let next = place.shell(&["users", "search", "--limit", "1", "--cursor", cursor]).success();
    assert!(page.contains("ada") && next.contains("root") && !next.contains("--cursor"), "{page}{next}");
    let json = place.shell(&["users", "search", "ada", "--json"]).success();
    assert_eq!(names(&serde_json::from_str(&json).unwrap()), ["ada"]);
    for who in ["ada", "id=ada", "username=ada", "ada@example.com"] {
        let shown = place.shell(&["users", "show", who]).success();
        assert!(shown.contains("Ada Lovelace") && shown.contains("password_reset until"), "{shown}");
    }
    let missing = place.shell(&["users", "show", "ghost"]).failure();
    assert!(missing.contains("user_not_found"), "{missing}");
    let refused = place.shell(&["users", "show", "ada", "--actor", "ada"]).failure();
    assert!(refused.contains("forbidden"), "{refused}");
    for (arguments, word) in [
        (vec!["history", "ada"], "password.reset.request"),
        (vec!["history", "ada", "passwords"], "open"),
        (vec!["history", "ada", "emails"], "password_reset_link"),
        (vec!["history", "ada@example.com", "explain"], "queued"),
        (vec!["history", "nobody@example.com", "explain"], "never_requested"),
        (vec!["history", "ada", "emails", "--json"], "\"rows\": ["),
        (vec!["completions", "zsh"], "#compdef regrant"),
    ] {
        let shown = place.shell(&arguments).success();
        assert!(shown.contains(word), "{arguments:?}: {shown}");
    }
}
