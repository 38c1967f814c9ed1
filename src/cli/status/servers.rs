//! What only the broker and the database know: what waits in queues, and which mails failed last.

use diesel_async::AsyncPgConnection;
use serde::Serialize;
use uuid::Uuid;

use crate::app;
use crate::broker::{Client, Depth, Options};
use crate::commands::Lane;
use crate::config::Config;
use crate::domain::email_state::EmailState;
use crate::domain::ticket::timestamp;
use crate::mail::smtp::mask_addresses;
use crate::store::email_list::{self, Wanted};
use crate::store::pool;

/// How many failed mails are shown.
const FAILED: i64 = 3;

/// A mail that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedMail {
    /// When it was queued.
    pub queued_at: String,
    /// The mail.
    pub email_id: Uuid,
    /// Which template.
    pub template: String,
    /// The server's last words, addresses masked.
    pub reply: Option<String>,
}

/// What waits, by lane; `None` where nobody could say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queues {
    /// Messages in each lane's queue.
    pub lanes: Vec<(Lane, Depth)>,
    /// Messages whose routing key no lane takes.
    pub unknown: Option<Depth>,
    /// Messages that wait for another attempt.
    pub retrying: u32,
    /// Dead letters.
    pub dead: u32,
}

/// Connections that are kept between two looks.
pub struct Servers<'a> {
    config: &'a Config,
    broker: Option<Client>,
    database: Option<AsyncPgConnection>,
}

impl<'a> Servers<'a> {
    /// Connects at the first question.
    pub fn new(config: &'a Config) -> Self {
        Self { config, broker: None, database: None }
    }

    /// What waits at the broker.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub async fn queues(&mut self) -> Result<Queues, String> {
        let client = if let Some(client) = self.broker.take() {
            client
        } else {
            let options = Options { url: self.config.broker.url.clone(), connection_name: "regrant status".to_owned() };
            Client::connect(&options).await.map_err(|error| error.to_string())?
        };
        let topology = app::topology(self.config);
        let mut queues = Queues::default();
        let depth = async |queue: String| client.depth(&queue).await.map_err(|error| error.to_string());
        for lane in Lane::ALL {
            if let Some(depth) = depth(topology.lane_queue(lane.as_str())).await? {
                queues.lanes.push((lane, depth));
            }
        }
        queues.unknown = depth(topology.unknown_queue()).await?;
        for delay in crate::broker::RETRY_DELAYS {
            queues.retrying += depth(topology.retry_exchange(delay)).await?.map_or(0, |depth| depth.waiting);
        }
        queues.dead = depth(topology.dead_queue()).await?.map_or(0, |depth| depth.waiting);
        self.broker = Some(client);
        Ok(queues)
    }

    /// The mails that failed last.
    ///
    /// # Errors
    /// Why the database cannot be asked.
    pub async fn failed_mails(&mut self) -> Result<Vec<FailedMail>, String> {
        let wrong = |error: crate::store::Error| error.to_string();
        let mut connection = match self.database.take() {
            Some(connection) => connection,
            None => pool::connect(&self.config.database.url).await.map_err(wrong)?,
        };
        let wanted = Wanted {
            state: Some(EmailState::Failed),
            template: None,
            user: None,
            before: Uuid::max(),
            from: Uuid::nil(),
        };
        let page = email_list::page(&mut connection, wanted, FAILED).await.map_err(wrong)?;
        self.database = Some(connection);
        let mails = page.rows.into_iter().map(|row| FailedMail {
            queued_at: timestamp(row.queued_at),
            email_id: row.id,
            template: row.template,
            reply: row.smtp_reply.as_deref().map(mask_addresses),
        });
        Ok(mails.collect())
    }

    /// Says goodbye.
    pub async fn close(self) {
        if let Some(client) = self.broker {
            client.close().await;
        }
    }
}
