#![expect(clippy::needless_pass_by_value, reason = "`json!` makes values")]

use serde_json::{Value, json};

use crate::commands::testing::{BETTER, Bed, GOOD};
use crate::domain::account::Invitation;
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State};
use crate::mail::catalogue::Template;

const BCRYPT: &str = "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW";

fn argon2(salt: &str) -> String {
    format!("$argon2id$v=19$m=19456,t=2,p=1${salt}$ouHxqfXUrRSMaTIRdcUwb8UvVUWYVYOXmmGXuNQ9bLg")
}

fn put(bed: &mut Bed, fields: Value) -> Value {
    let mut user = json!({ "id": "ada", "username": "ada", "email": "ada@example.com" });
    user.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    bed.ok("user.put", json!({ "user": user }))["user"].clone()
}

#[test]
fn a_new_profile_is_created_and_shown() {
    let mut bed = Bed::default();
    let user =
        put(&mut bed, json!({ "display_name": "Ada L.", "site": "north", "roles": ["member"], "locale": "en_GB" }));
    let expected = json!({
        "id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada L.", "site": "north",
        "roles": ["member"], "locale": "en-GB", "email_verified": false, "active": true, "blocked": false,
        "status": "active", "has_password": false, "locked_until": null, "must_change_password": false,
        "created_at": "2027-01-15T08:00:00.000Z", "last_login_at": null, "session_epoch": 0,
    });
    assert_eq!(user, expected);
    assert_eq!(bed.events(), ["user.created"]);
    assert_eq!(bed.touched, ["ada"]);
    assert!(bed.mails().is_empty());
}

#[test]
fn a_username_holds_nothing_that_nobody_sees() {
    let mut bed = Bed::default();
    let mut put = |username: &str| {
        let user = json!({ "id": "ada", "username": username, "email": "ada@example.com" });
        bed.run("user.put", json!({ "user": user })).map_err(|error| error["code"].clone())
    };
    for hidden in
        ["a\u{200b}da", "ada\u{202e}", "\u{feff}ada", "a\u{ad}da", "a\u{200d}da", "a\u{2028}da", "a\u{e0041}da"]
    {
        assert_eq!(put(hidden).unwrap_err(), "invalid_body", "{hidden:?}");
    }
    for seen in ["ada", "Ada Lovelace", "علی\u{200c}رضا", "کاربر\u{200c}ما1", "👩\u{200d}🔬", "ada@example.com"]
    {
        put(seen).unwrap();
    }
}

#[test]
fn what_a_replacement_leaves_out_is_gone_but_for_the_credential_state() {
    let mut bed = Bed::default();
    put(
        &mut bed,
        json!({ "display_name": "Ada L.", "site": "north", "roles": ["member"], "locale": "en", "email_verified": true }),
    );
    bed.password("ada", GOOD);
    bed.wait(60);
    let user = put(&mut bed, json!({}));
    for (field, value) in [
        ("display_name", json!(null)),
        ("site", json!("default")),
        ("roles", json!([])),
        ("locale", json!(null)),
        ("email_verified", json!(true)),
        ("has_password", json!(true)),
        ("created_at", json!("2027-01-15T08:00:00.000Z")),
    ] {
        assert_eq!(user[field], value, "{field}");
    }
    assert_eq!(bed.events(), ["user.created", "user.updated"]);
}

#[test]
fn the_same_profile_again_changes_nothing() {
    let mut bed = Bed::default();
    put(&mut bed, json!({ "password_hash": argon2("c29tZXNhbHRzb21lc2FsdA") }));
    bed.quiet();
    let before = bed.account("ada").clone();
    bed.wait(60);
    put(&mut bed, json!({ "password_hash": argon2("c29tZXNhbHRzb21lc2FsdA") }));
    assert_eq!(*bed.account("ada"), before);
    assert_eq!(bed.events(), [""; 0]);
}

#[test]
fn a_changed_email_voids_open_tickets_and_is_unverified_unless_said_otherwise() {
    for (fields, open, verified) in [
        (json!({ "email": "new@example.com" }), false, false),
        (json!({ "email": "new@example.com", "email_verified": true }), false, true),
        (json!({ "email": " ADA@Example.Com " }), true, true),
        (json!({ "email_verified": false }), true, false),
        (json!({ "username": "lovelace" }), true, true),
    ] {
        let mut bed = Bed::default();
        bed.member("ada").suppressed = false;
        let token = bed.reset_link("ada");
        put(&mut bed, fields.clone());
        let found = bed.run("password.reset.inspect", json!({ "token": token }));
        assert_eq!(found.is_ok(), open, "{fields}");
        if let Err(refusal) = found {
            assert_eq!(refusal["code"], "token_revoked");
        }
        assert_eq!(bed.account("ada").email_verified, verified, "{fields}");
    }
}

#[test]
fn people_are_found_under_their_new_names_only() {
    let mut bed = Bed::default();
    bed.member("ada");
    put(&mut bed, json!({ "username": "Lovelace", "email": "New@Example.com" }));
    for (name, found) in [
        (json!({ "username": "ada" }), false),
        (json!({ "email": "ada@example.com" }), false),
        (json!({ "username": " LOVELACE " }), true),
        (json!({ "email": "new@EXAMPLE.com" }), true),
        (json!({ "id": "ada" }), true),
        (json!({ "id": "ADA" }), false),
    ] {
        assert_eq!(bed.run("user.block", json!({ "user": name })).is_ok(), found, "{name}");
    }
}

#[test]
fn a_username_is_one_persons_an_email_may_be_shared() {
    let mut bed = Bed::default();
    bed.member("ada");
    let bob = |username: &str| json!({ "user": { "id": "bob", "username": username, "email": "ada@example.com" } });
    for taken in ["ada", " ADA ", "\u{ff41}da"] {
        let expected = if taken == "\u{ff41}da" { "ok" } else { "user_exists" };
        let found = bed.run("user.put", bob(taken));
        assert_eq!(found.map_or_else(|e| e["code"].clone(), |_| "ok".into()), expected, "{taken:?}");
    }
    // NFC: the same letter, composed and not.
    bed.ok("user.put", json!({ "user": { "id": "z1", "username": "zo\u{eb}", "email": "z@example.com" } }));
    let decomposed = json!({ "user": { "id": "z2", "username": "zoe\u{308}", "email": "z@example.com" } });
    assert_eq!(bed.refused("user.put", decomposed), Code::UserExists);
    // Somebody who exists cannot take another's name either, and keeps their own.
    assert_eq!(bed.refused("user.put", bob("zo\u{eb}")), Code::UserExists);
    assert_eq!(bed.account("bob").profile.username, "\u{ff41}da");
}

#[test]
fn bad_profiles_are_refused_by_field() {
    let long = |n: usize| "x".repeat(n);
    for (fields, field) in [
        (json!({ "id": "" }), "id"),
        (json!({ "id": long(129) }), "id"),
        (json!({ "id": "a\u{0}" }), "NUL"),
        (json!({ "id": "a\nb" }), "id"),
        (json!({ "id": "system" }), "`user.id`: must not be `system`, `self`, or begin with `erased:`"),
        (json!({ "id": "self" }), "`user.id`: must not"),
        (json!({ "id": "erased:0123" }), "`user.id`: must not"),
        (json!({ "username": "  " }), "username"),
        (json!({ "username": long(129) }), "username"),
        (json!({ "username": "a\u{7}" }), "username"),
        (json!({ "email": "nobody" }), "email"),
        (json!({ "email": "a@b@example.com" }), "email"),
        (json!({ "email": "a@example.com\r\nBcc: all@example.com" }), "email"),
        (json!({ "email": format!("{}@example.com", long(65)) }), "email"),
        (json!({ "email": long(321) }), "email"),
        (json!({ "display_name": long(201) }), "display_name"),
        (json!({ "display_name": "" }), "display_name"),
        (json!({ "site": "atlantis" }), "sites: default, north, south"),
        (json!({ "site": long(65) }), "site"),
        (json!({ "roles": vec!["r"; 33] }), "roles"),
        (json!({ "roles": [long(65)] }), "roles[0]"),
        (json!({ "roles": "admin" }), "roles"),
        (json!({ "locale": "english" }), "locale"),
        (json!({ "email_verified": "yes" }), "email_verified"),
        (json!({ "password_hash": "plain" }), "password_hash"),
        (
            json!({ "password_hash": "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$ouHxqfXUrRSMaTIRdcUwb8UvVUWYVYOXmmGXuNQ9bLg" }),
            "password_hash",
        ),
        (json!({ "password": "Correct-Horse-7-Battery" }), "password"),
    ] {
        let mut bed = Bed::default();
        let mut user = json!({ "id": "ada", "username": "ada", "email": "ada@example.com" });
        user.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let refusal = bed.run("user.put", json!({ "user": user })).unwrap_err();
        assert_eq!(refusal["code"], "invalid_body", "{fields}");
        let message = refusal["message"].as_str().unwrap();
        assert!(message.contains(field), "{fields}: {message}");
        assert!(!message.contains("Correct-Horse"), "{message}");
        assert_eq!(bed.world.accounts().count(), 0, "{fields}");
    }
}

#[test]
fn the_longest_that_is_accepted_is_accepted() {
    let long = |n: usize| "\u{1f600}".repeat(n);
    let email = format!("{}@{}.example.com", "x".repeat(64), "y".repeat(63));
    let mut bed = Bed::default();
    put(
        &mut bed,
        json!({
            "id": long(128), "username": long(128), "display_name": long(200), "email": email, "roles": vec![long(64); 32],
        }),
    );
    assert_eq!(bed.account(&long(128)).profile.roles.len(), 32);
}

#[test]
fn a_hash_made_elsewhere_becomes_the_password() {
    let mut bed = Bed::default();
    let hash = argon2("c29tZXNhbHRzb21lc2FsdA");
    let user = put(&mut bed, json!({ "password_hash": hash }));
    assert_eq!(user["has_password"], true);
    assert_eq!(bed.account("ada").password_hash.as_ref(), Some(&hash));
    assert_eq!(bed.mailed(), [], "nobody is told of a first password that was imported");
    // The profile without it keeps it.
    put(&mut bed, json!({}));
    assert_eq!(bed.account("ada").password_hash.as_ref(), Some(&hash));
    let refusal = bed.run(
        "user.put",
        json!({
        "user": { "id": "b", "username": "b", "email": "b@example.com", "password_hash": BCRYPT } }),
    );
    if let Err(refusal) = refusal {
        assert!(refusal["message"].as_str().unwrap().starts_with("`user.password_hash`: "), "{refusal}");
        assert!(!refusal.to_string().contains(BCRYPT));
    }
}

#[test]
fn a_hash_over_an_existing_password_is_a_change_of_password() {
    let mut bed = Bed::default();
    bed.member("ada");
    let session = bed.sign_in("ada");
    let token = bed.reset_link("ada");
    bed.quiet();
    put(
        &mut bed,
        json!({ "roles": ["member"], "email_verified": true, "password_hash": argon2("b3RoZXJzYWx0b3RoZXJzYQ") }),
    );
    assert_eq!(bed.events(), ["user.updated", "password.changed", "session.revoked"]);
    assert_eq!(bed.mailed(), [Template::PasswordChanged]);
    assert_eq!(bed.refused("password.reset.inspect", json!({ "token": token })), Code::TokenRevoked);
    assert!(!bed.account("ada").sessions[0].is_live(bed.now), "{session} has ended");
    assert_eq!(bed.account("ada").previous_hashes, [format!("hash of {GOOD}")]);
}

#[test]
fn a_first_hash_leaves_an_open_invitation_open() {
    let mut bed = Bed::default();
    bed.ok("invite.send", json!({ "user": { "id": "ada", "username": "ada", "email": "ada@example.com" } }));
    put(&mut bed, json!({ "password_hash": argon2("c29tZXNhbHRzb21lc2FsdA") }));
    assert_eq!(bed.account("ada").invitation, Invitation::Pending);
    assert_eq!(bed.ticket("ada", Purpose::Invite).state, State::Open);
    let token = bed.token("ada", Purpose::Invite);
    bed.ok("invite.accept", json!({ "token": token, "new_password": BETTER }));
}

#[test]
fn a_put_that_is_refused_leaves_everything_as_it_was() {
    let mut bed = Bed::default();
    bed.member("ada");
    bed.member("bob");
    bed.sign_in("bob");
    bed.reset_link("bob");
    let before = bed.account("bob").clone();
    let bob = json!({ "id": "bob", "username": "ada", "email": "new@example.com", "password_hash": argon2("c29tZXNhbHRzb21lc2FsdA") });
    assert_eq!(bed.refused("user.put", json!({ "user": bob })), Code::UserExists);
    assert_eq!(*bed.account("bob"), before);
}

#[test]
fn an_import_that_was_taken_over_before_brings_no_older_password_back() {
    let mut bed = Bed::default();
    let (first, second) = (argon2("c29tZXNhbHRzb21lc2FsdA"), argon2("b3RoZXJzYWx0b3RoZXJzYQ"));
    put(&mut bed, json!({ "password_hash": first }));
    // The person has chosen another one since, or signed in with it: then the daemon's own hash is there.
    bed.password("ada", GOOD);
    bed.ok("session.login", json!({ "user": { "id": "ada" }, "password": GOOD }));
    bed.quiet();
    let before = bed.account("ada").clone();
    bed.wait(60);
    put(&mut bed, json!({ "password_hash": first }));
    assert_eq!(*bed.account("ada"), before);
    assert_eq!((bed.events(), bed.mailed()), (vec![], vec![]));
    assert!(bed.details.is_empty());
    // Another import is a change; and so is the first one, once it is no longer the last.
    for (hash, events) in [(&second, 3), (&second, 0), (&first, 3)] {
        put(&mut bed, json!({ "password_hash": hash }));
        assert_eq!(bed.events().len(), events, "{hash}");
        assert_eq!(bed.account("ada").password_hash.as_ref(), Some(hash));
    }
}

#[test]
fn whether_a_new_address_is_suppressed_is_asked() {
    let mut bed = Bed::default();
    bed.world.add_suppressed(["new@example.com".to_owned()]);
    for (email, suppressed) in [("New@example.com", true), ("old@example.com", false), ("new@example.com", true)] {
        put(&mut bed, json!({ "email": email }));
        assert_eq!(bed.account("ada").suppressed, suppressed, "{email}");
        let request = json!({ "user": { "id": "ada" }, "actor": "system" });
        let answer = bed.run("password.reset.request", request);
        assert_eq!(answer.is_err(), suppressed, "{email}: {answer:?}");
    }
}
