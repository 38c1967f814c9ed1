//! What operators' tools do on a [`Client`]: look into queues, keep others out meanwhile, try what they may.

use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use secrecy::SecretString;

use super::client::{Client, ConnectError};
use super::connection::Endpoint;
use super::consumer::Consumer;
use super::error::{self, PublishError};
use super::message::{Outgoing, short};
use super::publisher::Run;
use super::session::{bounded, close};
use super::topology::Topology;

/// What is in a queue, and how many take from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait; those that somebody holds unacknowledged are not among them.
    pub waiting: u32,
    /// Consumers.
    pub consumers: u32,
}

/// Where a URL leads, and as whom; without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// `host:port`.
    pub address: String,
    /// The virtual host.
    pub vhost: String,
    /// The broker user, or what is known of it.
    pub user: String,
}

impl Client {
    /// What a URL says; `None` if it is none.
    pub fn describe(url: &SecretString) -> Option<Described> {
        let endpoint = Endpoint::parse(url).ok()?;
        Some(Described {
            address: endpoint.to_string(),
            vhost: endpoint.vhost().to_owned(),
            user: endpoint.user().unwrap_or("(of the certificate)").to_owned(),
        })
    }

    /// Publishes in order, each with its confirm.
    pub async fn publish_all(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        Run::new(messages).send(&self.session).await
    }

    /// Whether this broker user may publish with the `user_id` of `publisher`.
    pub async fn may_speak_for(&self, publisher: &str) -> bool {
        self.session.user() == Some(publisher) || self.can_impersonate().await
    }

    /// Whether this broker user may publish with anybody's `user_id` (it has the tag `impersonator`).
    pub async fn can_impersonate(&self) -> bool {
        self.session.can_impersonate().await.unwrap_or(false)
    }

    /// Takes from a queue. What is not acknowledged goes back, in its order, when the consumer or the connection ends.
    ///
    /// # Errors
    /// When the broker refuses, with its reason.
    pub async fn consumer(&self, queue: &str, prefetch: u16) -> Result<Consumer, ConnectError> {
        Consumer::open(&self.session, queue, prefetch).await.map_err(|problem| ConnectError(problem.text))
    }

    /// What waits in a queue; `None` if there is no such queue.
    ///
    /// # Errors
    /// When the broker does not say.
    pub async fn depth(&self, queue: &str) -> Result<Option<Depth>, ConnectError> {
        let fail = |error: &lapin::Error| ConnectError(format!("the queue `{queue}`: {}", error::explain(error)));
        let name = short("a queue's name", queue).map_err(|error| ConnectError(error.to_string()))?;
        let channel = self.session.channel().await.map_err(|error| fail(&error))?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asked = bounded(channel.queue_declare(name, options, FieldTable::default())).await;
        close(&channel).await;
        match asked {
            Ok(queue) => Ok(Some(Depth { waiting: queue.message_count(), consumers: queue.consumer_count() })),
            Err(error) if matches!(error::protocol(&error), Some((404, _))) => Ok(None),
            Err(error) => Err(fail(&error)),
        }
    }

    /// Takes a name that no other connection can take until this one ends, however it ends: a queue of its own that nothing
    /// is sent to. `false` if another connection has it.
    ///
    /// # Errors
    /// When the broker refuses for another reason.
    pub async fn lock(&self, name: &str) -> Result<bool, ConnectError> {
        let fail = |error: &lapin::Error| ConnectError(format!("the queue `{name}`: {}", error::explain(error)));
        let queue = short("a queue's name", name).map_err(|error| ConnectError(error.to_string()))?;
        let channel = self.session.channel().await.map_err(|error| fail(&error))?;
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let taken = bounded(channel.queue_declare(queue, options, FieldTable::default())).await;
        close(&channel).await;
        match taken {
            Ok(_) => Ok(true),
            Err(error) if matches!(error::protocol(&error), Some((405, _))) => Ok(false),
            Err(error) => Err(fail(&error)),
        }
    }

    /// Declares the exchanges and queues.
    ///
    /// # Errors
    /// What stands in the way, and what to do.
    pub async fn declare(&self, topology: &Topology) -> Result<(), ConnectError> {
        let channel = self.session.channel().await.map_err(|error| ConnectError(error::explain(&error)))?;
        let declared = topology.declare(&channel).await.map_err(|problem| ConnectError(problem.text));
        close(&channel).await;
        declared
    }

    /// Whether messages may be published to `exchange`. Nothing is: the broker looks at an `expiration` that is none only after
    /// it has looked at the permission, and then refuses the message.
    ///
    /// # Errors
    /// The broker's words.
    pub async fn may_publish(&self, exchange: &str) -> Result<(), ConnectError> {
        let exchange = short("an exchange's name", exchange).map_err(|error| ConnectError(error.to_string()))?;
        self.attempt(async |channel: &Channel| {
            bounded(channel.confirm_select(ConfirmSelectOptions::default())).await?;
            let properties = BasicProperties::default().with_expiration("never".into());
            let options = BasicPublishOptions::default();
            bounded(async { channel.basic_publish(exchange, "".into(), options, b"", properties).await?.await })
                .await?;
            Ok(())
        })
        .await
    }

    /// Whether messages may be taken from `queue`. None is: the arguments are wrong, which is noticed after the permission.
    ///
    /// # Errors
    /// The broker's words.
    pub async fn may_consume(&self, queue: &str) -> Result<(), ConnectError> {
        let queue = short("a queue's name", queue).map_err(|error| ConnectError(error.to_string()))?;
        self.attempt(async |channel: &Channel| {
            let mut arguments = FieldTable::default();
            arguments.insert("x-priority".into(), AMQPValue::LongString("none".into()));
            bounded(channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), arguments)).await?;
            Ok(())
        })
        .await
    }

    /// Tries what is bound to be refused, and tells a missing permission from everything else.
    async fn attempt(&self, what: impl AsyncFnOnce(&Channel) -> Result<(), lapin::Error>) -> Result<(), ConnectError> {
        let fail = |error: &lapin::Error| ConnectError(error::explain(error));
        let channel = self.session.channel().await.map_err(|error| fail(&error))?;
        let tried = what(&channel).await;
        close(&channel).await;
        match tried {
            Err(error) if !matches!(error::protocol(&error), Some((406, _))) => Err(fail(&error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
