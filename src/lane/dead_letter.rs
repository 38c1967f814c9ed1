//! Dead letters as operators see them, and the way back: a letter becomes the command again that it was.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::broker::{Delivery, HeaderValue, Outgoing};
use crate::config::ANY_PUBLISHER;
use crate::keys::KeyRing;

use super::incoming::{PUBLISHER, REDACTED, SIGNATURE, attempts};
use super::redact::redact;
use super::refuse::{DETAIL, FAILED_AT, REASON, only_to_its_key, vouch};

/// Hexadecimal digits of a letter's id.
const ID_LENGTH: usize = 12;

/// What the daemon or the broker wrote on a message on its way here. A replay begins anew.
const OWN_HEADERS: [&str; 4] = ["x-regrant-", "x-death", "x-first-death-", "x-last-death-"];
/// How often a quorum queue delivered it.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// What a dead letter says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Follows from its content: the same each time that somebody looks.
    pub id: String,
    /// The publisher's name for the message.
    pub message_id: Option<String>,
    /// The routing key.
    pub command: String,
    /// Who sent it, or `*`.
    pub publisher: String,
    /// The error code.
    pub reason: String,
    /// What exactly was wrong.
    pub detail: String,
    /// When it was buried.
    pub failed_at: Option<DateTime<Utc>>,
    /// How often it was tried.
    pub attempts: u32,
    /// Whether plain secrets were taken out: then it cannot be replayed.
    pub redacted: bool,
    /// Size of the body.
    pub bytes: usize,
}

/// Why a letter cannot be sent again, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreplayable {
    /// Its secrets are gone.
    #[error(
        "its plain secrets were taken out when it was buried, so it cannot be replayed: ask the publisher `{0}` to send it \
         again (under the same message_id: it was never carried out)"
    )]
    Redacted(String),
    /// There is no way to keep its publisher.
    #[error(
        "it was sent by `{publisher}`, and must be replayed with the same rights. Give this broker user the tag impersonator, or \
         run this where the key file can be read: {keys}"
    )]
    NoPublisher {
        /// Who sent it.
        publisher: String,
        /// Why there are no keys.
        keys: String,
    },
}

impl Letter {
    /// Reads a dead letter.
    pub fn of(delivery: &Delivery) -> Self {
        let header =
            |name: &str| delivery.properties.headers.get(name).and_then(HeaderValue::as_str).unwrap_or_default();
        let failed_at = header(FAILED_AT);
        Self {
            id: id(delivery, failed_at),
            message_id: delivery.properties.message_id.clone(),
            command: delivery.routing_key.clone(),
            publisher: publisher(delivery).to_owned(),
            reason: header(REASON).to_owned(),
            detail: header(DETAIL).to_owned(),
            failed_at: DateTime::parse_from_rfc3339(failed_at).ok().map(|at| at.to_utc()),
            attempts: attempts(delivery),
            redacted: delivery.properties.headers.contains_key(REDACTED),
            bytes: delivery.body.len(),
        }
    }
}

/// Who sent it: the broker's word, or the header that the daemon keeps it in where it may not repeat that. Beside the broker's
/// word, a header is one that a publisher made up. Whether one that stands alone is genuine, the daemon looks at a replay.
fn publisher(delivery: &Delivery) -> &str {
    let kept = || delivery.properties.headers.get(PUBLISHER).and_then(HeaderValue::as_str);
    let named = |name: &&str| !name.is_empty();
    delivery.properties.user_id.as_deref().filter(named).or_else(kept).filter(named).unwrap_or(ANY_PUBLISHER)
}

fn id(delivery: &Delivery, failed_at: &str) -> String {
    let message_id = delivery.properties.message_id.as_deref().unwrap_or_default();
    let mut hash = Sha256::new();
    for part in [publisher(delivery), message_id, delivery.routing_key.as_str(), failed_at] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.update(&delivery.body);
    let digits = Uuid::from_slice(&hash.finalize()[..16]).unwrap_or_default().simple().to_string();
    digits[..ID_LENGTH].to_owned()
}

/// The body as it may be shown. Secrets were taken out when it was buried; a name that is a secret's only by now is noticed here.
pub fn shown_body(delivery: &Delivery) -> Vec<u8> {
    redact(&delivery.body).unwrap_or_else(|| delivery.body.clone())
}

/// The headers as they may be shown, in words.
pub fn shown_headers(delivery: &Delivery) -> impl Iterator<Item = (&str, String)> {
    delivery.properties.headers.iter().map(|(name, value)| {
        let text = match value {
            // It vouches for a name.
            _ if name == SIGNATURE => "[a signature]".to_owned(),
            HeaderValue::Text(text) => text.clone(),
            HeaderValue::Bool(flag) => flag.to_string(),
            HeaderValue::Void => String::new(),
            other => other.as_i64().map_or_else(|| "[a table, list or bytes]".to_owned(), |number| number.to_string()),
        };
        (name.as_str(), text)
    })
}

/// The letter as the command that it was, to be published to `exchange`: with its properties, its body, and the rights of its
/// publisher. `speaks_for_others` says whether the broker lets us publish with its `user_id`.
///
/// What is left behind is what happened to it: reason, attempts, and an `expiration`, since whoever replays it wants it done.
///
/// # Errors
/// [`Unreplayable`].
pub fn replay(
    delivery: &Delivery,
    exchange: &str,
    keys: Result<&KeyRing, &str>,
    speaks_for_others: bool,
) -> Result<Outgoing, Unreplayable> {
    let publisher = publisher(delivery);
    if delivery.properties.headers.contains_key(REDACTED) {
        return Err(Unreplayable::Redacted(publisher.to_owned()));
    }
    let mut properties = delivery.properties.clone();
    properties.expiration = None;
    only_to_its_key(&mut properties);
    properties.headers.retain(|name, _| {
        let own = name == DELIVERY_COUNT || OWN_HEADERS.iter().any(|prefix| name.starts_with(prefix));
        !own || name == PUBLISHER || name == SIGNATURE
    });
    if let Some(user) = properties.user_id.clone().filter(|_| !speaks_for_others) {
        let keys = keys.map_err(|why| Unreplayable::NoPublisher { publisher: user.clone(), keys: why.to_owned() })?;
        vouch(&mut properties, &user, delivery, keys);
    }
    Ok(Outgoing {
        exchange: exchange.to_owned(),
        routing_key: delivery.routing_key.clone(),
        properties,
        body: delivery.body.clone(),
        persistent: true,
        mandatory: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Properties;
    use crate::lane::incoming::is_signed;

    fn buried() -> Delivery {
        let headers = [
            ("traceparent", HeaderValue::from("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")),
            (REASON, HeaderValue::from("internal")),
            (DETAIL, HeaderValue::from("a trigger said no")),
            ("x-regrant-command", HeaderValue::from("user.block")),
            (FAILED_AT, HeaderValue::from("2026-11-22T09:30:00.000Z")),
            ("x-regrant-attempts", HeaderValue::from(6)),
            ("x-regrant-expiration", HeaderValue::from("5000")),
            (DELIVERY_COUNT, HeaderValue::from(3)),
            ("CC", HeaderValue::List(vec![HeaderValue::from("session.login")])),
            ("BCC", HeaderValue::List(vec![HeaderValue::from("session.login")])),
            ("x-death", HeaderValue::List(Vec::new())),
            ("x-first-death-queue", HeaderValue::from("regrant.retry.1s")),
        ];
        Delivery {
            tag: 7,
            routing_key: "user.block".into(),
            exchange: "regrant.dead".into(),
            body: br#"{"user": {"id": "ada"}}"#.to_vec(),
            properties: Properties {
                message_id: Some("m1".into()),
                user_id: Some("shop".into()),
                correlation_id: Some("c1".into()),
                timestamp: Some(1_800_000_000),
                headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
                ..Properties::default()
            },
            redelivered: true,
        }
    }

    fn keys() -> KeyRing {
        KeyRing::generate(DateTime::from_timestamp(1_800_000_000, 0).unwrap())
    }

    #[test]
    fn a_letter_says_what_happened() {
        let letter = Letter::of(&buried());
        assert_eq!((letter.reason.as_str(), letter.detail.as_str()), ("internal", "a trigger said no"));
        assert_eq!((letter.command.as_str(), letter.publisher.as_str()), ("user.block", "shop"));
        assert_eq!((letter.attempts, letter.redacted, letter.bytes), (6, false, 23));
        assert_eq!(letter.failed_at.unwrap().timestamp(), 1_795_339_800);
        let nobody = Delivery { properties: Properties::default(), ..buried() };
        assert_eq!(Letter::of(&nobody).publisher, "*");
    }

    #[test]
    fn an_id_follows_from_the_content_and_from_nothing_else() {
        let id = |change: fn(&mut Delivery)| {
            let mut delivery = buried();
            change(&mut delivery);
            Letter::of(&delivery).id
        };
        let first = id(|_| {});
        assert_eq!(first.len(), ID_LENGTH);
        assert_eq!(id(|d| d.tag = 9), first);
        assert_eq!(id(|d| drop(d.properties.headers.insert(DELIVERY_COUNT.into(), HeaderValue::from(4)))), first);
        assert_ne!(id(|d| d.properties.message_id = Some("m2".into())), first);
        assert_ne!(id(|d| d.properties.user_id = Some("desk".into())), first);
        assert_ne!(id(|d| d.body.push(b' ')), first);
        assert_ne!(id(|d| drop(d.properties.headers.remove(FAILED_AT))), first, "buried twice is two letters");
    }

    #[test]
    fn a_replay_is_the_command_that_it_was() {
        let again = replay(&buried(), "regrant.commands", Err("none"), true).unwrap();
        assert_eq!((again.exchange.as_str(), again.routing_key.as_str()), ("regrant.commands", "user.block"));
        assert!(again.mandatory && again.persistent);
        let mut expected = buried().properties;
        expected.headers.retain(|name, _| name == "traceparent");
        assert_eq!(again.properties, expected);
        assert_eq!(again.body, buried().body);
    }

    #[test]
    fn without_impersonation_a_signature_keeps_the_publisher() {
        let keys = keys();
        let again = replay(&buried(), "x", Ok(&keys), false).unwrap();
        assert_eq!(again.properties.user_id, None);
        let arrived = Delivery { properties: again.properties, ..buried() };
        assert!(is_signed(&arrived, &keys));
        assert_eq!(publisher(&arrived), "shop");
        // Signed before, it stays so, whoever replays it.
        for (keys, speaks) in [(Ok(&keys), false), (Err("no file"), true), (Err("no file"), false)] {
            let again = replay(&arrived, "x", keys, speaks).unwrap();
            assert_eq!(again.properties.headers, arrived.properties.headers);
        }
        let stuck = replay(&buried(), "x", Err("there is no key file k"), false).unwrap_err().to_string();
        assert!(stuck.contains("`shop`") && stuck.contains("there is no key file k"), "{stuck}");
    }

    #[test]
    fn a_name_that_somebody_made_up_gives_nobody_rights() {
        let keys = keys();
        let mut forged = buried();
        forged.properties.headers.insert(PUBLISHER.into(), HeaderValue::from("root"));
        forged.properties.headers.insert(SIGNATURE.into(), HeaderValue::from("AAAA"));
        assert_eq!(Letter::of(&forged).publisher, "shop", "nobody else is blamed");
        // With its user_id it is refused as it was at first.
        let again = replay(&forged, "x", Ok(&keys), true).unwrap();
        assert!(!is_signed(&Delivery { properties: again.properties, ..buried() }, &keys));
        // Signed anew, it is signed for whom the broker named.
        let again = replay(&forged, "x", Ok(&keys), false).unwrap();
        assert_eq!(again.properties.headers[PUBLISHER].as_str(), Some("shop"));
    }

    #[test]
    fn a_redacted_letter_cannot_be_replayed_and_says_what_to_do() {
        let mut redacted = buried();
        redacted.properties.headers.insert(REDACTED.into(), true.into());
        assert!(Letter::of(&redacted).redacted);
        let why = replay(&redacted, "x", Ok(&keys()), true).unwrap_err().to_string();
        assert!(why.contains("secrets") && why.contains("ask the publisher `shop` to send it again"), "{why}");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let mut careless = buried();
        careless.body = br#"{"new_password": "hunter2"}"#.to_vec();
        careless.properties.headers.insert(SIGNATURE.into(), HeaderValue::from("s1gn4ture"));
        assert_eq!(shown_body(&careless), br#"{"new_password":"[redacted]"}"#);
        assert!(shown_headers(&careless).all(|(_, value)| !value.contains("s1gn4ture")));
        assert_eq!(shown_body(&buried()), buried().body);
    }
}
