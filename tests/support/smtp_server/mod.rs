//! An SMTP server on loopback that keeps every message, insists on the protocol, and fails on demand.
//!
//! Real sockets, real TLS; what it leaves out of RFC 5321 answers 502. Each server has a port of its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

mod session;

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Greeting,
    Ehlo,
    StartTls,
    Auth,
    Reset,
    Mail,
    Rcpt,
    Data,
    /// While the message comes in.
    Body,
    /// After the whole message has come in, in place of the last reply.
    Content,
}

#[derive(Debug, Clone)]
enum Act {
    /// Sent as it stands, with CRLF, instead of the proper answer.
    Reply(String),
    /// Silence, with the connection open.
    Hang,
    /// The connection is closed. At `Content` the message is kept nevertheless.
    Drop,
    /// The proper answer, later.
    Wait(Duration),
}

#[derive(Debug, Clone)]
struct Fault {
    step: Step,
    act: Act,
    /// Only for this recipient, or for those whose address ends so: `@slow.example`.
    only: Option<String>,
    /// How often; `None` is for ever.
    left: Option<usize>,
}

/// What kind of server to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Lines of the EHLO answer, without STARTTLS and AUTH.
    pub extensions: Vec<&'static str>,
    /// STARTTLS is offered.
    pub starttls: bool,
    /// TLS from the first byte.
    pub implicit_tls: bool,
    /// AUTH is offered with these mechanisms, and MAIL refused without.
    pub auth: Option<&'static str>,
    /// User name and password.
    pub credentials: (&'static str, &'static str),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            extensions: vec!["8BITMIME", "SMTPUTF8", "PIPELINING", "SIZE 10000000"],
            starttls: false,
            implicit_tls: false,
            auth: None,
            credentials: ("user", "pass"),
        }
    }
}

/// A message that was taken.
#[derive(Debug, Clone)]
pub struct Message {
    pub from: String,
    pub to: Vec<String>,
    /// What followed the address in MAIL.
    pub parameters: String,
    /// Without dot-stuffing.
    pub data: Vec<u8>,
    pub encrypted: bool,
    pub user: Option<String>,
    /// Counted from 0.
    pub connection: usize,
}

/// A running server. It ends when dropped.
pub struct SmtpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    options: Options,
    acceptor: Option<TlsAcceptor>,
    ca: String,
    state: Mutex<State>,
    /// The number of messages taken.
    taken: watch::Sender<usize>,
    /// Changes when all connections are to be cut.
    cut: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    messages: Vec<Message>,
    /// Where in `messages` those to each recipient are.
    by_recipient: HashMap<String, Vec<usize>>,
    violations: Vec<String>,
    connections: usize,
    /// The largest number of connections at once.
    most: Option<usize>,
    turned_away: usize,
    open: usize,
    quits: usize,
}

impl State {
    fn take(&mut self, message: Message) -> usize {
        for to in &message.to {
            self.by_recipient.entry(to.clone()).or_default().push(self.messages.len());
        }
        self.messages.push(message);
        self.messages.len()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, step: Step, recipient: Option<&str>) -> Option<Act> {
        let mut state = self.state();
        let at = state.faults.iter().position(|fault| {
            let concerned = fault.only.as_deref().is_none_or(|only| recipient.is_some_and(|to| to.ends_with(only)));
            fault.step == step && fault.left != Some(0) && concerned
        })?;
        let fault = &mut state.faults[at];
        if let Some(left) = &mut fault.left {
            *left -= 1;
        }
        Some(fault.act.clone())
    }

    fn blame(&self, what: impl Into<String>) {
        self.state().violations.push(what.into());
    }
}

impl SmtpServer {
    /// A server without TLS and AUTH, with the usual extensions.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let (acceptor, ca) = if options.starttls || options.implicit_tls {
            let (acceptor, ca) = certificates();
            (Some(acceptor), ca)
        } else {
            (None, String::new())
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            options,
            acceptor,
            ca,
            state: Mutex::default(),
            taken: watch::Sender::new(0),
            cut: watch::Sender::new(()),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// PEM of the authority that signed the certificate, which is for `localhost` and 127.0.0.1.
    pub fn ca_pem(&self) -> &str {
        &self.shared.ca
    }

    pub fn messages(&self) -> Vec<Message> {
        self.shared.state().messages.clone()
    }

    pub fn messages_to(&self, recipient: &str) -> Vec<Message> {
        let state = self.shared.state();
        let places = state.by_recipient.get(recipient).into_iter().flatten();
        places.map(|at| state.messages[*at].clone()).collect()
    }

    /// Everything a client did that RFC 5321 and its extensions forbid.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
    }

    /// Lets clients have so many connections at once.
    pub fn limit_connections(&self, most: usize) {
        self.shared.state().most = Some(most);
    }

    /// Connections beyond the limit.
    pub fn turned_away(&self) -> usize {
        self.shared.state().turned_away
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Clients that said goodbye.
    pub fn quits(&self) -> usize {
        self.shared.state().quits
    }

    /// Answers RCPT with `reply`, for all recipients or for one only.
    pub fn refuse_rcpt(&self, reply: &str, only: Option<&str>) {
        self.add(Step::Rcpt, Act::Reply(reply.to_owned()), only, None);
    }

    pub fn reply_at(&self, step: Step, reply: &str) {
        self.add(step, Act::Reply(reply.to_owned()), None, None);
    }

    pub fn reply_once_at(&self, step: Step, reply: &str) {
        self.add(step, Act::Reply(reply.to_owned()), None, Some(1));
    }

    pub fn hang_at(&self, step: Step) {
        self.add(step, Act::Hang, None, None);
    }

    /// Never answers RCPT for these recipients.
    pub fn hang_at_rcpt(&self, only: &str) {
        self.add(Step::Rcpt, Act::Hang, Some(only), None);
    }

    /// Answers as it should, but takes its time.
    pub fn wait_at(&self, step: Step, time: Duration) {
        self.add(step, Act::Wait(time), None, None);
    }

    pub fn hang_once_at(&self, step: Step) {
        self.add(step, Act::Hang, None, Some(1));
    }

    pub fn drop_at(&self, step: Step) {
        self.add(step, Act::Drop, None, None);
    }

    pub fn drop_once_at(&self, step: Step) {
        self.add(step, Act::Drop, None, Some(1));
    }

    fn add(&self, step: Step, act: Act, only: Option<&str>, left: Option<usize>) {
        self.shared.state().faults.push(Fault { step, act, only: only.map(str::to_owned), left });
    }

    /// No faults any more.
    pub fn heal(&self) {
        self.shared.state().faults.clear();
    }

    /// Closes all connections without a word, and waits until they are.
    pub async fn cut(&self) {
        self.shared.cut.send_replace(());
        self.until(|state| state.open == 0).await;
    }

    /// Waits until `count` messages to `recipient` have come; panics after 20 s.
    pub async fn wait_for(&self, recipient: &str, count: usize) -> Vec<Message> {
        let to = |state: &State| state.by_recipient.get(recipient).map_or(0, Vec::len);
        self.until(|state| to(state) >= count).await;
        self.messages_to(recipient)
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        let mut taken = self.shared.taken.subscribe();
        let reached = async {
            while !condition(&self.shared.state()) {
                let _ = tokio::time::timeout(Duration::from_millis(10), taken.changed()).await;
            }
        };
        let outcome = tokio::time::timeout(Duration::from_secs(20), reached).await;
        assert!(outcome.is_ok(), "the SMTP server waited 20 s in vain");
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.cut.send_replace(());
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let mut cut = shared.cut.subscribe();
        let number = {
            let mut state = shared.state();
            if state.most.is_some_and(|most| state.open >= most) {
                state.turned_away += 1;
                drop(state);
                tokio::spawn(session::turn_away(stream));
                continue;
            }
            state.connections += 1;
            state.open += 1;
            state.connections - 1
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = session::serve(stream, &shared, number) => {}
                _ = cut.changed() => {}
            }
            shared.state().open -= 1;
        });
    }
}

fn certificates() -> (TlsAcceptor, String) {
    let made = || -> Result<_, rcgen::Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let ca = authority.self_signed(&authority_key)?.pem();
        let key = KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names)?.signed_by(&key, &Issuer::new(authority, authority_key))?;
        Ok((leaf.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()), ca))
    };
    let (leaf, key, ca) = made().expect("certificates can be made");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![leaf], key))
        .expect("a fresh certificate fits its key");
    (TlsAcceptor::from(Arc::new(config)), ca)
}
