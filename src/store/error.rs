//! What the database says when something goes wrong, sorted by what to do about it.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::keys::EncryptError;

/// What went wrong, sorted by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server is away, refuses, or is read-only: wait and try again; nobody's fault.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Somebody else was first (a unique key, a deadlock): the same again will see what they did.
    #[error("another transaction was first: {0}")]
    Conflict(String),
    /// Somebody else keeps locked what the statement needs: again when they are done; nobody's fault.
    #[error("somebody else keeps it locked: {0}")]
    Locked(String),
    /// The statement itself fails, or what it would write cannot be made.
    #[error("a database statement failed: {0}")]
    Failed(String),
}

impl Error {
    /// Whether waiting for the server is what to do.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// Whether something is not there or not allowed: to everybody, or to this one statement, says [`super::health::is_prepared`].
    pub fn is_of_something_missing(&self) -> bool {
        matches!(self, Self::Unavailable(text) if says(text, &UNPREPARED))
    }

    /// Whether a table or column is not there: the schema was not brought up to date.
    pub fn is_of_the_schema(&self) -> bool {
        let names = |text: &str| ["relation \"", "column "].iter().any(|kind| text.contains(kind));
        matches!(self, Self::Unavailable(text) if text.contains("does not exist") && names(text))
    }

    /// Whether the same may succeed later.
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }

    /// Whether another session might do it: one keeps the settings that it was born with.
    pub(super) fn is_of_the_session(&self) -> bool {
        matches!(self, Self::Unavailable(text) if says(text, &READ_ONLY) || says(text, &UNPREPARED))
    }

    /// For errors of which only the words are left, where nothing is known yet of the schema.
    pub(super) fn of_words(text: String) -> Self {
        if says(&text, &AWAY) || says(&text, &READ_ONLY) { Self::Unavailable(text) } else { Self::Failed(text) }
    }
}

/// Conditions of the whole server that pass with time or an operator's help, by PostgreSQL's own words, since diesel does not
/// hand out SQLSTATE: classes 53 (insufficient resources) and 57 (operator intervention), and what is like them. None of
/// them is a command's fault.
const AWAY: [&str; 15] = [
    "terminating connection",
    "the database system is",
    "sorry, too many clients",
    "remaining connection slots",
    "too many connections",
    "connection closed",
    "connection is closed",
    "error communicating with the server",
    "could not extend file",
    "could not write to file",
    "No space left on device",
    "out of memory",
    "out of shared memory",
    // It has run out of transaction ids.
    "database is not accepting commands",
    "could not resize shared memory segment",
];

/// A standby, or a server or role that somebody has set so.
const READ_ONLY: [&str; 3] = ["in a read-only transaction", "during recovery", "while recovery is in progress"];

/// What a role may not do yet, or a schema that was not brought up to date; or one statement's own trouble, a trigger's say.
const UNPREPARED: [&str; 2] = ["permission denied for", "does not exist"];

/// Somebody holds what the statement needs, and may do so for long.
const LOCKED: [&str; 2] = ["due to lock timeout", "could not obtain lock on"];

/// Alone, and a little later, it may go through.
const CONTENDED: [&str; 3] = ["deadlock detected", "canceling statement due to", "could not serialize"];

fn says(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        use DatabaseErrorKind as Kind;
        // The message names tables and constraints; PostgreSQL puts values into the detail only, which is left out.
        let text = error.to_string();
        match error {
            DieselError::DatabaseError(Kind::UniqueViolation | Kind::SerializationFailure, _) => Self::Conflict(text),
            _ if says(&text, &LOCKED) => Self::Locked(text),
            _ if says(&text, &CONTENDED) => Self::Conflict(text),
            // Kind::UnableToSendCommand is diesel-async's word for every failure without a SQLSTATE, also for statements
            // that could not be encoded: only the text tells them apart.
            DieselError::DatabaseError(Kind::ClosedConnection | Kind::ReadOnlyTransaction, _)
            | DieselError::BrokenTransactionManager => Self::Unavailable(text),
            _ if [&AWAY[..], &READ_ONLY, &UNPREPARED].iter().any(|words| says(&text, words)) => Self::Unavailable(text),
            _ => Self::Failed(text),
        }
    }
}

/// What must be unreadable in the row that is written is not written at all: the transaction is rolled back.
impl From<EncryptError> for Error {
    fn from(error: EncryptError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<deadpool::managed::PoolError<diesel_async::pooled_connection::PoolError>> for Error {
    fn from(error: deadpool::managed::PoolError<diesel_async::pooled_connection::PoolError>) -> Self {
        Self::Unavailable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As PostgreSQL 15 says it.
    fn of(words: &str) -> Error {
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, Box::new(words.to_owned())).into()
    }

    #[test]
    fn what_is_the_servers_trouble_is_not_the_statements() {
        for words in [
            "terminating connection due to administrator command",
            "terminating connection because of crash of another server process",
            "the database system is shutting down",
            "cannot execute INSERT in a read-only transaction",
            "cannot execute pg_notify during recovery",
            "remaining connection slots are reserved for non-replication superuser connections",
            "too many connections for role \"regrant\"",
            "could not extend file \"base/16384/16397\": No space left on device",
            "could not extend file \"base/16384/16397\": wrote only 4096 of 8192 bytes at block 7",
            "could not write to file \"pg_wal/xlogtemp.1\": No space left on device",
            "out of shared memory",
            "database is not accepting commands to avoid wraparound data loss in database \"regrant\"",
            "permission denied for table users",
            "relation \"users\" does not exist",
        ] {
            assert!(of(words).is_unavailable(), "{words}");
        }
    }

    #[test]
    fn what_a_migration_would_mend_is_told_from_what_is_away() {
        for (words, missing) in [
            ("relation \"emails\" does not exist", true),
            ("column emails.resend_of does not exist", true),
            ("column \"resend_of\" of relation \"emails\" does not exist", true),
            ("role \"regrant\" does not exist", false),
            ("permission denied for table emails", false),
        ] {
            assert_eq!(of(words).is_of_the_schema(), missing, "{words}");
        }
    }

    #[test]
    fn what_others_hold_or_did_first_is_told_from_what_fails() {
        assert!(matches!(of("canceling statement due to lock timeout"), Error::Locked(_)));
        for words in ["deadlock detected", "canceling statement due to user request"] {
            assert!(matches!(of(words), Error::Conflict(_)), "{words}");
        }
        for words in ["division by zero", "value too long for type character varying(10)", "invalid page in block 7"] {
            assert!(matches!(of(words), Error::Failed(_)), "{words}");
        }
    }

    #[test]
    fn a_migration_waits_for_the_server_and_not_for_its_own_mistakes() {
        let of = |words: &str| Error::of_words(words.to_owned());
        assert!(of("cannot execute CREATE TABLE in a read-only transaction").is_unavailable());
        assert!(!of("relation \"user\" does not exist").is_unavailable());
    }
}
