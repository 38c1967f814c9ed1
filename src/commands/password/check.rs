//! `password.check`: whether a new password would be accepted, for a form to show while it is typed.
//!
//! Earlier passwords are not looked at: that would tell whoever asks whether a guess is somebody's password, past the lockout,
//! and cost a hash each time. Only the command that writes the password knows that rule.

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::commands::Reply;
use crate::commands::body::UserName;
use crate::commands::document::{Doc, Documented, SecretField};
use crate::commands::proofs;
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::config::Config;
use crate::domain::access::Audience;
use crate::domain::account::Profile;
use crate::domain::policy::{Assessment, Personal, Policy, Violation};
use crate::domain::rejection::Code;
use crate::store;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The password that would be new.
    #[schemars(with = "SecretField")]
    new_password: SecretString,
    /// Whose it would be, for the rule that it must not hold their own names. A person who is not known, or an email that
    /// several profiles share, is passed over.
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
                      whether a guess is the person's password.",
        errors: &[Code::SealedRequired, Code::SealedInvalid],
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
        let person = match &self.user {
            Some(name) => cx.find(name).await?,
            None => Vec::new(),
        };
        let profile = match person.as_slice() {
            [one] => Some(one.profile.clone()),
            _ => None,
        };
        let list = cx.env.config.password.policy.blocklist_file.as_deref();
        let blocklisted = proofs::is_blocklisted(list, &self.new_password)
            .await
            .map_err(|error| store::Error::Failed(error.to_string()))?;
        let (policy, site) = (Policy::from(&cx.env.config.password.policy), site_name(cx.env.config, profile.as_ref()));
        let password = self.new_password.clone();
        // Milliseconds of work, which no thread that serves messages should do. The lane bounds how many there are at once.
        let judging = tokio::task::spawn_blocking(move || {
            policy.assess(password.expose_secret(), &personal(profile.as_ref()), &site, blocklisted)
        });
        let assessment = judging.await.map_err(|_| store::Error::Failed("judging a password panicked".to_owned()))?;
        Ok(Reply::of(Answer::from(assessment)))
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

fn personal(profile: Option<&Profile>) -> Personal<'_> {
    profile.map_or_else(Personal::default, |profile| Personal {
        username: &profile.username,
        email: &profile.email,
        display_name: profile.display_name.as_deref().unwrap_or_default(),
    })
}

/// What the person's site is called; without a person, the default one.
fn site_name(config: &Config, profile: Option<&Profile>) -> String {
    let site = profile.map_or("default", |profile| profile.site.as_str());
    config.sites.get(site).map_or(site, |section| section.name.as_str()).to_owned()
}

#[cfg(test)]
mod tests;
