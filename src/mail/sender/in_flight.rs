//! The limit of mails in flight, and each domain's share of it: mail to one domain leaves room for that of others, however much
//! of it waits and however slowly it goes.

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

/// The part of `limit` that mail to one domain may take: three quarters, at least one.
pub(super) fn share_of_a_domain(limit: usize) -> usize {
    (limit - limit.div_ceil(4)).max(1)
}

/// Least limit, in mails for each connection to the server, however slow it is: enough to keep it busy, few enough that none waits
/// long for its turn after it was decided that it still makes sense.
const LEAST: usize = 8;
/// Largest limit, in mails for each connection, while each is done in a moment.
const MOST: usize = 64;
/// A mail that is done sooner raises the limit by one.
pub(super) const QUICK: Duration = Duration::from_millis(250);
/// A mail that takes this long or longer lowers the limit by an eighth.
const SLOW: Duration = Duration::from_secs(1);

/// Gives out permits for mails to be in flight: the faster mails go, the more.
#[derive(Debug)]
pub(super) struct InFlightLimit {
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
    /// Permits that there are now, given out or not.
    most: usize,
    count: usize,
    /// Free permits that are kept for reservations.
    reserved: usize,
    by_domain: HashMap<String, usize>,
}

impl Taken {
    const fn free(&self) -> usize {
        self.most.saturating_sub(self.count + self.reserved)
    }

    /// The permits that one domain may hold.
    fn share(&self) -> usize {
        share_of_a_domain(self.most)
    }
}

/// Free permits that are kept for one transaction.
#[derive(Debug)]
pub(super) struct ReservedPermits {
    in_flight: Arc<InFlightLimit>,
    kept: usize,
}

/// The permit of one mail to be in flight, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    in_flight: Arc<InFlightLimit>,
    domain: String,
    since: Instant,
}

impl InFlightLimit {
    /// For this number of connections to the mail server.
    pub fn for_connections(connections: usize) -> Arc<Self> {
        Self::new((connections * LEAST).clamp(LEAST, 1024), (connections * MOST).clamp(MOST, 4096))
    }

    fn new(least: usize, limit: usize) -> Arc<Self> {
        let taken = Taken { most: least, count: 0, reserved: 0, by_domain: HashMap::new() };
        let (freed, given_back) = (Notify::new(), Notify::new());
        Arc::new(Self { least, limit, taken: Mutex::new(taken), freed, given_back })
    }

    /// The largest number of permits that there can be.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The number of permits that there are now.
    pub fn most(&self) -> usize {
        self.taken().most
    }

    /// The number of free permits.
    pub fn free(&self) -> usize {
        self.taken().free()
    }

    /// Keeps `permits` of the free permits, or as many as there are, until they are taken or the reservation is dropped.
    pub fn reserve(self: &Arc<Self>, permits: usize) -> ReservedPermits {
        let mut taken = self.taken();
        let kept = permits.min(taken.free());
        taken.reserved += kept;
        drop(taken);
        ReservedPermits { in_flight: Arc::clone(self), kept }
    }

    /// Waits until there is a free permit.
    pub async fn wait_until_free(&self) {
        loop {
            let freed = self.freed.notified();
            if self.free() > 0 {
                return;
            }
            freed.await;
        }
    }

    /// Waits until the next permit is given back. For one at a time.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Ends when the next permit is given back after this call.
    pub fn given_back(&self) -> Notified<'_> {
        self.given_back.notified()
    }

    /// Takes a permit, if the domain has not had its share.
    pub fn take(self: &Arc<Self>, domain: &str) -> Option<Permit> {
        self.take_of(domain, None)
    }

    fn take_of(self: &Arc<Self>, domain: &str, kept: Option<&mut usize>) -> Option<Permit> {
        let mut taken = self.taken();
        if kept.is_none() && taken.free() == 0 {
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
        Some(Permit { in_flight: Arc::clone(self), domain: domain.to_owned(), since: Instant::now() })
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

impl ReservedPermits {
    /// Takes one of them, if there is one left and the domain has not had its share.
    pub fn take(&mut self, domain: &str) -> Option<Permit> {
        let in_flight = Arc::clone(&self.in_flight);
        (self.kept > 0).then_some(())?;
        in_flight.take_of(domain, Some(&mut self.kept))
    }
}

impl Drop for ReservedPermits {
    fn drop(&mut self) {
        self.in_flight.taken().reserved -= self.kept;
        if self.kept > 0 {
            self.in_flight.freed.notify_one();
            self.in_flight.given_back.notify_waiters();
        }
    }
}

impl Permit {
    /// The domain that its mail goes to.
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.in_flight.give_back(&self.domain, self.since.elapsed());
    }
}

/// Mails that wait for their first attempt, in a queue for each domain.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    queues: HashMap<String, VecDeque<Uuid>>,
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

    /// Puts a mail at the end of its domain's queue.
    pub fn push(&mut self, id: Uuid, domain: String) {
        self.count += 1;
        if let Some(queue) = self.queues.get_mut(&domain) {
            queue.push_back(id);
        } else {
            self.turns.push_back(domain.clone());
            self.queues.insert(domain, VecDeque::from([id]));
        }
    }

    /// Up to `most` mails for which there are permits, the domains by turns.
    pub fn next(&mut self, in_flight: &Arc<InFlightLimit>, most: usize) -> Vec<(Uuid, Permit)> {
        let mut found = Vec::new();
        // Domains in a row that have had their share: after a whole round of them there is nothing to be had.
        let mut passed = 0;
        while passed < self.turns.len() && found.len() < most {
            let Some(domain) = self.turns.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&domain) else { continue };
            let permit = if queue.is_empty() { None } else { in_flight.take(&domain) };
            match permit {
                Some(permit) => {
                    passed = 0;
                    self.count -= 1;
                    found.extend(queue.pop_front().map(|id| (id, permit)));
                }
                None if in_flight.free() == 0 => {
                    self.turns.push_front(domain);
                    break;
                }
                None => passed += 1,
            }
            if queue.is_empty() {
                self.queues.remove(&domain);
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

    fn ids(found: &[(Uuid, Permit)]) -> Vec<u128> {
        found.iter().map(|(id, _)| id.as_u128()).collect()
    }

    #[test]
    fn one_domain_leaves_a_quarter_to_others() {
        let in_flight = InFlightLimit::new(8, 8);
        let mut held: Vec<Permit> = std::iter::from_fn(|| in_flight.take("slow.example")).collect();
        assert_eq!((held.len(), in_flight.free()), (6, 2));
        assert_eq!(in_flight.full(), ["slow.example"]);
        held.extend(in_flight.take("other.example"));
        assert_eq!((held.len(), in_flight.free()), (7, 1));
        held.truncate(5);
        assert!(in_flight.full().is_empty());
        assert!(in_flight.take("slow.example").is_some());
        drop(held);
        assert_eq!(in_flight.free(), 8);
        assert!(in_flight.taken().by_domain.is_empty(), "nothing is kept of domains that have no mail");
    }

    #[test]
    fn the_last_permit_of_all_is_for_anybody() {
        let in_flight = InFlightLimit::new(1, 1);
        let held = in_flight.take("a");
        assert!(held.is_some() && in_flight.take("b").is_none());
        drop(held);
        assert!(in_flight.take("b").is_some());
    }

    #[test]
    fn there_are_more_while_mail_is_quick_and_as_few_as_ever_when_it_is_not() {
        let in_flight = InFlightLimit::new(8, 32);
        let quick = |times| (0..times).for_each(|_| drop(in_flight.take("a")));
        quick(4);
        assert_eq!(in_flight.free(), 12);
        quick(1000);
        assert_eq!(in_flight.free(), 32);
        let slow = || {
            let permit = in_flight.take("a").unwrap();
            in_flight.give_back(&permit.domain, SLOW);
            std::mem::forget(permit);
        };
        slow();
        assert_eq!(in_flight.free(), 28);
        (0..100).for_each(|_| slow());
        assert_eq!(in_flight.free(), 8);
    }

    #[test]
    fn what_is_kept_for_one_is_there_for_nobody_else() {
        let in_flight = InFlightLimit::new(8, 8);
        let mut reserved = in_flight.reserve(3);
        assert_eq!((in_flight.free(), in_flight.reserve(9).kept, in_flight.free()), (5, 5, 0));
        assert_eq!(in_flight.free(), 5, "given back when it is dropped");
        let held: Vec<Permit> = ["a", "b", "c", "d", "e"].iter().filter_map(|domain| in_flight.take(domain)).collect();
        assert!(held.len() == 5 && in_flight.take("f").is_none());
        assert!(reserved.take("f").is_some());
        let kept = reserved.take("f");
        drop(reserved);
        assert_eq!(in_flight.free(), 2);
        drop((held, kept));
        assert_eq!(in_flight.free(), 8);
    }

    #[test]
    fn domains_take_turns_and_each_keeps_its_order() {
        let in_flight = InFlightLimit::new(8, 8);
        let mut fresh = Fresh::default();
        for number in 0..20 {
            fresh.push(id(number), "big".into());
        }
        fresh.push(id(100), "small".into());
        fresh.push(id(200), "tiny".into());
        let first = fresh.next(&in_flight, usize::MAX);
        assert_eq!(ids(&first), [0, 100, 200, 1, 2, 3, 4, 5]);
        assert!(fresh.next(&in_flight, usize::MAX).is_empty());
        assert_eq!(fresh.len(), 14);
        drop(first);
        let second = fresh.next(&in_flight, usize::MAX);
        assert_eq!(ids(&second), [6, 7, 8, 9, 10, 11], "its share, though there is room");
        fresh.push(id(101), "small".into());
        assert_eq!(ids(&fresh.next(&in_flight, usize::MAX)), [101]);
        drop(second);
        while !fresh.is_empty() {
            assert!(!fresh.next(&in_flight, usize::MAX).is_empty());
        }
        assert!(fresh.queues.is_empty() && fresh.turns.is_empty());
    }

    #[tokio::test]
    async fn who_waits_for_a_permit_hears_of_it() {
        let in_flight = InFlightLimit::new(1, 1);
        let held = in_flight.take("a");
        let waiting = tokio::spawn({
            let in_flight = Arc::clone(&in_flight);
            async move { in_flight.wait_until_free().await }
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
