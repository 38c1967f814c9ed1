//! What one batch has loaded, and what its commands changed: the decisions' whole view of the world.

pub mod erasing;
pub mod mailing;

mod activity;
mod queued_event;
mod user_name;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use crate::domain::account::Account;
use crate::domain::email_address::email_key;
use crate::domain::limits::Limit;

pub use activity::{NewActivity, subject_key};
pub use queued_event::QueuedEvent;
pub use user_name::UserName;

use erasing::Erased;
use mailing::{NewEmail, PastEmail, Suppressions};

/// What a command needs to have loaded before it can decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wants {
    /// People by any name.
    pub users: Vec<UserName>,
    /// People by id.
    pub ids: BTreeSet<String>,
    /// Owners of these tickets, and the tickets themselves, whatever their state.
    pub tickets: BTreeSet<Uuid>,
    /// Owners of these sessions, and the sessions themselves.
    pub sessions: BTreeSet<Uuid>,
    /// Mails of the history, with their owners and tickets.
    pub emails: BTreeSet<Uuid>,
    /// People whose last reset request is to be mailed again: its newest mail is needed.
    pub reset_mails: Vec<UserName>,
    /// Addresses, in comparison form, of which must be known whether they are suppressed. Those of people and of named mails are
    /// anyway.
    pub addresses: BTreeSet<String>,
    /// Profiles that are put, and what stands for each id in histories if it was erased before: whose epoch goes on is asked of
    /// those that are new.
    pub puts: BTreeMap<String, String>,
    /// People who act; loaded but not locked.
    pub actors: BTreeSet<String>,
    /// Whether live sessions of the people are needed.
    pub live_sessions: bool,
    /// Whether the newest tickets of each purpose are needed, also closed ones.
    pub newest_tickets: bool,
}

impl Wants {
    /// Adds another command's needs.
    pub fn merge(&mut self, other: &Self) {
        self.users.extend_from_slice(&other.users);
        self.ids.extend(other.ids.iter().cloned());
        self.tickets.extend(&other.tickets);
        self.sessions.extend(&other.sessions);
        self.emails.extend(&other.emails);
        self.reset_mails.extend_from_slice(&other.reset_mails);
        self.addresses.extend(other.addresses.iter().cloned());
        self.puts.extend(other.puts.iter().map(|(id, key)| (id.clone(), key.clone())));
        self.actors.extend(other.actors.iter().cloned());
        self.live_sessions |= other.live_sessions;
        self.newest_tickets |= other.newest_tickets;
    }
}

/// Accounts, tickets, sessions and limits as loaded and changed; mail, events and activity to be written.
#[derive(Debug, Default)]
pub struct World {
    accounts: BTreeMap<String, Account>,
    by_username: HashMap<String, String>,
    by_email: HashMap<String, BTreeSet<String>>,
    actors: HashMap<String, Account>,
    limits: HashMap<Uuid, Limit>,
    past_emails: BTreeMap<Uuid, PastEmail>,
    suppressions: Suppressions,
    former_epochs: HashMap<String, i64>,
    /// Mail to queue.
    pub emails: Vec<NewEmail>,
    /// Events to queue.
    pub events: Vec<QueuedEvent>,
    /// People who are no more.
    pub erased: Vec<Erased>,
}

impl World {
    /// A world of these accounts.
    pub fn new(accounts: Vec<Account>, actors: Vec<Account>) -> Self {
        let mut world =
            Self { actors: actors.into_iter().map(|a| (a.id().to_owned(), a)).collect(), ..Self::default() };
        for account in accounts {
            world.insert(account);
        }
        world
    }

    /// Adds an account, or finds it again under its present names.
    pub fn insert(&mut self, account: Account) {
        let id = account.id().to_owned();
        self.by_username.insert(account.username_key().to_owned(), id.clone());
        self.by_email.entry(account.email_key().to_owned()).or_default().insert(id.clone());
        self.accounts.insert(id, account);
    }

    /// Takes an account out, to be changed and inserted again under names that may be new.
    pub fn take(&mut self, id: &str) -> Option<Account> {
        let account = self.accounts.remove(id)?;
        self.by_username.remove(account.username_key());
        if let Some(ids) = self.by_email.get_mut(account.email_key()) {
            ids.remove(id);
        }
        Some(account)
    }

    /// The ids that a name means, in order.
    pub fn find(&self, name: &UserName) -> Vec<String> {
        match name {
            UserName::Id(id) => self.accounts.get_key_value(id).map(|(id, _)| id.clone()).into_iter().collect(),
            UserName::Username(key) => self.by_username.get(key).cloned().into_iter().collect(),
            UserName::Email(key) => self.by_email.get(key).into_iter().flatten().cloned().collect(),
        }
    }

    /// An account.
    pub fn account(&self, id: &str) -> Option<&Account> {
        self.accounts.get(id)
    }

    /// An account, to change.
    pub fn account_mut(&mut self, id: &str) -> Option<&mut Account> {
        self.accounts.get_mut(id)
    }

    /// Every account.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// Every account, to change.
    pub(super) fn accounts_mut(&mut self) -> impl Iterator<Item = &mut Account> {
        self.accounts.values_mut()
    }

    /// A person who acts: as changed by this batch, if it changed them.
    pub fn actor(&self, id: &str) -> Option<&Account> {
        self.accounts.get(id).or_else(|| self.actors.get(id))
    }

    /// The owner of a loaded ticket.
    pub fn owner_of_ticket(&self, ticket: Uuid) -> Option<&Account> {
        self.accounts.values().find(|a| a.ticket(ticket).is_some())
    }

    /// The owner of a loaded session.
    pub fn owner_of_session(&self, session: Uuid) -> Option<&Account> {
        self.accounts.values().find(|a| a.sessions.iter().any(|s| s.id == session))
    }

    /// Adds mails of the history, as loaded.
    pub fn add_past_emails(&mut self, mails: impl IntoIterator<Item = PastEmail>) {
        self.past_emails.extend(mails.into_iter().map(|mail| (mail.id, mail)));
    }

    /// A mail of the history.
    pub fn past_email(&self, id: Uuid) -> Option<&PastEmail> {
        self.past_emails.get(&id)
    }

    /// A mail of the history, to change.
    pub fn past_email_mut(&mut self, id: Uuid) -> Option<&mut PastEmail> {
        self.past_emails.get_mut(&id)
    }

    /// Every loaded mail of the history.
    pub fn past_emails(&self) -> impl Iterator<Item = &PastEmail> {
        self.past_emails.values()
    }

    /// The newest mail that carries a ticket; it may be one that is only being queued.
    pub fn newest_email_of(&self, ticket: Uuid) -> Option<PastEmail> {
        let new = self.emails.iter().filter(|mail| mail.ticket_id == Some(ticket)).map(PastEmail::from);
        let past = self.past_emails.values().filter(|mail| mail.ticket_id == Some(ticket)).cloned();
        past.chain(new).max_by_key(|mail| mail.id)
    }

    /// Leaves a person's mails of the history alone: whatever was decided about them is not written. Returns where those
    /// went, in comparison form.
    pub(super) fn forget_past_emails_of(&mut self, id: &str) -> Vec<String> {
        let theirs: Vec<Uuid> =
            self.past_emails.values().filter(|mail| mail.user_id == id).map(|mail| mail.id).collect();
        theirs.iter().filter_map(|id| self.past_emails.remove(id)).map(|mail| email_key(&mail.to)).collect()
    }

    /// Does not put an address on the suppression list that nobody has any more.
    pub(super) fn forget_suppression(&mut self, key: &str) {
        if self.by_email.get(key).is_none_or(BTreeSet::is_empty) && self.suppressions.holds(key) {
            self.suppressions.lift(key);
        }
    }

    /// Adds suppressed addresses, as loaded.
    pub fn add_suppressed(&mut self, keys: impl IntoIterator<Item = String>) {
        self.suppressions.add_loaded(keys);
    }

    /// Whether an address, in comparison form, is suppressed: if it is a person's or was asked for in `Wants::addresses`.
    pub fn is_suppressed(&self, key: &str) -> bool {
        let of_a_person = || self.by_email.get(key).into_iter().flatten().any(|id| self.accounts[id].suppressed);
        self.suppressions.holds(key) || of_a_person()
    }

    /// Puts an address on the suppression list, or takes it off with no reason.
    pub fn set_suppressed(&mut self, key: &str, reason: Option<&'static str>) {
        match reason {
            Some(reason) => self.suppressions.add(key, reason),
            None => self.suppressions.lift(key),
        }
        for id in self.by_email.get(key).into_iter().flatten() {
            if let Some(account) = self.accounts.get_mut(id) {
                account.suppressed = reason.is_some();
            }
        }
    }

    /// Changes of the suppression list.
    pub fn suppressions(&self) -> &Suppressions {
        &self.suppressions
    }

    /// Adds the epochs, by id, that people left behind who were erased.
    pub fn add_former_epochs(&mut self, epochs: impl IntoIterator<Item = (String, i64)>) {
        self.former_epochs.extend(epochs);
    }

    /// The epoch with which somebody new begins: whoever had the id before may have stateless sessions of every older one.
    pub fn first_epoch(&self, id: &str) -> i64 {
        self.former_epochs.get(id).copied().unwrap_or_default()
    }

    /// Adds limits as loaded.
    pub fn add_limits(&mut self, limits: impl IntoIterator<Item = Limit>) {
        self.limits.extend(limits.into_iter().map(|l| (l.key, l)));
    }

    /// A limit's present state.
    pub fn limit(&mut self, key: Uuid) -> &mut Limit {
        self.limits.entry(key).or_insert_with(|| Limit::fresh(key))
    }

    /// Every limit.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.limits.values()
    }
}
