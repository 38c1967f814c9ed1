//! A mail server that takes everything, as fast as one thread can, and remembers when each recipient's mail was there.
//!
//! Offers PIPELINING (RFC 2920) and CHUNKING (RFC 3030). One thread of its own, so that what it costs can be told from what
//! the workers cost.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::processes;

const EHLO: &[u8] =
    b"250-sink\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 10000000\r\n";

/// A running sink; it ends when dropped.
pub struct Sink {
    pub address: SocketAddr,
    arrivals: Arc<Arrivals>,
    thread: Option<JoinHandle<()>>,
    clock: PathBuf,
    stop: CancellationToken,
}

/// When the mail to each of the people came, in nanoseconds since the start; 0 is not yet.
struct Arrivals {
    start: Instant,
    at: Vec<AtomicU64>,
    people: AtomicUsize,
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Sink {
    /// For mails to the people with numbers below `people`.
    pub fn start(people: usize) -> Self {
        let arrivals = Arc::new(Arrivals {
            start: Instant::now(),
            at: (0..people).map(|_| AtomicU64::new(0)).collect(),
            people: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        });
        let stop = CancellationToken::new();
        let (tell, told) = std::sync::mpsc::channel();
        let (serving, stopped) = (Arc::clone(&arrivals), stop.clone());
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send((listener.local_addr().unwrap(), processes::clock_of_this_thread())).unwrap();
                while let Some(Ok((stream, _))) = stopped.run_until_cancelled(listener.accept()).await {
                    tokio::spawn(session(stream, Arc::clone(&serving)));
                }
            });
        };
        let thread = std::thread::Builder::new().name("sink".to_owned()).spawn(serve).unwrap();
        let (address, clock) = told.recv().unwrap();
        Self { address, arrivals, thread: Some(thread), clock, stop }
    }

    /// How many people have mail.
    pub fn people(&self) -> usize {
        self.arrivals.people.load(Ordering::Acquire)
    }

    /// How many messages came; more than people if some came twice.
    pub fn messages(&self) -> usize {
        self.arrivals.messages.load(Ordering::Acquire)
    }

    /// The size of all messages together.
    pub fn bytes(&self) -> usize {
        self.arrivals.bytes.load(Ordering::Acquire)
    }

    /// When a person's mail came, in seconds since [`Self::now`] was 0.
    pub fn at(&self, person: usize) -> Option<f64> {
        let nanoseconds = self.arrivals.at[person].load(Ordering::Acquire);
        (nanoseconds > 0).then(|| seconds(nanoseconds))
    }

    /// All arrivals in their order.
    pub fn all(&self) -> Vec<f64> {
        let mut all: Vec<f64> = (0..self.arrivals.at.len()).filter_map(|person| self.at(person)).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    /// Seconds on the sink's clock.
    pub fn now(&self) -> f64 {
        self.arrivals.start.elapsed().as_secs_f64()
    }

    /// When [`Self::now`] was 0.
    pub fn start_of_clock(&self) -> Instant {
        self.arrivals.start
    }

    /// Seconds of a core that it has used.
    pub fn cpu(&self) -> f64 {
        processes::read_clock(&self.clock)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^52 nanoseconds are 52 days")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

async fn session(mut stream: TcpStream, arrivals: Arc<Arrivals>) -> std::io::Result<()> {
    const READ: usize = 64 * 1024;
    stream.set_nodelay(true)?;
    stream.write_all(b"220 sink ESMTP\r\n").await?;
    let (mut input, mut output) = (Vec::with_capacity(4 * READ), Vec::new());
    let mut protocol = Protocol::default();
    loop {
        input.reserve(READ);
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let used = protocol.take(&input, &mut output, &arrivals);
        input.drain(..used);
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        if matches!(protocol.expects, Expects::Nothing) {
            return Ok(());
        }
    }
}

#[derive(Default)]
struct Protocol {
    expects: Expects,
    recipients: Vec<usize>,
}

#[derive(Default)]
enum Expects {
    #[default]
    Commands,
    /// A message up to the line with only a dot.
    Message,
    /// So many bytes more of a message.
    Chunk(usize),
    Nothing,
}

impl Protocol {
    /// Takes what is whole, and says how much that was.
    fn take(&mut self, input: &[u8], output: &mut Vec<u8>, arrivals: &Arrivals) -> usize {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.expects {
                Expects::Commands => {
                    let Some(end) = memchr::memchr(b'\n', rest) else { return used };
                    output.extend_from_slice(self.command(&rest[..end]));
                    used += end + 1;
                }
                Expects::Message => {
                    let Some(end) = memchr::memmem::find(rest, b"\r\n.\r\n") else { return used };
                    self.accept(end, output, arrivals);
                    used += end + 5;
                }
                Expects::Chunk(size) if size <= rest.len() => {
                    self.accept(size, output, arrivals);
                    used += size;
                }
                Expects::Chunk(_) | Expects::Nothing => return used,
            }
        }
    }

    fn command(&mut self, line: &[u8]) -> &'static [u8] {
        let verb: [u8; 4] = line.first_chunk().map_or(*b"none", |verb| verb.map(|byte| byte.to_ascii_uppercase()));
        match &verb {
            b"EHLO" => EHLO,
            b"MAIL" | b"RSET" => {
                self.recipients.clear();
                b"250 OK\r\n"
            }
            b"RCPT" => {
                self.recipients.extend(person(line));
                b"250 OK\r\n"
            }
            b"DATA" => {
                self.expects = Expects::Message;
                b"354 go on\r\n"
            }
            b"BDAT" => match size(line) {
                Some(size) => {
                    self.expects = Expects::Chunk(size);
                    b""
                }
                None => b"501 only one chunk, and LAST\r\n",
            },
            b"NOOP" => b"250 OK\r\n",
            b"QUIT" => {
                self.expects = Expects::Nothing;
                b"221 bye\r\n"
            }
            _ => b"502 no\r\n",
        }
    }

    fn accept(&mut self, size: usize, output: &mut Vec<u8>, arrivals: &Arrivals) {
        output.extend_from_slice(b"250 taken\r\n");
        self.expects = Expects::Commands;
        arrivals.messages.fetch_add(1, Ordering::AcqRel);
        arrivals.bytes.fetch_add(size, Ordering::AcqRel);
        let now = u64::try_from(arrivals.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for person in self.recipients.drain(..) {
            if let Some(at) = arrivals.at.get(person)
                && at.compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                arrivals.people.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

/// The number in `RCPT TO:<p17@m17.example>`.
fn person(line: &[u8]) -> Option<usize> {
    let line = str::from_utf8(line).ok()?;
    line.split_once("<p")?.1.split_once('@')?.0.parse().ok()
}

/// The number in `BDAT 100 LAST`.
fn size(line: &[u8]) -> Option<usize> {
    str::from_utf8(line).ok()?.trim_end().strip_prefix("BDAT ")?.strip_suffix(" LAST")?.parse().ok()
}
