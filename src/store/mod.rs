//! PostgreSQL through Diesel: free functions on a connection, one file a table or aggregate.

pub mod accounts;
pub mod activity;
pub mod due_emails;
pub mod email_history;
pub mod email_list;
pub mod emails;
pub mod erasure;
mod error;
pub mod event_outbox;
pub mod evidence;
pub mod health;
pub mod inbox;
pub mod limits;
pub mod locks;
pub mod migrations;
pub mod packed_events;
pub mod pages;
pub mod past_emails;
pub mod pool;
pub mod retention;
pub mod schema;
pub mod search;
pub mod sessions;
mod statement;
pub mod suppressions;
pub mod ticket_history;
pub mod tickets;
pub mod world;

pub use error::Error;
pub use pool::{OnDemand, Pool};

/// Every table that the daemon reads and writes. All of them grow.
pub const TABLES: [&str; 11] = [
    "users",
    "tickets",
    "sessions",
    "suppressions",
    "emails",
    "email_attempts",
    "activity",
    "inbox",
    "event_outbox",
    "rate_limits",
    "erasures",
];
