//! Encryption and signing in.

use super::*;

#[tokio::test]
async fn encryption_as_asked() {
    let server = SmtpServer::with(secured(None)).await;
    let ca = ca_file(&server);
    let (port, ca) = (server.address().port(), ca.path().display());
    let limit = Duration::from_secs(20);
    for (url, encrypted) in [
        (format!("smtp://127.0.0.1:{port}?tls=none"), false),
        (format!("smtp://127.0.0.1:{port}"), true),
        (format!("smtp://127.0.0.1:{port}?ca_file={ca}"), true),
        (format!("smtp://localhost:{port}?tls=required&ca_file={ca}"), true),
        (format!("smtp://127.0.0.1:{port}?tls=required&tls_name=localhost&ca_file={ca}"), true),
    ] {
        send(&make(&url, 1, limit).unwrap(), "a@example.com").await.unwrap();
        assert_eq!(server.messages().last().unwrap().encrypted, encrypted, "{url}");
    }
    for url in [
        format!("smtp://127.0.0.1:{port}?tls=required&tls_name=mail.example&ca_file={ca}"),
        // The system's authorities do not know this one.
        format!("smtp://127.0.0.1:{port}?tls=required"),
        format!("smtp://user:pass@127.0.0.1:{port}"),
    ] {
        match make(&url, 1, limit) {
            Ok(pool) => {
                let error = send(&pool, "a@example.com").await.unwrap_err();
                assert_eq!((error.kind, error.stage), (Failure::Unreachable, Stage::StartTls), "{url}");
                assert!(error.reply.contains("TLS handshake") && error.reply.contains("certificate"), "{error}");
            }
            // A machine without any.
            Err(fault) => assert!(matches!(fault, SetupError::Tls(TlsError::NoRoots(_))), "{fault}"),
        }
    }
    assert_eq!((server.messages().len(), server.violations()), (5, vec![]));
}

#[tokio::test]
async fn encryption_from_the_first_byte() {
    let server = SmtpServer::with(Options { implicit_tls: true, ..Options::default() }).await;
    let ca = ca_file(&server);
    let url = format!("smtps://{}?ca_file={}", server.address(), ca.path().display());
    let pool = make(&url, 1, Duration::from_secs(20)).unwrap();
    for n in 0..3 {
        send(&pool, &format!("p{n}@example.com")).await.unwrap();
    }
    let checked = pool.check().await.unwrap();
    assert_eq!(checked, format!("{} answers (TLSv1.3, certificate verified)", server.address()));
    assert!(server.messages().iter().all(|message| message.encrypted && message.connection == 0));
    server.cut().await;
    send(&pool, "again@example.com").await.unwrap();
}

#[tokio::test]
async fn encryption_is_not_given_up_where_required() {
    let server = SmtpServer::start().await;
    let ca = ca_file(&SmtpServer::with(secured(None)).await);
    let url = |server: &SmtpServer| format!("smtp://{}?tls=required&ca_file={}", server.address(), ca.path().display());
    let limit = Duration::from_secs(20);
    let error = send(&make(&url(&server), 1, limit).unwrap(), "a@example.com").await.unwrap_err();
    assert_eq!((error.kind, error.stage), (Failure::Unreachable, Stage::StartTls));
    assert!(error.reply.contains("does not offer STARTTLS"), "{error}");
    let server = SmtpServer::with(secured(None)).await;
    for (reply, said) in [
        ("454 4.7.0 not now", "454 4.7.0 not now"),
        ("501 5.5.4 no", "501 5.5.4 no"),
        // Words smuggled in before the handshake must not count as said under encryption.
        ("220 go ahead\r\n250 injected", "ahead of the TLS handshake"),
    ] {
        server.heal();
        server.reply_at(Step::StartTls, reply);
        let error = send(&make(&url(&server), 1, limit).unwrap(), "a@example.com").await.unwrap_err();
        assert_eq!((error.kind, error.stage), (Failure::Unreachable, Stage::StartTls), "{error}");
        assert!(error.reply.contains(said), "{error}");
    }
    server.heal();
    server.reply_at(Step::StartTls, "454 4.7.0 not now");
    let lenient = make(&format!("smtp://{}", server.address()), 1, limit).unwrap();
    send(&lenient, "a@example.com").await.unwrap();
    assert!(!server.messages()[0].encrypted);
}

#[tokio::test]
async fn signing_in() {
    for mechanisms in ["PLAIN LOGIN", "LOGIN", "PLAIN"] {
        let server = SmtpServer::with(secured(Some(mechanisms))).await;
        let ca = ca_file(&server);
        let url = |user: &str| format!("smtp://{user}@{}?ca_file={}", server.address(), ca.path().display());
        let limit = Duration::from_secs(20);
        let good = make(&url("user:pass"), 1, limit).unwrap();
        send(&good, "a@example.com").await.unwrap();
        assert_eq!(server.messages()[0].user.as_deref(), Some("user"));
        assert!(good.check().await.unwrap().ends_with("certificate verified, signed in)"));

        let bad = make(&url("user:swordfish"), 1, limit).unwrap();
        let error = send(&bad, "a@example.com").await.unwrap_err();
        assert_eq!((error.kind, error.stage), (Failure::Unreachable, Stage::Auth));
        assert_eq!(error.reply, "535 5.7.8 wrong user name or password");
        assert_eq!(bad.check().await.unwrap_err(), error);

        // Without credentials, the server's "530" is not the mail's fault either.
        let none = make(&format!("smtp://{}", server.address()), 1, limit).unwrap();
        assert_eq!(send(&none, "a@example.com").await.unwrap_err().kind, Failure::Unreachable);
        assert_eq!((server.messages().len(), server.violations()), (1, vec![]));
    }
}

#[tokio::test]
async fn a_password_is_not_sent_in_the_clear_nor_repeated() {
    let server = SmtpServer::with(Options { auth: Some("PLAIN"), ..Options::default() }).await;
    let limit = Duration::from_secs(20);
    let url = |query: &str| format!("smtp://user:pass@{}{query}", server.address());
    // Whether the system has authorities to trust does not matter here.
    let ca = ca_file(&SmtpServer::with(secured(None)).await);
    let careful = make(&url(&format!("?ca_file={}", ca.path().display())), 1, limit).unwrap();
    let error = send(&careful, "a@example.com").await.unwrap_err();
    assert_eq!((error.kind, error.stage), (Failure::Unreachable, Stage::Auth));
    assert!(error.reply.contains("the password was not sent"), "{error}");
    let careless = make(&url("?tls=none"), 1, limit).unwrap();
    send(&careless, "a@example.com").await.unwrap();
    // base64 of NUL user NUL pass
    server.reply_at(Step::Auth, "500 5.5.2 unknown: AUTH PLAIN AHVzZXIAcGFzcw== (pass)");
    let error = careless.check().await.unwrap_err();
    assert_eq!(error.reply, "500 5.5.2 unknown: AUTH PLAIN [redacted] ([redacted])");
}
