//! The main job of regrant, told step by step: a publisher in Rust that invites a person, signs her in, lets her reset
//! her password with the link from the mail, and signs her out; it prints each message, reply, event and mail.
//!
//! `script/demo` runs it against a daemon of its own. By hand, against a daemon with `mail.transport = "file"`, from
//! its environment: `AMQP_URL`, `REGRANT_PREFIX` (`broker.prefix`), `REGRANT_OUTBOX` (`mail.file.directory`),
//! `REGRANT_HTTP` (`http.listen`; without it no metrics are shown). It needs a publisher that may do everything as the
//! system, and prints the secrets that it sends: not for real people.

mod client;
mod mail;
mod metrics;
mod story;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};

use client::{Client, Event, Expected, Reply};
use mail::{Mail, Outbox};
use story::Story;

/// What went wrong, for people.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const FIRST_PASSWORD: &str = "Analytical-Engine-1843!";
const SECOND_PASSWORD: &str = "Notes-On-7-Bernoullis?";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nThe tour stops here: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Failure> {
    let prefix = env::var("REGRANT_PREFIX").unwrap_or_else(|_| "regrant".to_owned());
    let mut tour = Tour {
        client: Client::connect(&setting("AMQP_URL")?, &prefix).await?,
        outbox: Outbox::new(setting("REGRANT_OUTBOX")?.into()),
        story: Story::new(&prefix),
    };
    tour.tell().await?;
    if let Ok(address) = env::var("REGRANT_HTTP") {
        let lines = metrics::interesting(&address).await?;
        tour.story.metrics(&address, &lines)?;
    }
    Ok(())
}

fn setting(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|_| format!("the environment variable {name} is not set; script/demo sets it").into())
}

struct Tour {
    client: Client,
    outbox: Outbox,
    story: Story,
}

impl Tour {
    async fn tell(&mut self) -> Result<(), Failure> {
        self.join().await?;
        let sessions = [
            self.sign_in("on her laptop", FIRST_PASSWORD, "203.0.113.7", "Firefox on Linux").await?,
            self.sign_in("on her phone too", FIRST_PASSWORD, "198.51.100.23", "Safari on iOS").await?,
        ];
        self.story.step(
            "Is the session still good?",
            "The app asks at each page view, or now and then. It is a query: nothing changes, no event.",
        )?;
        self.check(&sessions[0], true).await?;
        self.reset(&sessions).await?;
        let session = self.sign_in("with her new password", SECOND_PASSWORD, "203.0.113.7", "Firefox on Linux").await?;
        self.sign_out(&session).await
    }

    async fn join(&mut self) -> Result<(), Failure> {
        self.story.step(
            "Ada is invited",
            "The back office wants her to have an account. One message creates her profile and mails her a link.",
        )?;
        let ada = json!({"id": "ada", "username": "ada", "email": "ada@example.com", "display_name": "Ada Lovelace",
                         "roles": ["member"]});
        self.done("invite.send", json!({ "user": ada, "actor": "system" })).await?;
        let expected = [Expected::event("user.created"), Expected::event("invite.sent"), Expected::mail("invite")];
        let link = self.mail_among(&expected).await?.link()?;

        self.story.step(
            "Ada accepts",
            "The link led her to a page of the app, which sends the link's token and the password that she chose.",
        )?;
        self.done("invite.accept", json!({"token": link.token, "new_password": FIRST_PASSWORD})).await?;
        self.events(&[Expected::event("invite.accepted"), Expected::event("password.changed")]).await?;
        Ok(())
    }

    async fn reset(&mut self, sessions: &[String]) -> Result<(), Failure> {
        self.story.step(
            "Ada has forgotten her password",
            "Whoever asks, for whatever address, gets this same reply: it does not tell who has an account.",
        )?;
        let request = json!({"user": {"email": "ada@example.com"}, "context": {"ip": "203.0.113.7"}});
        let reply = self.done("password.reset.request", request).await?;
        expect(&reply, "accepted", &json!(true))?;
        let expected = [Expected::event("password.reset.requested"), Expected::mail("password_reset_link")];
        let link = self.mail_among(&expected).await?.link()?;

        self.story.step(
            "She chooses a new one with the link from the mail",
            "That ends her sessions everywhere, and a mail tells her that her password was changed.",
        )?;
        let complete = json!({"token": link.token, "new_password": SECOND_PASSWORD});
        let reply = self.done("password.reset.complete", complete.clone()).await?;
        expect(&reply, "sessions_ended", &json!(sessions.len()))?;
        self.mail_among(&[Expected::event("password.changed"), Expected::mail("password_changed")]).await?;

        self.story.step("Both devices are signed out", "What the app learns at its next look.")?;
        for session in sessions {
            self.check(session, false).await?;
        }

        self.story.step(
            "The link works once",
            "Somebody finds the mail later. A refusal is an answer too: a code for the app, a sentence for people.",
        )?;
        self.refused("password.reset.complete", complete, "token_used").await
    }

    async fn sign_in(&mut self, how: &str, password: &str, ip: &str, device: &str) -> Result<String, Failure> {
        self.story.step(
            &format!("Ada signs in {how}"),
            "The app sends what she typed and keeps the session's id on its side; the browser gets the app's own cookie.",
        )?;
        let context = json!({"ip": ip, "user_agent": device});
        let body = json!({"user": {"username": "ada"}, "password": password, "context": context});
        let reply = self.done("session.login", body).await?;
        self.events(&[Expected::event("session.opened")]).await?;
        let session = reply["session_id"].as_str().ok_or("session.login: the result has no session_id")?;
        Ok(session.to_owned())
    }

    async fn sign_out(&mut self, session: &str) -> Result<(), Failure> {
        self.story.step(
            "Support signs her out",
            "Her laptop was stolen. The grown session_epoch tells apps that keep no sessions which tokens to refuse.",
        )?;
        let body = json!({"users": [{"id": "ada"}], "reason": "the laptop was stolen", "actor": "system"});
        let reply = self.done("session.force_logout", body).await?;
        expect(&reply, "ended", &json!([{"user_id": "ada", "sessions": 1}]))?;
        self.events(&[Expected::event("session.revoked")]).await?;
        self.check(session, false).await
    }

    async fn check(&mut self, session: &str, active: bool) -> Result<(), Failure> {
        let reply = self.done("session.check", json!({ "session_id": session })).await?;
        expect(&reply, "active", &json!(active))
    }

    /// Sends a command that is to be done, and gives its result.
    async fn done(&mut self, command: &str, body: Value) -> Result<Value, Failure> {
        match self.call(command, body).await? {
            Reply::Done(result) => Ok(result),
            Reply::Refused { code, message } => Err(format!("{command} was refused: {code}: {message}").into()),
        }
    }

    /// Sends a command that is to be refused with this error code.
    async fn refused(&mut self, command: &str, body: Value, expected: &str) -> Result<(), Failure> {
        match self.call(command, body).await? {
            Reply::Refused { code, .. } if code == expected => Ok(()),
            other => Err(format!("{command} should have been refused with {expected}, not: {other:?}").into()),
        }
    }

    async fn call(&mut self, command: &str, body: Value) -> Result<Reply, Failure> {
        let sent = self.client.send(command, &body).await?;
        self.story.sent(command, &sent, &body)?;
        let asked = Instant::now();
        let reply = self.client.reply(command, &sent).await?;
        self.story.reply(&reply, asked.elapsed())?;
        Reply::parse(&reply)
    }

    async fn events(&mut self, expected: &[Expected]) -> Result<Vec<Event>, Failure> {
        let events = self.client.events(expected).await?;
        for event in &events {
            self.story.event(event)?;
        }
        Ok(events)
    }

    /// Waits for the events and shows the mail that the last one of them reports as sent.
    async fn mail_among(&mut self, expected: &[Expected]) -> Result<Mail, Failure> {
        let events = self.events(expected).await?;
        let sent = events.iter().rfind(|event| expected.last().is_some_and(|last| last.is(event)));
        let id =
            sent.and_then(|event| event.data["email_id"].as_str()).ok_or("the event of the mail has no email_id")?;
        let mail = self.outbox.mail(id).await?;
        self.story.mail(&mail)?;
        Ok(mail)
    }
}

fn expect(result: &Value, field: &str, expected: &Value) -> Result<(), Failure> {
    if &result[field] == expected {
        return Ok(());
    }
    Err(format!("`{field}` should be {expected}, and is {}", result[field]).into())
}
