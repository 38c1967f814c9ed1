//! The only place that reads the wall clock: rules take the time as an argument.

use chrono::{DateTime, SubsecRound, Utc};

/// The present, cut to microseconds: what PostgreSQL keeps, so that a time read back equals the one written.
#[expect(clippy::disallowed_methods, reason = "this is the clock that the rest of the crate is given")]
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
