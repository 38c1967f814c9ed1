//! What each failure means for the mail.

use super::*;

#[tokio::test]
async fn what_a_refusal_means_depends_on_the_step() {
    use Failure::{Ambiguous, Permanent, Transient, Unreachable};
    for (step, reply, kind) in [
        (Step::Greeting, "554 5.3.2 closed", Unreachable),
        (Step::Ehlo, "550 5.7.1 not you", Unreachable),
        (Step::Mail, "550 5.7.1 sender", Permanent),
        (Step::Mail, "452 4.3.1 full", Transient),
        (Step::Mail, "530 5.7.0 Must issue a STARTTLS command first", Unreachable),
        (Step::Mail, "421 4.7.0 too much", Unreachable),
        (Step::Rcpt, "553 5.1.3 syntax", Permanent),
        (Step::Data, "554 5.7.1 no", Permanent),
        (Step::Data, "451 4.3.0 later", Transient),
        (Step::Content, "554 5.6.0 spam", Permanent),
        (Step::Content, "451 4.3.0 later", Transient),
        (Step::Content, "421 4.3.2 closing", Unreachable),
        (Step::Content, "200 whatever", Ambiguous),
    ] {
        for options in [Options::default(), plain(), chunking()] {
            if step == Step::Data && options.extensions.contains(&"CHUNKING") {
                continue;
            }
            let server = SmtpServer::with(options).await;
            let pool = pool(&server);
            server.reply_at(step, reply);
            let error = send(&pool, "a@example.com").await.unwrap_err();
            assert_eq!((error.kind, error.reply.as_str()), (kind, reply), "{step:?}");
            // Whatever it was, the next mail is not told the wrong thing.
            server.heal();
            send(&pool, "b@example.com").await.unwrap();
            assert_eq!((server.messages().len(), server.violations()), (1, vec![]), "{step:?} {reply}");
            let kept = matches!(kind, Permanent | Transient);
            assert_eq!(server.connections(), if kept { 1 } else { 2 }, "{step:?} {reply}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_is_the_mails_fault_at_no_step() {
    for options in [Options::default(), plain()] {
        for (step, kind) in [
            (Step::Greeting, Failure::Unreachable),
            (Step::Ehlo, Failure::Unreachable),
            (Step::Mail, Failure::Unreachable),
            (Step::Rcpt, Failure::Unreachable),
            (Step::Data, Failure::Unreachable),
            (Step::Body, Failure::Ambiguous),
            (Step::Content, Failure::Ambiguous),
        ] {
            let server = SmtpServer::with(options.clone()).await;
            let pool = hasty(&server);
            server.drop_once_at(step);
            let dropped = send(&pool, "a@example.com").await.unwrap_err();
            assert_eq!(dropped.kind, kind, "dropped at {step:?}: {dropped}");
            server.heal();
            server.hang_at(step);
            let hung = send(&pool, "b@example.com").await.unwrap_err();
            assert_eq!(hung.kind, kind, "hung at {step:?}: {hung}");
            assert!(hung.reply.contains("did not finish within 400ms"), "{hung}");
            server.heal();
            send(&pool, "c@example.com").await.unwrap();
            assert_eq!(server.messages_to("c@example.com").len(), 1);
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_while_a_whole_mail_is_on_its_way_may_have_brought_it() {
    for step in [Step::Mail, Step::Rcpt, Step::Body, Step::Content] {
        let server = SmtpServer::with(chunking()).await;
        let pool = hasty(&server);
        send(&pool, "first@example.com").await.unwrap();
        server.drop_once_at(step);
        let dropped = send(&pool, "a@example.com").await.unwrap_err();
        assert_eq!(dropped.kind, Failure::Ambiguous, "dropped at {step:?}: {dropped}");
        server.heal();
        server.hang_at(step);
        let hung = send(&pool, "b@example.com").await.unwrap_err();
        assert_eq!(hung.kind, Failure::Ambiguous, "hung at {step:?}: {hung}");
        server.heal();
        send(&pool, "c@example.com").await.unwrap();
        assert_eq!((server.messages_to("c@example.com").len(), server.violations()), (1, vec![]));
    }
}

#[tokio::test]
async fn garbage_is_the_servers_fault_and_bounded() {
    let endless_line = format!("250 {}", "x".repeat(100_000));
    let endless_reply = format!("{}250 x", "250-x\r\n".repeat(200));
    for garbage in
        ["HTTP/1.1 400 Bad Request", "250-a\r\n550 b", "\0\u{1}\u{2}", "25", "999 x", &endless_line, &endless_reply]
    {
        for step in [Step::Greeting, Step::Ehlo, Step::Rcpt] {
            let server = SmtpServer::start().await;
            server.reply_at(step, garbage);
            let error = send(&pool(&server), "a@example.com").await.unwrap_err();
            assert_eq!(error.kind, Failure::Unreachable, "{step:?}");
            assert!(error.reply.contains("not SMTP"), "{error}");
        }
    }
    let server = SmtpServer::start().await;
    server.reply_at(Step::Content, "ok");
    assert_eq!(send(&pool(&server), "a@example.com").await.unwrap_err().kind, Failure::Ambiguous);
}

#[tokio::test]
async fn nobody_listening_is_said_plainly() {
    let server = SmtpServer::start().await;
    let pool = pool(&server);
    let address = server.address();
    drop(server);
    tokio::task::yield_now().await;
    let error = send(&pool, "a@example.com").await.unwrap_err();
    assert_eq!((error.kind, error.stage), (Failure::Unreachable, Stage::Connect));
    assert!(error.reply.contains(&format!("cannot connect to {address}")), "{error}");
    let nowhere = make("smtp://no.such.host.invalid?tls=none", 1, Duration::from_secs(20)).unwrap();
    let error = send(&nowhere, "a@example.com").await.unwrap_err();
    assert_eq!((error.kind, error.stage), (Failure::Unreachable, Stage::Connect));
}
