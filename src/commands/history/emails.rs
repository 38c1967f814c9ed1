//! `history.emails`: what a person was sent, and what became of it.

use serde::Deserialize;
use serde_json::json;

use crate::commands::Reply;
use crate::commands::body::UserName;
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::domain::access::Audience;
use crate::domain::ticket::timestamp;
use crate::store;

use super::{Cursor, Limit, page};

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emails {
    user: UserName,
    #[serde(default)]
    limit: Limit,
    cursor: Option<Cursor>,
}

impl Query for Emails {
    const NAME: &'static str = "history.emails";
    const AUDIENCE: Audience = Audience::Administrative;

    async fn answer(&self, mut cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let account = cx.target(&self.user).await?;
        let rows =
            store::emails::of_user(cx.connection, account.id(), self.cursor.map(|c| c.0), self.limit.0 + 1).await?;
        let (rows, next_cursor) = page(rows, self.limit, |row| row.id);
        let rows: Vec<_> = rows
            .into_iter()
            .map(|row| {
                json!({
                    "email_id": row.id,
                    "template": row.template,
                    "subject": row.subject,
                    "to": row.to_address,
                    "state": row.state,
                    "attempts": row.attempts,
                    "queued_at": timestamp(row.queued_at),
                    "sent_at": row.sent_at.map(timestamp),
                    "smtp_reply": row.smtp_reply,
                    "resend_of": row.resend_of,
                    "ticket_id": row.ticket_id,
                })
            })
            .collect();
        Ok(Reply::of(json!({ "rows": rows, "next_cursor": next_cursor })))
    }
}
