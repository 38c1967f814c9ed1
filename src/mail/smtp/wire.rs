//! A byte stream to a server: whole commands out, whole replies in, both in bounded memory.

use std::io;

use futures_util::FutureExt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::reply::{Line, Reply};

/// The longest line that is read. RFC 5321 section 4.5.3.1.5 says 512, servers exceed it.
const MAX_LINE: usize = 4096;
/// The most lines one reply may have.
const MAX_LINES: usize = 100;

/// A connection, in the clear or encrypted, with what was read but not yet used.
pub(super) struct Wire {
    stream: Stream,
    input: Box<[u8; MAX_LINE]>,
    start: usize,
    end: usize,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why no reply could be read, or no command written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the connection was closed")]
    Closed,
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    #[error("this is not SMTP: {0}")]
    Garbled(&'static str),
}

impl Wire {
    pub fn plain(stream: TcpStream) -> Self {
        Self::new(Stream::Plain(stream))
    }

    fn new(stream: Stream) -> Self {
        Self { stream, input: Box::new([0; MAX_LINE]), start: 0, end: 0 }
    }

    /// Encrypts the connection from here on. What the server sent ahead of the handshake is refused: it would otherwise be
    /// taken as said under encryption (CVE-2011-0411).
    pub async fn encrypt(self, tls: &TlsConnector, name: ServerName<'static>) -> Result<Self, WireError> {
        if self.start < self.end {
            return Err(WireError::Garbled("the server spoke ahead of the TLS handshake"));
        }
        match self.stream {
            Stream::Plain(stream) => {
                let stream = tls.connect(name, stream).await?;
                Ok(Self::new(Stream::Tls(Box::new(stream))))
            }
            Stream::Tls(_) => Ok(self),
        }
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// The TLS version in use, such as `TLSv1_3`.
    pub fn tls_version(&self) -> Option<&'static str> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream.get_ref().1.protocol_version().and_then(|version| version.as_str()),
        }
    }

    /// Sends it all at once: with `TCP_NODELAY` one command is one packet.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes).await?,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
        }
        Ok(())
    }

    /// Whether nothing came, not even the end, since the last reply was read. Costs no round trip.
    pub fn is_quiet(&mut self) -> bool {
        // A read that finds nothing leaves no trace when it is dropped; any other outcome ends the connection.
        self.start == self.end && self.fill().now_or_never().is_none()
    }

    /// Reads one reply. Not cancel-safe: a connection whose reading was cancelled must be dropped.
    pub async fn read_reply(&mut self) -> Result<Reply, WireError> {
        let mut lines = Vec::with_capacity(1);
        let mut code = None;
        loop {
            let line = self.read_line().await?;
            if *code.get_or_insert(line.code) != line.code {
                return Err(WireError::Garbled("one reply with two codes"));
            }
            if lines.len() == MAX_LINES {
                return Err(WireError::Garbled("a reply without end"));
            }
            lines.push(line.text);
            if line.last {
                return Ok(Reply { code: line.code, lines });
            }
        }
    }

    async fn read_line(&mut self) -> Result<Line, WireError> {
        let mut searched = self.start;
        loop {
            if let Some(at) = self.input[searched..self.end].iter().position(|&byte| byte == b'\n') {
                let line = &self.input[self.start..searched + at];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let parsed = Line::parse(line).ok_or(WireError::Garbled("a line without a reply code"))?;
                self.start = searched + at + 1;
                return Ok(parsed);
            }
            let waiting = self.end - self.start;
            if self.start > 0 {
                self.input.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, waiting);
            }
            if waiting == MAX_LINE {
                return Err(WireError::Garbled("a line without end"));
            }
            searched = self.end;
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), WireError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let room = &mut self.input[self.end..];
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(room).await?,
            Stream::Tls(stream) => stream.read(room).await?,
        };
        if read == 0 {
            return Err(WireError::Closed);
        }
        self.end += read;
        Ok(())
    }
}

/// Appends the message as DATA wants it (RFC 5321 section 4.5.2): dots at the start of a line doubled, closed by a lone dot.
///
/// Every bare CR or LF becomes CRLF, so that no message can hold an end-of-data that some server down the line would
/// see as one (SMTP smuggling).
pub(super) fn stuff(message: &[u8], out: &mut Vec<u8>) {
    out.reserve(message.len() + message.len() / 64 + 5);
    let mut rest = message;
    while !rest.is_empty() {
        if rest[0] == b'.' {
            out.push(b'.');
        }
        let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..end]);
        out.extend_from_slice(b"\r\n");
        let skip = match &rest[end..] {
            [] => 0,
            [b'\r', b'\n', ..] => 2,
            _ => 1,
        };
        rest = &rest[end + skip..];
    }
    out.extend_from_slice(b".\r\n");
}

#[cfg(test)]
mod tests {
    use super::stuff;

    #[test]
    fn dots_and_line_ends() {
        for (message, sent) in [
            ("", ".\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            ("..a\r\n.\r\nb\r\n", "...a\r\n..\r\nb\r\n.\r\n"),
            ("a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r.\rb", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r\n\r\nb.c\r\n\r\n", "a\r\n\r\nb.c\r\n\r\n.\r\n"),
            ("a\n\r\n.\r\n", "a\r\n\r\n..\r\n.\r\n"),
        ] {
            let mut out = Vec::new();
            stuff(message.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), sent, "{message:?}");
        }
    }

    #[test]
    fn only_the_last_line_is_a_lone_dot() {
        proptest::proptest!(|(message in "[a.\r\n]{0,40}")| {
            let mut out = Vec::new();
            stuff(message.as_bytes(), &mut out);
            let text = String::from_utf8(out).unwrap();
            let body = text.strip_suffix(".\r\n").unwrap();
            proptest::prop_assert!(body.is_empty() || body.ends_with("\r\n"));
            proptest::prop_assert!(body.split("\r\n").all(|line| line != "." && !line.contains(['\r', '\n'])));
        });
    }
}
