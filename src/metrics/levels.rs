//! Numbers that go up and down together, and are read together.

use std::time::Duration;

use super::{Lane, Metrics, PoolState, whole};

/// What waits in the broker's queues, all daemons together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// By lane.
    pub lanes: Vec<(Lane, usize)>,
    /// Commands that failed and are tried again later.
    pub retries: usize,
    /// Dead letters.
    pub dead_letters: usize,
}

/// How much of what there is only so much of is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Password hashes that are worked out or wait for it.
    pub hash_jobs: usize,
    /// Threads that hash.
    pub hash_threads: usize,
    /// Connections to the database that work.
    pub database_in_use: usize,
    /// Connections to the database that rest.
    pub database_idle: usize,
    /// How many connections to the database there may be.
    pub database_max: usize,
    /// Who waits for a connection to the database.
    pub database_waiters: usize,
    /// Mails that are being handed over to the mail server.
    pub smtp_in_use: usize,
    /// How many connections to the mail server there may be; 0 where mails are files.
    pub smtp_max: usize,
}

impl Metrics {
    /// How many emails wait, how old the oldest one is, and for how long one has been due for an attempt.
    pub fn emails_pending(&self, count: usize, oldest: Option<Duration>, overdue: Option<Duration>) {
        self.0.emails_pending.set(whole(count));
        self.0.emails_oldest_pending.set(oldest.unwrap_or_default().as_secs_f64());
        self.0.emails_overdue.set(overdue.unwrap_or_default().as_secs_f64());
    }

    /// How many events wait, and how old the oldest one is.
    pub fn events_pending(&self, count: usize, oldest: Option<Duration>) {
        self.0.events_pending.set(whole(count));
        self.0.events_oldest_pending.set(oldest.unwrap_or_default().as_secs_f64());
    }

    /// What waits at the broker.
    pub fn waiting(&self, waiting: &Waiting) {
        for (lane, count) in &waiting.lanes {
            self.0.lane_backlog.with_label_values(&[lane.as_str()]).set(whole(*count));
        }
        self.0.retries_waiting.set(whole(waiting.retries));
        self.0.dead_letters_waiting.set(whole(waiting.dead_letters));
    }

    /// How much is used of what there is only so much of.
    pub fn usage(&self, usage: &Usage) {
        let connections = |state: PoolState| self.0.database_connections.with_label_values(&[state.as_str()]);
        self.0.hash_jobs.set(whole(usage.hash_jobs));
        self.0.hash_threads.set(whole(usage.hash_threads));
        connections(PoolState::InUse).set(whole(usage.database_in_use));
        connections(PoolState::Idle).set(whole(usage.database_idle));
        self.0.database_connections_max.set(whole(usage.database_max));
        self.0.database_waiters.set(whole(usage.database_waiters));
        self.0.smtp_connections.set(whole(usage.smtp_in_use));
        self.0.smtp_connections_max.set(whole(usage.smtp_max));
    }
}
