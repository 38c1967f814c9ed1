//! The whole daemon, as a child process, with a real RabbitMQ, PostgreSQL and SMTP server around it.
//!
//! The servers' addresses come from the environment: `eval "$(script/services env)"`, then `cargo test --test it`. Each
//! test has a database and a broker prefix of its own, so all of them run in parallel.

#![expect(clippy::unwrap_used, reason = "tests; clippy knows their functions, but not their helpers")]

mod answers;
mod bad_input;
mod broker;
mod broker_outages;
mod check;
mod crash;
#[cfg(feature = "crash-points")]
mod crash_points;
mod database_outages;
mod dead_letters;
mod dead_letters_tool;
mod documents;
mod emails_tool;
mod erase;
mod event_order;
mod examples;
mod expiration;
mod explain;
mod harness;
mod histories;
mod idempotency;
mod ids;
mod imports;
mod keys;
mod least_privilege;
mod live_templates;
mod logs;
mod mail;
mod mail_commands;
mod mail_faults;
mod monitoring;
mod outages;
mod passwords;
mod poison;
mod reference;
mod replicas;
mod restarts;
mod retention;
mod retries;
mod rights;
mod sample_mail;
mod secrets;
mod shell;
#[expect(dead_code, reason = "shared with the unit tests of the SMTP client, which use the rest")]
#[path = "../support/smtp_server/mod.rs"]
mod smtp_server;
mod soak;
mod statements;
mod status;
mod systemd;
mod tour;
mod upgrade;
