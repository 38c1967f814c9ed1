//! Connections that are kept open between mails.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{Connection, Delivered, Health, Opening, Together, is_usable_after};
use super::error::{Failure, SendError, Stage};
use super::limit::ConnectionLimit;
use super::tls::{Tls, TlsError};
use crate::config::smtp_url::{Server, UrlError};
use crate::mail::message::Built;

/// When a connection is given up although it works.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retirement {
    /// The time without use after which it is closed. Servers hang up after five minutes (RFC 5321 section 4.5.3.2.7), many sooner.
    pub idle: Duration,
    /// The number of mails after which it is closed: load balancers before the server get a chance, and servers have limits.
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
    /// `mail.smtp.connections`: how many there may be at once.
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
    limit: Arc<ConnectionLimit>,
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
        let limit = ConnectionLimit::new(settings.connections);
        let (timeout, idle) = (settings.timeout, Mutex::default());
        Ok(Self(Arc::new(Shared { server, tls, hello, timeout, retirement, limit, idle })))
    }

    /// Hands mails to the server, together if that saves waiting; gives what became of each. The timeout counts for each of them, but
    /// not while they wait for one of the connections that there may be at once.
    ///
    /// Cancelling is safe: the connection is dropped with the future. The mails may then have been accepted.
    ///
    /// # Errors
    ///
    /// [`SendError`] says what a failure means for its mail.
    pub async fn send(&self, mails: &[Built]) -> Vec<Result<Accepted, SendError>> {
        let limit = &*self.0.limit;
        let mut turn = limit.turn().await;
        let mut sent = if mails.len() > 1 { self.send_together(mails).await } else { Vec::new() };
        for mail in &mails[sent.len()..] {
            let mut outcome = self.send_one(mail).await;
            while let Err(error) = &outcome
                && error.turned_away
                && limit.turned_away(&error.reply)
            {
                drop(turn);
                turn = limit.turn().await;
                outcome = self.send_one(mail).await;
            }
            sent.push(outcome);
        }
        sent
    }

    async fn send_one(&self, mail: &Built) -> Result<Accepted, SendError> {
        let mut stage = Stage::Connect;
        let outcome = timeout(self.0.timeout, self.dialogue(mail, &mut stage)).await;
        outcome.unwrap_or_else(|_| Err(SendError::timed_out(&self.0.server, stage, self.0.timeout)))
    }

    /// The first of these mails, with fewer waits than one after another; none if no connection is fit for that.
    async fn send_together(&self, mails: &[Built]) -> Vec<Result<Accepted, SendError>> {
        let Some(mut kept) = self.take_lively() else { return Vec::new() };
        let Together { delivered, usable } = kept.deliver_together(mails, &self.0.server, self.0.timeout).await;
        if usable {
            self.keep_or_quit(kept);
        }
        delivered.into_iter().map(accepted).collect()
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
        self.0.limit.usage()
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

    async fn dialogue(&self, mail: &Built, stage: &mut Stage) -> Result<Accepted, SendError> {
        if let Some((rested, mut kept)) = self.take() {
            let health = Health { patience: Some(self.0.timeout / 3), lives: rested < LATELY };
            match kept.deliver(mail, health, stage).await {
                // The server had hung up meanwhile, or does now: that is no verdict on the mail, and it has nothing of it yet.
                Err(error) if error.kind == Failure::Unreachable && *stage != Stage::Content => {
                    tracing::debug!(server = %self.0.server, %error, "kept SMTP connection had gone, opening another");
                }
                outcome => return self.done(kept, outcome),
            }
        }
        let mut fresh = Connection::open(&self.opening(), stage).await?;
        tracing::debug!(server = %self.0.server, "SMTP connection opened");
        let outcome = fresh.deliver(mail, Health { patience: None, lives: true }, stage).await;
        self.done(fresh, outcome)
    }

    fn done(&self, connection: Connection, outcome: Delivered) -> Result<Accepted, SendError> {
        if is_usable_after(&outcome) {
            self.keep_or_quit(connection);
        }
        accepted(outcome)
    }

    fn keep_or_quit(&self, connection: Connection) {
        if connection.sent < self.0.retirement.mails {
            self.keep(connection);
        } else {
            tokio::spawn(connection.quit());
        }
    }

    fn opening(&self) -> Opening<'_> {
        let Shared { server, tls, hello, timeout, limit, .. } = &*self.0;
        Opening { server, tls: tls.as_ref(), hello, timeout: *timeout, limit }
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

    /// The youngest idle connection, if it worked just now and takes several mails at once.
    fn take_lively(&self) -> Option<Connection> {
        let mut idle = self.0.idle();
        let (since, youngest) = idle.connections.last()?;
        if since.elapsed() >= LATELY || !youngest.takes_several() {
            return None;
        }
        let (_, mut connection) = idle.connections.pop()?;
        connection.is_usable().then_some(connection)
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

fn accepted(outcome: Delivered) -> Result<Accepted, SendError> {
    outcome.map(|reply| Accepted { reply: reply.to_string() })
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

/// The configured name; else the machine's host name, or an address if it has none that can be said (RFC 5321 section 4.1.4).
fn hello_name(configured: Option<&str>) -> Result<String, SetupError> {
    let fits = |name: &str| (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    match configured {
        Some(name) if fits(name) => Ok(name.to_owned()),
        Some(name) => Err(SetupError::HelloName(name.to_owned())),
        None => {
            let name = hostname::get().ok().and_then(|name| name.into_string().ok());
            Ok(name.filter(|name| fits(name)).unwrap_or_else(|| "[127.0.0.1]".to_owned()))
        }
    }
}
