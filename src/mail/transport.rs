//! Where finished messages go: to a mail server, or into files.

use secrecy::ExposeSecret;
use uuid::Uuid;

use super::message::Built;
use super::smtp;
use crate::config;

pub mod file;

pub use self::file::FileOutbox;
pub use super::smtp::{Accepted, Failure, SendError, Stage};

/// The configured way out.
#[derive(Clone)]
pub enum Transport {
    /// `mail.transport = "smtp"`.
    Smtp(smtp::Pool),
    /// `mail.transport = "file"`: for trying things out.
    File(FileOutbox),
}

/// Why there is no way out; names the setting at fault.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TransportError(#[from] smtp::SetupError);

impl Transport {
    /// Prepares the way out; connects to nothing and writes nothing yet.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if section `mail.smtp` cannot be used as it stands.
    pub fn from_config(mail: &config::Mail) -> Result<Self, TransportError> {
        Ok(match mail.transport {
            config::Transport::File => Self::File(FileOutbox::new(mail.file.directory.clone())),
            config::Transport::Smtp => Self::Smtp(smtp::Pool::new(&smtp::Settings {
                url: mail.smtp.url.expose_secret(),
                connections: mail.smtp.connections,
                timeout: mail.smtp.timeout,
                hello_name: mail.smtp.hello_name.as_deref(),
            })?),
        })
    }

    /// Hands messages over, and gives what became of each. The ids are the emails', and name their files.
    ///
    /// Cancelling is safe: the connection is dropped with the future. The mails may then have been accepted.
    ///
    /// # Errors
    ///
    /// [`SendError`] says what a failure means for its mail.
    pub async fn send(&self, ids: &[Uuid], mails: &[Built]) -> Vec<Result<Accepted, SendError>> {
        match self {
            Self::Smtp(pool) => pool.send(mails).await,
            Self::File(outbox) => {
                let mut written = Vec::with_capacity(mails.len());
                for (id, mail) in ids.iter().zip(mails) {
                    written.push(outbox.write(*id, &mail.bytes).await);
                }
                written
            }
        }
    }

    /// Goes as far as a mail would, without one: connects, encrypts, signs in; or tries that files can be written.
    /// Gives what was found, for people.
    ///
    /// # Errors
    ///
    /// [`SendError`] says what stands in the way.
    pub async fn check(&self) -> Result<String, SendError> {
        match self {
            Self::Smtp(pool) => pool.check().await,
            Self::File(outbox) => outbox.check().await,
        }
    }

    /// How many mails are being handed over, and how many can be at once; 0 where there is no such limit.
    pub fn usage(&self) -> (usize, usize) {
        match self {
            Self::Smtp(pool) => pool.usage(),
            Self::File(_) => (0, 0),
        }
    }

    /// Asks whether mails from `sender` would be taken. Sends none.
    ///
    /// # Errors
    ///
    /// [`SendError`] says what stands in the way.
    pub async fn offer(&self, sender: &str) -> Result<(), SendError> {
        match self {
            Self::Smtp(pool) => pool.offer(sender).await,
            Self::File(_) => Ok(()),
        }
    }

    /// Closes what is kept open, politely. More can be sent all the same.
    pub async fn close(&self) {
        if let Self::Smtp(pool) = self {
            pool.close().await;
        }
    }
}
