//! Messages as the rest of the program sees them: plain owned data.

use std::fmt;

use lapin::BasicProperties;
use lapin::types::ShortString;

use super::error::PublishError;
use super::headers::{self, Headers};

/// Delivery mode of a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// The properties of a message (AMQP 0-9-1 `basic`), without the delivery mode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<String>,
    /// MIME encoding of the body.
    pub content_encoding: Option<String>,
    /// The header table; empty stands for none.
    pub headers: Headers,
    /// Priority, 0 to 9.
    pub priority: Option<u8>,
    /// What the sender wants to find again in the reply.
    pub correlation_id: Option<String>,
    /// Name of the queue where a reply goes.
    pub reply_to: Option<String>,
    /// Milliseconds until the message expires, as text.
    pub expiration: Option<String>,
    /// The sender's name for the message.
    pub message_id: Option<String>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// The property `type`.
    pub kind: Option<String>,
    /// The broker user who published, validated by the broker.
    pub user_id: Option<String>,
    /// Name of the sending application.
    pub app_id: Option<String>,
    /// Deprecated, but kept.
    pub cluster_id: Option<String>,
}

impl Properties {
    /// How many bytes the headers take in a frame.
    pub fn headers_len(&self) -> usize {
        headers::encoded_len(&self.headers)
    }
}

/// A message taken from a queue; to be acknowledged through the [`Consumer`](super::Consumer) that gave it.
#[derive(Clone, PartialEq)]
pub struct Delivery {
    /// Its number on this consumer's channel; means nothing to another consumer.
    pub tag: u64,
    /// The key it was published with.
    pub routing_key: String,
    /// The exchange it was published to (of a message that came back from a retry queue: where it came back to).
    pub exchange: String,
    /// The content.
    pub body: Vec<u8>,
    /// Everything said about the content.
    pub properties: Properties,
    /// Whether some consumer may have seen it before.
    pub redelivered: bool,
}

/// A message to publish.
#[derive(Clone, Default, PartialEq)]
pub struct Outgoing {
    /// Where to; empty for the default exchange.
    pub exchange: String,
    /// On the default exchange the name of the queue.
    pub routing_key: String,
    /// Everything said about the content.
    pub properties: Properties,
    /// The content.
    pub body: Vec<u8>,
    /// Whether it must survive a restart of the broker.
    pub persistent: bool,
    /// Whether to fail when no queue takes it.
    pub mandatory: bool,
}

// Bodies hold passwords: only their size is ever shown.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("tag", &self.tag)
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("message_id", &self.properties.message_id)
            .field("redelivered", &self.redelivered)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("message_id", &self.properties.message_id)
            .field("persistent", &self.persistent)
            .field("mandatory", &self.mandatory)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Something that AMQP limits to 255 bytes is longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is longer than the 255 bytes that AMQP allows")]
pub(super) struct TooLong {
    what: &'static str,
}

impl TooLong {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what }
    }
}

impl From<TooLong> for PublishError {
    fn from(error: TooLong) -> Self {
        Self::refused(error.to_string())
    }
}

/// A string that AMQP limits to 255 bytes; lapin's own conversion panics on longer ones.
pub(super) fn short(what: &'static str, text: &str) -> Result<ShortString, TooLong> {
    ShortString::try_new(text).map_err(|_| TooLong { what })
}

impl Properties {
    pub(super) fn from_lapin(properties: &BasicProperties) -> Self {
        let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
        Self {
            content_type: text(properties.content_type()),
            content_encoding: text(properties.content_encoding()),
            headers: properties.headers().as_ref().map(headers::from_lapin).unwrap_or_default(),
            priority: *properties.priority(),
            correlation_id: text(properties.correlation_id()),
            reply_to: text(properties.reply_to()),
            expiration: text(properties.expiration()),
            message_id: text(properties.message_id()),
            timestamp: *properties.timestamp(),
            kind: text(properties.kind()),
            user_id: text(properties.user_id()),
            app_id: text(properties.app_id()),
            cluster_id: text(properties.cluster_id()),
        }
    }

    pub(super) fn to_lapin(&self, persistent: bool) -> Result<BasicProperties, TooLong> {
        let mut lapin = BasicProperties::default().with_delivery_mode(if persistent { PERSISTENT } else { TRANSIENT });
        if !self.headers.is_empty() {
            lapin = lapin.with_headers(headers::to_lapin(&self.headers)?);
        }
        if let Some(priority) = self.priority {
            lapin = lapin.with_priority(priority);
        }
        if let Some(timestamp) = self.timestamp {
            lapin = lapin.with_timestamp(timestamp);
        }
        for (what, value, set) in self.texts() {
            if let Some(value) = value {
                lapin = set(lapin, short(what, value)?);
            }
        }
        Ok(lapin)
    }

    /// Bytes that the properties take on the wire; they must fit into one frame.
    pub(super) fn encoded_len(&self) -> usize {
        /// Class, weight, body size, flags, delivery mode, priority and timestamp.
        const FIXED: usize = 2 + 2 + 8 + 2 + 1 + 1 + 8;
        let texts: usize = self.texts().iter().filter_map(|(_, value, _)| value.map(|text| 1 + text.len())).sum();
        FIXED + headers::encoded_len(&self.headers) + texts
    }

    #[expect(clippy::type_complexity, reason = "a table that is read twice, just below")]
    fn texts(&self) -> [(&'static str, Option<&str>, fn(BasicProperties, ShortString) -> BasicProperties); 10] {
        [
            ("content_type", self.content_type.as_deref(), BasicProperties::with_content_type),
            ("content_encoding", self.content_encoding.as_deref(), BasicProperties::with_content_encoding),
            ("correlation_id", self.correlation_id.as_deref(), BasicProperties::with_correlation_id),
            ("reply_to", self.reply_to.as_deref(), BasicProperties::with_reply_to),
            ("expiration", self.expiration.as_deref(), BasicProperties::with_expiration),
            ("message_id", self.message_id.as_deref(), BasicProperties::with_message_id),
            ("type", self.kind.as_deref(), BasicProperties::with_type),
            ("user_id", self.user_id.as_deref(), BasicProperties::with_user_id),
            ("app_id", self.app_id.as_deref(), BasicProperties::with_app_id),
            ("cluster_id", self.cluster_id.as_deref(), BasicProperties::with_cluster_id),
        ]
    }
}

impl Delivery {
    pub(super) fn from_lapin(delivery: lapin::message::Delivery) -> Self {
        Self {
            tag: delivery.delivery_tag,
            routing_key: delivery.routing_key.into(),
            exchange: delivery.exchange.into(),
            properties: Properties::from_lapin(&delivery.properties),
            redelivered: delivery.redelivered,
            body: delivery.data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::HeaderValue;

    fn full() -> Properties {
        Properties {
            content_type: Some("application/json".into()),
            content_encoding: Some("utf-8".into()),
            headers: Headers::from([("traceparent".into(), HeaderValue::from("00-1-2-01"))]),
            priority: Some(3),
            correlation_id: Some("c".into()),
            reply_to: Some("r".into()),
            expiration: Some("1000".into()),
            message_id: Some("m".into()),
            timestamp: Some(1_700_000_000),
            kind: Some("user.put".into()),
            user_id: Some("shop".into()),
            app_id: Some("a".into()),
            cluster_id: Some("cl".into()),
        }
    }

    #[test]
    fn every_property_survives_the_way_through_lapin() {
        for persistent in [true, false] {
            let lapin = full().to_lapin(persistent).unwrap();
            assert_eq!(*lapin.delivery_mode(), Some(if persistent { 2 } else { 1 }));
            assert_eq!(Properties::from_lapin(&lapin), full());
        }
        assert_eq!(Properties::from_lapin(&BasicProperties::default()), Properties::default());
    }

    #[test]
    fn an_over_long_property_is_an_error_that_names_it() {
        let properties = Properties { message_id: Some("m".repeat(256)), ..Properties::default() };
        let error = properties.to_lapin(true).unwrap_err();
        assert_eq!(error.to_string(), "message_id is longer than the 255 bytes that AMQP allows");
    }

    #[test]
    fn a_body_is_never_shown() {
        let outgoing = Outgoing { body: b"hunter2".to_vec(), ..Outgoing::default() };
        let delivery = Delivery {
            tag: 1,
            routing_key: "k".into(),
            exchange: "e".into(),
            body: b"hunter2".to_vec(),
            properties: full(),
            redelivered: false,
        };
        for shown in [format!("{outgoing:?}"), format!("{delivery:?}")] {
            assert!(shown.contains("body_bytes: 7"), "{shown}");
            assert!(!shown.contains("104, 117") && !shown.contains("hunter2"), "{shown}");
        }
    }
}
