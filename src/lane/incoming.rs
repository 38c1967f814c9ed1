//! A delivery's envelope: who sent it, under which id, when, and whether anybody still waits.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::broker::{Delivery, HeaderValue};
use crate::commands::{self, Invalid, Lane, Parsed, Ready, Spec};
use crate::crash_point::panic_point;
use crate::domain::access::ActorName;
use crate::domain::rejection::Code;
use crate::keys::KeyRing;
use crate::store::inbox;
use crate::world::Wants;

use super::guard::{Panicked, guarded};

/// Names the original publisher of a message that the daemon published again and could not keep the `user_id` of.
pub const PUBLISHER: &str = "x-regrant-publisher";
/// Proves that the daemon wrote [`PUBLISHER`]: any publisher can set a header.
pub const SIGNATURE: &str = "x-regrant-signature";
/// Set on a dead letter whose plain secrets were taken out.
pub const REDACTED: &str = "x-regrant-redacted";
/// How often the command was tried.
pub const ATTEMPTS: &str = "x-regrant-attempts";
/// The original `expiration`, which would make a retry queue give the message back too early.
pub const EXPIRATION: &str = "x-regrant-expiration";

/// As many tries as are counted. The daemon itself writes far fewer; anybody can set the header.
const MOST_ATTEMPTS: u32 = 1000;

/// When a command that has an `expiration` and no `timestamp` came first, in milliseconds since 1970.
pub const CAME: &str = "x-regrant-came-at";

/// How far a publisher's clock may be ahead.
const CLOCK_AHEAD: Duration = Duration::from_secs(5 * 60);

/// A command that was understood.
pub struct Incoming {
    /// The message as it came.
    pub delivery: Delivery,
    /// Its row in the list of commands.
    pub spec: &'static Spec,
    /// Who sent it, or `*`.
    pub publisher: String,
    /// When the person asked.
    pub requested_at: DateTime<Utc>,
    /// How long ago that was at least.
    pub waited: Duration,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Under what its answer is remembered.
    pub key: Uuid,
    /// The body.
    pub parsed: Parsed,
    /// What must be loaded before it can be decided.
    pub wants: Wants,
}

/// What a delivery turned out to be.
pub enum Read {
    /// A command or query.
    Understood(Box<Incoming>),
    /// Something else.
    Invalid(Box<Delivery>, Invalid),
    /// A command that nobody waits for any more.
    Expired(Box<Incoming>),
    /// One that could not even be read, by no fault of its own.
    Failed(Box<Delivery>, &'static Spec, Panicked),
}

/// Reads a delivery of a lane.
pub fn read(delivery: Delivery, lane: Lane, keys: &KeyRing, require_sealed: bool, now: DateTime<Utc>) -> Read {
    let Some(spec) = commands::find(&delivery.routing_key) else {
        let detail = format!("no command is called `{}`", shown(&delivery.routing_key));
        return Read::Invalid(Box::new(delivery), Invalid { code: Code::UnknownCommand, detail });
    };
    // Only who names a second routing key, or has a binding of their own made, gets it here: what runs in a lane must not
    // depend on that.
    if spec.lane != lane {
        let (lane, own) = (lane.as_str(), spec.lane.as_str());
        let detail = format!(
            "`{}` came to the lane `{lane}`, and belongs to `{own}`: send it without the headers CC and BCC, and bind the \
             queues to nothing else",
            spec.name
        );
        return Read::Invalid(Box::new(delivery), Invalid { code: Code::InvalidMessage, detail });
    }
    match guarded("reading it", || understand(&delivery, spec, keys, require_sealed, now)) {
        Err(panicked) => Read::Failed(Box::new(delivery), spec, panicked),
        Ok(Err(invalid)) => Read::Invalid(Box::new(delivery), invalid),
        Ok(Ok(Understood { envelope, parsed, wants })) => {
            let Envelope { publisher, requested_at, waited, expired, key, traceparent } = envelope;
            let incoming =
                Incoming { delivery, spec, publisher, requested_at, waited, traceparent, key, parsed, wants };
            if expired { Read::Expired(Box::new(incoming)) } else { Read::Understood(Box::new(incoming)) }
        }
    }
}

struct Understood {
    envelope: Envelope,
    parsed: Parsed,
    wants: Wants,
}

struct Envelope {
    publisher: String,
    requested_at: DateTime<Utc>,
    waited: Duration,
    expired: bool,
    key: Uuid,
    traceparent: Option<String>,
}

fn understand(
    delivery: &Delivery,
    spec: &Spec,
    keys: &KeyRing,
    require_sealed: bool,
    now: DateTime<Utc>,
) -> Result<Understood, Invalid> {
    let envelope = envelope(delivery, spec, keys, now)?;
    let parsed = spec.read(&delivery.body, keys, require_sealed)?;
    let wants = wants(&parsed, keys);
    panic_point("reading", delivery.properties.message_id.as_deref());
    Ok(Understood { envelope, parsed, wants })
}

/// What a command and its access rules need to have loaded.
fn wants(parsed: &Parsed, keys: &KeyRing) -> Wants {
    let mut wants = Wants::default();
    match &parsed.ready {
        Ok(Ready::Command(command)) => command.wants(&mut wants, keys),
        Ok(Ready::Query(_)) => return wants,
        // It is refused, and on record with whom it names.
        Err(unopened) => wants.users.extend(unopened.user.clone()),
    }
    if let Some(ActorName::Id(id)) = &parsed.envelope.actor {
        wants.actors.insert(id.clone());
    }
    wants
}

fn envelope(delivery: &Delivery, spec: &Spec, keys: &KeyRing, now: DateTime<Utc>) -> Result<Envelope, Invalid> {
    let invalid = |detail: String| Invalid { code: Code::InvalidMessage, detail };
    let properties = &delivery.properties;
    if properties.headers.contains_key(REDACTED) {
        return Err(invalid(
            "its secrets were redacted when it became a dead letter: it cannot be replayed".to_owned(),
        ));
    }
    match properties.message_id.as_deref() {
        None | Some("") if spec.lane != Lane::Queries => {
            return Err(invalid(
                "the property `message_id` is missing: set it to something unique for each command".to_owned(),
            ));
        }
        Some(id) if id.chars().count() > 128 => {
            return Err(invalid("the property `message_id` has more than 128 characters".to_owned()));
        }
        // Also what the broker module puts in place of bytes that are not UTF-8: two broken ids may look alike.
        Some(id) if id.chars().any(char::is_control) => {
            return Err(invalid("the property `message_id` holds control characters, or is not UTF-8".to_owned()));
        }
        _ => {}
    }
    if let Some(kind) = properties.content_type.as_deref().filter(|kind| !kind.is_empty()) {
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(invalid(format!("the content_type is `{}`; send application/json", shown(kind))));
        }
    }
    let requested_at = requested_at(properties.timestamp, now).map_err(invalid)?;
    let expiration = properties.expiration.as_deref().or_else(|| text(delivery, EXPIRATION));
    // They may have asked at the end of that second.
    let waited = (now - requested_at).to_std().unwrap_or_default().saturating_sub(LAST_OF_A_SECOND);
    // Without a timestamp, the broker's own expiry holds until the first try.
    let since = match properties.timestamp {
        Some(_) => Some(waited),
        None => came(delivery).and_then(|came| (now - came).to_std().ok()),
    };
    let patience = expiration.and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    let expired = since.zip(patience).is_some_and(|(since, patience)| since > patience);
    let publisher = publisher(delivery, keys)?;
    let key = inbox::key(keys, &publisher, properties.message_id.as_deref().unwrap_or_default());
    let traceparent = traceparent(delivery).map(str::to_owned);
    Ok(Envelope { publisher, requested_at, waited, expired, key, traceparent })
}

/// What a timestamp, which has whole seconds, may leave out.
const LAST_OF_A_SECOND: Duration = Duration::from_millis(999);

/// The moment of a timestamp; within that second, now.
fn requested_at(timestamp: Option<u64>, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let Some(seconds) = timestamp else { return Ok(now) };
    let second = i64::try_from(seconds).ok().and_then(|s| DateTime::from_timestamp(s, 0));
    let Some(second) = second.filter(|at| *at <= now + CLOCK_AHEAD) else {
        return Err(
            "the property `timestamp` is more than 5 minutes ahead of this clock (it counts seconds since 1970)"
                .to_owned(),
        );
    };
    // Nobody asked in the future: a publisher whose clock is ahead must not make later requests look older.
    Ok(if second + LAST_OF_A_SECOND >= now { now } else { second })
}

/// The name that the broker validated; or that the daemon itself signed when it published the message again.
fn publisher(delivery: &Delivery, keys: &KeyRing) -> Result<String, Invalid> {
    if let Some(name) = text(delivery, PUBLISHER) {
        if !is_signed(delivery, keys) {
            let detail = format!(
                "the header `{PUBLISHER}` is not signed by this daemon's keys; publishers must not set it (and a message that \
                 the daemon signed itself is to be sent again, if the key was deleted)"
            );
            return Err(Invalid { code: Code::InvalidMessage, detail });
        }
        return Ok(name.to_owned());
    }
    Ok(delivery
        .properties
        .user_id
        .clone()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| crate::config::ANY_PUBLISHER.to_owned()))
}

/// Whether the message names its publisher in a header that the daemon signed.
pub fn is_signed(delivery: &Delivery, keys: &KeyRing) -> bool {
    let (Some(name), Some(signature)) = (text(delivery, PUBLISHER), text(delivery, SIGNATURE)) else { return false };
    keys.verify("publisher", &signed_parts(name, delivery), signature)
}

/// What a signature binds a publisher's name to: this very command and no other.
pub fn signed_parts<'a>(name: &'a str, delivery: &'a Delivery) -> [&'a [u8]; 4] {
    let id = delivery.properties.message_id.as_deref().unwrap_or_default();
    [name.as_bytes(), delivery.routing_key.as_bytes(), id.as_bytes(), &delivery.body]
}

/// How often this message was tried before.
pub fn attempts(delivery: &Delivery) -> u32 {
    delivery
        .properties
        .headers
        .get(ATTEMPTS)
        .and_then(HeaderValue::as_i64)
        .map_or(0, |n| u32::try_from(n.max(0)).unwrap_or(MOST_ATTEMPTS).min(MOST_ATTEMPTS))
}

/// When the message came first, if it was put aside since and has no timestamp.
fn came(delivery: &Delivery) -> Option<DateTime<Utc>> {
    delivery.properties.headers.get(CAME).and_then(HeaderValue::as_i64).and_then(DateTime::from_timestamp_millis)
}

/// The message's trace context, if it is one.
pub fn traceparent(delivery: &Delivery) -> Option<&str> {
    text(delivery, "traceparent").filter(|text| is_traceparent(text))
}

fn text<'a>(delivery: &'a Delivery, header: &str) -> Option<&'a str> {
    delivery.properties.headers.get(header).and_then(HeaderValue::as_str)
}

/// W3C Trace Context, section 3.2: version, trace id, parent id, flags.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    matches!(parts.as_slice(), [version, trace, parent, flags] if hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2))
}

/// A sender's text in a message for people: short, and on one line.
pub fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Properties;

    fn delivery(change: impl FnOnce(&mut Delivery)) -> Delivery {
        let properties =
            Properties { message_id: Some("m1".into()), user_id: Some("shop".into()), ..Properties::default() };
        let mut delivery = Delivery {
            tag: 1,
            routing_key: "password.reset.request".into(),
            exchange: "regrant.commands".into(),
            body: br#"{"user": {"id": "ada"}}"#.to_vec(),
            properties,
            redelivered: false,
        };
        change(&mut delivery);
        delivery
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_950).unwrap()
    }

    fn refusal(change: impl FnOnce(&mut Delivery)) -> (Code, String) {
        let keys = KeyRing::generate(now());
        match read(delivery(change), Lane::State, &keys, false, now()) {
            Read::Invalid(_, invalid) => (invalid.code, invalid.detail),
            Read::Understood(_) => panic!("understood"),
            Read::Expired(..) => panic!("expired"),
            Read::Failed(..) => panic!("panicked"),
        }
    }

    fn understood(keys: &KeyRing, change: impl FnOnce(&mut Delivery)) -> Box<Incoming> {
        let delivery = delivery(change);
        let lane = commands::find(&delivery.routing_key).map_or(Lane::State, |spec| spec.lane);
        match read(delivery, lane, keys, false, now()) {
            Read::Understood(incoming) => incoming,
            Read::Invalid(_, invalid) => panic!("{}", invalid.detail),
            Read::Expired(..) => panic!("expired"),
            Read::Failed(..) => panic!("panicked"),
        }
    }

    #[test]
    fn envelopes_that_break_a_rule() {
        assert_eq!(refusal(|d| d.routing_key = "no.such".into()).0, Code::UnknownCommand);
        assert!(refusal(|d| d.properties.message_id = None).1.contains("`message_id` is missing"));
        assert!(refusal(|d| d.properties.message_id = Some("x".repeat(129))).1.contains("128 characters"));
        assert!(refusal(|d| d.properties.content_type = Some("text/plain".into())).1.contains("application/json"));
        assert!(refusal(|d| d.properties.timestamp = Some(1_800_000_301)).1.contains("ahead"));
        assert!(refusal(|d| d.properties.timestamp = Some(u64::MAX)).1.contains("ahead"));
        assert_eq!(refusal(|d| d.body = vec![0xff]).0, Code::InvalidBody);
        assert!(refusal(|d| d.routing_key = "session.login".into()).1.contains("belongs to `credentials`"));
        let redacted = |d: &mut Delivery| drop(d.properties.headers.insert(REDACTED.into(), true.into()));
        assert!(refusal(redacted).1.contains("cannot be replayed"));
    }

    #[test]
    fn a_forged_publisher_is_refused_and_a_signed_one_believed() {
        let keys = KeyRing::generate(now());
        let forge = |d: &mut Delivery| {
            d.properties.headers.insert(PUBLISHER.into(), HeaderValue::from("root"));
            d.properties.headers.insert(SIGNATURE.into(), HeaderValue::from("AAAA"));
        };
        assert!(refusal(forge).1.contains("not signed"));
        let sign = |d: &mut Delivery| {
            let signature = keys.sign("publisher", &signed_parts("root", d));
            d.properties.headers.insert(PUBLISHER.into(), HeaderValue::from("root"));
            d.properties.headers.insert(SIGNATURE.into(), HeaderValue::from(signature.as_str()));
        };
        assert_eq!(understood(&keys, sign).publisher, "root");
        // The signature holds for this command only.
        let read = read(
            delivery(|d| {
                sign(d);
                d.body = br#"{"user": {"id": "eve"}}"#.to_vec();
            }),
            Lane::State,
            &keys,
            false,
            now(),
        );
        assert!(matches!(read, Read::Invalid(..)));
    }

    #[test]
    fn lifetimes_count_from_the_timestamp_and_in_its_second_from_now() {
        let keys = KeyRing::generate(now());
        let at = |seconds| understood(&keys, |d| d.properties.timestamp = Some(seconds)).requested_at;
        assert_eq!(at(1_800_000_000), now());
        assert_eq!(at(1_799_999_000).timestamp_millis(), 1_799_999_000_000);
        assert_eq!(at(1_800_000_200), now());
        assert_eq!(understood(&keys, |d| d.properties.timestamp = None).requested_at, now());
    }

    #[test]
    fn nobody_waits_for_an_expired_command() {
        let keys = KeyRing::generate(now());
        let read_with = |ms: &str| {
            read(
                delivery(|d| {
                    d.properties.timestamp = Some(1_799_999_990);
                    d.properties.expiration = Some(ms.into());
                }),
                Lane::State,
                &keys,
                false,
                now(),
            )
        };
        assert!(matches!(read_with("5000"), Read::Expired(..)));
        assert!(matches!(read_with("60000"), Read::Understood(_)));
        assert!(matches!(read_with(&u64::MAX.to_string()), Read::Understood(_)));
    }

    #[test]
    fn without_a_timestamp_an_expiration_counts_from_when_the_message_came() {
        let keys = KeyRing::generate(now());
        let read_after = |ms: i64| {
            let came = now().timestamp_millis() - ms;
            let change = |d: &mut Delivery| {
                d.properties.headers.insert(EXPIRATION.into(), HeaderValue::from("3000"));
                d.properties.headers.insert(CAME.into(), HeaderValue::from(came));
            };
            read(delivery(change), Lane::State, &keys, false, now())
        };
        assert!(matches!(read_after(3001), Read::Expired(..)));
        for in_time in [3000, 0, -5000, i64::MIN / 2] {
            assert!(matches!(read_after(in_time), Read::Understood(_)), "{in_time}");
        }
    }

    #[test]
    fn a_count_that_somebody_made_up_is_a_number_to_reckon_with() {
        let tried =
            |value: HeaderValue| attempts(&delivery(|d| drop(d.properties.headers.insert(ATTEMPTS.into(), value))));
        assert_eq!([tried(3.into()), tried(0.into()), tried((-1).into()), tried("3".into())], [3, 0, 0, 0]);
        for enormous in [i64::from(u32::MAX), i64::MAX] {
            assert_eq!(tried(HeaderValue::from(enormous)), MOST_ATTEMPTS);
        }
    }

    #[test]
    fn a_secret_that_is_sealed_again_is_the_same_and_another_is_not() {
        let keys = KeyRing::generate(now());
        let fingerprint = |password: &str, user: &str| {
            let key = keys.sealing_key();
            let sealed = crate::keys::seal_to(&key.public_key, password).unwrap();
            let secret = serde_json::json!({ "sealed": sealed, "key_id": key.key_id });
            let body = serde_json::json!({ "user": { "id": user }, "password": secret, "context": { "ip": "::1" } });
            let login = |d: &mut Delivery| {
                d.routing_key = "session.login".into();
                d.body = body.to_string().into_bytes();
            };
            understood(&keys, login).parsed.fingerprint
        };
        assert_eq!(fingerprint("hunter2", "ada"), fingerprint("hunter2", "ada"));
        assert_ne!(fingerprint("hunter2", "ada"), fingerprint("hunter3", "ada"));
        assert_ne!(fingerprint("hunter2", "ada"), fingerprint("hunter2", "bob"));
    }

    #[test]
    fn only_sound_trace_contexts_are_carried() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for bad in ["", "00-xyz", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
