//! Daemons that are stopped and started while work goes on.

use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Client, Command, PASSWORD, Place, Plan, mails, until, until_true};
use crate::smtp_server::Step;

fn request(n: usize) -> Command {
    Command::new("password.reset.request", json!({ "user": { "id": format!("u{n}") } }))
}

/// Commands one after the other, by several at once, until `work` is done; how many there were.
async fn under_load(client: &Client, work: impl Future<Output = ()>) -> usize {
    let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let publishers = (0..8).map(async |_| {
        while !over.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let user =
                json!({ "id": format!("u{n}"), "username": format!("u{n}"), "email": format!("u{n}@example.com") });
            for command in [Command::new("invite.send", json!({ "user": user })), request(n)] {
                let reply = client.ask(command).await;
                assert_eq!((&reply["ok"], &reply["duplicate"]), (&json!(true), &json!(null)), "{reply}");
            }
        }
    });
    let working = async {
        work.await;
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(publishers), working);
    next.into_inner()
}

#[tokio::test]
async fn restarting_all_daemons_by_turns_is_noticed_by_nobody() {
    let place = Place::new().await;
    let mut daemons = [place.start().await, place.start().await, place.start().await];
    let client = place.client().await;
    let count = under_load(&client, async {
        for daemon in &mut daemons {
            let old = std::mem::replace(daemon, place.launch());
            assert_eq!(old.stop().await, 0);
            daemon.wait_until_ready().await;
        }
    })
    .await;
    until_true("all mails on record", async || place.count("emails where state = 'queued'").await == 0).await;
    // Of each person's two mails the second may have made the first pointless; none came twice.
    let mut ids: Vec<String> = mails(&place.mail).iter().map(|mail| mail.header("message-id")).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "a mail came twice");
    let sent = place.count("emails where state = 'sent'").await;
    assert_eq!(i64::try_from(all).unwrap(), sent);
    assert!(count > 8);
    assert_eq!(place.count("emails where template = 'password_reset_link' and state <> 'sent'").await, 0);
    let done = 2 * i64::try_from(count).unwrap();
    assert_eq!((place.count("inbox").await, place.count("tickets").await), (done, done));
    assert_eq!(client.depth("dead").await, 0);
    for daemon in daemons {
        assert_eq!(daemon.stop().await, 0);
    }
}

#[tokio::test]
async fn a_stopping_daemon_hands_over_the_mail_that_it_began() {
    let place = Place::new().await;
    let daemon = place.start().await;
    let client = place.client().await;
    client.users((0..4).map(|n| format!("u{n}"))).await;
    place.mail.wait_at(Step::Data, std::time::Duration::from_millis(800));
    client.publish_all((0..4).map(request)).await;
    until_true("mail on its way", async || place.mail.connections() >= 4).await;
    assert_eq!(daemon.stop().await, 0);
    assert_eq!(place.mail.messages().len(), 4);
    assert_eq!(place.count("emails where state = 'sent' and attempts = 1").await, 4);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let place = Place::new().await;
    let mut daemon = place.start().await;
    let client = place.client().await;
    client.user("u0").await;
    place.mail.hang_at(Step::Data);
    client.publish(request(0)).await;
    until_true("mail on its way", async || place.mail.connections() >= 1).await;
    daemon.signal("TERM");
    until_true("the first signal", async || daemon.log().contains("stopping")).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(130));
}

/// A list of passwords on a file server that is gone: whoever reads it waits, and cannot be told to stop.
#[tokio::test]
async fn a_file_that_is_never_read_to_its_end_does_not_keep_a_daemon_from_ending() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("known.txt");
    std::fs::write(&list, "hunter2hunter2\n").unwrap();
    let plan = Plan::default().set("password.policy.blocklist_file", list.display()).set("shutdown.timeout", "1s");
    let (place, daemon) = plan.start().await;
    let client = place.client().await;
    std::fs::remove_file(&list).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&list).status().unwrap().success());
    client.publish(Command::new("password.check", json!({ "new_password": PASSWORD }))).await;
    // A pipe can be opened like that once somebody reads it; they read until it is closed.
    let mut without_waiting = std::fs::OpenOptions::new();
    without_waiting.write(true).custom_flags(libc::O_NONBLOCK);
    let _endless = until("the daemon to read the list", async || without_waiting.open(&list).ok()).await;
    assert_eq!(daemon.stop().await, 1);
    assert!(place.logs().contains("shutdown.timeout"), "{}", place.logs());
}

#[tokio::test]
async fn a_backlog_delays_nobody_who_signs_in() {
    const WAITING: usize = 3000;
    let place = Place::new().await;
    let client = place.client().await;
    let daemon = place.start().await;
    client.users((0..WAITING).map(|n| format!("u{n}"))).await;
    client.ok("password.set", json!({ "user": { "id": "u0" }, "new_password": crate::harness::PASSWORD })).await;
    assert_eq!(daemon.stop().await, 0);
    client.publish_all((0..WAITING).map(request)).await;
    client.until_depth("commands.state", 3000).await;

    let daemon = place.start().await;
    let sign_in = json!({ "user": { "id": "u0" }, "password": crate::harness::PASSWORD });
    for _ in 0..3 {
        client.ok("session.login", sign_in.clone()).await;
    }
    assert!(place.count("tickets where purpose = 'password_reset'").await < 3000, "the backlog is still there");
    until_true("all mails", async || {
        place.count("emails where template = 'password_reset_link' and state = 'sent'").await == 3000
    })
    .await;
    assert_eq!(daemon.stop().await, 0);
}
