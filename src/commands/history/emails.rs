//! `history.emails`: what a person was sent, and what became of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::Reply;
use crate::commands::body::{UserName, or_default};
use crate::commands::document::{Doc, Documented};
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::domain::access::Audience;
use crate::domain::email_state::EmailState;
use crate::domain::rejection::Code;
use crate::domain::time::Timestamp;
use crate::store;

use super::{Cursor, Limit, next_cursor};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Emails {
    /// Whose history.
    user: UserName,
    /// Rows a page.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Limit>")]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

/// A mail.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// The mail; also the left side of its Message-ID.
    email_id: Uuid,
    /// Which template.
    template: String,
    /// Its subject; null until it was rendered.
    subject: Option<String>,
    /// Where to.
    to: String,
    /// What became of it.
    #[schemars(with = "EmailState")]
    state: String,
    /// Attempts begun.
    attempts: i32,
    /// When it was queued.
    queued_at: Timestamp,
    /// When the mail server accepted it.
    sent_at: Option<Timestamp>,
    /// The mail server's last words, or why it was not sent.
    smtp_reply: Option<String>,
    /// The mail that it repeats.
    resend_of: Option<Uuid>,
    /// The ticket whose link or code it holds.
    ticket_id: Option<Uuid>,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Newest first.
    rows: Vec<Row>,
    /// Where the next page begins; null after the last.
    next_cursor: Option<String>,
}

impl Documented for Emails {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "What a person was sent, and what became of it.",
        description: "",
        errors: &[Code::UserNotFound, Code::AmbiguousUser],
        events: &[],
        example: r#"{"user": {"id": "ada"}, "limit": 20}"#,
        answer: r#"{
            "rows": [{
                "email_id": "019ac2f0-7c1a-7000-8000-000000000001", "template": "password_reset_link",
                "subject": "Choose a new password", "to": "ada@example.com", "state": "sent", "attempts": 1,
                "queued_at": "2026-11-22T09:30:00.000Z", "sent_at": "2026-11-22T09:30:00.120Z",
                "smtp_reply": "250 2.0.0 queued", "resend_of": null,
                "ticket_id": "019ac2f0-7c1a-7000-8000-000000000002"
            }],
            "next_cursor": null
        }"#,
    };
}

impl Query for Emails {
    const NAME: &'static str = "history.emails";
    const AUDIENCE: Audience = Audience::Administrative;

    async fn answer(&self, mut cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let account = cx.target(&self.user).await?;
        let cursor = self.cursor.map(|cursor| cursor.0);
        let page =
            store::email_history::of_user(cx.connection.get().await?, account.id(), cursor, self.limit.0).await?;
        let rows = page
            .rows
            .into_iter()
            .map(|row| Row {
                email_id: row.id,
                template: row.template,
                subject: row.subject,
                to: row.to_address,
                state: row.state,
                attempts: row.attempts,
                queued_at: row.queued_at.into(),
                sent_at: row.sent_at.map(Timestamp),
                smtp_reply: row.smtp_reply,
                resend_of: row.resend_of,
                ticket_id: row.ticket_id,
            })
            .collect();
        Ok(Reply::of(Answer { rows, next_cursor: next_cursor(page.resume) }))
    }
}
