//! `[mail]`, `[mail.smtp]`, `[mail.file]`, `[mail.dkim]`: how mails go out.

use std::{path::PathBuf, time::Duration};

use lettre::message::Mailbox;
use secrecy::{ExposeSecret, SecretString};

use super::{
    Problems,
    duration::hours,
    setting::words,
    smtp_url::Server,
    url::check_secret_url,
    visit::{Section, Visitor},
};

/// `[mail]`: all mails.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Where mails go. Default `smtp`.
    pub transport: Transport,
    /// The sender, unless the site has its own. Default `Example <no-reply@example.com>`.
    pub from: Mailbox,
    /// Where answers go, unless the site says. Default: to the sender.
    pub reply_to: Option<Mailbox>,
    /// Whether `email.resend` may send a copy to another address. Default false.
    pub allow_forward: bool,
    /// How long a mail that belongs to no ticket is tried. Default 24 h.
    pub max_age: Duration,
    /// `[mail.smtp]`
    pub smtp: Smtp,
    /// `[mail.file]`
    pub file: FileTransport,
    /// `[mail.dkim]`: signs mails, if it is there.
    pub dkim: Option<Dkim>,
}

/// Where mails go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To the server of `[mail.smtp]`.
    Smtp,
    /// Into `.eml` files in the directory of `[mail.file]`, for trying things out.
    File,
}

words!(Transport { "smtp" => Smtp, "file" => File });

/// `[mail.smtp]`: the server that mails are handed to.
#[derive(Clone, Debug)]
pub struct Smtp {
    /// `smtp://` (port 25 unless said) or `smtps://` (TLS from the start, port 465), with `user:password@` if the server
    /// wants it; `?tls=required`, `opportunistic` or `none` says whether `smtp://` changes to TLS (STARTTLS). Also as
    /// `url_file`. Default `smtp://127.0.0.1:25`.
    pub url: SecretString,
    /// The maximum number of connections at once, 1 to 1000. Default 8.
    pub connections: usize,
    /// The time limit for connecting, and for handing over one mail. Default 30 s.
    pub timeout: Duration,
    /// The name to greet with (EHLO). Default: this machine's.
    pub hello_name: Option<String>,
}

/// `[mail.file]`: mails as files.
#[derive(Clone, Debug)]
pub struct FileTransport {
    /// Where the files go; relative to the working directory. Default `outbox`.
    pub directory: PathBuf,
}

/// `[mail.dkim]`: signatures (RFC 6376). All keys are needed if the table is there.
#[derive(Clone, Debug, Default)]
pub struct Dkim {
    /// The domain that signs.
    pub domain: String,
    /// The selector: the public key is at `<selector>._domainkey.<domain>`.
    pub selector: String,
    /// The private key, PEM; relative to the working directory.
    pub key_file: PathBuf,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            transport: Transport::Smtp,
            from: default_sender(),
            reply_to: None,
            allow_forward: false,
            max_age: hours(24),
            smtp: Smtp::default(),
            file: FileTransport::default(),
            dkim: None,
        }
    }
}

fn default_sender() -> Mailbox {
    let address = lettre::Address::new("no-reply", "example.com").expect("a valid address");
    Mailbox::new(Some("Example".to_owned()), address)
}

impl Default for Smtp {
    fn default() -> Self {
        Self { url: "smtp://127.0.0.1:25".into(), connections: 8, timeout: Duration::from_secs(30), hello_name: None }
    }
}

impl Default for FileTransport {
    fn default() -> Self {
        Self { directory: "outbox".into() }
    }
}

impl Section for Mail {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("transport", &mut self.transport);
        visitor.field("from", &mut self.from);
        visitor.field("reply_to", &mut self.reply_to);
        visitor.field("allow_forward", &mut self.allow_forward);
        visitor.field("max_age", &mut self.max_age);
        visitor.section("smtp", &mut self.smtp);
        visitor.section("file", &mut self.file);
        visitor.optional_section("dkim", &mut self.dkim);
    }
}

impl Section for Smtp {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.secret_url("url", &mut self.url);
        visitor.field("connections", &mut self.connections);
        visitor.field("timeout", &mut self.timeout);
        visitor.field("hello_name", &mut self.hello_name);
    }
}

impl Section for FileTransport {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("directory", &mut self.directory);
    }
}

impl Section for Dkim {
    fn visit<V: Visitor>(&mut self, visitor: &mut V) {
        visitor.field("domain", &mut self.domain);
        visitor.field("selector", &mut self.selector);
        visitor.field("key_file", &mut self.key_file);
    }
}

impl Mail {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.positive(self.max_age, "mail.max_age");
        self.smtp.validate(problems);
        if let Some(dkim) = &self.dkim {
            dkim.validate(problems);
        }
    }
}

impl Smtp {
    fn validate(&self, problems: &mut Problems) {
        let form = "smtp://host:25, smtp://user:password@host:587?tls=required or smtps://user:password@host";
        let sound = check_secret_url(&self.url, "mail.smtp.url", &["smtp", "smtps"], form, problems).is_some();
        // The rest is judged by what reads it; its words never repeat the URL.
        if let (true, Err(fault)) = (sound, self.url.expose_secret().parse::<Server>()) {
            let fault = fault.to_string();
            problems.wrong("mail.smtp.url", fault.trim_start_matches("mail.smtp.url").trim_start_matches([':', ' ']));
        }
        problems.range(self.connections, 1..=1000, "mail.smtp.connections");
        problems.positive(self.timeout, "mail.smtp.timeout");
        if let Some(name) = &self.hello_name {
            problems.check(
                // RFC 5321 4.1.3 also allows an address literal: [192.0.2.1]
                is_host_name(name) || (name.starts_with('[') && name.ends_with(']')),
                "mail.smtp.hello_name",
                format!("{name:?} is not a host name; write one such as \"mail.example.com\""),
            );
        }
    }
}

impl Dkim {
    fn validate(&self, problems: &mut Problems) {
        for (path, value) in [("mail.dkim.domain", &self.domain), ("mail.dkim.selector", &self.selector)] {
            if value.is_empty() {
                problems.say(format!("`{path}` is missing: [mail.dkim] needs domain, selector and key_file"));
            } else {
                problems.check(is_host_name(value), path, format!("{value:?} is not a DNS name"));
            }
        }
        if self.key_file.as_os_str().is_empty() {
            problems.say("`mail.dkim.key_file` is missing: [mail.dkim] needs domain, selector and key_file");
        }
    }
}

fn is_host_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name
            .split('.')
            .all(|label| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
}
