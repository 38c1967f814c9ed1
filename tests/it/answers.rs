//! Answers whose moment must tell nothing wait; nothing else does.

use serde_json::json;

use crate::harness::{Command, PASSWORD, Plan, mail_to};

fn request(id: &str) -> Command {
    Command::new("password.reset.request", json!({ "user": { "id": id } }))
}

#[tokio::test]
async fn an_answer_that_waits_holds_nothing_up() {
    // Long enough for everything else, however slow the machine.
    let (place, daemon) = Plan::default().set("password_reset.answer_after", "10s").start().await;
    let client = place.client().await;
    client.user("ada").await;
    let waiting = client.begin_all(&[request("ada"), request("ghost"), request("nobody")]).await;
    // The mail is out, and the same lane goes on.
    let token = mail_to(&place.mail, "ada@example.com", 1).await.token();
    for n in 0..5 {
        client.user(&format!("other{n}")).await;
    }
    // Support gets the truth, at once.
    let by_support = json!({ "user": { "id": "ghost" }, "actor": "system" });
    assert_eq!(client.error("password.reset.request", by_support).await, "user_not_found");
    client.ok("password.reset.inspect", json!({ "token": token })).await;
    assert!(waiting.iter().all(|correlation| !client.has_reply(correlation)), "it did not wait");
    // Asked to stop, the daemon still gives the answers that it owes.
    assert_eq!(daemon.stop().await, 0);
    for correlation in &waiting {
        let reply = client.reply(correlation).await;
        assert_eq!(reply["result"], json!({ "accepted": true }), "{reply}");
        assert_eq!(reply.get("duplicate"), None, "{reply}");
    }
    let _again = place.start().await;
    client.ok("user.get", json!({ "user": { "id": "ada" } })).await;
    assert_eq!(client.depth("commands.state").await, 0, "all of them were acknowledged");
}

#[tokio::test]
async fn a_crash_while_an_answer_waits_loses_neither_it_nor_others() {
    let (place, daemon) = Plan::default().set("password_reset.answer_after", "10s").start().await;
    let client = place.client().await;
    client.user("ada").await;
    let request = request("ada");
    let waiting = client.begin(&request).await;
    mail_to(&place.mail, "ada@example.com", 1).await;
    // Acknowledged on every channel of the lane, after what waits.
    for n in 0..4 {
        client.user(&format!("other{n}")).await;
    }
    assert!(!client.has_reply(&waiting));
    daemon.kill();
    let _again = place.start().await;
    let reply = client.reply(&waiting).await;
    assert_eq!((&reply["result"], &reply["duplicate"]), (&json!({ "accepted": true }), &json!(true)));
    assert_eq!(place.count("emails").await, 1);
    assert_eq!(place.count("users").await, 5);
}

#[tokio::test]
async fn refused_sign_ins_wait_and_others_do_not() {
    let (place, _daemon) = Plan::default().set("login.answer_after", "10s").start().await;
    let client = place.client().await;
    client.user("ada").await;
    client.ok("password.set", json!({ "user": { "id": "ada" }, "new_password": PASSWORD })).await;
    let login =
        |id: &str, password: &str| Command::new("session.login", json!({ "user": { "id": id }, "password": password }));
    let refused = client.begin_all(&[login("ada", "Wrong-Guess-4711"), login("ghost", PASSWORD)]).await;
    for _ in 0..3 {
        let reply = client.ask(login("ada", PASSWORD)).await;
        assert_eq!(reply["ok"], true, "{reply}");
    }
    assert!(refused.iter().all(|correlation| !client.has_reply(correlation)), "they did not wait");
    for correlation in &refused {
        assert_eq!(client.reply(correlation).await["error"]["code"], "invalid_credentials");
    }
}
