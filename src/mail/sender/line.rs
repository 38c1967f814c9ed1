//! Who is carried to the mail server next. There is a carrier for each connection; whoever is free takes as many of those
//! that wait as are its share, so that mails travel alone while connections are free, and together when there are more of
//! them than connections. One domain leaves some carriers to others, and travels alone if it took its time lately, so that a
//! domain at which the server takes its time delays nobody else; and all that took too long lately share a few carriers.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::late::{Late, Learnt};
use super::places::{QUICK, share_of_a_domain};

/// What waits, a line for each domain.
#[derive(Debug)]
pub(super) struct Line<T> {
    /// Carriers that may be busy with one domain.
    share: usize,
    state: Mutex<State<T>>,
    /// Something came, or may go now.
    news: Notify,
}

#[derive(Debug)]
struct State<T> {
    /// Carriers that have nothing to carry.
    free: usize,
    waiting: usize,
    domains: HashMap<Arc<str>, Domain<T>>,
    /// Domains of which something waits, and that have not had their share: how many carriers they have, and when the first came.
    next: BTreeSet<(usize, u64, Arc<str>)>,
    late: Late,
    /// How many have come so far.
    came: u64,
    closed: bool,
}

#[derive(Debug)]
struct Domain<T> {
    carriers: usize,
    /// Its last journey was not [`QUICK`]: the next is of one mail, with nobody else's.
    alone: bool,
    /// Who waits, and when each came.
    waiting: VecDeque<(u64, T)>,
}

impl<T> Default for Domain<T> {
    fn default() -> Self {
        Self { carriers: 0, alone: false, waiting: VecDeque::new() }
    }
}

/// What travels together. Its domains are free of it when it is dropped.
#[derive(Debug)]
pub(super) struct Group<T> {
    line: Arc<Line<T>>,
    domains: Vec<Arc<str>>,
    since: Instant,
    /// Whether it is one of those that share a few carriers.
    one_of_late: bool,
    /// Those who travel.
    pub mails: Vec<T>,
    /// To be filled in: what was learnt of the domains.
    pub learnt: Learnt,
}

impl<T> Line<T> {
    /// For so many carriers, three quarters of them for one domain at most.
    pub fn new(carriers: usize) -> Arc<Self> {
        let state = State {
            free: carriers,
            waiting: 0,
            domains: HashMap::new(),
            next: BTreeSet::new(),
            late: Late::new(carriers),
            came: 0,
            closed: false,
        };
        Arc::new(Self { share: share_of_a_domain(carriers), state: Mutex::new(state), news: Notify::new() })
    }

    /// Puts one at the end of its domain's line.
    pub fn push(&self, domain: &str, mail: T) {
        let mut state = self.state();
        let came = state.came;
        state.came += 1;
        state.waiting += 1;
        state.change(domain, self.share, |line| line.waiting.push_back((came, mail)));
        drop(state);
        self.news.notify_one();
    }

    /// Waits for the next to be carried, at most so many; none once the line is closed and empty. Cancelling is safe.
    pub async fn next(self: &Arc<Self>, most: usize) -> Option<Group<T>> {
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
                    let (line, since, learnt) = (Arc::clone(self), Instant::now(), Learnt::default());
                    return Some(Group { line, domains, since, one_of_late, mails, learnt });
                }
                if state.closed && state.waiting == 0 {
                    // For the next carrier.
                    self.news.notify_one();
                    return None;
                }
            }
            news.await;
        }
    }

    /// Takes out everybody who waits.
    pub fn drain(&self) -> Vec<T> {
        let mut state = self.state();
        state.waiting = 0;
        state.next.clear();
        let lines = state.domains.values_mut();
        let all = lines.flat_map(|line| line.waiting.drain(..)).map(|(_, mail)| mail).collect();
        state.domains.retain(|_, line| line.carriers > 0);
        all
    }

    /// Nobody comes any more: carriers end when everybody is carried.
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
    /// A free carrier's part of what waits: of the domains that have the fewest carriers, who came first.
    fn take(&mut self, most: usize, share: usize) -> Option<(Vec<Arc<str>>, Vec<T>)> {
        let mut part = self.waiting.div_ceil(self.free.max(1)).min(most);
        let (mut domains, mut mails) = (Vec::<Arc<str>>::new(), Vec::new());
        while mails.len() < part {
            let goes = |domain: &Arc<str>| {
                (mails.is_empty() || !self.goes_alone(domain)) && (self.late.has_room() || !self.late.is(domain))
            };
            let next = self.next.iter().map(|(_, _, domain)| domain).find(|domain| goes(domain));
            // Another mail of a domain that this carrier has already costs the others nothing.
            let of_these = || domains.iter().find(|domain| self.has_waiting(domain));
            let Some(domain) = next.or_else(of_these).map(Arc::clone) else { break };
            if self.goes_alone(&domain) {
                part = 1;
            }
            let known = domains.contains(&domain);
            mails.extend(self.change(&domain, share, |line| {
                line.carriers += usize::from(!known);
                line.waiting.pop_front().map(|(_, mail)| mail)
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
        self.late.is(domain) || self.domains.get(domain).is_some_and(|line| line.alone)
    }

    fn has_waiting(&self, domain: &str) -> bool {
        self.domains.get(domain).is_some_and(|line| !line.waiting.is_empty())
    }

    /// Changes a line, and with it its place among the next.
    fn change<R>(&mut self, domain: &str, share: usize, change: impl FnOnce(&mut Domain<T>) -> R) -> R {
        let (name, mut line) = self.domains.remove_entry(domain).unwrap_or_else(|| (domain.into(), Domain::default()));
        if let Some((carriers, came)) = line.place(share) {
            self.next.remove(&(carriers, came, Arc::clone(&name)));
        }
        let changed = change(&mut line);
        if let Some((carriers, came)) = line.place(share) {
            self.next.insert((carriers, came, Arc::clone(&name)));
        }
        if line.carriers > 0 || !line.waiting.is_empty() {
            self.domains.insert(name, line);
        }
        changed
    }
}

impl<T> Domain<T> {
    /// Its place among the next, if it is one of them.
    fn place(&self, share: usize) -> Option<(usize, u64)> {
        let (came, _) = self.waiting.front()?;
        (self.carriers < share).then_some((self.carriers, *came))
    }
}

impl<T> Drop for Group<T> {
    fn drop(&mut self) {
        let alone = self.since.elapsed() >= QUICK;
        let mut state = self.line.state();
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
            state.change(domain, self.line.share, |line| {
                line.carriers -= 1;
                line.alone = alone;
            });
        }
        let more = !state.next.is_empty();
        drop(state);
        if more {
            self.line.news.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::late::Heard;
    use super::*;
    use std::time::Duration;

    fn line(carriers: usize, waiting: &[(&str, u32)]) -> Arc<Line<u32>> {
        let line = Line::new(carriers);
        for (domain, mail) in waiting {
            line.push(domain, *mail);
        }
        line
    }

    async fn mails(line: &Arc<Line<u32>>, most: usize) -> Option<Group<u32>> {
        tokio::time::timeout(Duration::from_millis(5), line.next(most)).await.ok().flatten()
    }

    fn none_left(line: &Line<u32>, carriers: usize) {
        let state = line.state();
        assert_eq!((state.free, state.waiting, state.domains.len(), state.next.len()), (carriers, 0, 0, 0));
    }

    #[tokio::test]
    async fn one_domain_leaves_a_quarter_to_others() {
        let line = line(4, &[("slow", 1), ("slow", 2), ("slow", 3), ("slow", 4)]);
        let slow = [mails(&line, 1).await.unwrap(), mails(&line, 1).await.unwrap(), mails(&line, 1).await.unwrap()];
        assert!(mails(&line, 1).await.is_none(), "the fourth waits, though a carrier is free");
        line.push("other", 5);
        assert_eq!(mails(&line, 8).await.unwrap().mails, [5], "and does not travel with others");
        drop(slow);
        assert_eq!(mails(&line, 1).await.unwrap().mails, [4]);
        none_left(&line, 4);
    }

    #[tokio::test]
    async fn the_domain_with_the_fewest_carriers_goes_first() {
        let line = line(4, &[("big", 1)]);
        let first = mails(&line, 1).await.unwrap();
        line.push("big", 2);
        line.push("new", 3);
        assert_eq!(mails(&line, 1).await.unwrap().mails, [3]);
        drop(first);
        assert_eq!(mails(&line, 1).await.unwrap().mails, [2]);
        none_left(&line, 4);
    }

    #[tokio::test]
    async fn mails_travel_together_when_there_are_more_than_carriers() {
        let line = line(2, &[("a", 1), ("b", 2)]);
        let alone = [mails(&line, 8).await.unwrap(), mails(&line, 8).await.unwrap()];
        assert_eq!(alone.each_ref().map(|group| group.mails.as_slice()), [&[1][..], &[2]]);
        drop(alone);
        for (domain, mail) in [("a", 1), ("a", 2), ("b", 3), ("c", 4), ("c", 5)] {
            line.push(domain, mail);
        }
        let first = mails(&line, 8).await.unwrap();
        assert_eq!(first.mails, [1, 3, 4], "half of them, of several domains");
        assert!(mails(&line, 8).await.is_none(), "these domains have their carrier");
        drop(first);
        assert_eq!(mails(&line, 8).await.unwrap().mails, [2]);
        assert_eq!(mails(&line, 8).await.unwrap().mails, [5]);
        none_left(&line, 2);
    }

    #[tokio::test]
    async fn mails_of_one_domain_travel_together_also_when_it_has_its_share() {
        let line = line(1, &[("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 5)]);
        assert_eq!(mails(&line, 4).await.unwrap().mails, [1, 5, 2, 3]);
        assert_eq!(mails(&line, 4).await.unwrap().mails, [4]);
        none_left(&line, 1);
    }

    #[tokio::test]
    async fn a_domain_that_took_its_time_travels_alone_until_it_is_quick_again() {
        let line = line(1, &[("slow", 1)]);
        let mut first = mails(&line, 4).await.unwrap();
        for (domain, mail) in [("slow", 2), ("quick", 3), ("slow", 4), ("quick", 5), ("slow", 6)] {
            line.push(domain, mail);
        }
        first.since -= QUICK;
        drop(first);
        assert_eq!(mails(&line, 4).await.unwrap().mails, [2]);
        assert_eq!(mails(&line, 4).await.unwrap().mails, [3, 4, 5, 6]);
        for (domain, mail) in [("quick", 1), ("slow", 2), ("other", 3), ("quick", 4)] {
            line.push(domain, mail);
        }
        line.state().domains.get_mut("slow").unwrap().alone = true;
        assert_eq!(mails(&line, 4).await.unwrap().mails, [1, 3, 4], "the others do not travel with it");
        assert_eq!(mails(&line, 4).await.unwrap().mails, [2]);
        none_left(&line, 1);
    }

    #[tokio::test]
    async fn domains_that_took_too_long_share_a_quarter() {
        let line = line(8, &[]);
        for n in 0..6 {
            line.push(&format!("hanging{n}"), n);
            let mut group = mails(&line, 1).await.unwrap();
            group.since -= QUICK;
            group.learnt.note(&format!("hanging{n}"), Heard::TookTooLong);
        }
        for n in 0..6 {
            line.push(&format!("hanging{n}"), n);
        }
        let mut hanging = vec![mails(&line, 4).await.unwrap(), mails(&line, 4).await.unwrap()];
        assert!(mails(&line, 4).await.is_none(), "though six carriers are free");
        line.push("good", 10);
        assert_eq!(mails(&line, 4).await.unwrap().mails, [10]);
        // One that goes quickly is none of them any more.
        hanging[1].learnt.note("hanging1", Heard::Answer);
        drop(hanging.pop());
        let again = mails(&line, 4).await.unwrap();
        line.push("hanging1", 11);
        assert_eq!(mails(&line, 4).await.unwrap().mails, [11]);
        drop((hanging, again));
        for n in 3..6 {
            assert_eq!(mails(&line, 4).await.unwrap().mails, [n], "one after the other");
        }
        none_left(&line, 8);
    }

    #[tokio::test]
    async fn a_domain_that_took_too_long_is_remembered_until_a_mail_is_answered() {
        let line = line(4, &[("hanging", 1)]);
        let is_late = || line.state().late.is("hanging");
        let mut group = mails(&line, 4).await.unwrap();
        group.since -= QUICK;
        group.learnt.note("hanging", Heard::TookTooLong);
        drop(group);
        assert!(is_late());
        line.push("hanging", 2);
        drop(mails(&line, 4).await.unwrap());
        assert!(is_late(), "its mail was not tried, or the connection was refused");
        line.push("hanging", 3);
        let mut group = mails(&line, 4).await.unwrap();
        group.learnt.note("hanging", Heard::Answer);
        drop(group);
        assert!(!is_late());
        none_left(&line, 4);
    }

    #[tokio::test]
    async fn a_single_carrier_serves_everybody() {
        let line = line(1, &[("a", 1), ("b", 2), ("a", 3)]);
        let mut carried = Vec::new();
        while let Some(mut group) = mails(&line, 2).await {
            assert!(group.mails.len() <= 2);
            carried.append(&mut group.mails);
        }
        carried.sort_unstable();
        assert_eq!(carried, [1, 2, 3]);
        none_left(&line, 1);
    }

    #[tokio::test]
    async fn who_waits_hears_of_it() {
        let line = line(3, &[]);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let line = Arc::clone(&line);
                tokio::spawn(async move { line.next(1).await.map(|group| group.mails[0]) })
            })
            .collect();
        tokio::task::yield_now().await;
        for (domain, mail) in [("a", 1), ("b", 2), ("a", 3)] {
            line.push(domain, mail);
        }
        let mut carried: Vec<_> =
            futures_util::future::join_all(waiting).await.into_iter().map(|mail| mail.unwrap().unwrap()).collect();
        carried.sort_unstable();
        assert_eq!(carried, [1, 2, 3]);
        none_left(&line, 3);
    }

    #[tokio::test]
    async fn closed_it_ends_when_everybody_is_carried() {
        let line = line(2, &[("a", 1)]);
        line.close();
        assert_eq!(line.next(1).await.unwrap().mails, [1]);
        assert!(line.next(1).await.is_none() && line.next(1).await.is_none());
    }

    #[tokio::test]
    async fn who_is_taken_out_does_not_come_again() {
        let line = line(2, &[("a", 1), ("a", 2), ("b", 3)]);
        let group = mails(&line, 1).await.unwrap();
        let mut out = line.drain();
        out.sort_unstable();
        assert_eq!(out, [2, 3]);
        drop(group);
        assert!(mails(&line, 1).await.is_none());
        none_left(&line, 2);
    }
}
