//! How often something may be asked for: a least interval and a count in a fixed window.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The state of one limited thing (an account, an address, an IP), keyed by a keyed hash of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Keyed hash of what is limited.
    pub key: Uuid,
    /// When the present window began.
    pub window_started_at: DateTime<Utc>,
    /// Admitted in the present window.
    pub count: i32,
    /// When the last one was admitted.
    pub last_at: DateTime<Utc>,
    /// Whether it was counted before. Nobody can lock what is not there yet: two may begin to count at once.
    pub stored: bool,
    /// Whether it must be written.
    pub dirty: bool,
}

/// A rule for one kind of limited thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Least time between two that are admitted; zero for none.
    pub interval: Duration,
    /// How many are admitted in a window.
    pub max: u32,
    /// The window's length.
    pub window: Duration,
}

impl Limit {
    /// The state before anything was admitted.
    pub fn fresh(key: Uuid) -> Self {
        let never = DateTime::UNIX_EPOCH;
        Self { key, window_started_at: never, count: 0, last_at: never, stored: false, dirty: false }
    }

    /// Whether one more is admitted at `now`, which may be earlier than the last: requests come out of order.
    pub fn admits(&self, rule: Rule, now: DateTime<Utc>) -> bool {
        let rested = self.count == 0 || rule.interval.is_zero() || now >= self.last_at + rule.interval;
        let room = now >= self.window_started_at + rule.window || i64::from(self.count) < i64::from(rule.max);
        rested && room
    }

    /// Forgets what was counted. The window that begins at `from` is the next one.
    pub fn begin_anew(&mut self, from: DateTime<Utc>) {
        self.window_started_at = from;
        self.count = 0;
        self.last_at = self.last_at.max(from);
        self.dirty = true;
    }

    /// Counts one that was admitted.
    pub fn count(&mut self, rule: Rule, now: DateTime<Utc>) {
        if now >= self.window_started_at + rule.window {
            self.window_started_at = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.last_at = self.last_at.max(now);
        self.dirty = true;
    }
}

/// Where requests from an address are counted: an IPv4 address, or the first 64 bits of an IPv6 address. A subscriber is given
/// at least that network whole (RFC 6177, RFC 4291 section 2.5.4), and could send each request from another of its addresses.
pub fn source(ip: IpAddr) -> IpAddr {
    const NETWORK: u128 = u128::MAX << 64;
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & NETWORK).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_subscriber_are_one_source() {
        let source = |ip: &str| source(ip.parse().unwrap()).to_string();
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("::ffff:192.0.2.1"), "192.0.2.1", "the same address as IPv6 maps it");
    }

    const RULE: Rule = Rule { interval: Duration::from_secs(60), max: 3, window: Duration::from_secs(3600) };

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn interval_and_window_both_hold() {
        let mut limit = Limit::fresh(Uuid::nil());
        let mut admitted = Vec::new();
        for second in (0..4000).step_by(30) {
            if limit.admits(RULE, at(second)) {
                limit.count(RULE, at(second));
                admitted.push(second);
            }
        }
        assert_eq!(admitted, [0, 60, 120, 3600, 3660, 3720]);
    }

    #[test]
    fn no_interval_admits_at_once_and_in_any_order() {
        let rule = Rule { interval: Duration::ZERO, ..RULE };
        let mut limit = Limit::fresh(Uuid::nil());
        for second in [100, 100, 0] {
            assert!(limit.admits(rule, at(second)));
            limit.count(rule, at(second));
        }
        assert!(!limit.admits(rule, at(0)), "the count holds all the same");
        assert_eq!(limit.last_at, at(100));
    }

    #[test]
    fn what_was_asked_earlier_is_not_an_interval_later() {
        let mut limit = Limit::fresh(Uuid::nil());
        limit.count(RULE, at(100));
        for (second, admitted) in [(0, false), (40, false), (159, false), (160, true)] {
            assert_eq!(limit.admits(RULE, at(second)), admitted, "{second}");
        }
    }
}
