//! Why did no email come? Each answer that support gets, while the person always gets the same.

use serde_json::{Value, json};

use crate::harness::{Client, Command, Plan, mail_to, until, until_true};
use crate::histories::{person, start};

/// What was found, as soon as the verdict is this.
async fn explained(client: &Client, body: Value, verdict: &str) -> Value {
    until(&format!("{body} to be {verdict}"), async || {
        let found = client.ok("email.explain", body.clone()).await;
        (found["verdict"] == verdict).then_some(found)
    })
    .await
}

fn whats(found: &Value) -> Vec<&str> {
    found["steps"].as_array().unwrap().iter().map(|step| step["what"].as_str().unwrap()).collect()
}

fn step<'a>(found: &'a Value, what: &str) -> &'a Value {
    let mut steps = found["steps"].as_array().unwrap().iter();
    &steps.rfind(|step| step["what"] == what).unwrap_or_else(|| panic!("no {what} in {found}"))["details"]
}

/// Asks in the person's name, who is always told the same.
async fn request(client: &Client, user: Value) {
    let told = client.ok("password.reset.request", json!({ "user": user, "context": { "ip": "192.0.2.9" } })).await;
    assert_eq!(told, json!({ "accepted": true }));
}

#[tokio::test]
async fn what_a_person_must_not_be_told_is_told_apart() {
    let (place, _daemon, client) = start().await;
    for id in ["blocked", "inactive", "pending", "suppressed", "served", "idle"] {
        person(&client, id, "Somebody", "default", &[]).await;
    }
    let of = |id: &str| json!({ "user": { "id": id } });
    client.ok("user.block", json!({ "user": { "id": "blocked" }, "reason": "fraud" })).await;
    client.ok("user.deactivate", of("inactive")).await;
    client.ok("password.temporary.issue", of("pending")).await;
    place.run("insert into suppressions values ('suppressed@example.com', 'bounced', now() - interval '1 day')").await;
    for id in ["blocked", "inactive", "pending", "suppressed", "served"] {
        request(&client, json!({ "id": id })).await;
    }
    request(&client, json!({ "email": "Ghost@example.com" })).await;
    for (id, verdict, noted) in [
        ("blocked", "blocked", "blocked"),
        ("inactive", "inactive", "inactive"),
        ("pending", "temporary_password_pending", "temporary_password_pending"),
        ("suppressed", "suppressed", "suppressed"),
        ("served", "accepted_by_smtp", "accepted"),
    ] {
        let by_id = explained(&client, of(id), verdict).await;
        let by_email = explained(&client, json!({ "email": format!("{id}@EXAMPLE.com") }), verdict).await;
        assert_eq!(by_id, by_email);
        assert!(by_id["since"].is_string() && whats(&by_id).contains(&"requested"), "{by_id}");
        assert_eq!(step(&by_id, noted)["user_id"], id);
    }
    let blocked = client.ok("email.explain", of("blocked")).await;
    assert_eq!(whats(&blocked), ["account_blocked", "requested", "blocked"]);
    assert_eq!(step(&blocked, "account_blocked")["reason"], "fraud");
    let asked = step(&blocked, "requested");
    assert_eq!(
        (&asked["command"], &asked["by"], &asked["publisher"], &asked["ip"]),
        (&json!("password.reset.request"), &json!("self"), &json!("guest"), &json!("192.0.2.9"))
    );
    let suppressed = client.ok("email.explain", of("suppressed")).await;
    assert_eq!(step(&suppressed, "address_suppressed")["reason"], "bounced");
    let served = client.ok("email.explain", of("served")).await;
    assert_eq!(whats(&served), ["requested", "queued", "accepted"]);
    assert!(step(&served, "accepted")["reply"].as_str().unwrap().starts_with("250 "));
    let token = mail_to(&place.mail, "served@example.com", 1).await.token();
    assert!(!served.to_string().contains(&token));

    let unknown = explained(&client, json!({ "email": "ghost@example.com" }), "unknown_address").await;
    assert_eq!(whats(&unknown), ["requested", "unknown_address", "no_profile"]);
    let never = client.ok("email.explain", of("idle")).await;
    assert_eq!(never, json!({ "verdict": "never_requested", "since": null, "steps": [] }));
    let nobody = client.ok("email.explain", json!({ "email": "nobody@example.com" })).await;
    assert_eq!((&nobody["verdict"], whats(&nobody)), (&json!("never_requested"), vec!["no_profile"]));
    for body in [json!({}), json!({ "email": "a@b.c", "user": { "id": "idle" } })] {
        assert_eq!(client.error("email.explain", body).await, "invalid_body");
    }
    assert_eq!(client.error("email.explain", of("ghost")).await, "user_not_found");
}

#[tokio::test]
async fn a_throttled_request_names_its_limit() {
    let plan = Plan::default().set("password_reset.min_interval", "1h").set("password_reset.max_per_ip_per_hour", 2);
    let (place, _daemon) = plan.start().await;
    let client = place.client().await;
    person(&client, "ada", "Ada", "default", &[]).await;
    let (ada, of_ada) = (json!({ "id": "ada" }), json!({ "user": { "id": "ada" } }));
    request(&client, ada.clone()).await;
    explained(&client, of_ada.clone(), "accepted_by_smtp").await;
    request(&client, ada.clone()).await;
    let found = client.ok("email.explain", of_ada.clone()).await;
    assert_eq!(found["verdict"], "throttled");
    assert_eq!(step(&found, "throttled")["limit"], "password_reset.min_interval");
    assert!(whats(&found).contains(&"accepted"), "the older mail is there: {found}");
    request(&client, ada).await;
    let found = client.ok("email.explain", of_ada).await;
    assert_eq!(step(&found, "throttled")["limit"], "password_reset.max_per_ip_per_hour");
}

#[tokio::test]
async fn attempts_and_reports_are_told() {
    let (place, _daemon, client) = start().await;
    for id in ["late", "gone", "back", "spam", "there"] {
        person(&client, id, "Somebody", "default", &[]).await;
    }
    let of = |id: &str| json!({ "user": { "id": id } });
    place.mail.refuse_rcpt("451 4.7.1 greylisted", Some("late@example.com"));
    place.mail.refuse_rcpt("550 5.1.1 no such user here", Some("gone@example.com"));
    for id in ["late", "gone", "back", "spam", "there"] {
        request(&client, json!({ "id": id })).await;
    }
    let gone = explained(&client, of("gone"), "failed").await;
    assert_eq!(whats(&gone), ["requested", "queued", "attempt_failed", "failed"]);
    assert!(step(&gone, "attempt_failed")["reply"].as_str().unwrap().contains("550 5.1.1 no such user here"));
    until_true("a failed attempt", async || {
        let late = Box::pin(explained(&client, of("late"), "retrying")).await;
        whats(&late).contains(&"attempt_failed") && step(&late, "attempt_failed")["will_retry"] == true
    })
    .await;
    for (id, kind) in [("back", "bounced"), ("spam", "complained"), ("there", "delivered")] {
        let found = explained(&client, of(id), "accepted_by_smtp").await;
        let mail = &step(&found, "accepted")["email_id"];
        let report = json!({ "email_id": mail, "kind": kind, "detail": "said the provider" });
        client.ok("email.report", report).await;
        let found = client.ok("email.explain", of(id)).await;
        assert_eq!((&found["verdict"], &step(&found, kind)["detail"]), (&json!(kind), &json!("said the provider")));
        assert_eq!(whats(&found)[..3], ["requested", "queued", "accepted"]);
        assert_eq!(whats(&found).contains(&"address_suppressed"), kind != "delivered", "{found}");
    }
    // A newer request, and a block, while the mail is still tried.
    request(&client, json!({ "id": "late" })).await;
    client.ok("user.block", of("late")).await;
    let late = explained(&client, of("late"), "blocked").await;
    assert!(whats(&late).contains(&"superseded") || whats(&late).contains(&"cancelled"), "{late}");
}

#[tokio::test]
async fn a_template_that_is_off_and_a_link_that_ran_out_are_told() {
    let directory = crate::harness::shipped_templates();
    std::fs::write(directory.path().join("password_reset_code/template.toml"), "enabled = false\n").unwrap();
    let plan =
        Plan::default().set("templates.directory", directory.path().display()).set("password_reset.lifetime", "2s");
    let (place, _daemon) = plan.start().await;
    let client = place.client().await;
    person(&client, "ada", "Ada", "default", &[]).await;
    person(&client, "eve", "Eve", "default", &[]).await;
    client.ok("password.reset.request", json!({ "user": { "id": "ada" }, "method": "code" })).await;
    let found = explained(&client, json!({ "user": { "id": "ada" } }), "template_disabled").await;
    assert_eq!(whats(&found), ["requested", "queued", "template_disabled"]);
    place.mail.refuse_rcpt("451 4.3.0 later", None);
    request(&client, json!({ "id": "eve" })).await;
    let found = explained(&client, json!({ "user": { "id": "eve" } }), "expired").await;
    assert_eq!(whats(&found).last(), Some(&"expired"));
    // One that came too late to be better than what was sent already.
    place.mail.heal();
    let late = Command::new("password.reset.request", json!({ "user": { "id": "eve" } })).asked(-60);
    client.ask(late).await;
    let found = client.ok("email.explain", json!({ "user": { "id": "eve" } })).await;
    assert!(["superseded", "expired", "retrying"].contains(&found["verdict"].as_str().unwrap()), "{found}");
}

#[tokio::test]
async fn a_shared_address_shows_the_profiles_that_the_caller_may_see() {
    let (place, _daemon, client) = start().await;
    person(&client, "mia", "Mia", "north", &["support"]).await;
    for (id, site) in [("ada", "north"), ("bob", "south"), ("cleo", "north")] {
        let user = json!({ "id": id, "username": id, "email": "family@example.com", "site": site });
        client.ok("user.put", json!({ "user": user })).await;
    }
    client.ok("user.block", json!({ "user": { "id": "cleo" } })).await;
    request(&client, json!({ "email": "family@example.com" })).await;
    place.mail.wait_for("family@example.com", 2).await;
    let family = json!({ "email": "family@example.com" });
    let found = explained(&client, family.clone(), "accepted_by_smtp").await;
    for id in ["ada", "bob", "cleo"] {
        assert!(found.to_string().contains(&format!("\"user_id\":\"{id}\"")), "{id}: {found}");
    }
    let of_mia = json!({ "email": "family@example.com", "actor": { "id": "mia" } });
    let found = explained(&client, of_mia, "accepted_by_smtp").await;
    assert!(found.to_string().contains("cleo") && !found.to_string().contains("bob"), "{found}");
    // Somebody else's people are none of theirs; of an address that nobody has they learn just that.
    let user = json!({ "id": "south", "username": "south", "email": "south@example.com", "site": "south" });
    client.ok("user.put", json!({ "user": user })).await;
    let south = json!({ "email": "south@example.com", "actor": { "id": "mia" } });
    assert_eq!(client.error("email.explain", south).await, "forbidden");
    request(&client, json!({ "email": "ghost@example.com" })).await;
    let ghost = json!({ "email": "ghost@example.com", "actor": { "id": "mia" } });
    assert_eq!(client.ok("email.explain", ghost).await["verdict"], "unknown_address");
}
