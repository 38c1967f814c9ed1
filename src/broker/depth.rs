//! How much waits in queues.

use std::collections::BTreeMap;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

use super::message::short;
use super::session::{bounded, close};
use super::{Broker, error};

impl Broker {
    /// How many messages wait in each of these queues; those that are being worked on are not counted.
    ///
    /// Asked on the connection that consumes: a broker with an alarm reads nothing from the other one.
    ///
    /// # Errors
    /// Why it could not be found out, for logs.
    pub async fn depths(&self, queues: Vec<String>) -> Result<BTreeMap<String, usize>, String> {
        let explain = |error: lapin::Error| error::explain(&error);
        let session = self.shared.consume.borrow().session().cloned();
        let session = session.ok_or_else(|| "there is no connection to RabbitMQ".to_owned())?;
        let channel = session.channel().await.map_err(explain)?;
        let mut depths = BTreeMap::new();
        for queue in queues {
            let name = short("a queue's name", &queue).map_err(|error| error.to_string())?;
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            // A queue that is missing closes the channel; it is declared again by whoever needs it.
            let found = bounded(channel.queue_declare(name, options, FieldTable::default())).await.map_err(explain)?;
            depths.insert(queue, usize::try_from(found.message_count()).unwrap_or(usize::MAX));
        }
        close(&channel).await;
        Ok(depths)
    }
}
