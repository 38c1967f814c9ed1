//! A guard between the socket and lapin: no message that the broker lets through may take the daemon down.
//!
//! RabbitMQ accepts names and short properties that are not UTF-8, and header tables nested thousands of levels
//! deep (25,000 fit into one frame). lapin gives up the whole connection over the first, and its recursive
//! parser overflows the stack over the second, which ends the process; either way the message is delivered
//! again and the same happens for ever. So incoming frames pass through here first, and what lapin cannot read
//! is overwritten in place, without changing any length: bytes that are not UTF-8 become [`SUBSTITUTE`], and a
//! table nested deeper than [`MAX_DEPTH`] becomes a byte array.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::{DummyIO, RuntimeParts};
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use lapin::AsyncTcpStream;

/// What stands for a byte that was not UTF-8: the control character SUB, which no valid id or name holds.
pub const SUBSTITUTE: u8 = 0x1a;

/// How many levels of tables and arrays a header table may have.
const MAX_DEPTH: usize = 16;

/// A socket to the broker, plain or TLS.
pub(super) type Socket = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// The runtime that lapin runs on: tokio, with guarded sockets.
pub(super) type GuardedRuntime = Runtime<RuntimeParts<Tokio, GuardedReactor>>;

pub(super) fn runtime() -> GuardedRuntime {
    Runtime::new(RuntimeParts::new(Tokio::current(), GuardedReactor(Tokio::current())))
}

/// Tokio's reactor, but for the type of its sockets.
#[derive(Clone, Debug)]
pub(super) struct GuardedReactor(Tokio);

impl Reactor for GuardedReactor {
    type TcpStream = Guarded<Socket>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<DummyIO, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move { Ok(Guarded::new(AsyncTcpStream::Plain(connecting.await?))) }
    }
}

/// A stream whose incoming frames have been made harmless.
pub(super) struct Guarded<S> {
    inner: S,
    buffer: Vec<u8>,
    /// `buffer[taken..released]` is ready for the reader, `buffer[released..filled]` not yet looked at.
    taken: usize,
    released: usize,
    filled: usize,
    /// Bytes still to come of a frame that is of no interest here.
    passing: usize,
}

impl<S> Guarded<S> {
    const CHUNK: usize = 64 * 1024;
    /// More than any frame size that is negotiated in practice; larger frames are lapin's to refuse.
    const MAX_FRAME: usize = 16 * 1024 * 1024;

    pub(super) fn new(inner: S) -> Self {
        Self { inner, buffer: vec![0; Self::CHUNK], taken: 0, released: 0, filled: 0, passing: 0 }
    }

    /// Releases as much as can be released.
    fn advance(&mut self) {
        while self.released < self.filled {
            if self.passing > 0 {
                let passed = self.passing.min(self.filled - self.released);
                self.passing -= passed;
                self.released += passed;
                continue;
            }
            let waiting = &mut self.buffer[self.released..self.filled];
            // Frame: type, channel (2), size (4), payload, end marker.
            let Some((&mut [kind, _, _, a, b, c, d], _)) = waiting.split_first_chunk_mut::<7>() else {
                return;
            };
            let total = 8 + u32::from_be_bytes([a, b, c, d]) as usize;
            if !matches!(kind, 1 | 2) || total > Self::MAX_FRAME {
                self.passing = total;
                continue;
            }
            let Some(frame) = waiting.get_mut(..total) else {
                if self.released + total > self.buffer.len() {
                    self.buffer.resize(self.released + total, 0);
                }
                return;
            };
            let payload = Cursor { bytes: &mut frame[7..total - 1], at: 0 };
            // `None` is a frame cut short, which the broker does not send; lapin then says so.
            let _ = if kind == 1 { payload.method() } else { payload.content_header() };
            self.released += total;
        }
    }

    /// Moves what is left to the front, so that there is room to read into.
    fn compact(&mut self) {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.released -= self.taken;
        self.taken = 0;
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled + Self::CHUNK, 0);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        while this.taken == this.released && !out.is_empty() {
            this.compact();
            let read = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut this.buffer[this.filled..]))?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            this.filled += read;
            this.advance();
        }
        let count = out.len().min(this.released - this.taken);
        out[..count].copy_from_slice(&this.buffer[this.taken..this.taken + count]);
        this.taken += count;
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx)
    }
}

/// Walks through the payload of a frame. Each step is `None` when the payload ends too early.
struct Cursor<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    /// `basic.deliver`, `basic.return` and `basic.get-ok` name an exchange and a routing key that a publisher chose.
    fn method(mut self) -> Option<()> {
        const BASIC: u16 = 60;
        match (self.u16()?, self.u16()?) {
            (BASIC, 60) => {
                self.short_string()?;
                self.skip(8 + 1)?;
            }
            (BASIC, 50) => {
                self.skip(2)?;
                self.short_string()?;
            }
            (BASIC, 71) => self.skip(8 + 1)?,
            _ => return Some(()),
        }
        self.short_string()?;
        self.short_string()
    }

    fn content_header(mut self) -> Option<()> {
        // Class, weight, body size.
        self.skip(2 + 2 + 8)?;
        let flags = self.u16()?;
        for bit in (2..16).rev().filter(|bit| flags & (1 << bit) != 0) {
            match bit {
                13 => self.table(0)?,
                12 | 11 => self.skip(1)?,
                6 => self.skip(8)?,
                _ => self.short_string()?,
            }
        }
        Some(())
    }

    fn table(&mut self, depth: usize) -> Option<()> {
        let end = self.long_end()?;
        while self.at < end {
            self.short_string()?;
            self.value(depth)?;
        }
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        let end = self.long_end()?;
        while self.at < end {
            self.value(depth)?;
        }
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        let kind = self.bytes.get_mut(self.at)?;
        if matches!(kind, b'A' | b'F') && depth + 1 >= MAX_DEPTH {
            // A byte array is laid out the same: four bytes of length, then the content.
            *kind = b'x';
        }
        let kind = *kind;
        self.at += 1;
        match kind {
            b'F' => self.table(depth + 1),
            b'A' => self.array(depth + 1),
            b'S' | b'x' => {
                self.at = self.long_end()?;
                Some(())
            }
            b'V' => Some(()),
            b't' | b'b' | b'B' => self.skip(1),
            b's' | b'U' | b'u' => self.skip(2),
            b'I' | b'i' | b'f' => self.skip(4),
            b'D' => self.skip(5),
            b'L' | b'l' | b'd' | b'T' => self.skip(8),
            _ => None,
        }
    }

    /// Reads a length of four bytes and returns where what it measures ends.
    fn long_end(&mut self) -> Option<usize> {
        let length = self.bytes.get(self.at..)?.first_chunk::<4>()?;
        let end = self.at + 4 + u32::from_be_bytes(*length) as usize;
        self.at += 4;
        (end <= self.bytes.len()).then_some(end)
    }

    fn short_string(&mut self) -> Option<()> {
        let start = self.at + 1;
        let end = start + usize::from(*self.bytes.get(self.at)?);
        substitute_invalid(self.bytes.get_mut(start..end)?);
        self.at = end;
        Some(())
    }

    fn u16(&mut self) -> Option<u16> {
        let number = self.bytes.get(self.at..)?.first_chunk::<2>()?;
        self.at += 2;
        Some(u16::from_be_bytes(*number))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len()).then_some(())
    }
}

/// Overwrites every byte that does not belong to valid UTF-8.
fn substitute_invalid(bytes: &mut [u8]) {
    let mut start = 0;
    while let Err(error) = std::str::from_utf8(&bytes[start..]) {
        let bad = start + error.valid_up_to();
        let end = error.error_len().map_or(bytes.len(), |length| bad + length);
        bytes[bad..end].fill(SUBSTITUTE);
        start = end;
    }
}

#[cfg(test)]
mod tests;
