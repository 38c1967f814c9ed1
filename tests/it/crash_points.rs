//! A crash at each point between taking a command and being done with it, and what is true after the restart.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{Command, Place, mails, until_true};

const PEOPLE: usize = 20;

fn invite(n: usize) -> Command {
    let user = json!({ "id": format!("u{n}"), "username": format!("u{n}"), "email": format!("u{n}@example.com") });
    Command::new("invite.send", json!({ "user": user })).id(&format!("invite-{n}"))
}

/// Invitations, of which the daemon crashes at that point; then another one goes on.
async fn crash(at: &str) {
    let place = Place::new().await;
    place.start().await.stop().await;
    let client = place.client().await;
    let events = client.events("invite.sent").await;
    let commands: Vec<Command> = (0..PEOPLE).map(invite).collect();
    let asked = client.begin_all(&commands).await;
    let mut daemon = place.launch_to_crash(at);
    let status = daemon.ended().await;
    assert_eq!(status.code(), None, "it was to crash, and not to end");

    let daemon = place.start().await;
    for (command, asked) in commands.iter().zip(asked) {
        // The first daemon may have taken its replies into the grave; whoever hears nothing asks again.
        let reply = if at == "taken" || at == "before the commit" {
            client.reply(&asked).await
        } else {
            client.ask(command.clone()).await
        };
        assert_eq!(reply["ok"], true, "{reply}");
    }
    until_true("all mails on record", async || place.count("emails where state = 'sent'").await == 20).await;
    place.until_all_is_told().await;
    for table in ["users", "tickets where state = 'open'", "emails", "inbox", "activity"] {
        assert_eq!(place.count(table).await, 20, "{table}");
    }
    let mails = mails(&place.mail);
    let ids: BTreeSet<String> = mails.iter().map(|mail| mail.header("message-id")).collect();
    let people: BTreeSet<&String> = mails.iter().map(|mail| &mail.to).collect();
    assert_eq!((ids.len(), people.len()), (PEOPLE, PEOPLE));
    if !["replied", "events published", "mail accepted"].contains(&at) {
        assert_eq!(mails.len(), PEOPLE, "only a mail that was in flight may come again");
    }
    let mut told = BTreeSet::new();
    while let Some(event) = events.try_next().await {
        told.insert((event.body["subject"].to_string(), event.body["id"].to_string()));
    }
    assert_eq!(told.len(), PEOPLE, "each is told under one id");
    assert_eq!((client.depth("dead").await, client.depth("commands.state").await), (0, 0));
    assert_eq!(daemon.stop().await, 0);
}

#[tokio::test]
async fn after_a_command_is_taken() {
    crash("taken").await;
}

#[tokio::test]
async fn before_the_commit() {
    crash("before the commit").await;
}

#[tokio::test]
async fn after_the_commit_before_the_reply() {
    crash("after the commit").await;
}

#[tokio::test]
async fn after_the_reply_before_the_acknowledgement() {
    crash("replied").await;
}

#[tokio::test]
async fn after_a_mail_is_claimed() {
    crash("mail claimed").await;
}

#[tokio::test]
async fn after_a_mail_is_accepted_before_that_is_written_down() {
    crash("mail accepted").await;
}

#[tokio::test]
async fn after_events_are_published_before_they_are_deleted() {
    crash("events published").await;
}

#[tokio::test]
async fn after_a_dead_letter_is_stored_before_the_acknowledgement() {
    let place = Place::new().await;
    place.start().await.stop().await;
    let client = place.client().await;
    client.publish(Command::raw("user.block", "{ this is not JSON").id("broken")).await;
    let mut daemon = place.launch_to_crash("put aside");
    daemon.ended().await;
    let daemon = place.start().await;
    // Stored twice rather than not at all.
    let dead = client.dead(2).await;
    assert!(dead.iter().all(|letter| letter.body == dead[0].body && letter.message_id() == "broken"));
    until_true("an empty queue", async || client.depth("commands.state").await == 0).await;
    assert_eq!(daemon.stop().await, 0);
}
