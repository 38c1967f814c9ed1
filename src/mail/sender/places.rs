//! How many mails are in flight, and for whom: mail to one domain leaves room for that of others, however much of it waits
//! and however slowly it goes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

/// The domain that a mail goes to, for sharing: what follows the last @, in lowercase.
pub fn domain(address: &str) -> String {
    address.rsplit('@').next().unwrap_or_default().trim().to_lowercase()
}

/// The mails that may be in flight at once.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    /// Of these for one domain.
    share: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_domain: BTreeMap<String, usize>,
}

/// A mail's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    domain: String,
}

impl Places {
    /// So many places, three quarters of them for one domain at most.
    pub fn new(most: usize) -> Arc<Self> {
        let share = (most - most.div_ceil(4)).max(1);
        Arc::new(Self { most, share, taken: Mutex::default(), freed: Notify::new() })
    }

    /// Free places.
    pub fn room(&self) -> usize {
        self.most.saturating_sub(self.taken().count)
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

    /// Waits until the next place is given back.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Takes a place, if the domain has not had its share.
    pub fn take(self: &Arc<Self>, domain: &str) -> Option<Place> {
        let mut taken = self.taken();
        let of_domain = taken.by_domain.get(domain).copied().unwrap_or_default();
        if taken.count >= self.most || of_domain >= self.share {
            return None;
        }
        taken.count += 1;
        *taken.by_domain.entry(domain.to_owned()).or_default() += 1;
        Some(Place { places: Arc::clone(self), domain: domain.to_owned() })
    }

    /// The domains that have had their share.
    pub fn full(&self) -> Vec<String> {
        let taken = self.taken();
        taken.by_domain.iter().filter(|(_, count)| **count >= self.share).map(|(domain, _)| domain.clone()).collect()
    }

    /// Nothing panics while it is held, so a poisoned lock protects sound data.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.count = taken.count.saturating_sub(1);
        if let Some(count) = taken.by_domain.get_mut(&self.domain) {
            *count -= 1;
            if *count == 0 {
                taken.by_domain.remove(&self.domain);
            }
        }
        drop(taken);
        self.places.freed.notify_one();
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
        let places = Places::new(8);
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
        let places = Places::new(1);
        let held = places.take("a");
        assert!(held.is_some() && places.take("b").is_none());
        drop(held);
        assert!(places.take("b").is_some());
    }

    #[test]
    fn domains_take_turns_and_each_keeps_its_order() {
        let places = Places::new(8);
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
        let places = Places::new(1);
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
