//! `[password_reset]`: links and codes for a new password.

use std::time::Duration;

use crate::domain::ticket::Method;

use super::{
    Problems,
    duration::hours,
    setting::words,
    visit::{Section, Visitor},
};

/// The longest `answer_after`. The number of unanswered commands is limited, so a longer one would hold up new commands.
pub(super) const LONGEST_ANSWER: Duration = Duration::from_secs(10);

/// `[password_reset]`: resets.
#[derive(Clone, Debug)]
pub struct PasswordReset {
    /// What a mail contains unless the request says. Default `link`.
    pub method: Method,
    /// How long a link works. Default 24 h.
    pub lifetime: Duration,
    /// How long a code works. Default 1 h.
    pub code_lifetime: Duration,
    /// Number of digits of a code, 6 to 10. Default 8.
    pub code_length: u8,
    /// The shortest time between two mails to one person: a request within it sends nothing; 0 for no limit. Default 60 s.
    pub min_interval: Duration,
    /// Requests that send a mail, per person and day. Default 10.
    pub max_per_day: u32,
    /// Requests that send a mail, per `context.ip` (of IPv6 addresses: per /64 network) and hour. Default 30.
    pub max_per_ip_per_hour: u32,
    /// Wrong attempts before a code is void. Default 5.
    pub max_attempts: u32,
    /// Requests are answered this long after they arrive, or after a multiple of it: an immediate answer would reveal by its
    /// timing whether somebody has the address. Longer than requests take; 0 to answer at once. Default 25 ms.
    pub answer_after: Duration,
}

words!(Method { "link" => Link, "code" => Code });

impl Default for PasswordReset {
    fn default() -> Self {
        Self {
            method: Method::Link,
            lifetime: hours(24),
            code_lifetime: hours(1),
            code_length: 8,
            min_interval: Duration::from_secs(60),
            max_per_day: 10,
            max_per_ip_per_hour: 30,
            max_attempts: 5,
            answer_after: Duration::from_millis(25),
        }
    }
}

impl Section for PasswordReset {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("method", &mut self.method);
        visitor.field("lifetime", &mut self.lifetime);
        visitor.field("code_lifetime", &mut self.code_lifetime);
        visitor.field("code_length", &mut self.code_length);
        visitor.field("min_interval", &mut self.min_interval);
        visitor.field("max_per_day", &mut self.max_per_day);
        visitor.field("max_per_ip_per_hour", &mut self.max_per_ip_per_hour);
        visitor.field("max_attempts", &mut self.max_attempts);
        visitor.field("answer_after", &mut self.answer_after);
    }
}

impl PasswordReset {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.positive(self.lifetime, "password_reset.lifetime");
        problems.positive(self.code_lifetime, "password_reset.code_lifetime");
        problems.range(self.code_length, 6..=10, "password_reset.code_length");
        problems.range(self.max_per_day, 1..=u32::MAX, "password_reset.max_per_day");
        problems.range(self.max_per_ip_per_hour, 1..=u32::MAX, "password_reset.max_per_ip_per_hour");
        problems.range(self.max_attempts, 1..=u32::MAX, "password_reset.max_attempts");
        problems.check(
            self.answer_after <= LONGEST_ANSWER,
            "password_reset.answer_after",
            "it must not be longer than 10s: the deliveries whose answers wait are held back from the queue",
        );
    }
}
