//! Messages as `.eml` files, which mail programs open.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use tokio::fs;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::mail::smtp::{Accepted, Failure, SendError, Stage};

/// A directory that messages are written to.
#[derive(Debug, Clone)]
pub struct FileOutbox {
    directory: PathBuf,
}

impl FileOutbox {
    /// The directory is made when the first message comes.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Writes a message under its name, whole or not at all. The same email again replaces its file.
    ///
    /// # Errors
    ///
    /// [`SendError`] of the kind `Unreachable`: the disk's fault, not the mail's.
    pub async fn write(&self, id: Uuid, message: &[u8]) -> Result<Accepted, SendError> {
        let path = self.directory.join(name(id));
        self.replace(&path, message).await.map_err(|error| fault(&path, &error))?;
        Ok(Accepted { reply: format!("written to {}", path.display()) })
    }

    /// Tries that files can be written, and leaves nothing behind: a directory that somebody else made, the daemon may not
    /// be able to write to.
    ///
    /// # Errors
    ///
    /// [`SendError`] of the kind `Unreachable` names the directory.
    pub async fn check(&self) -> Result<String, SendError> {
        let attempt = async {
            let place = self.nearest().await?;
            let probe = place.join(temporary());
            create_private(&probe).await?;
            fs::remove_file(&probe).await?;
            Ok(place == self.directory)
        };
        let is_there = attempt.await.map_err(|error| fault(&self.directory, &error))?;
        let later = if is_there { "" } else { ", which is made with the first one" };
        Ok(format!("mails are written to {}{later}", self.directory.display()))
    }

    /// The directory, or the nearest one above it that there is.
    async fn nearest(&self) -> io::Result<&Path> {
        let mut place = self.directory.as_path();
        loop {
            match fs::metadata(place).await {
                Ok(_) => return Ok(place),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            place = place.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        }
    }

    async fn replace(&self, path: &Path, message: &[u8]) -> io::Result<()> {
        self.create().await?;
        let partial = self.directory.join(temporary());
        let written = async {
            let mut file = create_private(&partial).await?;
            file.write_all(message).await?;
            // Without it, the last write may still be under way when the file is renamed.
            file.flush().await?;
            drop(file);
            fs::rename(&partial, path).await
        };
        let written = written.await;
        if written.is_err() {
            let _ = fs::remove_file(&partial).await;
        }
        written
    }

    async fn create(&self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        builder.mode(0o700);
        builder.create(&self.directory).await
    }
}

/// The mails hold links that open accounts: for their owner's eyes only.
async fn create_private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    options.open(path).await
}

/// `20261122T034500.123Z-<id>.eml`. The time is the id's own, so that the name stays the same when the mail is sent again.
fn name(id: Uuid) -> String {
    let time = id.get_timestamp().map(|timestamp| timestamp.to_unix());
    let time = time.and_then(|(seconds, nanos)| chrono::DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos));
    match time {
        Some(time) => format!("{}-{id}.eml", time.format("%Y%m%dT%H%M%S%.3fZ")),
        None => format!("{id}.eml"),
    }
}

/// A name that nobody else uses: several daemons may share the directory, all with the same process id in their containers.
fn temporary() -> String {
    format!(".{:016x}.partial", RandomState::new().build_hasher().finish())
}

fn fault(path: &Path, error: &io::Error) -> SendError {
    let what = format!("cannot write {}: {error}; see mail.file.directory", path.display());
    SendError::new(Failure::Unreachable, Stage::File, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn id() -> Uuid {
        uuid::Builder::from_unix_timestamp_millis(1_763_780_700_123, &[7; 10]).into_uuid()
    }

    #[tokio::test]
    async fn a_mail_is_one_private_file_however_often_it_is_sent() {
        let home = tempfile::tempdir().unwrap();
        let outbox = FileOutbox::new(home.path().join("a/outbox"));
        outbox.write(id(), b"first").await.unwrap();
        let accepted = outbox.write(id(), b"second").await.unwrap();

        let files: Vec<_> = std::fs::read_dir(home.path().join("a/outbox")).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 1);
        let file = files[0].path();
        assert_eq!(file.file_name().unwrap().to_str().unwrap(), format!("20251122T030500.123Z-{}.eml", id()));
        assert_eq!(accepted.reply, format!("written to {}", file.display()));
        assert_eq!(std::fs::read(&file).unwrap(), b"second");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(home.path().join("a/outbox").metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_is_not_the_mails_fault() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        let outbox = FileOutbox::new(file.clone());
        for error in [outbox.write(id(), b"x").await.unwrap_err(), outbox.check().await.unwrap_err()] {
            assert_eq!((error.kind, error.stage), (Failure::Unreachable, Stage::File));
            assert!(
                error.reply.contains(file.to_str().unwrap()) && error.reply.contains("mail.file.directory"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_check_leaves_nothing_behind() {
        let home = tempfile::tempdir().unwrap();
        let left = || std::fs::read_dir(home.path()).unwrap().count();
        let outbox = FileOutbox::new(home.path().join("a/outbox"));
        assert!(outbox.check().await.unwrap().contains("a/outbox, which is made with the first one"));
        assert_eq!(left(), 0);
        outbox.write(id(), b"first").await.unwrap();
        assert!(outbox.check().await.unwrap().ends_with("a/outbox"));
        assert_eq!((left(), std::fs::read_dir(home.path().join("a/outbox")).unwrap().count()), (1, 1));
        // A relative path begins in the directory in which the program was started.
        assert!(FileOutbox::new("no-such-outbox/here".into()).check().await.is_ok());
        assert!(!Path::new("no-such-outbox").exists());
    }
}
