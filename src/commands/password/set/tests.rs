use serde_json::{Value, json};

use crate::commands::testing::{BETTER, Bed, GOOD};
use crate::domain::account::{Account, Invitation, Status};
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State};
use crate::mail::catalogue::Template;

const COMMAND: &str = "password.set";

fn body(password: &str) -> Value {
    json!({ "user": { "id": "ada" }, "new_password": password })
}

fn temporary(password: &str) -> Value {
    json!({ "user": { "id": "ada" }, "new_password": password, "temporary": true })
}

fn sign_in(bed: &mut Bed, password: &str) -> Result<Value, Value> {
    bed.run("session.login", json!({ "user": { "id": "ada" }, "password": password }))
}

#[test]
fn nobody_sets_passwords_by_hand_unless_it_is_allowed() {
    let mut bed = Bed::with_member("ada");
    bed.config.manual_entry.allowed = false;
    assert_eq!(bed.refused(COMMAND, body(GOOD)), Code::ManualEntryDisabled);
}

#[test]
fn a_password_set_by_hand_is_one_like_any_other() {
    let mut bed = Bed::with_member("ada");
    bed.sign_in("ada");
    let token = bed.reset_link("ada");
    bed.quiet();
    assert_eq!(bed.ok(COMMAND, body(BETTER)), json!({ "must_change_password": false, "warnings": [] }));
    assert_eq!(bed.touched, ["ada"]);
    assert_eq!(bed.events(), ["password.changed", "session.revoked"]);
    let mail = bed.mails().remove(0);
    assert_eq!((mail.template, &mail.facts["changed_by"]), (Template::PasswordChanged, &json!("support")));
    assert_eq!(bed.refused("password.reset.inspect", json!({ "token": token })), Code::TokenRevoked);
    sign_in(&mut bed, GOOD).unwrap_err();
    sign_in(&mut bed, BETTER).unwrap();
}

#[test]
fn the_policy_holds_for_support_too() {
    let mut bed = Bed::with_member("ada");
    bed.password("ada", GOOD);
    for password in ["short", GOOD] {
        assert_eq!(bed.refused(COMMAND, body(password)), Code::PasswordRejected);
    }
}

#[test]
fn sessions_end_as_the_body_says_or_else_the_configuration() {
    for (said, configured, ends) in [
        (json!(null), Some(true), true),
        (json!(null), Some(false), false),
        (json!(true), Some(false), true),
        (json!(true), None, true),
        (json!(false), Some(true), false),
        (json!(false), None, false),
    ] {
        let mut bed = Bed::with_member("ada");
        bed.sign_in("ada");
        bed.config.manual_entry.force_logout = configured;
        // What goes over it, either way.
        bed.config.sessions.end_on_password_change = !ends;
        let mut body = body(BETTER);
        body["force_logout"] = said;
        bed.ok(COMMAND, body);
        assert_eq!(bed.account("ada").has_live_session(bed.now), !ends);
    }
}

#[test]
fn where_neither_says_sessions_end_as_with_every_changed_password() {
    for ends in [true, false] {
        let mut bed = Bed::with_member("ada");
        bed.sign_in("ada");
        bed.config.sessions.end_on_password_change = ends;
        bed.ok(COMMAND, body(BETTER));
        assert_eq!(bed.account("ada").has_live_session(bed.now), !ends);
    }
}

#[test]
fn it_neither_unblocks_nor_activates_nor_proves_the_mailbox() {
    let mut bed = Bed::with_member("ada");
    let change = |a: &mut Account| (a.blocked, a.active, a.email_verified) = (true, false, false);
    change(bed.world.account_mut("ada").unwrap());
    let result = bed.ok(COMMAND, body(GOOD));
    assert_eq!(result["warnings"], json!(["user_blocked", "user_inactive"]));
    let ada = bed.account("ada");
    assert_eq!((ada.blocked, ada.active, ada.email_verified), (true, false, false));
}

#[test]
fn it_makes_an_invitation_superfluous() {
    let mut bed = Bed::default();
    bed.ok("invite.send", json!({ "user": { "id": "ada", "username": "ada", "email": "ada@example.com" } }));
    let token = bed.token("ada", Purpose::Invite);
    bed.ok(COMMAND, body(GOOD));
    assert_eq!(bed.account("ada").invitation, Invitation::None);
    assert_eq!(bed.account("ada").status(bed.now), Status::Active);
    assert_eq!(bed.refused("invite.accept", json!({ "token": token, "new_password": BETTER })), Code::TokenRevoked);
    assert_eq!(bed.refused("invite.resend", json!({ "user": { "id": "ada" } })), Code::NoInvite);
}

#[test]
fn a_temporary_password_only_serves_to_choose_a_new_one() {
    let mut bed = Bed::with_member("ada");
    bed.sign_in("ada");
    assert_eq!(bed.ok(COMMAND, temporary(BETTER))["must_change_password"], true);
    assert_eq!(bed.account("ada").status(bed.now), Status::ForcePasswordReset);
    assert_eq!(sign_in(&mut bed, GOOD).unwrap_err()["code"], "invalid_credentials", "the old one is unusable");
    let refusal = sign_in(&mut bed, BETTER).unwrap_err();
    assert_eq!(refusal["code"], "password_change_required");
    assert_eq!(refusal["details"]["change_token"], bed.token("ada", Purpose::PasswordChange));
    assert_eq!(refusal["details"]["expires_at"], "2027-01-15T08:15:00.000Z");
    assert!(!bed.account("ada").has_live_session(bed.now));
    bed.check_invariants();
}

#[test]
fn only_the_newest_change_token_is_open() {
    let mut bed = Bed::with_member("ada");
    bed.ok(COMMAND, temporary(GOOD));
    // Counted from the sign-in, however late its message comes.
    bed.requested_at = Some(bed.now - chrono::TimeDelta::minutes(4));
    let first = sign_in(&mut bed, GOOD).unwrap_err()["details"]["change_token"].clone();
    let second = sign_in(&mut bed, GOOD).unwrap_err();
    assert_ne!(first, second["details"]["change_token"]);
    assert_eq!(second["details"]["expires_at"], "2027-01-15T08:15:00.000Z");
    let open = bed.account("ada").tickets.iter().filter(|t| t.state == State::Open).count();
    assert_eq!(open, 1);
}

#[test]
fn a_change_token_is_no_reset_token() {
    let mut bed = Bed::with_member("ada");
    bed.ok(COMMAND, temporary(GOOD));
    let token = sign_in(&mut bed, GOOD).unwrap_err()["details"]["change_token"].clone();
    let body = json!({ "token": token, "new_password": BETTER });
    for command in ["password.reset.complete", "invite.accept"] {
        assert_eq!(bed.refused(command, body.clone()), Code::TokenInvalid);
    }
}

#[test]
fn while_a_temporary_password_is_pending_no_emailed_reset_is_usable() {
    let mut bed = Bed::with_member("ada");
    let token = bed.reset_link("ada");
    bed.ok(COMMAND, temporary(GOOD));
    bed.quiet();
    let reset = json!({ "token": token, "new_password": BETTER });
    assert_eq!(bed.refused("password.reset.complete", reset), Code::TokenRevoked);
    bed.wait(60);
    let request = json!({ "user": { "id": "ada" } });
    assert_eq!(bed.ok("password.reset.request", request), json!({ "accepted": true }));
    assert_eq!(bed.decision(), "temporary_password_pending");
    assert!(bed.mails().is_empty());
    assert_eq!(bed.refused("invite.send", json!({ "user": { "id": "ada" } })), Code::AlreadyAccepted);
}

#[test]
fn a_temporary_password_works_for_its_lifetime_and_only_the_newest() {
    let mut bed = Bed::with_member("ada");
    bed.ok(COMMAND, temporary(GOOD));
    bed.wait(72 * 3600 - 1);
    assert_eq!(sign_in(&mut bed, GOOD).unwrap_err()["code"], "password_change_required");
    bed.wait(1);
    assert_eq!(sign_in(&mut bed, GOOD).unwrap_err()["code"], "temporary_password_expired");
    assert_eq!(sign_in(&mut bed, BETTER).unwrap_err()["code"], "invalid_credentials");
    bed.ok(COMMAND, temporary(BETTER));
    assert_eq!(sign_in(&mut bed, GOOD).unwrap_err()["code"], "invalid_credentials");
    assert_eq!(sign_in(&mut bed, BETTER).unwrap_err()["code"], "password_change_required");
    bed.ok(COMMAND, body("Third-Time-Lucky-33"));
    sign_in(&mut bed, "Third-Time-Lucky-33").unwrap();
}

#[test]
fn a_temporary_password_that_comes_too_late_changes_nothing() {
    let mut bed = Bed::with_member("ada");
    bed.password("ada", GOOD);
    bed.requested_at = Some(bed.now - chrono::TimeDelta::hours(72));
    assert_eq!(bed.run(COMMAND, temporary(BETTER)).unwrap_err()["code"], "expired");
    bed.requested_at = None;
    sign_in(&mut bed, GOOD).unwrap();
}
