//! `session.check`: whether a session is good at this moment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::commands::Reply;
use crate::commands::document::{Doc, Documented};
use crate::commands::handle::Handle;
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::domain::access::Audience;
use crate::store;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// From `session.login`.
    session_id: Handle,
}

/// Whether a session is good; all else is null for one that is not known.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Answer {
    /// Whether the session is good now: open, not expired, of a person who may sign in.
    active: bool,
    /// Whose it is.
    user_id: Option<String>,
    /// The person's epoch now.
    session_epoch: Option<i64>,
    /// The id of the person of support who acts through it.
    impersonated_by: Option<String>,
}

impl Documented for Check {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Tells whether a session is good at this moment.",
        description: "One that is not known (any more) is no error but `active: false`.",
        errors: &[],
        events: &[],
        example: r#"{"session_id": "019ac2f0-9d2b-7c63-ae5f-2a7b0c4d8e31"}"#,
        answer: r#"{"active": true, "user_id": "ada", "session_epoch": 0, "impersonated_by": null}"#,
    };
}

impl Query for Check {
    const NAME: &'static str = "session.check";
    const AUDIENCE: Audience = Audience::SelfService;

    /// A session that is not known is not active: after its retention a session that ended is answered the same.
    async fn answer(&self, mut cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let found = store::sessions::check(cx.connection.get().await?, self.session_id.id()).await?;
        Ok(Reply::of(found.map_or_else(Answer::default, |found| Answer {
            active: found.user_may_sign_in && found.session.is_live(cx.now),
            user_id: Some(found.session.user_id),
            session_epoch: Some(found.session_epoch),
            impersonated_by: found.session.impersonated_by,
        })))
    }
}
