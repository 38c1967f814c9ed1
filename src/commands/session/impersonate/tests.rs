use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::commands::testing::{BETTER, Bed, Change, GOOD};
use crate::config::{Role, Scope};
use crate::domain::rejection::Code;

const COMMAND: &str = "session.impersonate";

fn body() -> Value {
    json!({ "user": { "id": "ada" }, "reason": "cannot see the invoice" })
}

fn by(actor: &str) -> Value {
    let mut body = body();
    body["actor"] = json!({ "id": actor });
    body
}

#[test]
fn it_is_short_marked_and_on_the_record() {
    for (actor, expected) in [(Value::Null, "system"), (json!("system"), "system"), (json!({ "id": "root" }), "root")] {
        let mut bed = Bed::with_member("ada");
        bed.person("root", "default", "admin");
        bed.quiet();
        let mut body = body();
        body["actor"] = actor;
        let opened = bed.ok(COMMAND, body);
        let session = &bed.account("ada").sessions[0];
        assert_eq!(opened, json!({ "session_id": session.id, "expires_at": "2027-01-15T08:30:00.000Z" }));
        assert_eq!(session.impersonated_by.as_deref(), Some(expected));
        assert_eq!(session.expires_at, bed.now + TimeDelta::minutes(30));
        assert_eq!(
            (&bed.details["reason"], &bed.details["session_id"]),
            (&json!("cannot see the invoice"), &opened["session_id"])
        );
        assert_eq!(bed.touched, ["ada"]);
        let event: Value = serde_json::from_str(&bed.world.events[0].body).unwrap();
        assert_eq!(
            (&event["data"]["session_id"], &event["data"]["impersonated_by"]),
            (&opened["session_id"], &json!(expected))
        );
        assert_eq!(bed.events(), ["session.opened"]);
        assert!(bed.mails().is_empty());
    }
}

#[test]
fn it_is_no_sign_in_of_the_persons() {
    let mut bed = Bed::with_member("ada");
    bed.password("ada", GOOD);
    bed.config.login.max_failures = 3;
    for _ in 0..2 {
        bed.run("session.login", json!({ "user": { "id": "ada" }, "password": "wrong" })).unwrap_err();
    }
    let before = bed.account("ada").clone();
    bed.ok(COMMAND, body());
    let mut after = bed.account("ada").clone();
    after.sessions.clear();
    assert_eq!(after, before, "nothing but a session");
    bed.run("session.login", json!({ "user": { "id": "ada" }, "password": "wrong" })).unwrap_err();
    assert!(bed.account("ada").is_locked(bed.now));
    bed.ok(COMMAND, body());
    assert!(bed.account("ada").is_locked(bed.now), "a lockout is not lifted by it, nor does it keep support out");
}

#[test]
fn own_sessions_and_those_of_support_do_not_push_each_other_out() {
    let mut bed = Bed::with_member("ada");
    bed.config.sessions.max_per_user = 2;
    let own = [bed.sign_in("ada"), bed.sign_in("ada")];
    let of_support: Vec<Value> = (0..3)
        .map(|_| {
            bed.wait(1);
            bed.ok(COMMAND, body())["session_id"].clone()
        })
        .collect();
    let live = |bed: &Bed| -> Vec<Value> {
        bed.account("ada").sessions.iter().filter(|s| s.is_live(bed.now)).map(|s| json!(s.id)).collect()
    };
    assert_eq!(live(&bed), [json!(own[0]), json!(own[1]), of_support[1].clone(), of_support[2].clone()]);
    assert_eq!(bed.events().iter().filter(|event| **event == "session.revoked").count(), 1);
    let third = bed.sign_in("ada");
    assert_eq!(live(&bed), [json!(own[1]), of_support[1].clone(), of_support[2].clone(), json!(third)]);
    bed.check_invariants();
}

#[test]
fn whoever_may_not_come_in_is_not_impersonated() {
    let cases: [(Change, Code); 2] =
        [(|a| a.blocked = true, Code::UserBlocked), (|a| a.active = false, Code::UserInactive)];
    for (change, expected) in cases {
        let mut bed = Bed::with_member("ada");
        change(bed.world.account_mut("ada").unwrap());
        assert_eq!(bed.refused(COMMAND, body()), expected);
        assert_eq!(bed.details["reason"], "cannot see the invoice", "an attempt is on the record too");
        assert_eq!(bed.touched, ["ada"]);
    }
    assert_eq!(Bed::default().refused(COMMAND, body()), Code::UserNotFound);
}

#[test]
fn what_ends_the_persons_sessions_ends_it_too() {
    for (command, more) in [
        ("session.force_logout", json!({ "users": [{ "id": "ada" }] })),
        ("password.change", json!({ "user": { "id": "ada" }, "current_password": GOOD, "new_password": BETTER })),
        ("password.set", json!({ "user": { "id": "ada" }, "new_password": BETTER })),
        ("password.temporary.issue", json!({ "user": { "id": "ada" } })),
        ("user.block", json!({ "user": { "id": "ada" } })),
        ("user.deactivate", json!({ "user": { "id": "ada" } })),
    ] {
        let mut bed = Bed::with_member("ada");
        bed.password("ada", GOOD);
        bed.ok(COMMAND, body());
        bed.ok(command, more);
        assert!(!bed.account("ada").has_live_session(bed.now), "{command}");
    }
    let mut bed = Bed::with_member("ada");
    let session = bed.ok(COMMAND, body())["session_id"].clone();
    bed.ok("session.logout", json!({ "session_id": session }));
    assert!(!bed.account("ada").has_live_session(bed.now));
    bed.ok(COMMAND, body());
    bed.wait(30 * 60);
    assert!(!bed.account("ada").has_live_session(bed.now), "half an hour");
}

#[test]
fn a_reason_is_needed() {
    let mut bed = Bed::with_member("ada");
    for reason in [json!(null), json!(""), json!("x".repeat(1001))] {
        assert_eq!(bed.refused(COMMAND, json!({ "user": { "id": "ada" }, "reason": reason })), Code::InvalidBody);
    }
    assert_eq!(bed.refused(COMMAND, json!({ "user": { "id": "ada" } })), Code::InvalidBody);
}

#[test]
fn nobody_borrows_more_rights_than_they_have() {
    let mut bed = Bed::default();
    let role = Role { permissions: vec![COMMAND.to_owned()], scope: Scope::Site };
    bed.config.roles.insert("desk".to_owned(), role);
    for (id, site, role) in [
        ("dot", "north", "desk"),
        ("ada", "north", "member"),
        ("bob", "south", "member"),
        ("mia", "north", "manager"),
        ("root", "north", "admin"),
    ] {
        bed.person(id, site, role);
    }
    for (actor, target, expected) in [
        ("dot", "ada", "ok"),
        ("dot", "bob", "forbidden"),
        ("dot", "mia", "forbidden_target"),
        ("dot", "root", "forbidden_target"),
        ("mia", "ada", "forbidden"),
        ("ada", "ada", "forbidden"),
        ("root", "mia", "ok"),
    ] {
        let mut command = by(actor);
        command["user"] = json!({ "id": target });
        let answer = bed.run(COMMAND, command);
        let found = answer.map_or_else(|e| e["code"].as_str().unwrap().to_owned(), |_| "ok".to_owned());
        assert_eq!(found, expected, "{actor} as {target}");
    }
    bed.publisher = "web".to_owned();
    assert_eq!(bed.refused(COMMAND, body()), Code::ActorRequired);
}
