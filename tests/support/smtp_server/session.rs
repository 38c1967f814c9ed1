//! One client's session.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Act, Message, Shared, Step};

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

/// Too many connections.
pub async fn turn_away(mut stream: TcpStream) {
    let _ = stream.write_all(b"421 4.7.0 test.example too many connections\r\n").await;
    let _ = stream.shutdown().await;
}

/// Serves one client; `None` when the connection is to be closed.
pub async fn serve(stream: TcpStream, shared: &Shared, number: usize) -> Ended {
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
            "BDAT" => session.chunk(&rest).await?,
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
            Some(Act::Wait(time)) => {
                self.flush().await?;
                tokio::time::sleep(time).await;
                self.reply(proper);
                Some(true)
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
        let before = self.output.len();
        self.answer(Step::StartTls, None, "220 2.0.0 go ahead").await?;
        if !self.output[before..].starts_with(b"220") {
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
        self.take(data).await
    }

    /// The one and only chunk of a message: the daemon never sends more.
    async fn chunk(&mut self, rest: &str) -> Ended {
        let size = rest.strip_suffix(" LAST").and_then(|size| size.parse::<usize>().ok());
        let Some(size) = size.filter(|_| self.shared.options.extensions.contains(&"CHUNKING")) else {
            self.shared.blame(format!("BDAT {rest}"));
            return None;
        };
        match self.shared.fault(Step::Body, None) {
            Some(Act::Drop) => return None,
            Some(Act::Hang) => std::future::pending().await,
            _ => {}
        }
        let mut data = vec![0; size];
        self.stream.read_exact(&mut data).await.ok()?;
        let alone = |(at, byte): (usize, &u8)| match byte {
            b'\r' => data.get(at + 1) != Some(&b'\n'),
            b'\n' => at == 0 || data[at - 1] != b'\r',
            _ => false,
        };
        if data.iter().enumerate().any(alone) {
            self.shared.blame("a bare CR or LF in a message");
        }
        // What was announced is read in any case (RFC 3030 section 2).
        if self.mail.as_ref().is_none_or(|mail| mail.to.is_empty()) {
            self.reply("503 5.5.1 RCPT first");
            return Some(());
        }
        self.take(data).await
    }

    async fn take(&mut self, data: Vec<u8>) -> Ended {
        let mail = self.mail.take()?;
        let fault = self.shared.fault(Step::Content, None);
        if let Some(Act::Reply(text)) = &fault {
            self.reply(text);
            return Some(());
        }
        let count = self.shared.state().take(Message { data, ..mail });
        self.shared.taken.send_replace(count);
        match fault {
            Some(Act::Drop) => return None,
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Wait(time)) => {
                self.flush().await?;
                tokio::time::sleep(time).await;
            }
            Some(Act::Reply(_)) | None => {}
        }
        self.reply(&format!("250 2.0.0 Ok: queued as {count}"));
        Some(())
    }
}

/// `FROM:<a@b> PARAMETERS`
fn path(rest: &str, keyword: &str) -> Option<(String, String)> {
    let rest = rest.strip_prefix(keyword)?.strip_prefix('<')?;
    let (address, parameters) = rest.split_once('>')?;
    Some((address.to_owned(), parameters.trim().to_owned()))
}
