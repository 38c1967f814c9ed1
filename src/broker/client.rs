//! A connection for one errand: a command sent from the shell, a check of the settings.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::Event;
use lapin::options::{BasicConsumeOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use tokio::time::{Instant, timeout_at};

use super::Options;
use super::connection::Endpoint;
use super::error::{self, PublishError};
use super::message::{Delivery, Outgoing};
use super::publisher::Run;
use super::session::{Session, bounded};

/// The pseudo-queue of RabbitMQ's direct reply-to.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Why there is no connection, and what to do about it. Holds no password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(pub(super) String);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The command itself did not arrive, or may not have.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The broker did not take it in time; it may be carried out all the same.
    #[error("RabbitMQ did not take the command within {} s{}; it may still be carried out", .0.as_secs(), alarm(.1.as_deref()))]
    NotTaken(Duration, Option<String>),
    /// It arrived, but was not answered in time; it may be carried out all the same.
    #[error("no reply within {} s; the command waits in its queue and may still be carried out", .0.as_secs())]
    NoReply(Duration),
    /// The connection was lost while waiting.
    #[error("the connection was lost while waiting for the reply: {0}")]
    Lost(String),
}

fn alarm(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" (it takes no messages at the moment, its alarm says: {reason})")).unwrap_or_default()
}

/// One connection that is tried once, declares nothing, and is not opened again.
pub struct Client {
    pub(super) session: Arc<Session>,
}

impl Client {
    /// Connects, within the time limit of the URL.
    pub async fn connect(options: &Options) -> Result<Self, ConnectError> {
        let endpoint = Endpoint::parse(&options.url).map_err(|error| ConnectError(error.to_string()))?;
        let connected = endpoint.connect(&options.connection_name).await;
        let (connection, socket) = connected.map_err(|problem| ConnectError(problem.text))?;
        let user = endpoint.user().map(str::to_owned);
        Ok(Self { session: Arc::new(Session::new(connection, socket, user, None)) })
    }

    /// Publishes one message and waits for its confirm.
    pub async fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        let messages = [message];
        let fate = Run::new(&messages).send(&self.session).await.pop();
        fate.unwrap_or(Ok(()))
    }

    /// Publishes a command and waits for the reply with its correlation id, which comes by direct reply-to:
    /// `reply_to` is set here.
    pub async fn call(&self, mut command: Outgoing, patience: Duration) -> Result<Delivery, CallError> {
        let lost = |error: lapin::Error| CallError::Lost(error::explain(&error));
        let deadline = Instant::now() + patience;
        let mut events = self.session.events();
        // The broker ties the replies to the channel that both consumes and publishes.
        let channel = self.session.channel().await.map_err(lost)?;
        bounded(channel.confirm_select(ConfirmSelectOptions::default())).await.map_err(lost)?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consuming = channel.basic_consume(DIRECT_REPLY_TO.into(), "".into(), options, FieldTable::default());
        let mut replies = bounded(consuming).await.map_err(lost)?;
        command.properties.reply_to = Some(DIRECT_REPLY_TO.to_owned());
        let correlation_id = command.properties.correlation_id.clone();
        let messages = [command];
        let Ok(mut fates) = timeout_at(deadline, Run::new(&messages).send_on(&self.session, &channel)).await else {
            let mut alarm = None;
            while let Some(Some(event)) = events.next().now_or_never() {
                if let Event::ConnectionBlocked(reason) = event {
                    alarm = Some(reason);
                }
            }
            return Err(CallError::NotTaken(patience, alarm));
        };
        fates.pop().unwrap_or(Ok(()))?;
        loop {
            match timeout_at(deadline, replies.next()).await {
                Ok(Some(Ok(reply))) => {
                    let reply = Delivery::from_lapin(reply);
                    if reply.properties.correlation_id == correlation_id {
                        return Ok(reply);
                    }
                }
                Ok(Some(Err(error))) => return Err(lost(error)),
                Ok(None) => return Err(CallError::Lost("the channel is closed".to_owned())),
                Err(_) => return Err(CallError::NoReply(patience)),
            }
        }
    }

    /// Says goodbye, within seconds.
    pub async fn close(self) {
        self.session.close().await;
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
