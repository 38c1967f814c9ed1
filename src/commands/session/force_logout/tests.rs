use serde_json::{Value, json};

use crate::commands::testing::Bed;
use crate::domain::rejection::Code;
use crate::mail::catalogue::Template;

const COMMAND: &str = "session.force_logout";

fn revoked(bed: &mut Bed) -> Vec<Value> {
    let events = std::mem::take(&mut bed.world.events);
    let bodies = events.into_iter().filter(|e| e.name == "session.revoked").map(|e| e.body);
    bodies.map(|body| serde_json::from_str::<Value>(&body).unwrap()["data"].clone()).collect()
}

#[test]
fn people_are_signed_out_everywhere_and_the_epoch_grows() {
    let mut bed = Bed::with_member("ada");
    bed.member("bob");
    let sessions = [bed.sign_in("ada"), bed.sign_in("ada")];
    bed.quiet();
    let body = json!({
        "users": [{ "id": "ada" }, { "username": "bob" }, { "username": "ghost" }, { "email": "Gone@example.com" }],
        "reason": "lost phone",
    });
    let expected = json!({
        "ended": [{ "user_id": "ada", "sessions": 2 }, { "user_id": "bob", "sessions": 0 }],
        "not_found": [{ "username": "ghost" }, { "email": "gone@example.com" }],
    });
    assert_eq!(bed.ok(COMMAND, body), expected);
    assert_eq!(
        (bed.touched.clone(), &bed.details["reason"]),
        (vec!["ada".to_owned(), "bob".to_owned()], &json!("lost phone"))
    );
    assert!(!bed.account("ada").has_live_session(bed.now));
    // Also of somebody who has no session here: stateless ones upstream are refused by it.
    assert_eq!((bed.account("ada").session_epoch, bed.account("bob").session_epoch), (1, 1));
    let data = revoked(&mut bed);
    assert_eq!(
        (&data[0]["session_ids"], &data[0]["all"], &data[0]["session_epoch"]),
        (&json!(sessions), &json!(true), &json!(1))
    );
    assert_eq!((&data[1]["session_ids"], &data[1]["reason"]), (&json!([]), &json!("lost phone")));
    let mails = bed.mails();
    assert_eq!(mails.len(), 2);
    assert_eq!((mails[0].template, &mails[0].facts["reason"]), (Template::SignedOut, &json!("lost phone")));
}

#[test]
fn one_session_may_stay() {
    let mut bed = Bed::with_member("ada");
    let (phone, here) = (bed.sign_in("ada"), bed.sign_in("ada"));
    bed.quiet();
    let body = json!({ "users": [{ "id": "ada" }], "except_session_id": here });
    assert_eq!(bed.ok(COMMAND, body)["ended"], json!([{ "user_id": "ada", "sessions": 1 }]));
    let data = revoked(&mut bed);
    assert_eq!((&data[0]["session_ids"], &data[0]["all"]), (&json!([phone]), &json!(false)));
    assert_eq!((&data[0]["except_session_id"], &data[0]["session_epoch"]), (&json!(here), &json!(1)));
    assert!(bed.account("ada").has_live_session(bed.now));
}

#[test]
fn the_session_that_stays_is_told_in_its_owners_event_only() {
    let mut bed = Bed::with_member("ada");
    bed.member("bob");
    let (here, gone) = (bed.sign_in("ada"), bed.sign_in("ada"));
    bed.ok("session.logout", json!({ "session_id": gone }));
    bed.quiet();
    for (stays, told) in [(&here, json!(here)), (&gone, json!(null))] {
        let body = json!({ "users": [{ "id": "ada" }, { "id": "bob" }], "except_session_id": stays });
        bed.ok(COMMAND, body);
        let data = revoked(&mut bed);
        assert_eq!((&data[0]["except_session_id"], &data[1]["except_session_id"]), (&told, &json!(null)));
    }
}

#[test]
fn who_is_named_twice_is_signed_out_once() {
    let mut bed = Bed::with_member("ada");
    let body = json!({ "users": [{ "id": "ada" }, { "username": "ada" }, { "email": "ada@example.com" }] });
    assert_eq!(bed.ok(COMMAND, body)["ended"].as_array().unwrap().len(), 1);
    assert_eq!(bed.account("ada").session_epoch, 1);
}

#[test]
fn a_name_that_is_refused_refuses_all_and_says_which() {
    let mut bed = Bed::with_member("ada");
    bed.person("root", "default", "admin");
    bed.person("mia", "default", "manager");
    bed.ok("user.put", json!({ "user": { "id": "bob", "username": "bob", "email": "ada@example.com" } }));
    bed.sign_in("bob");
    for (user, expected) in
        [(json!({ "email": "ada@example.com" }), "ambiguous_user"), (json!({ "id": "root" }), "forbidden_target")]
    {
        let body = json!({ "users": [{ "id": "bob" }, user], "actor": { "id": "mia" } });
        let refusal = bed.run(COMMAND, body).unwrap_err();
        assert_eq!((&refusal["code"], &refusal["details"]["index"]), (&json!(expected), &json!(1)));
        assert!(!refusal.to_string().contains("@example.com"), "errors hold no address");
    }
    assert!(bed.account("bob").has_live_session(bed.now));
}

#[test]
fn one_session_is_ended_without_the_epoch() {
    let mut bed = Bed::with_member("ada");
    let (phone, _) = (bed.sign_in("ada"), bed.sign_in("ada"));
    bed.quiet();
    for sessions in [1, 0] {
        let expected = json!({ "ended": [{ "user_id": "ada", "sessions": sessions }], "not_found": [] });
        assert_eq!(bed.ok(COMMAND, json!({ "session_id": phone })), expected);
        assert_eq!(bed.touched, ["ada"]);
    }
    let data = revoked(&mut bed);
    assert_eq!((data.len(), &data[0]["session_ids"], &data[0]["all"]), (1, &json!([phone]), &json!(false)));
    assert_eq!(bed.account("ada").session_epoch, 0);
    assert!(bed.account("ada").has_live_session(bed.now));
    let ghost = json!({ "session_id": "0197f7a0-0000-7000-8000-000000000000" });
    assert_eq!(bed.refused(COMMAND, ghost), Code::SessionNotFound);
}

#[test]
fn a_thousand_people_and_no_more() {
    let mut bed = Bed::default();
    let names = |n: usize| (0..n).map(|i| json!({ "id": format!("u{i}") })).collect::<Vec<_>>();
    assert_eq!(bed.ok(COMMAND, json!({ "users": names(1000) }))["not_found"].as_array().unwrap().len(), 1000);
    for body in [
        json!({ "users": names(1001) }),
        json!({ "users": [] }),
        json!({}),
        json!({ "users": names(1), "session_id": "0197f7a0-0000-7000-8000-000000000000" }),
    ] {
        assert_eq!(bed.refused(COMMAND, body), Code::InvalidBody);
    }
}
