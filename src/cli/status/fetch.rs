//! Asks daemons for `/metrics` and `/readyz`.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use url::Url;

use super::scrape::Scrape;

/// How long a daemon may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// No page of a daemon comes near this.
const LARGEST: usize = 16 * 1024 * 1024;

/// Something that keeps a daemon from doing its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `broker`, `database` …
    pub what: String,
    /// The reason.
    pub reason: String,
}

/// What a daemon said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its metrics.
    pub scrape: Scrape,
    /// What it is not ready for.
    pub problems: Vec<Problem>,
}

/// The address of a daemon's pages, as typed: `http://host:port`, or `host:port`.
///
/// # Errors
/// What is wrong with it.
pub fn address(text: &str) -> Result<Url, String> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).map_err(|error| format!("{error}; write http://host:port"))?;
    if url.scheme() != "http" {
        return Err("a daemon answers in plain HTTP: write http://host:port".to_owned());
    }
    Ok(url)
}

/// Asks one daemon.
///
/// # Errors
/// Why it cannot be asked.
pub async fn ask(url: &Url) -> Result<Answer, String> {
    let asking = async {
        let (metrics, ready) = tokio::try_join!(get(url, "/metrics"), get(url, "/readyz"))?;
        let scrape = Scrape::parse(&metrics)?;
        let problems = serde_json::from_str(&ready).map_err(|_| "its /readyz is not a daemon's".to_owned())?;
        Ok(Answer { scrape, problems })
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())))
}

async fn get(url: &Url, path: &str) -> Result<String, String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    // An IPv6 address stands in brackets in a URL.
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(|error| error.to_string())?;
    let lost = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    // It ends with its only request.
    tokio::spawn(connection);
    let path = format!("{}{path}", url.path().trim_end_matches('/'));
    let request = Request::get(path.as_str()).header(header::HOST, format!("{host}:{port}")).body(Body::empty());
    let response = sender.send_request(request.map_err(|error| error.to_string())?).await.map_err(lost)?;
    let body = to_bytes(Body::new(response.into_body()), LARGEST).await.map_err(|error| error.to_string())?;
    String::from_utf8(body.to_vec()).map_err(|_| format!("{path} is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_a_scheme() {
        for (typed, expected) in [
            ("127.0.0.1:9464", "http://127.0.0.1:9464/"),
            ("http://daemon-2:9464", "http://daemon-2:9464/"),
            ("http://[::1]:9464", "http://[::1]:9464/"),
        ] {
            assert_eq!(address(typed).unwrap().as_str(), expected);
        }
        assert!(address("https://daemon:9464").unwrap_err().contains("plain HTTP"));
        assert!(address("http://").is_err());
    }
}
