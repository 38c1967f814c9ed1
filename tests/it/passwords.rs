//! What holds of passwords, by the running daemon: who may choose one, for how long, and what ends with the old one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::SecretKey;
use serde_json::{Value, json};

use crate::harness::{Client, Command, NEW_PASSWORD, PASSWORD, Place, Plan, a_moment, mail_to, mails, until_true};

const THIRD: &str = "Third-Time-Lucky-33";

/// A person with [`PASSWORD`].
async fn with_password(client: &Client, id: &str) {
    client.user(id).await;
    client.ok("password.set", json!({ "user": { "id": id }, "new_password": PASSWORD })).await;
}

fn login(id: &str, password: &str) -> Value {
    json!({ "user": { "id": id }, "password": password })
}

async fn session(client: &Client, id: &str, password: &str) -> Value {
    client.ok("session.login", login(id, password)).await["session_id"].take()
}

async fn is_active(client: &Client, session: &Value) -> bool {
    client.ok("session.check", json!({ "session_id": session })).await["active"] == true
}

/// The token of the first reset link that was mailed to a person.
async fn reset_link(place: &Place, id: &str) -> String {
    let address = format!("{id}@example.com");
    let mut number = 1;
    loop {
        let mail = mail_to(&place.mail, &address, number).await;
        if mail.text().contains("/reset?token=") {
            return mail.token();
        }
        number += 1;
    }
}

#[tokio::test]
async fn a_changed_password_ends_the_other_sessions_and_every_link() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    with_password(&client, "ada").await;
    let (here, there) = (session(&client, "ada", PASSWORD).await, session(&client, "ada", PASSWORD).await);
    client.ok("password.reset.request", json!({ "user": { "id": "ada" } })).await;
    let link = reset_link(&place, "ada").await;
    place.until_all_is_told().await;
    let events = client.events("#").await;

    let change = |current: &str, new: &str| json!({ "user": { "id": "ada" }, "current_password": current, "new_password": new, "session_id": here });
    assert_eq!(client.error("password.change", change(PASSWORD, PASSWORD)).await, "password_unchanged");
    assert_eq!(client.error("password.change", change(PASSWORD, "weak")).await, "password_rejected");
    assert!(is_active(&client, &there).await, "a refusal changes nothing");
    assert_eq!(client.ok("password.change", change(PASSWORD, NEW_PASSWORD)).await, json!({ "sessions_ended": 1 }));
    assert!(is_active(&client, &here).await && !is_active(&client, &there).await);
    let told = events.up_to("session.revoked").await;
    let changed = &told.iter().find(|event| event.routing_key == "password.changed").unwrap().body["data"];
    assert_eq!((&changed["by"], &changed["temporary"]), (&json!("self"), &json!(false)));
    let ended = &told.last().unwrap().body["data"];
    assert_eq!((&ended["session_ids"], &ended["all"]), (&json!([there]), &json!(false)));
    assert_eq!(client.error("password.reset.inspect", json!({ "token": link })).await, "token_revoked");
    mail_to(&place.mail, "ada@example.com", 3).await;
    assert_eq!(place.count("emails where template = 'password_changed'").await, 2);

    assert_eq!(client.error("session.login", login("ada", PASSWORD)).await, "invalid_credentials");
    session(&client, "ada", NEW_PASSWORD).await;
    // The present one and the two before.
    client.ok("password.change", change(NEW_PASSWORD, THIRD)).await;
    let refusal = client.ask(("password.change", change(THIRD, PASSWORD))).await;
    assert_eq!(refusal["error"]["details"]["violations"][0]["rule"], "history", "{refusal}");
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn wrong_current_passwords_lock_as_wrong_sign_ins_do() {
    let (place, daemon) = Plan::default().set("login.max_failures", 3).start().await;
    let client = place.client().await;
    with_password(&client, "ada").await;
    let events = client.events("user.locked").await;
    let change = |user: &str, current: &str| json!({ "user": { "id": user }, "current_password": current, "new_password": NEW_PASSWORD });
    assert_eq!(client.error("password.change", change("ghost", PASSWORD)).await, "invalid_credentials");
    assert_eq!(client.error("session.login", login("ada", "wrong")).await, "invalid_credentials");
    for _ in 0..2 {
        assert_eq!(client.error("password.change", change("ada", "wrong")).await, "invalid_credentials");
    }
    assert_eq!(client.error("password.change", change("ada", PASSWORD)).await, "account_locked");
    assert_eq!(client.error("session.login", login("ada", PASSWORD)).await, "account_locked");
    assert_eq!(events.next().await.body["subject"], "ada");
    until_true("the mail about it", async || place.count("emails where template = 'account_locked'").await == 1).await;
    // A completed reset ends a lockout.
    client.ok("password.reset.request", json!({ "user": { "id": "ada" } })).await;
    let token = reset_link(&place, "ada").await;
    client.ok("password.reset.complete", json!({ "token": token, "new_password": NEW_PASSWORD })).await;
    session(&client, "ada", NEW_PASSWORD).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_temporary_password_is_told_once_and_only_serves_to_choose_a_new_one() {
    let place = Plan::default().set("log.level", "trace").prepare().await;
    let daemon = place.start().await;
    let client = place.client().await;
    let events = client.events("#").await;
    with_password(&client, "ada").await;
    let open = session(&client, "ada", PASSWORD).await;
    client.ok("password.reset.request", json!({ "user": { "id": "ada" } })).await;
    let link = reset_link(&place, "ada").await;

    let issue = Command::new("password.temporary.issue", json!({ "user": { "id": "ada" } })).id("once");
    let first = client.ask(issue.clone()).await;
    let older = first["result"]["temporary_password"].as_str().unwrap().to_owned();
    assert_eq!((older.chars().count(), &first["result"]["created"]), (20, &json!(false)));
    let again = client.ask(issue).await;
    assert_eq!((&again["duplicate"], &again["result"]["secret_withheld"]), (&json!(true), &json!(true)));
    assert_eq!(again["result"]["temporary_password"], Value::Null);
    let second = client.ok("password.temporary.issue", json!({ "user": { "id": "ada" } })).await;
    let temporary = second["temporary_password"].as_str().unwrap().to_owned();

    assert!(!is_active(&client, &open).await);
    let user = client.ok("user.get", json!({ "user": { "id": "ada" } })).await;
    assert_eq!(user["user"]["status"], "force_password_reset");
    for unusable in [PASSWORD, older.as_str()] {
        assert_eq!(client.error("session.login", login("ada", unusable)).await, "invalid_credentials");
    }
    let reset = json!({ "token": link, "new_password": NEW_PASSWORD });
    assert_eq!(client.error("password.reset.complete", reset).await, "token_revoked");
    assert_eq!(
        client.ok("password.reset.request", json!({ "user": { "id": "ada" } })).await,
        json!({ "accepted": true })
    );

    let refusal = client.ask(("session.login", login("ada", &temporary))).await;
    assert_eq!(refusal["error"]["code"], "password_change_required");
    let token = refusal["error"]["details"]["change_token"].as_str().unwrap().to_owned();
    client.user("bob").await;
    let change = |user: &str| json!({ "user": { "id": user }, "change_token": token, "new_password": NEW_PASSWORD });
    assert_eq!(client.error("password.change", change("bob")).await, "token_invalid");
    client.ok("password.change", change("ada")).await;
    assert_eq!(client.error("password.change", change("ada")).await, "token_used");
    session(&client, "ada", NEW_PASSWORD).await;

    until_true("the last mail", async || place.count("emails where state = 'queued'").await == 0).await;
    assert_eq!(place.count("emails where template = 'password_reset_link'").await, 1, "none while it was pending");
    assert_eq!(place.count("emails where template = 'temporary_password_issued'").await, 2);
    client.ok("user.block", json!({ "user": { "id": "ada" } })).await;
    let told: String = events.up_to("user.blocked").await.iter().map(|event| event.body.to_string()).collect();
    assert!(told.contains("password.temporary.issued"), "{told}");
    let sent = mails(&place.mail).iter().fold(String::new(), |all, mail| all + &mail.raw + &mail.text());
    assert_eq!(daemon.stop().await, 0);
    let (stored, logged) = (place.everything_stored().await, place.logs());
    for secret in [older, temporary, token] {
        for (place, text) in [("database", &stored), ("log", &logged), ("events", &told), ("mail", &sent)] {
            assert!(!text.contains(&secret), "{secret} is in the {place}");
        }
    }
}

#[tokio::test]
async fn a_temporary_password_ends_with_its_lifetime() {
    let (place, daemon) = Plan::default().set("temporary_password.lifetime", "1h").start().await;
    let client = place.client().await;
    client.user("ada").await;
    let asked = |seconds| Command::new("password.temporary.issue", json!({ "user": { "id": "ada" } })).asked(seconds);
    let late = client.ask(asked(-3601)).await["result"]["temporary_password"].take();
    let late = late.as_str().unwrap();
    assert_eq!(client.error("session.login", login("ada", late)).await, "temporary_password_expired");
    assert_eq!(daemon.metric("regrant_logins_total", &["outcome=\"temporary_password_expired\""]).await, 1);
    let change = json!({ "user": { "id": "ada" }, "current_password": late, "new_password": NEW_PASSWORD });
    assert_eq!(client.error("password.change", change).await, "temporary_password_expired");
    // What support does about it; and the person needs no change token if they know the password.
    let fresh = client.ask(asked(0)).await["result"]["temporary_password"].take();
    let change = json!({ "user": { "id": "ada" }, "current_password": fresh, "new_password": NEW_PASSWORD });
    client.ok("password.change", change).await;
    session(&client, "ada", NEW_PASSWORD).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_temporary_password_can_be_sealed_to_the_caller() {
    let (place, daemon) = Plan::default().set("secrets.require_sealed", true).start().await;
    let client = place.client().await;
    let create = json!({ "id": "ivy", "username": "ivy", "email": "ivy@example.com" });
    let refused = client.error("password.temporary.issue", json!({ "create": create })).await;
    assert_eq!(refused, "sealed_required");
    let key = SecretKey::from_bytes([7; 32]);
    let public = STANDARD.encode(key.public_key().as_bytes());
    let issued = client.ok("password.temporary.issue", json!({ "create": create, "reply_key": public })).await;
    assert_eq!(issued["created"], true);
    let sealed = STANDARD.decode(issued["temporary_password"]["sealed"].as_str().unwrap()).unwrap();
    let password = String::from_utf8(key.unseal(&sealed).unwrap()).unwrap();
    let info = client.ok("daemon.info", json!({})).await;
    let daemons: [u8; 32] =
        STANDARD.decode(info["sealing_key"]["public_key"].as_str().unwrap()).unwrap().try_into().unwrap();
    let seal = |text: &str| {
        let sealed = crypto_box::PublicKey::from_bytes(daemons).seal(&mut crypto_box::aead::OsRng, text.as_bytes());
        json!({ "sealed": STANDARD.encode(sealed.unwrap()), "key_id": info["sealing_key"]["key_id"] })
    };
    assert_eq!(client.error("session.login", login("ivy", &password)).await, "sealed_required");
    let mut unknown_key = seal(&password);
    unknown_key["key_id"] = "nobody's".into();
    let attempt = json!({ "user": { "id": "ivy" }, "password": unknown_key });
    assert_eq!(client.error("session.login", attempt).await, "sealed_invalid");
    for outcome in ["sealed_required", "sealed_invalid"] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(daemon.metric("regrant_logins_total", &[&label]).await, 1, "{outcome}");
        let on_record = format!("activity where kind = 'session.login' and user_id = 'ivy' and outcome = '{outcome}'");
        assert_eq!(place.count(&on_record).await, 1, "{outcome}");
    }
    let attempt = json!({ "user": { "id": "ivy" }, "password": seal(&password) });
    let refusal = client.ask(("session.login", attempt)).await;
    assert_eq!(refusal["error"]["code"], "password_change_required");
    let token = refusal["error"]["details"]["change_token"].as_str().unwrap();
    let plain = json!({ "change_token": token, "new_password": NEW_PASSWORD });
    assert_eq!(client.error("password.change", plain).await, "sealed_required");
    let change = json!({ "change_token": seal(token), "new_password": seal(NEW_PASSWORD) });
    client.ok("password.change", change).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn one_of_two_browsers_wins() {
    let (place, _daemon) = Plan::default().start().await;
    let _second = place.start().await;
    let client = place.client().await;
    client.user("ada").await;
    for round in 0..3 {
        client.ok("password.reset.request", json!({ "user": { "id": "ada" } })).await;
        until_true("the link", async || {
            place.count("emails where template = 'password_reset_link' and state = 'sent'").await == round + 1
        })
        .await;
        let links: Vec<_> =
            mails(&place.mail).into_iter().filter(|mail| mail.text().contains("/reset?token=")).collect();
        let mut token = String::new();
        for link in links {
            if client.ask(("password.reset.inspect", json!({ "token": link.token() }))).await["ok"] == true {
                token = link.token();
            }
        }
        let complete = |n| {
            let password = format!("Correct-Horse-{round}-{n}-Battery");
            Command::new("password.reset.complete", json!({ "token": token, "new_password": password }))
        };
        let begun = client.begin_all(&(0..4).map(complete).collect::<Vec<_>>()).await;
        let mut outcomes = Vec::new();
        for reply in begun {
            let reply = client.reply(&reply).await;
            outcomes.push(reply["error"]["code"].as_str().unwrap_or("ok").to_owned());
        }
        outcomes.sort();
        assert_eq!(outcomes, ["ok", "token_used", "token_used", "token_used"]);
    }
}

#[tokio::test]
async fn the_newest_link_wins_and_looking_uses_none_up() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    client.user("ada").await;
    let request = |seconds| Command::new("password.reset.request", json!({ "user": { "id": "ada" } })).asked(seconds);
    client.ask(request(-120)).await;
    let first = mail_to(&place.mail, "ada@example.com", 1).await.token();
    client.ask(request(-60)).await;
    let second = mail_to(&place.mail, "ada@example.com", 2).await.token();
    let refusal = client.ask(("password.reset.inspect", json!({ "token": first }))).await;
    assert_eq!(refusal["error"]["code"], "token_superseded");
    let newer = refusal["error"]["details"]["newer_requested_at"].as_str().unwrap();
    assert!(newer.ends_with('Z'), "{newer}");
    for _ in 0..3 {
        client.ok("password.reset.inspect", json!({ "token": second })).await;
    }
    client.ok("password.reset.complete", json!({ "token": second, "new_password": PASSWORD })).await;
    assert_eq!(
        client.error("password.reset.complete", json!({ "token": second, "new_password": THIRD })).await,
        "token_used"
    );
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_reset_that_was_not_asked_for_is_cancelled_by_the_mails_link() {
    let (place, daemon) =
        Plan::default().toml("cancel_url = \"https://app.example.com/cancel?token={token}\"").start().await;
    let client = place.client().await;
    client.user("ada").await;
    for (number, method) in ["link", "code"].into_iter().enumerate() {
        client.ok("password.reset.request", json!({ "user": { "id": "ada" }, "method": method })).await;
        let text = mail_to(&place.mail, "ada@example.com", number + 1).await.text();
        let (_, after) = text.split_once("/cancel?token=").unwrap_or_else(|| panic!("no cancel link:\n{text}"));
        let cancel: String = after.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
        assert_eq!(client.error("password.reset.inspect", json!({ "token": cancel })).await, "token_invalid");
        for _ in 0..2 {
            let cancelled = client.ok("password.reset.cancel", json!({ "token": cancel })).await;
            assert_eq!(cancelled, json!({ "cancelled": true }));
        }
        if method == "link" {
            let complete = json!({ "token": reset_link(&place, "ada").await, "new_password": PASSWORD });
            assert_eq!(client.error("password.reset.complete", complete).await, "token_revoked");
        }
    }
    let open = client.ok("user.get", json!({ "user": { "id": "ada" } })).await["open_tickets"].take();
    assert_eq!(open, json!([]));
    assert_eq!(
        place.count("activity where kind = 'password.reset.cancel' and user_id = 'ada' and outcome = 'ok'").await,
        4
    );
    assert_eq!(client.error("password.reset.cancel", json!({ "token": "x" })).await, "token_invalid");
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_form_can_ask_whether_a_password_is_good() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("known.txt");
    std::fs::write(&list, format!("password\n{THIRD}\n")).unwrap();
    let (place, daemon) = Plan::default().set("password.policy.blocklist_file", list.display()).start().await;
    let client = place.client().await;
    let ada = json!({ "id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada Lovelace" });
    client.ok("user.put", json!({ "user": ada })).await;
    client.ok("password.set", json!({ "user": { "id": "ada" }, "new_password": PASSWORD })).await;
    let check = async |password: &str, user: Value| {
        let mut body = json!({ "new_password": password });
        if !user.is_null() {
            body["user"] = user;
        }
        client.ok("password.check", body).await
    };
    let rules = |answer: &Value| -> Vec<String> {
        let violations = answer["violations"].as_array().unwrap();
        assert_eq!(answer["acceptable"], violations.is_empty());
        assert!(violations.iter().all(|v| v["message"].as_str().is_some_and(|text| text.ends_with('.'))));
        violations.iter().map(|v| v["rule"].as_str().unwrap().to_owned()).collect()
    };
    let good = check(PASSWORD, json!({ "id": "ada" })).await;
    assert_eq!(
        good,
        json!({ "acceptable": true, "violations": [], "strength": 4 }),
        "it does not tell whose password it is"
    );
    assert_eq!(rules(&check(THIRD, Value::Null).await), ["blocklist_file"]);
    let own = "Lovelace-Weaves-7-Numbers";
    assert_eq!(rules(&check(own, json!({ "email": "ADA@example.com" })).await), ["forbid_personal"]);
    for nobody in [Value::Null, json!({ "id": "ghost" }), json!({ "email": "ghost@example.com" })] {
        assert_eq!(rules(&check(own, nobody).await), [""; 0]);
    }
    assert!(rules(&check("", Value::Null).await).contains(&"min_length".to_owned()));
    let long = "aB3-".repeat(10_000);
    assert!(rules(&check(&long, Value::Null).await).contains(&"max_length".to_owned()));
    assert_eq!(daemon.stop().await, 0);
    assert!(!place.everything_stored().await.contains(own) && !place.logs().contains(own));
}

#[tokio::test]
async fn a_check_tells_those_who_may_not_see_profiles_nothing_of_them() {
    let shop = "[publishers.shop]\ncommands = [\"password.*\"]";
    let (place, _daemon) = Plan::default().toml(shop).start().await;
    let client = place.client().await;
    let ada =
        json!({ "id": "ada", "username": "countess", "email": "ada@example.com", "display_name": "Ada Lovelace" });
    client.ok("user.put", json!({ "user": ada })).await;
    let shop = place.shop().await;
    let check = async |client: &Client, user: Value, password: &str| {
        let answer = client.ok("password.check", json!({ "user": user, "new_password": password })).await;
        answer["violations"].as_array().unwrap().iter().any(|violation| violation["rule"] == "forbid_personal")
    };
    let own = "Lovelace-Weaves-7-Numbers";
    for user in [json!({ "email": "ada@example.com" }), json!({ "username": "countess" }), json!({ "id": "ada" })] {
        assert!(check(&client, user.clone(), own).await, "{user}");
        assert!(!check(&shop, user.clone(), own).await, "{user}");
    }
    // What they name themselves is the same for everybody.
    for name in ["countess", "nobodys"] {
        let password = format!("{name}-Weaves-7-Numbers");
        assert!(check(&shop, json!({ "username": name }), &password).await, "{name}");
        assert!(check(&shop, json!({ "email": format!("{name}@example.com") }), &password).await, "{name}");
    }
}

#[tokio::test]
async fn support_acts_in_somebodys_name_on_the_record() {
    let roles =
        "[roles.admin]\npermissions = [\"*\"]\nscope = \"all\"\n[roles.desk]\npermissions = [\"session.impersonate\"]";
    let (place, daemon) = Plan::default().toml(roles).start().await;
    let client = place.client().await;
    with_password(&client, "ada").await;
    for (id, role) in [("root", "admin"), ("dot", "desk")] {
        let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com"), "roles": [role] });
        client.ok("user.put", json!({ "user": user })).await;
    }
    let events = client.events("session.opened").await;
    let own = session(&client, "ada", PASSWORD).await;
    let before = client.ok("user.get", json!({ "user": { "id": "ada" } })).await;
    let act = |actor: &str, target: &str| json!({ "user": { "id": target }, "reason": "cannot see the invoice", "actor": { "id": actor } });
    assert_eq!(client.error("session.impersonate", act("dot", "root")).await, "forbidden_target");
    let opened = client.ok("session.impersonate", act("dot", "ada")).await;
    let after = client.ok("user.get", json!({ "user": { "id": "ada" } })).await;
    assert_eq!(before, after, "it is no sign-in of the person's");
    let checked = client.ok("session.check", json!({ "session_id": opened["session_id"] })).await;
    assert_eq!(
        (&checked["active"], &checked["user_id"], &checked["impersonated_by"]),
        (&json!(true), &json!("ada"), &json!("dot"))
    );
    assert_eq!(client.ok("session.check", json!({ "session_id": own })).await["impersonated_by"], Value::Null);
    assert_eq!(events.next().await.body["data"]["impersonated_by"], Value::Null);
    assert_eq!(events.next().await.body["data"]["impersonated_by"], "dot");
    let logged: i64 = place
        .value("select count(*) from activity where kind = 'session.impersonate' and actor = 'dot' and details->>'reason' = 'cannot see the invoice'")
        .await;
    assert_eq!(logged, 2, "the refused one too");
    let minutes: f64 = place
        .value("select (extract(epoch from expires_at - created_at) / 60)::float8 from sessions where impersonated_by = 'dot'")
        .await;
    assert!((minutes - 30.0).abs() < f64::EPSILON, "{minutes}");

    let change = json!({
        "user": { "id": "ada" }, "current_password": PASSWORD, "new_password": NEW_PASSWORD, "session_id": own,
    });
    assert_eq!(client.ok("password.change", change).await["sessions_ended"], 1);
    assert!(is_active(&client, &own).await && !is_active(&client, &opened["session_id"]).await);
    let opened = client.ok("session.impersonate", json!({ "user": { "id": "ada" }, "reason": "again" })).await;
    let checked = client.ok("session.check", json!({ "session_id": opened["session_id"] })).await;
    assert_eq!(checked["impersonated_by"], "system");
    client.ok("user.block", json!({ "user": { "id": "ada" } })).await;
    assert!(!is_active(&client, &opened["session_id"]).await);
    assert_eq!(client.error("session.impersonate", act("root", "ada")).await, "user_blocked");
    client.ok("user.unblock", json!({ "user": { "id": "ada" } })).await;
    client.ok("user.deactivate", json!({ "user": { "id": "ada" } })).await;
    assert_eq!(client.error("session.impersonate", act("root", "ada")).await, "user_inactive");
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn limits_answer_the_same_and_send_nothing() {
    let plan = Plan::default().set("password_reset.min_interval", "60s").set("password_reset.max_per_ip_per_hour", 5);
    let (place, daemon) = plan.start().await;
    let client = place.client().await;
    client.users(["ada", "bob"].map(str::to_owned)).await;
    let request = |id: &str, ip: Value| json!({ "user": { "id": id }, "context": { "ip": ip } });
    for _ in 0..3 {
        assert_eq!(client.ok("password.reset.request", request("ada", Value::Null)).await, json!({ "accepted": true }));
    }
    let first = mail_to(&place.mail, "ada@example.com", 1).await.token();
    client.ok("password.reset.inspect", json!({ "token": first })).await;
    for n in 0..5 {
        client.ok("password.reset.request", request(&format!("ghost{n}"), json!("192.0.2.7"))).await;
    }
    let answer = client.ok("password.reset.request", request("bob", json!("192.0.2.7"))).await;
    assert_eq!(answer, json!({ "accepted": true }));
    a_moment().await;
    assert_eq!(place.mail.messages().len(), 1, "one for ada, none for bob");
    // Nothing of this holds for support.
    for id in ["ada", "bob"] {
        let body = json!({ "user": { "id": id }, "context": { "ip": "192.0.2.7" }, "actor": "system" });
        let granted = client.ok("password.reset.request", body).await;
        assert_eq!(granted["tickets"][0]["user_id"], id);
    }
    mail_to(&place.mail, "bob@example.com", 1).await;
    mail_to(&place.mail, "ada@example.com", 2).await;
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_reset_proves_the_mailbox_and_accepts_an_invitation() {
    let (place, daemon) = Plan::default().start().await;
    let client = place.client().await;
    let events = client.events("#").await;
    let ada = json!({ "id": "ada", "username": "ada", "email": "ada@example.com" });
    client.ok("invite.send", json!({ "user": ada })).await;
    let invitation = mail_to(&place.mail, "ada@example.com", 1).await.token();
    client.ok("password.reset.request", json!({ "user": { "id": "ada" } })).await;
    let link = reset_link(&place, "ada").await;
    client.ok("password.reset.complete", json!({ "token": link, "new_password": PASSWORD })).await;
    let user = client.ok("user.get", json!({ "user": { "id": "ada" } })).await["user"].take();
    assert_eq!((&user["email_verified"], &user["status"]), (&json!(true), &json!("active")));
    let told: Vec<String> = events.up_to("invite.accepted").await.into_iter().map(|event| event.routing_key).collect();
    assert!(told.contains(&"email.verified".to_owned()), "{told:?}");
    let accept = json!({ "token": invitation, "new_password": NEW_PASSWORD });
    assert_eq!(client.error("invite.accept", accept).await, "token_revoked");
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn a_session_id_that_somebody_changed_is_no_session() {
    let (place, _daemon) = Plan::default().start().await;
    let client = place.client().await;
    for id in ["nope", "019ac2f0-9d2b-7c63-ae5f-2a7b0c4d8e31", "../../etc/passwd\n"] {
        let checked = client.ok("session.check", json!({ "session_id": id })).await;
        assert_eq!((&checked["active"], &checked["user_id"]), (&json!(false), &json!(null)), "{id}");
    }
}
