//! A profile as upstream apps write it, shared by every command that takes one.

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::commands::Stop;
use crate::commands::body::{Locale, Name, Text, UserId, UserName, or_default};
use crate::commands::context::{Context, ERASED, erased_key};
use crate::domain::access::SYSTEM;
use crate::domain::account::{Account, ChangeRules, ChangedBy, Profile};
use crate::domain::email_address::{EmailAddress, email_key, is_invisible, is_joiner, username_key};
use crate::domain::rejection::{Code, Rejection};
use crate::events::Event;
use crate::hashing;
use crate::keys::KeyRing;
use crate::world::Wants;

/// `user` of `user.put`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Profile", description = "A profile, as upstream apps write it.")]
#[serde(deny_unknown_fields, expecting = "a profile: an object with `id`, `username`, `email`, …")]
pub struct ProfileBody {
    /// Upstream's own id; unique, and never changes. Not `system`, `self`, or one that begins with `erased:`.
    #[serde(deserialize_with = "of_a_person")]
    #[schemars(with = "UserId")]
    id: UserId,
    /// The name to sign in with; unique, compared case-insensitively. Without characters that nobody sees.
    username: Name<128>,
    /// Where mail goes; several profiles may share an address.
    email: Name<320>,
    /// The name to greet with.
    display_name: Option<Text<200>>,
    /// A section `[sites.<name>]` of the configuration; without it, `default`.
    site: Option<Text<64>>,
    /// Names of `[roles.<name>]`, at most 32: what the person may do to others.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<Text<64>>>", length(max = 32))]
    roles: Vec<Text<64>>,
    /// The language of mail; without it, the site's.
    locale: Option<Locale>,
    /// Whether the person has proven that mail reaches them. Without it: false for a new address, else as it was.
    email_verified: Option<bool>,
    /// A hash that was made elsewhere: a PHC string (Argon2, scrypt, PBKDF2) or bcrypt, of bounded cost.
    #[schemars(with = "Option<String>")]
    password_hash: Option<SecretString>,
}

/// What is kept of an imported hash, beside the hash itself as long as it is the password's.
fn imported_key(keys: &KeyRing, id: &str, hash: &str) -> Uuid {
    Uuid::from_bytes(keys.fingerprint("imported_hash", &[id.as_bytes(), hash.as_bytes()]))
}

/// An id that means nobody else where ids are shown: histories say `system` and `self` of who asked, and have a pseudonym for
/// whoever was erased.
fn of_a_person<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UserId, D::Error> {
    let id = UserId::deserialize(deserializer)?;
    if [SYSTEM, "self"].contains(&id.as_str()) || id.as_str().starts_with(ERASED) {
        return Err(D::Error::custom(format_args!(
            "must not be `{SYSTEM}`, `self`, or begin with `{ERASED}`: in histories these stand for who is no person"
        )));
    }
    Ok(id)
}

impl ProfileBody {
    /// Upstream's id.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// What must be loaded to put it: the person, and whoever has the username now.
    pub fn wants(&self, wants: &mut Wants, keys: &KeyRing) {
        wants.ids.insert(self.id.0.clone());
        wants.puts.insert(self.id.0.clone(), erased_key(keys, self.id()));
        wants.users.push(UserName::Username(username_key(self.username.as_str())));
        wants.addresses.insert(self.email_key());
        // An imported hash may replace a password, which ends sessions.
        wants.live_sessions |= self.password_hash.is_some();
    }

    /// Where its mail goes, in comparison form.
    pub fn email_key(&self) -> String {
        email_key(self.email.as_str())
    }

    /// Creates or replaces the profile; says whether it was created.
    ///
    /// # Errors
    /// `user_exists`, `invalid_body`, `forbidden`, `forbidden_target`.
    pub fn put(&self, cx: &mut Context<'_>) -> Result<bool, Stop> {
        let id = self.id();
        cx.touch(id);
        let profile = self.checked(cx)?;
        if let Some(account) = cx.world.account(id) {
            cx.authority.may_act_on(account, &cx.env.config.roles)?;
        }
        // Nobody makes a person who may do more than they may themselves, or on a site that is not theirs.
        cx.authority.reaches(&profile.site, &profile.roles, &cx.env.config.roles)?;
        let holder = cx.world.find(&UserName::Username(username_key(&profile.username)));
        if holder.iter().any(|other| other != id) {
            return Err(Rejection::new(Code::UserExists, "another profile has this username")
                .with("field", "username")
                .into());
        }
        let imported = self.imported_hash()?;
        let now = cx.now;
        let suppressed = cx.world.is_suppressed(&self.email_key());
        let before = cx.world.take(id);
        let created = before.is_none();
        let mut account = before.unwrap_or_else(|| {
            let mut new = Account::new(profile.clone(), now);
            new.email_verified = self.email_verified.unwrap_or(false);
            new.session_epoch = cx.world.first_epoch(id);
            new
        });
        account.suppressed = suppressed;
        let mut changed = account.put(profile, self.email_verified, now);
        // The same import again is none: the person may have another password by now, or a hash of the daemon's own.
        let last = imported.as_ref().map(|hash| imported_key(cx.env.keys, id, hash));
        let imported =
            imported.filter(|hash| account.imported_hash != last && account.password_hash.as_ref() != Some(hash));
        if last.is_some() && account.imported_hash != last {
            account.imported_hash = last;
            account.dirty = true;
        }
        changed |= imported.is_some();
        if imported.is_some() {
            cx.note("password_imported", true);
        }
        let mut replacement = None;
        if account.password_hash.is_some() {
            replacement = imported;
        } else if imported.is_some() {
            account.password_hash = imported;
            account.touch(now);
        }
        cx.world.insert(account);
        if created {
            cx.event(id, &Event::UserCreated);
        } else if changed {
            cx.event(id, &Event::UserUpdated);
        }
        // Somebody who had a password learns of it, and whoever signed in with the old one is out.
        if let Some(hash) = replacement {
            let end_sessions = cx.env.config.sessions.end_on_password_change;
            cx.change_password(id, hash, ChangedBy::Admin, ChangeRules { end_sessions, ..ChangeRules::default() })?;
        }
        Ok(created)
    }

    fn checked(&self, cx: &Context<'_>) -> Result<Profile, Rejection> {
        let refuse = |detail: String| Rejection::new(Code::InvalidBody, detail);
        if self.roles.len() > 32 {
            return Err(refuse("`user.roles`: at most 32 roles".to_owned()));
        }
        let email = self.email.as_str().parse::<EmailAddress>().map_err(|e| refuse(format!("`user.email`: {e}")))?;
        let username = self.username.as_str().trim();
        if username.is_empty() {
            return Err(refuse("`user.username`: must not be blank".to_owned()));
        }
        // Joiners belong to how some languages are written; between letters of ASCII they only hide.
        let joins = |c| is_joiner(c) && !username.chars().any(|c| c.is_ascii_alphabetic());
        if let Some(hidden) = username.chars().find(|c| is_invisible(*c) && !joins(*c)) {
            let code = u32::from(hidden);
            return Err(refuse(format!("`user.username`: must not hold characters that nobody sees (U+{code:04X})")));
        }
        let site = self.site.as_ref().map_or("default", Text::as_str);
        if !cx.env.config.sites.contains_key(site) {
            let known: Vec<&str> = cx.env.config.sites.keys().map(String::as_str).collect();
            return Err(refuse(format!(
                "`user.site`: there is no section [sites.{site}]; known sites: {}",
                known.join(", ")
            )));
        }
        Ok(Profile {
            id: self.id.0.clone(),
            username: username.to_owned(),
            email: email.as_str().to_owned(),
            display_name: self.display_name.as_ref().map(|n| n.0.trim().to_owned()).filter(|n| !n.is_empty()),
            site: site.to_owned(),
            roles: self.roles.iter().map(|r| r.0.clone()).collect(),
            locale: self.locale.as_ref().map(|l| l.0.clone()),
        })
    }

    fn imported_hash(&self) -> Result<Option<String>, Rejection> {
        let Some(hash) = &self.password_hash else { return Ok(None) };
        let hash = hash.expose_secret();
        hashing::check_importable(hash, &hashing::Limits::default())
            .map_err(|e| Rejection::new(Code::InvalidBody, format!("`user.password_hash`: {e}")))?;
        Ok(Some(hash.to_owned()))
    }
}
