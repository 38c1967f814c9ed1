//! A bounded number of connections that are kept open between mails.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use lettre::transport::smtp::extension::ClientId;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{Connection, Health, Opening};
use super::error::{Failure, SendError, Stage};
use super::gate::{Gate, Pass};
use super::tls::{Tls, TlsError};
use super::url::{Server, UrlError};
use crate::mail::message::Envelope;

/// When a connection is given up although it works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retirement {
    /// After so long without use. Servers hang up after five minutes (RFC 5321 section 4.5.3.2.7), many sooner.
    pub idle: Duration,
    /// After so many mails: load balancers before the server get a chance, and servers have limits.
    pub mails: usize,
}

/// A connection that rested no longer than this will hardly have died meanwhile.
const LATELY: Duration = Duration::from_secs(1);

const RETIREMENT: Retirement = Retirement { idle: Duration::from_secs(60), mails: 500 };

/// What a pool is made from: section `mail.smtp` of the configuration.
#[derive(Debug, Clone)]
pub struct Settings<'a> {
    /// `mail.smtp.url`.
    pub url: &'a str,
    /// `mail.smtp.connections`: at most so many at once.
    pub connections: usize,
    /// `mail.smtp.timeout`: of one mail's whole dialogue, connecting included.
    pub timeout: Duration,
    /// `mail.smtp.hello_name`: what we call ourselves in EHLO. The host's name if absent.
    pub hello_name: Option<&'a str>,
}

/// Why there can be no pool.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A name that cannot be said in EHLO.
    #[error("mail.smtp.hello_name: `{0}` is not a host name; write one in ASCII, or an address such as [192.0.2.1]")]
    HelloName(String),
    /// No connection at all.
    #[error("mail.smtp.connections is 0; it takes at least 1")]
    NoConnections,
    /// No time at all.
    #[error("mail.smtp.timeout is 0; it takes some seconds")]
    NoTime,
}

/// The server's consent: the mail is its responsibility now (RFC 5321 section 6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The server's words on one line, at most 500 characters; most name the mail's queue id.
    pub reply: String,
}

/// Connections to one mail server. Cloning it shares them.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    server: Server,
    tls: Option<Tls>,
    hello: String,
    timeout: Duration,
    retirement: Retirement,
    /// Who may use a connection.
    gate: Arc<Gate>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Oldest first: the youngest is used first, the rest can age and go.
    connections: Vec<(Instant, Connection)>,
    /// Whether a task is there to close what has aged.
    reaped: bool,
}

impl Pool {
    /// Prepares a pool; reads certificates from disk, connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the setting at fault.
    pub fn new(settings: &Settings<'_>) -> Result<Self, SetupError> {
        Self::with_retirement(settings, RETIREMENT)
    }

    pub(super) fn with_retirement(settings: &Settings<'_>, retirement: Retirement) -> Result<Self, SetupError> {
        let server: Server = settings.url.parse()?;
        if settings.connections == 0 {
            return Err(SetupError::NoConnections);
        }
        if settings.timeout.is_zero() {
            return Err(SetupError::NoTime);
        }
        let tls = Tls::of(&server)?;
        let hello = hello_name(settings.hello_name)?;
        let gate = Gate::new(settings.connections);
        let (timeout, idle) = (settings.timeout, Mutex::default());
        Ok(Self(Arc::new(Shared { server, tls, hello, timeout, retirement, gate, idle })))
    }

    /// Waits for the turn of a mail to `domain`, in lowercase, at a connection. Cancelling is safe.
    pub async fn turn(&self, domain: &str) -> Pass {
        self.0.gate.enter(domain).await
    }

    /// Hands one mail to the server, when it is its turn; the timeout counts from here.
    ///
    /// Cancelling is safe: the connection is dropped with the future. The mail may then have been accepted.
    ///
    /// # Errors
    ///
    /// [`SendError`] says what the failure means for the mail.
    pub async fn send(&self, envelope: &Envelope, message: &[u8]) -> Result<Accepted, SendError> {
        let mut stage = Stage::Connect;
        let outcome = timeout(self.0.timeout, self.dialogue(envelope, message, &mut stage)).await;
        outcome.unwrap_or_else(|_| Err(SendError::timed_out(&self.0.server, stage, self.0.timeout)))
    }

    /// Opens a connection of its own as far as a mail would need it, and closes it.
    ///
    /// # Errors
    ///
    /// [`SendError`] says what stands in the way.
    pub async fn check(&self) -> Result<String, SendError> {
        let mut stage = Stage::Connect;
        let outcome = timeout(self.0.timeout, Connection::open(&self.opening(), &mut stage)).await;
        let connection =
            outcome.unwrap_or_else(|_| Err(SendError::timed_out(&self.0.server, stage, self.0.timeout)))?;
        let description = connection.describe(&self.0.server);
        connection.quit().await;
        Ok(description)
    }

    /// How many connections are in use, and how many there may be.
    pub fn usage(&self) -> (usize, usize) {
        self.0.gate.usage()
    }

    /// Asks on a connection of its own whether the server takes mail from `sender`, and takes the question back.
    ///
    /// # Errors
    ///
    /// [`SendError`] says what stands in the way.
    pub async fn offer(&self, sender: &str) -> Result<(), SendError> {
        let mut stage = Stage::Connect;
        let dialogue = async {
            let mut connection = Connection::open(&self.opening(), &mut stage).await?;
            connection.offer(sender, &mut stage).await?;
            connection.quit().await;
            Ok(())
        };
        let outcome = timeout(self.0.timeout, dialogue).await;
        outcome.unwrap_or_else(|_| Err(SendError::timed_out(&self.0.server, stage, self.0.timeout)))
    }

    /// Says goodbye on all idle connections. The pool stays usable.
    pub async fn close(&self) {
        let idle = std::mem::take(&mut self.0.idle().connections);
        join_all(idle.into_iter().map(|(_, connection)| connection.quit())).await;
    }

    async fn dialogue(&self, envelope: &Envelope, message: &[u8], stage: &mut Stage) -> Result<Accepted, SendError> {
        if let Some((rested, mut kept)) = self.take() {
            let health = Health { patience: Some(self.0.timeout / 3), lives: rested < LATELY };
            match kept.deliver(envelope, message, health, stage).await {
                // The server had hung up meanwhile, or does now: that is no verdict on the mail, and it has nothing of it yet.
                Err(error) if error.kind == Failure::Unreachable && *stage != Stage::Content => {
                    tracing::debug!(server = %self.0.server, %error, "kept SMTP connection had gone, opening another");
                }
                outcome => return self.keep_or_drop(kept, outcome),
            }
        }
        let mut fresh = Connection::open(&self.opening(), stage).await?;
        tracing::debug!(server = %self.0.server, "SMTP connection opened");
        let outcome = fresh.deliver(envelope, message, Health { patience: None, lives: true }, stage).await;
        self.keep_or_drop(fresh, outcome)
    }

    fn keep_or_drop(
        &self,
        connection: Connection,
        outcome: Result<super::reply::Reply, SendError>,
    ) -> Result<Accepted, SendError> {
        let reusable = match &outcome {
            Ok(_) => true,
            Err(error) => matches!(error.kind, Failure::Permanent | Failure::Transient),
        };
        if reusable && connection.sent < self.0.retirement.mails {
            self.keep(connection);
        } else if reusable {
            tokio::spawn(connection.quit());
        }
        outcome.map(|reply| Accepted { reply: reply.to_string() })
    }

    fn opening(&self) -> Opening<'_> {
        Opening { server: &self.0.server, tls: self.0.tls.as_ref(), hello: &self.0.hello, timeout: self.0.timeout }
    }

    /// The youngest idle connection that is still good, and for how long nobody used it.
    fn take(&self) -> Option<(Duration, Connection)> {
        loop {
            let (since, mut connection) = self.0.idle().connections.pop()?;
            let rested = since.elapsed();
            if rested < self.0.retirement.idle && connection.is_usable() {
                return Some((rested, connection));
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.0.idle();
        idle.connections.push((Instant::now(), connection));
        if !std::mem::replace(&mut idle.reaped, true) {
            tokio::spawn(reap(Arc::downgrade(&self.0)));
        }
    }
}

impl Shared {
    /// Nothing panics while it is held, so a poisoned lock protects sound data.
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that nobody has used for a while, until there are none.
async fn reap(pool: Weak<Shared>) {
    loop {
        let Some(shared) = pool.upgrade() else { return };
        let (aged, next) = {
            let mut idle = shared.idle();
            let young = idle.connections.partition_point(|(since, _)| since.elapsed() >= shared.retirement.idle);
            let aged: Vec<_> = idle.connections.drain(..young).collect();
            let next = idle.connections.first().map(|(since, _)| *since + shared.retirement.idle);
            idle.reaped = next.is_some();
            (aged, next)
        };
        drop(shared);
        join_all(aged.into_iter().map(|(_, connection)| connection.quit())).await;
        let Some(next) = next else { return };
        sleep_until(next).await;
    }
}

fn hello_name(configured: Option<&str>) -> Result<String, SetupError> {
    let fits = |name: &str| (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    match configured {
        Some(name) if fits(name) => Ok(name.to_owned()),
        Some(name) => Err(SetupError::HelloName(name.to_owned())),
        // lettre's default: the machine's name, or [127.0.0.1].
        None => Ok(Some(ClientId::default().to_string())
            .filter(|name| fits(name))
            .unwrap_or_else(|| "[127.0.0.1]".to_owned())),
    }
}
