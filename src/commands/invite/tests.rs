#![expect(clippy::needless_pass_by_value, reason = "`json!` makes values")]

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::commands::testing::{BETTER, Bed, Change, GOOD};
use crate::domain::account::{Invitation, Status};
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State};
use crate::mail::catalogue::Template;

fn profile(fields: Value) -> Value {
    let mut user = json!({ "id": "ada", "username": "ada", "email": "ada@example.com", "roles": ["member"] });
    user.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({ "user": user })
}

fn by_name() -> Value {
    json!({ "user": { "id": "ada" } })
}

fn accept(token: &str) -> Value {
    json!({ "token": token, "new_password": GOOD })
}

#[test]
fn somebody_new_is_created_and_invited() {
    let mut bed = Bed::default();
    let result = bed.ok("invite.send", profile(json!({})));
    let (mail, ticket) = (bed.mails().remove(0), bed.ticket("ada", Purpose::Invite).clone());
    let expected = json!({ "user_id": "ada", "ticket_id": ticket.id, "expires_at": "2027-01-18T08:00:00.000Z", "email_id": mail.id });
    assert_eq!(result, expected);
    assert_eq!(
        (mail.template, mail.ticket_id, mail.give_up_at),
        (Template::Invite, Some(ticket.id), ticket.expires_at)
    );
    assert_eq!(bed.events(), ["user.created", "invite.sent"]);
    assert_eq!(
        (bed.account("ada").status(bed.now), bed.touched.as_slice()),
        (Status::Invited, &["ada".to_owned()][..])
    );
    bed.wait(72 * 3600);
    assert_eq!(bed.account("ada").status(bed.now), Status::Invited, "also once it has expired");
}

#[test]
fn somebody_who_exists_is_invited_by_name_or_with_a_new_profile() {
    for (body, events) in [
        (by_name(), vec!["invite.sent"]),
        (json!({ "user": { "email": "ADA@example.com" } }), vec!["invite.sent"]),
        (profile(json!({ "email_verified": true })), vec!["invite.sent"]),
        (profile(json!({ "display_name": "Ada" })), vec!["user.updated", "invite.sent"]),
    ] {
        let mut bed = Bed::with_member("ada");
        bed.ok("invite.send", body);
        assert_eq!(bed.events(), events);
        assert_eq!(bed.mailed(), [Template::Invite]);
    }
    let mut bed = Bed::default();
    assert_eq!(bed.refused("invite.send", by_name()), Code::UserNotFound);
}

#[test]
fn the_mail_says_who_invites() {
    let mut bed = Bed::default();
    bed.person("root", "north", "admin").profile.display_name = Some("Grace Hopper".into());
    for (actor, name) in [(json!({ "id": "root" }), json!("Grace Hopper")), (json!("system"), json!(null))] {
        let mut body = profile(json!({}));
        body["actor"] = actor;
        bed.ok("invite.send", body);
        assert_eq!(bed.mails().pop().unwrap().facts.get("invited_by").cloned().unwrap_or_default(), name);
    }
}

#[test]
fn a_fresh_link_has_a_fresh_expiry_and_supersedes_the_older_one() {
    for command in ["invite.send", "invite.resend"] {
        let mut bed = Bed::default();
        bed.ok("invite.send", profile(json!({})));
        let older = bed.token("ada", Purpose::Invite);
        bed.wait(3600);
        let result = bed.ok(command, by_name());
        assert_eq!(result["expires_at"], "2027-01-18T09:00:00.000Z");
        let refusal = bed.run("invite.accept", accept(&older)).unwrap_err();
        assert_eq!(refusal["code"], "token_superseded");
        assert_eq!(refusal["details"]["newer_requested_at"], "2027-01-15T09:00:00.000Z");
        let newest = bed.token("ada", Purpose::Invite);
        bed.ok("invite.accept", accept(&newest));
    }
}

#[test]
fn an_expired_invitation_is_sent_again() {
    let mut bed = Bed::default();
    bed.requested_at = Some(bed.now - TimeDelta::hours(71));
    bed.ok("invite.send", profile(json!({})));
    bed.requested_at = None;
    let token = bed.token("ada", Purpose::Invite);
    bed.wait(3600);
    assert_eq!(bed.refused("invite.accept", accept(&token)), Code::TokenExpired);
    bed.ok("invite.resend", by_name());
    let token = bed.token("ada", Purpose::Invite);
    bed.ok("invite.accept", accept(&token));
}

#[test]
fn accepting_sets_the_password_verifies_the_email_and_works_once() {
    let mut bed = Bed::default();
    bed.ok("invite.send", profile(json!({})));
    let token = bed.token("ada", Purpose::Invite);
    let rejected = json!({ "token": token, "new_password": "short" });
    assert_eq!(bed.refused("invite.accept", rejected), Code::PasswordRejected);
    bed.quiet();
    assert_eq!(bed.ok("invite.accept", accept(&token)), json!({ "user_id": "ada" }));
    assert_eq!(bed.events(), ["password.changed", "email.verified", "invite.accepted"]);
    assert_eq!(bed.mailed(), [Template::PasswordChanged]);
    let ada = bed.account("ada");
    assert_eq!((ada.invitation, ada.email_verified, ada.status(bed.now)), (Invitation::Accepted, true, Status::Active));
    assert_eq!(bed.ticket("ada", Purpose::Invite).state, State::Completed);
    assert_eq!(bed.refused("invite.accept", accept(&token)), Code::TokenUsed);
    bed.ok("session.login", json!({ "user": { "id": "ada" }, "password": GOOD }));
}

#[test]
fn who_accepted_or_has_a_password_is_not_invited() {
    let mut bed = Bed::default();
    bed.ok("invite.send", profile(json!({})));
    let token = bed.token("ada", Purpose::Invite);
    bed.ok("invite.accept", accept(&token));
    for (command, body) in [
        ("invite.send", by_name()),
        ("invite.send", profile(json!({ "display_name": "Changed" }))),
        ("invite.resend", by_name()),
    ] {
        assert_eq!(bed.refused(command, body), Code::AlreadyAccepted);
    }
    let mut bed = Bed::with_member("ada");
    bed.password("ada", BETTER);
    assert_eq!(bed.refused("invite.send", by_name()), Code::AlreadyAccepted);
    assert_eq!(bed.refused("invite.resend", by_name()), Code::NoInvite);
}

#[test]
fn nobody_is_invited_who_could_not_come_in_or_be_reached() {
    let cases: [(Change, Code); 3] = [
        (|a| a.blocked = true, Code::UserBlocked),
        (|a| a.active = false, Code::UserInactive),
        (|a| a.suppressed = true, Code::AddressSuppressed),
    ];
    for (change, expected) in cases {
        let mut bed = Bed::with_member("ada");
        let ada = bed.world.account_mut("ada").unwrap();
        change(ada);
        ada.invitation = Invitation::Pending;
        for (command, body) in [
            ("invite.send", by_name()),
            ("invite.send", profile(json!({ "display_name": "Changed" }))),
            ("invite.resend", by_name()),
        ] {
            assert_eq!(bed.refused(command, body), expected);
            assert_eq!(bed.touched, ["ada"]);
        }
    }
    // Another address is another mailbox.
    let mut bed = Bed::with_member("ada");
    bed.world.account_mut("ada").unwrap().suppressed = true;
    bed.ok("invite.send", profile(json!({ "email": "new@example.com" })));
    assert_eq!(bed.mails()[0].to, "new@example.com");
}

#[test]
fn a_profile_that_is_refused_changes_nothing() {
    let mut bed = Bed::with_member("ada");
    bed.member("bob");
    for (fields, expected) in [
        (json!({ "username": "bob" }), Code::UserExists),
        (json!({ "email": "nobody" }), Code::InvalidBody),
        (json!({ "site": "atlantis" }), Code::InvalidBody),
        (json!({ "password_hash": "plain" }), Code::InvalidBody),
    ] {
        assert_eq!(bed.refused("invite.send", profile(fields)), expected);
    }
    assert_eq!(bed.account("ada").invitation, Invitation::None);
    let wrong = bed.run("invite.send", profile(json!({ "mail": "x" }))).unwrap_err();
    assert!(wrong["message"].as_str().unwrap().contains("`mail`"), "{wrong}");
}

#[test]
fn a_changed_email_voids_the_invitation_and_it_can_be_sent_again() {
    let mut bed = Bed::default();
    bed.ok("invite.send", profile(json!({})));
    let older = bed.token("ada", Purpose::Invite);
    bed.ok("user.put", profile(json!({ "email": "new@example.com" })));
    assert_eq!(bed.refused("invite.accept", accept(&older)), Code::TokenRevoked);
    bed.quiet();
    bed.ok("invite.resend", by_name());
    assert_eq!(bed.mails()[0].to, "new@example.com");
}

#[test]
fn accepting_lets_nobody_in_who_is_blocked() {
    let mut bed = Bed::default();
    bed.ok("invite.send", profile(json!({})));
    let token = bed.token("ada", Purpose::Invite);
    bed.ok("user.block", by_name());
    assert_eq!(bed.ok("invite.accept", accept(&token))["warnings"], json!(["user_blocked"]));
    let login = json!({ "user": { "id": "ada" }, "password": GOOD });
    assert_eq!(bed.refused("session.login", login), Code::UserBlocked);
}

#[test]
fn an_invitation_that_would_have_run_out_by_now_is_refused_and_supersedes_none() {
    for (command, body) in [
        ("invite.send", by_name()),
        ("invite.send", profile(json!({ "display_name": "Changed" }))),
        ("invite.resend", by_name()),
    ] {
        let mut bed = Bed::default();
        bed.ok("invite.send", profile(json!({})));
        let good = bed.token("ada", Purpose::Invite);
        bed.quiet();
        bed.wait(3600);
        bed.requested_at = Some(bed.now - TimeDelta::hours(72));
        let refusal = bed.run(command, body.clone()).unwrap_err();
        assert_eq!(refusal["code"], "expired", "{command} {body}");
        assert!(refusal["message"].as_str().unwrap().contains("2027-01-12T09:00:00.000Z"), "{refusal}");
        // It came in time, and after a newer one.
        bed.requested_at = Some(bed.now - TimeDelta::hours(2));
        assert_eq!(bed.refused(command, body), Code::TokenSuperseded);
        assert_eq!((bed.events(), bed.mailed()), (vec![], vec![]));
        assert_eq!(bed.account("ada").profile.display_name, None);
        bed.ok("invite.accept", accept(&good));
    }
    // Where there is none, it is an invitation that has run out.
    let mut bed = Bed::default();
    bed.requested_at = Some(bed.now - TimeDelta::hours(72));
    assert_eq!(bed.ok("invite.send", profile(json!({})))["expires_at"], "2027-01-15T08:00:00.000Z");
}

#[test]
fn an_older_invitation_that_has_run_out_or_was_voided_stands_in_nobodys_way() {
    let mut bed = Bed::default();
    bed.ok("invite.send", profile(json!({})));
    bed.wait(3600);
    bed.ok("user.put", profile(json!({ "email": "new@example.com" })));
    bed.requested_at = Some(bed.now - TimeDelta::hours(2));
    bed.ok("invite.resend", by_name());
}

#[test]
fn a_new_address_that_is_suppressed_is_not_invited() {
    for (known, email) in [(false, "new@example.com"), (true, "new@example.com"), (false, "ada@example.com")] {
        let mut bed = if known { Bed::with_member("ada") } else { Bed::default() };
        bed.world.add_suppressed(["new@example.com".to_owned(), "ada@example.com".to_owned()]);
        let body = profile(json!({ "email": email }));
        assert_eq!(bed.refused("invite.send", body.clone()), Code::AddressSuppressed, "{known} {email}");
        bed.ok("email.unsuppress", json!({ "email": email }));
        bed.ok("invite.send", body);
    }
}

#[test]
fn who_has_no_invitation_any_more_is_not_told_that_there_was_none() {
    let mut bed = Bed::default();
    bed.ok("invite.send", profile(json!({})));
    bed.ok("invite.revoke", by_name());
    let refusal = bed.run("invite.resend", by_name()).unwrap_err();
    assert_eq!(refusal["message"], "this person has no invitation that could be sent again; invite.send makes one");
}
