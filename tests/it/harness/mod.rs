//! What a test stands on: [`Place`] is a database, a broker prefix, keys, a configuration and a mail server; on it run
//! [`Daemon`]s, which [`Client`]s talk to. All of it is gone when the test ends, however it ends.

mod client;
mod command;
mod daemon;
mod failure;
mod load;
mod mailbox;
mod own_servers;
mod place;
mod prometheus;
mod sniffer;

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

pub use client::{Client, Dead, Event};
pub use command::Command;
pub use daemon::Daemon;
pub use load::{Load, nothing_was_blamed};
pub use mailbox::{Mail, mail_to, mails, mails_to};
pub use own_servers::OwnServers;
pub use place::{Place, Plan, Servers, connect};
pub use prometheus::Prometheus;
pub use sniffer::Sniffer;

/// A password that satisfies every rule.
pub const PASSWORD: &str = "Correct-Horse-7-Battery";
/// Another such password.
pub const NEW_PASSWORD: &str = "Tr0ub4dor-And-Three!";

/// Generous: it only keeps a test that would hang from hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// The address of a server, from the environment.
pub fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: these tests need RabbitMQ and PostgreSQL. `script/services up` starts both, and \
             `eval \"$(script/services env)\"` tells where; `script/test` does all of it"
        )
    })
}

/// `url` with another host and port.
pub fn by_way_of(url: &str, address: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    let (host, port) = address.rsplit_once(':').unwrap();
    url.set_host(Some(host)).unwrap();
    url.set_port(port.parse().ok()).unwrap();
    url.into()
}

/// Host and port of `url`.
pub fn address(url: &str, default_port: u16) -> String {
    let url = url::Url::parse(url).unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(default_port))
}

/// Whatever future, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    with_patience(PATIENCE, what, future).await
}

async fn with_patience<T>(patience: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(patience, future).await;
    waited.unwrap_or_else(|_| panic!("waited {} s in vain for {what}", patience.as_secs()))
}

/// The first answer of `probe`.
pub async fn until<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, probe).await
}

/// The first answer of `probe`, which may take longer than usual.
pub async fn until_within<T>(patience: Duration, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    with_patience(patience, what, async {
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    })
    .await
}

/// Waits until `probe` says yes.
pub async fn until_true(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    until(what, async || probe().await.then_some(())).await;
}

/// A moment in which nothing more should happen.
pub async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(1500)).await;
}

/// A name that nobody else has.
pub fn fresh_name() -> String {
    format!("t{:016x}", rand::random::<u64>())
}

/// A copy of the shipped email templates, to be changed.
pub fn shipped_templates() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/email_templates")), directory.path());
    directory
}

/// Copies a directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
