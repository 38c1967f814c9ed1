//! Who may do what to whom (contract, section 6), seen from outside: whole commands on a whole world.

use serde_json::{Value, json};

use super::testing::{Bed, GOOD};
use crate::config::{Publisher, Role, Scope};

/// Two sites with an administrator, managers of their own site, a helpdesk for all, and members.
fn bed() -> Bed {
    let mut bed = Bed::default();
    let publisher = |commands: &[&str], assert_actor, system| Publisher {
        commands: commands.iter().map(|c| (*c).to_owned()).collect(),
        assert_actor,
        system,
    };
    bed.config.publishers.extend([
        ("desk".to_owned(), publisher(&["*"], true, false)),
        ("cron".to_owned(), publisher(&["*"], false, true)),
        ("narrow".to_owned(), publisher(&["user.*", "session.login"], false, true)),
        ("idle".to_owned(), publisher(&[], true, true)),
    ]);
    let permissions = ["password.reset.*", "password.set"].map(str::to_owned).to_vec();
    bed.config.roles.insert("helpdesk".to_owned(), Role { permissions, scope: Scope::All });
    let permissions = ["user.put", "invite.send"].map(str::to_owned).to_vec();
    bed.config.roles.insert("registrar".to_owned(), Role { permissions, scope: Scope::All });
    for (id, site, role) in [
        ("root", "north", "admin"),
        ("gone", "north", "admin"),
        ("barred", "north", "admin"),
        ("mia", "north", "manager"),
        ("max", "north", "manager"),
        ("sam", "south", "manager"),
        ("hel", "north", "helpdesk"),
        ("reg", "north", "registrar"),
        ("ada", "north", "member"),
        ("bob", "south", "member"),
        ("odd", "north", "unheard-of"),
    ] {
        bed.person(id, site, role);
    }
    bed.ok("user.deactivate", json!({ "user": { "id": "gone" } }));
    bed.ok("user.block", json!({ "user": { "id": "barred" } }));
    bed
}

fn outcome(mut bed: Bed, publisher: &str, actor: &Value, target: &str, command: &str) -> String {
    let user = json!({ "id": target });
    let mut body = match command {
        "password.set" => json!({ "user": user, "new_password": GOOD }),
        "session.force_logout" => json!({ "users": [user] }),
        "session.login" => json!({ "user": user, "password": GOOD }),
        _ => json!({ "user": user }),
    };
    if !actor.is_null() {
        body["actor"] = if actor == "system" { actor.clone() } else { json!({ "id": actor }) };
    }
    publisher.clone_into(&mut bed.publisher);
    let answer = bed.run(command, body);
    answer.map_or_else(|refusal| refusal["code"].as_str().unwrap().to_owned(), |_| "ok".to_owned())
}

#[test]
fn publishers_and_actors() {
    let none = Value::Null;
    let actor = |id: &str| json!(id);
    for (publisher, actor, target, command, expected) in [
        // The publisher.
        ("nobody", none.clone(), "ada", "user.block", "publisher_not_allowed"),
        ("*", none.clone(), "ada", "user.block", "publisher_not_allowed"),
        ("idle", none.clone(), "ada", "user.block", "publisher_not_allowed"),
        ("narrow", none.clone(), "ada", "invite.send", "publisher_not_allowed"),
        ("narrow", none.clone(), "ada", "user.block", "ok"),
        // Without an actor an A command needs a system; an S command nobody.
        ("cron", none.clone(), "ada", "user.block", "ok"),
        ("cron", actor("system"), "ada", "user.block", "ok"),
        ("cron", none.clone(), "root", "user.block", "ok"),
        ("web", none.clone(), "ada", "user.block", "actor_required"),
        ("desk", none.clone(), "ada", "user.block", "actor_required"),
        ("desk", actor("system"), "ada", "user.block", "actor_required"),
        ("web", none.clone(), "ada", "session.login", "invalid_credentials"),
        ("web", none.clone(), "ada", "password.reset.request", "ok"),
        ("web", actor("system"), "ada", "password.reset.request", "actor_required"),
        // Who names an actor must be trusted to.
        ("cron", actor("root"), "ada", "user.block", "publisher_not_allowed"),
        ("web", actor("root"), "ada", "password.reset.request", "publisher_not_allowed"),
        ("desk", actor("root"), "ada", "user.block", "ok"),
        // The actor.
        ("desk", actor("ghost"), "ada", "user.block", "forbidden"),
        ("desk", actor("gone"), "ada", "user.block", "forbidden"),
        ("desk", actor("barred"), "ada", "user.block", "forbidden"),
        ("desk", actor("ada"), "ada", "user.block", "forbidden"),
        ("desk", actor("odd"), "ada", "user.block", "forbidden"),
        ("desk", actor("mia"), "ada", "user.block", "forbidden"),
        ("desk", actor("hel"), "ada", "invite.send", "forbidden"),
        // The permission, the site, the target.
        ("desk", actor("mia"), "ada", "invite.send", "ok"),
        ("desk", actor("mia"), "ada", "session.force_logout", "ok"),
        ("desk", actor("mia"), "mia", "session.force_logout", "ok"),
        ("desk", actor("mia"), "max", "session.force_logout", "ok"),
        ("desk", actor("mia"), "odd", "session.force_logout", "ok"),
        ("desk", actor("mia"), "bob", "session.force_logout", "forbidden"),
        ("desk", actor("mia"), "sam", "password.set", "forbidden"),
        ("desk", actor("mia"), "root", "session.force_logout", "forbidden_target"),
        ("desk", actor("mia"), "hel", "password.set", "forbidden_target"),
        ("desk", actor("mia"), "ghost", "session.force_logout", "ok"),
        ("desk", actor("mia"), "ghost", "password.set", "user_not_found"),
        ("desk", actor("hel"), "ada", "password.set", "ok"),
        ("desk", actor("hel"), "bob", "password.set", "ok"),
        ("desk", actor("hel"), "hel", "password.set", "ok"),
        ("desk", actor("hel"), "mia", "password.set", "forbidden_target"),
        ("desk", actor("hel"), "root", "password.reset.request", "forbidden_target"),
        ("desk", actor("root"), "root", "session.force_logout", "ok"),
        ("desk", actor("root"), "sam", "password.set", "ok"),
    ] {
        let found = outcome(bed(), publisher, &actor, target, command);
        assert_eq!(found, expected, "{publisher}: {actor} does {command} to {target}");
    }
}

#[test]
fn nobody_makes_anybody_mightier_than_themselves() {
    let profile = |id: &str, site: &str, roles: &[&str]| json!({ "id": id, "username": id, "email": format!("{id}@example.com"), "site": site, "roles": roles });
    for (actor, user, expected) in [
        ("root", profile("new", "south", &["admin"]), "ok"),
        ("reg", profile("new", "north", &[]), "ok"),
        ("reg", profile("new", "south", &["member", "registrar"]), "ok"),
        ("reg", profile("new", "north", &["manager"]), "forbidden_target"),
        ("reg", profile("new", "north", &["admin"]), "forbidden_target"),
        // Themselves, by a role or by moving house.
        ("reg", profile("reg", "north", &["registrar", "admin"]), "forbidden_target"),
        ("reg", profile("reg", "south", &["registrar"]), "ok"),
        // A manager of the north is not to become one of the south.
        ("both", profile("both", "south", &["manager", "registrar"]), "forbidden_target"),
        ("both", profile("new", "south", &["manager"]), "forbidden_target"),
        ("both", profile("new", "north", &["manager"]), "ok"),
        ("both", profile("sam", "south", &["member"]), "forbidden_target"),
        ("both", profile("max", "north", &["member"]), "ok"),
        // Somebody mightier is not to be renamed or demoted.
        ("reg", profile("root", "north", &["member"]), "forbidden_target"),
        ("reg", profile("ada", "south", &["member"]), "ok"),
        // An invitation can write a profile too.
        ("mia", profile("new", "north", &["member"]), "invite only"),
        ("mia", profile("new", "south", &["member"]), "forbidden"),
        ("mia", profile("bob", "north", &["member"]), "forbidden"),
        ("mia", profile("new", "north", &["admin"]), "forbidden"),
    ] {
        for command in ["user.put", "invite.send"] {
            let mut bed = bed();
            bed.person("both", "north", "manager").profile.roles.push("registrar".to_owned());
            let body = json!({ "user": user, "actor": { "id": actor } });
            let found =
                bed.run(command, body).map_or_else(|e| e["code"].as_str().unwrap().to_owned(), |_| "ok".to_owned());
            let expected = match (command, expected, actor) {
                ("user.put", "invite only", _) => "forbidden",
                (_, "invite only", _) => "ok",
                // Managers may not put at all; inviting, they may do no more than elsewhere.
                ("invite.send", "forbidden", "mia") if user["roles"] == json!(["admin"]) => "forbidden_target",
                (_, expected, _) => expected,
            };
            assert_eq!(found, expected, "{actor} does {command} with {user}");
        }
    }
}

#[test]
fn candidates_are_told_as_far_as_the_actor_reaches() {
    let mut bed = bed();
    for (id, site) in [("twin", "north"), ("sib", "south")] {
        let user = json!({ "id": id, "username": id, "email": "ada@example.com", "site": site });
        bed.ok("user.put", json!({ "user": user }));
    }
    let body = json!({ "user": { "email": "ada@example.com" }, "new_password": GOOD, "actor": { "id": "mia" } });
    let refusal = bed.run("password.set", body).unwrap_err();
    let candidates = json!([
        { "id": "ada", "username": "ada", "site": "north" },
        { "id": "twin", "username": "twin", "site": "north" },
    ]);
    assert_eq!((&refusal["code"], &refusal["details"]["candidates"]), (&json!("ambiguous_user"), &candidates));
}

#[test]
fn a_session_is_ended_by_whoever_reaches_its_owner() {
    for (actor, owner, expected) in
        [("mia", "ada", "ok"), ("mia", "bob", "forbidden"), ("mia", "root", "forbidden_target"), ("root", "bob", "ok")]
    {
        let mut bed = bed();
        let session = bed.sign_in(owner);
        let body = json!({ "session_id": session, "actor": { "id": actor } });
        let found = bed.run("session.force_logout", body);
        let found = found.map_or_else(|e| e["code"].as_str().unwrap().to_owned(), |_| "ok".to_owned());
        assert_eq!(found, expected, "{actor} on {owner}");
        assert_eq!(bed.touched, [owner]);
        assert_eq!(bed.account(owner).has_live_session(bed.now), expected != "ok");
    }
}
