//! PostgreSQL through Diesel: free functions on a connection, one file a table or aggregate.

pub mod accounts;
pub mod activity;
pub mod emails;
pub mod event_outbox;
pub mod health;
pub mod inbox;
pub mod limits;
pub mod migrations;
pub mod pool;
pub mod retention;
pub mod schema;
pub mod sessions;
pub mod tickets;
pub mod world;

use diesel::result::{DatabaseErrorKind, Error as DieselError};

pub use pool::Pool;

/// What went wrong, sorted by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server is away, refuses, or is read-only: wait and try again; nobody's fault.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Somebody else was first (a unique key, a deadlock): the same again will see what they did.
    #[error("another transaction was first: {0}")]
    Conflict(String),
    /// The statement itself fails.
    #[error("a database statement failed: {0}")]
    Failed(String),
}

impl Error {
    /// Whether waiting for the server is what to do.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Conditions that pass with time, by the start of PostgreSQL's own message; diesel does not hand out SQLSTATE.
const PASSING: [&str; 12] = [
    "terminating connection",
    "the database system is",
    "cannot execute",
    "sorry, too many clients",
    "remaining connection slots",
    "too many connections",
    "connection closed",
    "error communicating with the server",
    "could not extend file",
    "could not write to file",
    "canceling statement due to",
    "connection is closed",
];

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        use DatabaseErrorKind as Kind;
        // The message names tables and constraints; PostgreSQL puts values into the detail only, which is left out.
        let text = error.to_string();
        let passing = PASSING.iter().any(|start| text.contains(start));
        match error {
            DieselError::DatabaseError(
                Kind::ClosedConnection | Kind::UnableToSendCommand | Kind::ReadOnlyTransaction,
                _,
            )
            | DieselError::BrokenTransactionManager => Self::Unavailable(text),
            DieselError::DatabaseError(Kind::UniqueViolation | Kind::SerializationFailure, _) => Self::Conflict(text),
            DieselError::DatabaseError(..) if text.contains("deadlock detected") => Self::Conflict(text),
            _ if passing => Self::Unavailable(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<deadpool::managed::PoolError<diesel_async::pooled_connection::PoolError>> for Error {
    fn from(error: deadpool::managed::PoolError<diesel_async::pooled_connection::PoolError>) -> Self {
        Self::Unavailable(error.to_string())
    }
}
