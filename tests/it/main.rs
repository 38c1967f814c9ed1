//! The whole daemon, as a child process, with a real RabbitMQ, PostgreSQL and SMTP server around it.
//!
//! The servers' addresses come from the environment: `eval "$(script/services env)"`, then `cargo test --test it`. Each
//! test has a database and a broker prefix of its own, so all of them run in parallel.

#![expect(clippy::unwrap_used, reason = "tests; clippy knows their functions, but not their helpers")]

mod bad_input;
mod broker;
mod crash;
mod dead_letters;
mod expiration;
mod harness;
mod idempotency;
mod mail;
mod outages;
mod replicas;
mod retries;
mod secrets;
mod shell;
#[expect(dead_code, reason = "shared with the unit tests of the SMTP client, which use the rest")]
#[path = "../support/smtp_server/mod.rs"]
mod smtp_server;
mod statements;
mod tour;
