//! The exchanges and queues: their names, and their declaration.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::connection::Problem;
use super::error;
use super::message::short;

/// After how long a command that failed unexpectedly is tried again, from the first retry to the last.
pub const RETRY_DELAYS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
];

/// What must exist on the broker before anything can be consumed or published, and how it is called.
#[derive(Clone, Debug)]
pub struct Topology {
    prefix: String,
    lanes: Vec<(String, BTreeSet<String>)>,
}

impl Topology {
    /// The topology under `prefix`, with lanes (`state`, …) and the exact names of the commands that go to each.
    pub fn new<L, C>(prefix: &str, lanes: impl IntoIterator<Item = (L, C)>) -> Self
    where
        L: Into<String>,
        C: IntoIterator<Item: Into<String>>,
    {
        let lanes = lanes
            .into_iter()
            .map(|(lane, commands)| (lane.into(), commands.into_iter().map(Into::into).collect()))
            .collect();
        Self { prefix: prefix.to_owned(), lanes }
    }

    /// The topic exchange that takes commands; the routing key is the command's name.
    pub fn commands_exchange(&self) -> String {
        format!("{}.commands", self.prefix)
    }

    /// Where the commands of a lane wait.
    pub fn lane_queue(&self, lane: &str) -> String {
        format!("{}.commands.{lane}", self.prefix)
    }

    /// Where commands wait that no lane takes.
    pub fn unknown_queue(&self) -> String {
        self.lane_queue("unknown")
    }

    /// The fanout exchange behind the commands exchange that leads to [`Self::unknown_queue`].
    fn unrouted_exchange(&self) -> String {
        format!("{}.unrouted", self.prefix)
    }

    /// The fanout exchange whose messages return to the commands exchange, under the same routing key, after
    /// `delay`, which is one of [`RETRY_DELAYS`]. The queue behind it has the same name.
    pub fn retry_exchange(&self, delay: Duration) -> String {
        format!("{}.retry.{}", self.prefix, delay_name(delay))
    }

    /// Where failed commands wait for their next try.
    pub fn retry_queues(&self) -> Vec<String> {
        RETRY_DELAYS.map(|delay| self.retry_exchange(delay)).to_vec()
    }

    /// The fanout exchange for dead letters, which keep their routing key. The queue behind it has the same name.
    pub fn dead_exchange(&self) -> String {
        self.dead_queue()
    }

    /// Where dead letters are kept.
    pub fn dead_queue(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// Held by whoever looks into [`Self::dead_queue`]: two at once would each see half of it.
    pub fn dead_lock(&self) -> String {
        format!("{}.dead.lock", self.prefix)
    }

    /// The topic exchange for events; the routing key is the event's name.
    pub fn events_exchange(&self) -> String {
        format!("{}.events", self.prefix)
    }

    /// Every queue of the topology.
    pub fn queues(&self) -> Vec<String> {
        self.queue_definitions().into_iter().map(|queue| queue.name).collect()
    }

    /// Whether `name` is a queue of the topology.
    pub(super) fn has_queue(&self, name: &str) -> bool {
        name.starts_with(&self.prefix) && self.queues().iter().any(|queue| queue == name)
    }

    /// Every exchange of the topology.
    pub fn exchanges(&self) -> Vec<String> {
        self.exchange_definitions().into_iter().map(|exchange| exchange.name).collect()
    }

    fn exchange_definitions(&self) -> Vec<Exchange> {
        let mut exchanges = vec![
            Exchange::new(self.unrouted_exchange(), ExchangeKind::Fanout),
            Exchange {
                alternate: Some(self.unrouted_exchange()),
                ..Exchange::new(self.commands_exchange(), ExchangeKind::Topic)
            },
            Exchange::new(self.dead_exchange(), ExchangeKind::Fanout),
            Exchange::new(self.events_exchange(), ExchangeKind::Topic),
        ];
        exchanges.extend(RETRY_DELAYS.map(|delay| Exchange::new(self.retry_exchange(delay), ExchangeKind::Fanout)));
        exchanges
    }

    fn queue_definitions(&self) -> Vec<Queue> {
        let everything = BTreeSet::from([String::new()]);
        let mut queues = vec![
            Queue::new(self.unknown_queue(), self.unrouted_exchange(), everything.clone()),
            Queue::new(self.dead_queue(), self.dead_exchange(), everything.clone()),
        ];
        for (lane, commands) in &self.lanes {
            queues.push(Queue::new(self.lane_queue(lane), self.commands_exchange(), commands.clone()));
        }
        for delay in RETRY_DELAYS {
            let name = self.retry_exchange(delay);
            queues.push(Queue {
                returns: Some((delay, self.commands_exchange())),
                ..Queue::new(name.clone(), name, everything.clone())
            });
        }
        queues
    }

    /// Declares everything; what exists already stays as it is.
    ///
    /// The channel is closed by the broker when something differs, so it should be one made for this.
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), Problem> {
        for exchange in self.exchange_definitions() {
            exchange.declare(channel).await.map_err(|error| differs("exchange", &exchange.name, &error))?;
        }
        for queue in self.queue_definitions() {
            queue.declare(channel).await.map_err(|error| differs("queue", &queue.name, &error))?;
        }
        Ok(())
    }
}

/// `1s`, `5s`, `30s`, `2m`, `10m`.
fn delay_name(delay: Duration) -> String {
    match delay.as_secs() {
        seconds if seconds >= 60 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

struct Exchange {
    name: String,
    kind: ExchangeKind,
    alternate: Option<String>,
}

impl Exchange {
    fn new(name: String, kind: ExchangeKind) -> Self {
        Self { name, kind, alternate: None }
    }

    async fn declare(&self, channel: &Channel) -> Result<(), Error> {
        let mut arguments = FieldTable::default();
        if let Some(alternate) = &self.alternate {
            arguments.insert("alternate-exchange".into(), text(alternate));
        }
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(name(&self.name)?, self.kind.clone(), options, arguments).await?;
        Ok(())
    }
}

struct Queue {
    name: String,
    source: String,
    keys: BTreeSet<String>,
    /// After how long its messages go on, and to which exchange.
    returns: Option<(Duration, String)>,
}

impl Queue {
    fn new(name: String, source: String, keys: BTreeSet<String>) -> Self {
        Self { name, source, keys, returns: None }
    }

    fn arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum"));
        if self.returns.is_none() {
            // Commands go back while the database is in trouble; operators look at dead letters by taking them and giving
            // them back. RabbitMQ 4 drops what came back 20 times, unless a queue says otherwise; no number that is never
            // reached is known to RabbitMQ 3.
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(i32::MAX));
        }
        if let Some((delay, exchange)) = &self.returns {
            let milliseconds = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(milliseconds));
            arguments.insert("x-dead-letter-exchange".into(), text(exchange));
            // A message leaves this queue only when the next one has confirmed it; the broker asks for
            // reject-publish together with that.
            arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
            arguments.insert("x-overflow".into(), text("reject-publish"));
        }
        arguments
    }

    async fn declare(&self, channel: &Channel) -> Result<(), Error> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name(&self.name)?, options, self.arguments()).await?;
        for key in &self.keys {
            channel
                .queue_bind(
                    name(&self.name)?,
                    name(&self.source)?,
                    name(key)?,
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await?;
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Lapin(#[from] lapin::Error),
    #[error(transparent)]
    TooLong(#[from] super::message::TooLong),
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.as_bytes().into())
}

fn name(value: &str) -> Result<ShortString, super::message::TooLong> {
    short("a name made from broker.prefix", value)
}

/// What to tell the operator when `kind` `name` could not be declared.
fn differs(kind: &str, name: &str, error: &Error) -> Problem {
    let Error::Lapin(error) = error else {
        return Problem::lasting(format!(
            "the {kind} `{name}` cannot be declared: {error}. Choose a shorter broker.prefix"
        ));
    };
    match error::protocol(error) {
        Some((406, words)) => {
            let delete = match kind {
                "queue" => format!("once it is empty, delete it (rabbitmqctl delete_queue {name})"),
                _ => format!("delete it (rabbitmqadmin delete exchange name={name})"),
            };
            Problem::lasting(format!(
                "the {kind} `{name}` exists already, but not as this daemon needs it: {words}. Nothing is consumed or \
                 published until that is put right: {delete} and it is declared anew by itself, or choose another \
                 broker.prefix"
            ))
        }
        Some((403, words)) => Problem::lasting(format!(
            "the {kind} `{name}` cannot be declared: {words}. Give the daemon's broker user the permissions to \
             configure, write and read everything under its broker.prefix (rabbitmqctl set_permissions)"
        )),
        _ => Problem::passing(format!("the {kind} `{name}` cannot be declared: {}", error::explain(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        Topology::new("p", [("state", ["user.put"]), ("queries", ["user.get"])])
    }

    #[test]
    fn names_are_those_that_publishers_know() {
        let topology = topology();
        assert_eq!(topology.commands_exchange(), "p.commands");
        assert_eq!(topology.events_exchange(), "p.events");
        assert_eq!(
            topology.queues(),
            [
                "p.commands.unknown",
                "p.dead",
                "p.commands.state",
                "p.commands.queries",
                "p.retry.1s",
                "p.retry.5s",
                "p.retry.30s",
                "p.retry.2m",
                "p.retry.10m"
            ]
        );
    }

    #[test]
    fn no_queue_that_somebody_takes_from_drops_what_came_back_often() {
        for queue in topology().queue_definitions() {
            let limit = queue.arguments().inner().get("x-delivery-limit").cloned();
            let waits = queue.returns.is_some();
            assert_eq!(limit, (!waits).then_some(AMQPValue::LongInt(i32::MAX)), "{}", queue.name);
        }
    }

    #[test]
    fn an_exchange_is_declared_before_what_points_to_it() {
        let topology = topology();
        let exchanges = topology.exchange_definitions();
        for (index, exchange) in exchanges.iter().enumerate() {
            if let Some(alternate) = &exchange.alternate {
                assert!(exchanges[..index].iter().any(|earlier| earlier.name == *alternate));
            }
        }
        for queue in topology.queue_definitions() {
            assert!(topology.exchanges().contains(&queue.source), "{}", queue.source);
        }
    }
}
