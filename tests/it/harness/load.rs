//! People who ask for things while servers fail, and what must be true in the end whatever happened meanwhile.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::json;

use super::{Client, Command, Daemon, Place, mails, until_true};

/// An imported hash of the password `correct horse`, with the lowest cost.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";

/// One in this many people has a password, and signs in.
const SIGNS_IN: usize = 10;

/// People, and the commands that were sent for them.
pub struct Load {
    people: usize,
}

impl Load {
    /// Makes the people, and a queue for what is told about them, which outlives connections and servers.
    pub async fn of(people: usize, client: &Client) -> Self {
        client.keep_events("password.reset.requested").await;
        let put = (0..people).map(|n| {
            let id = format!("u{n}");
            let mut user = json!({ "id": id, "username": id, "email": format!("{id}@example.com") });
            if n.is_multiple_of(SIGNS_IN) {
                user["password_hash"] = json!(HASH);
            }
            Command::new("user.put", json!({ "user": user }))
        });
        for correlation in client.begin_all(&put.collect::<Vec<_>>()).await {
            let reply = client.reply(&correlation).await;
            assert_eq!(reply["ok"], true, "{reply}");
        }
        Self { people }
    }

    /// Asks for some of them, in every lane; gives what the replies can be asked for with.
    pub async fn ask(&self, client: &Client, people: Range<usize>) -> Vec<String> {
        let lookups = people.clone().map(|n| Command::new("user.get", json!({ "user": { "id": format!("u{n}") } })));
        let all: Vec<Command> = people.flat_map(commands).chain(lookups).collect();
        client.begin_all(&all).await
    }

    /// Waits until all is done, and looks whether each command took effect exactly once, and nobody was blamed.
    pub async fn settle(&self, place: &Place, daemon: &mut Daemon, client: &Client) {
        daemon.wait_until_ready().await;
        let people = i64::try_from(self.people).unwrap();
        let sent = "emails where state = 'sent' and template = 'password_reset_link'";
        until_true("all mails on record", async || place.count(sent).await == people).await;
        let sign_ins = i64::try_from(self.people.div_ceil(SIGNS_IN)).unwrap();
        until_true("all sign-ins", async || place.count("sessions").await >= sign_ins).await;
        // Replies may have been lost on the way, as on any network: whoever asks again gets the first answer.
        let all: Vec<Command> = (0..self.people).flat_map(commands).collect();
        for correlation in client.begin_all(&all).await {
            let again = client.reply(&correlation).await;
            assert_eq!((&again["ok"], &again["duplicate"]), (&json!(true), &json!(true)), "{again}");
        }
        assert_eq!(place.count("tickets").await, people);
        assert_eq!(place.count("tickets where state = 'open'").await, people);
        assert_eq!(place.count("sessions").await, sign_ins);
        assert_eq!(place.count("activity where kind = 'password.reset.request'").await, people);
        let mut ids: Vec<(String, String)> =
            mails(&place.mail).into_iter().map(|mail| (mail.to.clone(), mail.header("message-id"))).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), self.people, "each person has one mail, perhaps twice under the same Message-ID");
        let mut told = BTreeSet::new();
        while told.len() < self.people {
            told.insert(client.kept_event().await["subject"].as_str().unwrap().to_owned());
        }
        nothing_was_blamed(daemon, client).await;
    }
}

/// What is asked for one person. Asked again it is the same.
fn commands(n: usize) -> Vec<Command> {
    let user = json!({ "id": format!("u{n}") });
    let mut commands = vec![Command::new("password.reset.request", json!({ "user": user })).id(&format!("reset-{n}"))];
    if n.is_multiple_of(SIGNS_IN) {
        let body = json!({ "user": user, "password": "correct horse" });
        commands.push(Command::new("session.login", body).id(&format!("login-{n}")));
    }
    commands
}

/// An outage is nobody's fault: it must not count as a failure of commands.
pub async fn nothing_was_blamed(daemon: &Daemon, client: &Client) {
    for outcome in ["retried", "buried", "invalid", "rejected"] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(daemon.metric("regrant_commands_total", &[&label]).await, 0, "{outcome}");
    }
    assert_eq!(daemon.metric("regrant_dead_letters_total", &[]).await, 0);
    for queue in ["dead", "retry.1s", "retry.5s", "commands.state", "commands.credentials"] {
        // What was put aside for a second, because of a lock, may have a copy that is still to come back.
        until_true(&format!("{queue} to be empty"), async || client.depth(queue).await == 0).await;
    }
}
