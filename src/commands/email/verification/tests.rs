#![expect(clippy::needless_pass_by_value, reason = "`json!` makes values")]

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::commands::testing::{Bed, Change, GOOD};
use crate::domain::account::Temporary;
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, Requester, State};
use crate::mail::catalogue::Template;

const SEND: &str = "email.verification.send";
const COMPLETE: &str = "email.verification.complete";

/// Somebody whose address is not proven yet.
fn unproven() -> Bed {
    let mut bed = Bed::with_member("ada");
    bed.world.account_mut("ada").unwrap().email_verified = false;
    bed
}

fn ask(bed: &mut Bed, user: Value) -> Value {
    bed.ok(SEND, json!({ "user": user }))
}

fn link(bed: &mut Bed) -> String {
    ask(bed, json!({ "id": "ada" }));
    bed.token("ada", Purpose::Verification)
}

fn code(bed: &mut Bed) -> String {
    bed.ok(SEND, json!({ "user": { "id": "ada" }, "method": "code" }));
    bed.code_for("ada", Purpose::Verification)
}

fn by_token(token: &str) -> Value {
    json!({ "token": token })
}

fn by_code(code: &str) -> Value {
    json!({ "user": { "id": "ada" }, "code": code })
}

#[test]
fn the_mail_holds_a_link_or_a_code_and_says_what_it_knows() {
    for (method, template, hours) in [
        (json!(null), Template::EmailVerificationLink, 72),
        (json!("link"), Template::EmailVerificationLink, 72),
        (json!("code"), Template::EmailVerificationCode, 1),
    ] {
        let mut bed = unproven();
        let body = json!({ "user": { "id": "ada" }, "method": method, "context": { "ip": "192.0.2.7" } });
        assert_eq!(bed.ok(SEND, body), json!({ "accepted": true }));
        let (mail, ticket) = (bed.mails().remove(0), bed.ticket("ada", Purpose::Verification).clone());
        let expires_at = bed.now + TimeDelta::hours(hours);
        assert_eq!((mail.template, mail.to.as_str()), (template, "ada@example.com"));
        assert_eq!((mail.ticket_id, mail.give_up_at), (Some(ticket.id), expires_at));
        assert_eq!((ticket.expires_at, ticket.requester), (expires_at, Requester::Itself));
        assert_eq!((&mail.facts["request_ip"], bed.decision()), (&json!("192.0.2.7"), "sent"));
        assert!(bed.events().is_empty(), "it is no event of the contract");
    }
}

#[test]
fn the_answer_is_the_same_whoever_is_asked_for() {
    let cases: [(&str, Change); 4] = [
        ("blocked", |a| a.blocked = true),
        ("inactive", |a| a.active = false),
        ("already_verified", |a| a.email_verified = true),
        ("suppressed", |a| a.suppressed = true),
    ];
    for (decision, change) in cases {
        for name in [json!({ "id": "ada" }), json!({ "username": "ada" }), json!({ "email": "ada@example.com" })] {
            let mut bed = unproven();
            "web".clone_into(&mut bed.publisher);
            change(bed.world.account_mut("ada").unwrap());
            assert_eq!(ask(&mut bed, name), json!({ "accepted": true }), "{decision}");
            assert_eq!((bed.decision(), bed.touched.as_slice()), (decision, &["ada".to_owned()][..]));
            assert!(bed.mails().is_empty() && bed.account("ada").tickets.is_empty());
        }
    }
    let mut bed = Bed::default();
    assert_eq!(ask(&mut bed, json!({ "email": "ghost@example.com" })), json!({ "accepted": true }));
    assert_eq!((bed.decision(), bed.subject_key.is_some()), ("unknown_address", true));
    let mut bed = unproven();
    link(&mut bed);
    assert_eq!(ask(&mut bed, json!({ "id": "ada" })), json!({ "accepted": true }));
    assert_eq!((bed.mails().len(), bed.decision()), (1, "throttled"));
}

#[test]
fn a_pending_temporary_password_does_not_keep_an_address_from_being_proven() {
    let mut bed = unproven();
    let ada = bed.world.account_mut("ada").unwrap();
    (ada.temporary, ada.password_hash) = (Some(Temporary::default()), Some("h".into()));
    let token = link(&mut bed);
    bed.ok(COMPLETE, by_token(&token));
    assert!(bed.account("ada").must_change_password(), "and is not lifted by it");
}

#[test]
fn support_is_told_why_nothing_is_sent() {
    let cases: [(Change, &str); 4] = [
        (|a| a.blocked = true, "user_blocked"),
        (|a| a.active = false, "user_inactive"),
        (|a| a.email_verified = true, "request_completed"),
        (|a| a.suppressed = true, "address_suppressed"),
    ];
    for (change, code) in cases {
        let mut bed = unproven();
        change(bed.world.account_mut("ada").unwrap());
        let body = json!({ "user": { "id": "ada" }, "actor": "system" });
        assert_eq!(bed.run(SEND, body).unwrap_err()["code"], code);
    }
    let mut bed = unproven();
    let ghost = json!({ "user": { "id": "ghost" }, "actor": "system" });
    assert_eq!(bed.refused(SEND, ghost), Code::UserNotFound);
    for _ in 0..15 {
        let body = json!({ "user": { "id": "ada" }, "actor": "system" });
        assert_eq!(bed.ok(SEND, body), json!({ "accepted": true }), "no limit holds for support");
    }
    let mails = bed.mails();
    assert_eq!((mails.len(), &mails[0].facts["requested_by_support"]), (15, &json!(true)));
}

#[test]
fn its_limits_are_those_of_resets_but_counted_apart() {
    let mut bed = unproven();
    bed.config.password_reset.max_per_day = 2;
    bed.config.password_reset.max_per_ip_per_hour = 3;
    let ask = |bed: &mut Bed, command: &str, user: &str| {
        bed.ok(command, json!({ "user": { "id": user }, "context": { "ip": "192.0.2.7" } }));
        let decision = bed.decision().to_owned();
        bed.wait(60);
        decision
    };
    assert_eq!(ask(&mut bed, SEND, "ada"), "sent");
    assert_eq!(ask(&mut bed, SEND, "ada"), "sent");
    assert_eq!(ask(&mut bed, SEND, "ada"), "throttled", "of the day");
    assert_eq!(ask(&mut bed, SEND, "ghost"), "throttled", "of the address that it comes from");
    // A flood of the one leaves room for the other.
    assert_eq!(ask(&mut bed, "password.reset.request", "ada"), "sent");
    let keys = bed.world.limits().filter(|limit| limit.count > 0).count();
    assert_eq!(keys, 4, "account and IP, twice");
}

#[test]
fn every_profile_of_a_shared_address_gets_a_mail_of_its_own() {
    let mut bed = Bed::default();
    for id in ["ada", "bob"] {
        let user = json!({ "id": id, "username": id, "email": "family@example.com", "email_verified": id == "bob" });
        bed.ok("user.put", json!({ "user": user }));
    }
    bed.person("eve", "default", "member");
    bed.quiet();
    ask(&mut bed, json!({ "email": "family@example.com" }));
    assert_eq!(bed.details["decisions"], json!({ "ada": "sent", "bob": "already_verified" }));
    let token = bed.token("ada", Purpose::Verification);
    bed.ok(COMPLETE, by_token(&token));
    assert!(bed.account("ada").email_verified);
}

#[test]
fn a_link_or_code_proves_the_address_once() {
    for method in ["link", "code"] {
        let mut bed = unproven();
        let body = if method == "link" { by_token(&link(&mut bed)) } else { by_code(&code(&mut bed)) };
        bed.quiet();
        bed.wait(10);
        assert_eq!(bed.ok(COMPLETE, body.clone()), json!({ "user_id": "ada" }));
        let ada = bed.account("ada");
        assert!(ada.email_verified && ada.dirty && ada.updated_at == bed.now);
        assert_eq!(bed.ticket("ada", Purpose::Verification).state, State::Completed);
        assert_eq!((bed.events(), bed.touched.as_slice()), (vec!["email.verified"], &["ada".to_owned()][..]));
        assert!(bed.mails().is_empty());
        assert_eq!(bed.refused(COMPLETE, body), Code::TokenUsed);
        bed.check_invariants();
    }
}

#[test]
fn proving_touches_neither_password_nor_sessions_nor_other_tickets() {
    let mut bed = unproven();
    bed.sign_in("ada");
    let reset = bed.reset_link("ada");
    let token = link(&mut bed);
    bed.ok(COMPLETE, by_token(&token));
    bed.ok("password.reset.inspect", by_token(&reset));
    assert!(bed.account("ada").has_live_session(bed.now));
    bed.ok("session.login", json!({ "user": { "id": "ada" }, "password": GOOD }));
}

#[test]
fn what_was_proven_otherwise_meanwhile_is_no_second_event() {
    let mut bed = unproven();
    let token = link(&mut bed);
    bed.world.account_mut("ada").unwrap().email_verified = true;
    assert_eq!(bed.ok(COMPLETE, by_token(&token)), json!({ "user_id": "ada" }));
    assert!(bed.events().is_empty());
}

#[test]
fn a_ticket_that_is_no_longer_good_proves_nothing() {
    let mut bed = unproven();
    let first = link(&mut bed);
    bed.wait(60);
    let second = link(&mut bed);
    let refusal = bed.run(COMPLETE, by_token(&first)).unwrap_err();
    assert_eq!(
        (&refusal["code"], &refusal["details"]["newer_requested_at"]),
        (&json!("token_superseded"), &json!("2027-01-15T08:01:00.000Z"))
    );
    bed.wait(72 * 3600);
    assert_eq!(bed.refused(COMPLETE, by_token(&second)), Code::TokenExpired);
    assert_eq!(bed.refused(COMPLETE, by_token("nonsense")), Code::TokenInvalid);
    // Tokens of other purposes are none of its.
    let mut bed = unproven();
    let reset = bed.reset_link("ada");
    assert_eq!(bed.refused(COMPLETE, by_token(&reset)), Code::TokenInvalid);
    let token = link(&mut bed);
    assert_eq!(bed.refused("password.reset.inspect", by_token(&token)), Code::TokenInvalid);
    // A changed address is another mailbox.
    let user = json!({ "id": "ada", "username": "ada", "email": "new@example.com" });
    bed.ok("user.put", json!({ "user": user }));
    assert_eq!(bed.refused(COMPLETE, by_token(&token)), Code::TokenRevoked);
    assert!(!bed.account("ada").email_verified);
}

#[test]
fn wrong_codes_count_and_kill() {
    let mut bed = unproven();
    let right = code(&mut bed);
    for left in (0..5).rev() {
        let refusal = bed.run(COMPLETE, by_code("00000000")).unwrap_err();
        assert_eq!((&refusal["code"], &refusal["details"]["attempts_left"]), (&json!("code_invalid"), &json!(left)));
    }
    assert_eq!(bed.refused(COMPLETE, by_code(&right)), Code::TooManyAttempts);
    bed.wait(60);
    let right = code(&mut bed);
    bed.ok(COMPLETE, by_code(&right));
    // Codes of resets are others.
    let mut bed = unproven();
    let reset = bed.reset_code("ada");
    code(&mut bed);
    assert_eq!(bed.refused(COMPLETE, by_code(&reset)), Code::CodeInvalid);
    assert_eq!(bed.ticket("ada", Purpose::PasswordReset).wrong_tries, 0);
}

#[test]
fn a_wrong_body_is_refused() {
    let mut bed = unproven();
    for body in [json!({}), json!({ "token": "t", "code": "1", "user": { "id": "ada" } }), json!({ "code": "1" })] {
        assert_eq!(bed.run(COMPLETE, body).unwrap_err()["code"], "invalid_body");
    }
    assert_eq!(bed.run(SEND, json!({ "user": { "id": "ada" }, "method": "sms" })).unwrap_err()["code"], "invalid_body");
}
