//! Why a mail was not handed over, sorted by what that means for it.

use std::fmt;
use std::time::Duration;

use super::reply::{Reply, mask_addresses, shorten};

/// What a failure means for the mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// This mail is refused for good (5xx); nothing follows for others.
    Permanent,
    /// This mail is refused for now (4xx); try it again later.
    Transient,
    /// The server as a whole: refused connection, timeout, TLS, sign-in, 421. Not the mail's fault, and others would fare
    /// the same.
    Unreachable,
    /// The connection was lost after the message had been sent: it may have been accepted. Try again with the same
    /// `Message-ID`.
    Ambiguous,
}

impl Failure {
    /// Whether the server answered for this mail, so that the connection is good for others.
    pub const fn is_about_the_mail(self) -> bool {
        matches!(self, Self::Permanent | Self::Transient)
    }
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
    /// It failed only because another mail did that was on its way with it: that says nothing more of the server.
    pub with_another: bool,
    /// It was given up for want of an answer after the server had taken the sender: it waits for the recipient's domain, or takes its
    /// time with the message.
    pub took_too_long: bool,
    /// A new connection was turned away for now (4xx): perhaps only because there are others.
    pub turned_away: bool,
}

impl SendError {
    pub(crate) fn new(kind: Failure, stage: Stage, reply: impl Into<String>) -> Self {
        let reply = shorten(reply.into());
        Self { kind, stage, reply, with_another: false, took_too_long: false, turned_away: false }
    }

    /// A connection that failed at `stage`: the server's fault until the message was under way.
    pub(super) fn lost(stage: Stage, what: impl Into<String>) -> Self {
        let kind = if stage == Stage::Content { Failure::Ambiguous } else { Failure::Unreachable };
        Self::new(kind, stage, what)
    }

    pub(crate) fn timed_out(server: &impl fmt::Display, stage: Stage, after: Duration) -> Self {
        let error = Self::lost(stage, format!("{server} did not finish within {after:?} (at {stage})"));
        Self { took_too_long: matches!(stage, Stage::Rcpt | Stage::Data | Stage::Content), ..error }
    }

    /// Whether only the recipient's domain is to blame: the server has answered, and has nothing of the message yet.
    pub fn is_the_domains(&self) -> bool {
        self.took_too_long && self.stage != Stage::Content
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

/// Whether the code is the one that lets the mail go on.
pub(super) fn is_consent(stage: Stage, code: u16) -> bool {
    match stage {
        Stage::Mail | Stage::Content => code == 250,
        // 251 and 252: will be forwarded, or could not be verified but is taken.
        Stage::Rcpt => matches!(code, 250..=252),
        Stage::Data => code == 354,
        _ => false,
    }
}

/// Sorts a reply that is not consent.
pub(super) fn expect(stage: Stage, reply: &Reply, consent: bool) -> Result<(), SendError> {
    if consent {
        return Ok(());
    }
    let about_this_mail = matches!(stage, Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Content);
    let kind = match reply.code {
        // 421: the server is closing down, whatever it was asked (RFC 5321 section 3.8). The others: it wants encryption or
        // a sign-in first, or a stronger one (RFC 3207, RFC 4954 section 6); that is ours to mend, not the mail's.
        421 | 530 | 534 | 535 | 538 => Failure::Unreachable,
        // "Bad sequence" to the first command of a mail is about the session.
        503 if stage == Stage::Mail => Failure::Unreachable,
        400..=499 if about_this_mail => Failure::Transient,
        500..=599 if about_this_mail => Failure::Permanent,
        // Success, but not the one that was asked about.
        _ if stage == Stage::Content => Failure::Ambiguous,
        _ => Failure::Unreachable,
    };
    let turned_away = matches!(stage, Stage::Greeting | Stage::Hello | Stage::Auth) && (400..500).contains(&reply.code);
    Err(SendError { turned_away, ..SendError::new(kind, stage, reply.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reply_means_for_the_mail() {
        use Failure::{Ambiguous, Permanent, Transient, Unreachable};
        for (stage, code, kind) in [
            (Stage::Greeting, 554, Unreachable),
            (Stage::Hello, 500, Unreachable),
            (Stage::Auth, 535, Unreachable),
            (Stage::Mail, 421, Unreachable),
            (Stage::Mail, 452, Transient),
            (Stage::Mail, 550, Permanent),
            (Stage::Mail, 530, Unreachable),
            (Stage::Mail, 503, Unreachable),
            (Stage::Rcpt, 550, Permanent),
            (Stage::Rcpt, 450, Transient),
            (Stage::Rcpt, 354, Unreachable),
            (Stage::Data, 554, Permanent),
            (Stage::Data, 250, Unreachable),
            (Stage::Content, 421, Unreachable),
            (Stage::Content, 451, Transient),
            (Stage::Content, 554, Permanent),
            (Stage::Content, 251, Ambiguous),
            (Stage::Content, 354, Ambiguous),
        ] {
            let reply = Reply { code, lines: vec![String::new()] };
            let outcome = expect(stage, &reply, is_consent(stage, code)).unwrap_err();
            assert_eq!(outcome.kind, kind, "{stage} {code}");
        }
        assert!(
            [(Stage::Mail, 250), (Stage::Rcpt, 251), (Stage::Data, 354), (Stage::Content, 250)]
                .iter()
                .all(|&(s, c)| is_consent(s, c))
        );
    }
}
