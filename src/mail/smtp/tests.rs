//! The client against an SMTP server on loopback: what arrives, and what each failure means.

use std::io::Write;
use std::time::Duration;

use super::pool::Retirement;
use super::smtp_server::{Options, SmtpServer, Step};
use super::{Failure, Pool, SendError, Settings, SetupError, Stage, TlsError};
use crate::mail::message::{Built, Envelope};

const MESSAGE: &[u8] = b"Subject: hello\r\n\r\nfirst\r\n.\r\n..two\r\nlast";

fn plain() -> Options {
    Options { extensions: vec!["8BITMIME"], ..Options::default() }
}

/// Takes a whole mail at once (RFC 3030).
fn chunking() -> Options {
    let mut options = Options::default();
    options.extensions.push("CHUNKING");
    options
}

fn secured(auth: Option<&'static str>) -> Options {
    Options { starttls: true, auth, ..Options::default() }
}

fn make(url: &str, connections: usize, timeout: Duration) -> Result<Pool, SetupError> {
    Pool::new(&Settings { url, connections, timeout, hello_name: Some("client.example") })
}

fn pool(server: &SmtpServer) -> Pool {
    make(&format!("smtp://{}?tls=none", server.address()), 4, Duration::from_secs(20)).unwrap()
}

fn hasty(server: &SmtpServer) -> Pool {
    make(&format!("smtp://{}?tls=none", server.address()), 1, Duration::from_millis(400)).unwrap()
}

fn mail(to: &str) -> Built {
    let envelope = Envelope::new(&"from@example.com".parse().unwrap(), &to.parse().unwrap()).unwrap();
    Built { envelope, message_id: "<1@example.com>".to_owned(), bytes: MESSAGE.to_vec() }
}

async fn send(pool: &Pool, to: &str) -> Result<String, SendError> {
    pool.send(&[mail(to)]).await.remove(0).map(|accepted| accepted.reply)
}

/// A PEM file that is there as long as the value.
fn ca_file(server: &SmtpServer) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(server.ca_pem().as_bytes()).unwrap();
    file
}

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

/// A pool with a connection that worked just now.
async fn warm(server: &SmtpServer) -> Pool {
    let pool = hasty(server);
    send(&pool, "first@example.com").await.unwrap();
    pool
}

/// What became of mails to these people, handed over together: the reply's code, or what the failure means.
async fn together(pool: &Pool, people: &[&str]) -> Vec<String> {
    let mails: Vec<Built> = people.iter().map(|person| mail(&format!("{person}@example.com"))).collect();
    let outcomes = pool.send(&mails).await;
    let in_short = |outcome: Result<super::Accepted, SendError>| match outcome {
        Ok(accepted) => accepted.reply[..3].to_owned(),
        Err(error) if error.with_another => format!("{:?} with another", error.kind),
        Err(error) => format!("{:?} at {}", error.kind, error.stage),
    };
    outcomes.into_iter().map(in_short).collect()
}

#[tokio::test]
async fn several_mails_arrive_each_whatever_becomes_of_the_others() {
    for options in [chunking(), Options::default(), plain()] {
        let server = SmtpServer::with(options).await;
        let pool = warm(&server).await;
        assert_eq!(together(&pool, &["a", "b", "c", "d"]).await, ["250"; 4]);
        server.refuse_rcpt("550 5.1.1 no such user", Some("no@example.com"));
        server.refuse_rcpt("451 4.3.0 later", Some("wait@example.com"));
        let (no, wait) = ("Permanent at RCPT TO", "Transient at RCPT TO");
        // An answer that comes after those to the next mails' commands would have.
        server.wait_at(Step::Rcpt, Duration::from_millis(1));
        assert_eq!(together(&pool, &["no", "e", "wait", "f"]).await, [no, "250", wait, "250"]);
        assert_eq!(together(&pool, &["g", "no", "no"]).await, ["250", no, no]);
        server.reply_once_at(Step::Mail, "452 4.3.1 full");
        assert_eq!(together(&pool, &["h", "i"]).await, ["Transient at MAIL FROM", "250"]);
        server.reply_once_at(Step::Content, "554 5.6.0 spam");
        assert_eq!(together(&pool, &["j", "k", "l"]).await, ["Permanent at message", "250", "250"]);
        let people: Vec<String> = server.messages().iter().map(|message| message.to[0].clone()).collect();
        let expected = ["first", "a", "b", "c", "d", "e", "f", "g", "i", "k", "l"];
        assert_eq!(people, expected.map(|person| format!("{person}@example.com")));
        assert!(server.messages().iter().all(|m| m.data.strip_suffix(b"\r\n").unwrap_or(&m.data) == MESSAGE));
        assert_eq!((server.connections(), server.violations()), (1, vec![]));
    }
}

#[tokio::test]
async fn a_connection_that_ends_puts_those_in_doubt_that_had_no_answer() {
    let (doubt, beside) = ("Ambiguous at message", "Ambiguous with another");
    for (step, first) in [(Step::Mail, doubt), (Step::Rcpt, doubt), (Step::Body, doubt), (Step::Content, doubt)] {
        for hangs in [false, true] {
            let server = SmtpServer::with(chunking()).await;
            let pool = warm(&server).await;
            if hangs {
                server.hang_at(step);
            } else {
                server.drop_once_at(step);
            }
            assert_eq!(together(&pool, &["a", "b", "c"]).await, [first, beside, beside], "{step:?}, hangs: {hangs}");
            server.heal();
            assert_eq!(together(&pool, &["d", "e"]).await, ["250", "250"]);
            assert_eq!((server.connections(), server.violations()), (2, vec![]), "{step:?}");
        }
    }
    // In their midst.
    let server = SmtpServer::with(chunking()).await;
    let pool = warm(&server).await;
    server.refuse_rcpt("421 4.7.0 too much", Some("c@example.com"));
    let outcomes = together(&pool, &["a", "b", "c", "d", "e"]).await;
    assert_eq!(outcomes, ["250", "250", "Unreachable at RCPT TO", beside, beside]);
    assert_eq!(together(&pool, &["f", "g", "h"]).await, ["250", "250", "250"], "over a new connection, one by one");
    server.hang_at_rcpt("g@example.com");
    assert_eq!(together(&pool, &["f", "g", "h"]).await, ["250", doubt, beside]);
}

#[tokio::test]
async fn step_by_step_never_more_than_one_is_in_doubt() {
    for (step, first) in [
        (Step::Mail, "250"),
        (Step::Rcpt, "250"),
        (Step::Data, "250"),
        (Step::Body, "Ambiguous at message"),
        (Step::Content, "Ambiguous at message"),
    ] {
        for fault in [SmtpServer::drop_once_at, SmtpServer::hang_once_at] {
            let server = SmtpServer::start().await;
            let pool = warm(&server).await;
            fault(&server, step);
            assert_eq!(together(&pool, &["a", "b", "c"]).await, [first, "250", "250"], "{step:?}");
            for (person, doubtful) in [("a", step == Step::Content || first == "250"), ("b", true), ("c", true)] {
                let came = server.messages_to(&format!("{person}@example.com")).len();
                assert_eq!(came, usize::from(doubtful), "{person} after a fault at {step:?}");
            }
            assert_eq!(server.violations(), Vec::<String>::new(), "{step:?}");
        }
    }
    // Words about the session are no verdict on a mail either; it goes over another connection.
    let server = SmtpServer::start().await;
    let pool = warm(&server).await;
    server.reply_once_at(Step::Rcpt, "421 4.7.0 too much");
    assert_eq!(together(&pool, &["a", "b"]).await, ["250", "250"]);
    assert_eq!((server.messages().len(), server.connections()), (3, 2));
}

#[tokio::test]
async fn a_mail_that_the_server_cannot_take_holds_up_no_other() {
    let mut options = chunking();
    options.extensions.retain(|extension| *extension != "SMTPUTF8");
    let mut by_steps = options.clone();
    by_steps.extensions.retain(|extension| *extension != "CHUNKING");
    for options in [options, by_steps] {
        let server = SmtpServer::with(options).await;
        let pool = warm(&server).await;
        let refused = "Permanent at MAIL FROM";
        assert_eq!(together(&pool, &["a", "b", "élise", "c", "d"]).await, ["250", "250", refused, "250", "250"]);
        assert_eq!(together(&pool, &["élise", "e", "f"]).await, [refused, "250", "250"]);
        assert_eq!((server.messages().len(), server.connections(), server.violations()), (7, 1, vec![]));
    }
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
