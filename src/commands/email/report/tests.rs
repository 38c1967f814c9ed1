use serde_json::{Value, json};
use uuid::Uuid;

use super::is_transient;
use crate::commands::testing::Bed;
use crate::config::{Role, Scope};
use crate::domain::rejection::Code;

const COMMAND: &str = "email.report";

/// A member whose mail was handed over.
fn sent() -> (Bed, Uuid) {
    let mut bed = Bed::with_member("ada");
    bed.reset_link("ada");
    let id = bed.mails()[0].id;
    bed.quiet();
    let mail = bed.world.past_email_mut(id).unwrap();
    "sent".clone_into(&mut mail.state);
    mail.attempts = 1;
    (bed, id)
}

fn report(bed: &mut Bed, id: Uuid, kind: &str, detail: Option<&str>) -> Value {
    bed.ok(COMMAND, json!({ "email_id": id, "kind": kind, "detail": detail }))
}

fn state(bed: &Bed, id: Uuid) -> &str {
    &bed.world.past_email(id).unwrap().state
}

#[test]
fn a_report_is_the_mails_state_and_on_record() {
    for (kind, suppressed, events) in [
        ("delivered", false, vec![]),
        ("bounced", true, vec!["email.bounced"]),
        ("complained", true, vec!["email.bounced"]),
    ] {
        let (mut bed, id) = sent();
        assert_eq!(report(&mut bed, id, kind, Some("550 5.1.1 <ada@example.com> unknown")), json!({ "email_id": id }));
        assert_eq!(state(&bed, id), kind);
        assert!(bed.world.past_email(id).unwrap().dirty);
        assert_eq!(bed.account("ada").suppressed, suppressed, "{kind}");
        let added: Vec<_> = bed.world.suppressions().added().collect();
        assert_eq!(added, if suppressed { vec![("ada@example.com", kind)] } else { vec![] });
        assert_eq!(bed.touched, ["ada"]);
        let mut details = json!({ "email_id": id, "kind": kind, "detail": "550 5.1.1 <a***@example.com> unknown" });
        if suppressed {
            details["suppressed"] = true.into();
        }
        assert_eq!(Value::Object(bed.details.clone()), details);
        assert_eq!(bed.events(), events);
    }
}

#[test]
fn the_event_says_what_came_back_and_why() {
    let (mut bed, id) = sent();
    report(&mut bed, id, "bounced", Some("550 5.1.1 <ada@example.com> unknown"));
    let event: Value = serde_json::from_str(&bed.world.events[0].body).unwrap();
    assert_eq!((&event["type"], &event["subject"]), (&json!("regrant.email.bounced"), &json!("ada")));
    let data = &event["data"];
    assert_eq!((&data["email_id"], &data["state"]), (&json!(id), &json!("bounced")));
    assert_eq!((&data["template"], &data["command_id"]), (&json!("password_reset_link"), &json!("m")));
    assert_eq!(data["smtp_reply"], "550 5.1.1 <a***@example.com> unknown");
}

#[test]
fn what_says_less_changes_nothing_in_whatever_order_it_comes() {
    for (reports, last, events) in [
        (vec!["delivered", "complained"], "complained", 1),
        (vec!["complained", "delivered"], "complained", 1),
        (vec!["delivered", "bounced", "complained"], "complained", 2),
        (vec!["complained", "bounced", "delivered"], "complained", 1),
        (vec!["bounced", "delivered"], "bounced", 1),
        (vec!["delivered", "bounced"], "bounced", 1),
        (vec!["bounced", "bounced"], "bounced", 1),
        (vec!["delivered", "delivered"], "delivered", 0),
    ] {
        let (mut bed, id) = sent();
        for kind in &reports {
            report(&mut bed, id, kind, None);
            // Each of them is in the log.
            assert_eq!((&bed.details["kind"], &bed.details["detail"]), (&json!(kind), &Value::Null));
        }
        assert_eq!(state(&bed, id), last, "{reports:?}");
        assert_eq!(bed.events().len(), events, "{reports:?}");
    }
}

#[test]
fn a_soft_bounce_leaves_the_address_in_use() {
    let (mut bed, id) = sent();
    report(&mut bed, id, "bounced", Some("452 4.2.2 mailbox full"));
    assert_eq!((state(&bed, id), bed.account("ada").suppressed), ("bounced", false));
    assert_eq!(bed.events(), ["email.bounced"]);
    bed.wait(60);
    bed.reset_link("ada");
    assert_eq!(bed.mails().len(), 1);
    // The provider gave up later.
    report(&mut bed, id, "bounced", Some("550 5.1.1 no such user"));
    assert!(bed.account("ada").suppressed);
    assert!(bed.events().is_empty() || state(&bed, id) == "bounced");
    // A complaint is no passing failure, whatever stands beside it.
    let (mut bed, id) = sent();
    report(&mut bed, id, "complained", Some("4.2.2"));
    assert!(bed.account("ada").suppressed);
}

#[test]
fn a_status_of_class_four_tells_a_failure_that_passes() {
    for (detail, transient) in [
        ("4.2.2", true),
        ("452 4.2.2 mailbox full", true),
        ("smtp; 421-4.7.0 try later", true),
        ("Status: 4.4.1 (no answer from host)", true),
        ("452 mailbox full", true),
        ("<a@b.com>: 4.4.7.", true),
        ("550 5.1.1 no such user", false),
        ("5.2.2", false),
        ("smtp; 550-5.7.1 blocked by 4.2.2.1", false),
        ("552 quota of 4.2.2 GB exceeded", true),
        ("550 mailbox of 450 messages full", false),
        ("host 4.3.2.1 said: 550 no", false),
        ("4.20 euros", false),
        ("404.1.1", false),
        ("4.1234.1", false),
        ("mailbox 452 unknown", false),
        ("", false),
        ("mailbox full", false),
    ] {
        assert_eq!(is_transient(detail), transient, "{detail}");
    }
}

#[test]
fn our_message_ids_hold_the_mails_id() {
    let (mut bed, id) = sent();
    for message_id in [
        format!("<{id}@example.com>"),
        format!("{id}@example.com"),
        format!(" <{id}@relay.example.net> "),
        format!("<{}@example.com>", id.to_string().to_uppercase()),
        id.to_string(),
    ] {
        let body = json!({ "smtp_message_id": message_id, "kind": "delivered" });
        assert_eq!(bed.ok(COMMAND, body), json!({ "email_id": id }), "{message_id}");
    }
    for message_id in ["<abc@example.com>", "<>", "@", &format!("<{}@example.com>", id.simple())] {
        let body = json!({ "smtp_message_id": message_id, "kind": "delivered" });
        assert_eq!(bed.refused(COMMAND, body), Code::EmailNotFound, "{message_id}");
    }
}

#[test]
fn one_mail_is_named_once() {
    let (mut bed, id) = sent();
    for body in [
        json!({ "kind": "delivered" }),
        json!({ "kind": "delivered", "email_id": id, "smtp_message_id": format!("<{id}@example.com>") }),
        json!({ "kind": "opened", "email_id": id }),
        json!({ "email_id": id }),
        json!({ "kind": "bounced", "email_id": id, "detail": "x".repeat(4097) }),
    ] {
        assert_eq!(bed.run(COMMAND, body).unwrap_err()["code"], "invalid_body");
    }
    assert_eq!(bed.refused(COMMAND, json!({ "kind": "delivered", "email_id": Uuid::nil() })), Code::EmailNotFound);
}

#[test]
fn long_and_broken_lines_become_one_short_one() {
    let (mut bed, id) = sent();
    report(&mut bed, id, "bounced", Some("550-5.1.1 no\r\n550 5.1.1\tsuch   user"));
    assert_eq!(bed.details["detail"], "550-5.1.1 no 550 5.1.1 such user");
    report(&mut bed, id, "complained", Some(&"ä".repeat(4096)));
    assert_eq!(bed.details["detail"].as_str().unwrap().chars().count(), 500);
}

#[test]
fn what_is_quoted_of_a_mail_is_kept_without_its_secrets() {
    let (mut bed, id) = sent();
    let token = "AZIAAAAAcACAAAAAAAAAAAemUadCjKu7bEey-f42KEKzBDbdOolaixc1pBf_0vT5";
    // Half of a token, which is what would be left of one where the text is cut, does not look like one.
    let words = format!("550 {} {token}B https://a.example/?token=short 07246815", ".".repeat(441));
    report(&mut bed, id, "bounced", Some(&words));
    let kept = bed.details["detail"].as_str().unwrap();
    assert!(kept.ends_with(". [redacted] https://a.example/?token=[redacted] [redact"), "{kept}");
    let event: Value = serde_json::from_str(&bed.world.events[0].body).unwrap();
    assert_eq!(event["data"]["smtp_reply"], kept);
    report(&mut bed, id, "complained", Some("your code is 07246815, ticket 4711"));
    assert_eq!(bed.details["detail"], "your code is [redacted], ticket 4711");
}

#[test]
fn a_mail_that_is_still_queued_hears_of_reports_too() {
    // Its result is on its way to the table, or was lost: what the provider says is newer.
    for kind in ["delivered", "bounced", "complained"] {
        let (mut bed, id) = sent();
        "queued".clone_into(&mut bed.world.past_email_mut(id).unwrap().state);
        report(&mut bed, id, kind, None);
        assert_eq!(state(&bed, id), kind);
    }
    // One that was never handed over must not be lost by a report that cannot be true.
    for (kind, detail, expected) in [
        ("delivered", None, "queued"),
        ("bounced", Some("4.2.2"), "queued"),
        ("bounced", None, "bounced"),
        ("complained", None, "complained"),
    ] {
        let (mut bed, id) = sent();
        let mail = bed.world.past_email_mut(id).unwrap();
        (mail.state, mail.attempts) = ("queued".to_owned(), 0);
        report(&mut bed, id, kind, detail);
        assert_eq!(state(&bed, id), expected, "{kind} {detail:?}");
    }
}

#[test]
fn an_address_is_suppressed_for_all_who_share_it_and_under_every_spelling() {
    let mut bed = Bed::default();
    for (id, email) in [("ada", "Family@Example.com"), ("bob", "family@example.COM")] {
        bed.ok("user.put", json!({ "user": { "id": id, "username": id, "email": email } }));
    }
    bed.reset_link("ada");
    let id = bed.mails()[0].id;
    bed.world.past_email_mut(id).unwrap().attempts = 1;
    report(&mut bed, id, "bounced", None);
    assert!(bed.account("ada").suppressed && bed.account("bob").suppressed);
    let body = json!({ "user": { "id": "bob" }, "actor": "system" });
    assert_eq!(bed.refused("password.reset.request", body), Code::AddressSuppressed);
}

#[test]
fn a_forwarded_copy_that_bounces_is_the_other_addresss_fault() {
    let (mut bed, id) = sent();
    bed.config.mail.allow_forward = true;
    bed.ok("email.resend", json!({ "email_id": id, "to": "elsewhere@example.org" }));
    let copy = bed.mails()[0].id;
    bed.world.past_email_mut(copy).unwrap().attempts = 1;
    report(&mut bed, copy, "bounced", None);
    assert!(!bed.account("ada").suppressed);
    let body = json!({ "email_id": id, "to": "elsewhere@example.org" });
    assert_eq!(bed.refused("email.resend", body), Code::AddressSuppressed);
}

#[test]
fn a_report_about_an_erased_persons_mail_is_taken() {
    let (mut bed, id) = sent();
    bed.world.take("ada");
    bed.world.past_email_mut(id).unwrap().to = String::new();
    report(&mut bed, id, "bounced", None);
    assert_eq!((state(&bed, id), bed.world.suppressions().added().count()), ("bounced", 0));
    assert!(bed.events().is_empty());
}

#[test]
fn an_actor_reports_on_mails_of_those_whom_they_reach() {
    for (scope, expected) in [(Scope::Site, "forbidden"), (Scope::All, "ok")] {
        for erased in [false, true] {
            let (mut bed, id) = sent();
            let role = Role { permissions: vec!["email.report".to_owned()], scope };
            bed.config.roles.insert("postmaster".into(), role);
            bed.person("eve", "south", "postmaster");
            if erased {
                bed.world.take("ada");
            }
            let body = json!({ "email_id": id, "kind": "bounced", "actor": { "id": "eve" } });
            let found = bed.run(COMMAND, body);
            let found = found.map_or_else(|e| e["code"].as_str().unwrap().to_owned(), |_| "ok".to_owned());
            assert_eq!(found, expected, "erased: {erased}");
            assert_eq!(state(&bed, id), if expected == "ok" { "bounced" } else { "sent" });
        }
    }
}

#[test]
fn a_report_that_suppresses_is_told_also_when_the_mails_state_stays() {
    // What was said of the mail before, and is said now; events; the state that they tell.
    for (first, then, told, state) in [
        (("bounced", "452 4.2.2 mailbox full"), ("bounced", "550 5.1.1 no such user"), 1, "bounced"),
        (("complained", "spam"), ("bounced", "550 5.1.1 no such user"), 0, ""),
    ] {
        let (mut bed, id) = sent();
        report(&mut bed, id, first.0, Some(first.1));
        bed.quiet();
        for _ in 0..2 {
            report(&mut bed, id, then.0, Some(then.1));
        }
        assert_eq!(bed.world.events.len(), told, "{first:?} {then:?}");
        if let Some(event) = bed.world.events.first() {
            let event: Value = serde_json::from_str(&event.body).unwrap();
            assert_eq!((&event["type"], &event["data"]["state"]), (&json!("regrant.email.bounced"), &json!(state)));
        }
    }
    // Support lifted it, and it bounces again: the complaint stays what is said of the mail.
    let (mut bed, id) = sent();
    report(&mut bed, id, "complained", None);
    bed.ok("email.unsuppress", json!({ "email": "ada@example.com" }));
    bed.quiet();
    report(&mut bed, id, "bounced", None);
    let event: Value = serde_json::from_str(&bed.world.events[0].body).unwrap();
    assert_eq!((&event["data"]["state"], bed.account("ada").suppressed), (&json!("complained"), true));
}
