//! The queue of mails that wait for a connection to the mail server, fair to domains.
//!
//! There is a worker for each connection; a free one takes its share of the mails that wait, so that each mail goes alone while
//! connections are free, and several go together when there are more mails than connections. Mail to one domain leaves some
//! workers to others, and goes alone if its last batch was slow, so that a domain at which the server takes its time delays nobody
//! else; and all domains that timed out lately share a few workers.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::in_flight::{QUICK, share_of_a_domain};
use super::late::{Late, Learnt};

/// Mails that wait, in a queue for each domain.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    /// Workers that may be busy with one domain.
    share: usize,
    state: Mutex<State<T>>,
    /// Something came, or may go now.
    news: Notify,
}

#[derive(Debug)]
struct State<T> {
    /// Workers without a batch.
    free: usize,
    waiting: usize,
    domains: HashMap<Arc<str>, DomainQueue<T>>,
    /// Domains of which mail waits and that have fewer workers than their share: the number of workers, and when the first mail came.
    next: BTreeSet<(usize, u64, Arc<str>)>,
    late: Late,
    /// Mails that have come so far.
    came: u64,
    closed: bool,
}

#[derive(Debug)]
struct DomainQueue<T> {
    workers: usize,
    /// Its last batch was not [`QUICK`]: the next has one mail only.
    alone: bool,
    /// Mails that wait, each with its number in the order of arrival.
    waiting: VecDeque<(u64, T)>,
}

impl<T> Default for DomainQueue<T> {
    fn default() -> Self {
        Self { workers: 0, alone: false, waiting: VecDeque::new() }
    }
}

/// Mails that one worker sends together. When it is dropped, its domains have a worker less.
#[derive(Debug)]
pub(super) struct Batch<T> {
    queue: Arc<FairQueue<T>>,
    domains: Vec<Arc<str>>,
    since: Instant,
    /// Whether one of its domains timed out lately, so that it counts for the few workers that such domains share.
    one_of_late: bool,
    /// The mails.
    pub mails: Vec<T>,
    /// To be filled in: what the attempts told about the domains.
    pub learnt: Learnt,
}

impl<T> FairQueue<T> {
    /// For this number of workers, three quarters of them for one domain at most.
    pub fn new(workers: usize) -> Arc<Self> {
        let state = State {
            free: workers,
            waiting: 0,
            domains: HashMap::new(),
            next: BTreeSet::new(),
            late: Late::new(workers),
            came: 0,
            closed: false,
        };
        Arc::new(Self { share: share_of_a_domain(workers), state: Mutex::new(state), news: Notify::new() })
    }

    /// Puts a mail at the end of its domain's queue.
    pub fn push(&self, domain: &str, mail: T) {
        let mut state = self.state();
        let came = state.came;
        state.came += 1;
        state.waiting += 1;
        state.change(domain, self.share, |queue| queue.waiting.push_back((came, mail)));
        drop(state);
        self.news.notify_one();
    }

    /// Waits for the next batch, of `most` mails at most; none once the queue is closed and empty. Cancelling is safe.
    pub async fn next(self: &Arc<Self>, most: usize) -> Option<Batch<T>> {
        loop {
            let news = self.news.notified();
            {
                let mut state = self.state();
                if let Some((domains, mails)) = state.take(most, self.share) {
                    let more = !state.next.is_empty();
                    let one_of_late = domains.iter().any(|domain| state.late.is(domain));
                    if one_of_late {
                        state.late.leaves();
                    }
                    drop(state);
                    if more {
                        self.news.notify_one();
                    }
                    let (queue, since, learnt) = (Arc::clone(self), Instant::now(), Learnt::default());
                    return Some(Batch { queue, domains, since, one_of_late, mails, learnt });
                }
                if state.closed && state.waiting == 0 {
                    // For the next worker.
                    self.news.notify_one();
                    return None;
                }
            }
            news.await;
        }
    }

    /// Takes out all mails that wait.
    pub fn drain(&self) -> Vec<T> {
        let mut state = self.state();
        state.waiting = 0;
        state.next.clear();
        let queues = state.domains.values_mut();
        let all = queues.flat_map(|queue| queue.waiting.drain(..)).map(|(_, mail)| mail).collect();
        state.domains.retain(|_, queue| queue.workers > 0);
        all
    }

    /// No more mail comes: workers end when the queue is empty.
    pub fn close(&self) {
        self.state().closed = true;
        self.news.notify_one();
    }

    /// Nothing panics while it is held, so a poisoned lock protects sound data.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    /// A free worker's part of the mails that wait: of the domains that have the fewest workers, the first that came.
    fn take(&mut self, most: usize, share: usize) -> Option<(Vec<Arc<str>>, Vec<T>)> {
        let mut part = self.waiting.div_ceil(self.free.max(1)).min(most);
        let (mut domains, mut mails) = (Vec::<Arc<str>>::new(), Vec::new());
        while mails.len() < part {
            let goes = |domain: &Arc<str>| {
                (mails.is_empty() || !self.goes_alone(domain)) && (self.late.has_room() || !self.late.is(domain))
            };
            let next = self.next.iter().map(|(_, _, domain)| domain).find(|domain| goes(domain));
            // Another mail of a domain that this worker has already costs the others nothing.
            let of_these = || domains.iter().find(|domain| self.has_waiting(domain));
            let Some(domain) = next.or_else(of_these).map(Arc::clone) else { break };
            if self.goes_alone(&domain) {
                part = 1;
            }
            let known = domains.contains(&domain);
            mails.extend(self.change(&domain, share, |queue| {
                queue.workers += usize::from(!known);
                queue.waiting.pop_front().map(|(_, mail)| mail)
            }));
            self.waiting -= 1;
            if !known {
                domains.push(domain);
            }
        }
        if mails.is_empty() {
            return None;
        }
        self.free = self.free.saturating_sub(1);
        Some((domains, mails))
    }

    fn goes_alone(&self, domain: &str) -> bool {
        self.late.is(domain) || self.domains.get(domain).is_some_and(|queue| queue.alone)
    }

    fn has_waiting(&self, domain: &str) -> bool {
        self.domains.get(domain).is_some_and(|queue| !queue.waiting.is_empty())
    }

    /// Changes a domain's queue, and with it its place among the next.
    fn change<R>(&mut self, domain: &str, share: usize, change: impl FnOnce(&mut DomainQueue<T>) -> R) -> R {
        let (name, mut queue) =
            self.domains.remove_entry(domain).unwrap_or_else(|| (domain.into(), DomainQueue::default()));
        if let Some((workers, came)) = queue.place(share) {
            self.next.remove(&(workers, came, Arc::clone(&name)));
        }
        let changed = change(&mut queue);
        if let Some((workers, came)) = queue.place(share) {
            self.next.insert((workers, came, Arc::clone(&name)));
        }
        if queue.workers > 0 || !queue.waiting.is_empty() {
            self.domains.insert(name, queue);
        }
        changed
    }
}

impl<T> DomainQueue<T> {
    /// Its place among the next, if it is one of them.
    fn place(&self, share: usize) -> Option<(usize, u64)> {
        let (came, _) = self.waiting.front()?;
        (self.workers < share).then_some((self.workers, *came))
    }
}

impl<T> Drop for Batch<T> {
    fn drop(&mut self) {
        let alone = self.since.elapsed() >= QUICK;
        let mut state = self.queue.state();
        state.free += 1;
        if self.one_of_late {
            state.late.is_back();
        }
        for domain in &self.domains {
            if self.learnt.took_too_long(domain) {
                state.late.add(domain);
            } else if !alone && self.learnt.answered(domain) {
                state.late.forget(domain);
            }
            state.change(domain, self.queue.share, |queue| {
                queue.workers -= 1;
                queue.alone = alone;
            });
        }
        let more = !state.next.is_empty();
        drop(state);
        if more {
            self.queue.news.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::late::Heard;
    use super::*;
    use std::time::Duration;

    fn queue(workers: usize, waiting: &[(&str, u32)]) -> Arc<FairQueue<u32>> {
        let queue = FairQueue::new(workers);
        for (domain, mail) in waiting {
            queue.push(domain, *mail);
        }
        queue
    }

    async fn mails(queue: &Arc<FairQueue<u32>>, most: usize) -> Option<Batch<u32>> {
        tokio::time::timeout(Duration::from_millis(5), queue.next(most)).await.ok().flatten()
    }

    fn none_left(queue: &FairQueue<u32>, workers: usize) {
        let state = queue.state();
        assert_eq!((state.free, state.waiting, state.domains.len(), state.next.len()), (workers, 0, 0, 0));
    }

    #[tokio::test]
    async fn one_domain_leaves_a_quarter_to_others() {
        let queue = queue(4, &[("slow", 1), ("slow", 2), ("slow", 3), ("slow", 4)]);
        let slow = [mails(&queue, 1).await.unwrap(), mails(&queue, 1).await.unwrap(), mails(&queue, 1).await.unwrap()];
        assert!(mails(&queue, 1).await.is_none(), "the fourth waits, though a worker is free");
        queue.push("other", 5);
        assert_eq!(mails(&queue, 8).await.unwrap().mails, [5], "and does not travel with others");
        drop(slow);
        assert_eq!(mails(&queue, 1).await.unwrap().mails, [4]);
        none_left(&queue, 4);
    }

    #[tokio::test]
    async fn the_domain_with_the_fewest_workers_goes_first() {
        let queue = queue(4, &[("big", 1)]);
        let first = mails(&queue, 1).await.unwrap();
        queue.push("big", 2);
        queue.push("new", 3);
        assert_eq!(mails(&queue, 1).await.unwrap().mails, [3]);
        drop(first);
        assert_eq!(mails(&queue, 1).await.unwrap().mails, [2]);
        none_left(&queue, 4);
    }

    #[tokio::test]
    async fn mails_go_together_when_there_are_more_than_workers() {
        let queue = queue(2, &[("a", 1), ("b", 2)]);
        let alone = [mails(&queue, 8).await.unwrap(), mails(&queue, 8).await.unwrap()];
        assert_eq!(alone.each_ref().map(|batch| batch.mails.as_slice()), [&[1][..], &[2]]);
        drop(alone);
        for (domain, mail) in [("a", 1), ("a", 2), ("b", 3), ("c", 4), ("c", 5)] {
            queue.push(domain, mail);
        }
        let first = mails(&queue, 8).await.unwrap();
        assert_eq!(first.mails, [1, 3, 4], "half of them, of several domains");
        assert!(mails(&queue, 8).await.is_none(), "these domains have their worker");
        drop(first);
        assert_eq!(mails(&queue, 8).await.unwrap().mails, [2]);
        assert_eq!(mails(&queue, 8).await.unwrap().mails, [5]);
        none_left(&queue, 2);
    }

    #[tokio::test]
    async fn mails_of_one_domain_travel_together_also_when_it_has_its_share() {
        let queue = queue(1, &[("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 5)]);
        assert_eq!(mails(&queue, 4).await.unwrap().mails, [1, 5, 2, 3]);
        assert_eq!(mails(&queue, 4).await.unwrap().mails, [4]);
        none_left(&queue, 1);
    }

    #[tokio::test]
    async fn a_domain_that_took_its_time_travels_alone_until_it_is_quick_again() {
        let queue = queue(1, &[("slow", 1)]);
        let mut first = mails(&queue, 4).await.unwrap();
        for (domain, mail) in [("slow", 2), ("quick", 3), ("slow", 4), ("quick", 5), ("slow", 6)] {
            queue.push(domain, mail);
        }
        first.since -= QUICK;
        drop(first);
        assert_eq!(mails(&queue, 4).await.unwrap().mails, [2]);
        assert_eq!(mails(&queue, 4).await.unwrap().mails, [3, 4, 5, 6]);
        for (domain, mail) in [("quick", 1), ("slow", 2), ("other", 3), ("quick", 4)] {
            queue.push(domain, mail);
        }
        queue.state().domains.get_mut("slow").unwrap().alone = true;
        assert_eq!(mails(&queue, 4).await.unwrap().mails, [1, 3, 4], "the others do not travel with it");
        assert_eq!(mails(&queue, 4).await.unwrap().mails, [2]);
        none_left(&queue, 1);
    }

    #[tokio::test]
    async fn domains_that_took_too_long_share_a_quarter() {
        let queue = queue(8, &[]);
        for n in 0..6 {
            queue.push(&format!("hanging{n}"), n);
            let mut batch = mails(&queue, 1).await.unwrap();
            batch.since -= QUICK;
            batch.learnt.note(&format!("hanging{n}"), Heard::TookTooLong);
        }
        for n in 0..6 {
            queue.push(&format!("hanging{n}"), n);
        }
        let mut hanging = vec![mails(&queue, 4).await.unwrap(), mails(&queue, 4).await.unwrap()];
        assert!(mails(&queue, 4).await.is_none(), "though six workers are free");
        queue.push("good", 10);
        assert_eq!(mails(&queue, 4).await.unwrap().mails, [10]);
        // One that goes quickly is none of them any more.
        hanging[1].learnt.note("hanging1", Heard::Answer);
        drop(hanging.pop());
        let again = mails(&queue, 4).await.unwrap();
        queue.push("hanging1", 11);
        assert_eq!(mails(&queue, 4).await.unwrap().mails, [11]);
        drop((hanging, again));
        for n in 3..6 {
            assert_eq!(mails(&queue, 4).await.unwrap().mails, [n], "one after the other");
        }
        none_left(&queue, 8);
    }

    #[tokio::test]
    async fn a_domain_that_took_too_long_is_remembered_until_a_mail_is_answered() {
        let queue = queue(4, &[("hanging", 1)]);
        let is_late = || queue.state().late.is("hanging");
        let mut batch = mails(&queue, 4).await.unwrap();
        batch.since -= QUICK;
        batch.learnt.note("hanging", Heard::TookTooLong);
        drop(batch);
        assert!(is_late());
        queue.push("hanging", 2);
        drop(mails(&queue, 4).await.unwrap());
        assert!(is_late(), "its mail was not tried, or the connection was refused");
        queue.push("hanging", 3);
        let mut batch = mails(&queue, 4).await.unwrap();
        batch.learnt.note("hanging", Heard::Answer);
        drop(batch);
        assert!(!is_late());
        none_left(&queue, 4);
    }

    #[tokio::test]
    async fn a_single_worker_serves_every_domain() {
        let queue = queue(1, &[("a", 1), ("b", 2), ("a", 3)]);
        let mut sent = Vec::new();
        while let Some(mut batch) = mails(&queue, 2).await {
            assert!(batch.mails.len() <= 2);
            sent.append(&mut batch.mails);
        }
        sent.sort_unstable();
        assert_eq!(sent, [1, 2, 3]);
        none_left(&queue, 1);
    }

    #[tokio::test]
    async fn who_waits_hears_of_it() {
        let queue = queue(3, &[]);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move { queue.next(1).await.map(|batch| batch.mails[0]) })
            })
            .collect();
        tokio::task::yield_now().await;
        for (domain, mail) in [("a", 1), ("b", 2), ("a", 3)] {
            queue.push(domain, mail);
        }
        let mut sent: Vec<_> =
            futures_util::future::join_all(waiting).await.into_iter().map(|mail| mail.unwrap().unwrap()).collect();
        sent.sort_unstable();
        assert_eq!(sent, [1, 2, 3]);
        none_left(&queue, 3);
    }

    #[tokio::test]
    async fn closed_it_ends_when_it_is_empty() {
        let queue = queue(2, &[("a", 1)]);
        queue.close();
        assert_eq!(queue.next(1).await.unwrap().mails, [1]);
        assert!(queue.next(1).await.is_none() && queue.next(1).await.is_none());
    }

    #[tokio::test]
    async fn who_is_taken_out_does_not_come_again() {
        let queue = queue(2, &[("a", 1), ("a", 2), ("b", 3)]);
        let batch = mails(&queue, 1).await.unwrap();
        let mut out = queue.drain();
        out.sort_unstable();
        assert_eq!(out, [2, 3]);
        drop(batch);
        assert!(mails(&queue, 1).await.is_none());
        none_left(&queue, 2);
    }
}
