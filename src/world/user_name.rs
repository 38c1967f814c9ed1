//! The name of a person in a command's body.

use serde::Serialize;

/// `user`: one of `{"id"}`, `{"username"}`, `{"email"}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UserName {
    /// By id.
    Id(String),
    /// By username, in comparison form.
    Username(String),
    /// By email, in comparison form.
    Email(String),
}
