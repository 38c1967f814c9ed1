//! `regrant users search` and `regrant users show`: asks the running daemon.

use std::process::ExitCode;

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use crate::config::Config;
use crate::domain::account::Status;

use super::Outcome;
use super::ask::{self, Asker, Asking, Columns};

/// Find people and show their profiles.
#[derive(Debug, Subcommand)]
pub enum Users {
    /// Find people by part of a name, and by site, role and status.
    Search {
        /// Part of a username, email address or display name.
        text: Option<String>,
        /// Only people of this site.
        #[arg(long)]
        site: Option<String>,
        /// Only people with this role.
        #[arg(long)]
        role: Option<String>,
        /// Only people with this status.
        #[arg(long, value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str)))]
        status: Option<String>,
        /// Include people who are deactivated or blocked.
        #[arg(long)]
        include_disabled: bool,
        /// Show at most this many, 1 to 200.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=200))]
        limit: u8,
        /// Continue after an earlier page; that page prints the value.
        #[arg(long)]
        cursor: Option<String>,
        /// In whose name.
        #[command(flatten)]
        asking: Asking,
    },
    /// Print a person's profile and open tickets.
    Show {
        /// An id, a username or an email address; write `id=…`, `username=…` or `email=…` where it is ambiguous.
        user: String,
        /// In whose name.
        #[command(flatten)]
        asking: Asking,
    },
}

const FOUND: &Columns = &[
    ("ID", "id"),
    ("USERNAME", "username"),
    ("EMAIL", "email"),
    ("NAME", "display_name"),
    ("SITE", "site"),
    ("ROLES", "roles"),
    ("STATUS", "status"),
    ("LAST SIGN-IN", "last_login_at"),
];

const PROFILE: [(&str, &str); 17] = [
    ("id", "id"),
    ("username", "username"),
    ("email", "email"),
    ("email verified", "email_verified"),
    ("name", "display_name"),
    ("site", "site"),
    ("roles", "roles"),
    ("language", "locale"),
    ("status", "status"),
    ("active", "active"),
    ("blocked", "blocked"),
    ("locked until", "locked_until"),
    ("has a password", "has_password"),
    ("must change it", "must_change_password"),
    ("created", "created_at"),
    ("last sign-in", "last_login_at"),
    ("session epoch", "session_epoch"),
];

/// Asks and prints.
///
/// # Errors
/// When the daemon refuses, or cannot be asked.
pub async fn run(users: &Users, config: &Config) -> Outcome {
    match users {
        Users::Search { text, site, role, status, include_disabled, limit, cursor, asking } => {
            let mut body = json!({
                "q": text, "site": site, "role": role, "status": status, "include_disabled": include_disabled,
                "limit": limit, "cursor": cursor,
            });
            body.as_object_mut().into_iter().for_each(|fields| fields.retain(|_, value| !value.is_null()));
            let asker = Asker::connect(asking, config).await?;
            let found = asker.ask("user.search", body).await;
            asker.close().await;
            ask::show(asking, &found?, |found| ask::page(found, "users", FOUND))?;
        }
        Users::Show { user, asking } => {
            let asker = Asker::connect(asking, config).await?;
            let found = asker.about("user.get", user, json!({})).await;
            asker.close().await;
            ask::show(asking, &found?, profile)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn profile(found: &Value) -> String {
    let line = |(title, value): (&str, String)| format!("{title:<15} {value}\n");
    let fields = PROFILE.into_iter().map(|(title, field)| (title, ask::word(&found["user"][field])));
    let mut text: String = fields.filter(|(_, value)| !value.is_empty()).map(line).collect();
    if found["suppressed"] == true {
        let until = "yes: nothing is sent to this address until email.unsuppress".to_owned();
        text.push_str(&line(("suppressed", until)));
    }
    let tickets = found["open_tickets"].as_array().into_iter().flatten().map(|ticket| {
        let [purpose, until, id] = ["purpose", "expires_at", "ticket_id"].map(|field| ask::word(&ticket[field]));
        line(("open", format!("{purpose} until {until} ({id})")))
    });
    text.extend(tickets);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_typed_as_replies_say_it() {
        for status in Status::ALL {
            assert_eq!(json!(status), json!(status.as_str()));
        }
    }

    #[test]
    fn a_profile_is_a_list_of_what_is_known() {
        let found = json!({
            "user": { "id": "ada", "username": "ada", "display_name": null, "roles": ["a", "b"], "active": true },
            "open_tickets": [{ "ticket_id": "t", "purpose": "invite", "expires_at": "2026" }],
            "suppressed": true,
        });
        let shown = profile(&found);
        for line in [
            "id              ada",
            "roles           a, b",
            "active          yes",
            "open            invite until 2026 (t)",
        ] {
            assert!(shown.lines().any(|l| l == line), "{shown}");
        }
        assert!(shown.contains("email.unsuppress") && !shown.contains("name            \n"), "{shown}");
    }
}
