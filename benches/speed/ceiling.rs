//! The ceiling: what this machine can do when nothing is asked of the worker but to keep what it takes.
//!
//! The same queue, PostgreSQL and sink as the daemon's, and as durable: a request is acknowledged after its rows are
//! committed and its mail is accepted. But no profile is looked up, nothing is decided, rendered, written back or told; the
//! statements of a transaction leave together, and so do the mails of a batch, with all their commands (BDAT, RFC 3030).

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use crate::harness::connect;

/// The first argument that makes the program this one.
pub const NAME: &str = "ceiling";

/// Each takes, stores and sends in turn: while one waits for a disk, others work.
const WORKERS: usize = 4;
const BATCH: usize = 512;

/// The size of a mail, in bytes: hardly more than a link.
pub const SMALL: usize = 566;
/// And of the daemon's, with a text, its HTML and what that looks like.
pub const FULL: usize = 9_823;

const TABLES: &str = "
    create table if not exists ceiling_inbox (
        key text collate \"C\" primary key, received_at timestamptz not null default now());
    create table if not exists ceiling_tickets (
        id text collate \"C\" primary key, person text not null, expires_at timestamptz not null default now() + '24h');
    create table if not exists ceiling_emails (
        id text collate \"C\" primary key, recipient text not null, queued_at timestamptz not null default now());";

const INSERTS: [&str; 3] = [
    "insert into ceiling_inbox (key) select * from unnest($1::text[])",
    "insert into ceiling_tickets (id, person) select * from unnest($1::text[], $2::text[])",
    "insert into ceiling_emails (id, recipient) select * from unnest($1::text[], $2::text[])",
];

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    user: User<'a>,
}

#[derive(Deserialize)]
struct User<'a> {
    email: &'a str,
}

/// Works until it is killed. The arguments: the broker, a queue, the database, the mail server, the size of a mail.
pub async fn run(arguments: impl Iterator<Item = String>) {
    let arguments: Vec<String> = arguments.collect();
    let [broker, queue, database, smtp, size] = arguments.as_slice() else {
        panic!("the ceiling wants a broker, a queue, a database, a mail server and a size");
    };
    let size = size.parse().unwrap();
    connect(database).await.batch_execute(TABLES).await.unwrap();
    let connection = Connection::connect(broker, ConnectionProperties::default()).await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let channel = connection.create_channel().await.unwrap();
        channel.basic_qos(2 * u16::try_from(BATCH).unwrap(), BasicQosOptions::default()).await.unwrap();
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let deliveries = channel.basic_consume(queue.as_str().into(), "".into(), options, none).await.unwrap();
        let (store, mail) = (Store::connect(database).await, Mail::connect(smtp, size).await);
        workers.spawn(work(deliveries, store, mail));
    }
    workers.join_all().await;
}

async fn work(mut deliveries: lapin::Consumer, store: Store, mut mail: Mail) {
    while let Some(first) = deliveries.next().await {
        let mut batch = vec![first.unwrap()];
        while batch.len() < BATCH
            && let Some(Some(next)) = deliveries.next().now_or_never()
        {
            batch.push(next.unwrap());
        }
        let ids: Vec<&str> =
            batch.iter().map(|delivery| delivery.properties.message_id().as_ref().unwrap().as_str()).collect();
        let people: Vec<&str> = batch
            .iter()
            .map(|delivery| serde_json::from_slice::<Body<'_>>(&delivery.data).unwrap().user.email)
            .collect();
        store.insert(&ids, &people).await;
        mail.send(&people).await;
        let all = BasicAckOptions { multiple: true };
        batch.last().unwrap().acker.ack(all).await.unwrap();
    }
}

struct Store {
    sql: tokio_postgres::Client,
    inserts: Vec<Statement>,
}

impl Store {
    async fn connect(url: &str) -> Self {
        let sql = connect(url).await;
        let mut inserts = Vec::new();
        for insert in INSERTS {
            inserts.push(sql.prepare(insert).await.unwrap());
        }
        Self { sql, inserts }
    }

    /// In one transaction and one round trip: futures of one connection leave in the order in which they are first polled.
    async fn insert(&self, ids: &[&str], people: &[&str]) {
        let both: [&(dyn ToSql + Sync); 2] = [&ids, &people];
        let (begun, first, second, third, committed) = tokio::join!(
            biased;
            self.sql.batch_execute("begin"),
            self.sql.execute(&self.inserts[0], &both[..1]),
            self.sql.execute(&self.inserts[1], &both),
            self.sql.execute(&self.inserts[2], &both),
            self.sql.batch_execute("commit"),
        );
        begun.unwrap();
        for inserted in [first, second, third] {
            inserted.unwrap();
        }
        committed.unwrap();
    }
}

struct Mail {
    input: BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    buffer: Vec<u8>,
    message: String,
}

impl Mail {
    async fn connect(server: &str, size: usize) -> Self {
        let stream = TcpStream::connect(server).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (input, output) = stream.into_split();
        let mut message = "From: no-reply@example.com\r\nSubject: Reset your password\r\n\r\n".to_owned();
        while message.len() + 2 < size {
            message.push_str("Open this link to choose a new password.\r\n");
        }
        message.truncate(size - 2);
        message.push_str("\r\n");
        let mut mail = Self { input: BufReader::new(input), output, buffer: Vec::new(), message };
        mail.replies(1).await;
        mail.output.write_all(b"EHLO ceiling\r\n").await.unwrap();
        mail.replies(1).await;
        mail
    }

    async fn send(&mut self, people: &[&str]) {
        use std::io::Write as _;
        self.buffer.clear();
        for person in people {
            write!(
                self.buffer,
                "MAIL FROM:<no-reply@example.com>\r\nRCPT TO:<{person}>\r\nBDAT {} LAST\r\n{}",
                self.message.len(),
                self.message
            )
            .unwrap();
        }
        self.output.write_all(&self.buffer).await.unwrap();
        self.replies(3 * people.len()).await;
    }

    /// Reads so many replies, all of them good.
    async fn replies(&mut self, mut count: usize) {
        let mut line = String::new();
        while count > 0 {
            line.clear();
            self.input.read_line(&mut line).await.unwrap();
            assert!(line.starts_with('2'), "the mail server says {line:?}");
            // `250-` goes on.
            if line.as_bytes().get(3) == Some(&b' ') {
                count -= 1;
            }
        }
    }
}
