//! The way to a mail server: a small SMTP client (RFC 5321) and a pool of its connections.
//!
//! ```text
//! URL ─► Server ─► Pool ──► Connection ──► Wire
//!        where,    how many, EHLO, STARTTLS, bytes, lines,
//!        TLS, who  reuse,    AUTH, MAIL…DATA replies: all
//!                  timeout                  bounded
//! ```
//!
//! The dialogue is our own, because what a client does on a *failure* decides whether mail is lost or doubled: which
//! stage was reached, whether the server spoke, whether a connection may be used again. lettre makes the messages.

mod connection;
mod error;
mod limit;
mod pool;
mod reply;
mod tls;
mod wire;

#[cfg(test)]
#[path = "../../../tests/support/smtp_server/mod.rs"]
mod smtp_server;
#[cfg(test)]
mod tests;

pub use self::error::{Failure, SendError, Stage};
pub use self::pool::{Accepted, Pool, Settings, SetupError};
pub(crate) use self::reply::mask_addresses;
pub use self::tls::TlsError;
