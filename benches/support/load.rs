//! People and their requests, in great numbers.

use std::ops::Range;
use std::time::Instant;

use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::sink::Sink;
use crate::harness::{Place, server};

/// Publishes that wait together for their confirms.
const TOGETHER: usize = 2000;

/// People have their mail at so many domains: that each has its share of the sender is not to matter.
const DOMAINS: usize = 97;

/// The address of a person.
fn address(person: usize) -> String {
    format!("p{person}@m{}.example", person % DOMAINS)
}

/// Puts people with the numbers from 0 into the database, past the daemon.
pub async fn people(place: &Place, count: usize) {
    place
        .run(&format!(
            "insert into users (id, username, username_key, email, email_key, display_name, site, email_verified, \
                                created_at, updated_at) \
             select name, name, name, address, address, 'Ada Lovelace', 'default', true, now(), now() \
             from (select 'p' || n as name, format('p%s@m%s.example', n, n % {DOMAINS}) as address \
                   from generate_series(0, {count} - 1) as n) as people"
        ))
        .await;
    place.run("vacuum (analyze) users").await;
    place.run("checkpoint").await;
}

/// Publishes requests for a reset.
pub struct Requests {
    _connection: Connection,
    channel: Channel,
    exchange: String,
    confirms: bool,
}

impl Requests {
    /// `confirms`: a publish is over when the message is safe, and not already when it is sent.
    pub async fn connect(prefix: &str, confirms: bool) -> Self {
        let connection = Connection::connect(&server("AMQP_URL"), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        if confirms {
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        }
        Self { _connection: connection, channel, exchange: format!("{prefix}.commands"), confirms }
    }

    /// One person asks.
    pub async fn publish(&self, person: usize) {
        // As many IP addresses as people: the limit of an address is not to matter either.
        let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(person).unwrap());
        let body = format!(r#"{{"user":{{"email":"{}"}},"context":{{"ip":"{ip}"}}}}"#, address(person));
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_user_id("guest".into())
            .with_message_id(format!("request-{person}").into())
            .with_timestamp(regrant::clock::now().timestamp().unsigned_abs());
        let (exchange, command) = (self.exchange.as_str().into(), "password.reset.request".into());
        let options = BasicPublishOptions { mandatory: self.confirms, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish(exchange, command, options, body.as_bytes(), properties).await.unwrap();
        if self.confirms {
            let confirmed = sent.await.unwrap();
            assert!(confirmed.is_ack() && confirmed.take_message().is_none(), "a request was not taken");
        }
    }

    /// All of them ask, as fast as the broker takes it.
    pub async fn publish_all(&self, people: impl Iterator<Item = usize>) {
        let people: Vec<usize> = people.collect();
        for some in people.chunks(TOGETHER) {
            join_all(some.iter().map(|person| self.publish(*person))).await;
        }
    }

    /// People ask at moments that have nothing to do with each other, nor with how fast they are served: `rate` of them in
    /// a second, on average. The moments when each wanted to ask, on the sink's clock: a publisher that comes late does not
    /// make it look better.
    pub async fn arrive(self, people: Range<usize>, rate: f64, sink: &Sink) -> (Self, Vec<f64>) {
        use rand::{RngExt as _, SeedableRng as _};
        let (clock, runtime) = (sink.start_of_clock(), tokio::runtime::Handle::current());
        // A thread of its own: the runtime's timer knows milliseconds only.
        tokio::task::spawn_blocking(move || {
            let mut rng = rand::rngs::StdRng::seed_from_u64(11);
            let mut next = Instant::now() + std::time::Duration::from_millis(10);
            let mut moments = Vec::with_capacity(people.len());
            for person in people {
                next += std::time::Duration::from_secs_f64(-rng.random_range(f64::EPSILON..1.0).ln() / rate);
                if let Some(pause) = next.checked_duration_since(Instant::now()) {
                    std::thread::sleep(pause);
                }
                moments.push((next - clock).as_secs_f64());
                runtime.block_on(self.publish(person));
            }
            (self, moments)
        })
        .await
        .unwrap()
    }
}
