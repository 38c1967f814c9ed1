//! The headers of a message, byte for byte as lettre would write them (a test compares the two).
//!
//! A header of plain ASCII that fits one line is written here; whatever has to be encoded or folded is left to lettre,
//! which takes ten times as long.

use std::io::Write;

use chrono::{DateTime, Datelike, Timelike, Utc};
use lettre::message::header::{
    self, ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue, Headers, MIME_VERSION_1_0,
};
use lettre::message::{Body, Mailbox, Mailboxes, Message};

use crate::mail::clean::is_printable_ascii;

/// The longest line of a header that is not folded.
const LONGEST_LINE: usize = 76;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What the headers say: texts of one line, addresses in their final form.
pub(super) struct Head {
    pub message_id: String,
    pub date: DateTime<Utc>,
    pub from: Mailbox,
    pub to: Mailbox,
    pub reply_to: Option<Mailbox>,
    pub subject: String,
    pub boundary: String,
}

impl Head {
    /// Appends the headers, with the empty line that ends them.
    pub fn write(&self, out: &mut Vec<u8>) {
        line(out, &["Message-ID: ", &self.message_id]);
        date(out, self.date);
        mailbox(out, "From: ", &self.from, header::From::from);
        mailbox(out, "To: ", &self.to, header::To::from);
        subject(out, &self.subject);
        if let Some(reply_to) = &self.reply_to {
            mailbox(out, "Reply-To: ", reply_to, header::ReplyTo::from);
        }
        line(out, &["Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All\r\nMIME-Version: 1.0"]);
        line(out, &["Content-Type: multipart/alternative;\r\n boundary=\"", &self.boundary, "\""]);
        line(out, &["Content-Transfer-Encoding: 7bit\r\n"]);
    }

    /// The whole message as lettre has it, which can be signed.
    pub fn message(&self, body: Vec<u8>) -> Result<Message, lettre::error::Error> {
        let mut message = Message::builder()
            .message_id(Some(self.message_id.clone()))
            // Ours; lettre would read it out of the headers again.
            .envelope(lettre::address::Envelope::new(Some(self.from.email.clone()), vec![self.to.email.clone()])?)
            .date(self.date.into())
            .from(self.from.clone())
            .to(self.to.clone())
            .subject(self.subject.clone());
        if let Some(reply_to) = &self.reply_to {
            message = message.reply_to(reply_to.clone());
        }
        let kind = ContentType::parse(&format!("multipart/alternative; boundary=\"{}\"", self.boundary));
        message
            .raw_header(constant("Auto-Submitted", "auto-generated"))
            .raw_header(constant("X-Auto-Response-Suppress", "All"))
            .header(MIME_VERSION_1_0)
            .header(kind.map_err(|_| lettre::error::Error::NonAsciiChars)?)
            .body(Body::dangerous_pre_encoded(body, ContentTransferEncoding::SevenBit))
    }
}

fn constant(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

fn line(out: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn by_lettre(out: &mut Vec<u8>, header: &impl Header) {
    let mut headers = Headers::new();
    headers.insert_raw(header.display());
    out.extend_from_slice(headers.to_string().as_bytes());
}

fn date(out: &mut Vec<u8>, at: DateTime<Utc>) {
    let (weekday, day, month, year) = (at.weekday(), at.day(), MONTHS[at.month0() as usize % 12], at.year());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    // Writing into memory does not fail.
    let _ = write!(out, "Date: {weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000\r\n");
}

fn mailbox<H: Header>(out: &mut Vec<u8>, label: &str, mailbox: &Mailbox, header: fn(Mailboxes) -> H) {
    let address: &str = mailbox.email.as_ref();
    let Some(name) = &mailbox.name else { return line(out, &[label, address]) };
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if label.len() + 1 + name.len() > LONGEST_LINE || !name.bytes().all(|byte| is_word(byte) || byte == b' ') {
        by_lettre(out, &header(mailbox.clone().into()));
    } else if name.contains(' ') {
        line(out, &[label, "\"", name, "\" <", address, ">"]);
    } else {
        line(out, &[label, name, " <", address, ">"]);
    }
}

fn subject(out: &mut Vec<u8>, subject: &str) {
    const LABEL: &str = "Subject: ";
    if LABEL.len() + subject.len() <= LONGEST_LINE && is_printable_ascii(subject) {
        line(out, &[LABEL, subject]);
    } else {
        by_lettre(out, &header::Subject::from(subject.to_owned()));
    }
}
