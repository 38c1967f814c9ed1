//! Whether the database answers: asked regularly, and at once when somebody found that it does not.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Error, Pool};

/// A shared view of the database's state.
#[derive(Clone)]
pub struct Health {
    state: watch::Sender<Result<(), String>>,
    doubt: Arc<Notify>,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: watch::Sender::new(Err("not asked yet".to_owned())), doubt: Arc::default() }
    }
}

impl Health {
    /// Why the database cannot be used, if so.
    pub fn problem(&self) -> Option<String> {
        self.state.borrow().clone().err()
    }

    /// Waits until it answers.
    pub async fn wait_until_up(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.state.subscribe().wait_for(Result::is_ok).await;
    }

    /// Somebody's statement failed because the server is away.
    pub fn report_down(&self, error: &Error) {
        self.set(Err(error.to_string()));
        self.doubt.notify_one();
    }

    fn set(&self, now: Result<(), String>) {
        self.state.send_if_modified(|before| {
            match (&*before, &now) {
                (Ok(()), Err(reason)) => warn!(reason, "the database is away; waiting for it"),
                (Err(_), Ok(())) => info!("the database answers"),
                _ => {}
            }
            let changed = before.is_ok() != now.is_ok();
            *before = now;
            changed
        });
    }

    /// Asks until `stop`: every 5 s while it answers, every 500 ms while it does not. Calls `changed` with each change.
    pub async fn watch(&self, pool: &Pool, stop: CancellationToken, changed: impl Fn(bool)) {
        let mut was_up = None;
        while !stop.is_cancelled() {
            let answer = pool.ping().await;
            let up = answer.is_ok();
            self.set(answer.map_err(|e| e.to_string()));
            if was_up != Some(up) {
                changed(up);
                was_up = Some(up);
            }
            let pause = if up { Duration::from_secs(5) } else { Duration::from_millis(500) };
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.doubt.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
