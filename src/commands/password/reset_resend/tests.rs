use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::commands::testing::{Bed, Change, GOOD};
use crate::domain::account::Temporary;
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State};
use crate::mail::catalogue::Template;
use crate::world::mailing::Begins;

const COMMAND: &str = "password.reset.resend";

fn ada() -> Value {
    json!({ "user": { "id": "ada" } })
}

/// A member who asked for a reset, and the mail that they were sent.
fn asked(method: &str) -> (Bed, crate::world::mailing::NewEmail) {
    let mut bed = Bed::with_member("ada");
    let context = json!({ "ip": "192.0.2.7" });
    bed.ok("password.reset.request", json!({ "user": { "id": "ada" }, "method": method, "context": context }));
    let mail = bed.mails().remove(0);
    bed.quiet();
    (bed, mail)
}

#[test]
fn the_same_link_or_code_with_the_same_expiry_goes_out_in_a_new_mail() {
    for (method, template, expires_at) in [
        ("link", Template::PasswordResetLink, "2027-01-16T08:00:00.000Z"),
        ("code", Template::PasswordResetCode, "2027-01-15T09:00:00.000Z"),
    ] {
        let (mut bed, first) = asked(method);
        let ticket = bed.ticket("ada", Purpose::PasswordReset).clone();
        bed.wait(1800);
        bed.events();
        let answer = bed.ok(COMMAND, ada());
        let mail = bed.mails().remove(0);
        assert_eq!(answer, json!({ "email_id": mail.id, "expires_at": expires_at }));
        assert_ne!(mail.id, first.id);
        assert_eq!((mail.resend_of, mail.ticket_id), (Some(first.id), Some(ticket.id)));
        assert_eq!((mail.template, mail.give_up_at, mail.queued_at), (template, first.give_up_at, bed.now));
        assert_eq!((mail.to.as_str(), &mail.facts), ("ada@example.com", &first.facts));
        // Nothing was opened, closed or told: it is the same request.
        assert_eq!(bed.account("ada").tickets, [ticket]);
        assert!(bed.events().is_empty());
        assert_eq!(bed.touched, ["ada"]);
    }
}

#[test]
fn each_one_names_the_mail_before_it() {
    let (mut bed, first) = asked("link");
    let token = bed.token("ada", Purpose::PasswordReset);
    let second = bed.ok(COMMAND, ada())["email_id"].take();
    // As in one batch with the next: its row is not written yet.
    bed.ok(COMMAND, ada());
    let repeats: Vec<_> = bed.mails().into_iter().map(|mail| json!(mail.resend_of)).collect();
    assert_eq!(repeats, [json!(first.id), second]);
    bed.ok("password.reset.inspect", json!({ "token": token }));
}

#[test]
fn the_newest_request_decides() {
    let (mut bed, _) = asked("link");
    assert_eq!(bed.ok("password.reset.request", ada()), json!({ "accepted": true }));
    bed.wait(60);
    bed.reset_link("ada");
    let newest = bed.mails().pop().unwrap();
    assert_eq!(bed.ok(COMMAND, ada())["expires_at"], "2027-01-16T08:01:00.000Z");
    assert_eq!(bed.mails()[0].resend_of, Some(newest.id));
}

#[test]
fn what_is_no_longer_open_is_not_sent_again() {
    let mut bed = Bed::with_member("ada");
    assert_eq!(bed.refused(COMMAND, ada()), Code::NoRequest);
    // An invitation is no reset.
    bed.ok("invite.send", ada());
    assert_eq!(bed.refused(COMMAND, ada()), Code::NoRequest);

    let (mut bed, _) = asked("link");
    bed.wait(24 * 3600 - 1);
    bed.ok(COMMAND, ada());
    bed.wait(1);
    let refusal = bed.run(COMMAND, ada()).unwrap_err();
    assert_eq!(
        (&refusal["code"], &refusal["details"]["expired_at"]),
        (&json!("request_expired"), &json!("2027-01-16T08:00:00.000Z"))
    );

    let (mut bed, _) = asked("link");
    let token = bed.token("ada", Purpose::PasswordReset);
    bed.ok("password.reset.complete", json!({ "token": token, "new_password": GOOD }));
    let refusal = bed.run(COMMAND, ada()).unwrap_err();
    assert_eq!(
        (&refusal["code"], &refusal["details"]["completed_at"]),
        (&json!("request_completed"), &json!("2027-01-15T08:00:00.000Z"))
    );

    for state in [State::Revoked, State::TooManyAttempts, State::Superseded] {
        let (mut bed, _) = asked("code");
        let now = bed.now;
        bed.world.account_mut("ada").unwrap().tickets[0].close(state, now);
        let refusal = bed.run(COMMAND, ada()).unwrap_err();
        assert_eq!(refusal["code"], "no_request", "{state:?}");
        assert!(refusal["message"].as_str().unwrap().ends_with("password.reset.request makes a new one"), "{refusal}");
        // A newer one decides.
        bed.wait(60);
        bed.reset_code("ada");
        bed.ok(COMMAND, ada());
    }
}

#[test]
fn support_hears_why_a_person_would_not_be_helped() {
    let cases: [(Change, Code); 4] = [
        (|a| a.blocked = true, Code::UserBlocked),
        (|a| a.active = false, Code::UserInactive),
        (|a| a.suppressed = true, Code::AddressSuppressed),
        (
            |a| (a.temporary, a.password_hash) = (Some(Temporary::default()), Some("h".into())),
            Code::PasswordChangeRequired,
        ),
    ];
    for (change, code) in cases {
        let (mut bed, _) = asked("link");
        change(bed.world.account_mut("ada").unwrap());
        assert_eq!(bed.refused(COMMAND, ada()), code);
        assert_eq!(bed.touched, ["ada"]);
        assert!(bed.mails().is_empty());
    }
    let mut bed = Bed::with_member("ada");
    assert_eq!(bed.refused(COMMAND, json!({ "user": { "id": "ghost" } })), Code::UserNotFound);
    "web".clone_into(&mut bed.publisher);
    assert_eq!(bed.refused(COMMAND, ada()), Code::ActorRequired);
}

#[test]
fn a_shared_address_needs_a_name_that_is_one_persons() {
    let (mut bed, _) = asked("link");
    let twin = json!({ "id": "bob", "username": "bob", "email": "ada@example.com" });
    bed.ok("user.put", json!({ "user": twin }));
    assert_eq!(bed.refused(COMMAND, json!({ "user": { "email": "ada@example.com" } })), Code::AmbiguousUser);
    bed.ok(COMMAND, json!({ "user": { "username": "ADA" } }));
}

#[test]
fn no_limit_holds_for_it_and_it_uses_nobodys_day_up() {
    let (mut bed, _) = asked("link");
    bed.config.password_reset.max_per_day = 2;
    for _ in 0..5 {
        bed.ok(COMMAND, ada());
    }
    bed.wait(60);
    bed.ok("password.reset.request", ada());
    assert_eq!(bed.decision(), "sent");
}

#[test]
fn a_mail_that_retention_deleted_is_written_anew() {
    let mut bed = Bed::with_member("ada");
    bed.ok("password.reset.request", json!({ "user": { "id": "ada" }, "actor": "system" }));
    // Taken without the history learning of it.
    let first = bed.world.emails.drain(..).next_back().unwrap();
    bed.ok(COMMAND, ada());
    let mail = bed.mails().remove(0);
    assert_eq!((mail.resend_of, mail.facts), (None, first.facts));
}

#[test]
fn a_template_that_is_switched_off_sends_nothing_and_the_history_says_so() {
    let (mut bed, _) = asked("link");
    bed.disabled.insert(Template::PasswordResetLink);
    bed.ok(COMMAND, ada());
    assert_eq!(bed.world.emails.last().unwrap().begins, Begins::Cancelled);
}

#[test]
fn a_late_message_sends_the_request_that_is_open_now() {
    let (mut bed, _) = asked("link");
    bed.requested_at = Some(bed.now - TimeDelta::hours(1));
    assert_eq!(bed.ok(COMMAND, ada())["expires_at"], "2027-01-16T08:00:00.000Z");
}
