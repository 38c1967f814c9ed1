//! Who may do what: publishers, actors, roles, sites; in one readable place.

use std::collections::BTreeMap;

use crate::config::{COMMANDS, PERMISSIONS, Publisher, Role, Scope, covers};

use super::account::Account;
use super::rejection::{Code, Rejection};
use super::ticket::Requester;

/// In whose name systems act, as bodies and histories say it. No profile has this id.
pub const SYSTEM: &str = "system";

/// For whom a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// S: the person themselves; an `actor` is noted but needs no permission.
    SelfService,
    /// A: support or a system.
    Administrative,
    /// S/A: administrative exactly when the body has an `actor`.
    Either,
}

/// The `actor` of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActorName {
    /// `"system"`.
    System,
    /// `{"id": …}`.
    Id(String),
}

/// In whose name a command runs, and how far that reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// The person themselves.
    Itself,
    /// An upstream system: everything that its publisher may send.
    System,
    /// A person of support.
    Actor {
        /// Who.
        id: String,
        /// Everything they may do.
        grants: Vec<Grant>,
        /// The site that they belong to.
        home: String,
        /// Whether the command at hand may reach people of other sites too.
        everywhere: bool,
    },
}

/// A permission and how far it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// `*`, `a.b.*` or a command's name.
    pub pattern: String,
    /// Every site, or the holder's own.
    pub scope: Scope,
}

/// What an account's roles grant. A role that the configuration does not name grants nothing.
pub fn grants(account: &Account, roles: &BTreeMap<String, Role>) -> Vec<Grant> {
    grants_of(&account.profile.roles, roles)
}

/// What a list of roles grants.
pub fn grants_of(names: &[String], roles: &BTreeMap<String, Role>) -> Vec<Grant> {
    names
        .iter()
        .filter_map(|name| roles.get(name))
        .flat_map(|role| role.permissions.iter().map(|pattern| Grant { pattern: pattern.clone(), scope: role.scope }))
        .collect()
}

/// Whether every permission in `theirs` is also in `own`, as far reaching. What reaches one site only is the same only if
/// both belong to it.
pub fn is_subset(theirs: &[Grant], own: &[Grant], same_site: bool) -> bool {
    let reaches_as_far = |o: Scope, t: Scope| o == Scope::All || (t == Scope::Site && same_site);
    let holds = |name: &str, scope| own.iter().any(|o| covers(&o.pattern, name) && reaches_as_far(o.scope, scope));
    // A pattern stands for what it covers: somebody may hold all of that one by one.
    let holds_each = |t: &Grant| {
        let mut names = COMMANDS.iter().chain(PERMISSIONS).filter(|name| covers(&t.pattern, name));
        names.all(|name| holds(name, t.scope))
    };
    theirs.iter().all(|t| holds(&t.pattern, t.scope) || holds_each(t))
}

/// A message's publisher: the name that the broker validated, and its section of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// `user_id`, or `*` for a message without one.
    pub name: &'a str,
    /// `[publishers.<name>]`.
    pub rules: Option<&'a Publisher>,
}

/// Decides in whose name `command` runs.
///
/// # Errors
/// `publisher_not_allowed`, `actor_required`, `forbidden`.
pub fn authorise(
    command: &str,
    audience: Audience,
    sender: Sender<'_>,
    named: Option<&ActorName>,
    actor: Option<&Account>,
    roles: &BTreeMap<String, Role>,
) -> Result<Authority, Rejection> {
    let publisher = publisher_may(command, sender)?;
    match (audience, named) {
        (Audience::SelfService | Audience::Either, None) => Ok(Authority::Itself),
        (_, Some(ActorName::Id(id))) => {
            if !publisher.assert_actor {
                return Err(Rejection::new(
                    Code::PublisherNotAllowed,
                    format!(
                        "publisher `{}` may not name an actor; set assert_actor = true in its section if it should",
                        sender.name
                    ),
                ));
            }
            if audience == Audience::SelfService {
                return Ok(Authority::Itself);
            }
            actor_may(command, id, actor, roles)
        }
        (audience, None | Some(ActorName::System)) => {
            if !publisher.system {
                return Err(Rejection::new(
                    Code::ActorRequired,
                    format!(
                        "`{command}` needs an actor: name the person who acts, or let publisher `{}` be a system",
                        sender.name
                    ),
                ));
            }
            Ok(if audience == Audience::SelfService { Authority::Itself } else { Authority::System })
        }
    }
}

/// Whether the publisher may send this command at all.
///
/// # Errors
/// `publisher_not_allowed`.
pub fn publisher_may<'a>(command: &str, sender: Sender<'a>) -> Result<&'a Publisher, Rejection> {
    let Some(rules) = sender.rules else {
        let message = if sender.name == "*" {
            "the message has no user_id and there is no section [publishers.\"*\"]".to_owned()
        } else {
            format!("there is no section [publishers.{}]", sender.name)
        };
        return Err(Rejection::new(Code::PublisherNotAllowed, message));
    };
    if rules.commands.iter().any(|pattern| covers(pattern, command)) {
        Ok(rules)
    } else {
        Err(Rejection::new(Code::PublisherNotAllowed, format!("publisher `{}` may not send `{command}`", sender.name)))
    }
}

fn actor_may(
    command: &str,
    id: &str,
    actor: Option<&Account>,
    roles: &BTreeMap<String, Role>,
) -> Result<Authority, Rejection> {
    let forbidden = |why: &str| Rejection::new(Code::Forbidden, why.to_owned());
    let Some(actor) = actor else {
        return Err(forbidden("the actor is not known"));
    };
    if !actor.active || actor.blocked {
        return Err(forbidden("the actor is deactivated or blocked"));
    }
    let grants = grants(actor, roles);
    let mut scopes = grants.iter().filter(|g| covers(&g.pattern, command)).map(|g| g.scope).peekable();
    if scopes.peek().is_none() {
        return Err(forbidden("none of the actor's roles permits this command"));
    }
    let everywhere = scopes.any(|scope| scope == Scope::All);
    Ok(Authority::Actor { id: id.to_owned(), grants, home: actor.profile.site.clone(), everywhere })
}

impl Authority {
    /// Whether this is support or a system, not the person themselves.
    pub fn is_administrative(&self) -> bool {
        *self != Self::Itself
    }

    /// Who asked, for tickets.
    pub fn requester(&self) -> Requester {
        match self {
            Self::Itself => Requester::Itself,
            Self::System => Requester::System,
            Self::Actor { id, .. } => Requester::Actor(id.clone()),
        }
    }

    /// Whether it reaches a person with these roles on this site.
    ///
    /// # Errors
    /// `forbidden` for another site, `forbidden_target` for somebody who may do more.
    pub fn reaches(
        &self,
        site: &str,
        roles_of_target: &[String],
        roles: &BTreeMap<String, Role>,
    ) -> Result<(), Rejection> {
        let Self::Actor { grants, home, everywhere, .. } = self else {
            return Ok(());
        };
        if !everywhere && home != site {
            return Err(Rejection::new(Code::Forbidden, "the actor's role is limited to their own site"));
        }
        if !is_subset(&grants_of(roles_of_target, roles), grants, home == site) {
            return Err(Rejection::new(Code::ForbiddenTarget, "this person may do things that the actor may not"));
        }
        Ok(())
    }

    /// Whether it holds a permission that is no command, for people of this site.
    pub fn may(&self, permission: &str, site: &str) -> bool {
        let Self::Actor { grants, home, .. } = self else {
            return *self == Self::System;
        };
        grants.iter().any(|g| covers(&g.pattern, permission) && (g.scope == Scope::All || home == site))
    }

    /// The only site that it sees: the one that is asked for, or the one that its role is limited to.
    ///
    /// # Errors
    /// `forbidden` for another site than its own.
    pub fn site<'a>(&'a self, wanted: Option<&'a str>) -> Result<Option<&'a str>, Rejection> {
        match self {
            Self::Actor { home, everywhere: false, .. } if wanted.is_none_or(|site| site == home) => Ok(Some(home)),
            Self::Actor { everywhere: false, .. } => {
                Err(Rejection::new(Code::Forbidden, "the actor's role is limited to their own site"))
            }
            _ => Ok(wanted),
        }
    }

    /// Whether it reaches people of every site.
    pub fn is_everywhere(&self) -> bool {
        !matches!(self, Self::Actor { everywhere: false, .. })
    }

    /// Whether it may act on this account.
    ///
    /// # Errors
    /// As [`Self::reaches`].
    pub fn may_act_on(&self, target: &Account, roles: &BTreeMap<String, Role>) -> Result<(), Rejection> {
        self.reaches(&target.profile.site, &target.profile.roles, roles)
    }
}

#[cfg(test)]
mod tests;
