//! The client against an SMTP server on loopback: what arrives, and what each failure means.

mod connections;
mod delivery;
mod failures;
mod security;
mod together;

use std::io::Write;
use std::time::Duration;

use super::pool::Retirement;
use super::smtp_server::{Options, SmtpServer, Step};
use super::{Failure, Pool, SendError, Settings, SetupError, Stage, TlsError};
use crate::mail::message::{Built, Envelope};

const MESSAGE: &[u8] = b"Subject: hello\r\n\r\nfirst\r\n.\r\n..two\r\nlast";

fn plain() -> Options {
    Options { extensions: vec!["8BITMIME"], ..Options::default() }
}

/// Takes a whole mail at once (RFC 3030).
fn chunking() -> Options {
    let mut options = Options::default();
    options.extensions.push("CHUNKING");
    options
}

fn secured(auth: Option<&'static str>) -> Options {
    Options { starttls: true, auth, ..Options::default() }
}

fn make(url: &str, connections: usize, timeout: Duration) -> Result<Pool, SetupError> {
    Pool::new(&Settings { url, connections, timeout, hello_name: Some("client.example") })
}

fn pool(server: &SmtpServer) -> Pool {
    make(&format!("smtp://{}?tls=none", server.address()), 4, Duration::from_secs(20)).unwrap()
}

fn hasty(server: &SmtpServer) -> Pool {
    make(&format!("smtp://{}?tls=none", server.address()), 1, Duration::from_millis(400)).unwrap()
}

fn mail(to: &str) -> Built {
    let envelope = Envelope::new(&"from@example.com".parse().unwrap(), &to.parse().unwrap()).unwrap();
    Built { envelope, message_id: "<1@example.com>".to_owned(), bytes: MESSAGE.to_vec() }
}

async fn send(pool: &Pool, to: &str) -> Result<String, SendError> {
    pool.send(&[mail(to)]).await.remove(0).map(|accepted| accepted.reply)
}

/// A PEM file that is there as long as the value.
fn ca_file(server: &SmtpServer) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(server.ca_pem().as_bytes()).unwrap();
    file
}
