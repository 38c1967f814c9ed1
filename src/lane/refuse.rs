//! Messages that cannot go on: moved to the dead letters, or to a queue from which they come back later.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::broker::{Delivery, HeaderValue, Outgoing, Properties, RETRY_DELAYS};
use crate::crash_point::panic_point;
use crate::domain::rejection::Code;
use crate::domain::ticket::timestamp;
use crate::keys::KeyRing;

use super::Engine;
use super::guard::guarded;
use super::incoming::{ATTEMPTS, CAME, EXPIRATION, PUBLISHER, REDACTED, SIGNATURE, attempts, is_signed, signed_parts};
use super::redact::{self, redact};

/// Why a message became a dead letter.
pub struct Reason {
    /// The error code.
    pub code: Code,
    /// What exactly; no value of the body.
    pub detail: String,
}

/// On a dead letter: the error code.
pub(super) const REASON: &str = "x-regrant-reason";
/// On a dead letter: what exactly was wrong.
pub(super) const DETAIL: &str = "x-regrant-detail";
/// On a dead letter: its routing key, for tools that do not show that.
const COMMAND: &str = "x-regrant-command";
/// On a dead letter: when it became one.
pub(super) const FAILED_AT: &str = "x-regrant-failed-at";

/// Most bytes of a publisher's headers that a retry or dead letter keeps.
const MAX_HEADERS: usize = 64 * 1024;

/// Longest detail that is kept, in characters.
const MAX_DETAIL: usize = 1000;

impl Engine {
    /// The dead letter of a message, which keeps body, properties and routing key.
    pub(super) async fn dead_letter(&self, delivery: &Delivery, reason: &Reason, now: DateTime<Utc>) -> Outgoing {
        let mut letter = self.again(delivery).await;
        letter.exchange = self.broker.topology().dead_exchange();
        letter.properties.expiration = None;
        let detail: String = reason.detail.chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect();
        let tried = i64::from(attempts(delivery)) + 1;
        let failed_at = timestamp(now);
        let headers = &mut letter.properties.headers;
        for (name, value) in [
            (REASON, reason.code.as_str()),
            (DETAIL, detail.as_str()),
            (COMMAND, delivery.routing_key.as_str()),
            (FAILED_AT, failed_at.as_str()),
        ] {
            headers.insert(name.to_owned(), HeaderValue::from(value));
        }
        headers.insert(ATTEMPTS.to_owned(), HeaderValue::from(tried));
        let redacted = guarded("redacting it", || {
            panic_point("redacting", delivery.properties.message_id.as_deref());
            redact(&delivery.body)
        });
        // Of what cannot be looked through, nothing is kept.
        if let Some(body) = redacted.unwrap_or_else(|_| Some(redact::REDACTED.into())) {
            letter.body = body;
            letter.properties.headers.insert(REDACTED.to_owned(), HeaderValue::from(true));
        }
        letter
    }

    /// The message on its way to its lane again, by way of the shortest retry queue: a pause, should the lane's queue be
    /// missing still.
    pub(super) async fn return_to_lane(&self, delivery: &Delivery) -> Outgoing {
        let mut message = self.again(delivery).await;
        message.exchange = self.broker.topology().retry_exchange(RETRY_DELAYS[0]);
        keep_expiration(&mut message.properties, crate::clock::now());
        message
    }

    /// The message on its way to a retry queue, or `None` after the last retry.
    pub(super) async fn retry(&self, delivery: &Delivery) -> Option<Outgoing> {
        let tried = attempts(delivery);
        let delay = RETRY_DELAYS.get(usize::try_from(tried).unwrap_or(usize::MAX))?;
        let mut message = self.again(delivery).await;
        message.exchange = self.broker.topology().retry_exchange(*delay);
        message.properties.headers.insert(ATTEMPTS.to_owned(), HeaderValue::from(i64::from(tried + 1)));
        keep_expiration(&mut message.properties, crate::clock::now());
        Some(message)
    }

    /// The same message once more. The broker lets nobody but an impersonator publish with somebody else's `user_id`: a
    /// signed header keeps the publisher's name then.
    async fn again(&self, delivery: &Delivery) -> Outgoing {
        let mut properties = delivery.properties.clone();
        only_to_its_key(&mut properties);
        if properties.headers_len() > MAX_HEADERS {
            // With the daemon's own headers they would not fit into a frame: better without them than never.
            let own = [PUBLISHER, SIGNATURE, ATTEMPTS, EXPIRATION, CAME];
            let small = |value: &HeaderValue| value.as_str().is_none_or(|text| text.len() <= 512);
            properties.headers.retain(|name, value| own.contains(&name.as_str()) && small(value));
            properties.headers.insert("x-regrant-headers-dropped".to_owned(), HeaderValue::from(true));
        }
        if let Some(publisher) = properties.user_id.clone()
            // Without waiting: while the link is away, the signed header serves as well.
            && !self.publisher.clone().with_patience(Duration::ZERO).can_impersonate().await
        {
            vouch(&mut properties, &publisher, delivery, &self.keys.load());
        }
        Outgoing {
            exchange: String::new(),
            routing_key: delivery.routing_key.clone(),
            properties,
            body: delivery.body.clone(),
            persistent: true,
            mandatory: true,
        }
    }
}

/// Takes out the headers by which RabbitMQ sends a message to further routing keys. It did so when the message was published; with each
/// return to its lane, it would do so again.
pub(super) fn only_to_its_key(properties: &mut Properties) {
    properties.headers.retain(|name, _| !matches!(name.as_str(), "CC" | "BCC"));
}

/// Lets a header that only the daemon can make name the publisher, in place of `user_id`.
pub(super) fn vouch(properties: &mut Properties, publisher: &str, delivery: &Delivery, keys: &KeyRing) {
    properties.user_id = None;
    // A name that the daemon itself signed stays; one that somebody made up gives way to the true one.
    if !is_signed(delivery, keys) {
        let signature = keys.sign("publisher", &signed_parts(publisher, delivery));
        properties.headers.insert(PUBLISHER.to_owned(), HeaderValue::from(publisher));
        properties.headers.insert(SIGNATURE.to_owned(), HeaderValue::from(signature.as_str()));
    }
}

/// A retry queue would give a message with an `expiration` back too early: it travels as a header.
fn keep_expiration(properties: &mut Properties, now: DateTime<Utc>) {
    let Properties { expiration, headers, timestamp, .. } = properties;
    if let Some(expiration) = expiration.take() {
        headers.insert(EXPIRATION.to_owned(), HeaderValue::from(expiration.as_str()));
        if timestamp.is_none() {
            headers.insert(CAME.to_owned(), HeaderValue::from(now.timestamp_millis()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiration_travels_as_a_header_with_the_moment_that_it_counts_from() {
        let now = DateTime::from_timestamp_millis(1_800_000_000_950).unwrap();
        let kept = |timestamp| {
            let mut properties = Properties { expiration: Some("3000".into()), timestamp, ..Properties::default() };
            keep_expiration(&mut properties, now);
            // It is put aside once more.
            keep_expiration(&mut properties, now + chrono::TimeDelta::seconds(9));
            assert_eq!(properties.expiration, None);
            assert_eq!(properties.headers[EXPIRATION].as_str(), Some("3000"));
            properties.headers.get(CAME).and_then(HeaderValue::as_i64)
        };
        assert_eq!(kept(None), Some(1_800_000_000_950));
        assert_eq!(kept(Some(1_800_000_000)), None, "from then on");
    }
}
