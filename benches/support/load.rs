//! People and their requests, in great numbers.

use std::ops::Range;

use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::arrivals;
use super::sink::Sink;
use crate::harness::{PASSWORD, Place, server};

/// Publishes that wait together for their confirms.
const TOGETHER: usize = 2000;

/// People have their mail at so many domains: that each has its share of the sender is not to matter.
const DOMAINS: usize = 97;

/// The address of a person.
pub fn address(person: usize) -> String {
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

/// [`PASSWORD`] as a hash of today's parameters.
pub async fn password_hash() -> String {
    static HASH: tokio::sync::OnceCell<String> = tokio::sync::OnceCell::const_new();
    let make = async || {
        let pool = regrant::hashing::HashPool::new(regrant::hashing::Options::default()).unwrap();
        pool.hash(PASSWORD.to_owned().into()).await.unwrap()
    };
    HASH.get_or_init(make).await.clone()
}

/// Gives everybody [`PASSWORD`]. All have the same hash: to make one for each would take minutes.
pub async fn passwords(place: &Place) {
    place.run(&format!("update users set password_hash = '{}'", password_hash().await)).await;
    place.run("vacuum (analyze) users").await;
}

/// Gives everybody so many open sessions, with a UUIDv7 as they have. They signed in at different times, in any order: a
/// person's sessions do not lie beside each other.
pub async fn sessions(place: &Place, each: usize) {
    place
        .run(&format!(
            "insert into sessions (id, user_id, created_at, expires_at) \
             select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || left(noise, 3) || 'a' || \
                     substr(noise, 4, 15))::uuid, id, at, at + interval '30 days' \
             from (select id, now() - make_interval(hours => n) as at, md5(id || ' ' || n) as noise \
                   from users, generate_series(1, {each}) as n) as sessions \
             order by 1"
        ))
        .await;
    place.run("vacuum (analyze) sessions").await;
    place.run("checkpoint").await;
}

/// A person's body of `password.reset.request`. As many IP addresses as people: the limit of an address is not to matter.
pub fn request(person: usize) -> String {
    let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(person).unwrap());
    format!(r#"{{"user":{{"email":"{}"}},"context":{{"ip":"{ip}"}}}}"#, address(person))
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
        let body = request(person);
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

    /// People ask, `rate` of them in a second. The moments when each wanted to ask, on the sink's clock.
    pub async fn arrive(self, people: Range<usize>, rate: f64, sink: &Sink) -> (Self, Vec<f64>) {
        let (clock, runtime) = (sink.start_of_clock(), tokio::runtime::Handle::current());
        tokio::task::spawn_blocking(move || {
            let moments = arrivals::moments(rate, people.len());
            let due = arrivals::at_each(&moments, |n| runtime.block_on(self.publish(people.start + n)));
            (self, due.into_iter().map(|due| (due - clock).as_secs_f64()).collect())
        })
        .await
        .unwrap()
    }
}
