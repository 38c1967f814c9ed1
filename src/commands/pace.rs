//! When an answer leaves whose moment would tell what its words do not.

use std::time::Duration;

use crate::config::Config;
use crate::domain::rejection::Code;

/// What an answer's pace follows from.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Whether the person asked, and not support or a system.
    pub by_the_person: bool,
    /// The error's code, if it was refused.
    pub refused: Option<Code>,
    /// The configuration.
    pub config: &'a Config,
}

impl Asked<'_> {
    /// Requests that are answered the same whoever they are for.
    pub fn of_a_request(self) -> Duration {
        if self.by_the_person { self.config.password_reset.answer_after } else { Duration::ZERO }
    }

    /// A wrong code is counted, and there may be nobody whose code it could be.
    pub fn of_a_code(self) -> Duration {
        if matches!(self.refused, Some(Code::CodeInvalid | Code::TooManyAttempts)) {
            self.config.password_reset.answer_after
        } else {
            Duration::ZERO
        }
    }

    /// A wrong password is counted, its hash may be of any cost, and there may be nobody whose password it could be.
    pub fn of_a_sign_in(self) -> Duration {
        if self.refused == Some(Code::InvalidCredentials) { self.config.login.answer_after } else { Duration::ZERO }
    }
}
