#![expect(clippy::needless_pass_by_value, reason = "`json!` makes values")]

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::commands::testing::{Bed, Change, GOOD};
use crate::domain::account::Temporary;
use crate::domain::rejection::Code;
use crate::domain::ticket::{Method, Purpose, Requester, State};
use crate::mail::catalogue::Template;
use crate::world::mailing::Begins;

const COMMAND: &str = "password.reset.request";

fn ask(bed: &mut Bed, user: Value) -> Value {
    bed.ok(COMMAND, json!({ "user": user }))
}

fn from(bed: &mut Bed, user: &Value, ip: &str) -> Value {
    bed.ok(COMMAND, json!({ "user": user, "context": { "ip": ip } }))
}

fn by_support(bed: &mut Bed, user: Value) -> Result<Value, Value> {
    bed.run(COMMAND, json!({ "user": user, "actor": "system" }))
}

/// Several profiles of one address.
fn family(bed: &mut Bed, ids: &[&str]) {
    for id in ids {
        let user = json!({ "id": id, "username": id, "email": "family@example.com", "roles": ["member"] });
        bed.ok("user.put", json!({ "user": user }));
    }
    bed.quiet();
}

#[test]
fn the_answer_is_the_same_whoever_is_asked_for() {
    let change: [(&str, Change, bool); 7] = [
        ("sent", |_| (), true),
        ("sent", |a| a.email_verified = false, true),
        ("sent", |a| a.locked_until = Some(a.created_at + TimeDelta::minutes(15)), true),
        ("blocked", |a| a.blocked = true, false),
        ("inactive", |a| a.active = false, false),
        ("suppressed", |a| a.suppressed = true, false),
        (
            "temporary_password_pending",
            |a| (a.temporary, a.password_hash) = (Some(Temporary::default()), Some("h".into())),
            false,
        ),
    ];
    for (decision, change, mailed) in change {
        for name in [json!({ "id": "ada" }), json!({ "username": "ada" }), json!({ "email": "ada@example.com" })] {
            let mut bed = Bed::with_member("ada");
            "web".clone_into(&mut bed.publisher);
            change(bed.world.account_mut("ada").unwrap());
            assert_eq!(ask(&mut bed, name), json!({ "accepted": true }), "{decision}");
            assert_eq!(bed.decision(), decision);
            assert_eq!(bed.touched, ["ada"]);
            assert_eq!(bed.mailed().len(), usize::from(mailed), "{decision}");
            assert_eq!(bed.events().len(), usize::from(mailed), "{decision}");
            assert_eq!(bed.account("ada").tickets.len(), usize::from(mailed), "{decision}");
        }
    }
    let mut bed = Bed::default();
    for name in [json!({ "id": "ghost" }), json!({ "username": "ghost" }), json!({ "email": "ghost@example.com" })] {
        assert_eq!(ask(&mut bed, name), json!({ "accepted": true }));
        assert_eq!(bed.decision(), "unknown_address");
        assert_eq!((bed.touched.len(), bed.mails().len(), bed.events().len()), (0, 0, 0));
    }
}

#[test]
fn the_mail_goes_to_the_person_and_says_what_it_knows() {
    for (method, by_default, template, hours) in [
        (Some("link"), Method::Code, Template::PasswordResetLink, 24),
        (Some("code"), Method::Link, Template::PasswordResetCode, 1),
        (None, Method::Link, Template::PasswordResetLink, 24),
        (None, Method::Code, Template::PasswordResetCode, 1),
    ] {
        let mut bed = Bed::with_member("ada");
        bed.config.password_reset.method = by_default;
        let context = json!({ "ip": "192.0.2.7", "locale": "fr" });
        bed.ok(COMMAND, json!({ "user": { "id": "ada" }, "method": method, "context": context }));
        let (mail, ticket) = (bed.mails().remove(0), bed.ticket("ada", Purpose::PasswordReset).clone());
        let expires_at = bed.now + TimeDelta::hours(hours);
        assert_eq!((mail.template, mail.to.as_str()), (template, "ada@example.com"));
        assert_eq!((mail.ticket_id, mail.give_up_at), (Some(ticket.id), expires_at));
        assert_eq!((ticket.expires_at, ticket.requester), (expires_at, Requester::Itself));
        assert_eq!(mail.facts["request_ip"], "192.0.2.7");
        assert!(mail.facts.get("requested_by_support").is_none());
        assert_eq!(bed.events(), ["password.reset.requested"]);
    }
}

#[test]
fn lifetimes_count_from_when_the_person_asked() {
    let mut bed = Bed::with_member("ada");
    bed.requested_at = Some(bed.now - TimeDelta::hours(20));
    let token = bed.reset_link("ada");
    assert_eq!(bed.ticket("ada", Purpose::PasswordReset).expires_at, bed.now + TimeDelta::hours(4));
    bed.wait(4 * 3600 - 1);
    bed.ok("password.reset.inspect", json!({ "token": token }));
    bed.wait(1);
    assert_eq!(bed.refused("password.reset.inspect", json!({ "token": token })), Code::TokenExpired);
}

#[test]
fn the_newest_wins_and_the_older_ones_say_when_it_was_asked_for() {
    let mut bed = Bed::with_member("ada");
    let first = bed.reset_link("ada");
    bed.wait(60);
    let second = bed.reset_link("ada");
    let inspect = |bed: &mut Bed, token: &str| bed.run("password.reset.inspect", json!({ "token": token }));
    let refusal = inspect(&mut bed, &first).unwrap_err();
    assert_eq!(
        (&refusal["code"], &refusal["details"]["newer_requested_at"]),
        (&json!("token_superseded"), &json!("2027-01-15T08:01:00.000Z"))
    );
    bed.wait(60);
    bed.reset_code("ada");
    for older in [&first, &second] {
        let refusal = inspect(&mut bed, older).unwrap_err();
        assert_eq!(refusal["code"], "token_superseded");
        assert_eq!(refusal["details"]["newer_requested_at"], "2027-01-15T08:02:00.000Z", "the newest, not the next");
    }
    bed.ok("password.reset.inspect", json!({ "user": { "id": "ada" }, "code": bed.code("ada") }));
    bed.check_invariants();
}

#[test]
fn a_delayed_older_request_voids_no_newer_link() {
    for by in [json!(null), json!("system")] {
        let mut bed = Bed::with_member("ada");
        let newest = bed.reset_link("ada");
        bed.quiet();
        bed.requested_at = Some(bed.now - TimeDelta::minutes(10));
        bed.wait(120);
        let answer = bed.run(COMMAND, json!({ "user": { "id": "ada" }, "actor": by }));
        if by.is_null() {
            assert_eq!((answer, bed.decision()), (Ok(json!({ "accepted": true })), "superseded"));
        } else {
            assert_eq!(answer.unwrap_err()["code"], "token_superseded");
        }
        assert!(bed.mails().is_empty());
        bed.ok("password.reset.inspect", json!({ "token": newest }));
    }
}

#[test]
fn a_request_that_comes_after_its_own_expiry_voids_no_good_link() {
    let mut bed = Bed::with_member("ada");
    bed.requested_at = Some(bed.now - TimeDelta::hours(3));
    let link = bed.reset_link("ada");
    // Asked for an hour later, delivered only now: a code would have expired by now.
    bed.requested_at = Some(bed.now - TimeDelta::hours(2));
    bed.ok(COMMAND, json!({ "user": { "id": "ada" }, "method": "code" }));
    assert_eq!(bed.decision(), "superseded");
    let by_support = json!({ "user": { "id": "ada" }, "method": "code", "actor": "system" });
    assert_eq!(bed.refused(COMMAND, by_support), Code::Expired);
    bed.ok("password.reset.inspect", json!({ "token": link }));
}

#[test]
fn a_request_of_support_that_comes_after_its_own_expiry_says_so_and_sends_nothing() {
    let late = |hours| {
        let mut bed = Bed::with_member("ada");
        bed.requested_at = Some(bed.now - TimeDelta::hours(hours));
        bed
    };
    for (command, hours) in [(COMMAND, 24), ("email.verification.send", 72)] {
        for (method, hours) in [("link", hours), ("code", 1)] {
            let mut bed = late(hours);
            bed.world.account_mut("ada").unwrap().email_verified = false;
            let mut body = json!({ "user": { "id": "ada" }, "method": method, "actor": "system" });
            assert_eq!(bed.refused(command, body.clone()), Code::Expired, "{command} {method}");
            assert!(bed.mails().is_empty() && bed.account("ada").tickets.is_empty());
            body["actor"] = Value::Null;
            assert_eq!(bed.ok(command, body), json!({ "accepted": true }));
        }
    }
    late(23).ok(COMMAND, json!({ "user": { "id": "ada" }, "actor": "system" }));
}

#[test]
fn a_second_request_within_the_interval_sends_nothing_and_the_first_link_stays_good() {
    let mut bed = Bed::with_member("ada");
    let token = bed.reset_link("ada");
    bed.quiet();
    for (seconds, decision) in [(0, "throttled"), (59, "throttled"), (1, "sent"), (59, "throttled"), (1, "sent")] {
        bed.wait(seconds);
        if decision == "throttled" && bed.now.timestamp() < 1_800_000_060 {
            bed.ok("password.reset.inspect", json!({ "token": token }));
        }
        assert_eq!(ask(&mut bed, json!({ "id": "ada" })), json!({ "accepted": true }));
        assert_eq!(bed.decision(), decision);
        assert_eq!(bed.mailed().len(), usize::from(decision == "sent"));
    }
}

#[test]
fn the_interval_is_that_of_the_asking_not_of_an_outage() {
    let mut bed = Bed::with_member("ada");
    for minutes in [30, 20, 10] {
        bed.requested_at = Some(bed.now - TimeDelta::minutes(minutes));
        ask(&mut bed, json!({ "id": "ada" }));
        assert_eq!(bed.decision(), "sent");
    }
}

#[test]
fn ten_a_day_and_no_more() {
    for name in [json!({ "id": "ada" }), json!({ "email": "ada@example.com" })] {
        let mut bed = Bed::with_member("ada");
        let mut decisions = Vec::new();
        for _ in 0..12 {
            ask(&mut bed, name.clone());
            decisions.push(bed.decision().to_owned());
            bed.wait(60);
        }
        assert_eq!(decisions.iter().filter(|d| *d == "sent").count(), 10);
        assert_eq!(decisions[10..], ["throttled", "throttled"]);
        let last = bed.token("ada", Purpose::PasswordReset);
        bed.ok("password.reset.inspect", json!({ "token": last }));
        bed.wait(86_400);
        ask(&mut bed, name);
        assert_eq!(bed.decision(), "sent", "the next day is another day");
    }
}

#[test]
fn an_address_has_its_limit_under_whatever_name_and_also_when_nobody_has_it() {
    let mut bed = Bed::with_member("ada");
    bed.config.password_reset.max_per_day = 2;
    for (name, decision) in [("email", "sent"), ("username", "sent"), ("id", "throttled"), ("email", "throttled")] {
        let value = if name == "email" { "ada@example.com" } else { "ada" };
        let user = json!({ name: value });
        ask(&mut bed, user);
        assert_eq!(bed.decision(), decision, "{name}");
        bed.wait(60);
    }
    for decision in ["unknown_address", "unknown_address", "throttled"] {
        ask(&mut bed, json!({ "email": "ghost@example.com" }));
        assert_eq!(bed.decision(), decision);
        bed.wait(60);
    }
}

#[test]
fn an_address_of_several_has_its_limit_where_it_is_named() {
    let mut bed = Bed::default();
    family(&mut bed, &["ada", "bob"]);
    bed.config.password_reset.max_per_day = 2;
    let by_email = json!({ "email": "family@example.com" });
    for (user, sent) in
        [(&by_email, 2), (&by_email, 2), (&by_email, 0), (&json!({ "id": "eve" }), 1), (&json!({ "id": "bob" }), 0)]
    {
        if sent == 0 {
            // Somebody who has had nothing yet.
            family(&mut bed, &["eve"]);
        }
        let before = bed.mails().len();
        ask(&mut bed, user.clone());
        assert_eq!(bed.mails().len() - before, sent, "{user}");
        bed.wait(60);
    }
}

#[test]
fn thirty_an_hour_from_one_ip_unknown_addresses_included() {
    let mut bed = Bed::with_member("ada");
    bed.config.password_reset.max_per_ip_per_hour = 3;
    let ip = "2001:db8::1";
    for name in [json!({ "email": "a@example.com" }), json!({ "username": "b" }), json!({ "id": "c" })] {
        from(&mut bed, &name, ip);
        assert_eq!(bed.decision(), "unknown_address");
    }
    let ada = json!({ "id": "ada" });
    assert_eq!(from(&mut bed, &ada, ip), json!({ "accepted": true }));
    assert_eq!(bed.decision(), "throttled");
    assert!(bed.mails().is_empty());
    // Nor from another address of the same network.
    from(&mut bed, &ada, "2001:db8::2");
    assert_eq!(bed.decision(), "throttled");
    // From another network, by support, or an hour later.
    from(&mut bed, &ada, "2001:db8:0:1::1");
    assert_eq!(bed.decision(), "sent");
    let body = json!({ "user": ada, "actor": "system", "context": { "ip": ip } });
    bed.ok(COMMAND, body);
    bed.wait(3600);
    from(&mut bed, &ada, ip);
    assert_eq!(bed.decision(), "sent");
}

#[test]
fn a_throttled_request_uses_nobodys_day_up() {
    let mut bed = Bed::with_member("ada");
    bed.config.password_reset.max_per_day = 2;
    ask(&mut bed, json!({ "id": "ada" }));
    for _ in 0..5 {
        ask(&mut bed, json!({ "id": "ada" }));
    }
    bed.wait(60);
    ask(&mut bed, json!({ "id": "ada" }));
    assert_eq!(bed.decision(), "sent");
}

#[test]
fn no_limit_holds_for_support() {
    let mut bed = Bed::with_member("ada");
    bed.config.password_reset.max_per_day = 1;
    ask(&mut bed, json!({ "id": "ada" }));
    for _ in 0..15 {
        by_support(&mut bed, json!({ "id": "ada" })).unwrap();
    }
    bed.wait(86_400);
    ask(&mut bed, json!({ "id": "ada" }));
    assert_eq!(bed.decision(), "sent", "nor do requests of support count");
}

#[test]
fn support_gets_tickets_or_the_honest_error() {
    let mut bed = Bed::with_member("ada");
    let result = by_support(&mut bed, json!({ "email": "ada@example.com" })).unwrap();
    let (mail, ticket) = (bed.mails().remove(0), bed.ticket("ada", Purpose::PasswordReset).clone());
    let shown = json!({ "ticket_id": ticket.id, "user_id": "ada", "expires_at": "2027-01-16T08:00:00.000Z", "email_id": mail.id });
    assert_eq!(result, json!({ "tickets": [shown] }));
    assert_eq!(mail.facts["requested_by_support"], true);
    assert_eq!(ticket.requester, Requester::System);
    let refusals: [(Change, &str); 4] = [
        (|a| a.blocked = true, "user_blocked"),
        (|a| a.active = false, "user_inactive"),
        (|a| a.suppressed = true, "address_suppressed"),
        (
            |a| (a.temporary, a.password_hash) = (Some(Temporary::default()), Some("h".into())),
            "password_change_required",
        ),
    ];
    for (change, code) in refusals {
        let mut bed = Bed::with_member("ada");
        change(bed.world.account_mut("ada").unwrap());
        assert_eq!(by_support(&mut bed, json!({ "id": "ada" })).unwrap_err()["code"], code);
        assert_eq!(bed.touched, ["ada"]);
    }
    assert_eq!(by_support(&mut bed, json!({ "id": "ghost" })).unwrap_err()["code"], "user_not_found");
}

#[test]
fn the_actor_is_on_record() {
    let mut bed = Bed::with_member("ada");
    bed.person("root", "south", "admin");
    bed.ok(COMMAND, json!({ "user": { "id": "ada" }, "actor": { "id": "root" } }));
    assert_eq!(bed.ticket("ada", Purpose::PasswordReset).requester, Requester::Actor("root".into()));
}

#[test]
fn a_shared_address_gets_a_mail_for_each_profile() {
    let mut bed = Bed::default();
    family(&mut bed, &["ada", "bob", "eve"]);
    bed.world.account_mut("eve").unwrap().blocked = true;
    ask(&mut bed, json!({ "email": "FAMILY@example.com" }));
    let people: Vec<String> = bed.mails().into_iter().map(|mail| mail.user_id).collect();
    assert_eq!(people, ["ada", "bob"]);
    assert_eq!(
        Value::Object(bed.details.clone()),
        json!({ "decisions": { "ada": "sent", "bob": "sent", "eve": "blocked" } })
    );
    assert_eq!(bed.touched, ["ada", "bob", "eve"]);
    // Each has an interval of its own.
    bed.wait(60);
    ask(&mut bed, json!({ "id": "ada" }));
    bed.wait(30);
    ask(&mut bed, json!({ "email": "family@example.com" }));
    assert_eq!(bed.details["decisions"], json!({ "ada": "throttled", "bob": "sent", "eve": "blocked" }));
}

/// Eve's profile has Vic's address: asking for hers again and again must not keep Vic from his own mail.
#[test]
fn requests_for_one_profile_use_up_nobody_elses_day() {
    let mut bed = Bed::default();
    family(&mut bed, &["eve", "vic"]);
    let max = bed.config.password_reset.max_per_day;
    for _ in 0..max + 2 {
        ask(&mut bed, json!({ "username": "eve" }));
        bed.wait(60);
    }
    assert_eq!(bed.decision(), "throttled");
    ask(&mut bed, json!({ "email": "family@example.com" }));
    assert_eq!(bed.details["decisions"], json!({ "eve": "throttled", "vic": "sent" }));
    bed.wait(60);
    ask(&mut bed, json!({ "id": "vic" }));
    assert_eq!(bed.decision(), "sent");
}

#[test]
fn support_serves_the_profiles_that_can_be_served() {
    let mut bed = Bed::default();
    family(&mut bed, &["ada", "bob"]);
    bed.world.account_mut("ada").unwrap().blocked = true;
    let result = by_support(&mut bed, json!({ "email": "family@example.com" })).unwrap();
    assert_eq!((result["tickets"].as_array().unwrap().len(), &result["tickets"][0]["user_id"]), (1, &json!("bob")));
    bed.world.account_mut("bob").unwrap().active = false;
    let refusal = by_support(&mut bed, json!({ "email": "family@example.com" })).unwrap_err();
    assert_eq!(refusal["code"], "user_blocked");
}

#[test]
fn a_template_that_is_switched_off_sends_nothing_and_says_so() {
    let mut bed = Bed::with_member("ada");
    bed.disabled.insert(Template::PasswordResetLink);
    ask(&mut bed, json!({ "id": "ada" }));
    assert_eq!(bed.world.emails.last().unwrap().begins, Begins::Cancelled);
}

#[test]
fn asking_touches_neither_password_nor_sessions() {
    let mut bed = Bed::with_member("ada");
    bed.sign_in("ada");
    let before = bed.account("ada").clone();
    ask(&mut bed, json!({ "id": "ada" }));
    let mut after = bed.account("ada").clone();
    let ticket = after.tickets.pop().unwrap();
    assert_eq!((ticket.state, ticket.method), (State::Open, Method::Link));
    assert_eq!(after, before);
    bed.ok("session.login", json!({ "user": { "id": "ada" }, "password": GOOD }));
}

#[test]
fn the_log_says_which_limit_held() {
    let mut bed = Bed::default();
    family(&mut bed, &["ada", "bob"]);
    bed.member("eve");
    (bed.config.password_reset.max_per_day, bed.config.password_reset.max_per_ip_per_hour) = (2, 4);
    let limit = |bed: &mut Bed, user: Value, ip: Option<&str>| {
        let context = ip.map_or_else(|| json!({}), |ip| json!({ "ip": ip }));
        bed.ok("password.reset.request", json!({ "user": user, "context": context }));
        bed.details.get("limit").or_else(|| bed.details.get("limits")).cloned()
    };
    let (interval, day) = (Some(json!("password_reset.min_interval")), Some(json!("password_reset.max_per_day")));
    assert_eq!(limit(&mut bed, json!({ "id": "eve" }), None), None);
    assert_eq!(limit(&mut bed, json!({ "id": "eve" }), None), interval);
    bed.wait(60);
    assert_eq!(limit(&mut bed, json!({ "id": "eve" }), None), None);
    bed.wait(60);
    assert_eq!(limit(&mut bed, json!({ "id": "eve" }), None), day);
    // An address that nobody has is limited like any.
    assert_eq!(limit(&mut bed, json!({ "email": "ghost@example.com" }), None), None);
    assert_eq!(limit(&mut bed, json!({ "email": "ghost@example.com" }), None), interval);
    // Each profile of a shared address has its own interval.
    assert_eq!(limit(&mut bed, json!({ "id": "ada" }), None), None);
    let of_ada = Some(json!({ "ada": "password_reset.min_interval" }));
    assert_eq!(limit(&mut bed, json!({ "email": "family@example.com" }), None), of_ada);
    for _ in 0..4 {
        limit(&mut bed, json!({ "email": "ghost@example.com" }), Some("192.0.2.1"));
    }
    let by_ip = Some(json!("password_reset.max_per_ip_per_hour"));
    assert_eq!(limit(&mut bed, json!({ "id": "bob" }), Some("192.0.2.1")), by_ip);
}

#[test]
fn the_log_says_whom_support_could_not_serve() {
    let mut bed = Bed::default();
    family(&mut bed, &["ada", "bob"]);
    bed.world.account_mut("ada").unwrap().blocked = true;
    by_support(&mut bed, json!({ "email": "family@example.com" })).unwrap();
    assert_eq!(bed.details["decisions"], json!({ "ada": "user_blocked", "bob": "sent" }));
}

#[test]
fn the_mail_is_in_the_persons_language_or_in_that_of_the_page_where_they_ask() {
    let mut bed = Bed::with_member("ada");
    let on_a_page = |actor: Value| json!({ "user": { "id": "ada" }, "context": { "locale": "de" }, "actor": actor });
    let locale = |bed: &mut Bed, actor: Value| {
        bed.wait(3600);
        bed.ok(COMMAND, on_a_page(actor));
        bed.mails().remove(0).locale
    };
    assert_eq!(locale(&mut bed, Value::Null).as_deref(), Some("de"));
    assert_eq!(locale(&mut bed, json!("system")), None, "the page is that of support");
    bed.world.account_mut("ada").unwrap().profile.locale = Some("fr".into());
    assert_eq!(locale(&mut bed, Value::Null).as_deref(), Some("fr"));
}

#[test]
fn the_interval_holds_only_while_the_first_link_is_good() {
    type Kill = fn(&mut Bed, String);
    let kills: [(&str, Kill, &str); 4] = [
        ("nothing", |_, _| (), "throttled"),
        ("cancelled", |bed, token| drop(bed.ok("password.reset.cancel", json!({ "token": token }))), "sent"),
        (
            "completed",
            |bed, token| drop(bed.ok("password.reset.complete", json!({ "token": token, "new_password": GOOD }))),
            "sent",
        ),
        (
            "moved",
            |bed, _| {
                let user = json!({ "id": "ada", "username": "ada", "email": "new@example.com" });
                bed.ok("user.put", json!({ "user": user }));
            },
            "sent",
        ),
    ];
    for (what, kill, decision) in kills {
        let mut bed = Bed::with_member("ada");
        bed.config.password_reset.max_per_day = 2;
        let token = bed.reset_link("ada");
        kill(&mut bed, token);
        bed.quiet();
        ask(&mut bed, json!({ "id": "ada" }));
        assert_eq!(bed.decision(), decision, "{what}");
        assert_eq!(bed.mailed().len(), usize::from(decision == "sent"), "{what}");
        if decision == "sent" {
            // The day counts all the same.
            let token = bed.token("ada", Purpose::PasswordReset);
            bed.ok("password.reset.cancel", json!({ "token": token }));
            ask(&mut bed, json!({ "id": "ada" }));
            assert_eq!((bed.decision(), &bed.details["limit"]), ("throttled", &json!("password_reset.max_per_day")));
        }
    }
}

#[test]
fn support_hears_of_the_person_whom_they_may_act_on() {
    let mut bed = Bed::default();
    for (id, site) in [("ada", "south"), ("bob", "north"), ("eve", "south")] {
        let user =
            json!({ "id": id, "username": id, "email": "family@example.com", "site": site, "roles": ["member"] });
        bed.ok("user.put", json!({ "user": user }));
    }
    bed.person("mia", "north", "manager");
    bed.world.account_mut("bob").unwrap().blocked = true;
    let body = json!({ "user": { "email": "family@example.com" }, "actor": { "id": "mia" } });
    assert_eq!(bed.refused(COMMAND, body), Code::UserBlocked);
}
