//! `[broker]`: the message broker.

use lapin::uri::{AMQPUri, SASLMechanism};
use secrecy::SecretString;
use url::Url;

use super::{
    Problems,
    url::check_secret_url,
    visit::{Section, Visitor},
};

/// What a URL may have behind a `?`: RabbitMQ's own names of them.
const PARAMETERS: &str =
    "heartbeat, frame_max, channel_max, connection_timeout, auth_mechanism, cacertfile, certfile and keyfile";

/// `[broker]`: RabbitMQ.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Where the broker is, with user and password: `amqp://` or `amqps://` (TLS). Also as `url_file`.
    /// Default `amqp://guest:guest@127.0.0.1:5672/%2f`.
    pub url: SecretString,
    /// The start of every exchange's and queue's name: 1 to 64 of letters, digits, `_`, `.` and `-`; not `amq`. Default `regrant`.
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
        let form = "amqp://user:password@host:5672/vhost";
        let url = check_secret_url(&self.url, "broker.url", &["amqp", "amqps"], form, problems);
        if let Some(fault) = url.and_then(|url| url_fault(&url)) {
            problems.wrong("broker.url", fault);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        problems.check(
            (1..=64).contains(&self.prefix.len()) && self.prefix.chars().all(allowed),
            "broker.prefix",
            format!("{:?} is not 1 to 64 of the characters A-Z a-z 0-9 _ . -", self.prefix),
        );
        problems.check(
            self.prefix != "amq" && !self.prefix.starts_with("amq."),
            "broker.prefix",
            format!("{:?} is not possible: RabbitMQ keeps names that begin with `amq.` to itself", self.prefix),
        );
    }
}

/// What the connection would stumble over, or pass over in silence. Repeats nothing that may be the rest of a password.
fn url_fault(url: &Url) -> Option<String> {
    if url.path() == "/" {
        let fault = "the path `/` alone is an empty name of a virtual host; leave the slash out or write /%2f";
        return Some(fault.to_owned());
    }
    for (name, value) in url.query_pairs() {
        let fault = match &*name {
            "heartbeat" | "channel_max" => value.parse::<u16>().is_err().then_some("a whole number up to 65535"),
            "frame_max" => value.parse::<u32>().is_err().then_some("a whole number of bytes"),
            "connection_timeout" => value.parse::<u64>().is_err().then_some("a whole number of milliseconds"),
            "auth_mechanism" => {
                value.parse::<SASLMechanism>().is_err().then_some("one such as plain, or external for a certificate")
            }
            "cacertfile" | "certfile" | "keyfile" => value.is_empty().then_some("the path of a PEM file"),
            _ => {
                return Some(format!(
                    "it has an unknown parameter; there are {PARAMETERS} (if it is part of the password, write ? as %3F)"
                ));
            }
        };
        if let Some(wanted) = fault {
            return Some(format!("the value of its parameter `{name}` is not possible; write {wanted}"));
        }
    }
    let fault = "the percent-encoding of user name, password or virtual host is broken";
    url.as_str().parse::<AMQPUri>().is_err().then(|| fault.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(broker: &Broker) -> Vec<String> {
        let mut problems = Problems::default();
        broker.validate(&mut problems);
        problems.into_result().err().map(|error| error.problems()).unwrap_or_default()
    }

    #[test]
    fn a_url_that_cannot_work_as_it_is_written_is_refused() {
        let of = |url: &str| faults(&Broker { url: url.into(), ..Broker::default() }).join("\n");
        for good in [
            "amqp://h",
            "amqp://u:p@h/%2f",
            "amqp://u:p@h:5672/shop",
            "amqps://h/v?heartbeat=10&frame_max=4096&channel_max=0&connection_timeout=500&auth_mechanism=external",
            "amqps://h?cacertfile=/a.pem&certfile=/b.pem&keyfile=/c.pem",
        ] {
            assert_eq!(of(good), "", "{good}");
        }
        for (url, said) in [
            (
                "amqp://u:SECRET@h/",
                "the path `/` alone is an empty name of a virtual host; leave the slash out or write /%2f",
            ),
            ("amqp://h/v?foo=1", "unknown parameter; there are heartbeat, "),
            ("amqp://u:5?SECRET@h", "write ? as %3F"),
            ("amqp://h?frame_max=x", "`frame_max` is not possible; write a whole number"),
            ("amqp://h?heartbeat=-1", "`heartbeat` is not possible"),
            ("amqp://h?heartbeat=70000", "`heartbeat` is not possible"),
            (
                "amqp://h?connection_timeout=8s",
                "`connection_timeout` is not possible; write a whole number of milliseconds",
            ),
            ("amqp://h?auth_mechanism=SECRET", "`auth_mechanism` is not possible"),
            ("amqps://h?cacertfile=", "`cacertfile` is not possible"),
            ("amqp://u:SECRET%ff@h", "percent-encoding"),
        ] {
            let fault = of(url);
            assert!(fault.contains(said) && !fault.contains("SECRET"), "{url}: {fault}");
        }
    }

    #[test]
    fn names_that_rabbitmq_keeps_to_itself_are_refused() {
        let of = |prefix: &str| faults(&Broker { prefix: prefix.to_owned(), ..Broker::default() }).join("\n");
        for prefix in ["amq", "amq.x"] {
            assert!(of(prefix).contains("begin with `amq.`"), "{}", of(prefix));
        }
        for prefix in ["amqp", "amq-x", "my.amq", "AMQ"] {
            assert_eq!(of(prefix), "");
        }
    }
}
