//! PostgreSQL through Diesel: free functions on a connection, one file a table or aggregate.

pub mod accounts;
pub mod activity;
pub mod email_list;
pub mod emails;
pub mod erasure;
pub mod event_outbox;
pub mod evidence;
pub mod health;
pub mod inbox;
pub mod limits;
pub mod migrations;
pub mod past_emails;
pub mod pool;
pub mod retention;
pub mod schema;
pub mod search;
pub mod sessions;
pub mod suppressions;
pub mod ticket_history;
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

/// Conditions that pass with time or an operator's help, by PostgreSQL's own words; diesel does not hand out SQLSTATE.
/// None of them is a command's fault.
const PASSING: [&str; 14] = [
    "terminating connection",
    "the database system is",
    "in a read-only transaction",
    "sorry, too many clients",
    "remaining connection slots",
    "too many connections",
    "connection closed",
    "connection is closed",
    "error communicating with the server",
    "could not extend file",
    "could not write to file",
    "No space left on device",
    "permission denied for",
    // A schema that was not brought up to date.
    "does not exist",
];

/// Somebody holds what the statement needs: alone, and a little later, it may go through.
const CONTENDED: [&str; 3] = ["deadlock detected", "canceling statement due to", "could not serialize"];

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        use DatabaseErrorKind as Kind;
        // The message names tables and constraints; PostgreSQL puts values into the detail only, which is left out.
        let text = error.to_string();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match error {
            DieselError::DatabaseError(Kind::UniqueViolation | Kind::SerializationFailure, _) => Self::Conflict(text),
            _ if says(&CONTENDED) => Self::Conflict(text),
            // Kind::UnableToSendCommand is diesel-async's word for every failure without a SQLSTATE, also for statements
            // that could not be encoded: only the text tells them apart.
            DieselError::DatabaseError(Kind::ClosedConnection | Kind::ReadOnlyTransaction, _)
            | DieselError::BrokenTransactionManager => Self::Unavailable(text),
            _ if says(&PASSING) => Self::Unavailable(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<deadpool::managed::PoolError<diesel_async::pooled_connection::PoolError>> for Error {
    fn from(error: deadpool::managed::PoolError<diesel_async::pooled_connection::PoolError>) -> Self {
        Self::Unavailable(error.to_string())
    }
}
