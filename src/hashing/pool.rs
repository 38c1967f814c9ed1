//! The pool: a bounded queue, first come first served, and the threads behind it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use secrecy::SecretString;
use tokio::sync::{Semaphore, oneshot};

use super::formats::StoredHash;
use super::worker::{self, Hasher, Job, Work};
use super::{HashError, HashKind, ImportError, Limits, Options, Pepper, Verification, check_importable};

/// Hashes and verifies passwords on threads of its own. Cheap to clone; the threads end with the last clone.
///
/// A future that is dropped takes its job along: a job that nobody waits for is skipped when its turn comes.
#[derive(Clone)]
pub struct HashPool {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    /// Places in the queue, running jobs counted.
    places: Arc<Semaphore>,
    capacity: usize,
    threads: usize,
    /// Hashes that need far more memory than ours are verified one at a time: otherwise a few sign-ins could take gigabytes.
    large: Arc<Semaphore>,
    /// Hashes that take far longer than ours leave half of the threads to the others.
    slow: Arc<Semaphore>,
}

/// What the threads work with.
pub(super) struct Shared {
    pub(super) options: Options,
    /// The first one that is not on standby goes into new hashes; the others verify older ones.
    pub(super) peppers: ArcSwap<Vec<Pepper>>,
    started: Instant,
    /// When somebody else last had something to do, in milliseconds after `started`; 0 before that.
    others: AtomicU64,
}

impl Shared {
    /// How long ago somebody else had something to do.
    pub(super) fn since_others(&self) -> Option<Duration> {
        let at = self.others.load(Ordering::Relaxed);
        (at > 0).then(|| self.started.elapsed().saturating_sub(Duration::from_millis(at)))
    }
}

/// From here on a verification is slow, in milliseconds: several times what our own hashes take.
const SLOW: u64 = 100;

impl HashPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`HashError::Options`] for costs that Argon2 does not allow, [`HashError::Thread`].
    pub fn new(options: Options) -> Result<Self, HashError> {
        worker::blank(&options, &[], vec![0; 16])
            .params()
            .map_err(|error| HashError::Options(format!("Argon2 does not allow these costs: {error}")))?;
        check_peppers(&options.peppers)?;
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let capacity = threads.saturating_add(options.queue).min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(capacity));
        let peppers = ArcSwap::from_pointee(options.peppers.clone());
        let shared = Arc::new(Shared { options, peppers, started: Instant::now(), others: AtomicU64::new(0) });
        let queue = Arc::new(Queue::default());
        let (large, slow) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new((threads / 2).max(1))));
        let inner = Inner { queue, shared, places, capacity, threads, large, slow };
        for n in 0..threads {
            let (queue, shared) = (Arc::clone(&inner.queue), Arc::clone(&inner.shared));
            std::thread::Builder::new()
                .name(format!("hash-{n}"))
                .spawn(move || worker::run(&queue, &shared))
                .map_err(|error| HashError::Thread(error.to_string()))?;
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The Argon2id PHC string of a password, with a fresh salt.
    ///
    /// # Errors
    /// [`HashError::Failed`].
    pub async fn hash(&self, password: SecretString) -> Result<String, HashError> {
        self.submit(None, move |hasher| hasher.hash(&password)).await?
    }

    /// As [`Self::hash`], of a password that `judge` has no objection to. Judging one takes milliseconds, which no thread that serves
    /// messages should spend; here both are one job, which waits once.
    ///
    /// # Errors
    /// As there.
    pub async fn hash_if<E: Send + 'static>(
        &self,
        password: SecretString,
        judge: impl FnOnce(&SecretString) -> Result<(), E> + Send + 'static,
    ) -> Result<Result<String, E>, HashError> {
        self.submit(None, move |hasher| match judge(&password) {
            Ok(()) => hasher.hash(&password).map(Ok),
            Err(objection) => Ok(Err(objection)),
        })
        .await?
    }

    /// Whether `stored` was made from `password`.
    ///
    /// # Errors
    /// [`HashError::Stored`] for a hash that is damaged, unknown or too costly, [`HashError::PepperMissing`], [`HashError::Failed`].
    pub async fn verify(&self, password: SecretString, stored: &str) -> Result<Verification, HashError> {
        let stored = StoredHash::parse(stored).map_err(HashError::Stored)?;
        stored.check(&Limits::STORED).map_err(HashError::Stored)?;
        self.submit(Some(stored.clone()), move |hasher| hasher.verify(&password, &stored)).await?
    }

    /// Takes as long as the verification of a wrong password: for users that do not exist, so that time does not tell.
    ///
    /// # Errors
    /// [`HashError::Failed`].
    pub async fn verify_dummy(&self, password: SecretString) -> Result<(), HashError> {
        let dummy = StoredHash::Argon2(self.inner.shared.blank(vec![0x5a; 16]));
        self.submit(None, move |hasher| hasher.verify(&password, &dummy)).await?.map(drop)
    }

    /// Whether a hash that was made elsewhere can be taken over.
    ///
    /// # Errors
    /// [`ImportError`], worded for the publisher.
    pub fn check_importable(&self, hash: &str) -> Result<HashKind, ImportError> {
        check_importable(hash, &self.inner.shared.options.limits)
    }

    /// Takes over the peppers of a key file that changed.
    ///
    /// # Errors
    /// [`HashError::Options`] for an id that no hash could hold; then the old ones stay.
    pub fn set_peppers(&self, peppers: Vec<Pepper>) -> Result<(), HashError> {
        check_peppers(&peppers)?;
        self.inner.shared.peppers.store(Arc::new(peppers));
        Ok(())
    }

    /// Somebody else has something to do: for a while the threads pause between hashes.
    pub fn make_way(&self) {
        let shared = &self.inner.shared;
        let now = u64::try_from(shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        shared.others.store(now.max(1), Ordering::Relaxed);
    }

    /// How many jobs wait or run.
    pub fn pending(&self) -> usize {
        self.inner.capacity - self.inner.places.available_permits()
    }

    /// How many threads work.
    pub fn threads(&self) -> usize {
        self.inner.threads
    }

    /// Has a thread do some work, once there is a place; of a hash from elsewhere, with the right to cost what it costs.
    async fn submit<T: Send + 'static>(
        &self,
        foreign: Option<StoredHash>,
        work: impl FnOnce(&mut Hasher) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let closed = |_| HashError::Failed("the pool is closed");
        let mut permits = Vec::with_capacity(3);
        if let Some(stored) = foreign {
            if stored.memory_kib() > self.inner.shared.options.memory_kib.saturating_mul(4) {
                permits.push(Arc::clone(&self.inner.large).acquire_owned().await.map_err(closed)?);
            }
            // Not ours, if ours are slow by configuration.
            let own = StoredHash::Argon2(self.inner.shared.blank(Vec::new())).milliseconds();
            if stored.milliseconds() > SLOW.max(own.saturating_mul(4)) {
                permits.push(Arc::clone(&self.inner.slow).acquire_owned().await.map_err(closed)?);
            }
        }
        permits.push(Arc::clone(&self.inner.places).acquire_owned().await.map_err(closed)?);
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |hasher| {
            if !reply.is_closed() {
                // Whether anybody still listens does not matter: the answer is dropped then.
                drop(reply.send(work(hasher)));
            }
        });
        self.inner.queue.push(Job { work, permits });
        answer.await.map_err(|_| HashError::Failed("the hashing thread failed"))
    }
}

fn check_peppers(peppers: &[Pepper]) -> Result<(), HashError> {
    match peppers.iter().find(|pepper| !(1..=8).contains(&pepper.id().len())) {
        Some(pepper) => Err(HashError::Options(format!("the pepper's id {:?} must have 1 to 8 bytes", pepper.id()))),
        None => Ok(()),
    }
}

impl std::fmt::Debug for HashPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashPool").field("options", &self.inner.shared.options).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// What a thread does next.
pub(super) enum Next {
    Job(Job),
    /// There has been nothing to do for a while.
    Quiet,
    /// Nobody is left to work for.
    Closed,
}

/// Jobs in the order in which they came.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    fn push(&self, job: Job) {
        self.lock().jobs.push_back(job);
        self.wake.notify_one();
    }

    /// The next job, waited for as long as `patience` if there is one.
    pub(super) fn pop(&self, patience: Option<Duration>) -> Next {
        let nothing = |state: &mut State| state.jobs.is_empty() && !state.closed;
        let mut state = match patience {
            None => self.wake.wait_while(self.lock(), nothing).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = self.wake.wait_timeout_while(self.lock(), patience, nothing);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if state.closed { Next::Closed } else { state.jobs.pop_front().map_or(Next::Quiet, Next::Job) }
    }

    /// Whether a job waits.
    pub(super) fn has_more(&self) -> bool {
        !self.lock().jobs.is_empty()
    }

    /// Nobody is left who could wait for an answer.
    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.jobs.clear();
        drop(state);
        self.wake.notify_all();
    }

    // A panic while the lock is held cannot leave the list half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
