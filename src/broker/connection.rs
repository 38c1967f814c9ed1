//! One connection to the broker: opening it within a bounded time, and being sure that it ends.

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_rs::TokioRuntime;
use lapin::tcp::{AMQPUriTcpExt, OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPUri, SASLMechanism};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use secrecy::{ExposeSecret, SecretString};

use super::error::{self, InvalidUrl};
use super::frame_guard::{self, Guarded, Socket};

/// The largest frame, in bytes, unless the broker allows less: what `RabbitMQ` allows by default. Asked for from the first, so that
/// the client library makes its buffers (32 frames each) once: those that it makes larger later take all of their memory at once.
const FRAME_MAX: u32 = 131_072;
/// Seconds between heartbeats when the URL does not say. A dead peer is noticed after twice as long.
const HEARTBEAT: u16 = 15;
/// For everything from the name lookup to the end of the AMQP handshake, when the URL does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// Where the broker is and how to log in.
#[derive(Clone)]
pub(super) struct Endpoint {
    uri: AMQPUri,
    tls: TlsFiles,
    timeout: Duration,
}

/// The PEM files that RabbitMQ's own URI parameters name; read again at each connect, so that they may be renewed.
#[derive(Clone, Default)]
struct TlsFiles {
    authorities: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

// The URI holds the password.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uri.authority.host, self.uri.authority.port)
    }
}

impl Endpoint {
    pub(super) fn parse(url: &SecretString) -> Result<Self, InvalidUrl> {
        // The parser's own message may repeat the URL, password and all.
        let parsed = url::Url::parse(url.expose_secret()).map_err(|_| InvalidUrl { reason: "it cannot be parsed" })?;
        if !matches!(parsed.scheme(), "amqp" | "amqps") {
            return Err(InvalidUrl { reason: "the scheme is not amqp or amqps" });
        }
        let mut uri: AMQPUri = url.expose_secret().parse().map_err(|_| InvalidUrl {
            reason: "the user, password, virtual host or one of the parameters heartbeat, frame_max, channel_max, \
                     connection_timeout, auth_mechanism is malformed",
        })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        let timeout = uri.query.connection_timeout.map_or(CONNECT_TIMEOUT, Duration::from_millis);
        let file = |name| parsed.query_pairs().find(|(key, _)| key == name).map(|(_, path)| PathBuf::from(&*path));
        let tls = TlsFiles { authorities: file("cacertfile"), certificate: file("certfile"), key: file("keyfile") };
        if tls.certificate.is_some() != tls.key.is_some() {
            return Err(InvalidUrl { reason: "certfile and keyfile belong together" });
        }
        Ok(Self { uri, tls, timeout })
    }

    /// The broker user, when it is the URL that names it and not a certificate.
    pub(super) fn user(&self) -> Option<&str> {
        (self.uri.query.auth_mechanism != Some(SASLMechanism::External))
            .then_some(self.uri.authority.userinfo.username.as_str())
    }

    pub(super) fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Opens a connection.
    ///
    /// lapin runs each connection on a thread of its own, which goes on waiting when the caller gives up: a
    /// broker that accepts and then says nothing would cost a thread an attempt. Hence the [`SocketGuard`].
    pub(super) async fn connect(&self, name: &str) -> Result<(Connection, SocketGuard), Problem> {
        let guard = SocketGuard::default();
        let slot = guard.0.clone();
        let runtime = TokioRuntime::tokio_current();
        let limit = self.timeout;
        let files = self.tls.clone();
        let open = async move |uri: AMQPUri, _| {
            let tls = files.read()?;
            let connecting = uri.connect_with_config_async(tls.as_ref(), &runtime);
            let stream = tokio::time::timeout(limit, connecting).await.map_err(|_| timed_out())??;
            slot.attach(&stream)?;
            Ok(AsyncTcpStream::Plain(Guarded::new(stream)))
        };
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), env!("CARGO_PKG_NAME").into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let connecting = Connection::connector(self.uri.clone(), frame_guard::runtime(), open, properties);
        let connection = match tokio::time::timeout(limit, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(timed_out().into()),
        };
        match connection {
            Ok(connection) => Ok((connection, guard)),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn explain(&self, error: &lapin::Error) -> Problem {
        let user = &self.uri.authority.userinfo.username;
        match error::protocol(error) {
            Some((403, text)) => Problem::lasting(format!(
                "RabbitMQ at {self} refuses the user `{user}`: {text}. Check the user and password in broker.url"
            )),
            Some((530, text)) => Problem::lasting(format!(
                "RabbitMQ at {self} refuses the virtual host `{vhost}` to the user `{user}`: {text}. Check the path of \
                 broker.url, and the permissions (rabbitmqctl set_permissions -p {vhost} {user} …)",
                vhost = self.vhost(),
            )),
            Some((_, text)) => Problem::passing(format!("RabbitMQ at {self} refuses the connection: {text}")),
            None => Problem::passing(format!(
                "RabbitMQ at {self} cannot be reached: {}. Is it running, and is broker.url right?",
                error::explain(error)
            )),
        }
    }
}

impl TlsFiles {
    fn read(&self) -> io::Result<OwnedTLSConfig> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        };
        let authorities = self.authorities.as_deref().map(read).transpose()?;
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some(OwnedIdentity::PKCS8 { pem: read(certificate)?, key: read(key)? }),
            _ => None,
        };
        let cert_chain = authorities.map(|pem| String::from_utf8_lossy(&pem).into_owned());
        Ok(OwnedTLSConfig { identity, cert_chain })
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer within the time limit")
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// For people; holds no password.
    pub(super) text: String,
    /// Whether somebody has to do something first, so that there is no hurry to try again.
    pub(super) lasting: bool,
}

impl Problem {
    pub(super) fn passing(text: String) -> Self {
        Self { text, lasting: false }
    }

    pub(super) fn lasting(text: String) -> Self {
        Self { text, lasting: true }
    }
}

/// Shuts the socket down when dropped, whatever lapin's thread is waiting for.
#[derive(Default)]
pub(super) struct SocketGuard(Slot);

#[derive(Clone, Default)]
struct Slot(Arc<Mutex<SlotState>>);

#[derive(Default)]
enum SlotState {
    #[default]
    Empty,
    Open(TcpStream),
    Shut,
}

impl SocketGuard {
    /// Shuts the socket down now; one that is still being opened, as soon as it is.
    pub(super) fn shut(&self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let SlotState::Open(socket) = std::mem::replace(&mut *state, SlotState::Shut) {
            // Fails only when the peer has closed it already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.shut();
    }
}

impl Slot {
    fn attach(&self, stream: &Socket) -> io::Result<()> {
        let tcp = match stream {
            AsyncTcpStream::Plain(tcp) => tcp,
            AsyncTcpStream::Rustls(tls) => tls.get_ref().0,
            _ => return Err(io::Error::other("neither a plain nor a rustls stream")),
        };
        let duplicate = TcpStream::from(tcp.get_ref().as_fd().try_clone_to_owned()?);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, SlotState::Shut) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *state = SlotState::Open(duplicate);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint, InvalidUrl> {
        Endpoint::parse(&SecretString::from(url))
    }

    #[test]
    fn a_url_gets_the_default_heartbeat_and_time_limit_unless_it_has_its_own() {
        let plain = endpoint("amqp://u:p@host").unwrap();
        assert_eq!((plain.uri.query.heartbeat, plain.timeout), (Some(HEARTBEAT), CONNECT_TIMEOUT));
        assert_eq!(plain.uri.query.frame_max, Some(FRAME_MAX));
        let own = endpoint("amqps://host:1/v?heartbeat=3&connection_timeout=500").unwrap();
        assert_eq!((own.uri.query.heartbeat, own.timeout), (Some(3), Duration::from_millis(500)));
        assert_eq!(own.to_string(), "host:1");
    }

    #[test]
    fn the_user_is_unknown_when_a_certificate_names_it() {
        assert_eq!(endpoint("amqp://u:p@host").unwrap().user(), Some("u"));
        assert_eq!(endpoint("amqps://host?auth_mechanism=external").unwrap().user(), None);
    }

    #[test]
    fn a_bad_url_is_refused_without_repeating_it() {
        for url in ["amqp:hunter2", "http://u:hunter2@host", "hunter2", "amqp://u:hunter2@host?heartbeat=x"] {
            let error = endpoint(url).unwrap_err().to_string();
            assert!(error.contains("broker.url") && !error.contains("hunter2"), "{error}");
        }
        assert!(!format!("{:?}", endpoint("amqp://u:hunter2@host").unwrap()).contains("hunter2"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tries_on_a_broker_that_says_nothing_end_and_leave_no_thread_behind() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting = tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((socket, _)) = listener.accept().await {
                silent.push(socket);
            }
        });
        let endpoint = endpoint(&format!("amqp://u:hunter2@127.0.0.1:{port}?connection_timeout=50")).unwrap();
        for _ in 0..5 {
            let problem = endpoint.connect("test").await.err().unwrap();
            assert!(problem.text.contains("no answer within the time limit"), "{}", problem.text);
            assert!(!problem.lasting && !problem.text.contains("hunter2"));
        }
        let io_threads = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            tasks
                .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
                .filter(|name| name.starts_with("lapin-io-loop"))
                .count()
        };
        let gone = async {
            while io_threads() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), gone).await.is_ok(), "{} threads", io_threads());
        accepting.abort();
    }
}
