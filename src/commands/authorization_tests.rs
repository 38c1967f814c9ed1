//! Who may do what to whom, seen from outside: whole commands on a whole world.

use serde_json::{Value, json};

use super::Lane;
use super::testing::{Bed, GOOD};
use crate::config::{COMMANDS, Publisher, Role, Scope};
use crate::domain::access::{ActorName, Audience, Sender, authorise};

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
    let permissions = ["user.put", "invite.send", "password.temporary.issue"].map(str::to_owned).to_vec();
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
        for (command, field) in [("user.put", "user"), ("invite.send", "user"), ("password.temporary.issue", "create")]
        {
            let mut bed = bed();
            bed.person("both", "north", "manager").profile.roles.push("registrar".to_owned());
            let body = json!({ field: user, "actor": { "id": actor } });
            let found =
                bed.run(command, body).map_or_else(|e| e["code"].as_str().unwrap().to_owned(), |_| "ok".to_owned());
            let expected = match (command, expected, actor) {
                ("invite.send", "invite only", _) => "ok",
                (_, "invite only", _) => "forbidden",
                // Managers may do nothing else with profiles; inviting, they may do no more than elsewhere.
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

/// A body of an administrative command about somebody, after what must have happened before.
fn about(bed: &mut Bed, command: &str, target: &str) -> Value {
    let user = json!({ "id": target });
    match command {
        "user.put" => {
            let profile = &bed.account(target).profile;
            let (site, roles) = (&profile.site, &profile.roles);
            let email = format!("{target}@example.com");
            json!({ "user": { "id": target, "username": target, "email": email, "site": site, "roles": roles } })
        }
        "user.erase" | "session.impersonate" => json!({ "user": user, "reason": "they asked for it" }),
        "user.activate"
        | "user.deactivate"
        | "user.block"
        | "user.unblock"
        | "password.reset.request"
        | "password.temporary.issue"
        | "invite.send" => json!({ "user": user }),
        "password.set" => json!({ "user": user, "new_password": GOOD }),
        "email.verification.send" => {
            bed.world.account_mut(target).unwrap().email_verified = false;
            json!({ "user": user })
        }
        "invite.resend" | "invite.revoke" => {
            bed.ok("invite.send", json!({ "user": user }));
            json!({ "user": user })
        }
        "password.reset.resend" | "email.resend" | "email.report" => {
            bed.mails();
            bed.ok("password.reset.request", json!({ "user": user, "actor": "system" }));
            let mail = bed.mails().remove(0).id;
            match command {
                "password.reset.resend" => json!({ "user": user }),
                "email.resend" => json!({ "email_id": mail }),
                _ => json!({ "email_id": mail, "kind": "delivered" }),
            }
        }
        "email.unsuppress" => json!({ "email": format!("{target}@example.com") }),
        "session.force_logout" => json!({ "users": [user] }),
        other => panic!("say here how somebody does `{other}` to somebody, so that it is known to check who may"),
    }
}

/// Every administrative command: it checks the publisher, the actor, the site and the target.
#[test]
fn no_command_forgets_to_ask_who_may() {
    let administrative = super::ALL.iter().filter(|spec| spec.audience != Audience::SelfService);
    for spec in administrative.filter(|spec| spec.lane != Lane::Queries) {
        let command = spec.name;
        let role = |permissions: &[&str], scope| Role {
            permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
            scope,
        };
        let all_others: Vec<&str> = COMMANDS.iter().copied().filter(|name| *name != command).collect();
        let outcome = |publisher: &str, actor: &Value, target: &str| {
            let mut bed = bed();
            bed.config.roles.extend([
                ("able".to_owned(), role(&[command], Scope::All)),
                ("local".to_owned(), role(&[command], Scope::Site)),
                ("unable".to_owned(), role(&all_others, Scope::All)),
            ]);
            for id in ["able", "local", "unable"] {
                bed.person(id, "north", id);
            }
            let mut body = about(&mut bed, command, target);
            if !actor.is_null() {
                body["actor"] = if actor == "system" { actor.clone() } else { json!({ "id": actor }) };
            }
            publisher.clone_into(&mut bed.publisher);
            bed.run(command, body).map_or_else(|refusal| refusal["code"].as_str().unwrap().to_owned(), |_| "ok".into())
        };
        let (none, by) = (Value::Null, |id: &str| json!(id));
        // An S/A command without an actor is the person's own.
        let alone = if spec.audience == Audience::Either { "ok" } else { "actor_required" };
        for (publisher, actor, target, expected) in [
            ("nobody", none.clone(), "ada", "publisher_not_allowed"),
            ("nobody", by("root"), "ada", "publisher_not_allowed"),
            ("idle", none.clone(), "ada", "publisher_not_allowed"),
            ("idle", by("root"), "ada", "publisher_not_allowed"),
            ("cron", by("root"), "ada", "publisher_not_allowed"),
            ("cron", by("system"), "root", "ok"),
            ("desk", none.clone(), "ada", alone),
            ("desk", by("system"), "ada", "actor_required"),
            ("desk", by("ghost"), "ada", "forbidden"),
            ("desk", by("gone"), "ada", "forbidden"),
            ("desk", by("barred"), "ada", "forbidden"),
            ("desk", by("ada"), "ada", "forbidden"),
            ("desk", by("odd"), "ada", "forbidden"),
            ("desk", by("unable"), "ada", "forbidden"),
            ("desk", by("root"), "ada", "ok"),
            ("desk", by("root"), "root", "ok"),
            // The one permission is enough, for everybody who may do no more.
            ("desk", by("able"), "ada", "ok"),
            ("desk", by("able"), "bob", "ok"),
            ("desk", by("able"), "local", "ok"),
            ("desk", by("able"), "unable", "forbidden_target"),
            ("desk", by("able"), "root", "forbidden_target"),
            ("desk", by("local"), "ada", "ok"),
            ("desk", by("local"), "bob", "forbidden"),
            ("desk", by("local"), "able", "forbidden_target"),
        ] {
            assert_eq!(outcome(publisher, &actor, target), expected, "{publisher}: {actor} does {command} to {target}");
        }
    }
}

/// Every command, queries too: what is asked before it even starts. (The targets of queries: `tests/it/rights.rs`.)
#[test]
fn every_command_asks_for_publisher_and_actor_first() {
    let bed = bed();
    let sender = |name| Sender { name, rules: bed.config.publishers.get(name) };
    let (root, ada) = (bed.account("root"), bed.account("ada"));
    let named = |id: &str| Some(ActorName::Id(id.to_owned()));
    for spec in super::ALL {
        let run = |publisher, actor: &Option<ActorName>, account| {
            let found =
                authorise(spec.name, spec.audience, sender(publisher), actor.as_ref(), account, &bed.config.roles);
            found.map_or_else(|refusal| refusal.code.as_str(), |_| "ok")
        };
        for publisher in ["nobody", "idle"] {
            for (actor, account) in [(None, None), (Some(ActorName::System), None), (named("root"), Some(root))] {
                assert_eq!(run(publisher, &actor, account), "publisher_not_allowed", "{publisher} {}", spec.name);
            }
        }
        let own = spec.audience == Audience::SelfService;
        let expect = |own_answer, other| if own { own_answer } else { other };
        assert_eq!(run("cron", &named("root"), Some(root)), "publisher_not_allowed", "{}", spec.name);
        assert_eq!(run("desk", &Some(ActorName::System), None), "actor_required", "{}", spec.name);
        assert_eq!(run("cron", &Some(ActorName::System), None), "ok", "{}", spec.name);
        assert_eq!(run("cron", &None, None), "ok", "{}", spec.name);
        assert_eq!(run("desk", &named("root"), Some(root)), "ok", "{}", spec.name);
        assert_eq!(run("desk", &named("ada"), Some(ada)), expect("ok", "forbidden"), "{}", spec.name);
        assert_eq!(run("desk", &named("ghost"), None), expect("ok", "forbidden"), "{}", spec.name);
        let alone = if spec.audience == Audience::Administrative { "actor_required" } else { "ok" };
        assert_eq!(run("desk", &None, None), alone, "{}", spec.name);
    }
}
