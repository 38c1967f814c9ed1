//! Who may use a connection: at most so many at once, and of these one domain leaves some to others, so that a domain at
//! which the server takes its time delays nobody else.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The places at the connections.
#[derive(Debug)]
pub(super) struct Gate {
    connections: usize,
    /// For one domain.
    share: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    inside: HashMap<String, usize>,
    waiting: VecDeque<(String, oneshot::Sender<Pass>)>,
}

/// The right to use a connection, until it is dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    domain: String,
}

impl Gate {
    /// So many at once, three quarters of them for one domain at most.
    pub fn new(connections: usize) -> Arc<Self> {
        let share = (connections - connections.div_ceil(4)).max(1);
        let state = State { free: connections, inside: HashMap::new(), waiting: VecDeque::new() };
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
            self.state().waiting.push_back((domain.to_owned(), sender));
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
            let (sender, pass) = {
                let mut state = self.state();
                if state.free == 0 {
                    return;
                }
                state.waiting.retain(|(_, sender)| !sender.is_closed());
                let inside = |domain: &String| state.inside.get(domain).copied().unwrap_or_default();
                let next = state
                    .waiting
                    .iter()
                    .enumerate()
                    .map(|(at, (domain, _))| (inside(domain), at))
                    .filter(|(inside, _)| *inside < self.share)
                    .min();
                let Some((domain, sender)) = next.and_then(|(_, at)| state.waiting.remove(at)) else { return };
                state.free -= 1;
                *state.inside.entry(domain.clone()).or_default() += 1;
                (sender, Pass { gate: Arc::clone(self), domain })
            };
            // If nobody waits for it any more it is dropped here, and so given back.
            drop(sender.send(pass));
        }
    }

    /// Nothing panics while it is held, so a poisoned lock protects sound data.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.free += 1;
        if let Some(inside) = state.inside.get_mut(&self.domain) {
            *inside -= 1;
            if *inside == 0 {
                state.inside.remove(&self.domain);
            }
        }
        drop(state);
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
        assert_eq!(
            (state.free, state.inside.len(), state.waiting.len()),
            (4, 0, 0),
            "nothing is left of those who went"
        );
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
