//! Taking messages from a queue, in batches of what is there.

use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use tracing::warn;

use super::connection::Problem;
use super::error::{self, Gone};
use super::message::{Delivery, short};
use super::session::{Session, bounded, close};

/// Takes deliveries from one queue until the connection, the channel or the queue is gone.
///
/// Deliveries that were not acknowledged when it ends (or is dropped) come again from the broker.
pub struct Consumer {
    queue: String,
    channel: Channel,
    stream: lapin::Consumer,
    session: Arc<Session>,
    stopping: bool,
    ended: Option<Gone>,
}

impl Consumer {
    pub(super) async fn open(session: &Arc<Session>, queue: &str, prefetch: u16) -> Result<Self, Problem> {
        session.declare().await?;
        let refused = |error: lapin::Error| {
            let text = format!("the queue `{queue}` cannot be consumed: {}", error::explain(&error));
            match error::protocol(&error) {
                Some((403, _)) => {
                    Problem::lasting(format!("{text}. Give the daemon's broker user the permission to read it"))
                }
                _ => Problem::passing(text),
            }
        };
        let name = short("a queue's name", queue).map_err(|error| Problem::lasting(error.to_string()))?;
        let channel = session.channel().await.map_err(refused)?;
        // Quorum queues do not allow a global limit.
        bounded(channel.basic_qos(prefetch, BasicQosOptions { global: false })).await.map_err(refused)?;
        let consuming = channel.basic_consume(name, "".into(), BasicConsumeOptions::default(), FieldTable::default());
        let stream = bounded(consuming).await.map_err(refused)?;
        Ok(Self { queue: queue.to_owned(), channel, stream, session: session.clone(), stopping: false, ended: None })
    }

    /// The queue it takes from.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Waits for a delivery, then takes those that are already here too, up to `max` together (at least one).
    ///
    /// Cancel-safe: a delivery is taken only when it is returned.
    pub async fn batch(&mut self, max: usize) -> Result<Vec<Delivery>, Gone> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let mut batch = Vec::new();
        loop {
            let next = if batch.is_empty() {
                self.stream.next().await
            } else {
                match self.stream.next().now_or_never() {
                    Some(next) => next,
                    None => break,
                }
            };
            match next {
                Some(Ok(delivery)) => batch.push(Delivery::from_lapin(delivery)),
                Some(Err(error)) => return Err(self.end(Gone::Lost(error::explain(&error)))),
                None if self.stopping => {
                    let ended = self.end(Gone::Stopped);
                    if batch.is_empty() {
                        return Err(ended);
                    }
                    break;
                }
                None => {
                    let reason = "the queue was deleted, or the channel closed";
                    return Err(self.end(Gone::Lost(reason.to_owned())));
                }
            }
            if batch.len() >= max {
                break;
            }
        }
        // What was buffered when the channel closed cannot be acknowledged any more and comes again.
        if !self.channel.status().connected() {
            return Err(self.end(Gone::Lost("the channel is closed".to_owned())));
        }
        Ok(batch)
    }

    /// Acknowledges its deliveries, also while it goes on.
    pub fn acknowledger(&self) -> Acknowledger {
        Acknowledger { channel: self.channel.clone() }
    }

    /// Gives one delivery back to the queue, to be delivered again at once, here or elsewhere.
    pub async fn requeue(&self, tag: u64) -> Result<(), Gone> {
        let rejecting = self.channel.basic_reject(tag, BasicRejectOptions { requeue: true });
        rejecting.await.map_err(|error| Gone::Lost(error::explain(&error)))
    }

    /// Asks for no more deliveries. Those already here are still given by [`Self::batch`], which then says
    /// [`Gone::Stopped`]; acknowledging goes on working until the consumer is closed or dropped.
    pub async fn stop(&mut self) {
        if !self.stopping && self.ended.is_none() {
            self.stopping = true;
            let cancelling = self.channel.basic_cancel(self.stream.tag(), BasicCancelOptions::default());
            if let Err(error) = bounded(cancelling).await {
                self.end(Gone::Lost(error::explain(&error)));
            }
        }
    }

    /// Closes the channel; what was not acknowledged is back in the queue when this returns.
    pub async fn close(self) {
        close(&self.channel).await;
    }

    /// Logs why it ended; for whoever cannot go on with it, because there is nothing more or because it cannot acknowledge.
    pub fn tell(&mut self, gone: &Gone) {
        let Gone::Lost(reason) = gone else { return };
        // Whoever acknowledges hears only that the channel is closed; the broker's own words are at the end of the stream.
        let mut words = reason.clone();
        while let Some(Some(next)) = self.stream.next().now_or_never() {
            if let Err(error) = next {
                words = error::explain(&error);
            }
        }
        // Without a connection it is the connection's problem, and told there.
        if self.session.is_open() {
            warn!(queue = self.queue, reason = words, "a consumer was ended; what it had not acknowledged comes again");
        }
    }

    fn end(&mut self, gone: Gone) -> Gone {
        self.ended = Some(gone.clone());
        gone
    }
}

/// Acknowledges deliveries of a [`Consumer`].
#[derive(Clone)]
pub struct Acknowledger {
    channel: Channel,
}

impl Acknowledger {
    /// Acknowledges one delivery.
    ///
    /// # Errors
    /// When the channel is gone: the delivery comes again.
    pub async fn ack(&self, tag: u64) -> Result<(), Gone> {
        self.acknowledge(tag, false).await
    }

    /// Acknowledges every delivery of the consumer up to and including `tag`.
    ///
    /// # Errors
    /// When the channel is gone: they come again.
    pub async fn ack_through(&self, tag: u64) -> Result<(), Gone> {
        self.acknowledge(tag, true).await
    }

    async fn acknowledge(&self, tag: u64, multiple: bool) -> Result<(), Gone> {
        // To AMQP 0 means everything that is outstanding, which nobody means here.
        if tag == 0 {
            return Ok(());
        }
        let acknowledging = self.channel.basic_ack(tag, BasicAckOptions { multiple });
        acknowledging.await.map_err(|error| Gone::Lost(error::explain(&error)))
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("queue", &self.queue).field("ended", &self.ended).finish_non_exhaustive()
    }
}
