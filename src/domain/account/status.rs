//! The one word for an account's state.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Account, Invitation};

/// Where a person stands: of what applies, the last of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[expect(missing_docs, reason = "a list of words to the reference, which the fields beside it explain")]
pub enum Status {
    Active,
    Invited,
    ForcePasswordReset,
    Locked,
    Inactive,
    Blocked,
}

impl Status {
    /// Each of them, in the order in which they apply.
    pub const ALL: [Self; 6] =
        [Self::Active, Self::Invited, Self::ForcePasswordReset, Self::Locked, Self::Inactive, Self::Blocked];

    /// As replies say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Invited => "invited",
            Self::ForcePasswordReset => "force_password_reset",
            Self::Locked => "locked",
            Self::Inactive => "inactive",
            Self::Blocked => "blocked",
        }
    }
}

impl Account {
    /// Where the person stands.
    pub fn status(&self, now: DateTime<Utc>) -> Status {
        if self.blocked {
            Status::Blocked
        } else if !self.active {
            Status::Inactive
        } else if self.is_locked(now) {
            Status::Locked
        } else if self.must_change_password() {
            Status::ForcePasswordReset
        } else if self.invitation == Invitation::Pending {
            Status::Invited
        } else {
            Status::Active
        }
    }
}
