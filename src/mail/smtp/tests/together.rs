//! Several mails over one connection at once.

use super::*;
use crate::mail::smtp::Accepted;

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
    let in_short = |outcome: Result<Accepted, SendError>| match outcome {
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
