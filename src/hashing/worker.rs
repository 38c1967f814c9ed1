//! What one thread does: take a job, work on it in memory that it keeps, answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Version};
use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::sync::OwnedSemaphorePermit;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use zeroize::Zeroizing;

use super::formats::{Argon2Hash, StoredHash};
use super::memory::Memory;
use super::pool::{Next, Queue, Shared};
use super::{HashError, Options, Pepper, Verification, thread_priority};

/// The length of new salts and hashes, in bytes (RFC 9106, section 4).
const SALT_LENGTH: usize = 16;
const OUTPUT_LENGTH: usize = 32;

/// A piece of work, which sends its answer itself. What nobody waits for any more it does not begin.
pub(super) type Work = Box<dyn FnOnce(&mut Hasher) + Send>;

pub(super) struct Job {
    pub(super) work: Work,
    /// Places in the queue and, for large hashes, the right to be large: given back when the job is over.
    pub(super) permits: Vec<OwnedSemaphorePermit>,
}

/// The time without work after which a thread gives its memory back; the next hash then takes half as long again.
const QUIET: Duration = Duration::from_secs(10);

/// Works until the queue is closed.
pub(super) fn run(queue: &Queue, shared: &Arc<Shared>) {
    thread_priority::lower();
    let mut hasher = Hasher { shared: Arc::clone(shared), memory: Memory::default() };
    loop {
        let patience = (!hasher.memory.is_empty()).then_some(QUIET);
        let Job { work, permits } = match queue.pop(patience) {
            Next::Job(job) => job,
            Next::Quiet => {
                hasher.memory = Memory::default();
                continue;
            }
            Next::Closed => return,
        };
        let begun = Instant::now();
        // A reply whose sender is dropped by a panic tells its caller so; the thread goes on with fresh memory.
        if catch_unwind(AssertUnwindSafe(|| work(&mut hasher))).is_err() {
            tracing::error!("a password hashing thread panicked; the command fails, the thread goes on");
            hasher.memory = Memory::default();
        }
        drop(permits);
        // A thread that waits for its next job is out of the way.
        if let Some(pause) = thread_priority::pause(begun.elapsed(), shared.since_others())
            && queue.has_more()
        {
            std::thread::sleep(pause);
        }
    }
}

/// Hashes on one thread, in memory that it keeps.
pub(super) struct Hasher {
    shared: Arc<Shared>,
    memory: Memory,
}

impl Hasher {
    pub(super) fn hash(&mut self, password: &SecretString) -> Result<String, HashError> {
        self.observed(|hasher| {
            let mut salt = vec![0; SALT_LENGTH];
            SysRng
                .try_fill_bytes(&mut salt)
                .map_err(|_| HashError::Failed("the operating system gave no random salt"))?;
            let mut hash = hasher.shared.blank(salt);
            hash.output = hasher.compute(normalised(password).as_bytes(), &hash)?.to_vec();
            Ok(hash.to_string())
        })
    }

    pub(super) fn verify(&mut self, password: &SecretString, stored: &StoredHash) -> Result<Verification, HashError> {
        self.observed(|hasher| {
            let raw = password.expose_secret().as_bytes();
            let normalised = normalised(password);
            let mut matches = hasher.is_hash_of(normalised.as_bytes(), stored)?;
            let mut outdated = hasher.shared.is_outdated(stored);
            // A hash that was made elsewhere may be of the password as it was typed there, not normalised.
            if !matches && normalised.as_bytes() != raw {
                matches = hasher.is_hash_of(raw, stored)?;
                outdated |= matches;
            }
            Ok(Verification { matches, outdated })
        })
    }

    fn observed<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let begun = Instant::now();
        let done = work(self);
        if let Some(observer) = &self.shared.options.observer {
            observer(begun.elapsed());
        }
        done
    }

    fn is_hash_of(&mut self, password: &[u8], stored: &StoredHash) -> Result<bool, HashError> {
        Ok(match stored {
            StoredHash::Argon2(stored) => self.compute(password, stored)?.ct_eq(&stored.output).into(),
            StoredHash::Bcrypt(stored) => stored.is_of(password),
            StoredHash::Pbkdf2(stored) => stored.is_of(password),
            StoredHash::Scrypt(stored) => stored.is_of(password),
        })
    }

    /// The output that `password` has with the salt and the parameters of `hash`.
    fn compute(&mut self, password: &[u8], hash: &Argon2Hash) -> Result<Zeroizing<Vec<u8>>, HashError> {
        let params = hash.params().map_err(|_| HashError::Failed("Argon2 refuses the parameters"))?;
        let blocks = params.block_count();
        let peppers = self.shared.peppers.load();
        let pepper = match hash.key_id.as_slice() {
            [] => &[],
            id => peppers
                .iter()
                .find(|pepper| pepper.id.as_bytes() == id)
                .map(|pepper| pepper.secret.expose_secret())
                .ok_or_else(|| HashError::PepperMissing(String::from_utf8_lossy(id).into_owned()))?,
        };
        let argon2 = Argon2::new_with_secret(pepper, hash.algorithm, hash.version, params)
            .map_err(|_| HashError::Failed("Argon2 refuses the pepper"))?;
        let mut output = Zeroizing::new(vec![0; hash.output.len()]);
        let done = argon2.hash_password_into_with_memory(password, &hash.salt, &mut output, self.memory.blocks(blocks));
        // What a large hash from elsewhere needed is not kept.
        self.memory.shrink(self.shared.options.blocks());
        done.map_err(|_| HashError::Failed("Argon2 refuses the salt or the password"))?;
        Ok(output)
    }
}

impl Options {
    /// The memory of a hash with these options, in blocks of 1 KiB.
    fn blocks(&self) -> usize {
        blank(self, &[], Vec::new()).params().map_or(0, |params| params.block_count())
    }
}

impl Shared {
    /// A hash as it is made now, without its output.
    pub(super) fn blank(&self, salt: Vec<u8>) -> Argon2Hash {
        blank(&self.options, &self.peppers.load(), salt)
    }

    fn is_outdated(&self, stored: &StoredHash) -> bool {
        let StoredHash::Argon2(stored) = stored else { return true };
        let now = self.blank(Vec::new());
        (stored.algorithm, stored.version, &stored.key_id) != (now.algorithm, now.version, &now.key_id)
            || (stored.memory_kib, stored.time_cost, stored.parallelism)
                != (now.memory_kib, now.time_cost, now.parallelism)
            || stored.salt.len() < SALT_LENGTH
            || stored.output.len() != OUTPUT_LENGTH
    }
}

pub(super) fn blank(options: &Options, peppers: &[Pepper], salt: Vec<u8>) -> Argon2Hash {
    let pepper = peppers.iter().find(|pepper| !pepper.standby);
    Argon2Hash {
        algorithm: Algorithm::Argon2id,
        version: Version::V0x13,
        memory_kib: options.memory_kib,
        time_cost: options.time_cost,
        parallelism: options.parallelism,
        key_id: pepper.map(|pepper| pepper.id.as_bytes().to_vec()).unwrap_or_default(),
        salt,
        output: vec![0; OUTPUT_LENGTH],
    }
}

/// The password in Unicode NFC: what looks the same is the same, whichever keyboard typed it (NIST SP 800-63B).
fn normalised(password: &SecretString) -> Zeroizing<String> {
    let text = password.expose_secret();
    if is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Zeroizing::new(text.to_owned());
    }
    // Room for all of it at once: growing would leave copies behind that nobody wipes. NFC grows a text threefold at most.
    let mut normal = Zeroizing::new(String::with_capacity(text.len() * 3));
    normal.extend(text.nfc());
    normal
}
