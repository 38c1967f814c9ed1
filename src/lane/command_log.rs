//! The log's one line about each delivery of a command: the same fields however it ended.

use std::time::{Duration, Instant};

use tracing::{Level, error, info, warn};

use crate::broker::Delivery;
use crate::mail::smtp::mask_addresses;
use crate::telemetry::trace_ids;

use super::incoming::{self, Incoming};

/// What the log says of a delivery. Of the people whom it is about, nothing: the message id leads to the activity log.
pub struct CommandLog<'a> {
    command: String,
    delivery: &'a Delivery,
    publisher: Option<&'a str>,
    lane: &'a str,
    started: Instant,
}

impl<'a> CommandLog<'a> {
    /// Of a command that was understood.
    pub fn of(incoming: &'a Incoming, lane: &'a str, started: Instant) -> Self {
        let publisher = Some(incoming.publisher.as_str());
        Self { command: incoming.spec.name.to_owned(), delivery: &incoming.delivery, publisher, lane, started }
    }

    /// Of a message whose routing key and properties anybody may have made up.
    pub fn of_any(delivery: &'a Delivery, lane: &'a str, started: Instant) -> Self {
        let publisher = delivery.properties.user_id.as_deref();
        // An app that makes a field or a key of an address must not bring it into the log.
        let command = mask_addresses(&incoming::shown(&delivery.routing_key));
        Self { command, delivery, publisher, lane, started }
    }

    /// Writes it: `info` if it ended as commands do, `warn` if somebody should look some time, `error` if at once. `reason` is for
    /// what did not go as it should; it must hold no value of the body.
    pub fn write(&self, level: Level, outcome: &str, reason: Option<&str>) {
        let Self { command, delivery, publisher, lane, started } = self;
        let properties = &delivery.properties;
        let reason = reason.map(mask_addresses);
        let message_id = properties.message_id.as_deref();
        let attempt = incoming::attempts(delivery) + 1;
        let duration_ms = milliseconds(started.elapsed());
        let lag_s = properties.timestamp.map(|at| lag(at, crate::clock::now().timestamp()));
        let (trace_id, span_id) = incoming::traceparent(delivery).and_then(trace_ids).unzip();
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    target: "regrant::command",
                    command,
                    message_id,
                    publisher,
                    lane,
                    outcome,
                    duration_ms,
                    attempt,
                    lag_s,
                    trace_id,
                    span_id,
                    reason,
                    "command"
                )
            };
        }
        match level {
            Level::ERROR => line!(error),
            Level::WARN => line!(warn),
            _ => line!(info),
        }
    }
}

/// How long ago a message was made by its own clock, in whole seconds; negative if that clock is ahead of `now`.
fn lag(timestamp: u64, now: i64) -> i64 {
    now.saturating_sub(i64::try_from(timestamp).unwrap_or(i64::MAX))
}

/// With three decimals.
fn milliseconds(took: Duration) -> f64 {
    f64::from(u32::try_from(took.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publishers_clock_may_be_ahead_or_nonsense() {
        assert_eq!([lag(90, 100), lag(100, 100), lag(130, 100)], [10, 0, -30]);
        assert!(lag(u64::MAX, 100) < 0);
    }
}
