//! What `history.emails` reads: a person's mails.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::Error;
use super::pages::Page;
use super::schema::emails;

/// A row of a person's history.
#[derive(Queryable, Selectable)]
#[diesel(table_name = emails, check_for_backend(diesel::pg::Pg))]
pub struct EmailHistoryRow {
    /// The mail.
    pub id: Uuid,
    /// Which template.
    pub template: String,
    /// The subject, once rendered.
    pub subject: Option<String>,
    /// Where to.
    pub to_address: String,
    /// What became of it.
    pub state: String,
    /// Attempts begun.
    pub attempts: i32,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// When a server accepted it.
    pub sent_at: Option<DateTime<Utc>>,
    /// The server's last words.
    pub smtp_reply: Option<String>,
    /// The mail that it repeats.
    pub resend_of: Option<Uuid>,
    /// The ticket that it carries.
    pub ticket_id: Option<Uuid>,
}

/// A page of at most `limit` of a person's mails, newest first, before `cursor`.
///
/// # Errors
/// When the database fails.
pub async fn of_user(
    connection: &mut AsyncPgConnection,
    user: &str,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Page<EmailHistoryRow>, Error> {
    let before = cursor.unwrap_or(Uuid::max());
    let rows = emails::table
        .filter(emails::user_id.eq(user).and(emails::id.lt(before)))
        .order(emails::id.desc())
        .limit(limit + 1)
        .select(EmailHistoryRow::as_select())
        .load(connection)
        .await?;
    Ok(Page::cut(rows, limit, |row: &EmailHistoryRow| row.id))
}
