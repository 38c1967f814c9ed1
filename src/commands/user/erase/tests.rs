use serde_json::{Value, json};

use super::names;
use crate::commands::context::erased_key;
use crate::commands::testing::{Bed, GOOD};
use crate::domain::account::Profile;
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, Requester};
use crate::world::mailing::Begins;

fn erase() -> Value {
    json!({ "user": { "id": "ada" }, "reason": "request 4711" })
}

#[test]
fn an_erased_person_is_nobody() {
    let mut bed = Bed::with_member("ada");
    let session = bed.sign_in("ada");
    let link = bed.reset_link("ada");
    bed.world.events.clear();
    assert_eq!(bed.ok("user.erase", erase()), json!({ "erased": true }));
    let revoked: Value = serde_json::from_str(&bed.world.events[0].body).unwrap();
    assert_eq!(
        (&revoked["data"]["session_ids"], &revoked["data"]["all"], &revoked["data"]["reason"]),
        (&json!([session]), &json!(true), &json!("erased"))
    );
    assert_eq!(bed.events(), ["session.revoked", "user.erased"]);
    assert_eq!(Value::Object(bed.details.clone()), json!({ "erased_because": "request 4711", "session_epoch": 1 }));
    assert_eq!(bed.world.erased[0].id, "ada");
    for name in [json!({ "id": "ada" }), json!({ "username": "ada" }), json!({ "email": "ada@example.com" })] {
        assert_eq!(bed.refused("user.erase", json!({ "user": name, "reason": "again" })), Code::UserNotFound);
        assert_eq!(bed.refused("user.block", json!({ "user": name })), Code::UserNotFound);
        let login = json!({ "user": name, "password": GOOD });
        assert_eq!(bed.refused("session.login", login), Code::InvalidCredentials);
    }
    let complete = json!({ "token": link, "new_password": GOOD });
    assert_eq!(bed.refused("password.reset.complete", complete), Code::TokenInvalid);
    assert_eq!(bed.refused("session.logout", json!({ "session_id": session })), Code::SessionNotFound);
    assert_eq!(bed.world.erased.len(), 1);
}

#[test]
fn the_id_may_be_used_again_for_somebody_new() {
    let mut bed = Bed::with_member("ada");
    bed.sign_in("ada");
    bed.ok("user.block", json!({ "user": { "id": "ada" } }));
    bed.ok("user.erase", erase());
    bed.quiet();
    bed.wait(60);
    bed.member("ada");
    assert_eq!(bed.events(), ["user.created"]);
    let ada = bed.account("ada");
    assert!(ada.password_hash.is_none() && !ada.blocked && ada.sessions.is_empty() && ada.tickets.is_empty());
    assert_eq!(ada.created_at, bed.now);
    // Blocked, erased: a stateless session of hers is of an older epoch than any of theirs.
    assert_eq!(ada.session_epoch, 2);
}

#[test]
fn mail_of_the_same_batch_is_not_sent_and_says_nothing() {
    let mut bed = Bed::with_member("ada");
    bed.member("bob");
    bed.reset_link("ada");
    bed.reset_link("bob");
    bed.ok("user.erase", erase());
    let [hers, his] = bed.world.emails.as_slice() else { panic!() };
    assert_eq!(hers.begins, Begins::Cancelled);
    assert_eq!(hers.user_id, erased_key(&bed.keys, "ada"));
    let written = format!("{hers:?}");
    // Not "ada" alone: that is also three digits of an id.
    assert!(!["\"ada\"", "ada@", "::1"].iter().any(|theirs| written.contains(theirs)), "{written}");
    assert_eq!((his.begins, his.to.as_str()), (Begins::Queued, "bob@example.com"));
}

#[test]
fn what_they_did_for_others_stays_without_their_name() {
    let mut bed = Bed::with_member("bob");
    bed.person("ada", "default", "admin").profile.display_name = Some("Ada Lovelace".into());
    bed.ok("invite.send", json!({ "user": { "id": "bob" }, "actor": { "id": "ada" } }));
    assert_eq!(bed.world.emails[0].facts["invited_by"], "Ada Lovelace");
    bed.ok("user.erase", erase());
    let bob = &bed.world.emails[0];
    assert_eq!((bob.begins, bob.to.as_str()), (Begins::Queued, "bob@example.com"));
    assert!(!format!("{bob:?}").contains("Ada") && bob.facts.get("expires_at").is_some());
    let key = erased_key(&bed.keys, "ada");
    assert_eq!(bed.ticket("bob", Purpose::Invite).requester, Requester::Actor(key));
    // Nobody acts in the name of somebody who is no more.
    let body = json!({ "user": { "id": "bob" }, "actor": { "id": "ada" } });
    assert_eq!(bed.refused("user.block", body), Code::Forbidden);
}

#[test]
fn who_may() {
    let mut bed = Bed::with_member("ada");
    bed.person("root", "default", "admin");
    bed.person("mia", "default", "manager");
    let by =
        |actor: &str, target: &str| json!({ "user": { "id": target }, "reason": "asked", "actor": { "id": actor } });
    assert_eq!(bed.refused("user.erase", by("mia", "ada")), Code::Forbidden);
    bed.config.roles.get_mut("manager").unwrap().permissions.push("user.erase".into());
    assert_eq!(bed.refused("user.erase", by("mia", "root")), Code::ForbiddenTarget);
    bed.ok("user.erase", by("mia", "ada"));
    bed.ok("user.erase", by("root", "root"));
    bed.publisher = "web".into();
    assert_eq!(bed.refused("user.erase", json!({ "user": { "id": "mia" }, "reason": "x" })), Code::ActorRequired);
}

#[test]
fn a_shared_address_is_no_name() {
    let mut bed = Bed::with_member("ada");
    let twin = json!({ "id": "twin", "username": "twin", "email": "ada@example.com" });
    bed.ok("user.put", json!({ "user": twin }));
    let body = json!({ "user": { "email": "ada@example.com" }, "reason": "asked" });
    assert_eq!(bed.refused("user.erase", body.clone()), Code::AmbiguousUser);
    bed.ok("user.erase", erase());
    bed.ok("user.erase", body);
    assert!(bed.world.account("twin").is_none());
}

#[test]
fn a_reason_is_needed_and_is_left_out_if_it_names_the_person() {
    let mut bed = Bed::with_member("ada");
    let missing = bed.run("user.erase", json!({ "user": { "id": "ada" } })).unwrap_err();
    assert!(missing["message"].as_str().unwrap().contains("`reason`"), "{missing}");
    bed.ok("user.erase", json!({ "user": { "id": "ada" }, "reason": "ADA@example.com asked for it" }));
    assert!(!bed.details.contains_key("erased_because"));
}

#[test]
fn which_texts_name_somebody() {
    let ada = Profile {
        id: "17".into(),
        username: "countess".into(),
        email: "a@x.org".into(),
        display_name: Some("Ada Lovelace".into()),
        ..Profile::default()
    };
    for text in ["user 17 asked", "the Countess", "mail from A@X.org", "ada", "Mrs. LOVELACE's wish"] {
        assert!(names(text, &ada), "{text}");
    }
    for text in ["request 1700", "article 17b", "asked by mail", ""] {
        assert!(!names(text, &ada), "{text}");
    }
}
