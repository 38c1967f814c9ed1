//! `user.get`: a profile, its open tickets, and whether its address is suppressed.

use serde::Deserialize;
use serde_json::json;

use crate::commands::Reply;
use crate::commands::body::UserName;
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::domain::access::Audience;
use crate::domain::ticket::timestamp;

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Get {
    user: UserName,
}

impl Query for Get {
    const NAME: &'static str = "user.get";
    const AUDIENCE: Audience = Audience::Administrative;

    async fn answer(&self, mut cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let account = cx.target(&self.user).await?;
        let mut open: Vec<_> = account.tickets.iter().filter(|t| t.is_usable(cx.now)).collect();
        open.sort_by_key(|t| std::cmp::Reverse(t.id));
        let open_tickets: Vec<_> = open
            .into_iter()
            .map(|t| json!({ "ticket_id": t.id, "purpose": t.purpose.as_str(), "expires_at": timestamp(t.expires_at) }))
            .collect();
        Ok(Reply::of(json!({
            "user": account.shown(cx.now),
            "open_tickets": open_tickets,
            "suppressed": account.suppressed,
        })))
    }
}
