use serde_json::{Value, json};

use crate::commands::testing::{BETTER, Bed, Change, GOOD};
use crate::domain::account::{Status, Temporary};
use crate::domain::rejection::Code;
use crate::mail::catalogue::Template;

fn login(bed: &mut Bed, user: &Value, password: &str) -> Result<Value, Value> {
    bed.run("session.login", json!({ "user": user, "password": password }))
}

fn code(answer: Result<Value, Value>) -> String {
    answer.map_or_else(|refusal| refusal["code"].as_str().unwrap().to_owned(), |_| "ok".to_owned())
}

fn ada() -> Value {
    json!({ "id": "ada" })
}

/// Several profiles of one address, each with a password.
fn family(people: &[(&str, &str)]) -> (Bed, Value) {
    let mut bed = Bed::default();
    for (id, password) in people {
        bed.ok("user.put", json!({ "user": { "id": id, "username": id, "email": "family@example.com" } }));
        bed.password(id, password);
    }
    bed.quiet();
    (bed, json!({ "email": "family@example.com" }))
}

#[test]
fn a_name_and_a_password_become_a_session() {
    for user in [json!({ "id": "ada" }), json!({ "username": " ADA" }), json!({ "email": "Ada@Example.com" })] {
        let mut bed = Bed::with_member("ada");
        bed.password("ada", GOOD);
        let result = login(&mut bed, &user, GOOD).unwrap();
        let session = &bed.account("ada").sessions[0];
        assert_eq!(result, json!({ "user_id": "ada", "session_id": session.id, "session_epoch": 0 }));
        assert_eq!(session.expires_at, bed.now + bed.config.sessions.lifetime);
        assert_eq!(
            (bed.account("ada").last_login_at, bed.touched.as_slice()),
            (Some(bed.now), &["ada".to_owned()][..])
        );
        assert_eq!(bed.details["session_id"], result["session_id"]);
        assert_eq!(bed.events(), ["session.opened"]);
        assert!(bed.mails().is_empty());
    }
}

#[test]
fn nothing_tells_strangers_who_exists_or_in_which_state() {
    let states: [Change; 5] = [
        |_| (),
        |a| a.blocked = true,
        |a| a.active = false,
        |a| a.password_hash = None,
        |a| a.temporary = a.password_hash.as_ref().map(|_| Temporary::default()),
    ];
    let mut bed = Bed::default();
    let unknown = login(&mut bed, &ada(), "wrong").unwrap_err();
    assert_eq!(unknown["code"], "invalid_credentials");
    for change in states {
        let mut bed = Bed::with_member("ada");
        bed.password("ada", GOOD);
        change(bed.world.account_mut("ada").unwrap());
        assert_eq!(login(&mut bed, &ada(), "wrong").unwrap_err(), unknown);
    }
}

#[test]
fn who_is_blocked_or_deactivated_is_told_after_the_right_password_only() {
    let cases: [(Change, &str); 3] = [
        (|a| a.blocked = true, "user_blocked"),
        (|a| a.active = false, "user_inactive"),
        (|a| (a.blocked, a.active) = (true, false), "user_blocked"),
    ];
    for (change, expected) in cases {
        let mut bed = Bed::with_member("ada");
        bed.password("ada", GOOD);
        change(bed.world.account_mut("ada").unwrap());
        assert_eq!(code(login(&mut bed, &ada(), GOOD)), expected);
        assert!(bed.account("ada").sessions.is_empty());
    }
}

#[test]
fn unknown_people_cost_the_work_of_a_wrong_password() {
    let mut bed = Bed::with_member("ada");
    login(&mut bed, &json!({ "email": "ada@example.com" }), "wrong").unwrap_err();
    assert_eq!(bed.work, ["pretend"], "no password yet");
    assert_eq!(bed.subject_key, None, "this person is known");
    for ghost in [json!({ "id": "ghost" }), json!({ "username": "ghost" }), json!({ "email": "ghost@example.com" })] {
        login(&mut bed, &ghost, "wrong").unwrap_err();
        assert_eq!(bed.work, ["pretend"]);
        assert!(bed.touched.is_empty());
        assert_eq!(bed.subject_key.is_some(), ghost.get("email").is_some());
    }
    bed.password("ada", GOOD);
    login(&mut bed, &ada(), "wrong").unwrap_err();
    assert_eq!(bed.work, ["verify"]);
}

#[test]
fn wrong_passwords_in_a_row_lock_for_a_while() {
    let mut bed = Bed::with_member("ada");
    bed.password("ada", GOOD);
    for _ in 0..9 {
        assert_eq!(code(login(&mut bed, &ada(), "wrong")), "invalid_credentials");
    }
    assert_eq!(code(login(&mut bed, &ada(), GOOD)), "ok", "a right one ends the row");
    bed.quiet();
    for _ in 0..9 {
        login(&mut bed, &ada(), "wrong").unwrap_err();
    }
    assert_eq!((bed.events().len(), bed.account("ada").status(bed.now)), (0, Status::Active));
    assert_eq!(code(login(&mut bed, &ada(), "wrong")), "invalid_credentials");
    assert_eq!((bed.events(), bed.mailed()), (vec!["user.locked"], vec![Template::AccountLocked]));
    assert_eq!(bed.account("ada").status(bed.now), Status::Locked);
    for _ in 0..20 {
        let refusal = login(&mut bed, &ada(), GOOD).unwrap_err();
        assert_eq!(
            (&refusal["code"], &refusal["details"]["locked_until"]),
            (&json!("account_locked"), &json!("2027-01-15T08:15:00.000Z"))
        );
        assert!(bed.work.is_empty(), "a locked account costs no hashing");
    }
    bed.wait(15 * 60 - 1);
    assert_eq!(code(login(&mut bed, &ada(), GOOD)), "account_locked");
    bed.wait(1);
    // The row begins anew: one more wrong one does not lock again.
    assert_eq!(code(login(&mut bed, &ada(), "wrong")), "invalid_credentials");
    assert_eq!(code(login(&mut bed, &ada(), GOOD)), "ok");
    assert!(bed.mails().is_empty());
}

#[test]
fn a_right_password_ends_the_row_whatever_it_is_answered() {
    let cases: [(Change, &str); 4] = [
        (|a| a.blocked = true, "user_blocked"),
        (|a| a.active = false, "user_inactive"),
        (|a| a.temporary = Some(Temporary::default()), "password_change_required"),
        (
            |a| a.temporary = Some(Temporary { until: Some(a.created_at), requested_at: None }),
            "temporary_password_expired",
        ),
    ];
    for (change, expected) in cases {
        let mut bed = Bed::with_member("ada");
        bed.password("ada", GOOD);
        change(bed.world.account_mut("ada").unwrap());
        for _ in 0..3 {
            for _ in 0..9 {
                assert_eq!(code(login(&mut bed, &ada(), "wrong")), "invalid_credentials");
            }
            assert_eq!(code(login(&mut bed, &ada(), GOOD)), expected);
            assert_eq!(bed.account("ada").failed_logins, 0);
        }
        assert!(bed.account("ada").dirty);
        let change = json!({ "user": ada(), "current_password": GOOD, "new_password": "weak" });
        login(&mut bed, &ada(), "wrong").unwrap_err();
        bed.run("password.change", change).unwrap_err();
        assert_eq!(bed.account("ada").failed_logins, 0);
    }
}

#[test]
fn a_lockout_ends_no_session() {
    let mut bed = Bed::with_member("ada");
    bed.sign_in("ada");
    for _ in 0..10 {
        login(&mut bed, &ada(), "wrong").unwrap_err();
    }
    assert!(bed.account("ada").is_locked(bed.now) && bed.account("ada").has_live_session(bed.now));
}

#[test]
fn a_shared_address_signs_in_whose_password_it_is() {
    let (mut bed, email) = family(&[("ada", GOOD), ("bob", BETTER), ("eve", "Third-Time-Lucky-33")]);
    assert_eq!(login(&mut bed, &email, BETTER).unwrap()["user_id"], "bob");
    assert_eq!(login(&mut bed, &email, GOOD).unwrap()["user_id"], "ada");
    assert_eq!(bed.touched, ["ada", "bob", "eve"]);
    assert!(bed.world.accounts().all(|a| a.failed_logins == 0), "the others' are no wrong tries");
    assert_eq!(code(login(&mut bed, &email, "wrong")), "invalid_credentials");
    assert!(bed.world.accounts().all(|a| a.failed_logins == 1));
}

#[test]
fn a_password_of_several_profiles_names_the_candidates() {
    let (mut bed, email) = family(&[("ada", GOOD), ("bob", GOOD), ("eve", BETTER)]);
    let refusal = login(&mut bed, &email, GOOD).unwrap_err();
    assert_eq!(refusal["code"], "ambiguous_user");
    let candidates = json!([
        { "id": "ada", "username": "ada", "site": "default" },
        { "id": "bob", "username": "bob", "site": "default" },
    ]);
    assert_eq!(refusal["details"]["candidates"], candidates);
    assert_eq!(login(&mut bed, &json!({ "username": "bob" }), GOOD).unwrap()["user_id"], "bob");
}

#[test]
fn a_password_of_a_verified_profile_and_another_is_nobodys_alone() {
    let (mut bed, email) = family(&[("vic", GOOD), ("eve", GOOD)]);
    let both = json!(["vic", "eve"]);
    for verified in [[true, false], [false, true], [true, true]] {
        for (id, verified) in ["vic", "eve"].into_iter().zip(verified) {
            bed.world.account_mut(id).unwrap().email_verified = verified;
        }
        let change = json!({ "user": email, "current_password": GOOD, "new_password": BETTER });
        for (command, body) in
            [("session.login", json!({ "user": email, "password": GOOD })), ("password.change", change)]
        {
            let refusal = bed.run(command, body).unwrap_err();
            assert_eq!(refusal["code"], "ambiguous_user", "{command} {verified:?}");
            let candidates = refusal["details"]["candidates"].as_array().unwrap();
            assert!(candidates.iter().all(|c| both.as_array().unwrap().contains(&c["id"])) && candidates.len() == 2);
        }
    }
    assert_eq!(login(&mut bed, &json!({ "username": "vic" }), GOOD).unwrap()["user_id"], "vic");
}

/// Eve gives her profile one guess after the other for its password, and signs in by the address that she shares with Vic.
#[test]
fn a_profile_with_somebodys_address_guesses_their_password_no_faster_than_a_lockout_allows() {
    for command in ["session.login", "password.change"] {
        let (mut bed, email) = family(&[("vic", BETTER), ("eve", "Guess-Number-0-Of-Many")]);
        bed.world.account_mut("vic").unwrap().email_verified = true;
        for n in 1..=10 {
            assert!(!bed.account("vic").is_locked(bed.now), "after {n} guesses");
            let (guess, next) = (format!("Guess-Number-{}-Of-Many", n - 1), format!("Guess-Number-{n}-Of-Many"));
            bed.ok(
                "password.change",
                json!({ "user": { "id": "eve" }, "current_password": guess, "new_password": next }),
            );
            if command == "session.login" {
                assert_eq!(login(&mut bed, &email, &next).unwrap()["user_id"], "eve");
            } else {
                let again = json!({ "user": email, "current_password": next, "new_password": GOOD });
                bed.ok(command, again);
                bed.password("eve", &next);
            }
        }
        assert!(bed.account("vic").is_locked(bed.now));
        // The eleventh is right, and does not tell.
        bed.password("eve", BETTER);
        assert_eq!(login(&mut bed, &email, BETTER).unwrap()["user_id"], "eve");
    }
}

#[test]
fn a_right_guess_counts_as_a_wrong_one_does() {
    let (mut bed, email) = family(&[("vic", GOOD), ("eve", GOOD)]);
    bed.world.account_mut("vic").unwrap().email_verified = true;
    for _ in 0..9 {
        assert_eq!(code(login(&mut bed, &email, GOOD)), "ambiguous_user");
    }
    assert_eq!((bed.account("vic").failed_logins, bed.account("eve").failed_logins), (9, 0));
    assert_eq!(code(login(&mut bed, &email, GOOD)), "ambiguous_user");
    assert_eq!(bed.mailed(), [Template::AccountLocked]);
    assert!(bed.account("vic").is_locked(bed.now));
}

/// Bob signs in by the address that he shares with Ada, day by day.
#[test]
fn a_password_that_somebody_has_had_for_long_is_no_guess_at_anothers() {
    let (mut bed, email) = family(&[("ada", GOOD), ("bob", BETTER)]);
    bed.world.account_mut("ada").unwrap().email_verified = true;
    bed.wait(15 * 60);
    for _ in 0..20 {
        assert_eq!(login(&mut bed, &email, BETTER).unwrap()["user_id"], "bob");
    }
    assert_eq!(bed.account("ada").failed_logins, 0);
}

#[test]
fn many_profiles_with_somebodys_address_do_not_keep_them_out() {
    let claims: Vec<String> = (0..20).map(|n| format!("eve{n:02}")).collect();
    let all = claims.iter().map(|id| (id.as_str(), BETTER)).chain([("vic", GOOD)]);
    let (mut bed, email) = family(&all.collect::<Vec<_>>());
    bed.world.account_mut("vic").unwrap().email_verified = true;
    assert_eq!(login(&mut bed, &email, GOOD).unwrap()["user_id"], "vic");
}

#[test]
fn one_locked_profile_of_an_address_keeps_nobody_else_out() {
    let (mut bed, email) = family(&[("ada", GOOD), ("bob", BETTER)]);
    for _ in 0..10 {
        login(&mut bed, &ada(), "wrong").unwrap_err();
    }
    assert_eq!(login(&mut bed, &email, BETTER).unwrap()["user_id"], "bob");
    assert_eq!(code(login(&mut bed, &ada(), GOOD)), "account_locked");
}

#[test]
fn the_oldest_session_ends_where_there_are_too_many() {
    let mut bed = Bed::with_member("ada");
    bed.config.sessions.max_per_user = 3;
    let sessions: Vec<String> = (0..5)
        .map(|_| {
            bed.wait(1);
            bed.sign_in("ada")
        })
        .collect();
    let live = bed.account("ada").sessions.iter().filter(|s| s.is_live(bed.now)).map(|s| s.id.to_string());
    assert_eq!(live.collect::<Vec<_>>(), sessions[2..]);
    assert_eq!(bed.events().iter().filter(|e| **e == "session.revoked").count(), 2);
    assert_eq!(bed.account("ada").session_epoch, 0, "no forced sign-out");
}

#[test]
fn a_hash_of_older_parameters_is_made_anew() {
    let mut bed = Bed::with_member("ada");
    bed.world.account_mut("ada").unwrap().password_hash = Some(format!("old hash of {GOOD}"));
    assert_eq!(code(login(&mut bed, &ada(), "wrong")), "invalid_credentials");
    assert_eq!(code(login(&mut bed, &ada(), GOOD)), "ok");
    let ada = bed.account("ada");
    assert_eq!(
        (ada.password_hash.as_deref(), ada.previous_hashes.len()),
        (Some(format!("hash of {GOOD}").as_str()), 0)
    );
    assert!(bed.mails().is_empty(), "it is the same password");
}

#[test]
fn hostile_passwords_are_only_wrong() {
    let mut bed = Bed::with_member("ada");
    bed.password("ada", GOOD);
    for password in ["", "\u{1f600}", &"x".repeat(60_000), "'; drop table users; --"] {
        assert_eq!(
            bed.refused("session.login", json!({ "user": ada(), "password": password })),
            Code::InvalidCredentials
        );
    }
}
