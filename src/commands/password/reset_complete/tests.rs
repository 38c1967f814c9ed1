use serde_json::{Value, json};

use crate::commands::testing::{BETTER, Bed, Change, GOOD};
use crate::domain::account::{Invitation, Status};
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State};
use crate::mail::catalogue::Template;

const COMMAND: &str = "password.reset.complete";

fn body(token: &str, password: &str) -> Value {
    json!({ "token": token, "new_password": password })
}

fn sign_in(bed: &mut Bed, password: &str) -> Result<Value, Value> {
    bed.run("session.login", json!({ "user": { "id": "ada" }, "password": password }))
}

fn rules(refusal: &Value) -> Vec<&str> {
    let violations = refusal["details"]["violations"].as_array().unwrap();
    assert!(violations.iter().all(|v| v["message"].as_str().is_some_and(|m| m.ends_with('.'))));
    violations.iter().map(|v| v["rule"].as_str().unwrap()).collect()
}

#[test]
fn a_link_or_a_code_becomes_a_password_once() {
    for method in ["link", "code"] {
        let mut bed = Bed::with_member("ada");
        bed.sign_in("ada");
        let proof = if method == "link" {
            json!({ "token": bed.reset_link("ada") })
        } else {
            json!({ "user": { "username": "ada" }, "code": bed.reset_code("ada") })
        };
        bed.quiet();
        let with = |password: &str| {
            let mut body = proof.clone();
            body["new_password"] = password.into();
            body
        };
        assert_eq!(bed.ok(COMMAND, with(BETTER)), json!({ "user_id": "ada", "sessions_ended": 1 }));
        assert_eq!(bed.touched, ["ada"]);
        assert_eq!(bed.events(), ["password.changed", "session.revoked"]);
        assert_eq!(bed.mailed(), [Template::PasswordChanged]);
        assert_eq!(bed.ticket("ada", Purpose::PasswordReset).state, State::Completed);
        assert_eq!(bed.refused(COMMAND, with("Another-Fine-Word-9")), Code::TokenUsed);
        assert_eq!(sign_in(&mut bed, GOOD).unwrap_err()["code"], "invalid_credentials");
        sign_in(&mut bed, BETTER).unwrap();
    }
}

#[test]
fn a_link_works_until_its_expiry() {
    let mut bed = Bed::with_member("ada");
    let token = bed.reset_link("ada");
    bed.wait(24 * 3600);
    assert_eq!(bed.refused(COMMAND, body(&token, BETTER)), Code::TokenExpired);
    bed.wait(-1);
    bed.ok(COMMAND, body(&token, BETTER));
}

#[test]
fn each_broken_rule_is_told_and_nothing_is_used_up() {
    let mut bed = Bed::with_member("ada");
    let token = bed.reset_link("ada");
    for (password, expected) in [
        ("short", &["min_length", "require_uppercase", "require_digit", "require_special", "min_strength"] as &[_]),
        (&format!("Aa1!{}", "x7Q-".repeat(80)), &["max_length"]),
        ("Battery-7-aDa-Horse", &["forbid_personal"]),
        ("Battery-7-example.com-Horse", &[]),
    ] {
        let answer = bed.run(COMMAND, body(&token, password));
        match expected {
            [] => drop(answer.unwrap()),
            expected => {
                let refusal = answer.unwrap_err();
                assert_eq!(refusal["code"], "password_rejected");
                assert_eq!(rules(&refusal), expected, "{password}");
                bed.ok("password.reset.inspect", json!({ "token": token }));
            }
        }
    }
}

#[test]
fn names_and_the_blocklist_are_part_of_the_policy() {
    let mut bed = Bed::default();
    let user = json!({ "id": "u1", "username": "lovelace", "email": "countess@example.com" });
    bed.ok("user.put", json!({ "user": user }));
    let token = bed.reset_link("u1");
    let refusal = bed.run(COMMAND, body(&token, "Lovelace-7-Battery-Horse")).unwrap_err();
    assert_eq!(rules(&refusal), ["forbid_personal"]);
    assert_eq!(bed.work, ["judge"], "judged where passwords are hashed, and not hashed");
    bed.config.password.policy.blocklist_file = Some("some.txt".into());
    bed.blocklist.insert(GOOD.into());
    let refusal = bed.run(COMMAND, body(&token, GOOD)).unwrap_err();
    assert_eq!(rules(&refusal), ["blocklist_file"]);
    bed.ok(COMMAND, body(&token, BETTER));
    assert_eq!(bed.work, ["hash"]);
}

#[test]
fn what_is_too_long_is_compared_with_nothing() {
    let mut bed = Bed::with_member("ada");
    bed.password("ada", GOOD);
    let token = bed.reset_link("ada");
    for (length, work) in [(256, &["judge", "verify"][..]), (257, &["judge"])] {
        // Composed, it is as long as it looks.
        let refusal = bed.run(COMMAND, body(&token, &"u\u{308}".repeat(length))).unwrap_err();
        assert_eq!((rules(&refusal).contains(&"max_length"), bed.work.as_slice()), (length > 256, work));
    }
}

#[test]
fn the_last_three_passwords_do_not_come_again() {
    let mut bed = Bed::with_member("ada");
    bed.password("ada", GOOD);
    let passwords = [BETTER, "Third-Time-Lucky-33", "Fourth-And-Final-44"];
    let change = |bed: &mut Bed, password: &str| {
        bed.wait(3600 * 24);
        let token = bed.reset_link("ada");
        bed.run(COMMAND, body(&token, password))
    };
    for password in passwords {
        let again = change(&mut bed, password);
        assert!(again.is_ok(), "{again:?}");
        assert_eq!(rules(&change(&mut bed, password).unwrap_err()), ["history"], "the current one");
    }
    for (password, remembered) in [(passwords[0], true), (passwords[1], true), (passwords[2], true), (GOOD, false)] {
        assert_eq!(change(&mut bed, password).is_err(), remembered, "{password}");
    }
    assert_eq!(bed.account("ada").previous_hashes.len(), 2, "no more are kept than are needed");
    // Reuse is told beside the other rules.
    bed.config.password.policy.rules.min_length = 30;
    assert_eq!(rules(&change(&mut bed, GOOD).unwrap_err()), ["min_length", "history"]);
    bed.config.password.policy.rules.min_length = 12;
    bed.config.password.policy.rules.history = 0;
    assert!(change(&mut bed, GOOD).is_ok());
}

#[test]
fn it_proves_the_mailbox_and_ends_a_lockout() {
    let mut bed = Bed::with_member("ada");
    bed.password("ada", GOOD);
    bed.world.account_mut("ada").unwrap().email_verified = false;
    for _ in 0..10 {
        sign_in(&mut bed, "wrong").unwrap_err();
    }
    assert_eq!(sign_in(&mut bed, GOOD).unwrap_err()["code"], "account_locked");
    let token = bed.reset_link("ada");
    bed.quiet();
    bed.ok(COMMAND, body(&token, BETTER));
    assert_eq!(bed.events(), ["password.changed", "session.revoked", "email.verified"]);
    assert!(bed.account("ada").email_verified);
    sign_in(&mut bed, BETTER).unwrap();
}

#[test]
fn it_accepts_an_invitation_that_nobody_accepted() {
    let mut bed = Bed::default();
    bed.ok("invite.send", json!({ "user": { "id": "ada", "username": "ada", "email": "ada@example.com" } }));
    let invitation = bed.token("ada", Purpose::Invite);
    assert_eq!(bed.account("ada").status(bed.now), Status::Invited);
    let token = bed.reset_link("ada");
    bed.quiet();
    assert_eq!(bed.ok(COMMAND, body(&token, GOOD)), json!({ "user_id": "ada", "sessions_ended": 0 }));
    assert_eq!(bed.events(), ["password.changed", "email.verified", "invite.accepted"]);
    assert_eq!(bed.account("ada").invitation, Invitation::Accepted);
    assert_eq!(bed.account("ada").status(bed.now), Status::Active);
    assert_eq!(bed.refused("invite.accept", body(&invitation, BETTER)), Code::TokenRevoked);
}

#[test]
fn it_ends_sessions_and_voids_tickets_unless_configured_otherwise() {
    for end in [true, false] {
        let mut bed = Bed::with_member("ada");
        bed.config.sessions.end_on_password_change = end;
        bed.sign_in("ada");
        bed.sign_in("ada");
        let token = bed.reset_link("ada");
        let ended = bed.ok(COMMAND, body(&token, BETTER))["sessions_ended"].clone();
        assert_eq!(ended, if end { 2 } else { 0 });
        assert_eq!(bed.account("ada").has_live_session(bed.now), !end);
        assert_eq!(bed.account("ada").session_epoch, i64::from(end));
        assert!(bed.account("ada").tickets.iter().all(|t| t.state != State::Open));
    }
}

#[test]
fn it_never_lets_anybody_back_in_and_warns_of_that() {
    let cases: [(Change, Value, &str); 3] = [
        (|a| a.blocked = true, json!(["user_blocked"]), "user_blocked"),
        (|a| a.active = false, json!(["user_inactive"]), "user_inactive"),
        (|a| (a.blocked, a.active) = (true, false), json!(["user_blocked", "user_inactive"]), "user_blocked"),
    ];
    for (change, warnings, code) in cases {
        let mut bed = Bed::with_member("ada");
        let token = bed.reset_link("ada");
        change(bed.world.account_mut("ada").unwrap());
        assert_eq!(bed.ok(COMMAND, body(&token, GOOD))["warnings"], warnings);
        assert_eq!(sign_in(&mut bed, GOOD).unwrap_err()["code"], code);
    }
}

#[test]
fn a_reset_of_one_profile_leaves_the_others_of_the_address_alone() {
    let mut bed = Bed::with_member("ada");
    bed.ok("user.put", json!({ "user": { "id": "bob", "username": "bob", "email": "ada@example.com" } }));
    bed.password("bob", GOOD);
    bed.ok("password.reset.request", json!({ "user": { "email": "ada@example.com" } }));
    let before = bed.account("bob").clone();
    let token = bed.token("ada", Purpose::PasswordReset);
    bed.ok(COMMAND, body(&token, BETTER));
    assert_eq!(*bed.account("bob"), before);
    let token = bed.token("bob", Purpose::PasswordReset);
    bed.ok(COMMAND, body(&token, BETTER));
}

#[test]
fn sealed_secrets_are_opened_and_demanded_if_configured() {
    let mut bed = Bed::with_member("ada");
    let token = bed.reset_link("ada");
    let seal = |bed: &Bed, plain: &str| {
        let key = bed.keys.sealing_key();
        json!({ "sealed": crate::keys::seal_to(&key.public_key, plain).unwrap(), "key_id": key.key_id })
    };
    bed.config.secrets.require_sealed = true;
    let (sealed_token, sealed_password) = (seal(&bed, &token), seal(&bed, BETTER));
    assert_eq!(bed.refused(COMMAND, body(&token, BETTER)), Code::SealedRequired);
    assert_eq!(bed.refused(COMMAND, json!({ "token": sealed_token, "new_password": BETTER })), Code::SealedRequired);
    let broken = json!({ "sealed": "AAAA", "key_id": sealed_token["key_id"] });
    assert_eq!(bed.refused(COMMAND, json!({ "token": broken, "new_password": sealed_password })), Code::SealedInvalid);
    bed.ok(COMMAND, json!({ "token": sealed_token, "new_password": sealed_password }));
}
