//! What becomes of a mail.

use schemars::JsonSchema;

/// What became of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum EmailState {
    /// It waits to be sent, or to be tried again.
    Queued,
    /// The mail server accepted it.
    Sent,
    /// It was refused for good, or tried for as long as it may be.
    Failed,
    /// Its link or code ran out first.
    Expired,
    /// It had nothing to say any more.
    Cancelled,
    /// Its address bounced or complained before.
    Suppressed,
    /// The mail provider said later that it came back.
    Bounced,
    /// Its reader called it spam.
    Complained,
    /// The mail provider said later that it was delivered.
    Delivered,
}

impl EmailState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Sent,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
        Self::Suppressed,
        Self::Bounced,
        Self::Complained,
        Self::Delivered,
    ];

    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Suppressed => "suppressed",
            Self::Bounced => "bounced",
            Self::Complained => "complained",
            Self::Delivered => "delivered",
        }
    }
}
