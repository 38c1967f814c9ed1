use serde_json::{Value, json};

use crate::commands::testing::Bed;
use crate::config::{Role, Scope};
use crate::domain::rejection::Code;

const COMMAND: &str = "email.unsuppress";

fn lift(bed: &mut Bed, email: &str) -> Value {
    bed.ok(COMMAND, json!({ "email": email }))["unsuppressed"].take()
}

#[test]
fn an_address_is_mailed_again() {
    let mut bed = Bed::with_member("ada");
    bed.reset_link("ada");
    let id = bed.mails()[0].id;
    bed.ok("email.report", json!({ "email_id": id, "kind": "complained" }));
    bed.wait(60);
    bed.ok("password.reset.request", json!({ "user": { "id": "ada" } }));
    assert_eq!(bed.decision(), "suppressed");
    assert_eq!(lift(&mut bed, " ADA@Example.com "), true);
    assert_eq!((bed.touched.as_slice(), &bed.details["unsuppressed"]), (&["ada".to_owned()][..], &json!(true)));
    assert_eq!(lift(&mut bed, "ada@example.com"), false);
    bed.ok("password.reset.request", json!({ "user": { "id": "ada" } }));
    assert_eq!((bed.mails().len(), bed.decision()), (1, "sent"));
    // It can happen again.
    bed.ok("email.report", json!({ "email_id": id, "kind": "complained" }));
    assert!(bed.account("ada").suppressed);
}

#[test]
fn an_address_without_a_profile_too() {
    let mut bed = Bed::default();
    assert_eq!(lift(&mut bed, "elsewhere@example.org"), false);
    bed.world.add_suppressed(["elsewhere@example.org".to_owned()]);
    assert_eq!(lift(&mut bed, "elsewhere@example.org"), true);
    assert_eq!(bed.world.suppressions().lifted().collect::<Vec<_>>(), ["elsewhere@example.org"]);
    assert!(bed.touched.is_empty() && bed.subject_key.is_some());
}

#[test]
fn what_changes_twice_in_one_batch_ends_as_it_was_said_last() {
    let mut bed = Bed::with_member("ada");
    bed.world.account_mut("ada").unwrap().suppressed = true;
    assert_eq!(lift(&mut bed, "ada@example.com"), true);
    bed.world.set_suppressed("ada@example.com", Some("bounced"));
    // The entry that was there goes before the new one comes.
    assert_eq!(bed.world.suppressions().lifted().count(), 1);
    assert_eq!(bed.world.suppressions().added().collect::<Vec<_>>(), [("ada@example.com", "bounced")]);
    assert_eq!(lift(&mut bed, "ada@example.com"), true);
    assert_eq!(bed.world.suppressions().added().count(), 0);
}

#[test]
fn an_actor_must_reach_everybody_who_has_the_address() {
    let mut bed = Bed::default();
    bed.config.roles.insert("desk".into(), Role { permissions: vec!["email.*".to_owned()], scope: Scope::Site });
    bed.person("eve", "south", "desk");
    let profile = |id: &str, site: &str, role: &str| json!({ "user": { "id": id, "username": id, "email": "family@example.com", "site": site, "roles": [role] } });
    bed.ok("user.put", profile("ada", "south", "member"));
    let body = json!({ "email": "family@example.com", "actor": { "id": "eve" } });
    bed.world.set_suppressed("family@example.com", Some("bounced"));
    bed.ok("user.put", profile("bob", "north", "member"));
    assert_eq!(bed.refused(COMMAND, body.clone()), Code::Forbidden);
    assert_eq!(bed.touched, ["ada", "bob"]);
    bed.ok("user.put", profile("bob", "south", "admin"));
    assert_eq!(bed.refused(COMMAND, body.clone()), Code::ForbiddenTarget);
    bed.ok("user.put", profile("bob", "south", "member"));
    assert_eq!(bed.ok(COMMAND, body)["unsuppressed"], true);
    // Nobody is out of reach who does not exist.
    bed.ok(COMMAND, json!({ "email": "ghost@example.com", "actor": { "id": "eve" } }));
    "web".clone_into(&mut bed.publisher);
    assert_eq!(bed.refused(COMMAND, json!({ "email": "family@example.com" })), Code::ActorRequired);
}
