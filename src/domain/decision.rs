//! What was decided of a request whose answer does not tell: as the activity log says it, and as `email.explain` reads it.

use super::rejection::Code;

/// What was decided of a request for a mail, about one person or address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The mail was queued.
    Sent,
    /// No profile has the address.
    UnknownAddress,
    /// A limit holds.
    Throttled,
    /// The person is blocked.
    Blocked,
    /// The person is deactivated.
    Inactive,
    /// A temporary password is to be replaced first.
    TemporaryPasswordPending,
    /// The address is on the suppression list.
    Suppressed,
    /// A newer request was served already.
    Superseded,
    /// The address is verified already.
    AlreadyVerified,
    /// Support asked, and was told why this person gets none.
    Refused(Code),
}

impl Decision {
    /// All but the refusals of support.
    pub const UNTOLD: [Self; 9] = [
        Self::Sent,
        Self::UnknownAddress,
        Self::Throttled,
        Self::Blocked,
        Self::Inactive,
        Self::TemporaryPasswordPending,
        Self::Suppressed,
        Self::Superseded,
        Self::AlreadyVerified,
    ];

    /// The word in the activity log; but for `sent`, also that of the timeline.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::UnknownAddress => "unknown_address",
            Self::Throttled => "throttled",
            Self::Blocked => "blocked",
            Self::Inactive => "inactive",
            Self::TemporaryPasswordPending => "temporary_password_pending",
            Self::Suppressed => "suppressed",
            Self::Superseded => "superseded",
            Self::AlreadyVerified => "already_verified",
            Self::Refused(code) => code.as_str(),
        }
    }

    /// From the activity log; none of a word that only a later version knows.
    pub fn parse(word: &str) -> Option<Self> {
        let untold = Self::UNTOLD.into_iter().find(|decision| decision.as_str() == word);
        untold.or_else(|| Code::parse(word).map(Self::Refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_that_of_one_decision() {
        let refused = Code::ALL.iter().copied().map(Decision::Refused);
        for decision in Decision::UNTOLD.into_iter().chain(refused) {
            assert_eq!(Decision::parse(decision.as_str()), Some(decision));
        }
        assert_eq!(Decision::parse("of a later version"), None);
    }
}
