//! One SMTP session: greeting, EHLO, STARTTLS, AUTH, then mails one after another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::error::{Failure, SendError, Stage, expect, is_consent};
use super::limit::{ConnectionLimit, Live};
use super::reply::Reply;
use super::tls::Tls;
use super::wire::{Wire, WireError, stuff};
use crate::config::smtp_url::{Credentials, Server, TlsPolicy};
use crate::mail::message::Built;

mod together;

pub(super) use self::together::Together;

/// How long a failed write waits for the words that may explain it.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The output buffer is given back after a message larger than this, in bytes.
const KEPT_BUFFER: usize = 256 * 1024;

/// Answers to a whole mail.
const WHOLE: [Stage; 3] = [Stage::Mail, Stage::Rcpt, Stage::Content];

/// A mail, and what MAIL announces about it.
type Announced<'a> = (&'a Built, &'static str);

/// What became of a mail.
pub(super) type Delivered = Result<Reply, SendError>;

/// Whether the connection is good for others after that.
pub(super) fn is_usable_after(outcome: &Delivered) -> bool {
    outcome.as_ref().err().is_none_or(|error| error.kind.is_about_the_mail())
}

/// A session that is past EHLO, TLS and AUTH.
pub(super) struct Connection {
    wire: Wire,
    extensions: Extensions,
    output: Vec<u8>,
    /// The last mail was refused midway: RSET before the next.
    unfinished: bool,
    /// Replies to pipelined commands that nobody has read yet.
    owed: usize,
    /// Mails accepted.
    pub sent: usize,
    _live: Live,
}

/// What the server said it can do (RFC 5321 section 4.1.1.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a server has each of them or not, independently")]
struct Extensions {
    starttls: bool,
    pipelining: bool,
    chunking: bool,
    eight_bit_mime: bool,
    smtputf8: bool,
    auth_plain: bool,
    auth_login: bool,
}

impl Extensions {
    fn of(hello: &Reply) -> Self {
        let mut found = Self::default();
        for line in hello.lines.iter().skip(1) {
            // Some servers still write `AUTH=PLAIN`.
            let line = line.to_ascii_uppercase().replace('=', " ");
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("STARTTLS") => found.starttls = true,
                Some("PIPELINING") => found.pipelining = true,
                Some("CHUNKING") => found.chunking = true,
                Some("8BITMIME") => found.eight_bit_mime = true,
                Some("SMTPUTF8") => found.smtputf8 = true,
                Some("AUTH") => {
                    for mechanism in words {
                        found.auth_plain |= mechanism == "PLAIN";
                        found.auth_login |= mechanism == "LOGIN";
                    }
                }
                _ => {}
            }
        }
        found
    }
}

/// What is known of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Health {
    /// Bounds the wait for the first reply, where the connection may have died in silence.
    pub patience: Option<Duration>,
    /// It worked just now: worth sending a whole mail into.
    pub lives: bool,
}

/// How to open a session.
pub(super) struct Opening<'a> {
    pub server: &'a Server,
    pub tls: Option<&'a Tls>,
    pub hello: &'a str,
    /// The time for the whole dialogue; each of the server's addresses gets its share.
    pub timeout: Duration,
    /// Counts the connection as long as it lives.
    pub limit: &'a Arc<ConnectionLimit>,
}

impl Connection {
    /// Connects, greets, encrypts and signs in. `stage` follows along, for whoever cuts it short.
    pub async fn open(opening: &Opening<'_>, stage: &mut Stage) -> Result<Self, SendError> {
        *stage = Stage::Connect;
        let mut wire = Wire::plain(connect(opening.server, opening.timeout).await?);
        if opening.server.tls == TlsPolicy::Implicit {
            wire = encrypt(wire, opening, *stage).await?;
        }
        *stage = Stage::Greeting;
        let greeting = wire.read_reply().await.map_err(|fault| lost(*stage, &fault))?;
        expect(*stage, &greeting, greeting.code == 220)?;
        let mut connection = Self {
            wire,
            extensions: Extensions::default(),
            output: Vec::new(),
            unfinished: false,
            owed: 0,
            sent: 0,
            _live: opening.limit.greeted(),
        };
        connection.hello(opening.hello, stage).await?;
        connection = connection.starttls(opening, stage).await?;
        if let Some(credentials) = &opening.server.credentials {
            *stage = Stage::Auth;
            connection.sign_in(opening.server, credentials).await?;
        }
        Ok(connection)
    }

    /// Whether the connection can be tried for another mail: still open, and nothing said that nobody asked for.
    pub fn is_usable(&mut self) -> bool {
        self.owed > 0 || self.wire.is_quiet()
    }

    /// Hands one mail over. On a `Permanent` or `Transient` failure the connection stays usable; on any other, drop it.
    pub async fn deliver(&mut self, mail: &Built, health: Health, stage: &mut Stage) -> Delivered {
        let patience = health.patience;
        *stage = Stage::Reset;
        self.reset(patience).await?;
        *stage = Stage::Mail;
        let parameters = self.mail_parameters(mail)?;
        if health.lives && self.takes_whole_mails() {
            *stage = Stage::Content;
            self.write_whole(&[(mail, parameters)]).await?;
            return self.answer_to_whole(stage).await;
        }
        self.deliver_by_steps((mail, parameters), false, "", patience, stage).await
    }

    /// Whether the server takes mails without being asked about each of their commands (RFC 3030 section 4.2).
    const fn takes_whole_mails(&self) -> bool {
        self.extensions.pipelining && self.extensions.chunking
    }

    /// The answers to a whole mail, up to the first that refuses it. Whenever the connection is lost, the server may have taken it.
    async fn answer_to_whole(&mut self, stage: &mut Stage) -> Delivered {
        (self.unfinished, self.owed) = (true, WHOLE.len());
        loop {
            let step = WHOLE[WHOLE.len() - self.owed];
            let reply = self.read(*stage).await?;
            self.owed -= 1;
            if !is_consent(step, reply.code) {
                *stage = step;
            }
            expect(step, &reply, is_consent(step, reply.code))?;
            if self.owed == 0 {
                self.unfinished = false;
                self.sent += 1;
                return Ok(reply);
            }
        }
    }

    /// The mail's commands, pipelined where the server offers it (RFC 2920); the message once it has agreed. Where it is one of
    /// several, they may have been said already, and what is said behind the message are those of the next.
    async fn deliver_by_steps(
        &mut self,
        (mail, parameters): Announced<'_>,
        said: bool,
        behind: &str,
        patience: Option<Duration>,
        stage: &mut Stage,
    ) -> Delivered {
        let commands = commands(mail, parameters);
        self.unfinished = true;
        if self.extensions.pipelining {
            if !said {
                self.write(*stage, in_one(&commands).as_bytes()).await?;
            }
            self.owed = commands.len();
        }
        for (next, command) in &commands {
            *stage = *next;
            if !self.extensions.pipelining {
                self.write(*stage, command.as_bytes()).await?;
                self.owed = 1;
            }
            let reply = match patience {
                Some(limit) if *stage == Stage::Mail => within(limit, *stage, self.read(*stage)).await?,
                _ => self.read(*stage).await?,
            };
            self.owed -= 1;
            expect(*stage, &reply, is_consent(*stage, reply.code))?;
        }
        *stage = Stage::Content;
        self.write_gathered(*stage, |output| {
            stuff(&mail.bytes, output);
            output.extend_from_slice(behind.as_bytes());
        })
        .await?;
        let reply = self.read(*stage).await?;
        self.unfinished = !behind.is_empty();
        expect(*stage, &reply, is_consent(*stage, reply.code))?;
        self.sent += 1;
        Ok(reply)
    }

    /// Asks whether a mail from `sender` would be taken, and takes the question back.
    pub async fn offer(&mut self, sender: &str, stage: &mut Stage) -> Result<(), SendError> {
        *stage = Stage::Mail;
        let reply = self.command(*stage, &format!("MAIL FROM:<{sender}>\r\n")).await?;
        expect(*stage, &reply, is_consent(*stage, reply.code))?;
        self.unfinished = true;
        *stage = Stage::Reset;
        self.reset(None).await
    }

    /// Says goodbye without waiting long for the answer.
    pub async fn quit(mut self) {
        let farewell = async {
            self.wire.write(b"QUIT\r\n").await?;
            self.wire.read_reply().await
        };
        let _ = timeout(LAST_WORDS, farewell).await;
    }

    /// What this session is like, for people.
    pub fn describe(&self, server: &Server) -> String {
        let protection = match self.wire.tls_version() {
            None => "not encrypted".to_owned(),
            Some(version) => {
                let proof = if server.verifies() { "verified" } else { "not verified" };
                format!("{}, certificate {proof}", version.replace('_', "."))
            }
        };
        let signed_in = if server.credentials.is_some() { ", signed in" } else { "" };
        format!("{server} answers ({protection}{signed_in})")
    }

    async fn hello(&mut self, name: &str, stage: &mut Stage) -> Result<(), SendError> {
        *stage = Stage::Hello;
        let reply = self.command(*stage, &format!("EHLO {name}\r\n")).await?;
        expect(*stage, &reply, reply.code == 250)?;
        self.extensions = Extensions::of(&reply);
        Ok(())
    }

    async fn starttls(mut self, opening: &Opening<'_>, stage: &mut Stage) -> Result<Self, SendError> {
        let required = match opening.server.tls {
            TlsPolicy::Implicit | TlsPolicy::None => return Ok(self),
            TlsPolicy::Required => true,
            TlsPolicy::Opportunistic => false,
        };
        if !self.extensions.starttls {
            if required {
                let what =
                    format!("{} does not offer STARTTLS, which tls=required in mail.smtp.url asks for", opening.server);
                return Err(SendError::lost(Stage::StartTls, what));
            }
            return Ok(self);
        }
        *stage = Stage::StartTls;
        let reply = self.command(*stage, "STARTTLS\r\n").await?;
        // 454: offered, but not to be had just now.
        if reply.code == 454 && !required {
            return Ok(self);
        }
        expect(*stage, &reply, reply.code == 220)?;
        self.wire = encrypt(self.wire, opening, *stage).await?;
        // What was said in the clear counts no longer (RFC 3207 section 4.2).
        self.hello(opening.hello, stage).await?;
        Ok(self)
    }

    async fn sign_in(&mut self, server: &Server, credentials: &Credentials) -> Result<(), SendError> {
        let refuse = |what: String| SendError::lost(Stage::Auth, what);
        if !self.wire.is_encrypted() && server.tls != TlsPolicy::None {
            return Err(refuse(format!(
                "{server} offers no encryption, so the password was not sent; use smtps://, or tls=none if the way there is trusted"
            )));
        }
        let password = credentials.password.expose_secret();
        let last = if self.extensions.auth_plain {
            // RFC 4616: authorisation identity (none), user, password.
            let token = Zeroizing::new(format!("\0{}\0{password}", credentials.user));
            Zeroizing::new(format!("AUTH PLAIN {}\r\n", STANDARD.encode(token.as_bytes())))
        } else if self.extensions.auth_login {
            self.challenge("AUTH LOGIN\r\n").await?;
            self.challenge(&format!("{}\r\n", STANDARD.encode(&credentials.user))).await?;
            Zeroizing::new(format!("{}\r\n", STANDARD.encode(password)))
        } else {
            return Err(refuse(format!(
                "{server} does not offer to sign in with PLAIN or LOGIN, but mail.smtp.url has a password"
            )));
        };
        let reply = self.command(Stage::Auth, &last).await?;
        if reply.code == 235 {
            return Ok(());
        }
        // Servers have been seen to quote the command they refuse.
        let secret = last.split_ascii_whitespace().next_back().unwrap_or_default();
        let words = reply.to_string().replace(secret, "[redacted]").replace(password, "[redacted]");
        Err(refuse(words))
    }

    /// One step of AUTH LOGIN.
    async fn challenge(&mut self, command: &str) -> Result<(), SendError> {
        let reply = self.command(Stage::Auth, command).await?;
        expect(Stage::Auth, &reply, reply.code == 334)
    }

    /// Forgets a mail that was refused midway.
    async fn reset(&mut self, patience: Option<Duration>) -> Result<(), SendError> {
        if !self.unfinished {
            return Ok(());
        }
        let stage = Stage::Reset;
        let exchange = async {
            self.write(stage, b"RSET\r\n").await?;
            while self.owed > 0 {
                let late = self.read(stage).await?;
                self.owed -= 1;
                // DATA accepted although the recipient was not: RSET went into a message now.
                expect(stage, &late, late.code != 354)?;
            }
            let reply = self.read(stage).await?;
            expect(stage, &reply, reply.code == 250)?;
            self.unfinished = false;
            Ok(())
        };
        match patience {
            Some(limit) => within(limit, stage, exchange).await,
            None => exchange.await,
        }
    }

    /// What MAIL has to announce about the mail, or why this server cannot take it.
    fn mail_parameters(&self, mail: &Built) -> Result<&'static str, SendError> {
        let Built { envelope, bytes, .. } = mail;
        let refuse = |what| Err(SendError::new(Failure::Permanent, Stage::Mail, what));
        // By far most are.
        if bytes.is_ascii() && envelope.is_ascii() {
            return Ok("");
        }
        if !envelope.is_ascii() || !headers(bytes).is_ascii() {
            return if self.extensions.smtputf8 {
                Ok(" BODY=8BITMIME SMTPUTF8")
            } else {
                refuse(
                    "the address has characters outside ASCII before the @, and the mail server does not support that (SMTPUTF8)",
                )
            };
        }
        if self.extensions.eight_bit_mime {
            Ok(" BODY=8BITMIME")
        } else {
            refuse("the message is not in ASCII, and the mail server does not support that (8BITMIME)")
        }
    }

    async fn command(&mut self, stage: Stage, command: &str) -> Result<Reply, SendError> {
        self.write(stage, command.as_bytes()).await?;
        self.read(stage).await
    }

    async fn write(&mut self, stage: Stage, bytes: &[u8]) -> Result<(), SendError> {
        let Err(fault) = self.wire.write(bytes).await else { return Ok(()) };
        // A server that hangs up mostly said why before.
        match timeout(LAST_WORDS, self.wire.read_reply()).await {
            Ok(Ok(reply)) if reply.code >= 400 => {
                expect(stage, &reply, false)?;
                Err(lost(stage, &fault))
            }
            _ => Err(lost(stage, &fault)),
        }
    }

    /// Writes what is put together in a buffer that is kept for the next mail.
    async fn write_gathered(&mut self, stage: Stage, gather: impl FnOnce(&mut Vec<u8>)) -> Result<(), SendError> {
        let mut output = std::mem::take(&mut self.output);
        gather(&mut output);
        let written = self.write(stage, &output).await;
        output.clear();
        output.shrink_to(KEPT_BUFFER);
        self.output = output;
        written
    }

    async fn read(&mut self, stage: Stage) -> Result<Reply, SendError> {
        self.wire.read_reply().await.map_err(|fault| lost(stage, &fault))
    }
}

/// What is said of a mail before its message, step by step.
fn commands(mail: &Built, parameters: &str) -> [(Stage, String); 3] {
    let (from, to) = (mail.envelope.from(), mail.envelope.to());
    [
        (Stage::Mail, format!("MAIL FROM:<{from}>{parameters}\r\n")),
        (Stage::Rcpt, format!("RCPT TO:<{to}>\r\n")),
        (Stage::Data, "DATA\r\n".to_owned()),
    ]
}

fn in_one(commands: &[(Stage, String); 3]) -> String {
    commands.each_ref().map(|(_, command)| command.as_str()).concat()
}

fn lost(stage: Stage, fault: &WireError) -> SendError {
    SendError::lost(stage, format!("{fault} (at {stage})"))
}

async fn within<T>(
    limit: Duration,
    stage: Stage,
    exchange: impl Future<Output = Result<T, SendError>>,
) -> Result<T, SendError> {
    timeout(limit, exchange)
        .await
        .unwrap_or_else(|_| Err(SendError::lost(stage, format!("no answer within {limit:?} (at {stage})"))))
}

fn headers(message: &[u8]) -> &[u8] {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(message.len());
    &message[..end]
}

async fn encrypt(wire: Wire, opening: &Opening<'_>, stage: Stage) -> Result<Wire, SendError> {
    let Some(tls) = opening.tls else { return Ok(wire) };
    wire.encrypt(&tls.connector, tls.name.clone()).await.map_err(|fault| {
        let server = opening.server;
        let what = match fault {
            WireError::Io(error) => format!("the TLS handshake with {server} failed: {error}"),
            other => format!("the TLS handshake with {server} failed: {other}"),
        };
        SendError::lost(stage, what)
    })
}

/// Tries the server's addresses in turn.
async fn connect(server: &Server, limit: Duration) -> Result<TcpStream, SendError> {
    let fail = |what: String| SendError::lost(Stage::Connect, what);
    let addresses = lookup_host((server.host.as_str(), server.port)).await;
    let addresses: Vec<SocketAddr> =
        addresses.map_err(|error| fail(format!("cannot find {server}: {error}")))?.collect();
    // So that one address that swallows packets leaves time for the next.
    let share = limit / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
    let mut last = fail(format!("cannot find {server}: it has no address"));
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it the small commands wait for delayed acknowledgements, about 40 ms each.
                stream.set_nodelay(true).map_err(|error| fail(format!("cannot set up {server}: {error}")))?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = fail(format!("cannot connect to {server}: {error}")),
            Err(_) => {
                last = fail(format!("cannot connect to {server}: no answer from {} within {share:?}", address.ip()));
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_in_whatever_spelling() {
        let lines = ["mx.example hello", "size 1000", "Pipelining", "AUTH=LOGIN", "auth plain XOAUTH2", "8BITMIME"];
        let hello = Reply { code: 250, lines: lines.map(str::to_owned).to_vec() };
        let expected = Extensions {
            pipelining: true,
            eight_bit_mime: true,
            auth_plain: true,
            auth_login: true,
            ..Extensions::default()
        };
        assert_eq!(Extensions::of(&hello), expected);
        let name_only = Reply { code: 250, lines: vec!["STARTTLS".to_owned()] };
        assert_eq!(Extensions::of(&name_only), Extensions::default());
    }
}
