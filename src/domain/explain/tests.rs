use std::collections::BTreeSet;

use super::*;

#[test]
fn each_decision_that_a_request_does_not_tell_is_explained() {
    for decision in Decision::UNTOLD.into_iter().filter(|decision| *decision != Decision::Sent) {
        assert!(WORDS.iter().any(|(word, _)| *word == decision.as_str()), "{}", decision.as_str());
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

/// Ada asks for a reset at a moment; the message id is that moment.
fn request(seconds: i64) -> Request {
    Request {
        id: Uuid::from_u128(seconds.unsigned_abs().into()),
        at: at(seconds),
        user_id: Some("ada".into()),
        command: "password.reset.request".into(),
        outcome: "ok".into(),
        decision: Some("sent".into()),
        copy: false,
        limit: None,
        by: "self".into(),
        publisher: "shop".into(),
        ip: None,
        command_id: Some(format!("m{seconds}")),
    }
}

fn decided(seconds: i64, decision: &str) -> Request {
    Request { decision: Some(decision.into()), ..request(seconds) }
}

fn refused(seconds: i64, code: &str) -> Request {
    Request { decision: None, outcome: code.into(), by: "mia".into(), ..request(seconds) }
}

/// The mail of [`request`], which an hour ends.
fn mail(seconds: i64, state: &str) -> Mail {
    let accepted = ["sent", "delivered", "bounced", "complained"].contains(&state);
    Mail {
        id: Uuid::from_u128(1000 + u128::from(seconds.unsigned_abs())),
        user_id: "ada".into(),
        to: "ada@example.com".into(),
        template: "password_reset_link".into(),
        state: state.into(),
        queued_at: at(seconds),
        give_up_at: at(seconds + 3600),
        sent_at: accepted.then(|| at(seconds + 1)),
        reply: accepted.then(|| "250 2.0.0 queued".to_owned()),
        resend_of: None,
        command_id: Some(format!("m{seconds}")),
        ticket: Some(ticket(seconds, "open")),
        failures: Vec::new(),
    }
}

fn ticket(seconds: i64, state: &str) -> Ticket {
    let id = Uuid::from_u128(2000 + u128::from(seconds.unsigned_abs()));
    let closed_at = (state != "open").then(|| at(seconds + 20));
    Ticket { id, state: state.into(), expires_at: at(seconds + 3600), closed_at }
}

fn failing(seconds: i64, state: &str) -> Mail {
    let failure = |attempt: i32, outcome: &str, reply: &str| Failure {
        attempt,
        at: at(seconds + i64::from(attempt) * 2),
        outcome: outcome.into(),
        reply: Some(reply.into()),
    };
    let last = if state == "failed" { "failed" } else { "retry" };
    let failures = vec![failure(1, "retry", "451 4.7.1 greylisted"), failure(2, last, "450 4.2.0 full")];
    Mail { failures, reply: Some("450 4.2.0 full".into()), ..mail(seconds, state) }
}

fn cancelled(seconds: i64, why: Option<&str>, ticket_state: &str) -> Mail {
    let ticket = Some(ticket(seconds, ticket_state));
    Mail { reply: why.map(str::to_owned), ticket, ..mail(seconds, "cancelled") }
}

fn report(seconds: i64, of: &Mail, kind: &str) -> Report {
    let detail = Some("550 5.1.1 no such user".into());
    Report { at: at(seconds), email_id: of.id, kind: kind.into(), detail, user_id: Some("ada".into()) }
}

fn event(seconds: i64, what: &'static str) -> Event {
    Event { at: at(seconds), user_id: Some("ada".into()), what, by: "mia".into(), reason: Some("fraud".into()) }
}

fn evidence(requests: Vec<Request>, mails: Vec<Mail>) -> Evidence {
    Evidence { requests, mails, ..Evidence::default() }
}

fn whats(explanation: &Explanation) -> Vec<&'static str> {
    explanation.steps.iter().map(|step| step.what).collect()
}

#[test]
fn every_verdict_has_its_evidence() {
    use Verdict::*;
    let nobody = |request: Request| Request { user_id: None, ..request };
    let asked = |mail: Mail| evidence(vec![request(0)], vec![mail]);
    let reported = |kind: &str| {
        let mail = mail(0, kind);
        Evidence { reports: vec![report(60, &mail, kind)], ..asked(mail) }
    };
    let blocked =
        Evidence { events: vec![event(5, "account_blocked")], ..asked(cancelled(0, Some(unsent::BLOCKED), "open")) };
    let of = |request| evidence(vec![request], Vec::new());
    let cases = [
        (Evidence::default(), NeverRequested, None),
        // What could not have brought a mail is no request.
        (of(refused(0, "forbidden")), NeverRequested, None),
        (of(decided(0, "already_verified")), NeverRequested, None),
        (evidence(Vec::new(), vec![mail(0, "sent")]), NeverRequested, None),
        (of(nobody(decided(0, "unknown_address"))), UnknownAddress, Some(0)),
        (of(nobody(decided(0, "throttled"))), UnknownAddress, Some(0)),
        (of(nobody(refused(0, "user_not_found"))), UnknownAddress, Some(0)),
        (of(decided(0, "throttled")), Throttled, Some(0)),
        (of(decided(0, "blocked")), Blocked, Some(0)),
        (of(refused(0, "user_blocked")), Blocked, Some(0)),
        (blocked, Blocked, Some(5)),
        (of(decided(0, "inactive")), Inactive, Some(0)),
        (of(refused(0, "user_inactive")), Inactive, Some(0)),
        (of(decided(0, "temporary_password_pending")), TemporaryPasswordPending, Some(0)),
        (of(refused(0, "password_change_required")), TemporaryPasswordPending, Some(0)),
        (asked(cancelled(0, None, "open")), TemplateDisabled, Some(0)),
        (asked(cancelled(0, Some(unsent::TEMPLATE_OFF), "open")), TemplateDisabled, Some(0)),
        (of(decided(0, "suppressed")), Suppressed, Some(0)),
        (of(refused(0, "address_suppressed")), Suppressed, Some(0)),
        (asked(mail(0, "suppressed")), Suppressed, Some(0)),
        (asked(mail(0, "expired")), Expired, Some(3600)),
        (asked(failing(0, "expired")), Expired, Some(3600)),
        (of(refused(0, "request_expired")), Expired, Some(0)),
        // The mail is past its retention.
        (of(request(0)), Expired, Some(0)),
        (of(decided(0, "superseded")), Superseded, Some(0)),
        (of(refused(0, "token_superseded")), Superseded, Some(0)),
        (asked(cancelled(0, Some(unsent::TICKET_CLOSED), "superseded")), Superseded, Some(20)),
        (asked(cancelled(0, Some(unsent::TICKET_CLOSED), "completed")), Superseded, Some(20)),
        (asked(mail(0, "queued")), Retrying, Some(0)),
        (asked(failing(0, "queued")), Retrying, Some(2)),
        (asked(failing(0, "failed")), Failed, Some(4)),
        (asked(mail(0, "failed")), Failed, Some(3600)),
        (asked(mail(0, "sent")), AcceptedBySmtp, Some(1)),
        (reported("delivered"), Delivered, Some(60)),
        (reported("bounced"), Bounced, Some(60)),
        (reported("complained"), Complained, Some(60)),
        // A report older than the log.
        (asked(mail(0, "bounced")), Bounced, Some(1)),
    ];
    let mut seen = BTreeSet::new();
    for (number, (evidence, verdict, since)) in cases.into_iter().enumerate() {
        let explained = explain(&evidence);
        assert_eq!((explained.verdict, explained.since), (verdict, since.map(at)), "case {number}: {evidence:#?}");
        assert!(explained.steps.is_sorted_by_key(|step| step.at), "case {number}");
        seen.insert(verdict);
    }
    assert_eq!(seen, Verdict::ALL.into_iter().collect());
}

#[test]
fn the_words_are_those_of_the_contract() {
    let words: Vec<String> =
        Verdict::ALL.iter().map(|v| serde_json::to_value(v).unwrap().as_str().unwrap().to_owned()).collect();
    assert_eq!(
        words.join(" "),
        "never_requested unknown_address throttled blocked inactive temporary_password_pending template_disabled \
         suppressed expired superseded retrying failed accepted_by_smtp delivered bounced complained"
    );
}

#[test]
fn the_newest_request_counts() {
    let older = evidence(vec![decided(100, "throttled"), request(0)], vec![mail(0, "sent")]);
    assert_eq!(explain(&older).verdict, Verdict::Throttled);
    let newer = evidence(vec![request(100), decided(0, "throttled")], vec![mail(100, "sent")]);
    assert_eq!(explain(&newer).verdict, Verdict::AcceptedBySmtp);
    // One that was not permitted is not one.
    let not_permitted = evidence(vec![refused(100, "forbidden"), request(0)], vec![mail(0, "sent")]);
    assert_eq!(explain(&not_permitted).verdict, Verdict::AcceptedBySmtp);
    // Nor is a mail that nobody asked for.
    let told = Mail { template: "password_changed".into(), command_id: Some("x".into()), ..mail(100, "failed") };
    let told = evidence(vec![decided(0, "blocked")], vec![told]);
    assert_eq!(explain(&told).verdict, Verdict::Blocked);
}

#[test]
fn a_copy_for_somebody_else_and_a_refused_repetition_are_steps_only() {
    let resend =
        |request: Request| Request { command: "email.resend".into(), decision: None, by: "mia".into(), ..request };
    let copy = Request { copy: true, ..resend(request(100)) };
    let to_work = Mail { to: "ada@work.example.com".into(), ..mail(100, "bounced") };
    for (request_2, mail_2) in [
        (copy, Some(to_work)),
        (resend(refused(100, "request_completed")), None),
        (resend(refused(100, "address_suppressed")), None),
    ] {
        let mails = [Some(mail(0, "sent")), mail_2].into_iter().flatten().collect();
        let explained = explain(&evidence(vec![request(0), request_2], mails));
        assert_eq!((explained.verdict, explained.since), (Verdict::AcceptedBySmtp, Some(at(1))));
        assert_eq!(whats(&explained).iter().filter(|what| **what == "requested").count(), 2);
    }
    // Sent again to the person, that mail is the newest.
    let again = evidence(vec![request(0), resend(request(100))], vec![mail(0, "sent"), mail(100, "bounced")]);
    assert_eq!(explain(&again).verdict, Verdict::Bounced);
}

#[test]
fn of_people_who_share_an_address_whoever_was_mailed_counts() {
    let bob = |request: Request| Request { user_id: Some("bob".into()), ..request };
    for requests in [vec![request(0), bob(decided(0, "blocked"))], vec![bob(decided(0, "blocked")), request(0)]] {
        let explained = explain(&evidence(requests, vec![mail(0, "sent")]));
        assert_eq!(explained.verdict, Verdict::AcceptedBySmtp);
        let whose: BTreeSet<_> = explained.steps.iter().map(|step| step.details["user_id"].as_str().unwrap()).collect();
        assert_eq!(whose, ["ada", "bob"].into());
    }
    // An older request of one does not hide the newer one of the other.
    let explained = explain(&evidence(vec![request(0), bob(decided(10, "blocked"))], vec![mail(0, "sent")]));
    assert_eq!(explained.verdict, Verdict::Blocked);
}

#[test]
fn the_timeline_tells_a_story() {
    let bounced = Mail { failures: failing(0, "queued").failures, sent_at: Some(at(9)), ..mail(0, "bounced") };
    let throttled = Request { limit: Some("password_reset.min_interval".into()), ..decided(30, "throttled") };
    let evidence = Evidence {
        requests: vec![throttled, request(0), refused(40, "user_blocked")],
        reports: vec![report(20, &bounced, "bounced")],
        events: vec![event(35, "account_blocked")],
        suppressions: vec![Suppression { email: "ada@example.com".into(), reason: "bounced".into(), since: at(20) }],
        mails: vec![bounced],
        nobody: None,
    };
    let explained = explain(&evidence);
    assert_eq!(
        whats(&explained),
        [
            "requested",
            "queued",
            "attempt_failed",
            "attempt_failed",
            "accepted",
            "bounced",
            "address_suppressed",
            "requested",
            "throttled",
            "account_blocked",
            "requested",
            "refused",
        ]
    );
    let of = |what: &str| &explained.steps.iter().find(|step| step.what == what).unwrap().details;
    assert_eq!(of("requested")["by"], "self");
    assert!(!of("requested").contains_key("ip"), "what is not known is left out");
    assert_eq!(of("attempt_failed")["reply"], "451 4.7.1 greylisted");
    assert_eq!(of("bounced")["detail"], "550 5.1.1 no such user");
    assert_eq!(of("throttled")["limit"], "password_reset.min_interval");
    assert_eq!(of("account_blocked")["reason"], "fraud");
    assert_eq!(of("refused")["code"], "user_blocked");
}

#[test]
fn each_end_of_a_mail_is_a_step() {
    for (mail, end) in [
        (mail(0, "queued"), "queued"),
        (mail(0, "sent"), "accepted"),
        (failing(0, "queued"), "attempt_failed"),
        (failing(0, "failed"), "failed"),
        (mail(0, "suppressed"), "suppressed"),
        (failing(0, "expired"), "expired"),
        (cancelled(0, None, "open"), "template_disabled"),
        (cancelled(0, Some(unsent::BLOCKED), "open"), "cancelled"),
        (cancelled(0, Some(unsent::TICKET_CLOSED), "superseded"), "superseded"),
        (cancelled(0, Some(unsent::TICKET_CLOSED), "completed"), "cancelled"),
    ] {
        let explained = explain(&evidence(Vec::new(), vec![mail]));
        assert_eq!(whats(&explained).last(), Some(&end));
        for step in &explained.steps {
            assert!(WORDS.iter().any(|(word, _)| *word == step.what), "{}", step.what);
            assert_eq!(step.details["user_id"], "ada");
        }
    }
}

#[test]
fn a_long_story_ends_with_what_is_newest() {
    let requests = (0..500).map(|n| decided(n, "throttled")).collect();
    let explained = explain(&evidence(requests, Vec::new()));
    assert_eq!(explained.steps.len(), 200);
    assert_eq!(explained.steps.last().unwrap().at, at(499));
}
