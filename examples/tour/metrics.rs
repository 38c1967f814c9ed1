//! The daemon's own account of what just happened.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Failure;

/// What a person would look at first.
const INTERESTING: [&str; 6] = [
    "regrant_commands_total{",
    "regrant_emails_total{",
    "regrant_logins_total{",
    "regrant_tickets_total{",
    "regrant_password_hash_seconds_",
    "regrant_email_delivery_seconds_",
];

/// The lines of `/metrics` that tell of the tour: those that are not 0, without the buckets.
pub async fn interesting(address: &str) -> Result<Vec<String>, Failure> {
    let failure = |error| format!("http://{address}/metrics cannot be read: {error}");
    let page = get(address).await.map_err(failure)?;
    let lines = page.lines().filter(|line| {
        INTERESTING.iter().any(|start| line.starts_with(start)) && !line.contains("_bucket{") && !line.ends_with(" 0")
    });
    Ok(lines.map(str::to_owned).collect())
}

/// HTTP/1.0: the answer ends where the connection does.
async fn get(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
