//! What arrives.

use super::*;

#[tokio::test]
async fn mails_arrive_whole_over_one_kept_connection() {
    for options in [Options::default(), plain(), chunking()] {
        let server = SmtpServer::with(options).await;
        let pool = pool(&server);
        for n in 0..20 {
            let reply = send(&pool, &format!("p{n}@example.com")).await.unwrap();
            assert_eq!(reply, format!("250 2.0.0 Ok: queued as {}", n + 1));
        }
        for message in server.messages() {
            assert_eq!(message.from, "from@example.com");
            assert_eq!(message.to.len(), 1);
            assert_eq!(message.data.strip_suffix(b"\r\n").unwrap_or(&message.data), MESSAGE);
        }
        assert_eq!((server.messages().len(), server.connections(), server.violations()), (20, 1, vec![]));
        pool.close().await;
        assert_eq!(server.quits(), 1);
    }
}

#[tokio::test]
async fn a_refused_address_holds_up_nobody() {
    for options in [Options::default(), plain(), chunking()] {
        let server = SmtpServer::with(options).await;
        let pool = pool(&server);
        server.refuse_rcpt("550-5.1.1 <no@example.com>:\r\n550 5.1.1 no such user", Some("no@example.com"));
        server.refuse_rcpt("451 4.3.0 later", Some("wait@example.com"));
        for _ in 0..3 {
            let refused = send(&pool, "no@example.com").await.unwrap_err();
            assert_eq!((refused.kind, refused.stage), (Failure::Permanent, Stage::Rcpt));
            assert_eq!(refused.reply, "550 5.1.1 <no@example.com>: no such user");
            assert_eq!(refused.to_string(), "refused for good at RCPT TO: 550 5.1.1 <n***@example.com>: no such user");
            assert_eq!(send(&pool, "wait@example.com").await.unwrap_err().kind, Failure::Transient);
            send(&pool, "yes@example.com").await.unwrap();
        }
        assert_eq!((server.messages().len(), server.connections(), server.violations()), (3, 1, vec![]));
    }
}

#[tokio::test]
async fn international_addresses_need_a_server_that_takes_them() {
    let server = SmtpServer::start().await;
    send(&pool(&server), "élise@bücher.example").await.unwrap();
    let message = &server.messages()[0];
    assert_eq!(
        (message.to[0].as_str(), message.parameters.as_str()),
        ("élise@xn--bcher-kva.example", "BODY=8BITMIME SMTPUTF8")
    );

    let server = SmtpServer::with(plain()).await;
    let pool = pool(&server);
    // The domain alone needs nothing.
    send(&pool, "elise@bücher.example").await.unwrap();
    assert_eq!(server.messages()[0].parameters, "");
    let error = send(&pool, "élise@example.com").await.unwrap_err();
    assert_eq!((error.kind, error.stage), (Failure::Permanent, Stage::Mail));
    assert!(error.reply.contains("SMTPUTF8"), "{error}");
    send(&pool, "b@example.com").await.unwrap();
    assert_eq!(server.connections(), 1);
}
