//! Erasing a person: what the batch that does it must not write any more, and what may stay in histories.
//!
//! What is stored already is cleaned by [`crate::store::erasure`], in the same transaction.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::access::SYSTEM;
use crate::domain::ticket::Requester;

use super::mailing::{Begins, NewEmail};
use super::{NewActivity, World};

/// Somebody whose data goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// The id under which rows are found.
    pub id: String,
    /// What stands for it from now on.
    pub key: String,
    /// Rows with a larger id are of somebody who was given the same id later.
    pub until: Uuid,
    /// The address, in comparison form.
    pub email_key: String,
}

/// Under what the activity log keeps why somebody was erased; it does not name them.
pub const REASON: &str = "erased_because";

/// Under what it keeps the epoch with which somebody begins who is given the same id.
pub const EPOCH: &str = "session_epoch";

/// Details of the activity log that hold a word of a fixed list: they tell nothing about a person.
const WORDS: [&str; 9] = ["decision", "kind", "method", "outcome", "purpose", "state", "template", "verdict", REASON];

impl Erased {
    /// What may stay of the details of a command: words of fixed lists, numbers, ids that the daemon made.
    pub fn harmless(&self, details: &Value) -> Value {
        let Value::Object(details) = details else { return Value::Object(Map::new()) };
        let made_here = |text: &str| Uuid::parse_str(text).is_ok() && text != self.id;
        let keep = |(name, value): &(&String, &Value)| match value {
            Value::Bool(_) | Value::Number(_) => true,
            Value::String(text) => (WORDS.contains(&name.as_str()) && *text != self.id) || made_here(text),
            _ => false,
        };
        Value::Object(details.iter().filter(keep).map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// Under what the person acted: nobody's own is the name under which systems do.
    pub fn actor(&self) -> Option<&str> {
        Some(self.id.as_str()).filter(|id| *id != SYSTEM)
    }

    /// Takes the person out of a row that is about to be written; says whether it was about them.
    pub fn redact(&self, row: &mut NewActivity) -> bool {
        if row.actor.is_some() && row.actor.as_deref() == self.actor() {
            row.actor = Some(self.key.clone());
            row.ip = None;
            row.command_id = None;
        }
        if row.user_id.as_deref() != Some(&self.id) {
            return false;
        }
        row.user_id = Some(self.key.clone());
        row.command_id = None;
        row.ip = None;
        row.subject_key = None;
        row.details = self.harmless(&row.details);
        true
    }
}

impl World {
    /// Takes a person out of the world: the commands that follow do not find them, and nothing of what went before is
    /// written under their name. Says whether they were there.
    pub fn erase(&mut self, erased: Erased) -> bool {
        let Some(account) = self.take(&erased.id) else { return false };
        self.add_former_epochs([(erased.id.clone(), account.session_epoch)]);
        let mut addresses = vec![account.email_key().to_owned()];
        for ticket in self.accounts_mut().flat_map(|a| &mut a.tickets) {
            if ticket.requester == Requester::Actor(erased.id.clone()) {
                ticket.requester = Requester::Actor(erased.key.clone());
            }
        }
        for session in self.accounts_mut().flat_map(|a| &mut a.sessions) {
            if session.impersonated_by.as_ref() == Some(&erased.id) {
                session.impersonated_by = Some(erased.key.clone());
            }
        }
        let by_them = Requester::Actor(erased.key.clone());
        let invited: Vec<Uuid> =
            self.accounts().flat_map(|a| &a.tickets).filter(|t| t.requester == by_them).map(|t| t.id).collect();
        for mail in &mut self.emails {
            if mail.user_id == erased.id {
                addresses.push(crate::domain::email_address::email_key(&mail.to));
                forget(mail, &erased.key);
            } else if mail.ticket_id.is_some_and(|ticket| invited.contains(&ticket))
                && let Value::Object(facts) = &mut mail.facts
            {
                facts.remove("invited_by");
            }
        }
        addresses.extend(self.forget_past_emails_of(&erased.id));
        for address in addresses {
            self.forget_suppression(&address);
        }
        self.erased.push(erased);
        true
    }
}

/// The history keeps that there was a mail.
fn forget(mail: &mut NewEmail, key: &str) {
    key.clone_into(&mut mail.user_id);
    mail.to.clear();
    mail.facts = Value::Object(Map::new());
    mail.locale = None;
    mail.begins = Begins::Cancelled;
    mail.command_id = None;
    mail.traceparent = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ada() -> Erased {
        Erased { id: "ada".into(), key: "erased:1".into(), until: Uuid::max(), email_key: "ada@example.com".into() }
    }

    fn row(user_id: &str, actor: &str) -> NewActivity {
        NewActivity {
            id: Uuid::nil(),
            at: crate::clock::now(),
            kind: "user.block".into(),
            user_id: Some(user_id.into()),
            actor: Some(actor.into()),
            publisher: "shop".into(),
            command_id: Some("block-ada".into()),
            outcome: "ok".into(),
            ip: Some("192.0.2.1".into()),
            subject_key: Some(Uuid::nil()),
            details: json!({ "reason": "Ada is rude", "decision": "sent" }),
        }
    }

    #[test]
    fn details_keep_what_says_nothing_about_a_person() {
        let id = Uuid::nil().to_string();
        let details = json!({
            "reason": "Ada asked", "decision": "throttled", "ticket_id": id, "sessions": 2, "all": true,
            "nested": { "name": "Ada" }, "list": ["ada"], "note": null,
        });
        let kept = json!({ "decision": "throttled", "ticket_id": id, "sessions": 2, "all": true });
        assert_eq!(ada().harmless(&details), kept);
        // Ids of upstream may look like the daemon's.
        let person = Erased { id: id.clone(), ..ada() };
        assert_eq!(person.harmless(&json!({ "ticket_id": id, "decision": id })), json!({}));
        assert_eq!(ada().harmless(&Value::Null), json!({}));
    }

    /// Nobody gets this id any more.
    #[test]
    fn what_systems_did_is_no_deed_of_a_person_of_that_name() {
        let system = Erased { id: SYSTEM.into(), ..ada() };
        let mut by_a_system = row("bob", SYSTEM);
        assert!(!system.redact(&mut by_a_system));
        assert_eq!((by_a_system.actor.as_deref(), by_a_system.ip), (Some(SYSTEM), row("bob", SYSTEM).ip));
    }

    #[test]
    fn a_row_about_them_and_one_of_theirs() {
        let mut about = row("ada", "root");
        assert!(ada().redact(&mut about));
        assert_eq!((about.user_id.as_deref(), about.actor.as_deref()), (Some("erased:1"), Some("root")));
        assert_eq!((about.ip, about.command_id, about.subject_key), (None, None, None));
        assert_eq!(about.details, json!({ "decision": "sent" }));

        let mut by_them = row("bob", "ada");
        assert!(!ada().redact(&mut by_them));
        assert_eq!((by_them.user_id.as_deref(), by_them.actor.as_deref()), (Some("bob"), Some("erased:1")));
        assert_eq!((&by_them.ip, &by_them.details), (&None, &row("bob", "ada").details));

        let mut others = row("bob", "root");
        assert!(!ada().redact(&mut others));
        assert_eq!(others.ip, row("bob", "root").ip);
    }
}
