//! `[publishers.<name>]` and `[roles.<name>]`: who may do what.

use std::collections::BTreeMap;

use crate::spelling::nearest;

use super::{
    Problems,
    read::check_name,
    setting::words,
    visit::{Section, Visitor, quote},
};

/// The publisher that messages without a validated `user_id` belong to.
pub const ANY_PUBLISHER: &str = "*";

/// Every command there is.
pub const COMMANDS: &[&str] = &[
    "daemon.info",
    "email.explain",
    "email.report",
    "email.resend",
    "email.unsuppress",
    "email.verification.complete",
    "email.verification.send",
    "history.activity",
    "history.emails",
    "history.passwords",
    "invite.accept",
    "invite.inspect",
    "invite.resend",
    "invite.revoke",
    "invite.send",
    "password.change",
    "password.check",
    "password.reset.cancel",
    "password.reset.complete",
    "password.reset.inspect",
    "password.reset.request",
    "password.reset.resend",
    "password.set",
    "password.temporary.issue",
    "session.check",
    "session.force_logout",
    "session.impersonate",
    "session.login",
    "session.logout",
    "user.activate",
    "user.block",
    "user.deactivate",
    "user.erase",
    "user.get",
    "user.put",
    "user.search",
    "user.unblock",
];

/// Permissions of roles that are no commands.
pub const PERMISSIONS: &[&str] = &["email.forward"];

/// `[publishers.<name>]`: an app that sends commands. The name is its broker user, or `*` for messages without one.
#[derive(Clone, Debug, Default)]
pub struct Publisher {
    /// What it may send: command names, `a.b.*` or `*`. Default: nothing.
    pub commands: Vec<String>,
    /// Whether it may say which person acts (`actor`). Default false.
    pub assert_actor: bool,
    /// Whether it may act without a person, as the system. Default false.
    pub system: bool,
}

/// `[roles.<name>]`: what the people who have this role may do to others.
#[derive(Clone, Debug, Default)]
pub struct Role {
    /// Commands: names, `a.b.*` or `*`; also `email.forward`. Default: nothing.
    pub permissions: Vec<String>,
    /// To whom. Default `all`.
    pub scope: Scope,
}

/// To whom a role's permissions apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// To everyone.
    #[default]
    All,
    /// To people of the actor's own site.
    Site,
}

words!(Scope { "all" => All, "site" => Site });

impl Section for Publisher {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("commands", &mut self.commands);
        visitor.field("assert_actor", &mut self.assert_actor);
        visitor.field("system", &mut self.system);
    }
}

impl Section for Role {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("permissions", &mut self.permissions);
        visitor.field("scope", &mut self.scope);
    }
}

/// Whether a pattern (`*`, `a.b.*`, or a name) covers a command or permission.
pub fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(start) => start.ends_with('.') && name.starts_with(start),
        None => pattern == name,
    }
}

/// Checks patterns against the names that there are: one that covers nothing is a slip of the pen.
fn check_patterns(patterns: &[String], names: &[&str], path: &str, problems: &mut Problems) {
    for pattern in patterns {
        if names.iter().any(|name| covers(pattern, name)) {
            continue;
        }
        let starts =
            names.iter().flat_map(|name| name.match_indices('.').map(|(dot, _)| format!("{}.*", &name[..dot])));
        let candidates: Vec<String> = if pattern.contains('*') {
            starts.collect()
        } else {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let advice = nearest(pattern, candidates.iter().map(String::as_str)).map_or_else(
            || r#"write a command's name, "password.reset.*" or "*""#.to_owned(),
            |name| format!("did you mean {name:?}?"),
        );
        problems.wrong(path, format!("{pattern:?} covers no command; {advice}"));
    }
}

pub(super) fn validate(
    publishers: &BTreeMap<String, Publisher>,
    roles: &BTreeMap<String, Role>,
    problems: &mut Problems,
) {
    for (name, publisher) in publishers {
        check_name("publishers", name, problems);
        let path = format!("publishers.{}.commands", quote(name));
        check_patterns(&publisher.commands, COMMANDS, &path, problems);
    }
    let permissions = [COMMANDS, PERMISSIONS].concat();
    for (name, role) in roles {
        check_name("roles", name, problems);
        let path = format!("roles.{}.permissions", quote(name));
        check_patterns(&role.permissions, &permissions, &path, problems);
    }
}

/// Reports that nobody could send anything.
pub(super) fn missing(publishers: &BTreeMap<String, Publisher>, problems: &mut Problems) {
    if publishers.values().all(|publisher| publisher.commands.is_empty()) {
        problems.say(
            "no publisher may send any command, so there is nothing to do. Write, with the broker user of your app:\n\n      \
             [publishers.shop]\n      commands = [\"password.reset.*\", \"session.*\"]\n",
        );
    }
}
