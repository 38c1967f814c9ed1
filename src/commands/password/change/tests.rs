use serde_json::{Value, json};

use crate::commands::testing::{BETTER, Bed, Change, GOOD};
use crate::domain::account::{Invitation, Status, Temporary};
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State};
use crate::mail::catalogue::Template;

const COMMAND: &str = "password.change";
const THIRD: &str = "Third-Time-Lucky-33";

fn body(current: &str, new: &str) -> Value {
    json!({ "user": { "id": "ada" }, "current_password": current, "new_password": new })
}

fn with_token(token: &Value, new: &str) -> Value {
    json!({ "change_token": token, "new_password": new })
}

fn ada() -> Bed {
    let mut bed = Bed::with_member("ada");
    bed.password("ada", GOOD);
    bed
}

/// Makes [`GOOD`] a temporary password and signs in with it; the change token.
fn change_token(bed: &mut Bed) -> Value {
    bed.world.account_mut("ada").unwrap().password_hash = None;
    bed.ok("password.set", json!({ "user": { "id": "ada" }, "new_password": GOOD, "temporary": true }));
    bed.quiet();
    sign_in(bed, GOOD).unwrap_err()["details"]["change_token"].clone()
}

fn sign_in(bed: &mut Bed, password: &str) -> Result<Value, Value> {
    bed.run("session.login", json!({ "user": { "id": "ada" }, "password": password }))
}

#[test]
fn the_current_password_becomes_a_new_one_and_other_sessions_end() {
    let mut bed = ada();
    let (here, there) = (bed.sign_in("ada"), bed.sign_in("ada"));
    let link = bed.reset_link("ada");
    bed.quiet();
    let mut change = body(GOOD, BETTER);
    change["session_id"] = json!(here);
    assert_eq!(bed.ok(COMMAND, change), json!({ "sessions_ended": 1 }));
    let live: Vec<_> = bed.account("ada").sessions.iter().filter(|s| s.is_live(bed.now)).collect();
    assert_eq!(live.iter().map(|s| s.id.to_string()).collect::<Vec<_>>(), [here.as_str()]);
    assert_eq!(bed.account("ada").session_epoch, 1);
    let revoked: Value = serde_json::from_str(&bed.world.events[1].body).unwrap();
    assert_eq!((&revoked["data"]["all"], &revoked["data"]["session_ids"]), (&json!(false), &json!([there])));
    assert_eq!(revoked["data"]["except_session_id"], here);
    let changed: Value = serde_json::from_str(&bed.world.events[0].body).unwrap();
    assert_eq!((&changed["data"]["by"], &changed["data"]["temporary"]), (&json!("self"), &json!(false)));
    assert_eq!(bed.events(), ["password.changed", "session.revoked"]);
    let mail = bed.mails().remove(0);
    assert_eq!((mail.template, &mail.facts["changed_by"]), (Template::PasswordChanged, &json!("you")));
    assert_eq!(bed.refused("password.reset.inspect", json!({ "token": link })), Code::TokenRevoked);
    assert_eq!(bed.touched, ["ada"]);
    sign_in(&mut bed, GOOD).unwrap_err();
    sign_in(&mut bed, BETTER).unwrap();
}

#[test]
fn every_session_ends_unless_one_of_the_persons_own_is_named() {
    for of_other in [false, true] {
        let mut bed = ada();
        bed.sign_in("ada");
        bed.member("bob");
        let other = bed.sign_in("bob");
        let mut change = body(GOOD, BETTER);
        if of_other {
            change["session_id"] = json!(other);
        }
        assert_eq!(bed.ok(COMMAND, change)["sessions_ended"], 1);
        assert!(!bed.account("ada").has_live_session(bed.now) && bed.account("bob").has_live_session(bed.now));
    }
    let mut bed = ada();
    bed.sign_in("ada");
    bed.config.sessions.end_on_password_change = false;
    assert_eq!(bed.ok(COMMAND, body(GOOD, BETTER))["sessions_ended"], 0);
    assert!(bed.account("ada").has_live_session(bed.now));
}

#[test]
fn a_session_of_support_ends_also_when_it_is_named() {
    let mut bed = ada();
    let session = bed.ok("session.impersonate", json!({ "user": { "id": "ada" }, "reason": "help" }));
    let mut change = body(GOOD, BETTER);
    change["session_id"] = session["session_id"].clone();
    assert_eq!(bed.ok(COMMAND, change)["sessions_ended"], 1);
    assert!(!bed.account("ada").has_live_session(bed.now));
}

#[test]
fn a_wrong_current_password_is_a_failed_sign_in() {
    let mut bed = ada();
    bed.config.login.max_failures = 3;
    sign_in(&mut bed, "wrong").unwrap_err();
    assert_eq!(bed.refused(COMMAND, body("wrong", BETTER)), Code::InvalidCredentials);
    assert_eq!((bed.work.clone(), bed.account("ada").failed_logins), (vec!["verify"], 2));
    assert!(bed.mails().is_empty() && bed.events().is_empty());
    assert_eq!(bed.refused(COMMAND, body("wrong", BETTER)), Code::InvalidCredentials);
    assert_eq!((bed.events(), bed.mailed()), (vec!["user.locked"], vec![Template::AccountLocked]));
    let refusal = bed.run(COMMAND, body(GOOD, BETTER)).unwrap_err();
    assert_eq!(
        (&refusal["code"], &refusal["details"]["locked_until"]),
        (&json!("account_locked"), &json!("2027-01-15T08:15:00.000Z"))
    );
    assert!(bed.work.is_empty(), "a locked account costs no hashing");
    bed.wait(15 * 60);
    bed.ok(COMMAND, body(GOOD, BETTER));
    assert_eq!(bed.account("ada").failed_logins, 0);
}

#[test]
fn nothing_tells_strangers_who_exists_or_in_which_state() {
    let unknown = Bed::default().run(COMMAND, body("wrong", "weak")).unwrap_err();
    assert_eq!(unknown["code"], "invalid_credentials");
    let states: [Change; 5] = [
        |_| (),
        |a| a.blocked = true,
        |a| a.active = false,
        |a| a.password_hash = None,
        |a| a.temporary = Some(Temporary::default()),
    ];
    for change in states {
        let mut bed = ada();
        change(bed.world.account_mut("ada").unwrap());
        assert_eq!(bed.run(COMMAND, body("wrong", "weak")).unwrap_err(), unknown);
        assert_eq!(bed.work.len(), 1, "the work of one hash: {:?}", bed.work);
    }
    let mut bed = Bed::default();
    bed.run(COMMAND, body("wrong", BETTER)).unwrap_err();
    assert_eq!(bed.work, ["pretend"]);
}

#[test]
fn who_is_blocked_or_deactivated_is_told_after_the_right_password_only() {
    let cases: [(Change, Code); 2] =
        [(|a| a.blocked = true, Code::UserBlocked), (|a| a.active = false, Code::UserInactive)];
    for (change, expected) in cases {
        let mut bed = ada();
        change(bed.world.account_mut("ada").unwrap());
        assert_eq!(bed.refused(COMMAND, body("wrong", BETTER)), Code::InvalidCredentials);
        assert_eq!(bed.refused(COMMAND, body(GOOD, BETTER)), expected);
        let mut bed = ada();
        let token = change_token(&mut bed);
        change(bed.world.account_mut("ada").unwrap());
        assert_eq!(bed.refused(COMMAND, with_token(&token, BETTER)), expected);
    }
}

#[test]
fn the_same_password_again_is_no_change() {
    for history in [0, 3] {
        let mut bed = ada();
        bed.config.password.policy.rules.history = history;
        assert_eq!(bed.refused(COMMAND, body(GOOD, GOOD)), Code::PasswordUnchanged);
        let token = change_token(&mut bed);
        assert_eq!(bed.refused(COMMAND, with_token(&token, GOOD)), Code::PasswordUnchanged);
        bed.ok(COMMAND, with_token(&token, BETTER));
    }
    // Told before the rules: it is the answer that helps, also where the rules became stricter.
    let mut bed = ada();
    bed.password("ada", "weak");
    assert_eq!(bed.refused(COMMAND, body("weak", "weak")), Code::PasswordUnchanged);
}

#[test]
fn the_policy_and_the_history_hold() {
    let mut bed = ada();
    bed.blocklist.insert(THIRD.to_owned());
    bed.config.password.policy.blocklist_file = Some("list".into());
    for (new, rule) in [("Short-1", "min_length"), (THIRD, "blocklist_file")] {
        let refusal = bed.run(COMMAND, body(GOOD, new)).unwrap_err();
        assert_eq!(refusal["code"], "password_rejected");
        assert_eq!(refusal["details"]["violations"][0]["rule"], rule);
    }
    let mut bed = ada();
    bed.ok(COMMAND, body(GOOD, BETTER));
    bed.ok(COMMAND, body(BETTER, THIRD));
    let refusal = bed.run(COMMAND, body(THIRD, GOOD)).unwrap_err();
    assert_eq!(refusal["details"]["violations"][0]["rule"], "history");
}

#[test]
fn a_temporary_password_opens_nothing_but_the_way_to_a_new_one() {
    for by_token in [false, true] {
        let mut bed = ada();
        let token = change_token(&mut bed);
        let change = if by_token { with_token(&token, BETTER) } else { body(GOOD, BETTER) };
        assert_eq!(bed.ok(COMMAND, change), json!({ "sessions_ended": 0 }));
        let ada = bed.account("ada");
        assert_eq!(ada.temporary, None);
        let state = if by_token { State::Completed } else { State::Revoked };
        assert_eq!(bed.ticket("ada", Purpose::PasswordChange).state, state);
        assert_eq!(bed.mailed(), [Template::PasswordChanged]);
        sign_in(&mut bed, BETTER).unwrap();
        let again = bed.refused(COMMAND, with_token(&token, THIRD));
        assert_eq!(again, if by_token { Code::TokenUsed } else { Code::TokenRevoked });
    }
}

#[test]
fn a_temporary_password_that_expired_chooses_nothing() {
    let mut bed = ada();
    change_token(&mut bed);
    bed.wait(72 * 3600 - 1);
    let token = sign_in(&mut bed, GOOD).unwrap_err()["details"]["change_token"].clone();
    bed.wait(1);
    assert_eq!(bed.refused(COMMAND, body("wrong", BETTER)), Code::InvalidCredentials);
    assert_eq!(bed.refused(COMMAND, body(GOOD, BETTER)), Code::TemporaryPasswordExpired);
    // Who signed in in time may finish what they began.
    bed.ok(COMMAND, with_token(&token, BETTER));
}

#[test]
fn a_change_token_works_for_a_quarter_of_an_hour_and_only_the_newest() {
    let mut bed = ada();
    let first = change_token(&mut bed);
    let second = sign_in(&mut bed, GOOD).unwrap_err()["details"]["change_token"].clone();
    let refusal = bed.run(COMMAND, with_token(&first, BETTER)).unwrap_err();
    assert_eq!(refusal["code"], "token_superseded");
    assert_eq!(refusal["message"], "You have signed in again since. Choose the new password where you did so last.");
    bed.wait(15 * 60);
    assert_eq!(bed.refused(COMMAND, with_token(&second, BETTER)), Code::TokenExpired);
    let third = sign_in(&mut bed, GOOD).unwrap_err()["details"]["change_token"].clone();
    assert_eq!(bed.refused(COMMAND, with_token(&third, "weak")), Code::PasswordRejected);
    bed.wait(15 * 60 - 1);
    bed.ok(COMMAND, with_token(&third, BETTER));
    bed.check_invariants();
}

#[test]
fn a_token_is_its_owners() {
    let mut bed = ada();
    bed.member("bob");
    let token = change_token(&mut bed);
    for user in [json!({ "id": "bob" }), json!({ "id": "ghost" }), json!({ "email": "bob@example.com" })] {
        let mut change = with_token(&token, BETTER);
        change["user"] = user;
        assert_eq!(bed.refused(COMMAND, change), Code::TokenInvalid);
        assert_eq!(bed.touched, ["ada"], "whose ticket it is");
    }
    let reset = json!(bed.token_of(bed.ticket("ada", Purpose::PasswordChange)).to_lowercase());
    for wrong in [json!(""), json!("x".repeat(64)), reset] {
        assert_eq!(bed.refused(COMMAND, with_token(&wrong, BETTER)), Code::TokenInvalid);
    }
    let mut change = with_token(&token, BETTER);
    change["user"] = json!({ "username": " ADA" });
    bed.ok(COMMAND, change);
}

#[test]
fn no_other_token_changes_a_password() {
    let mut bed = ada();
    let link = json!(bed.reset_link("ada"));
    assert_eq!(bed.refused(COMMAND, with_token(&link, BETTER)), Code::TokenInvalid);
}

#[test]
fn there_is_exactly_one_proof() {
    let mut bed = ada();
    let token = json!("x");
    for wrong in [
        json!({ "new_password": BETTER }),
        json!({ "user": { "id": "ada" }, "new_password": BETTER }),
        json!({ "current_password": GOOD, "new_password": BETTER }),
        json!({ "user": { "id": "ada" }, "current_password": GOOD, "change_token": token, "new_password": BETTER }),
    ] {
        assert_eq!(bed.refused(COMMAND, wrong), Code::InvalidBody);
    }
}

#[test]
fn of_a_shared_address_it_is_the_profile_whose_password_it_is() {
    let mut bed = Bed::default();
    for (id, password) in [("ada", GOOD), ("bob", BETTER), ("eve", BETTER)] {
        bed.ok("user.put", json!({ "user": { "id": id, "username": id, "email": "family@example.com" } }));
        bed.password(id, password);
    }
    let change = |current| json!({ "user": { "email": "family@example.com" }, "current_password": current, "new_password": THIRD });
    bed.ok(COMMAND, change(GOOD));
    assert_eq!(bed.account("ada").password_hash.as_deref(), Some(format!("hash of {THIRD}").as_str()));
    let refusal = bed.run(COMMAND, change(BETTER)).unwrap_err();
    let ids: Vec<_> = refusal["details"]["candidates"].as_array().unwrap().iter().map(|c| c["id"].clone()).collect();
    assert_eq!((&refusal["code"], ids), (&json!("ambiguous_user"), vec![json!("bob"), json!("eve")]));
}

#[test]
fn it_makes_an_invitation_superfluous() {
    let mut bed = Bed::default();
    bed.ok("invite.send", json!({ "user": { "id": "ada", "username": "ada", "email": "ada@example.com" } }));
    bed.password("ada", GOOD);
    bed.ok(COMMAND, body(GOOD, BETTER));
    let ada = bed.account("ada");
    assert_eq!((ada.invitation, ada.status(bed.now)), (Invitation::None, Status::Active));
    assert!(!ada.email_verified, "it proves no mailbox");
}

#[test]
fn a_hash_of_older_parameters_is_simply_replaced() {
    let mut bed = ada();
    bed.world.account_mut("ada").unwrap().password_hash = Some(format!("old hash of {GOOD}"));
    bed.ok(COMMAND, body(GOOD, BETTER));
    assert_eq!(bed.work.iter().filter(|work| **work == "hash").count(), 1);
    assert_eq!(bed.refused(COMMAND, body(BETTER, GOOD)), Code::PasswordRejected, "it is remembered all the same");
}

#[test]
fn whoever_changes_it_sessions_end_tickets_are_void_and_the_person_is_told() {
    let user = json!({ "id": "ada", "username": "ada", "email": "ada@example.com" });
    let hash = "$2b$04$abcdefghijklmnopqrstuufHeA4Fq.encf94eJl9nyacODU6KGc1K";
    let imported = json!({
        "id": "ada", "username": "ada", "email": "ada@example.com", "roles": ["member"], "password_hash": hash,
    });
    for (command, by) in [
        ("password.reset.complete", "reset"),
        ("password.change", "self"),
        ("password.set", "admin"),
        ("password.temporary.issue", "admin"),
        ("user.put", "admin"),
    ] {
        let mut bed = Bed::default();
        bed.ok("user.put", json!({ "user": user }));
        bed.sign_in("ada");
        let link = bed.reset_link("ada");
        bed.ok("email.verification.send", json!({ "user": { "id": "ada" }, "actor": "system" }));
        bed.quiet();
        let body = match command {
            "password.reset.complete" => json!({ "token": link, "new_password": BETTER }),
            "password.change" => body(GOOD, BETTER),
            "password.set" => json!({ "user": { "id": "ada" }, "new_password": BETTER }),
            "user.put" => json!({ "user": imported }),
            _ => json!({ "user": { "id": "ada" } }),
        };
        bed.ok(command, body);
        let ada = bed.account("ada");
        assert!(!ada.has_live_session(bed.now), "{command}");
        assert_eq!(ada.session_epoch, 1, "{command}");
        let open: Vec<_> = ada.tickets.iter().filter(|t| t.state == State::Open).collect();
        assert!(open.is_empty(), "{command}: {open:?}");
        let changed: Vec<Value> = bed
            .world
            .events
            .iter()
            .filter(|e| e.name == "password.changed")
            .map(|e| serde_json::from_str(&e.body).unwrap())
            .collect();
        assert_eq!((changed.len(), &changed[0]["data"]["by"]), (1, &json!(by)), "{command}");
        let notice = if command == "password.temporary.issue" {
            Template::TemporaryPasswordIssued
        } else {
            Template::PasswordChanged
        };
        assert_eq!(bed.mailed(), [notice], "{command}");
    }
}
