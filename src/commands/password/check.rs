//! `password.check`: whether a new password would be accepted, for a form to show while it is typed.
//!
//! Earlier passwords are not looked at: that would tell whoever asks whether a guess is somebody's password, past the lockout,
//! and cost a hash each time. Only the command that writes the password knows that rule.
//!
//! Nor are the names of somebody's profile, but for who may look profiles up: whoever may ask would learn who has one, and how
//! they are called, a word at a time. What the form itself names is known to who fills it in.

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::commands::Reply;
use crate::commands::body::UserName;
use crate::commands::document::{Doc, Documented, SecretField};
use crate::commands::proofs;
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::commands::user::get::Get;
use crate::config::Config;
use crate::domain::access::Audience;
use crate::domain::account::Profile;
use crate::domain::policy::{Assessment, Personal, Violation};
use crate::store;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The password that would be new.
    #[schemars(with = "SecretField")]
    new_password: SecretString,
    /// Whose it would be, for the rule that it must not hold their own names. The username or email counts as it is given, of
    /// somebody who is known or not; the names of their profile only for who may send `user.get` for it.
    user: Option<UserName>,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Whether it breaks no rule but perhaps `history`, which is not looked at here.
    acceptable: bool,
    /// Every broken rule, worded so that it can be shown as it stands.
    violations: Vec<Violation>,
    /// How hard it is to guess: zxcvbn's score, 0 to 4.
    #[schemars(range(max = 4))]
    strength: u8,
}

impl Documented for Check {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Whether a password would be accepted as a new one, and how strong it is.",
        description: "For a form that shows the rules while somebody types. The rule `history` is not looked at: it would tell \
                      whether a guess is the person's password. The rule `forbid_personal` goes by the username or email \
                      in `user`, whether anybody has it or not; by the names of the profile only where the publisher, or \
                      the `actor`, may send `user.get` for it: to others it would tell who has an account.",
        errors: &[],
        events: &[],
        example: r#"{"new_password": "letmein", "user": {"id": "ada"}}"#,
        answer: r#"{
            "acceptable": false,
            "violations": [{"rule": "min_length", "message": "Use at least 12 characters."}],
            "strength": 0
        }"#,
    };
}

impl Query for Check {
    const NAME: &'static str = "password.check";
    const AUDIENCE: Audience = Audience::SelfService;
    const SECRETS: &'static [&'static str] = &["new_password"];

    async fn answer(&self, mut cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let profile = self.profile(&mut cx).await?;
        // What follows takes a while, and others need one.
        drop(cx.connection);
        let given = self.user.clone();
        let list = cx.env.config.password.policy.blocklist_file.as_deref();
        let blocklisted = proofs::is_blocklisted(list, &self.new_password)
            .await
            .map_err(|error| store::Error::Failed(error.to_string()))?;
        let (policy, site) = (cx.env.config.password.policy.rules, site_name(cx.env.config, profile.as_ref()));
        let password = self.new_password.clone();
        // Milliseconds of work, which no thread that serves messages should do. The lane bounds how many there are at once.
        let judging = tokio::task::spawn_blocking(move || {
            policy.assess(password.expose_secret(), &personal(profile.as_ref(), given.as_ref()), &site, blocklisted)
        });
        let assessment = judging.await.map_err(|_| store::Error::Failed("judging a password panicked".to_owned()))?;
        Ok(Reply::of(Answer::from(assessment)))
    }
}

impl Check {
    /// The profile, for who may see it. Nobody else's question looks for one, so that its time tells nothing either.
    async fn profile(&self, cx: &mut QueryContext<'_>) -> Result<Option<Profile>, store::Error> {
        let (Some(name), Some(authority)) = (&self.user, cx.may::<Get>()) else { return Ok(None) };
        let roles = &cx.env.config.roles;
        Ok(match cx.find(name).await?.as_slice() {
            [one] if authority.may_act_on(one, roles).is_ok() => Some(one.profile.clone()),
            _ => None,
        })
    }
}

impl From<Assessment> for Answer {
    fn from(assessment: Assessment) -> Self {
        Self {
            acceptable: assessment.violations.is_empty(),
            violations: assessment.violations,
            strength: assessment.strength,
        }
    }
}

fn personal<'a>(profile: Option<&'a Profile>, given: Option<&'a UserName>) -> Personal<'a> {
    match (profile, given) {
        (Some(profile), _) => proofs::personal(profile),
        (None, Some(UserName::Username(username))) => Personal { username, ..Personal::default() },
        (None, Some(UserName::Email(email))) => Personal { email, ..Personal::default() },
        (None, Some(UserName::Id(_)) | None) => Personal::default(),
    }
}

/// What the person's site is called; without a person, the default one.
fn site_name(config: &Config, profile: Option<&Profile>) -> String {
    let site = profile.map_or("default", |profile| profile.site.as_str());
    config.sites.get(site).map_or(site, |section| section.name.as_str()).to_owned()
}

#[cfg(test)]
mod tests;
