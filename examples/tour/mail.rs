//! The mails that `transport = "file"` wrote. Just enough MIME (RFC 2045, 2046, 2047) to read them as a mail program
//! would; it takes what it does not understand as it stands.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::time::{Instant, sleep};

use crate::Failure;

const PATIENCE: Duration = Duration::from_secs(20);

/// The directory of the mails.
pub struct Outbox(PathBuf);

/// A mail that was sent.
pub struct Mail {
    /// Where it lies.
    pub path: PathBuf,
    /// The address that it went to.
    pub to: String,
    /// Its subject.
    pub subject: String,
    /// The text form of its body.
    pub text: String,
}

/// The link that a mail is sent for.
pub struct Link {
    /// All of it.
    pub url: String,
    /// What the page behind it sends back.
    pub token: String,
}

impl Outbox {
    /// The mails of this directory, which need not exist yet.
    pub const fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The mail with this email id, which ends the name of its file.
    pub async fn mail(&self, email_id: &str) -> Result<Mail, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(path) = self.find(email_id)? {
                return Mail::read(&path);
            }
            if Instant::now() > deadline {
                let (directory, seconds) = (self.0.display(), PATIENCE.as_secs());
                return Err(format!("no mail {email_id} in {directory} after {seconds} s").into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn find(&self, email_id: &str) -> Result<Option<PathBuf>, Failure> {
        let ending = format!("{email_id}.eml");
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{} cannot be read: {error}", self.0.display()).into()),
        };
        for entry in entries {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(&ending) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

impl Mail {
    fn read(path: &Path) -> Result<Self, Failure> {
        let raw = std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let part = Part::parse(&String::from_utf8_lossy(&raw));
        let text = part.text().ok_or_else(|| format!("{} has no text form", path.display()))?;
        let header = |name| decode_words(part.header(name).unwrap_or_default());
        Ok(Self { path: path.to_owned(), to: header("to"), subject: header("subject"), text })
    }

    /// The first address in the text that holds a token.
    pub fn link(&self) -> Result<Link, Failure> {
        let url = self.text.split_whitespace().find(|word| word.starts_with("http") && word.contains("token="));
        let url = url.ok_or_else(|| format!("no link with a token in {}", self.path.display()))?;
        let token = url.split_once("token=").map(|(_, rest)| rest.split('&').next().unwrap_or(rest));
        Ok(Link { url: url.to_owned(), token: token.unwrap_or_default().to_owned() })
    }
}

/// A message, or a part of one.
struct Part {
    /// Names in lower case; folded lines joined.
    headers: Vec<(String, String)>,
    body: String,
}

impl Part {
    fn parse(raw: &str) -> Self {
        let raw = raw.replace("\r\n", "\n");
        let (head, body) = raw.split_once("\n\n").unwrap_or((&raw, ""));
        let head = head.replace("\n ", " ").replace("\n\t", " ");
        let headers = head.lines().filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned())).collect();
        Self { headers, body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The first `text/plain` in it, decoded.
    fn text(&self) -> Option<String> {
        let kind = self.header("content-type").unwrap_or("text/plain");
        let is = |prefix: &str| kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if is("multipart/") {
            let boundary = format!("--{}", parameter(kind, "boundary")?);
            let parts = self.body.split(&boundary).skip(1);
            return parts.map(|part| Self::parse(part.trim_start_matches('\n'))).find_map(|part| part.text());
        }
        is("text/plain").then(|| self.decoded())
    }

    fn decoded(&self) -> String {
        let bytes = match self.header("content-transfer-encoding").map(str::to_lowercase).as_deref() {
            Some("quoted-printable") => quoted_printable(&self.body),
            Some("base64") => base64(&self.body),
            _ => return self.body.clone(),
        };
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// `boundary` of `multipart/alternative; boundary="x"`.
fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = value.split(';').skip(1).filter_map(|parameter| parameter.trim().split_once('='));
    parameters.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_matches('"'))
}

fn base64(text: &str) -> Vec<u8> {
    let compact: String = text.split_whitespace().collect();
    BASE64_STANDARD.decode(&compact).unwrap_or(compact.into_bytes())
}

/// `=C3=A9`, and `=` before a line's end.
fn quoted_printable(text: &str) -> Vec<u8> {
    let joined = text.replace("=\n", "");
    let mut decoded = Vec::with_capacity(joined.len());
    let mut rest = joined.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'=');
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    decoded
}

/// Header text with its encoded words (`=?utf-8?q?caf=C3=A9?=`) read. The space between two of them is no space.
fn decode_words(text: &str) -> String {
    let mut decoded = String::new();
    let mut last_was_encoded = false;
    for word in text.split(' ') {
        let encoded = decode_word(word);
        let together = last_was_encoded && encoded.is_some();
        last_was_encoded = encoded.is_some();
        if !decoded.is_empty() && !together {
            decoded.push(' ');
        }
        decoded.push_str(encoded.as_deref().unwrap_or(word));
    }
    decoded
}

fn decode_word(word: &str) -> Option<String> {
    let mut fields = word.strip_prefix("=?")?.strip_suffix("?=")?.splitn(3, '?').skip(1);
    let bytes = match (fields.next()?, fields.next()?) {
        ("b" | "B", text) => base64(text),
        ("q" | "Q", text) => quoted_printable(&text.replace('_', " ")),
        _ => return None,
    };
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
