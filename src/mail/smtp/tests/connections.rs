//! Connections that are kept, retire, or are too many.

use super::*;

#[tokio::test]
async fn a_kept_connection_that_has_gone_costs_no_mail() {
    for options in [Options::default(), plain()] {
        let server = SmtpServer::with(options).await;
        let pool = pool(&server);
        send(&pool, "a@example.com").await.unwrap();
        server.cut().await;
        send(&pool, "b@example.com").await.unwrap();
        assert_eq!(server.connections(), 2);
        // Gone only when it is used: closed, refused as a whole, broken later on.
        server.drop_once_at(Step::Mail);
        send(&pool, "c@example.com").await.unwrap();
        server.reply_once_at(Step::Mail, "421 4.4.2 idle for too long");
        send(&pool, "d@example.com").await.unwrap();
        server.drop_once_at(Step::Rcpt);
        send(&pool, "e@example.com").await.unwrap();
        assert_eq!((server.connections(), server.messages().len(), server.violations()), (5, 5, vec![]));
        // A new one is not tried twice.
        server.cut().await;
        server.drop_at(Step::Mail);
        assert_eq!(send(&pool, "f@example.com").await.unwrap_err().kind, Failure::Unreachable);
        assert_eq!(server.connections(), 6);
    }
}

#[tokio::test]
async fn a_kept_connection_that_went_silent_costs_no_mail() {
    let server = SmtpServer::start().await;
    let pool = make(&format!("smtp://{}?tls=none", server.address()), 1, Duration::from_secs(3)).unwrap();
    send(&pool, "a@example.com").await.unwrap();
    server.hang_once_at(Step::Mail);
    send(&pool, "b@example.com").await.unwrap();
    server.refuse_rcpt("550 5.1.1 no", Some("no@example.com"));
    send(&pool, "no@example.com").await.unwrap_err();
    server.hang_once_at(Step::Reset);
    send(&pool, "c@example.com").await.unwrap();
    assert_eq!((server.connections(), server.messages().len()), (3, 3));
}

#[tokio::test]
async fn a_cancelled_mail_does_not_answer_for_the_next() {
    let server = SmtpServer::start().await;
    let pool = pool(&server);
    send(&pool, "a@example.com").await.unwrap();
    server.hang_at(Step::Content);
    let hung = tokio::spawn({
        let pool = pool.clone();
        async move { send(&pool, "b@example.com").await }
    });
    server.wait_for("b@example.com", 1).await;
    hung.abort();
    assert!(hung.await.unwrap_err().is_cancelled());
    server.heal();
    server.refuse_rcpt("550 5.1.1 no", None);
    assert_eq!(send(&pool, "c@example.com").await.unwrap_err().kind, Failure::Permanent);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn connections_retire_with_a_goodbye() {
    let server = SmtpServer::start().await;
    let url = format!("smtp://{}?tls=none", server.address());
    let settings = Settings { url: &url, connections: 1, timeout: Duration::from_secs(20), hello_name: None };
    let pool = Pool::with_retirement(&settings, Retirement { idle: Duration::from_millis(50), mails: 2 }).unwrap();
    for _ in 0..2 {
        send(&pool, "a@example.com").await.unwrap();
    }
    send(&pool, "b@example.com").await.unwrap();
    let last = server.messages_to("b@example.com")[0].connection;
    assert!(last >= 1, "the second mail was the first connection's last");
    // The rest go when nobody uses them.
    while server.quits() < server.connections() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn settings_that_cannot_work_are_named() {
    let url = "smtp://localhost?tls=none";
    let settings = Settings { url, connections: 1, timeout: Duration::from_secs(1), hello_name: None };
    for (settings, named) in [
        (Settings { connections: 0, ..settings.clone() }, "mail.smtp.connections"),
        (Settings { timeout: Duration::ZERO, ..settings.clone() }, "mail.smtp.timeout"),
        (Settings { hello_name: Some("a b"), ..settings.clone() }, "mail.smtp.hello_name"),
        (Settings { hello_name: Some("a\r\nMAIL"), ..settings.clone() }, "mail.smtp.hello_name"),
        (Settings { url: "smtp://h?ca_file=/no/such/file", ..settings.clone() }, "/no/such/file"),
        (Settings { url: "smtp://h?ca_file=/dev/null", ..settings.clone() }, "no PEM certificate"),
        (Settings { url: "ftp://h", ..settings.clone() }, "mail.smtp.url"),
    ] {
        let fault = Pool::new(&settings).err().unwrap().to_string();
        assert!(fault.contains(named), "{fault}");
    }
    assert!(Pool::new(&settings).is_ok());
}

#[tokio::test]
async fn more_connections_than_the_server_allows_are_not_its_end() {
    for most in [1, 3] {
        let server = SmtpServer::start().await;
        server.limit_connections(most);
        server.wait_at(Step::Mail, Duration::from_millis(5));
        let pool = make(&format!("smtp://{}?tls=none", server.address()), 8, Duration::from_secs(20)).unwrap();
        let sending = (0..24).map(|n| {
            let pool = pool.clone();
            async move { send(&pool, &format!("p{n}@example.com")).await.unwrap() }
        });
        futures_util::future::join_all(sending).await;
        assert_eq!((server.messages().len(), server.connections(), server.violations()), (24, most, vec![]));
        assert!((1..=8).contains(&server.turned_away()), "{}", server.turned_away());
        // Who is alone has nothing to wait for.
        pool.close().await;
        server.limit_connections(0);
        let error = send(&pool, "late@example.com").await.unwrap_err();
        assert_eq!((error.kind, error.stage), (Failure::Unreachable, Stage::Greeting));
    }
}

#[tokio::test]
async fn a_sign_in_that_is_too_many_is_not_its_end_either() {
    let server = SmtpServer::with(Options { auth: Some("PLAIN"), ..Options::default() }).await;
    server.wait_at(Step::Mail, Duration::from_millis(200));
    let url = format!("smtp://user:pass@{}?tls=none", server.address());
    let pool = make(&url, 2, Duration::from_secs(20)).unwrap();
    send(&pool, "first@example.com").await.unwrap();
    server.reply_once_at(Step::Auth, "432 4.3.2 Concurrent connections limit exceeded");
    let (a, b) = tokio::join!(send(&pool, "a@example.com"), send(&pool, "b@example.com"));
    a.unwrap();
    b.unwrap();
    assert_eq!(server.messages().iter().map(|message| message.connection).collect::<Vec<_>>(), [0, 0, 0]);
    assert_eq!(server.connections(), 2);
}
