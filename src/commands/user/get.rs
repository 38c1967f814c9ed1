//! `user.get`: a profile, its open tickets, and whether its address is suppressed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::Reply;
use crate::commands::body::UserName;
use crate::commands::document::{Doc, Documented};
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::domain::access::Audience;
use crate::domain::account::shown::User;
use crate::domain::rejection::Code;
use crate::domain::ticket::Purpose;
use crate::domain::time::Timestamp;

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// Who.
    user: UserName,
}

/// A person and what is under way for them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// The person.
    user: User,
    /// Links and codes that can still be used, newest first.
    open_tickets: Vec<OpenTicket>,
    /// Whether mail to the address bounced or was complained of, and is therefore not sent.
    suppressed: bool,
}

/// A link or code that can still be used.
#[derive(Debug, Serialize, JsonSchema)]
struct OpenTicket {
    /// Its id.
    ticket_id: Uuid,
    /// What it allows.
    purpose: Purpose,
    /// When it stops working.
    expires_at: Timestamp,
}

impl Documented for Get {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Shows a profile, its open links and codes, and whether mail to it is suppressed.",
        description: "",
        errors: &[Code::UserNotFound, Code::AmbiguousUser],
        events: &[],
        example: r#"{"user": {"username": "ada"}}"#,
        answer: r#"{
            "user": {
                "id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada Lovelace",
                "site": "default", "roles": [], "locale": "en", "email_verified": true,
                "active": true, "blocked": false, "status": "active", "has_password": true, "locked_until": null,
                "must_change_password": false, "created_at": "2026-11-20T09:30:00.000Z",
                "last_login_at": null, "session_epoch": 0
            },
            "open_tickets": [
                {"ticket_id": "019ac2f0-7c1a-7a41-9c3e-5f0b2d6e8c11", "purpose": "password_reset", "expires_at": "2026-11-22T14:02:00.000Z"}
            ],
            "suppressed": false
        }"#,
    };
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
            .map(|t| OpenTicket { ticket_id: t.id, purpose: t.purpose, expires_at: t.expires_at.into() })
            .collect();
        Ok(Reply::of(Answer { user: account.shown(cx.now), open_tickets, suppressed: account.suppressed }))
    }
}
