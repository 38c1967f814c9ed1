//! Domains at which mail timed out lately, because the mail server waits for them longer than we do: whoever asks for mail to some
//! that never answer must not have all connections wait for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long it is remembered that a domain took too long, unless a mail to it goes quickly before.
const REMEMBERED: Duration = Duration::from_secs(600);
/// The largest number of domains that are remembered, which bounds the memory that somebody can make it take.
const MOST: usize = 10_000;

/// The domains that took too long lately, and how many workers are busy with them.
#[derive(Debug)]
pub(super) struct Late {
    share: usize,
    busy: usize,
    domains: HashMap<Arc<str>, Instant>,
}

impl Late {
    /// They share a quarter of `workers`, at least one.
    pub fn new(workers: usize) -> Self {
        Self { share: (workers / 4).max(1), busy: 0, domains: HashMap::new() }
    }

    /// Whether mail to a domain took too long lately.
    pub fn is(&self, domain: &str) -> bool {
        self.domains.get(domain).is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    /// Whether one more worker may be busy with one of them.
    pub const fn has_room(&self) -> bool {
        self.busy < self.share
    }

    /// A worker is busy with one.
    pub const fn leaves(&mut self) {
        self.busy += 1;
    }

    /// It is back.
    pub const fn is_back(&mut self) {
        self.busy -= 1;
    }

    /// Mail to this domain took too long.
    pub fn add(&mut self, domain: &Arc<str>) {
        if self.domains.len() >= MOST {
            self.domains.retain(|_, since| since.elapsed() < REMEMBERED);
        }
        if self.domains.len() < MOST {
            self.domains.insert(Arc::clone(domain), Instant::now());
        }
    }

    /// Mail to this domain went quickly.
    pub fn forget(&mut self, domain: &str) {
        self.domains.remove(domain);
    }
}

/// What a journey told of a mail's domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The server said what becomes of the mail.
    Answer,
    /// It said nothing in time.
    TookTooLong,
}

/// What a journey told of its domains; nothing of those whose mails were not tried, or not to the end.
#[derive(Debug, Default)]
pub(super) struct Learnt(Vec<(String, Heard)>);

impl Learnt {
    /// Notes what was heard.
    pub fn note(&mut self, domain: &str, heard: Heard) {
        self.0.push((domain.to_owned(), heard));
    }

    /// Whether one of a domain's mails took too long.
    pub fn took_too_long(&self, domain: &str) -> bool {
        self.any(domain, Heard::TookTooLong)
    }

    /// Whether one of a domain's mails was answered.
    pub fn answered(&self, domain: &str) -> bool {
        self.any(domain, Heard::Answer)
    }

    fn any(&self, domain: &str, heard: Heard) -> bool {
        self.0.iter().any(|(of, what)| of == domain && *what == heard)
    }
}
