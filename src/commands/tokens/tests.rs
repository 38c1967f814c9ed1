use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::commands::testing::{BETTER, Bed, GOOD};
use crate::domain::rejection::Code;
use crate::domain::ticket::Purpose;

const INSPECT: &str = "password.reset.inspect";
const COMPLETE: &str = "password.reset.complete";

fn typed(user: &Value, code: &str) -> Value {
    json!({ "user": user, "code": code })
}

/// A code that is not the right one.
fn wrong(right: &str) -> String {
    let last = if right.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &right[..right.len() - 1])
}

#[test]
fn looking_says_what_for_until_when_and_by_which_rules_and_uses_nothing_up() {
    let mut bed = Bed::with_member("ada");
    let token = bed.reset_link("ada");
    for _ in 0..20 {
        let found = bed.ok(INSPECT, json!({ "token": token }));
        assert_eq!(
            (&found["valid"], &found["purpose"], &found["username"]),
            (&json!(true), &json!("password_reset"), &json!("ada"))
        );
        assert_eq!(
            (&found["expires_at"], &found["policy"]["min_length"]),
            (&json!("2027-01-16T08:00:00.000Z"), &json!(12))
        );
        assert_eq!(bed.touched, ["ada"]);
    }
    bed.ok(COMPLETE, json!({ "token": token, "new_password": BETTER }));
}

#[test]
fn what_is_no_token_of_this_purpose_is_invalid() {
    let mut bed = Bed::with_member("ada");
    let token = bed.reset_link("ada");
    bed.ok("invite.send", json!({ "user": { "id": "ada" } }));
    let mut flipped = token.clone().into_bytes();
    flipped[40] = if flipped[40] == b'A' { b'B' } else { b'A' };
    let cut = &token[..63];
    for forged in [
        "",
        "x",
        cut,
        &format!("{token}A"),
        &String::from_utf8(flipped).unwrap(),
        &"A".repeat(64),
        &"\u{1f600}".repeat(10_000),
        &bed.token("ada", Purpose::Invite),
        &Bed::with_member("ada").reset_link("ada"),
    ] {
        assert_eq!(bed.refused(INSPECT, json!({ "token": forged })), Code::TokenInvalid, "{forged:.80}");
        let body = json!({ "token": forged, "new_password": BETTER });
        assert_eq!(bed.refused(COMPLETE, body), Code::TokenInvalid);
        assert!(bed.touched.is_empty());
    }
    assert_eq!(bed.refused("invite.accept", json!({ "token": token, "new_password": BETTER })), Code::TokenInvalid);
    bed.ok(INSPECT, json!({ "token": token }));
}

#[test]
fn either_a_token_or_a_name_and_a_code() {
    let mut bed = Bed::with_member("ada");
    let token = bed.reset_link("ada");
    let ada = json!({ "id": "ada" });
    for body in [
        json!({}),
        json!({ "user": ada }),
        json!({ "code": "12345678" }),
        json!({ "token": token, "user": ada }),
        json!({ "token": token, "code": "12345678" }),
        json!({ "token": token, "user": ada, "code": "12345678" }),
    ] {
        assert_eq!(bed.refused(INSPECT, body), Code::InvalidBody);
    }
}

#[test]
fn a_code_is_typed_as_people_type() {
    let mut bed = Bed::with_member("ada");
    let code = bed.reset_code("ada");
    for user in [json!({ "id": "ada" }), json!({ "username": "ADA" }), json!({ "email": "ada@example.com" })] {
        for code in [code.clone(), format!(" {} {} ", &code[..4], &code[4..]), format!("{}-{}", &code[..4], &code[4..])]
        {
            bed.ok(INSPECT, typed(&user, &code));
        }
    }
}

#[test]
fn a_code_dies_of_wrong_tries_wherever_they_are_made() {
    let mut bed = Bed::with_member("ada");
    let (ada, code) = (json!({ "id": "ada" }), bed.reset_code("ada"));
    for (i, left) in [4, 3, 2, 1, 0].into_iter().enumerate() {
        let mut body = typed(&ada, &wrong(&code));
        let command = if i % 2 == 0 { INSPECT } else { COMPLETE };
        if command == COMPLETE {
            body["new_password"] = BETTER.into();
        }
        let refusal = bed.run(command, body).unwrap_err();
        assert_eq!(
            (&refusal["code"], &refusal["details"]),
            (&json!("code_invalid"), &json!({ "attempts_left": left }))
        );
        if left > 0 {
            bed.ok(INSPECT, typed(&ada, &code));
        }
    }
    for code in [code.clone(), wrong(&code)] {
        assert_eq!(bed.refused(INSPECT, typed(&ada, &code)), Code::TooManyAttempts);
        let body = json!({ "user": ada, "code": code, "new_password": BETTER });
        assert_eq!(bed.refused(COMPLETE, body), Code::TooManyAttempts);
    }
    // A new one is not the dead one's heir.
    bed.wait(60);
    let fresh = bed.reset_code("ada");
    bed.ok(COMPLETE, json!({ "user": ada, "code": fresh, "new_password": BETTER }));
}

#[test]
fn a_code_of_an_older_mail_says_so_and_is_no_wrong_try() {
    let mut bed = Bed::with_member("ada");
    let (ada, older) = (json!({ "id": "ada" }), bed.reset_code("ada"));
    bed.wait(60);
    let newest = bed.reset_code("ada");
    for _ in 0..10 {
        let refusal = bed.run(INSPECT, typed(&ada, &older)).unwrap_err();
        assert_eq!(refusal["code"], "token_superseded");
        assert_eq!(refusal["details"]["newer_requested_at"], "2027-01-15T08:01:00.000Z");
    }
    bed.ok(INSPECT, typed(&ada, &newest));
    bed.wait(60);
    bed.reset_link("ada");
    assert_eq!(bed.refused(INSPECT, typed(&ada, &newest)), Code::TokenSuperseded, "a link supersedes a code too");
}

#[test]
fn wrong_tries_count_for_the_open_code_whichever_daemon_made_it() {
    let mut bed = Bed::with_member("ada");
    let (ada, first) = (json!({ "id": "ada" }), bed.reset_code("ada"));
    let older = bed.ticket("ada", Purpose::PasswordReset).id;
    bed.on_a_daemon_behind();
    bed.config.password_reset.min_interval = Duration::ZERO;
    bed.requested_at = Some(bed.now + TimeDelta::seconds(1));
    let open = bed.reset_code("ada");
    assert!(bed.ticket("ada", Purpose::PasswordReset).id < older);
    assert_eq!(bed.refused(INSPECT, typed(&ada, &first)), Code::TokenSuperseded);
    for left in [4, 3, 2, 1, 0] {
        let refusal = bed.run(INSPECT, typed(&ada, &wrong(&open))).unwrap_err();
        assert_eq!(refusal["details"], json!({ "attempts_left": left }));
    }
    assert_eq!(bed.refused(INSPECT, typed(&ada, &open)), Code::TooManyAttempts);
}

#[test]
fn a_code_is_good_until_its_expiry_and_wrong_ones_do_not_count_after_it() {
    let mut bed = Bed::with_member("ada");
    let (ada, code) = (json!({ "id": "ada" }), bed.reset_code("ada"));
    bed.wait(3599);
    bed.ok(INSPECT, typed(&ada, &code));
    bed.wait(1);
    assert_eq!(bed.refused(INSPECT, typed(&ada, &code)), Code::TokenExpired);
    for tries in 1..10 {
        let expected = if tries > 5 { Code::TooManyAttempts } else { Code::CodeInvalid };
        assert_eq!(bed.refused(INSPECT, typed(&ada, &wrong(&code))), expected);
    }
    assert_eq!(bed.refused(INSPECT, typed(&ada, &code)), Code::TokenExpired);
}

#[test]
fn a_code_that_nobody_was_sent_is_wrong() {
    let mut bed = Bed::with_member("ada");
    bed.member("bob");
    let code = bed.reset_code("bob");
    for user in [json!({ "id": "ada" }), json!({ "id": "ghost" }), json!({ "email": "ghost@example.com" })] {
        let refusal = bed.run(INSPECT, typed(&user, &code)).unwrap_err();
        assert_eq!(
            (&refusal["code"], &refusal["details"]),
            (&json!("code_invalid"), &json!({ "attempts_left": 4 })),
            "{user}"
        );
    }
    for hostile in ["", "0", &"1".repeat(100_000 / 2), "\u{1f600}"] {
        assert_eq!(bed.refused(INSPECT, typed(&json!({ "id": "ghost" }), hostile)), Code::CodeInvalid);
    }
    assert_eq!(bed.refused(INSPECT, typed(&json!({ "id": "ghost" }), "-")), Code::TooManyAttempts);
}

#[test]
fn a_code_needs_one_profile_and_the_candidates_are_not_for_strangers() {
    let mut bed = Bed::with_member("ada");
    bed.ok("user.put", json!({ "user": { "id": "bob", "username": "bob", "email": "ada@example.com" } }));
    let code = bed.reset_code("bob");
    let refusal = bed.run(INSPECT, typed(&json!({ "email": "ada@example.com" }), &code)).unwrap_err();
    assert_eq!((&refusal["code"], &refusal["details"]), (&json!("ambiguous_user"), &json!({})));
    bed.ok(INSPECT, typed(&json!({ "username": "bob" }), &code));
}

#[test]
fn a_token_may_be_pasted_with_blanks_around_it() {
    let mut bed = Bed::with_member("ada");
    let token = format!(" \n{}\t ", bed.reset_link("ada"));
    bed.ok(INSPECT, json!({ "token": token }));
    bed.ok("password.reset.complete", json!({ "token": token, "new_password": GOOD }));
    bed.wait(60);
    let token = format!("{}\r\n", bed.reset_link("ada"));
    bed.ok("password.reset.cancel", json!({ "token": token }));
}

/// Whatever is asked for and tried, and however long is waited meanwhile.
#[test]
fn wrong_codes_do_not_tell_who_has_an_account() {
    #[derive(Debug)]
    enum Step {
        Ask(&'static str),
        Try(usize),
        Wait(i64),
    }
    use Step::{Ask, Try, Wait};
    let stories = [
        vec![Try(7), Wait(3599), Try(1), Wait(1), Try(2)],
        vec![
            Try(2),
            Ask("code"),
            Try(3),
            Ask("code"),
            Try(3),
            Wait(60),
            Ask("code"),
            Try(1),
            Wait(60),
            Ask("link"),
            Try(2),
        ],
        vec![Ask("code"), Try(6), Ask("code"), Try(2), Wait(3600), Try(6), Wait(3600), Try(1)],
        vec![Ask("code"), Wait(1800), Try(6), Wait(1800), Try(2), Ask("link"), Try(1)],
        vec![Ask("link"), Wait(10), Try(1), Wait(3590), Try(1), Wait(10), Try(1)],
        vec![Ask("link"), Try(6), Ask("link"), Try(1), Wait(60), Ask("link"), Try(6), Wait(30), Ask("code"), Try(1)],
        vec![Ask("code"), Try(6), Wait(60), Ask("link"), Try(6), Ask("code"), Try(1), Wait(60), Ask("code"), Try(6)],
        vec![Ask("code"), Try(6), Ask("link"), Try(2), Wait(10), Ask("code"), Try(1)],
        vec![Try(6), Ask("code"), Try(6), Ask("code"), Try(1), Wait(3600), Try(6), Wait(60), Ask("link"), Try(1)],
        vec![Ask("link"), Try(6), Wait(59), Ask("code"), Try(1), Wait(1), Ask("code"), Try(2), Wait(3599), Try(1)],
    ];
    let told = |name: &Value, story: &[Step]| {
        let mut bed = Bed::with_member("ada");
        bed.member("eve").blocked = true;
        let mut told = Vec::new();
        for step in story {
            match step {
                Ask(method) => drop(bed.ok("password.reset.request", json!({ "user": name, "method": method }))),
                Wait(seconds) => bed.wait(*seconds),
                Try(times) => {
                    for _ in 0..*times {
                        let refusal = bed.run(INSPECT, typed(name, "000")).unwrap_err();
                        told.push((refusal["code"].clone(), refusal["details"].clone()));
                    }
                }
            }
        }
        told
    };
    for story in stories {
        let known = told(&json!({ "id": "ada" }), &story);
        for name in [
            json!({ "email": "ada@example.com" }),
            json!({ "id": "eve" }),
            json!({ "id": "ghost" }),
            json!({ "email": "x@example.com" }),
        ] {
            assert_eq!(told(&name, &story), known, "{name} {story:?}");
        }
    }
}
