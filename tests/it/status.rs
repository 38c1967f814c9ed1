//! `regrant status`: one screen on what daemons are doing.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::harness::{Place, Plan, until_true};

fn look(place: &Place, urls: &[&str]) -> Value {
    let mut arguments = vec!["status", "--json"];
    for url in urls {
        arguments.extend(["--url", url]);
    }
    let shell = place.shell(&arguments);
    serde_json::from_str(&shell.out).unwrap_or_else(|error| panic!("{error}: {shell:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn several_daemons_are_one_picture() {
    let (place, first) = Plan::default().start().await;
    let second = place.start().await;
    let client = place.client().await;
    client.user("ada").await;
    client.ok("session.check", json!({ "session_id": "019ac2f0-7c1a-7000-8000-000000000001" })).await;
    place.mail.refuse_rcpt("550 5.1.1 <ada@example.com> no such user", None);
    client.ok("password.reset.request", json!({ "user": { "id": "ada" } })).await;
    until_true("the mail to fail", async || place.count("emails where state = 'failed'").await == 1).await;
    client.bury_all([("user.put", json!({})).into()]).await;

    let status = look(&place, &[&first.url(), &second.url()]);
    let ready: Vec<&Value> = status["daemons"].as_array().unwrap().iter().map(|daemon| &daemon["ready"]).collect();
    assert_eq!(ready, [&json!(true), &json!(true)], "{status}");
    assert_eq!((&status["troubles"], &status["dead_letters"]), (&json!([]), &json!(1)), "{status}");
    let lanes = status["lanes"].as_array().unwrap();
    assert_eq!(
        lanes.iter().map(|lane| lane["lane"].as_str().unwrap()).collect::<Vec<_>>(),
        ["state", "credentials", "queries", "unknown"]
    );
    assert!(lanes.iter().all(|lane| lane["waiting"] == 0), "{status}");
    assert!(lanes[0]["p99"].is_number() && lanes[2]["p50"].is_number(), "{status}");
    let failed = &status["failed_mails"][0];
    assert!(failed["reply"].as_str().unwrap().contains("a***@example.com"), "{failed}");

    let shown = place.shell(&["status", "--once", "--url", &first.url(), "--url", &second.url()]).success();
    assert!(shown.contains("2 of 2 daemons ready") && shown.contains("1 waiting"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80) && !shown.contains('\u{1b}'), "{shown}");

    let gone = second.url();
    second.kill();
    let half = place.shell(&["status", "--once", "--url", &first.url(), "--url", &gone]);
    assert_eq!(half.code, 1, "{half:?}");
    assert!(half.out.contains("1 of 2 daemons ready") && half.out.contains("does not answer"), "{half:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_daemon_is_not_ready_for_is_told() {
    let proxy = crate::broker::proxy::Proxy::before_the_broker().await;
    let (place, daemon) = Plan::default().broker_url(proxy.url("")).start().await;
    proxy.refuse(true);
    proxy.cut();
    daemon.wait_until_not_ready("broker").await;
    let status = look(&place, &[&daemon.url()]);
    assert_eq!(
        (&status["daemons"][0]["ready"], &status["daemons"][0]["broker"]),
        (&json!(false), &json!(false)),
        "{status}"
    );
    let troubles = status["troubles"].to_string();
    assert!(troubles.contains("broker: ") && troubles.contains("what waits is not known"), "{troubles}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_daemon_tells_is_null() {
    let status = look(&Place::new().await, &["http://127.0.0.1:1/"]);
    let daemon = &status["daemons"][0];
    assert_eq!((&daemon["broker"], &daemon["database"]), (&Value::Null, &Value::Null), "{status}");
    let lane = &status["lanes"][0];
    assert!(["done", "refused", "failed"].iter().all(|number| lane[number].is_null()), "{lane}");
    assert_eq!(status["logins"], json!({ "ok": null, "refused": null }));
    assert_eq!(status["hashing"]["rate"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_is_shown_again_and_again_and_leaves_nothing_behind() {
    let (place, daemon) = Plan::default().start().await;
    for colours in [true, false] {
        let mut script = place.terminal(&["status", "--interval", "1", "--url", &daemon.url()]);
        script.env_remove("NO_COLOR");
        if !colours {
            script.env("NO_COLOR", "1");
        }
        let mut script = script.spawn().unwrap();
        let mut shown = script.stdout.take().unwrap();
        let screens =
            |text: &str| ["", "\x1b[1m"].map(|bold| text.matches(&format!("\x1b[H{bold}regrant status")).count());
        let mut text = String::new();
        while screens(&text).iter().sum::<usize>() < 3 {
            let mut part = [0; 4096];
            let read = shown.read(&mut part).unwrap();
            assert!(read > 0, "it ended by itself: {text:?}");
            text.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        // Ctrl-C, as a keyboard sends it.
        script.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
        let mut rest = Vec::new();
        shown.read_to_end(&mut rest).unwrap();
        text.push_str(&String::from_utf8_lossy(&rest));
        script.wait().unwrap();
        assert!(text.starts_with("\x1b[?1049h\x1b[?25l"), "{text:?}");
        assert!(text.trim_end_matches("^C").ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l"), "{text:?}");
        assert_eq!(text.contains("\x1b[1m"), colours, "{text:?}");
        assert_eq!(text.matches("\x1b[2J").count(), 1, "it is written over, not wiped: no flicker");
    }
}
