//! How many mails are in flight, and for whom: mail to one domain leaves room for that of others, however much of it waits
//! and however slowly it goes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use uuid::Uuid;

/// The domain that a mail goes to, for sharing: what follows the last @, in lowercase.
pub fn domain(address: &str) -> String {
    address.rsplit('@').next().unwrap_or_default().trim().to_lowercase()
}

/// Of so many places, those that mail to one domain may take: three quarters, and one where there is only one.
pub(super) fn share_of_a_domain(places: usize) -> usize {
    (places - places.div_ceil(4)).max(1)
}

/// Mails in flight for each connection to the server, however slow it is: enough to keep it busy, few enough that none waits
/// long for its turn after it was decided that it still makes sense.
const LEAST: usize = 8;
/// And while each is done in a moment.
const MOST: usize = 64;
/// A mail that is done so soon makes room for one more.
pub(super) const QUICK: Duration = Duration::from_millis(250);
/// One that takes so long makes room for an eighth less.
const SLOW: Duration = Duration::from_secs(1);

/// The mails that may be in flight at once: the more, the faster they go.
#[derive(Debug)]
pub(super) struct Places {
    least: usize,
    limit: usize,
    taken: Mutex<Taken>,
    /// For the one who takes up what waits.
    freed: Notify,
    /// For those who bring more.
    given_back: Notify,
}

#[derive(Debug)]
struct Taken {
    /// Places that there are now.
    most: usize,
    count: usize,
    /// Free ones that are kept for those who asked before.
    reserved: usize,
    by_domain: HashMap<String, usize>,
}

impl Taken {
    const fn room(&self) -> usize {
        self.most.saturating_sub(self.count + self.reserved)
    }

    /// Of the places for one domain.
    fn share(&self) -> usize {
        share_of_a_domain(self.most)
    }
}

/// Places that are kept for somebody.
#[derive(Debug)]
pub(super) struct Reserved {
    places: Arc<Places>,
    kept: usize,
}

/// A mail's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    domain: String,
    since: Instant,
}

impl Places {
    /// For so many connections to the mail server.
    pub fn for_connections(connections: usize) -> Arc<Self> {
        Self::new((connections * LEAST).clamp(LEAST, 1024), (connections * MOST).clamp(MOST, 4096))
    }

    fn new(least: usize, limit: usize) -> Arc<Self> {
        let taken = Taken { most: least, count: 0, reserved: 0, by_domain: HashMap::new() };
        let (freed, given_back) = (Notify::new(), Notify::new());
        Arc::new(Self { least, limit, taken: Mutex::new(taken), freed, given_back })
    }

    /// How many there can be at most.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// How many there are now.
    pub fn most(&self) -> usize {
        self.taken().most
    }

    /// Free places.
    pub fn room(&self) -> usize {
        self.taken().room()
    }

    /// Keeps so many of the free places, or as many as there are, until they are taken or the reservation is dropped.
    pub fn reserve(self: &Arc<Self>, places: usize) -> Reserved {
        let mut taken = self.taken();
        let kept = places.min(taken.room());
        taken.reserved += kept;
        drop(taken);
        Reserved { places: Arc::clone(self), kept }
    }

    /// Waits until there is a free place.
    pub async fn wait_for_room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.room() > 0 {
                return;
            }
            freed.await;
        }
    }

    /// Waits until the next place is given back. For one at a time.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Ends when the next place is given back after this call.
    pub fn given_back(&self) -> Notified<'_> {
        self.given_back.notified()
    }

    /// Takes a place, if the domain has not had its share.
    pub fn take(self: &Arc<Self>, domain: &str) -> Option<Place> {
        self.take_of(domain, None)
    }

    fn take_of(self: &Arc<Self>, domain: &str, kept: Option<&mut usize>) -> Option<Place> {
        let mut taken = self.taken();
        if kept.is_none() && taken.room() == 0 {
            return None;
        }
        let share = taken.share();
        match taken.by_domain.get_mut(domain) {
            Some(of_domain) if *of_domain >= share => return None,
            Some(of_domain) => *of_domain += 1,
            None => drop(taken.by_domain.insert(domain.to_owned(), 1)),
        }
        taken.count += 1;
        if let Some(kept) = kept {
            *kept -= 1;
            taken.reserved -= 1;
        }
        drop(taken);
        Some(Place { places: Arc::clone(self), domain: domain.to_owned(), since: Instant::now() })
    }

    /// The domains that have had their share.
    pub fn full(&self) -> Vec<String> {
        let taken = self.taken();
        let share = taken.share();
        taken.by_domain.iter().filter(|(_, count)| **count >= share).map(|(domain, _)| domain.clone()).collect()
    }

    /// Nothing panics while it is held, so a poisoned lock protects sound data.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, domain: &str, took: Duration) {
        let mut taken = self.taken();
        taken.count = taken.count.saturating_sub(1);
        if let Some(count) = taken.by_domain.get_mut(domain) {
            *count -= 1;
            if *count == 0 {
                taken.by_domain.remove(domain);
            }
        }
        if took < QUICK {
            taken.most = (taken.most + 1).min(self.limit);
        } else if took >= SLOW {
            taken.most = (taken.most - taken.most / 8).max(self.least);
        }
        drop(taken);
        self.freed.notify_one();
        self.given_back.notify_waiters();
    }
}

impl Reserved {
    /// Takes one of them, if there is one left and the domain has not had its share.
    pub fn take(&mut self, domain: &str) -> Option<Place> {
        let places = Arc::clone(&self.places);
        (self.kept > 0).then_some(())?;
        places.take_of(domain, Some(&mut self.kept))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.places.taken().reserved -= self.kept;
        if self.kept > 0 {
            self.places.freed.notify_one();
            self.places.given_back.notify_waiters();
        }
    }
}

impl Place {
    /// The domain that its mail goes to.
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back(&self.domain, self.since.elapsed());
    }
}

/// Mails that wait for their first attempt, a line for each domain.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    lines: HashMap<String, VecDeque<Uuid>>,
    /// Whose turn it is.
    turns: VecDeque<String>,
    count: usize,
}

impl Fresh {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts a mail at the end of its domain's line.
    pub fn push(&mut self, id: Uuid, domain: String) {
        self.count += 1;
        if let Some(line) = self.lines.get_mut(&domain) {
            line.push_back(id);
        } else {
            self.turns.push_back(domain.clone());
            self.lines.insert(domain, VecDeque::from([id]));
        }
    }

    /// Up to `most` mails for which there are places, the domains by turns.
    pub fn next(&mut self, places: &Arc<Places>, most: usize) -> Vec<(Uuid, Place)> {
        let mut found = Vec::new();
        // Domains in a row that have had their share: after a whole round of them there is nothing to be had.
        let mut passed = 0;
        while passed < self.turns.len() && found.len() < most {
            let Some(domain) = self.turns.pop_front() else { break };
            let Some(line) = self.lines.get_mut(&domain) else { continue };
            let place = if line.is_empty() { None } else { places.take(&domain) };
            match place {
                Some(place) => {
                    passed = 0;
                    self.count -= 1;
                    found.extend(line.pop_front().map(|id| (id, place)));
                }
                None if places.room() == 0 => {
                    self.turns.push_front(domain);
                    break;
                }
                None => passed += 1,
            }
            if line.is_empty() {
                self.lines.remove(&domain);
            } else {
                self.turns.push_back(domain);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn ids(found: &[(Uuid, Place)]) -> Vec<u128> {
        found.iter().map(|(id, _)| id.as_u128()).collect()
    }

    #[test]
    fn one_domain_leaves_a_quarter_to_others() {
        let places = Places::new(8, 8);
        let mut held: Vec<Place> = std::iter::from_fn(|| places.take("slow.example")).collect();
        assert_eq!((held.len(), places.room()), (6, 2));
        assert_eq!(places.full(), ["slow.example"]);
        held.extend(places.take("other.example"));
        assert_eq!((held.len(), places.room()), (7, 1));
        held.truncate(5);
        assert!(places.full().is_empty());
        assert!(places.take("slow.example").is_some());
        drop(held);
        assert_eq!(places.room(), 8);
        assert!(places.taken().by_domain.is_empty(), "nothing is kept of domains that have no mail");
    }

    #[test]
    fn the_last_place_of_all_is_for_anybody() {
        let places = Places::new(1, 1);
        let held = places.take("a");
        assert!(held.is_some() && places.take("b").is_none());
        drop(held);
        assert!(places.take("b").is_some());
    }

    #[test]
    fn there_are_more_while_mail_is_quick_and_as_few_as_ever_when_it_is_not() {
        let places = Places::new(8, 32);
        let quick = |times| (0..times).for_each(|_| drop(places.take("a")));
        quick(4);
        assert_eq!(places.room(), 12);
        quick(1000);
        assert_eq!(places.room(), 32);
        let slow = || {
            let place = places.take("a").unwrap();
            places.give_back(&place.domain, SLOW);
            std::mem::forget(place);
        };
        slow();
        assert_eq!(places.room(), 28);
        (0..100).for_each(|_| slow());
        assert_eq!(places.room(), 8);
    }

    #[test]
    fn what_is_kept_for_one_is_there_for_nobody_else() {
        let places = Places::new(8, 8);
        let mut reserved = places.reserve(3);
        assert_eq!((places.room(), places.reserve(9).kept, places.room()), (5, 5, 0));
        assert_eq!(places.room(), 5, "given back when it is dropped");
        let held: Vec<Place> = ["a", "b", "c", "d", "e"].iter().filter_map(|domain| places.take(domain)).collect();
        assert!(held.len() == 5 && places.take("f").is_none());
        assert!(reserved.take("f").is_some());
        let kept = reserved.take("f");
        drop(reserved);
        assert_eq!(places.room(), 2);
        drop((held, kept));
        assert_eq!(places.room(), 8);
    }

    #[test]
    fn domains_take_turns_and_each_keeps_its_order() {
        let places = Places::new(8, 8);
        let mut fresh = Fresh::default();
        for number in 0..20 {
            fresh.push(id(number), "big".into());
        }
        fresh.push(id(100), "small".into());
        fresh.push(id(200), "tiny".into());
        let first = fresh.next(&places, usize::MAX);
        assert_eq!(ids(&first), [0, 100, 200, 1, 2, 3, 4, 5]);
        assert!(fresh.next(&places, usize::MAX).is_empty());
        assert_eq!(fresh.len(), 14);
        drop(first);
        let second = fresh.next(&places, usize::MAX);
        assert_eq!(ids(&second), [6, 7, 8, 9, 10, 11], "its share, though there is room");
        fresh.push(id(101), "small".into());
        assert_eq!(ids(&fresh.next(&places, usize::MAX)), [101]);
        drop(second);
        while !fresh.is_empty() {
            assert!(!fresh.next(&places, usize::MAX).is_empty());
        }
        assert!(fresh.lines.is_empty() && fresh.turns.is_empty());
    }

    #[tokio::test]
    async fn who_waits_for_room_hears_of_it() {
        let places = Places::new(1, 1);
        let held = places.take("a");
        let waiting = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.wait_for_room().await }
        });
        tokio::task::yield_now().await;
        drop(held);
        waiting.await.unwrap();
    }

    #[test]
    fn a_domain_is_what_follows_the_last_at() {
        assert_eq!(domain("\"a@b\"@Example.COM "), "example.com");
        assert_eq!(domain("nobody"), "nobody");
    }
}
