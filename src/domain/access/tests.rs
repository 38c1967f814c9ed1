use super::*;
use crate::domain::account::Profile;

const RULES: Publisher = Publisher { commands: Vec::new(), assert_actor: false, system: false };

fn publisher(commands: &[&str], assert_actor: bool, system: bool) -> Publisher {
    Publisher { commands: commands.iter().map(|c| (*c).to_owned()).collect(), assert_actor, system }
}

fn roles() -> BTreeMap<String, Role> {
    let role = |permissions: &[&str], scope| Role {
        permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
        scope,
    };
    [
        ("admin", role(&["*"], Scope::All)),
        ("helpdesk", role(&["password.reset.*"], Scope::All)),
        ("manager", role(&["user.*", "password.*"], Scope::Site)),
        ("clerk", role(&["password.reset.request"], Scope::Site)),
        ("inviter", role(&["invite.*"], Scope::Site)),
        ("resetter", role(&["password.reset.*"], Scope::Site)),
        (
            "piecework",
            role(
                &["invite.accept", "invite.inspect", "invite.resend", "invite.revoke", "invite.send", "user.put"],
                Scope::Site,
            ),
        ),
        ("member", role(&[], Scope::Site)),
    ]
    .map(|(name, role)| (name.to_owned(), role))
    .into()
}

fn person(site: &str, roles: &[&str]) -> Account {
    let profile = Profile {
        id: "p".into(),
        username: "p".into(),
        email: "p@example.com".into(),
        site: site.into(),
        roles: roles.iter().map(|r| (*r).to_owned()).collect(),
        ..Profile::default()
    };
    Account::new(profile, chrono::DateTime::UNIX_EPOCH)
}

fn outcome(result: Result<Authority, Rejection>) -> &'static str {
    match result {
        Ok(Authority::Itself) => "itself",
        Ok(Authority::System) => "system",
        Ok(Authority::Actor { everywhere: true, .. }) => "actor everywhere",
        Ok(Authority::Actor { everywhere: false, .. }) => "actor on their site",
        Err(rejection) => rejection.code.as_str(),
    }
}

#[test]
fn a_command_runs_in_the_name_of_whom_its_publisher_may_name() {
    use Audience::{Administrative as A, Either, SelfService as S};
    let (nobody, system) = (None, Some(ActorName::System));
    let named = Some(ActorName::Id("p".into()));
    let (neither, asserts, is_system) =
        (publisher(&["*"], false, false), publisher(&["*"], true, false), publisher(&["*"], false, true));
    for (audience, rules, actor, expected) in [
        (S, &neither, &nobody, "itself"),
        (S, &is_system, &nobody, "itself"),
        (S, &asserts, &named, "itself"),
        (S, &neither, &named, "publisher_not_allowed"),
        (S, &is_system, &system, "itself"),
        (S, &neither, &system, "actor_required"),
        // S/A is administrative exactly when it carries an actor, whoever the publisher is.
        (Either, &neither, &nobody, "itself"),
        (Either, &is_system, &nobody, "itself"),
        (Either, &is_system, &system, "system"),
        (Either, &asserts, &system, "actor_required"),
        (Either, &asserts, &named, "actor everywhere"),
        (Either, &is_system, &named, "publisher_not_allowed"),
        (A, &neither, &nobody, "actor_required"),
        (A, &asserts, &nobody, "actor_required"),
        (A, &is_system, &nobody, "system"),
        (A, &is_system, &system, "system"),
        (A, &asserts, &named, "actor everywhere"),
        (A, &is_system, &named, "publisher_not_allowed"),
    ] {
        let sender = Sender { name: "shop", rules: Some(rules) };
        let admin = person("north", &["admin"]);
        let found = authorise("user.put", audience, sender, actor.as_ref(), Some(&admin), &roles());
        assert_eq!(outcome(found), expected, "{audience:?} {rules:?} {actor:?}");
    }
}

#[test]
fn a_publisher_may_send_what_its_section_lists_and_nothing_else() {
    for (commands, allowed) in [
        (&["*"] as &[&str], true),
        (&["user.*"], true),
        (&["user.put"], true),
        (&["session.login", "user.put"], true),
        (&[], false),
        (&["user.puts"], false),
        (&["user.pu*"], false),
        (&["users.*"], false),
        (&["user"], false),
        (&["session.*"], false),
    ] {
        let rules = publisher(commands, false, true);
        let found = publisher_may("user.put", Sender { name: "shop", rules: Some(&rules) });
        assert_eq!(found.is_ok(), allowed, "{commands:?}");
    }
    for name in ["ghost", "*"] {
        let refusal = publisher_may("user.put", Sender { name, rules: None }).unwrap_err();
        assert_eq!(refusal.code, Code::PublisherNotAllowed);
        assert!(refusal.message.contains("[publishers."), "says where to allow it: {}", refusal.message);
    }
    assert!(publisher_may("user.put", Sender { name: "shop", rules: Some(&RULES) }).is_err(), "nobody by default");
}

#[test]
fn an_actor_exists_is_active_and_unblocked_and_holds_a_role_that_permits_the_command() {
    let rules = publisher(&["*"], true, false);
    let with = |change: fn(&mut Account)| {
        let mut actor = person("north", &["admin"]);
        change(&mut actor);
        Some(actor)
    };
    for (actor, command, expected) in [
        (None, "user.put", "forbidden"),
        (with(|_| ()), "user.put", "actor everywhere"),
        (with(|a| a.active = false), "user.put", "forbidden"),
        (with(|a| a.blocked = true), "user.put", "forbidden"),
        (with(|a| a.profile.roles.clear()), "user.put", "forbidden"),
        (with(|a| a.profile.roles = vec!["unheard-of".into()]), "user.put", "forbidden"),
        (Some(person("north", &["member"])), "user.put", "forbidden"),
        (Some(person("north", &["helpdesk"])), "user.put", "forbidden"),
        (Some(person("north", &["helpdesk"])), "password.reset.request", "actor everywhere"),
        (Some(person("north", &["manager"])), "user.put", "actor on their site"),
        (Some(person("north", &["manager"])), "session.force_logout", "forbidden"),
        // The farthest-reaching of the roles that permit it counts; one that does not permit it lends nothing.
        (Some(person("north", &["manager", "helpdesk"])), "password.reset.request", "actor everywhere"),
        (Some(person("north", &["manager", "helpdesk"])), "user.put", "actor on their site"),
    ] {
        let sender = Sender { name: "shop", rules: Some(&rules) };
        let named = Some(ActorName::Id("p".into()));
        let found = authorise(command, Audience::Administrative, sender, named.as_ref(), actor.as_ref(), &roles());
        assert_eq!(outcome(found), expected, "{command} by {actor:?}");
    }
}

#[test]
fn nobody_acts_on_other_sites_than_theirs_or_on_people_who_may_do_more() {
    for (command, actor, target, expected) in [
        ("user.put", ("north", &["admin"] as &[_]), ("south", &["admin"] as &[_]), "ok"),
        ("user.put", ("north", &["admin"]), ("south", &["manager", "helpdesk"]), "ok"),
        ("user.put", ("north", &["manager"]), ("north", &["member"]), "ok"),
        ("user.put", ("north", &["manager"]), ("north", &["unheard-of"]), "ok"),
        ("user.put", ("north", &["manager"]), ("north", &["manager", "clerk"]), "ok"),
        ("user.put", ("north", &["manager"]), ("south", &["member"]), "forbidden"),
        // A pattern covers the patterns inside it; the reach must be as far.
        ("user.put", ("north", &["manager"]), ("north", &["helpdesk"]), "forbidden_target"),
        ("user.put", ("north", &["manager"]), ("north", &["resetter"]), "ok"),
        ("user.put", ("north", &["manager"]), ("north", &["resetter", "inviter"]), "forbidden_target"),
        // What a pattern stands for may also be held one by one; all of it.
        ("user.put", ("north", &["piecework"]), ("north", &["inviter"]), "ok"),
        ("user.put", ("north", &["piecework"]), ("north", &["resetter"]), "forbidden_target"),
        ("user.put", ("north", &["piecework"]), ("north", &["manager"]), "forbidden_target"),
        ("user.put", ("north", &["manager"]), ("north", &["admin"]), "forbidden_target"),
        ("password.reset.request", ("north", &["helpdesk"]), ("south", &["clerk"]), "ok"),
        ("password.reset.request", ("north", &["helpdesk"]), ("north", &["manager"]), "forbidden_target"),
        ("password.reset.request", ("north", &["clerk"]), ("north", &["helpdesk"]), "forbidden_target"),
        // What a manager of the north may do there, a manager of the south may do elsewhere: not the same permissions.
        ("password.reset.request", ("north", &["manager", "helpdesk"]), ("north", &["manager"]), "ok"),
        ("password.reset.request", ("north", &["manager", "helpdesk"]), ("south", &["manager"]), "forbidden_target"),
        ("password.reset.request", ("north", &["manager", "helpdesk"]), ("south", &["clerk"]), "ok"),
    ] {
        let rules = publisher(&["*"], true, false);
        let sender = Sender { name: "shop", rules: Some(&rules) };
        let (acting, acted_on) = (person(actor.0, actor.1), person(target.0, target.1));
        let named = Some(ActorName::Id("p".into()));
        let authority =
            authorise(command, Audience::Administrative, sender, named.as_ref(), Some(&acting), &roles()).unwrap();
        let found = authority.may_act_on(&acted_on, &roles()).map_or_else(|r| r.code.as_str(), |()| "ok");
        assert_eq!(found, expected, "{command}: {actor:?} on {target:?}");
    }
}

#[test]
fn the_system_and_the_people_themselves_are_not_measured_by_roles() {
    let admin = person("north", &["admin"]);
    assert!(Authority::System.may_act_on(&admin, &roles()).is_ok());
    assert!(Authority::Itself.may_act_on(&admin, &roles()).is_ok());
    assert!(!Authority::Itself.is_administrative() && Authority::System.is_administrative());
}
