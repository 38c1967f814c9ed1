use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::commands::testing::{BETTER, Bed, Change, GOOD};
use crate::config::{Role, Scope};
use crate::domain::account::{Invitation, Status};
use crate::domain::rejection::Code;
use crate::domain::ticket::Purpose;
use crate::mail::catalogue::Template;

const COMMAND: &str = "password.temporary.issue";

fn body() -> Value {
    json!({ "user": { "id": "ada" } })
}

fn create(user: &Value) -> Value {
    json!({ "create": user })
}

fn issue(bed: &mut Bed, body: Value) -> String {
    bed.ok(COMMAND, body)["temporary_password"].as_str().unwrap().to_owned()
}

fn sign_in(bed: &mut Bed, password: &str) -> Result<Value, Value> {
    bed.run("session.login", json!({ "user": { "id": "ada" }, "password": password }))
}

fn code(answer: Result<Value, Value>) -> String {
    answer.map_or_else(|refusal| refusal["code"].as_str().unwrap().to_owned(), |_| "ok".to_owned())
}

#[test]
fn it_is_told_once_and_only_serves_to_choose_a_new_one() {
    let mut bed = Bed::with_member("ada");
    bed.config.manual_entry.allowed = false;
    bed.sign_in("ada");
    let link = bed.reset_link("ada");
    bed.quiet();
    let mut issued = bed.ok(COMMAND, body());
    let password = issued["temporary_password"].take().as_str().unwrap().to_owned();
    assert_eq!(
        issued,
        json!({ "temporary_password": null, "expires_at": "2027-01-18T08:00:00.000Z", "created": false })
    );
    assert_eq!((password.chars().count(), bed.told_once.as_slice()), (20, &[password.clone()][..]));
    assert_eq!((bed.work.as_slice(), bed.touched.as_slice()), (&["hash"][..], &["ada".to_owned()][..]));
    let written = format!("{:?} {:?} {:?}", bed.world.emails, bed.world.events, bed.details);
    assert!(!written.contains(&password), "{written}");
    assert_eq!(bed.events(), ["password.changed", "session.revoked", "password.temporary.issued"]);
    let mail = bed.mails();
    assert_eq!((mail.len(), mail[0].template), (1, Template::TemporaryPasswordIssued));
    assert!(mail[0].facts["expires_at"].as_str().unwrap().starts_with("2027-01-18T08:00:00"));
    assert_eq!(bed.account("ada").status(bed.now), Status::ForcePasswordReset);
    assert!(!bed.account("ada").has_live_session(bed.now));
    assert_eq!(bed.refused("password.reset.inspect", json!({ "token": link })), Code::TokenRevoked);
    assert_eq!(code(sign_in(&mut bed, GOOD)), "invalid_credentials", "the old one is unusable");
    assert_eq!(code(sign_in(&mut bed, &password.to_lowercase())), "invalid_credentials", "upper and lower case differ");
    let refusal = sign_in(&mut bed, &password).unwrap_err();
    assert_eq!(refusal["code"], "password_change_required");
    let change = json!({ "change_token": refusal["details"]["change_token"], "new_password": BETTER });
    bed.ok("password.change", change);
    assert_eq!(code(sign_in(&mut bed, BETTER)), "ok");
    assert_eq!(code(sign_in(&mut bed, &password)), "invalid_credentials");
}

#[test]
fn the_event_says_that_the_change_is_temporary() {
    let mut bed = Bed::with_member("ada");
    bed.ok(COMMAND, body());
    let data = |at: usize| serde_json::from_str::<Value>(&bed.world.events[at].body).unwrap()["data"].clone();
    assert_eq!((&data(0)["by"], &data(0)["temporary"]), (&json!("admin"), &json!(true)));
    assert_eq!(data(1)["expires_at"], "2027-01-18T08:00:00.000Z");
}

#[test]
fn only_the_newest_works_for_its_lifetime() {
    let mut bed = Bed::with_member("ada");
    let old = issue(&mut bed, body());
    let new = issue(&mut bed, body());
    assert_ne!(old, new);
    assert_eq!(code(sign_in(&mut bed, &old)), "invalid_credentials");
    assert_eq!(code(sign_in(&mut bed, &new)), "password_change_required");
    bed.wait(72 * 3600 - 1);
    assert_eq!(code(sign_in(&mut bed, &new)), "password_change_required");
    bed.wait(1);
    assert_eq!(code(sign_in(&mut bed, &new)), "temporary_password_expired");
    assert_eq!(code(sign_in(&mut bed, &old)), "invalid_credentials");
    // Who waited too long gets another one.
    let third = issue(&mut bed, body());
    assert_eq!(code(sign_in(&mut bed, &third)), "password_change_required");
    bed.check_invariants();
}

#[test]
fn its_lifetime_counts_from_when_support_asked() {
    let mut bed = Bed::with_member("ada");
    bed.config.temporary_password.lifetime = std::time::Duration::from_secs(3600);
    bed.requested_at = Some(bed.now - chrono::TimeDelta::minutes(20));
    assert_eq!(bed.ok(COMMAND, body())["expires_at"], "2027-01-15T08:40:00.000Z");
}

#[test]
fn while_it_is_pending_no_emailed_reset_is_usable() {
    let mut bed = Bed::with_member("ada");
    let link = bed.reset_link("ada");
    bed.wait(60);
    let digits = bed.reset_code("ada");
    issue(&mut bed, body());
    bed.quiet();
    let by_link = json!({ "token": link, "new_password": BETTER });
    assert_eq!(bed.refused("password.reset.complete", by_link), Code::TokenSuperseded);
    let by_code = json!({ "user": { "id": "ada" }, "code": digits, "new_password": BETTER });
    assert_eq!(bed.refused("password.reset.complete", by_code), Code::TokenRevoked);
    bed.wait(60);
    for _ in 0..2 {
        assert_eq!(bed.ok("password.reset.request", body()), json!({ "accepted": true }));
        assert_eq!(bed.decision(), "temporary_password_pending");
        // Also when nobody can use it any more: only support can help.
        bed.wait(73 * 3600);
    }
    assert!(bed.mails().is_empty() && bed.events().is_empty());
    let mut by_support = body();
    by_support["actor"] = json!("system");
    assert_eq!(bed.refused("password.reset.request", by_support), Code::PasswordChangeRequired);
    bed.check_invariants();
}

#[test]
fn a_person_can_be_created_with_it() {
    let mut bed = Bed::default();
    let ivy = json!({ "id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada" });
    let issued = bed.ok(COMMAND, create(&ivy));
    assert_eq!((&issued["created"], bed.touched.as_slice()), (&json!(true), &["ada".to_owned()][..]));
    assert_eq!(bed.events(), ["user.created", "password.changed", "password.temporary.issued"]);
    assert_eq!(bed.mailed(), [Template::TemporaryPasswordIssued]);
    let password = issued["temporary_password"].as_str().unwrap();
    assert_eq!(code(sign_in(&mut bed, password)), "password_change_required");
    // Once more: the profile is replaced, as by user.put.
    let renamed = json!({ "id": "ada", "username": "countess", "email": "ada@example.com" });
    assert_eq!(bed.ok(COMMAND, create(&renamed))["created"], false);
    assert_eq!(bed.account("ada").profile.username, "countess");
    bed.check_invariants();
}

#[test]
fn a_profile_that_cannot_be_put_gets_no_password() {
    let mut bed = Bed::with_member("bob");
    for (user, expected, names) in [
        (json!({ "id": "ada", "username": "BOB", "email": "ada@example.com" }), "user_exists", ""),
        (json!({ "id": "ada", "username": "ada", "email": "no address" }), "invalid_body", "`create.email`"),
        (
            json!({ "id": "ada", "username": "ada", "email": "a@example.com", "site": "x" }),
            "invalid_body",
            "`create.site`",
        ),
        (
            json!({ "id": "ada", "username": "ada", "email": "a@example.com", "nick": "x" }),
            "invalid_body",
            "`create.nick`",
        ),
    ] {
        let refusal = bed.run(COMMAND, create(&user)).unwrap_err();
        assert_eq!(refusal["code"], expected);
        assert!(refusal["message"].as_str().unwrap().contains(names), "{refusal}");
        assert!(bed.world.account("ada").is_none());
    }
    for wrong in [
        json!({}),
        json!({ "user": { "id": "bob" }, "create": { "id": "ada", "username": "ada", "email": "a@example.com" } }),
    ] {
        assert_eq!(bed.refused(COMMAND, wrong), Code::InvalidBody);
    }
    assert_eq!(bed.refused(COMMAND, body()), Code::UserNotFound);
}

#[test]
fn it_makes_an_invitation_superfluous() {
    let mut bed = Bed::default();
    bed.ok("invite.send", json!({ "user": { "id": "ada", "username": "ada", "email": "ada@example.com" } }));
    let token = bed.token("ada", Purpose::Invite);
    issue(&mut bed, body());
    assert_eq!(bed.account("ada").invitation, Invitation::None);
    assert_eq!(bed.refused("invite.accept", json!({ "token": token, "new_password": BETTER })), Code::TokenRevoked);
    assert_eq!(bed.refused("invite.send", body()), Code::AlreadyAccepted);
    assert_eq!(bed.refused("invite.resend", body()), Code::NoInvite);
    assert!(!bed.account("ada").email_verified, "it proves no mailbox");
}

#[test]
fn it_neither_unblocks_nor_activates() {
    let change: Change = |a| (a.blocked, a.active) = (true, false);
    let mut bed = Bed::with_member("ada");
    change(bed.world.account_mut("ada").unwrap());
    let issued = bed.ok(COMMAND, body());
    assert_eq!(issued["warnings"], json!(["user_blocked", "user_inactive"]));
    assert_eq!(code(sign_in(&mut bed, issued["temporary_password"].as_str().unwrap())), "user_blocked");
}

#[test]
fn it_ends_a_lockout() {
    let mut bed = Bed::with_member("ada");
    bed.password("ada", GOOD);
    for _ in 0..10 {
        sign_in(&mut bed, "wrong").unwrap_err();
    }
    let password = issue(&mut bed, body());
    assert_eq!(code(sign_in(&mut bed, &password)), "password_change_required");
}

#[test]
fn it_comes_sealed_to_the_callers_key() {
    let mut bed = Bed::with_member("ada");
    bed.config.secrets.require_sealed = true;
    assert_eq!(bed.refused(COMMAND, body()), Code::SealedRequired);
    let key = bed.keys.sealing_key();
    let mut sealed = body();
    sealed["reply_key"] = json!(key.public_key);
    let told = bed.ok(COMMAND, sealed)["temporary_password"].clone();
    assert_eq!(told.as_object().unwrap().len(), 1);
    let password = bed.keys.unseal(&key.key_id, told["sealed"].as_str().unwrap()).unwrap();
    let hash = format!("hash of {}", password.expose_secret());
    assert_eq!(bed.account("ada").password_hash.as_deref(), Some(hash.as_str()), "what is told is what was hashed");
    assert_eq!(bed.told_once.len(), 1);
    bed.config.secrets.require_sealed = false;
    for wrong in ["", "AAAA", "not base64!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
        let mut sealed = body();
        sealed["reply_key"] = json!(wrong);
        let refusal = bed.run(COMMAND, sealed).unwrap_err();
        assert_eq!(refusal["code"], "invalid_body");
        assert!(refusal["message"].as_str().unwrap().starts_with("reply_key is not"), "{refusal}");
        assert!(bed.work.is_empty(), "refused before anything is hashed");
    }
}

#[test]
fn nobody_gives_one_to_somebody_mightier() {
    let mut bed = Bed::default();
    let role = Role { permissions: vec![COMMAND.to_owned()], scope: Scope::Site };
    bed.config.roles.insert("desk".to_owned(), role);
    for (id, site, role) in
        [("dot", "north", "desk"), ("ada", "north", "member"), ("bob", "south", "member"), ("root", "north", "admin")]
    {
        bed.person(id, site, role);
    }
    let new = |site: &str, role: &str| json!({ "create": { "id": "new", "username": "new", "email": "new@example.com", "site": site, "roles": [role] } });
    let old = |id: &str| json!({ "user": { "id": id } });
    let rename =
        |id: &str| json!({ "create": { "id": id, "username": id, "email": "x@example.com", "site": "north" } });
    for (mut command, expected) in [
        (old("ada"), "ok"),
        (old("bob"), "forbidden"),
        (old("root"), "forbidden_target"),
        (rename("root"), "forbidden_target"),
        (rename("bob"), "forbidden"),
        (new("south", "member"), "forbidden"),
        (new("north", "admin"), "forbidden_target"),
        (new("north", "member"), "ok"),
    ] {
        command["actor"] = json!({ "id": "dot" });
        let shown = command.to_string();
        assert_eq!(code(bed.run(COMMAND, command)), expected, "{shown}");
    }
}

#[test]
fn one_that_comes_too_late_changes_nothing() {
    let mut bed = Bed::with_member("ada");
    bed.password("ada", GOOD);
    bed.requested_at = Some(bed.now - chrono::TimeDelta::hours(72));
    let refusal = bed.run(COMMAND, body()).unwrap_err();
    assert_eq!(refusal["code"], "expired");
    assert!(refusal["message"].as_str().unwrap().contains("2027-01-12T08:00:00.000Z"), "{refusal}");
    // Where there is no password that it could replace, it is one that has expired.
    let bob = json!({ "id": "bob", "username": "bob", "email": "bob@example.com" });
    assert_eq!(bed.ok(COMMAND, create(&bob))["expires_at"], "2027-01-15T08:00:00.000Z");
    bed.requested_at = None;
    assert_eq!(code(sign_in(&mut bed, GOOD)), "ok");
}

#[test]
fn an_older_one_that_comes_late_leaves_the_newest_at_work() {
    for late in [
        (COMMAND, body()),
        ("password.set", json!({ "user": { "id": "ada" }, "new_password": BETTER, "temporary": true })),
    ] {
        let mut bed = Bed::with_member("ada");
        let newest = issue(&mut bed, body());
        bed.wait(600);
        bed.requested_at = Some(bed.now - chrono::TimeDelta::hours(1));
        // Whatever lifetimes are by now.
        bed.config.temporary_password.lifetime *= 2;
        assert_eq!(bed.run(late.0, late.1.clone()).unwrap_err()["code"], "expired");
        bed.requested_at = None;
        let refusal = sign_in(&mut bed, &newest).unwrap_err();
        assert_eq!(refusal["code"], "password_change_required");
        // What was asked for later replaces it, however short it lives.
        bed.config.temporary_password.lifetime /= 100;
        bed.ok(late.0, late.1);
        // Nothing is newer than what the person has chosen since.
        let token = if late.0 == COMMAND { None } else { Some(sign_in(&mut bed, BETTER).unwrap_err()) };
        if let Some(refusal) = token {
            let change = json!({ "change_token": refusal["details"]["change_token"], "new_password": GOOD });
            bed.ok("password.change", change);
            bed.requested_at = Some(bed.now - chrono::TimeDelta::minutes(1));
            bed.ok(COMMAND, body());
        }
    }
}
