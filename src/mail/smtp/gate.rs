//! Who may use a connection: at most so many at once, and of these one domain leaves some to others, so that a domain at
//! which the server takes its time delays nobody else.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Of so many places, those that mail to one domain may take: three quarters, and one where there is only one.
pub fn share_of_a_domain(places: usize) -> usize {
    (places - places.div_ceil(4)).max(1)
}

/// The places at the connections.
#[derive(Debug)]
pub(super) struct Gate {
    connections: usize,
    /// For one domain.
    share: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: usize,
    domains: HashMap<Arc<str>, Line>,
    /// Lines that somebody stands in, of domains that have not had their share: how many are inside, and when the first came.
    next: BTreeSet<(usize, u64, Arc<str>)>,
    /// How many have come so far.
    came: u64,
}

/// A domain that has mail at the gate.
#[derive(Debug, Default)]
struct Line {
    inside: usize,
    /// Who waits, and when each came.
    waiting: VecDeque<(u64, oneshot::Sender<Pass>)>,
}

/// The right to use a connection, until it is dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    domain: Arc<str>,
}

impl Gate {
    /// So many at once, three quarters of them for one domain at most.
    pub fn new(connections: usize) -> Arc<Self> {
        let share = share_of_a_domain(connections);
        let state = State { free: connections, ..State::default() };
        Arc::new(Self { connections, share, state: Mutex::new(state) })
    }

    /// How many are inside, and how many there may be.
    pub fn usage(&self) -> (usize, usize) {
        (self.connections.saturating_sub(self.state().free), self.connections)
    }

    /// Waits for a place. Cancelling is safe.
    pub async fn enter(self: &Arc<Self>, domain: &str) -> Pass {
        loop {
            let (sender, granted) = oneshot::channel();
            self.state().stand_in_line(domain, sender, self.share);
            self.admit();
            // The sender is dropped only with a pass sent, or with the gate, which `self` keeps.
            if let Ok(pass) = granted.await {
                return pass;
            }
        }
    }

    /// Lets in whom there is a place for: of those who wait, first the domain that has the fewest inside.
    fn admit(self: &Arc<Self>) {
        loop {
            let Some((domain, sender)) = self.state().admit(self.share) else { return };
            let pass = Pass { gate: Arc::clone(self), domain };
            // If nobody waits for it any more it is dropped here, and so given back.
            drop(sender.send(pass));
        }
    }

    /// Nothing panics while it is held, so a poisoned lock protects sound data.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn stand_in_line(&mut self, domain: &str, sender: oneshot::Sender<Pass>, share: usize) {
        let came = self.came;
        self.came += 1;
        self.change(domain, share, |line| line.waiting.push_back((came, sender)));
    }

    fn admit(&mut self, share: usize) -> Option<(Arc<str>, oneshot::Sender<Pass>)> {
        if self.free == 0 {
            return None;
        }
        let (_, _, domain) = self.next.first().cloned()?;
        let (_, sender) = self.change(&domain, share, |line| {
            line.inside += 1;
            line.waiting.pop_front()
        })?;
        self.free -= 1;
        Some((domain, sender))
    }

    fn leave(&mut self, domain: &str, share: usize) {
        self.free += 1;
        self.change(domain, share, |line| line.inside -= 1);
    }

    /// Changes a line, and with it its place among the next.
    fn change<T>(&mut self, domain: &str, share: usize, change: impl FnOnce(&mut Line) -> T) -> T {
        let (name, mut line) = self.domains.remove_entry(domain).unwrap_or_else(|| (domain.into(), Line::default()));
        if let Some(place) = line.place(share) {
            self.next.remove(&(place.0, place.1, Arc::clone(&name)));
        }
        let changed = change(&mut line);
        line.waiting.retain(|(_, sender)| !sender.is_closed());
        if let Some(place) = line.place(share) {
            self.next.insert((place.0, place.1, Arc::clone(&name)));
        }
        if line.inside > 0 || !line.waiting.is_empty() {
            self.domains.insert(name, line);
        }
        changed
    }
}

impl Line {
    /// Its place among the next, if it is one of them.
    fn place(&self, share: usize) -> Option<(usize, u64)> {
        let (came, _) = self.waiting.front()?;
        (self.inside < share).then_some((self.inside, *came))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.state().leave(&self.domain, self.gate.share);
        self.gate.admit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn waits(gate: &Arc<Gate>, domain: &str) -> bool {
        tokio::time::timeout(Duration::from_millis(5), gate.enter(domain)).await.is_err()
    }

    #[tokio::test]
    async fn one_domain_leaves_a_quarter_to_others() {
        let gate = Gate::new(4);
        let slow = [gate.enter("slow").await, gate.enter("slow").await, gate.enter("slow").await];
        assert!(waits(&gate, "slow").await);
        let other = gate.enter("other").await;
        assert!(waits(&gate, "third").await, "all four are taken");
        drop(slow);
        assert_eq!(gate.state().free, 3);
        drop(other);
        let state = gate.state();
        assert_eq!((state.free, state.domains.len(), state.next.len()), (4, 0, 0), "nothing is left of those who went");
    }

    #[tokio::test]
    async fn who_has_the_fewest_inside_goes_first() {
        let gate = Gate::new(2);
        let (first, second) = (gate.enter("big").await, gate.enter("small").await);
        let enter = |domain: &'static str| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.enter(domain).await })
        };
        let (again, new) = (enter("big"), enter("new"));
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(second);
        let new = new.await.unwrap();
        assert!(!again.is_finished());
        drop(first);
        let again = again.await.unwrap();
        drop((again, new));
        assert_eq!(gate.state().free, 2);
    }

    #[tokio::test]
    async fn a_single_connection_serves_everybody() {
        let gate = Gate::new(1);
        for domain in ["a", "b", "a"] {
            drop(gate.enter(domain).await);
        }
    }

    #[tokio::test]
    async fn who_gave_up_waiting_takes_no_place() {
        let gate = Gate::new(1);
        let held = gate.enter("a").await;
        assert!(waits(&gate, "b").await && waits(&gate, "c").await);
        drop(held);
        drop(gate.enter("d").await);
        assert_eq!(gate.state().free, 1);
    }
}
