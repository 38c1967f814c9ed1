//! Who somebody is: what upstream apps say of them.

use crate::domain::email_address::{email_key, username_key};

/// The parts of a profile that upstream apps write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// Upstream's id.
    pub id: String,
    /// Unique name, as given.
    pub username: String,
    /// Address, as given.
    pub email: String,
    /// Full name.
    pub display_name: Option<String>,
    /// The site it belongs to.
    pub site: String,
    /// Names of roles; those without a `[roles.<name>]` section permit nothing.
    pub roles: Vec<String>,
    /// Language, BCP 47.
    pub locale: Option<String>,
}

/// The forms in which a profile's names are compared. They follow from it: nobody chooses them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    pub(super) username: String,
    pub(super) email: String,
}

impl Keys {
    /// Those of a profile.
    pub fn of(profile: &Profile) -> Self {
        Self { username: username_key(&profile.username), email: email_key(&profile.email) }
    }

    /// Those that were stored with it. What its rows are found by, even if another version made other ones.
    pub fn stored(username: String, email: String) -> Self {
        Self { username, email }
    }
}
