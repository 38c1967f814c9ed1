//! Mails as their readers see them.

use crate::smtp_server::{Message, SmtpServer};

/// A mail that arrived.
#[derive(Debug, Clone)]
pub struct Mail {
    pub to: String,
    /// With all headers, as it came.
    pub raw: String,
}

impl Mail {
    fn new(message: &Message) -> Self {
        Self { to: message.to.join(", "), raw: String::from_utf8_lossy(&message.data).into_owned() }
    }

    /// A header's value, folded lines joined.
    pub fn header(&self, name: &str) -> String {
        let (head, _) = self.raw.split_once("\r\n\r\n").unwrap();
        let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    }

    /// The plain text.
    pub fn text(&self) -> String {
        let kind = self.header("content-type");
        let (_, boundary) = kind.split_once("boundary=\"").unwrap();
        // A link may be broken before two dashes of its token: they begin no part.
        let delimiter = format!("\r\n--{}", boundary.trim_end_matches('"'));
        let part = self.raw.split(&delimiter).find(|part| part.contains("Content-Type: text/plain")).unwrap();
        let (head, body) = part.split_once("\r\n\r\n").unwrap();
        if head.to_ascii_lowercase().contains("quoted-printable") { unquoted(body) } else { body.to_owned() }
    }

    /// The token in the first link.
    pub fn token(&self) -> String {
        let text = self.text();
        let (_, after) = text.split_once("token=").unwrap_or_else(|| panic!("no link in this mail:\n{text}"));
        after.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.~".contains(*c)).collect()
    }
}

/// RFC 2045, section 6.7.
fn unquoted(text: &str) -> String {
    let text = text.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        if let (b'=', Some(value)) = (byte, hex) {
            bytes.push(value);
            rest = &after[2..];
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The `number`th mail to this address, counted from 1; waits for it.
pub async fn mail_to(server: &SmtpServer, address: &str, number: usize) -> Mail {
    Mail::new(&server.wait_for(address, number).await[number - 1])
}

/// All mails to this address so far.
pub fn mails_to(server: &SmtpServer, address: &str) -> Vec<Mail> {
    server.messages_to(address).iter().map(Mail::new).collect()
}

/// All mails so far.
pub fn mails(server: &SmtpServer) -> Vec<Mail> {
    server.messages().iter().map(Mail::new).collect()
}

#[test]
fn a_token_that_is_broken_before_two_dashes_is_read_whole() {
    let raw = "Content-Type: multipart/alternative;\r\n boundary=\"=_1\"\r\n\r\n--=_1\r\nContent-Type: text/plain\r\n\
               Content-Transfer-Encoding: quoted-printable\r\n\r\nhttps://shop.example/?token=3Dabc=\r\n--def\r\n\
               \r\n--=_1--\r\n";
    let mail = Mail { to: String::new(), raw: raw.to_owned() };
    assert_eq!(mail.token(), "abc--def");
}
