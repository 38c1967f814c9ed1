//! An SMTP server on loopback that keeps every message, insists on the protocol, and fails on demand.
//!
//! Real sockets, real TLS; what it leaves out of RFC 5321 answers 502. Each server has a port of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

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
}

#[derive(Debug, Clone)]
struct Fault {
    step: Step,
    act: Act,
    /// Only for this recipient.
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
    violations: Vec<String>,
    connections: usize,
    open: usize,
    quits: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, step: Step, recipient: Option<&str>) -> Option<Act> {
        let mut state = self.state();
        let at = state.faults.iter().position(|fault| {
            fault.step == step && fault.left != Some(0) && (fault.only.is_none() || fault.only.as_deref() == recipient)
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
        self.messages().into_iter().filter(|message| message.to.iter().any(|to| to == recipient)).collect()
    }

    /// Everything a client did that RFC 5321 and its extensions forbid.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
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
        let to = |state: &State| state.messages.iter().filter(|message| message.to.iter().any(|to| to == recipient)).count();
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
            state.connections += 1;
            state.open += 1;
            state.connections - 1
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = session(stream, &shared, number) => {}
                _ = cut.changed() => {}
            }
            shared.state().open -= 1;
        });
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Ended = Option<()>;

struct Session<'a> {
    shared: &'a Shared,
    stream: BufReader<Box<dyn Stream>>,
    /// Replies to pipelined commands, sent together.
    output: Vec<u8>,
    encrypted: bool,
    greeted: bool,
    user: Option<String>,
    mail: Option<Message>,
    number: usize,
}

/// Serves one client; `None` when the connection is to be closed.
async fn session(stream: TcpStream, shared: &Shared, number: usize) -> Ended {
    stream.set_nodelay(true).ok()?;
    let mut io: Box<dyn Stream> = Box::new(stream);
    if shared.options.implicit_tls {
        io = Box::new(shared.acceptor.as_ref()?.accept(io).await.ok()?);
    }
    let mut session = Session {
        shared,
        stream: BufReader::with_capacity(64 * 1024, io),
        output: Vec::new(),
        encrypted: shared.options.implicit_tls,
        greeted: false,
        user: None,
        mail: None,
        number,
    };
    session.answer(Step::Greeting, None, "220 test.example ESMTP").await?;
    session.flush().await?;
    loop {
        let line = session.line().await?;
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let rest = rest.to_owned();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => session.ehlo().await?,
            "STARTTLS" => session = session.starttls().await?,
            "AUTH" => session.auth(&rest).await?,
            "MAIL" => session.mail_from(&rest).await?,
            "RCPT" => session.rcpt_to(&rest).await?,
            "DATA" => session.data().await?,
            "RSET" => {
                session.mail = None;
                session.answer(Step::Reset, None, "250 2.0.0 reset").await?;
            }
            "QUIT" => {
                shared.state().quits += 1;
                session.reply("221 2.0.0 bye");
                session.flush().await?;
                return None;
            }
            other => {
                shared.blame(format!("unknown command {other}"));
                session.reply("502 5.5.2 unknown command");
            }
        }
        if session.stream.buffer().is_empty() {
            session.flush().await?;
        } else if !shared.options.extensions.contains(&"PIPELINING") {
            shared.blame(format!("pipelined after {line}"));
        }
    }
}

impl Session<'_> {
    fn reply(&mut self, text: &str) {
        self.output.extend_from_slice(text.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    async fn flush(&mut self) -> Ended {
        self.stream.get_mut().write_all(&self.output).await.ok()?;
        self.stream.get_mut().flush().await.ok()?;
        self.output.clear();
        Some(())
    }

    /// Gives the proper answer or the wanted fault; whether it was the proper one.
    async fn answer(&mut self, step: Step, recipient: Option<&str>, proper: &str) -> Option<bool> {
        match self.shared.fault(step, recipient) {
            None => {
                self.reply(proper);
                Some(true)
            }
            Some(Act::Reply(text)) => {
                self.reply(&text);
                Some(false)
            }
            Some(Act::Hang) => {
                self.flush().await?;
                std::future::pending().await
            }
            Some(Act::Drop) => {
                self.flush().await?;
                None
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8(line).ok()?;
        let Some(text) = text.strip_suffix("\r\n") else {
            self.shared.blame(format!("no CRLF after {text:?}"));
            return None;
        };
        if text.contains(['\r', '\0']) || text.len() > 1000 {
            self.shared.blame(format!("a malformed line {text:?}"));
        }
        Some(text.to_owned())
    }

    async fn ehlo(&mut self) -> Ended {
        let options = &self.shared.options;
        let mut lines = vec!["test.example greets you"];
        lines.extend(&options.extensions);
        if options.starttls && !self.encrypted {
            lines.push("STARTTLS");
        }
        let auth = options.auth.map(|mechanisms| format!("AUTH {mechanisms}"));
        lines.extend(auth.as_deref());
        let last = lines.len() - 1;
        let lines = lines.iter().enumerate().map(|(n, line)| format!("250{}{line}", if n == last { ' ' } else { '-' }));
        let proper = lines.collect::<Vec<_>>().join("\r\n");
        self.greeted = self.answer(Step::Ehlo, None, &proper).await?;
        Some(())
    }

    async fn starttls(mut self) -> Option<Self> {
        let acceptor = self.shared.acceptor.clone().filter(|_| self.shared.options.starttls && !self.encrypted);
        let Some(acceptor) = acceptor else {
            self.shared.blame("STARTTLS that was not offered");
            self.reply("502 5.5.1 no");
            return Some(self);
        };
        if !self.answer(Step::StartTls, None, "220 2.0.0 go ahead").await? {
            return Some(self);
        }
        self.flush().await?;
        let stream = acceptor.accept(self.stream.into_inner()).await.ok()?;
        let stream: Box<dyn Stream> = Box::new(stream);
        Some(Self { stream: BufReader::with_capacity(64 * 1024, stream), encrypted: true, greeted: false, ..self })
    }

    async fn auth(&mut self, rest: &str) -> Ended {
        let decode = |text: &str| STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let given = match mechanism {
            "PLAIN" => {
                let text = decode(initial)?;
                let mut fields = text.split('\0').skip(1).map(str::to_owned);
                (fields.next()?, fields.next()?)
            }
            "LOGIN" => {
                self.reply("334 VXNlcm5hbWU6");
                self.flush().await?;
                let user = decode(&self.line().await?)?;
                self.reply("334 UGFzc3dvcmQ6");
                self.flush().await?;
                (user, decode(&self.line().await?)?)
            }
            _ => {
                self.reply("504 5.5.4 unknown mechanism");
                return Some(());
            }
        };
        let (user, password) = self.shared.options.credentials;
        let good = given == (user.to_owned(), password.to_owned());
        let proper = if good { "235 2.7.0 welcome" } else { "535 5.7.8 wrong user name or password" };
        if self.answer(Step::Auth, None, proper).await? && good {
            self.user = Some(given.0);
        }
        Some(())
    }

    async fn mail_from(&mut self, rest: &str) -> Ended {
        let Some((from, parameters)) = path(rest, "FROM:") else {
            self.shared.blame(format!("MAIL {rest}"));
            self.reply("501 5.5.4 syntax");
            return Some(());
        };
        if !self.greeted || self.mail.is_some() {
            self.shared.blame("MAIL out of order");
            self.reply("503 5.5.1 out of order");
            return Some(());
        }
        if self.shared.options.auth.is_some() && self.user.is_none() {
            self.reply("530 5.7.0 Authentication required");
            return Some(());
        }
        if self.answer(Step::Mail, None, "250 2.1.0 sender ok").await? {
            self.mail = Some(Message {
                from,
                to: Vec::new(),
                parameters,
                data: Vec::new(),
                encrypted: self.encrypted,
                user: self.user.clone(),
                connection: self.number,
            });
        }
        Some(())
    }

    async fn rcpt_to(&mut self, rest: &str) -> Ended {
        let Some((to, _)) = path(rest, "TO:") else {
            self.shared.blame(format!("RCPT {rest}"));
            self.reply("501 5.5.4 syntax");
            return Some(());
        };
        if self.mail.is_none() {
            self.reply("503 5.5.1 MAIL first");
            return Some(());
        }
        if self.answer(Step::Rcpt, Some(&to), "250 2.1.5 recipient ok").await?
            && let Some(mail) = &mut self.mail
        {
            mail.to.push(to);
        }
        Some(())
    }

    async fn data(&mut self) -> Ended {
        if self.mail.as_ref().is_none_or(|mail| mail.to.is_empty()) {
            self.reply("503 5.5.1 RCPT first");
            return Some(());
        }
        if !self.answer(Step::Data, None, "354 go on").await? {
            return Some(());
        }
        self.flush().await?;
        match self.shared.fault(Step::Body, None) {
            Some(Act::Drop) => return None,
            Some(Act::Hang) => std::future::pending().await,
            _ => {}
        }
        let mut data = Vec::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.stream.read_until(b'\n', &mut line).await.ok()? == 0 {
                return None;
            }
            if line == b".\r\n" {
                break;
            }
            if !line.ends_with(b"\r\n") || line[..line.len() - 2].contains(&b'\r') {
                self.shared.blame("a bare CR or LF in a message");
            }
            data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
        let mail = self.mail.take()?;
        let fault = self.shared.fault(Step::Content, None);
        if let Some(Act::Reply(text)) = &fault {
            self.reply(text);
            return Some(());
        }
        let count = {
            let mut state = self.shared.state();
            state.messages.push(Message { data, ..mail });
            state.messages.len()
        };
        self.shared.taken.send_replace(count);
        match fault {
            Some(Act::Drop) => None,
            Some(Act::Hang) => std::future::pending().await,
            _ => {
                self.reply(&format!("250 2.0.0 Ok: queued as {count}"));
                Some(())
            }
        }
    }
}

/// `FROM:<a@b> PARAMETERS`
fn path(rest: &str, keyword: &str) -> Option<(String, String)> {
    let rest = rest.strip_prefix(keyword)?.strip_prefix('<')?;
    let (address, parameters) = rest.split_once('>')?;
    Some((address.to_owned(), parameters.trim().to_owned()))
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
