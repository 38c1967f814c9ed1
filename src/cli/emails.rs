//! `regrant emails`: lists everybody's mails, and queues failed ones again. It works on the database, so no daemon has to run.

mod retry;

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use diesel_async::AsyncPgConnection;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::config::Config;
use crate::domain::email_address::mask;
use crate::domain::email_state::EmailState;
use crate::domain::ticket::timestamp;
use crate::ids;
use crate::mail::catalogue::Template;
use crate::mail::smtp::mask_addresses;
use crate::store::email_list::{self, Listed, Wanted};
use crate::store::pages::Page;
use crate::store::{self, pool};

use super::ask::{self, Columns};
use super::moment::Moment;
use super::{Outcome, print};

/// List emails, and send failed ones again.
#[derive(Debug, Subcommand)]
pub enum Emails {
    /// List emails, newest first.
    List {
        /// Which ones.
        #[command(flatten)]
        filter: Filter,
        /// Only those in this state.
        #[arg(long, value_parser = states())]
        state: Option<EmailState>,
        /// Show at most this many, 1 to 1000.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Print addresses in full; otherwise they are masked.
        #[arg(long)]
        show_addresses: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send failed emails again: those with the given ids, or all that the filters match.
    ///
    /// An email whose link has expired or was used, or whose person was blocked or erased, is not sent; the output says why.
    Retry(retry::Retry),
}

/// What an email must be like.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Only those made from this template, for example `invite`.
    #[arg(long)]
    template: Option<Template>,
    /// Only those to the person with this id.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only those queued since this moment: `2h` (ago), or a time in UTC.
    #[arg(long)]
    since: Option<Moment>,
    /// Only those queued before this moment.
    #[arg(long)]
    until: Option<Moment>,
    /// Continue after an earlier page; that page prints the value.
    #[arg(long, value_parser = cursor)]
    cursor: Option<Uuid>,
}

impl Filter {
    async fn page(
        &self,
        connection: &mut AsyncPgConnection,
        state: Option<EmailState>,
        limit: u16,
    ) -> Result<Page<Listed>, store::Error> {
        let now = crate::clock::now();
        // Ids are in order of time.
        let floor = |moment: Moment| ids::floor(moment.seen_from(now));
        let wanted = Wanted {
            state,
            template: self.template.map(Template::as_str),
            user: self.user.as_deref(),
            before: self.cursor.unwrap_or(Uuid::max()).min(self.until.map_or(Uuid::max(), floor)),
            from: self.since.map_or(Uuid::nil(), floor),
        };
        email_list::page(connection, wanted, limit.into()).await
    }
}

const LISTED: &Columns = &[
    ("QUEUED", "queued_at"),
    ("TEMPLATE", "template"),
    ("TO", "to"),
    ("STATE", "state"),
    ("TRIES", "attempts"),
    ("NEXT TRY", "next_attempt_at"),
    ("EMAIL ID", "email_id"),
    ("USER", "user_id"),
    ("REPLY", "smtp_reply"),
];

fn cursor(given: &str) -> Result<Uuid, &'static str> {
    given
        .parse()
        .map_err(|_| "it is what stands after `--cursor` at the end of the page before (with --json: `next_cursor`)")
}

/// Reads an email's id.
fn email_id(given: &str) -> Result<Uuid, &'static str> {
    given.parse().map_err(|_| "it is what `regrant emails list` shows below EMAIL ID (with --json: `email_id`)")
}

fn states() -> impl TypedValueParser<Value = EmailState> {
    PossibleValuesParser::new(EmailState::ALL.map(EmailState::as_str))
        .try_map(|name| EmailState::ALL.into_iter().find(|state| state.as_str() == name).ok_or("not a state"))
}

/// Runs the subcommand.
///
/// # Errors
/// When the database cannot be asked.
pub async fn run(emails: &Emails, config: &Config) -> Outcome {
    let mut connection = pool::connect(&config.database.url).await.map_err(failed)?;
    match emails {
        Emails::List { filter, state, limit, show_addresses, json } => {
            let page = filter.page(&mut connection, *state, *limit).await.map_err(failed)?;
            let rows: Vec<Value> = page.rows.iter().map(|row| fields(row, *show_addresses)).collect();
            let report = json!({ "rows": rows, "next_cursor": page.resume });
            print(&if *json { format!("{report:#}\n") } else { ask::page(&report, "rows", LISTED) })?;
            Ok(ExitCode::SUCCESS)
        }
        Emails::Retry(retry) => retry::run(retry, &mut connection, config).await,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: store::Error) -> String {
    if error.is_of_the_schema() {
        return format!("database.url: the schema is not up to date ({error}); run `regrant migrate`");
    }
    format!("database.url: {error}")
}

fn fields(row: &Listed, whole_addresses: bool) -> Value {
    let reply = row.smtp_reply.as_deref();
    let waits = row.state == "queued";
    json!({
        "email_id": row.id, "user_id": row.user_id, "template": row.template,
        "to": if whole_addresses { row.to_address.clone() } else { mask(&row.to_address) },
        "state": row.state, "attempts": row.attempts, "queued_at": timestamp(row.queued_at),
        "next_attempt_at": waits.then(|| timestamp(row.next_attempt_at)), "sent_at": row.sent_at.map(timestamp),
        "smtp_reply": if whole_addresses { reply.map(str::to_owned) } else { reply.map(mask_addresses) },
        "ticket_id": row.ticket_id, "resend_of": row.resend_of,
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn what_is_no_id_is_told_where_ids_are() {
        assert!(cursor("x").unwrap_err().contains("the page before"));
        assert!(email_id("nosuch").unwrap_err().contains("regrant emails list"));
        assert_eq!(
            (cursor(&Uuid::nil().to_string()), email_id(&Uuid::nil().to_string())),
            (Ok(Uuid::nil()), Ok(Uuid::nil()))
        );
    }

    #[test]
    fn addresses_are_masked_unless_asked_for() {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let row = Listed {
            id: Uuid::nil(),
            user_id: "ada".into(),
            ticket_id: None,
            template: "invite".into(),
            to_address: "ada@example.com".into(),
            state: "failed".into(),
            attempts: 3,
            queued_at: at,
            next_attempt_at: at,
            sent_at: None,
            smtp_reply: Some("550 5.1.1 <ada@example.com>: no such user".into()),
            resend_of: None,
        };
        let masked = fields(&row, false);
        assert!(!masked.to_string().contains("ada@") && masked["to"] == "a***@example.com", "{masked}");
        assert_eq!(masked["next_attempt_at"], Value::Null, "it is not tried again");
        let whole = fields(&row, true);
        assert_eq!(whole["to"], "ada@example.com");
        assert!(whole["smtp_reply"].as_str().unwrap().contains("<ada@example.com>"));
    }
}
