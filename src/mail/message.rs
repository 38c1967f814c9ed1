//! From rendered text to the bytes of one email: RFC 5322 headers, a multipart/alternative body, a DKIM signature if
//! there is a key.
//!
//! Building the same email twice gives the same bytes (but for the time inside a DKIM signature): the `Message-ID` and the
//! MIME boundary come from the email's id, so that a mail sent again after a crash is recognisable as the same one.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use lettre::Address;
use lettre::message::Mailbox;
use url::Host;
use uuid::Uuid;

use self::dkim::Dkim;
use self::headers::Head;
use super::clean::is_printable_ascii;

mod body;
pub mod dkim;
mod headers;

/// The longest address that fits an SMTP path (RFC 5321 section 4.5.3.1.3 and its erratum 1690), in bytes.
const MAX_ADDRESS: usize = 254;
/// The longest display name that is sent, in characters. Names are a person's own text and of any length.
const MAX_NAME: usize = 100;
/// The longest subject that is sent, in characters.
const MAX_SUBJECT: usize = 250;

/// Everything that one email is made of. Holds secrets (links and codes in the bodies), hence no `Debug`.
pub struct Parts<'a> {
    /// The email's id: the left side of its `Message-ID`.
    pub id: Uuid,
    /// What the `Date` header says.
    pub date: DateTime<Utc>,
    /// The sender, in the header and in the envelope.
    pub from: &'a Mailbox,
    /// Where answers go, if not to the sender.
    pub reply_to: Option<&'a Mailbox>,
    /// The recipient's display name, of whatever characters.
    pub to_name: Option<&'a str>,
    /// The recipient's address, as upstream gave it.
    pub to_address: &'a str,
    /// The subject. A line break in it becomes a space.
    pub subject: &'a str,
    /// The plain text form.
    pub text: &'a str,
    /// The HTML form.
    pub html: &'a str,
}

/// Who a message comes from and goes to, as SMTP is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    from: Address,
    to: Address,
}

impl Envelope {
    /// Takes two addresses whose domains may be Unicode; they are written as A-labels (RFC 5891) from here on.
    ///
    /// # Errors
    ///
    /// [`AddressFault`] if one of them cannot stand in an SMTP command.
    pub fn new(from: &Address, to: &Address) -> Result<Self, AddressFault> {
        Ok(Self { from: presentable(from)?, to: presentable(to)? })
    }

    /// The sender: where bounces go.
    pub fn from(&self) -> &str {
        self.from.as_ref()
    }

    /// The one recipient.
    pub fn to(&self) -> &str {
        self.to.as_ref()
    }

    /// Whether an address needs a server that speaks SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.from().is_ascii() && self.to().is_ascii()
    }
}

/// Shows the domains only: addresses are personal data.
impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope(***@{} to ***@{})", self.from.domain(), self.to.domain())
    }
}

/// An email that is ready to be handed over. Holds secrets, hence its `Debug` shows none of it.
pub struct Built {
    /// Who it comes from and goes to.
    pub envelope: Envelope,
    /// With its angle brackets.
    pub message_id: String,
    /// The message with CRLF line ends; ASCII only, unless an address before the `@` is not.
    pub bytes: Vec<u8>,
}

impl Built {
    /// Marks the message as one that nobody has asked for: a sample, sent to try things out. A signature stays good, since
    /// it does not cover the mark.
    #[must_use]
    pub fn marked_as_test(mut self) -> Self {
        self.bytes.splice(0..0, *b"X-Regrant-Test: yes\r\n");
        self
    }
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Built({}, {} bytes)", self.message_id, self.bytes.len())
    }
}

/// Why an address cannot be written to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Not of the form of RFC 5321.
    #[error("{0}")]
    Malformed(String),
    /// Longer than an SMTP path can be.
    #[error("it is {0} bytes long; SMTP takes at most {MAX_ADDRESS}")]
    TooLong(usize),
    /// Legal only inside quotes, and a way to confuse servers that parse carelessly.
    #[error("it holds an angle bracket or a control character")]
    Unsafe,
}

/// Why an email could not be made. All of these are final, and concern this email alone.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The recipient's address.
    #[error("the recipient's address cannot be written to: {0}")]
    Recipient(AddressFault),
    /// The configured sender's address.
    #[error("mail.from (or the site's `from`) cannot send: {0}")]
    Sender(AddressFault),
    /// The configured address for answers.
    #[error("mail.reply_to (or the site's `reply_to`) cannot be answered to: {0}")]
    ReplyTo(AddressFault),
    /// The message could not be put together.
    #[error("the message could not be put together: {0}")]
    Message(#[from] lettre::error::Error),
}

/// Makes the message: multipart/alternative with the text first (RFC 2046 section 5.1.4: best last), marked as sent by a
/// program (RFC 3834) so that no out-of-office note comes back, and signed if there is a key.
///
/// No text given here can start a new header: line breaks and other control characters in names and subject become spaces.
///
/// # Errors
///
/// [`BuildError`], final for this email.
pub fn build(parts: &Parts<'_>, dkim: Option<&Dkim>) -> Result<Built, BuildError> {
    let head = head(parts)?;
    let mut bytes = Vec::with_capacity(body::about(parts.text, parts.html) + 1024);
    if let Some(dkim) = dkim {
        body::alternative(&head.boundary, parts.text, parts.html, &mut bytes);
        let mut message = head.message(bytes)?;
        dkim.sign(&mut message);
        bytes = message.formatted();
    } else {
        head.write(&mut bytes);
        body::alternative(&head.boundary, parts.text, parts.html, &mut bytes);
    }
    let Head { message_id, from, to, .. } = head;
    Ok(Built { envelope: Envelope { from: from.email, to: to.email }, message_id, bytes })
}

fn head(parts: &Parts<'_>) -> Result<Head, BuildError> {
    let to = parts.to_address.trim().parse::<Address>();
    let to = to.map_err(|fault| BuildError::Recipient(AddressFault::Malformed(fault.to_string().to_lowercase())))?;
    let to = mailbox(parts.to_name, &to).map_err(BuildError::Recipient)?;
    let from = mailbox(parts.from.name.as_deref(), &parts.from.email).map_err(BuildError::Sender)?;
    let reply_to = parts.reply_to.map(|reply_to| mailbox(reply_to.name.as_deref(), &reply_to.email)).transpose();
    Ok(Head {
        message_id: format!("<{}@{}>", parts.id, from.email.domain()),
        date: parts.date,
        from,
        to,
        reply_to: reply_to.map_err(BuildError::ReplyTo)?,
        subject: single_line(parts.subject, MAX_SUBJECT).into_owned(),
        // `=_` cannot occur in quoted-printable text, and the id is not known to whoever supplies a name.
        boundary: format!("=_{}", parts.id.simple()),
    })
}

fn mailbox(name: Option<&str>, address: &Address) -> Result<Mailbox, AddressFault> {
    let name = name.map(|name| single_line(name, MAX_NAME)).filter(|name| !name.is_empty());
    Ok(Mailbox::new(name.map(Cow::into_owned), presentable(address)?))
}

/// An address as it can stand in a header and in an SMTP command: its domain in ASCII, nothing in it that ends a path.
fn presentable(address: &Address) -> Result<Address, AddressFault> {
    let ascii = if address.domain().is_ascii() {
        address.clone()
    } else {
        match Host::parse(address.domain()) {
            Ok(Host::Domain(domain)) => Address::new(address.user(), domain)
                .map_err(|fault| AddressFault::Malformed(fault.to_string().to_lowercase()))?,
            _ => return Err(AddressFault::Malformed("invalid email domain".to_owned())),
        }
    };
    let text: &str = ascii.as_ref();
    if text.len() > MAX_ADDRESS {
        return Err(AddressFault::TooLong(text.len()));
    }
    if text.contains(['<', '>']) || text.chars().any(char::is_control) {
        return Err(AddressFault::Unsafe);
    }
    Ok(ascii)
}

/// Text that is safe in a header: one line, bounded, and nothing that a mail reader would decode into something else.
///
/// The bound also keeps lettre's DKIM code, which recurses once a character, within a thread's stack.
fn single_line(text: &str, max: usize) -> Cow<'_, str> {
    // Almost every text is so, and a walk through its characters takes ten times as long.
    if text.len() <= max && is_printable_ascii(text) && !text.contains("=?") {
        return Cow::Borrowed(text.trim());
    }
    let printable = text.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c });
    let mut line: String = printable.take(max + 1).collect();
    if let Some((cut, _)) = line.char_indices().nth(max) {
        line.truncate(cut);
        line.push('…');
    }
    // An ASCII `=?utf-8?…?=` would be sent as it stands and decoded by the reader (RFC 2047).
    Cow::Owned(line.trim().replace("=?", "= ?"))
}

#[cfg(test)]
mod tests;
