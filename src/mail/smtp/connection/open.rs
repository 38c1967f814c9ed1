//! Opening a session: connect, greeting, EHLO, STARTTLS, AUTH.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Connection, lost};
use crate::config::smtp_url::{Credentials, Server, TlsPolicy};
use crate::mail::smtp::error::{SendError, Stage, expect};
use crate::mail::smtp::limit::ConnectionLimit;
use crate::mail::smtp::reply::Reply;
use crate::mail::smtp::tls::Tls;
use crate::mail::smtp::wire::{Wire, WireError};

/// How to open a session.
pub(in crate::mail::smtp) struct Opening<'a> {
    pub server: &'a Server,
    pub tls: Option<&'a Tls>,
    pub hello: &'a str,
    /// The time for the whole dialogue; each of the server's addresses gets its share.
    pub timeout: Duration,
    /// Counts the connection as long as it lives.
    pub limit: &'a Arc<ConnectionLimit>,
}

/// What the server said it can do (RFC 5321 section 4.1.1.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a server has each of them or not, independently")]
pub(super) struct Extensions {
    pub starttls: bool,
    pub pipelining: bool,
    pub chunking: bool,
    pub eight_bit_mime: bool,
    pub smtputf8: bool,
    pub auth_plain: bool,
    pub auth_login: bool,
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
        // 432: too many connections, by some only now.
        Err(SendError { turned_away: (400..500).contains(&reply.code), ..refuse(words) })
    }

    /// One step of AUTH LOGIN.
    async fn challenge(&mut self, command: &str) -> Result<(), SendError> {
        let reply = self.command(Stage::Auth, command).await?;
        expect(Stage::Auth, &reply, reply.code == 334)
    }
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
