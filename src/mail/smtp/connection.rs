//! One SMTP session: once it is open (`open.rs`), mails one after another, or several together (`together.rs`).

use std::time::Duration;

use tokio::time::timeout;

use super::error::{Failure, SendError, Stage, expect, is_consent};
use super::limit::Live;
use super::reply::Reply;
use super::wire::{Wire, WireError, stuff};
use crate::config::smtp_url::Server;
use crate::mail::message::Built;

mod open;
mod together;

pub(super) use self::open::Opening;
pub(super) use self::together::Together;

use self::open::Extensions;

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

/// What is known of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Health {
    /// Bounds the wait for the first reply, where the connection may have died in silence.
    pub patience: Option<Duration>,
    /// It worked just now: worth sending a whole mail into.
    pub lives: bool,
}

impl Connection {
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
