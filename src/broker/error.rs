//! What can go wrong with the broker, in words that say what to do.

use lapin::ErrorKind;
use lapin::protocol::AMQPErrorKind;

/// The consumer's channel or connection has ended. Whatever it delivered and was not acknowledged comes again
/// from the broker, to whichever consumer is there; tags of the old consumer mean nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// [`Consumer::stop`](super::Consumer::stop) was called and everything received before has been taken.
    #[error("the consumer was stopped and has nothing left")]
    Stopped,
    /// Connection lost, channel closed, or queue deleted: get a new consumer.
    #[error("the consumer ended: {0}")]
    Lost(String),
}

/// What became of a message that was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No queue takes messages with this routing key (only with `mandatory`). It was not stored.
    #[error("no queue is bound to the exchange `{exchange}` for the routing key `{routing_key}`")]
    Unroutable {
        /// Where it was sent.
        exchange: String,
        /// The key it was sent with.
        routing_key: String,
    },
    /// The broker could not store it (a full queue, or an internal error): it may be tried again.
    #[error("the broker could not store the message")]
    Nacked,
    /// It was sent, and then nothing more was heard of it: it **may have arrived**.
    #[error("the message may or may not have arrived: {0}")]
    Unknown(String),
    /// The broker will not have it, now or later, as it stands (or it cannot be put into AMQP at all). It was not stored.
    #[error("the message was refused: {reason}")]
    Refused {
        /// The AMQP reply code: 403, 404, 406; 0 when it was not even sent.
        code: u16,
        /// The broker's words, or ours, with what to do.
        reason: String,
    },
    /// It was not sent: there is no connection, or the broker takes no messages at the moment.
    #[error("the message was not sent: {0}")]
    Unavailable(String),
}

impl PublishError {
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { code: 0, reason: reason.into() }
    }
}

/// The broker URL is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "broker.url is not a valid AMQP URL: {reason}. It must look like amqp://user:password@host:5672/%2f (or amqps://), \
     with special characters in user, password and virtual host percent-encoded"
)]
pub struct InvalidUrl {
    pub(super) reason: &'static str,
}

/// Code and text of a protocol error, if it is one.
pub(super) fn protocol(error: &lapin::Error) -> Option<(u16, &str)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some((error.get_id(), error.get_message().as_str())),
        _ => None,
    }
}

/// Whether the error ended just one channel and not the whole connection.
pub(super) fn is_soft(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(_)))
}

/// The error in the fewest words that still say everything.
pub(super) fn explain(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::MissingHeartbeatError => "the broker sent no heartbeat for too long".to_owned(),
        ErrorKind::InvalidConnectionState(_) => "the connection is closed".to_owned(),
        ErrorKind::InvalidChannelState(..) => "the channel is closed".to_owned(),
        _ => error.to_string(),
    }
}
