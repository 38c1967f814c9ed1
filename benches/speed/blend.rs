//! What apps ask for on an ordinary day: commands of all lanes, in the proportions of one that asks about each page's session
//! and signs people in, while some forgot their password.

use std::collections::HashMap;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use regrant::commands::{self, Lane};
use regrant::keys::{KeyRing, TokenUse};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::harness::{Command, NEW_PASSWORD, PASSWORD, Place};
use crate::support::arrivals;
use crate::support::load;

/// The commands, and how many of a hundred are such.
pub const BLEND: [(&str, u32); 11] = [
    ("session.check", 40),
    ("user.get", 4),
    ("history.activity", 2),
    ("password.reset.request", 15),
    ("user.put", 8),
    ("session.logout", 3),
    ("invite.send", 2),
    ("session.force_logout", 1),
    ("session.login", 20),
    ("password.reset.complete", 3),
    ("password.set", 2),
];

/// The lane of a command in [`BLEND`].
pub fn lane(command: usize) -> Lane {
    commands::find(BLEND[command].0).unwrap().lane
}

/// Somebody wants something, once.
#[derive(Clone, Copy)]
pub struct Call {
    /// After the beginning.
    pub at: Duration,
    /// A place in [`BLEND`].
    pub command: usize,
    /// Whom it is about.
    pub person: usize,
}

/// So many calls about one person each, from the number `first`; the same commands at the same moments in every run.
pub fn calls(rate: f64, count: usize, first: usize) -> Vec<Call> {
    let mut rng = rand::rngs::StdRng::seed_from_u64(13);
    let moments = arrivals::moments(rate, count).into_iter().enumerate();
    let call = |(n, at)| {
        let mut die: u32 = rng.random_range(0..100);
        let is_it = |(_, share): &(&str, u32)| match die.checked_sub(*share) {
            Some(rest) => {
                die = rest;
                false
            }
            None => true,
        };
        let command = BLEND.iter().position(is_it).unwrap();
        Call { at, command, person: first + n }
    };
    moments.map(call).collect()
}

/// What upstream knows of the people: what was in replies and mails before.
pub struct Known {
    sessions: HashMap<String, String>,
    tokens: HashMap<String, String>,
}

impl Known {
    /// Lets everybody have a password and a session, and those who will complete a reset have asked for one.
    pub async fn make(place: &Place, calls: &[Call]) -> Self {
        load::passwords(place).await;
        load::sessions(place, 1).await;
        let asking = calls.iter().filter(|call| BLEND[call.command].0 == "password.reset.complete").map(|call| {
            let user = json!({ "email": load::address(call.person) });
            Command::new("password.reset.request", json!({ "user": user }))
        });
        let client = place.client().await;
        for asked in client.begin_all(&asking.collect::<Vec<_>>()).await {
            let reply = client.reply(&asked).await;
            assert_eq!(reply["ok"], true, "{reply}");
        }
        let sessions = place.rows("select user_id, id::text from sessions").await;
        let keys = KeyRing::load(&place.home().join("regrant.keys")).unwrap();
        let tickets = place.rows("select user_id, key_id, id::text from tickets where state = 'open'").await;
        let token = |key: &str, ticket: &str| {
            let token = keys.token(key, TokenUse::PasswordReset, ticket.parse().unwrap()).unwrap();
            token.expose_secret().to_owned()
        };
        Self {
            sessions: sessions.iter().map(|row| (row.get(0), row.get(1))).collect(),
            tokens: tickets.iter().map(|row| (row.get(0), token(row.get(1), row.get(2)))).collect(),
        }
    }

    /// The body of a call.
    pub fn body(&self, call: Call) -> String {
        let id = format!("p{}", call.person);
        let email = load::address(call.person);
        let user = json!({ "id": id });
        let body: Value = match BLEND[call.command].0 {
            "password.reset.request" => return load::request(call.person),
            "session.check" | "session.logout" => json!({ "session_id": self.sessions[&id] }),
            "session.login" => json!({ "user": { "email": email }, "password": PASSWORD }),
            "session.force_logout" => json!({ "users": [user] }),
            "password.reset.complete" => json!({ "token": self.tokens[&id], "new_password": NEW_PASSWORD }),
            "password.set" => json!({ "user": user, "new_password": NEW_PASSWORD }),
            "user.get" => json!({ "user": user }),
            "history.activity" => json!({ "user": user, "limit": 20 }),
            "user.put" => {
                json!({ "user": { "id": id, "username": id, "email": email, "display_name": "Grace Hopper", "email_verified": true } })
            }
            "invite.send" => {
                let id = format!("new{}", call.person);
                json!({ "user": { "id": id, "username": id, "email": format!("{id}@m.example") } })
            }
            other => unreachable!("{other} has no body"),
        };
        body.to_string()
    }
}
