//! Why a mail was not handed over, sorted by what that means for it.

use std::fmt;
use std::time::Duration;

use super::reply::{mask_addresses, shorten};

/// What a failure means for the mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// This mail is refused for good (5xx); nothing follows for others.
    Permanent,
    /// This mail is refused for now (4xx); try it again later.
    Transient,
    /// The server as a whole: refused connection, timeout, TLS, sign-in, 421. Not the mail's fault, and others would fare the same.
    Unreachable,
    /// The connection was lost after the message had been sent: it may have been accepted. Try again with the same `Message-ID`.
    Ambiguous,
}

/// How far the dialogue had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Waiting for name resolution and the TCP (for `smtps` also the TLS) handshake.
    Connect,
    /// Waiting for the server's first words.
    Greeting,
    /// EHLO.
    Hello,
    /// STARTTLS and its handshake.
    StartTls,
    /// AUTH.
    Auth,
    /// RSET of a connection that is used again after a refusal.
    Reset,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA, before any of the message.
    Data,
    /// The message itself: from here on it may have been accepted.
    Content,
    /// Writing a file (`transport = "file"`).
    File,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Hello => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Reset => "RSET",
            Self::Mail => "MAIL FROM",
            Self::Rcpt => "RCPT TO",
            Self::Data => "DATA",
            Self::Content => "message",
            Self::File => "file",
        })
    }
}

/// A mail that was not handed over, or of which that is not known.
#[derive(Clone, PartialEq, Eq)]
pub struct SendError {
    /// What to do about it.
    pub kind: Failure,
    /// The server's words, or what happened: one line, at most 500 characters. May name the recipient, so it is for the
    /// mail's own record; `Display` and `Debug` show it with addresses masked.
    pub reply: String,
    /// How far the dialogue had come.
    pub stage: Stage,
}

impl SendError {
    pub(crate) fn new(kind: Failure, stage: Stage, reply: impl Into<String>) -> Self {
        Self { kind, stage, reply: shorten(reply.into()) }
    }

    /// A connection that failed at `stage`: the server's fault until the message was under way.
    pub(super) fn lost(stage: Stage, what: impl Into<String>) -> Self {
        let kind = if stage == Stage::Content { Failure::Ambiguous } else { Failure::Unreachable };
        Self::new(kind, stage, what)
    }

    pub(super) fn timed_out(server: &impl fmt::Display, stage: Stage, after: Duration) -> Self {
        Self::lost(stage, format!("{server} did not finish within {after:?} (at {stage})"))
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.kind {
            Failure::Permanent => "refused for good",
            Failure::Transient => "refused for now",
            Failure::Unreachable => "mail server unusable",
            Failure::Ambiguous => "connection lost, perhaps accepted",
        };
        write!(f, "{meaning} at {}: {}", self.stage, mask_addresses(&self.reply))
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendError({self})")
    }
}

impl std::error::Error for SendError {}
