use serde_json::json;

use crate::commands::testing::Bed;
use crate::domain::rejection::Code;

#[test]
fn a_session_ends_once_and_alone() {
    let mut bed = Bed::with_member("ada");
    let (session, other) = (bed.sign_in("ada"), bed.sign_in("ada"));
    bed.quiet();
    for (twice, events) in [(false, vec!["session.closed"]), (true, vec![])] {
        assert_eq!(bed.ok("session.logout", json!({ "session_id": session })), json!({}), "{twice}");
        assert_eq!(bed.events(), events);
        assert_eq!((bed.touched.as_slice(), &bed.details["session_id"]), (&["ada".to_owned()][..], &json!(session)));
    }
    let live = bed.account("ada").sessions.iter().filter(|s| s.is_live(bed.now)).map(|s| s.id.to_string());
    assert_eq!(live.collect::<Vec<_>>(), [other]);
    assert_eq!(bed.account("ada").session_epoch, 0);
}

#[test]
fn an_expired_session_is_closed_already() {
    let mut bed = Bed::with_member("ada");
    let session = bed.sign_in("ada");
    bed.quiet();
    bed.wait(30 * 86_400);
    bed.ok("session.logout", json!({ "session_id": session }));
    assert!(bed.events().is_empty());
}

#[test]
fn a_session_that_nobody_has_is_not_found() {
    let mut bed = Bed::with_member("ada");
    let longest = "x".repeat(128);
    for id in ["0197f7a0-0000-7000-8000-000000000000", "nope", &longest] {
        assert_eq!(bed.refused("session.logout", json!({ "session_id": id })), Code::SessionNotFound, "{id}");
        assert_eq!(bed.refused("session.force_logout", json!({ "session_id": id })), Code::SessionNotFound, "{id}");
        assert_eq!(bed.refused("email.resend", json!({ "email_id": id })), Code::EmailNotFound, "{id}");
        let report = json!({ "email_id": id, "kind": "delivered" });
        assert_eq!(bed.refused("email.report", report), Code::EmailNotFound, "{id}");
    }
    for id in [json!(""), json!("x".repeat(129)), json!(7)] {
        assert_eq!(bed.refused("session.logout", json!({ "session_id": id })), Code::InvalidBody, "{id}");
    }
}
