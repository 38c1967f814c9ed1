//! Profiles.

pub mod activate;
pub mod block;
pub mod deactivate;
pub mod erase;
pub mod get;
pub mod profile;
pub mod put;
pub mod search;
pub mod unblock;

mod switch;

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::account::shown::User;

/// What commands about one profile answer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct About {
    /// The person, as they are now.
    user: User,
}
