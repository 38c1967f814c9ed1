//! Whether the database answers: asked regularly, and at once when somebody found that it does not.

use std::sync::Arc;
use std::time::Duration;

use diesel::QueryableByName;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Error, pool};

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
    ///
    /// On a connection of its own: a pool that is busy is no database that is away.
    pub async fn watch(&self, url: &SecretString, stop: CancellationToken, changed: impl Fn(bool)) {
        let mut was_up = None;
        let mut connection = None;
        while !stop.is_cancelled() {
            let asked = tokio::time::timeout(PATIENCE, ask(url, &mut connection)).await;
            let answer = asked.unwrap_or_else(|_| Err(Error::Unavailable("it does not answer".to_owned())));
            let up = answer.is_ok();
            if !up {
                connection = None;
            }
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

/// How long the server may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(5);

async fn ask(url: &SecretString, connection: &mut Option<AsyncPgConnection>) -> Result<(), Error> {
    #[derive(QueryableByName)]
    struct Mode {
        #[diesel(sql_type = diesel::sql_types::Text)]
        read_only: String,
    }
    let mut open = match connection.take() {
        Some(open) => open,
        None => pool::connect(url).await?,
    };
    let mode: Mode =
        diesel::sql_query("select current_setting('transaction_read_only') as read_only").get_result(&mut open).await?;
    if mode.read_only == "on" {
        return Err(Error::Unavailable("it is read-only".to_owned()));
    }
    *connection = Some(open);
    Ok(())
}
