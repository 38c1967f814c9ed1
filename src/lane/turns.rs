//! Batches of a lane that name the same people take turns, in the order in which their commands came.
//!
//! Within a batch commands are decided one after the other. Two batches at once would race for a person's row, and the later
//! command could take effect first: a person unblocked after they were blocked, or not found although the command before
//! creates them. So a batch says whom it names, and waits for those before it that name one of them.
//!
//! This holds for one daemon, and for names as they are written: that a username and an id mean the same person is known
//! only to the database. Several daemons share a queue without knowing what the others took from it.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::world::{UserName, Wants};

/// Whom the batches at work name.
#[derive(Debug, Default)]
pub struct Turns {
    batches: Mutex<Batches>,
    /// A batch was read, or has ended.
    changed: Notify,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Batches {
    next: u64,
    /// By number; none while it is not known yet whom a batch names.
    at_work: BTreeMap<u64, Option<People>>,
}

/// Names, as hashes: that two are mistaken for the same costs a wait and nothing else.
pub type People = HashSet<u64>;

/// A batch's place among those at work, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    number: u64,
}

impl Turns {
    /// A place behind all that were given out before.
    pub fn take(self: &Arc<Self>) -> Turn {
        let mut batches = self.batches();
        let number = batches.next;
        batches.next += 1;
        batches.at_work.insert(number, None);
        Turn { turns: Arc::clone(self), number }
    }

    fn batches(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Adds whom a command names. People who only act are not among them: one actor's thousand commands may run side by side.
    pub fn add(&self, people: &mut People, wants: &Wants) {
        let name = |kind: u8, text: &str| self.turns.hasher.hash_one((kind, text));
        for user in wants.users.iter().chain(&wants.reset_mails) {
            people.insert(match user {
                UserName::Id(id) => name(0, id),
                UserName::Username(key) => name(1, key),
                UserName::Email(key) => name(2, key),
            });
        }
        people.extend(wants.ids.iter().map(|id| name(0, id)));
        people.extend(wants.addresses.iter().map(|key| name(2, key)));
        let ids = wants.tickets.iter().chain(&wants.sessions).chain(&wants.emails);
        people.extend(ids.map(|id| self.turns.hasher.hash_one(id)));
    }

    /// Says whom the batch names: until then all that came later wait for it.
    pub fn announce(&self, people: People) {
        self.turns.batches().at_work.insert(self.number, Some(people));
        self.turns.changed.notify_waiters();
    }

    /// Waits until no earlier batch names anybody that this one has announced. Earlier ones are at work, so they end.
    pub async fn come(&self) {
        loop {
            let changed = self.turns.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.has_come() {
                return;
            }
            changed.await;
        }
    }

    /// What the batch does is done: others may go on. Dropping it says the same.
    pub fn end(&self) {
        self.turns.batches().at_work.remove(&self.number);
        self.turns.changed.notify_waiters();
    }

    fn has_come(&self) -> bool {
        let batches = self.turns.batches();
        // One that names nobody waits for nobody.
        let Some(Some(own)) = batches.at_work.get(&self.number) else { return true };
        batches
            .at_work
            .range(..self.number)
            .all(|(_, people)| people.as_ref().is_some_and(|people| people.is_disjoint(own)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn named(turn: &Turn, ids: &[&str]) -> People {
        let mut people = People::new();
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        turn.add(&mut people, &Wants { ids, ..Wants::default() });
        people
    }

    #[tokio::test]
    async fn who_names_somebody_waits_for_all_before_that_name_them_too() {
        let turns = Arc::new(Turns::default());
        let (first, second, third) = (turns.take(), turns.take(), turns.take());
        for (turn, ids) in [(&first, ["ada", "bob"]), (&second, ["bob", "eve"]), (&third, ["eve", "joe"])] {
            turn.announce(named(turn, &ids));
        }
        assert_eq!(first.come().now_or_never(), Some(()));
        assert_eq!(second.come().now_or_never(), None);
        assert_eq!(third.come().now_or_never(), None, "the second is before it, at work or not");
        first.end();
        assert_eq!(second.come().now_or_never(), Some(()));
        assert_eq!(third.come().now_or_never(), None);
        drop(second);
        assert_eq!(third.come().now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn strangers_work_side_by_side() {
        let turns = Arc::new(Turns::default());
        let (first, second) = (turns.take(), turns.take());
        first.announce(named(&first, &["ada"]));
        second.announce(named(&second, &["bob"]));
        assert_eq!(first.come().now_or_never(), Some(()));
        assert_eq!(second.come().now_or_never(), Some(()));
        let actors = ["ada".to_owned()].into();
        let mut people = People::new();
        second.add(&mut people, &Wants { actors, ..Wants::default() });
        assert!(people.is_empty());
    }

    #[tokio::test]
    async fn a_batch_that_is_not_read_yet_may_name_anybody() {
        let turns = Arc::new(Turns::default());
        let (first, second) = (turns.take(), turns.take());
        second.announce(named(&second, &["bob"]));
        let mut coming = Box::pin(second.come());
        assert_eq!(coming.as_mut().now_or_never(), None);
        first.announce(named(&first, &["ada"]));
        // Woken by what the first has said.
        coming.await;
    }

    #[test]
    fn the_same_name_in_every_place_is_the_same_person() {
        let turn = Arc::new(Turns::default()).take();
        let ids = named(&turn, &["ada"]);
        let put = Wants { addresses: ["a@example.com".to_owned()].into(), ..Wants::default() };
        let asked = Wants { users: vec![UserName::Email("a@example.com".to_owned())], ..Wants::default() };
        let again = Wants { reset_mails: vec![UserName::Id("ada".to_owned())], ..Wants::default() };
        let of = |wants| {
            let mut people = People::new();
            turn.add(&mut people, wants);
            people
        };
        assert_eq!(of(&again), ids);
        assert_eq!(of(&put), of(&asked));
        assert!(of(&put).is_disjoint(&of(&Wants {
            users: vec![UserName::Username("a@example.com".to_owned())],
            ..Wants::default()
        })));
    }
}
