use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::commands::testing::{Bed, GOOD};
use crate::domain::account::{Invitation, Status};
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State};

fn ada() -> Value {
    json!({ "user": { "id": "ada" } })
}

fn invited() -> Bed {
    let mut bed = Bed::with_member("ada");
    bed.ok("invite.send", ada());
    bed.quiet();
    bed
}

fn accept(token: &str) -> Value {
    json!({ "token": token, "new_password": GOOD })
}

#[test]
fn its_link_stops_working_and_nobody_is_invited_any_more() {
    let mut bed = invited();
    let (token, ticket) = (bed.token("ada", Purpose::Invite), bed.ticket("ada", Purpose::Invite).id);
    assert_eq!(bed.account("ada").status(bed.now), Status::Invited);
    assert_eq!(bed.ok("invite.revoke", ada()), json!({ "revoked": true }));
    assert_eq!(bed.account("ada").status(bed.now), Status::Active);
    assert_eq!(bed.account("ada").invitation, Invitation::None);
    assert!(bed.account("ada").dirty);
    assert_eq!(bed.ticket("ada", Purpose::Invite).state, State::Revoked);
    assert_eq!(bed.details["ticket_id"], ticket.to_string());
    let event: Value = serde_json::from_str(&bed.world.events[0].body).unwrap();
    assert_eq!((&event["type"], &event["data"]["ticket_id"]), (&json!("regrant.invite.revoked"), &json!(ticket)));
    assert!(bed.mailed().is_empty());
    assert_eq!(bed.refused("invite.accept", accept(&token)), Code::TokenRevoked);
    bed.check_invariants();
}

#[test]
fn an_expired_one_can_be_revoked_too() {
    let mut bed = invited();
    let token = bed.token("ada", Purpose::Invite);
    bed.now += TimeDelta::days(30);
    bed.ok("invite.revoke", ada());
    assert_eq!(bed.account("ada").status(bed.now), Status::Active);
    assert_eq!(bed.refused("invite.accept", accept(&token)), Code::TokenRevoked);
}

#[test]
fn one_whose_link_was_voided_by_a_new_address_can_be_revoked() {
    let mut bed = invited();
    let user = json!({ "id": "ada", "username": "ada", "email": "new@example.com" });
    bed.ok("user.put", json!({ "user": user }));
    let closed = bed.ticket("ada", Purpose::Invite).closed_at;
    bed.wait(60);
    bed.quiet();
    bed.ok("invite.revoke", ada());
    assert_eq!(bed.events(), ["invite.revoked"]);
    assert_eq!(bed.ticket("ada", Purpose::Invite).closed_at, closed);
    assert_eq!(bed.account("ada").status(bed.now), Status::Active);
}

#[test]
fn without_an_invitation_there_is_nothing_to_revoke() {
    let mut bed = Bed::with_member("ada");
    assert_eq!(bed.refused("invite.revoke", ada()), Code::NoInvite);
    assert_eq!(bed.refused("invite.revoke", json!({ "user": { "id": "ghost" } })), Code::UserNotFound);
    let mut bed = invited();
    bed.ok("invite.revoke", ada());
    assert_eq!(bed.refused("invite.revoke", ada()), Code::NoInvite);
    assert_eq!(bed.refused("invite.resend", ada()), Code::NoInvite);
    // A password that support set made it superfluous.
    let mut bed = invited();
    bed.ok("password.set", json!({ "user": { "id": "ada" }, "new_password": GOOD }));
    assert_eq!(bed.refused("invite.revoke", ada()), Code::NoInvite);
}

#[test]
fn an_accepted_one_stays_accepted() {
    let mut bed = invited();
    let token = bed.token("ada", Purpose::Invite);
    bed.ok("invite.accept", accept(&token));
    assert_eq!(bed.refused("invite.revoke", ada()), Code::AlreadyAccepted);
    assert_eq!(bed.account("ada").invitation, Invitation::Accepted);
}

#[test]
fn who_was_revoked_can_be_invited_again() {
    let mut bed = invited();
    let older = bed.token("ada", Purpose::Invite);
    bed.ok("invite.revoke", ada());
    bed.ok("invite.send", ada());
    assert_eq!(bed.refused("invite.accept", accept(&older)), Code::TokenRevoked);
    let newer = bed.token("ada", Purpose::Invite);
    bed.ok("invite.accept", accept(&newer));
}

#[test]
fn only_the_invitation_goes() {
    let mut bed = invited();
    let reset = bed.reset_link("ada");
    bed.ok("invite.revoke", ada());
    assert_eq!(bed.ticket("ada", Purpose::PasswordReset).state, State::Open);
    bed.ok("password.reset.complete", json!({ "token": reset, "new_password": GOOD }));
}

#[test]
fn who_may() {
    let mut bed = invited();
    bed.person("mia", "default", "manager");
    bed.person("sam", "north", "manager");
    let by = |actor: &str| json!({ "user": { "id": "ada" }, "actor": { "id": actor } });
    assert_eq!(bed.refused("invite.revoke", by("sam")), Code::Forbidden);
    assert_eq!(bed.refused("invite.revoke", by("ada")), Code::Forbidden);
    bed.ok("invite.revoke", by("mia"));
}

#[test]
fn the_one_that_is_open_is_revoked_whichever_daemon_made_it() {
    let mut bed = invited();
    // In one second: who asked in an earlier one would be refused.
    bed.now += chrono::TimeDelta::milliseconds(2);
    bed.ok("invite.resend", ada());
    let first = bed.ticket("ada", Purpose::Invite).id;
    bed.on_a_daemon_behind();
    bed.ok("invite.resend", ada());
    let open = bed.ticket("ada", Purpose::Invite);
    assert!(open.id < first && open.state == State::Open);
    let token = bed.token("ada", Purpose::Invite);
    bed.ok("invite.revoke", ada());
    assert_eq!(bed.refused("invite.accept", accept(&token)), Code::TokenRevoked);
    bed.check_invariants();
}
