//! `session.check`: whether a session is good at this moment.

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::commands::Reply;
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::domain::access::Audience;
use crate::store;

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    session_id: Uuid,
}

impl Query for Check {
    const NAME: &'static str = "session.check";
    const AUDIENCE: Audience = Audience::SelfService;

    /// A session that is not known is not active: after its retention a session that ended is answered the same.
    async fn answer(&self, cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let found = store::sessions::check(cx.connection, self.session_id).await?;
        Ok(Reply::of(match found {
            None => json!({ "active": false, "user_id": null, "session_epoch": null, "impersonated_by": null }),
            Some(found) => json!({
                "active": found.user_may_sign_in && found.session.is_live(cx.now),
                "user_id": found.session.user_id,
                "session_epoch": found.session_epoch,
                "impersonated_by": found.session.impersonated_by,
            }),
        }))
    }
}
