use serde_json::{Value, json};
use uuid::Uuid;

use crate::commands::testing::{Bed, Change, GOOD};
use crate::config::{Role, Scope};
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State};
use crate::mail::catalogue::Template;
use crate::world::mailing::NewEmail;

const COMMAND: &str = "email.resend";
const ELSEWHERE: &str = "elsewhere@example.org";

/// A member who was sent a link.
fn asked() -> (Bed, NewEmail) {
    let mut bed = Bed::with_member("ada");
    bed.reset_link("ada");
    let mail = bed.mails().remove(0);
    (bed, mail)
}

/// A member who was told that their password changed.
fn told() -> (Bed, NewEmail) {
    let mut bed = Bed::with_member("ada");
    bed.ok("password.set", json!({ "user": { "id": "ada" }, "new_password": GOOD }));
    let mail = bed.mails().remove(0);
    (bed, mail)
}

fn again(id: Uuid) -> Value {
    json!({ "email_id": id })
}

fn forward(id: Uuid) -> Value {
    json!({ "email_id": id, "to": ELSEWHERE })
}

#[test]
fn a_mail_goes_out_again_with_the_same_ticket_and_words() {
    let (mut bed, first) = asked();
    bed.wait(600);
    bed.events();
    let answer = bed.ok(COMMAND, again(first.id));
    let mail = bed.mails().remove(0);
    assert_eq!(answer, json!({ "email_id": mail.id }));
    let expected = NewEmail { id: mail.id, resend_of: Some(first.id), queued_at: bed.now, ..first.clone() };
    assert_eq!(mail, expected);
    assert!(bed.events().is_empty());
    assert_eq!((bed.touched.as_slice(), &bed.details["email_id"]), (&["ada".to_owned()][..], &json!(first.id)));
    // The copy is a mail like any other.
    bed.ok(COMMAND, again(mail.id));
    assert_eq!(bed.mails()[0].resend_of, Some(mail.id));
}

#[test]
fn a_mail_without_a_ticket_goes_out_again_whatever_became_of_it() {
    for state in ["sent", "failed", "expired", "cancelled", "suppressed", "bounced", "complained", "delivered"] {
        let (mut bed, first) = told();
        state.clone_into(&mut bed.world.past_email_mut(first.id).unwrap().state);
        bed.wait(600);
        bed.ok(COMMAND, again(first.id));
        let mail = bed.mails().remove(0);
        assert_eq!((mail.template, mail.ticket_id), (Template::PasswordChanged, None), "{state}");
        assert_eq!(mail.give_up_at, bed.now + bed.config.mail.max_age);
        assert_eq!(mail.facts, first.facts);
    }
}

#[test]
fn it_goes_to_the_address_that_the_person_has_now() {
    let (mut bed, first) = told();
    let user = json!({ "id": "ada", "username": "ada", "email": "new@example.com" });
    bed.ok("user.put", json!({ "user": user }));
    bed.ok(COMMAND, again(first.id));
    assert_eq!(bed.mails()[0].to, "new@example.com");
}

#[test]
fn a_mail_whose_ticket_is_closed_is_not_sent_again() {
    for (state, code) in [
        (State::Completed, Code::RequestCompleted),
        (State::Superseded, Code::TokenSuperseded),
        (State::Revoked, Code::TokenRevoked),
        (State::TooManyAttempts, Code::TooManyAttempts),
    ] {
        let (mut bed, first) = asked();
        let now = bed.now;
        bed.world.account_mut("ada").unwrap().tickets[0].close(state, now);
        assert_eq!(bed.refused(COMMAND, again(first.id)), code);
        bed.config.mail.allow_forward = true;
        assert_eq!(bed.refused(COMMAND, forward(first.id)), code);
    }
    let (mut bed, first) = asked();
    bed.wait(24 * 3600);
    let refusal = bed.run(COMMAND, again(first.id)).unwrap_err();
    assert_eq!(
        (&refusal["code"], &refusal["details"]["expired_at"]),
        (&json!("request_expired"), &json!("2027-01-16T08:00:00.000Z"))
    );
    bed.world.account_mut("ada").unwrap().tickets.clear();
    assert_eq!(bed.refused(COMMAND, again(first.id)), Code::RequestExpired, "retention deleted the ticket");
}

#[test]
fn an_older_mail_says_when_the_newer_one_was_asked_for() {
    let (mut bed, first) = asked();
    bed.wait(60);
    bed.reset_link("ada");
    let refusal = bed.run(COMMAND, again(first.id)).unwrap_err();
    assert_eq!(
        (&refusal["code"], &refusal["details"]["newer_requested_at"]),
        (&json!("token_superseded"), &json!("2027-01-15T08:01:00.000Z"))
    );
}

#[test]
fn an_invitation_is_sent_again_with_the_link_that_it_had() {
    let mut bed = Bed::with_member("ada");
    bed.ok("invite.send", json!({ "user": { "id": "ada" } }));
    let first = bed.mails().remove(0);
    bed.ok(COMMAND, again(first.id));
    let token = bed.token("ada", Purpose::Invite);
    assert_eq!(bed.mails()[0].template, Template::Invite);
    bed.ok("invite.accept", json!({ "token": token, "new_password": GOOD }));
    assert_eq!(bed.refused(COMMAND, again(first.id)), Code::RequestCompleted);
}

#[test]
fn an_unknown_mail_is_not_found_nor_one_of_an_erased_person() {
    let (mut bed, first) = asked();
    assert_eq!(bed.refused(COMMAND, again(Uuid::nil())), Code::EmailNotFound);
    bed.world.take("ada");
    assert_eq!(bed.refused(COMMAND, again(first.id)), Code::EmailNotFound);
    let (mut bed, first) = asked();
    "of_tomorrow".clone_into(&mut bed.world.past_email_mut(first.id).unwrap().template);
    assert_eq!(bed.refused(COMMAND, again(first.id)), Code::EmailNotFound);
}

#[test]
fn nobody_is_mailed_who_cannot_come_in_or_be_reached() {
    let cases: [(Change, Code); 3] = [
        (|a| a.blocked = true, Code::UserBlocked),
        (|a| a.active = false, Code::UserInactive),
        (|a| a.suppressed = true, Code::AddressSuppressed),
    ];
    for (change, code) in cases {
        let (mut bed, first) = asked();
        change(bed.world.account_mut("ada").unwrap());
        assert_eq!(bed.refused(COMMAND, again(first.id)), code);
    }
}

#[test]
fn a_copy_goes_elsewhere_only_where_that_is_allowed() {
    let (mut bed, first) = asked();
    assert_eq!(bed.refused(COMMAND, forward(first.id)), Code::ForwardNotAllowed);
    bed.config.mail.allow_forward = true;
    // The person's own address may bounce: that is why it goes elsewhere.
    bed.world.account_mut("ada").unwrap().suppressed = true;
    bed.ok(COMMAND, forward(first.id));
    let mail = bed.mails().remove(0);
    assert_eq!((mail.to.as_str(), mail.resend_of, mail.ticket_id), (ELSEWHERE, Some(first.id), first.ticket_id));
    assert_eq!(mail.user_id, "ada");
    assert_eq!(bed.details["to"], "e***@example.org", "the log masks it");
    // Without `to` a copy of the copy is the person's own again.
    bed.world.account_mut("ada").unwrap().suppressed = false;
    bed.ok(COMMAND, again(mail.id));
    assert_eq!(bed.mails()[0].to, "ada@example.com");
}

#[test]
fn the_persons_own_address_is_no_other() {
    let (mut bed, first) = asked();
    bed.ok(COMMAND, json!({ "email_id": first.id, "to": " ADA@example.com " }));
    assert_eq!(bed.mails()[0].to, "ada@example.com");
}

#[test]
fn a_copy_needs_a_sound_address_that_takes_mail() {
    let (mut bed, first) = asked();
    bed.config.mail.allow_forward = true;
    for to in ["nobody", "a@b\u{202e}.com", "a b@example.com", "<a@example.com>", ""] {
        assert_eq!(refusal(&mut bed, &json!({ "email_id": first.id, "to": to })), "invalid_body", "{to}");
    }
    let long = format!("a@{}.com", "b".repeat(400));
    assert_eq!(refusal(&mut bed, &json!({ "email_id": first.id, "to": long })), "invalid_body");
    bed.world.add_suppressed([ELSEWHERE.to_owned()]);
    assert_eq!(bed.refused(COMMAND, forward(first.id)), Code::AddressSuppressed);
}

fn refusal(bed: &mut Bed, body: &Value) -> String {
    bed.run(COMMAND, body.clone()).unwrap_err()["code"].as_str().unwrap().to_owned()
}

#[test]
fn an_actor_needs_the_permission_to_forward_for_the_persons_site() {
    for (permissions, scope, expected) in [
        (vec!["email.resend"], Scope::All, "forward_not_allowed"),
        (vec!["email.resend", "email.forward"], Scope::All, "ok"),
        (vec!["email.*"], Scope::Site, "ok"),
        (vec!["*"], Scope::All, "ok"),
        (vec!["email.forward"], Scope::All, "forbidden"),
    ] {
        let (mut bed, first) = asked();
        bed.config.mail.allow_forward = true;
        let permissions: Vec<String> = permissions.into_iter().map(str::to_owned).collect();
        bed.config.roles.insert("desk".into(), Role { permissions: permissions.clone(), scope });
        bed.person("eve", "default", "desk");
        let body = json!({ "email_id": first.id, "to": ELSEWHERE, "actor": { "id": "eve" } });
        let found = bed.run(COMMAND, body).map_or_else(|e| e["code"].as_str().unwrap().to_owned(), |_| "ok".to_owned());
        assert_eq!(found, expected, "{permissions:?}");
    }
    // Of the two permissions only one reaches other sites.
    let (mut bed, first) = asked();
    bed.config.mail.allow_forward = true;
    let role = |permission: &str, scope| Role { permissions: vec![permission.to_owned()], scope };
    bed.config.roles.insert("resender".into(), role("email.resend", Scope::All));
    bed.config.roles.insert("forwarder".into(), role("email.forward", Scope::Site));
    bed.person("eve", "south", "resender").profile.roles.push("forwarder".into());
    let body = json!({ "email_id": first.id, "to": ELSEWHERE, "actor": { "id": "eve" } });
    assert_eq!(bed.refused(COMMAND, body), Code::ForwardNotAllowed);
    bed.ok(COMMAND, json!({ "email_id": first.id, "actor": { "id": "eve" } }));
}

#[test]
fn an_actor_reaches_the_mails_of_those_whom_they_reach() {
    let (mut bed, first) = asked();
    let role = |scope| Role { permissions: vec!["email.*".to_owned()], scope };
    bed.config.roles.insert("desk".into(), role(Scope::Site));
    bed.person("eve", "south", "desk");
    let body = json!({ "email_id": first.id, "actor": { "id": "eve" } });
    assert_eq!(bed.refused(COMMAND, body), Code::Forbidden);
    assert_eq!(bed.touched, ["ada"]);
}
