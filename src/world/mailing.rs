//! Mail that a decision wants sent: a row to be written with it, sent after commit.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

use crate::mail::catalogue::Template;
use crate::mail::context::Facts;

/// How a queued mail begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// To be sent.
    Queued,
    /// Its first attempt begins with the commit, and is on record from then on.
    Begun,
    /// Its template is switched off.
    Cancelled,
    /// Its address is on the suppression list.
    Suppressed,
}

impl Begins {
    /// As stored in `emails.state`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued | Self::Begun => "queued",
            Self::Cancelled => "cancelled",
            Self::Suppressed => "suppressed",
        }
    }
}

/// A mail to be queued.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEmail {
    /// Its id; also its Message-ID's left side.
    pub id: Uuid,
    /// Whom it tells.
    pub user_id: String,
    /// The ticket whose link or code it carries.
    pub ticket_id: Option<Uuid>,
    /// Which template.
    pub template: Template,
    /// The person's site.
    pub site: String,
    /// The person's language.
    pub locale: Option<String>,
    /// Where to.
    pub to: String,
    /// Plain data for the template; no secret.
    pub facts: serde_json::Value,
    /// Its first state.
    pub begins: Begins,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// No attempt is begun after this.
    pub give_up_at: DateTime<Utc>,
    /// The mail that it repeats.
    pub resend_of: Option<Uuid>,
    /// The command that asked for it.
    pub command_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// What sets a mail apart that is sent once more.
#[derive(Debug, Clone, Default)]
pub struct Repeat {
    /// The mail that it repeats.
    pub of: Option<Uuid>,
    /// Where it goes, if not to the person's own address.
    pub to: Option<String>,
}

/// A mail of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct PastEmail {
    /// The mail.
    pub id: Uuid,
    /// Whom it told.
    pub user_id: String,
    /// The ticket whose link or code it carried.
    pub ticket_id: Option<Uuid>,
    /// Which template; perhaps one that only a newer version knows.
    pub template: String,
    /// The person's site then.
    pub site: String,
    /// Where it went.
    pub to: String,
    /// Plain data for the template.
    pub facts: serde_json::Value,
    /// What became of it, as stored.
    pub state: String,
    /// Attempts begun.
    pub attempts: i32,
    /// Whether its state must be written.
    pub dirty: bool,
}

impl PastEmail {
    /// What it said beyond the person and site.
    ///
    /// # Errors
    /// When what is stored cannot be read.
    pub fn facts(&self) -> Result<Facts, serde_json::Error> {
        Facts::deserialize(&self.facts)
    }
}

impl From<&NewEmail> for PastEmail {
    fn from(new: &NewEmail) -> Self {
        Self {
            id: new.id,
            user_id: new.user_id.clone(),
            ticket_id: new.ticket_id,
            template: new.template.as_str().to_owned(),
            site: new.site.clone(),
            to: new.to.clone(),
            facts: new.facts.clone(),
            state: new.begins.as_str().to_owned(),
            attempts: 0,
            dirty: false,
        }
    }
}

/// What is known of the suppression list, and what changes on it. Addresses are in comparison form.
#[derive(Debug, Default)]
pub struct Suppressions {
    loaded: BTreeSet<String>,
    changes: BTreeMap<String, Change>,
}

/// What becomes of an address's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Lifted,
    Added(&'static str),
    /// The entry that was there is replaced.
    Replaced(&'static str),
}

impl Suppressions {
    /// Adds addresses that are on the list.
    pub fn add_loaded(&mut self, keys: impl IntoIterator<Item = String>) {
        self.loaded.extend(keys);
    }

    /// Whether an address is on the list, as far as it was looked up or changed here.
    pub fn holds(&self, key: &str) -> bool {
        match self.changes.get(key) {
            Some(Change::Lifted) => false,
            Some(Change::Added(_) | Change::Replaced(_)) => true,
            None => self.loaded.contains(key),
        }
    }

    /// Puts an address on the list. What is there already stays: the first reason, the first time.
    pub fn add(&mut self, key: &str, reason: &'static str) {
        match self.changes.get_mut(key) {
            Some(change @ Change::Lifted) => *change = Change::Replaced(reason),
            Some(_) => {}
            None => {
                self.changes.insert(key.to_owned(), Change::Added(reason));
            }
        }
    }

    /// Takes an address off the list.
    pub fn lift(&mut self, key: &str) {
        self.changes.insert(key.to_owned(), Change::Lifted);
    }

    /// Entries to be removed, in order; before those of [`Self::added`].
    pub fn lifted(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().filter(|(_, c)| !matches!(c, Change::Added(_))).map(|(key, _)| key.as_str())
    }

    /// Entries to be made and their reasons, in order.
    pub fn added(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.changes.iter().filter_map(|(key, change)| match change {
            Change::Lifted => None,
            Change::Added(reason) | Change::Replaced(reason) => Some((key.as_str(), *reason)),
        })
    }
}
