//! The mail server: reachable, encrypted and signed in as configured, and willing to take mail from our senders.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::ExposeSecret;

use crate::app;
use crate::config::smtp_url::{Server, TlsPolicy};
use crate::config::{Config, Transport};
use crate::mail::message::Envelope;
use crate::mail::smtp::SendError;

use super::{Fault, Finding, Found, advice};

fn server(config: &Config) -> Option<Server> {
    config.mail.smtp.url.expose_secret().parse().ok()
}

/// What is tried.
pub fn tried(config: &Config) -> String {
    if config.mail.transport == Transport::File {
        return format!("the directory {}", config.mail.file.directory.display());
    }
    let Some(server) = server(config) else { return "mail.smtp.url".to_owned() };
    let user = server.credentials.as_ref().map(|known| format!(", as `{}`", known.user)).unwrap_or_default();
    let senders: Vec<String> = senders(config).iter().map(|sender| format!("`{sender}`")).collect();
    let tls = match server.tls {
        TlsPolicy::Implicit => "TLS from the first byte",
        TlsPolicy::Required => "tls=required",
        TlsPolicy::Opportunistic => "tls=opportunistic",
        TlsPolicy::None => "tls=none",
    };
    format!("SMTP at {server} ({tls}){user}, from {}", senders.join(", "))
}

/// Goes as far as a mail would, up to its sender.
pub async fn check(config: &Config) -> Finding {
    let address = server(config).map(|server| server.to_string()).unwrap_or_default();
    let place = advice::Place { server: "the mail server", address: &address, setting: "mail.smtp.url" };
    let (transport, _) = app::transport(config)
        .map_err(|error| Fault::new(error.to_string(), "Put right the setting that is named."))?;
    let checked = transport.check().await;
    let fault =
        |error: &SendError, sender: Option<&str>| Fault::new(error.to_string(), advice::smtp(error, place, sender));
    let mut found = checked.map(Found::new).map_err(|error| fault(&error, None))?;
    for sender in senders(config) {
        transport.offer(&sender).await.map_err(|error| fault(&error, Some(&sender)))?;
    }
    found.warnings.extend(config.mail.dkim.as_ref().and_then(|dkim| readable_by_all(&dkim.key_file)));
    if config.mail.transport == Transport::File {
        found.warnings.push("mail.transport is \"file\": nobody gets a mail".to_owned());
    }
    transport.close().await;
    Ok(found)
}

/// Whoever can read the key can sign mail as the domain.
fn readable_by_all(key_file: &Path) -> Option<String> {
    let mode = std::fs::metadata(key_file).ok()?.permissions().mode();
    let path = key_file.display();
    (mode & 0o007 != 0).then(|| {
        let mode = mode & 0o7777;
        format!("mail.dkim.key_file {path} can be read or written by every user of this machine (mode {mode:04o}): chmod 600 {path}")
    })
}

/// Every address that mails are sent from, as SMTP has it. What SMTP has not in ASCII is left to the first mail.
fn senders(config: &Config) -> BTreeSet<String> {
    let sites = config.sites.values().filter_map(|site| site.from.as_ref());
    let all = sites.chain([&config.mail.from]);
    let envelopes = all.filter_map(|mailbox| Envelope::new(&mailbox.email, &mailbox.email).ok());
    envelopes.filter(Envelope::is_ascii).map(|envelope| envelope.from().to_owned()).collect()
}
