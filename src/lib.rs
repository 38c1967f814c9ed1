//! `regrant` gives people access to their account again.
//!
//! The way of a message: [`broker`] takes deliveries from a lane's queue; [`lane`] makes a batch of those that are already
//! there, loads what they want through [`store`], lets each of the [`commands`] decide by the rules of [`domain`], writes
//! everything in one transaction, replies and acknowledges. What must happen after commit is in two outboxes: [`events`]
//! are published by a relay, [`mail`] is rendered and handed to SMTP by senders. [`app`] wires all of it; [`cli`] is the
//! shell. Imports go downward: `cli`, `app`, `lane`, `commands`, `mail`, `events`, `store`, [`world`], `broker`, `domain`,
//! [`config`]. What [`store`] loads and writes and [`commands`] decide on is the plain data of [`world`].

pub mod app;
pub mod asyncapi;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod crash_point;
pub mod domain;
pub mod events;
pub mod hashing;
pub mod http;
pub mod ids;
pub mod keys;
pub mod lane;
pub mod lifecycle;
pub mod mail;
pub mod metrics;
pub mod preview;
mod spelling;
pub mod store;
pub mod telemetry;
pub mod vitals;
pub mod world;
