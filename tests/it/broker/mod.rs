//! The broker module against a real RabbitMQ (`AMQP_URL`, of a user with the tags administrator and impersonator;
//! the user `shop` with the password `shop` has no tags). Each test has a prefix of its own and deletes it.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not their helpers")]

mod consuming;
mod faults;
mod hostile;
pub mod proxy;
mod publishing;
mod raw;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use regrant::broker::{
    Broker, Change, Consumer, Delivery, Link, Options, Outgoing, Properties, PublishError, Topology,
};
use regrant::vitals::Vitals;
use secrecy::SecretString;

pub fn amqp_url() -> String {
    std::env::var("AMQP_URL").expect("AMQP_URL is not set: eval \"$(script/services env)\"")
}

/// The same broker for another user, at another address, or with parameters.
pub fn url(user: &str, password: &str, address: Option<&str>, parameters: &str) -> String {
    let mut url = url::Url::parse(&amqp_url()).unwrap();
    url.set_username(user).unwrap();
    url.set_password(Some(password)).unwrap();
    if let Some((host, port)) = address.and_then(|address| address.rsplit_once(':')) {
        url.set_host(Some(host)).unwrap();
        url.set_port(port.parse().ok()).unwrap();
    }
    url.set_query((!parameters.is_empty()).then_some(parameters));
    url.into()
}

/// A broker handle with a fresh prefix.
pub struct Bench {
    pub broker: Broker,
    pub topology: Topology,
    pub prefix: String,
    pub changes: Arc<Mutex<Vec<(Link, Change)>>>,
}

pub fn fresh_prefix() -> String {
    format!("t{:016x}", rand::random::<u64>())
}

pub fn topology(prefix: &str) -> Topology {
    Topology::new(prefix, [("state", vec!["user.put"]), ("queries", vec!["user.get"])])
}

impl Bench {
    pub fn start(url: &str) -> Self {
        Self::with_prefix(url, fresh_prefix())
    }

    pub fn with_prefix(url: &str, prefix: String) -> Self {
        let topology = topology(&prefix);
        let options = Options { url: SecretString::from(url), connection_name: prefix.clone() };
        let changes = Arc::new(Mutex::new(Vec::new()));
        let seen = changes.clone();
        let note = move |link, change| seen.lock().unwrap().push((link, change));
        let broker = Broker::start(&options, topology.clone(), &Vitals::default(), note).unwrap();
        Self { broker, topology, prefix, changes }
    }

    pub fn changed(&self, change: Change) -> usize {
        self.changes.lock().unwrap().iter().filter(|(_, seen)| *seen == change).count()
    }

    pub fn state_queue(&self) -> String {
        self.topology.lane_queue("state")
    }

    pub async fn state_consumer(&self, prefetch: u16) -> Consumer {
        within("a consumer", self.broker.consumer(&self.state_queue(), prefetch)).await
    }

    /// A command for the state lane.
    pub fn command(&self, id: &str) -> Outgoing {
        Outgoing {
            exchange: self.topology.commands_exchange(),
            routing_key: "user.put".to_owned(),
            properties: Properties { message_id: Some(id.to_owned()), ..Properties::default() },
            body: id.as_bytes().to_vec(),
            persistent: true,
            mandatory: true,
        }
    }

    pub async fn publish(&self, ids: std::ops::Range<usize>) {
        let messages = ids.map(|id| self.command(&id.to_string())).collect();
        let fates = within("confirms", self.broker.publisher().publish(messages)).await;
        assert!(fates.iter().all(Result::is_ok), "{fates:?}");
    }

    /// Closes the broker and deletes what it declared.
    pub async fn finish(self) {
        within("the broker to close", self.broker.close()).await;
        delete(&self.topology).await;
    }
}

pub async fn delete(topology: &Topology) {
    let connection = raw::connect(&amqp_url()).await;
    let channel = connection.create_channel().await.unwrap();
    for queue in topology.queues() {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }
    for exchange in topology.exchanges() {
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.unwrap();
    }
    connection.close(200, "OK".into()).await.unwrap();
}

/// Generous: it only keeps a test that would hang from hanging.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("waited 60 s in vain for {what}"))
}

pub async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Takes exactly `count` deliveries, in as many batches as it takes.
pub async fn take(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.extend(within("deliveries", consumer.batch(count - taken.len())).await.unwrap());
    }
    taken
}

pub fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.properties.message_id.as_deref().unwrap_or("none")).collect()
}

pub fn refused_code(fate: &Result<(), PublishError>) -> Option<u16> {
    match fate {
        Err(PublishError::Refused { code, .. }) => Some(*code),
        _ => None,
    }
}
