//! Profiles.

pub mod activate;
pub mod block;
pub mod deactivate;
pub mod get;
pub mod profile;
pub mod put;
pub mod unblock;

mod switch;
