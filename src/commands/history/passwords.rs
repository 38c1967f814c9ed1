//! `history.passwords`: how a person got, and asked for, their passwords.
//!
//! Requests for a reset and invitations are a row each, from when they were asked for to what became of them; a password that
//! came without such a ticket is a row too. A completed reset is one row, not two.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::commands::Reply;
use crate::commands::body::{UserName, or_default};
use crate::commands::document::{Doc, Documented};
use crate::commands::query::{Query, QueryContext, Unanswered};
use crate::domain::access::Audience;
use crate::domain::rejection::Code;
use crate::domain::ticket::{Method, Outcome, Purpose, Ticket};
use crate::domain::time::Timestamp;
use crate::store::activity::{self, Of, Which};
use crate::store::ticket_history;

use super::{Cursor, Limit, merge, next_cursor};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Passwords {
    /// Whose history.
    user: UserName,
    /// Rows a page.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Limit>")]
    limit: Limit,
    /// `next_cursor` of the page before.
    cursor: Option<Cursor>,
}

/// A request, an invitation, or a direct change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Row {
    /// The ticket of a request or invitation; null for a direct change.
    ticket_id: Option<Uuid>,
    /// What it was.
    kind: Kind,
    /// How the link or code was to reach the person; null for a direct change.
    method: Option<Method>,
    /// When it was asked for.
    requested_at: Timestamp,
    /// `self`, `system`, or the id of the person of support.
    requested_by: String,
    /// Until when the link, code or temporary password works; null if it does not end.
    expires_at: Option<Timestamp>,
    /// What became of it. A direct change is always `completed`.
    outcome: Outcome,
    /// When the password was written; null if it was not.
    completed_at: Option<Timestamp>,
}

/// `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Kind {
    /// A link or code to choose a new password with.
    PasswordReset,
    /// An invitation, accepted with a first password.
    Invite,
    /// The person replaced their password.
    PasswordChange,
    /// Support typed a password.
    PasswordSet,
    /// The daemon made a temporary password, which support passes on.
    TemporaryPassword,
    /// The profile came with a password hash made elsewhere.
    PasswordImport,
}

/// `result`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Answer {
    /// Newest first.
    rows: Vec<Row>,
    /// Where the next page begins; null after the last.
    next_cursor: Option<String>,
}

impl Documented for Passwords {
    type Answer = Answer;
    const DOC: Doc = Doc {
        summary: "Every way in which a person got a password or asked for one: requests, invitations, direct changes.",
        description: "A request that was completed is one row, with `completed_at`. Requests that were refused or throttled made no \
                      ticket: they are in `history.activity`, and `email.explain` says why.",
        errors: &[Code::UserNotFound, Code::AmbiguousUser],
        events: &[],
        example: r#"{"user": {"id": "ada"}, "limit": 20}"#,
        answer: r#"{
            "rows": [{
                "ticket_id": "019ac2f0-7c1a-7000-8000-000000000001", "kind": "password_reset", "method": "link",
                "requested_at": "2026-11-22T09:30:00.000Z", "requested_by": "self",
                "expires_at": "2026-11-23T09:30:00.000Z", "outcome": "completed",
                "completed_at": "2026-11-22T09:34:12.000Z"
            }],
            "next_cursor": null
        }"#,
    };
}

/// Passwords that no ticket led to, as the activity log knows them; in SQL.
const DIRECT: &str = "outcome = 'ok' and (kind in ('password.set', 'password.change', 'password.temporary.issue') \
                      or details ? 'password_imported')";

impl Query for Passwords {
    const NAME: &'static str = "history.passwords";
    const AUDIENCE: Audience = Audience::Administrative;

    async fn answer(&self, mut cx: QueryContext<'_>) -> Result<Reply, Unanswered> {
        let account = cx.target(&self.user).await?;
        let (now, limit, cursor) = (cx.now, self.limit, self.cursor.map(|cursor| cursor.0));
        let tickets = ticket_history::of_user(cx.connection.get().await?, account.id(), cursor, limit.0).await?;
        let which = Which { also: Some(DIRECT), before: cursor.unwrap_or(Uuid::max()), ..Which::default() };
        let direct = activity::page(cx.connection.get().await?, Of::Account(account.id()), which, limit.0).await?;
        let tickets = tickets.map(|ticket| (ticket.id, Row::of_ticket(&ticket, now)));
        let page = merge(tickets, direct.map(|change| (change.id, Row::of_change(change))), limit);
        Ok(Reply::of(Answer { rows: page.rows, next_cursor: next_cursor(page.resume) }))
    }
}

impl Row {
    fn of_ticket(ticket: &Ticket, now: DateTime<Utc>) -> Self {
        let outcome = ticket.outcome(now);
        Self {
            ticket_id: Some(ticket.id),
            kind: if ticket.purpose == Purpose::Invite { Kind::Invite } else { Kind::PasswordReset },
            method: Some(ticket.method),
            requested_at: ticket.requested_at.into(),
            requested_by: ticket.requester.shown().to_owned(),
            expires_at: Some(ticket.expires_at.into()),
            completed_at: ticket.closed_at.filter(|_| outcome == Outcome::Completed).map(Timestamp),
            outcome,
        }
    }

    fn of_change(row: activity::Row) -> Self {
        let until = row.details.get("expires_at").and_then(serde_json::Value::as_str);
        Self {
            ticket_id: None,
            kind: match row.kind.as_str() {
                "password.set" => Kind::PasswordSet,
                "password.change" => Kind::PasswordChange,
                "password.temporary.issue" => Kind::TemporaryPassword,
                _ => Kind::PasswordImport,
            },
            method: None,
            requested_at: row.at.into(),
            requested_by: row.actor.unwrap_or_else(|| "self".to_owned()),
            expires_at: until.and_then(|until| until.parse::<DateTime<Utc>>().ok()).map(Timestamp),
            outcome: Outcome::Completed,
            completed_at: Some(row.at.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::ticket::{Requester, State};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn ticket(state: State, requester: Requester) -> Ticket {
        Ticket {
            id: Uuid::from_u128(1),
            user_id: "ada".into(),
            purpose: Purpose::PasswordReset,
            method: Method::Code,
            key_id: "k".into(),
            state,
            requester,
            requested_at: at(0),
            created_at: at(0),
            expires_at: at(60),
            wrong_tries: 0,
            closed_at: (state != State::Open).then(|| at(30)),
            newer_requested_at: None,
            dirty: false,
        }
    }

    #[test]
    fn a_ticket_is_a_row_from_its_request_to_its_end() {
        for (state, now, outcome, completed_at) in [
            (State::Open, 59, Outcome::Open, None),
            (State::Open, 60, Outcome::Expired, None),
            (State::Completed, 61, Outcome::Completed, Some(at(30))),
            (State::Superseded, 61, Outcome::Superseded, None),
            (State::TooManyAttempts, 61, Outcome::TooManyAttempts, None),
        ] {
            let row = Row::of_ticket(&ticket(state, Requester::Itself), at(now));
            assert_eq!((row.outcome, row.completed_at), (outcome, completed_at.map(Timestamp)), "{state:?}");
            assert_eq!(row.expires_at, Some(Timestamp(at(60))));
        }
        let row = Row::of_ticket(&ticket(State::Open, Requester::Actor("mia".into())), at(0));
        assert_eq!((row.kind, row.requested_by.as_str()), (Kind::PasswordReset, "mia"));
    }

    #[test]
    fn a_direct_change_is_a_row_of_its_own() {
        let change = |kind: &str, actor: Option<&str>, details| activity::Row {
            id: Uuid::nil(),
            at: at(5),
            kind: kind.into(),
            user_id: Some("ada".into()),
            actor: actor.map(str::to_owned),
            publisher: "shop".into(),
            command_id: None,
            outcome: "ok".into(),
            ip: None,
            details,
        };
        for (kind, actor, shown, by) in [
            ("password.set", Some("mia"), Kind::PasswordSet, "mia"),
            ("password.change", None, Kind::PasswordChange, "self"),
            ("password.temporary.issue", Some("system"), Kind::TemporaryPassword, "system"),
            ("user.put", Some("system"), Kind::PasswordImport, "system"),
            ("invite.send", Some("mia"), Kind::PasswordImport, "mia"),
        ] {
            let row = Row::of_change(change(kind, actor, json!({})));
            assert_eq!((row.kind, row.requested_by.as_str(), row.outcome), (shown, by, Outcome::Completed), "{kind}");
            assert_eq!((row.completed_at, row.expires_at), (Some(Timestamp(at(5))), None));
        }
        let details = json!({ "expires_at": "2027-01-15T09:00:00.000Z" });
        let row = Row::of_change(change("password.temporary.issue", None, details));
        assert_eq!(row.expires_at, Some(Timestamp(at(3600))));
    }
}
