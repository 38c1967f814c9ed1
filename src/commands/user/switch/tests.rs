use serde_json::json;

use crate::commands::testing::{Bed, GOOD};
use crate::domain::account::Status;
use crate::domain::rejection::Code;

#[test]
fn each_switch_sets_its_flag_tells_of_it_once_and_shows_the_person() {
    for (command, back, event, status) in [
        ("user.block", "user.unblock", "user.blocked", "blocked"),
        ("user.deactivate", "user.activate", "user.deactivated", "inactive"),
    ] {
        let mut bed = Bed::default();
        bed.member("ada");
        bed.quiet();
        let body = json!({ "user": { "username": "Ada" }, "reason": "left" });
        let user = bed.ok(command, body.clone())["user"].clone();
        assert_eq!((&user["id"], &user["status"]), (&json!("ada"), &json!(status)));
        assert_eq!(bed.events(), [event, "session.revoked"]);
        assert_eq!((bed.details["reason"].as_str(), bed.touched.as_slice()), (Some("left"), &["ada".to_owned()][..]));
        let before = bed.account("ada").clone();
        bed.wait(1);
        assert_eq!(bed.ok(command, body)["user"], user, "{command} twice is no error");
        assert_eq!(*bed.account("ada"), before, "{command} twice changes nothing more");
        assert_eq!(bed.ok(back, json!({ "user": { "id": "ada" } }))["user"]["status"], "active");
        assert_eq!(bed.events().len(), 1, "{back} tells of it and ends no session");
    }
}

#[test]
fn deactivate_and_block_end_all_sessions_and_the_epoch_grows() {
    for command in ["user.block", "user.deactivate"] {
        let mut bed = Bed::default();
        bed.member("ada");
        let sessions = [bed.sign_in("ada"), bed.sign_in("ada")];
        bed.member("bob");
        bed.sign_in("bob");
        bed.quiet();
        let user = bed.ok(command, json!({ "user": { "id": "ada" } }))["user"].clone();
        assert_eq!(user["session_epoch"], 1);
        assert!(!bed.account("ada").has_live_session(bed.now));
        assert!(bed.account("bob").has_live_session(bed.now));
        let revoked = bed.world.events.pop().unwrap();
        let data = &serde_json::from_str::<serde_json::Value>(&revoked.body).unwrap()["data"];
        assert_eq!((&data["session_ids"], &data["all"]), (&json!(sessions), &json!(true)));
    }
}

#[test]
fn neither_brings_back_sessions_or_undoes_the_other() {
    let mut bed = Bed::default();
    bed.member("ada");
    bed.sign_in("ada");
    for command in ["user.block", "user.deactivate", "user.unblock"] {
        bed.ok(command, json!({ "user": { "id": "ada" } }));
    }
    assert_eq!(bed.account("ada").status(bed.now), Status::Inactive);
    let login = json!({ "user": { "id": "ada" }, "password": GOOD });
    assert_eq!(bed.refused("session.login", login.clone()), Code::UserInactive);
    bed.ok("user.activate", json!({ "user": { "id": "ada" } }));
    assert!(!bed.account("ada").has_live_session(bed.now));
    bed.ok("session.login", login);
}

#[test]
fn one_person_is_meant_or_nobody() {
    let mut bed = Bed::default();
    bed.member("ada");
    bed.ok(
        "user.put",
        json!({ "user": { "id": "bob", "username": "bob", "email": "ada@example.com", "site": "north" } }),
    );
    assert_eq!(bed.refused("user.block", json!({ "user": { "id": "ghost" } })), Code::UserNotFound);
    let refusal = bed.run("user.block", json!({ "user": { "email": "ada@example.com" } })).unwrap_err();
    assert_eq!(refusal["code"], "ambiguous_user");
    let candidates = json!([
        { "id": "ada", "username": "ada", "site": "default" },
        { "id": "bob", "username": "bob", "site": "north" },
    ]);
    assert_eq!(refusal["details"]["candidates"], candidates);
}
