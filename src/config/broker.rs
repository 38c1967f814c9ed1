//! `[broker]`: the message broker.

use secrecy::SecretString;

use super::{
    Problems,
    url::check_secret_url,
    visit::{Section, Visitor},
};

/// `[broker]`: RabbitMQ.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Where the broker is, with user and password: `amqp://` or `amqps://` (TLS). Also as `url_file`.
    /// Default `amqp://guest:guest@127.0.0.1:5672/%2f`.
    pub url: SecretString,
    /// The start of every exchange's and queue's name: 1 to 64 of letters, digits, `_`, `.` and `-`. Default `regrant`.
    pub prefix: String,
}

impl Default for Broker {
    fn default() -> Self {
        Self { url: "amqp://guest:guest@127.0.0.1:5672/%2f".into(), prefix: "regrant".to_owned() }
    }
}

impl Section for Broker {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.secret_url("url", &mut self.url);
        visitor.field("prefix", &mut self.prefix);
    }
}

impl Broker {
    pub(super) fn validate(&self, problems: &mut Problems) {
        check_secret_url(&self.url, "broker.url", &["amqp", "amqps"], "amqp://user:password@host:5672/vhost", problems);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        problems.check(
            (1..=64).contains(&self.prefix.len()) && self.prefix.chars().all(allowed),
            "broker.prefix",
            format!("{:?} is not 1 to 64 of the characters A-Z a-z 0-9 _ . -", self.prefix),
        );
    }
}
