//! Replies: sent without confirms, never waited for long, and counted when they are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lapin::Channel;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use tokio::time::timeout;
use tracing::info;

use super::direct::DIRECT;
use super::error::{self, PublishError};
use super::message::{Outgoing, short};
use super::publisher::fits;
use super::session::Session;
use super::{Change, Link};

/// How long a reply may take to leave. A connection that was lost is waited for no longer than this after its loss.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// So long the replies that were sent since are given to come back, before those that did are counted. One look for all of them.
pub(super) const RETURN: Duration = Duration::from_millis(200);

/// Counts the replies that were dropped, and tells each time.
#[derive(Clone)]
pub(super) struct Dropped {
    count: Arc<AtomicU64>,
    tell: Arc<dyn Fn(Link, Change) + Send + Sync>,
}

impl Dropped {
    /// None so far.
    pub(super) fn new(tell: Arc<dyn Fn(Link, Change) + Send + Sync>) -> Self {
        Self { count: Arc::default(), tell }
    }

    /// So many more.
    pub(super) fn add(&self, replies: u64) {
        self.count.fetch_add(replies, Ordering::Relaxed);
        (self.tell)(Link::Reply, Change::RepliesDropped(replies));
    }

    /// How many so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Sends a reply to the queue that its routing key names.
pub(super) async fn send(session: &Session, message: &Outgoing) -> Result<(), PublishError> {
    let key = short("reply_to", &message.routing_key).map_err(PublishError::from)?;
    let properties = message.properties.to_lapin(false).map_err(PublishError::from)?;
    fits(session, &message.properties)?;
    // A direct reply-to that nobody waits for is not told about; for it `mandatory` means something else.
    let mandatory = !message.routing_key.starts_with(DIRECT);
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    let sending = async {
        let channel = channel(session).await?;
        let sent = channel.basic_publish("".into(), key, options, &message.body, properties).await?.await;
        session.reply_left();
        sent
    };
    match timeout(REPLY_TIMEOUT, sending).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(PublishError::Unknown(error::explain(&error))),
        Err(_) => Err(PublishError::Unknown("the broker did not take the reply in time".to_owned())),
    }
}

/// Counts the replies that the broker has sent back because nobody waits for them.
pub(super) async fn count_returned(session: &Session, dropped: &Dropped) {
    let Some(channel) = session.replies.lock().await.clone() else {
        return;
    };
    // Without confirms this waits for nothing; it empties the list of returned messages.
    if let Ok(returned) = channel.wait_for_confirms().await
        && !returned.is_empty()
    {
        // One line for all: a caller whose queue is gone may have asked for thousands.
        if let Some(one) = returned.first() {
            let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
            let properties = &one.properties;
            info!(
                replies = returned.len(),
                reply_to = one.routing_key.as_str(),
                command = text(properties.kind()),
                correlation_id = text(properties.correlation_id()),
                message_id = message_id(&one.data),
                "a reply could not be delivered: there is no such queue"
            );
        }
        dropped.add(returned.len() as u64);
    }
}

/// The message id that a reply names; by it the log's line about the command names the publisher.
fn message_id(reply: &[u8]) -> Option<String> {
    let reply: serde_json::Value = serde_json::from_slice(reply).ok()?;
    reply["message_id"].as_str().map(str::to_owned)
}

/// The channel for replies, opened again when the broker has closed it.
async fn channel(session: &Session) -> Result<Channel, lapin::Error> {
    let mut kept = session.replies.lock().await;
    match &*kept {
        Some(channel) if channel.status().connected() => Ok(channel.clone()),
        _ => Ok(kept.insert(session.channel().await?).clone()),
    }
}
