use std::net::SocketAddr;
use std::path::Path as FilePath;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::Config;

async fn server() -> (SocketAddr, CancellationToken) {
    let mut config = Config::default();
    config.templates.directory = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("email_templates");
    let studio = Arc::new(Studio::open(config).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, studio, 1, stop.clone()));
    (address, stop)
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn fetch(address: SocketAddr, path: &str, headers: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")).await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn only_names_that_cannot_be_made_to_point_here_are_answered() {
    let (address, stop) = server().await;
    for good in ["localhost", "localhost:8099", "127.0.0.1:1", "[::1]:8099", "[::1]", "LOCALHOST"] {
        assert_eq!(status(&fetch(address, "/", &format!("Host: {good}\r\n")).await), "200", "{good}");
    }
    for bad in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8099", "evil.example:127.0.0.1", ""] {
        let answer = fetch(address, "/api/overview", &format!("Host: {bad}\r\n")).await;
        assert!(["421", "400"].contains(&status(&answer)), "{bad}: {answer}");
        assert!(!answer.contains("password_reset"), "{bad}");
    }
    stop.cancel();
}

#[tokio::test]
async fn other_sites_read_nothing_and_nobody_writes() {
    let (address, stop) = server().await;
    let foreign = "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n";
    assert_eq!(status(&fetch(address, "/api/overview", foreign).await), "403");
    let typed = "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n";
    assert_eq!(status(&fetch(address, "/", typed).await), "200");
    let post = "POST /api/overview HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(status(&ask(address, post).await), "405");
    stop.cancel();
}

#[tokio::test]
async fn every_answer_has_its_policy() {
    let (address, stop) = server().await;
    for path in ["/", "/assets/app.js", "/api/overview", "/message/invite", "/nothing"] {
        let answer = fetch(address, path, "Host: localhost\r\n").await;
        assert!(answer.contains(&format!("content-security-policy: {PAGE_POLICY}\r\n")), "{path}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{path}");
        assert!(answer.contains("cross-origin-resource-policy: same-origin\r\n"), "{path}");
    }
    let mail = fetch(address, "/mail/invite", "Host: localhost\r\n").await;
    assert!(mail.contains(&format!("content-security-policy: {MAIL_POLICY}\r\n")), "{mail}");
    assert!(!MAIL_POLICY.contains("allow-scripts") && MAIL_POLICY.contains("default-src 'none'"));
    stop.cancel();
}

#[tokio::test]
async fn the_page_names_nothing_outside_and_nothing_inline() {
    for asset in assets::ALL {
        let links = asset
            .text
            .match_indices("://")
            .filter(|(at, _)| !asset.text[..*at].ends_with("http") || !asset.text[at + 3..].starts_with("www.w3.org/"));
        assert_eq!(links.count(), 0, "{}", asset.path);
    }
    let page = assets::ALL[0].text;
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick"));
    assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=").count());
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let (address, stop) = server().await;
    let cases = [
        ("/mail/invites", "no email template `invites`"),
        ("/mail/invite?site=north", "no site `north`; there are: default"),
        ("/mail/invite?person=me", "no sample person `me`"),
    ];
    for (path, said) in cases {
        let answer = fetch(address, path, "Host: localhost\r\n").await;
        assert_eq!(status(&answer), "404", "{path}");
        assert!(answer.contains(said), "{answer}");
    }
    stop.cancel();
}

#[tokio::test]
async fn names_with_markup_come_out_as_text_and_never_in_a_header() {
    let (address, stop) = server().await;
    let mail = fetch(address, "/mail/invite?person=markup", "Host: localhost\r\n").await;
    assert!(mail.contains("&lt;b&gt;") && !mail.contains("<b>Bobby"), "{mail}");
    let message = fetch(address, "/message/password_reset_link?locale=de", "Host: localhost\r\n").await;
    assert!(message.contains("content-disposition: attachment; filename=\"password_reset_link-default-de.eml\""));
    assert!(message.contains("Auto-Submitted: auto-generated"), "{message}");
    stop.cancel();
}
