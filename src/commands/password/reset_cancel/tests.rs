use secrecy::ExposeSecret;
use serde_json::json;

use crate::commands::testing::{BETTER, Bed};
use crate::domain::rejection::Code;
use crate::domain::ticket::{Purpose, State};
use crate::keys::TokenUse;

const COMMAND: &str = "password.reset.cancel";

/// The token of the newest reset mail's `cancel_link`.
fn cancel_token(bed: &Bed) -> String {
    let ticket = bed.ticket("ada", Purpose::PasswordReset);
    bed.keys.token(&ticket.key_id, TokenUse::Cancel, ticket.id).unwrap().expose_secret().to_owned()
}

#[test]
fn a_link_that_somebody_else_asked_for_dies() {
    let mut bed = Bed::with_member("ada");
    let link = bed.reset_link("ada");
    bed.quiet();
    let cancel = json!({ "token": cancel_token(&bed), "context": { "ip": "192.0.2.1" } });
    for _ in 0..2 {
        assert_eq!(bed.ok(COMMAND, cancel.clone()), json!({ "cancelled": true }));
        assert_eq!(bed.touched, ["ada"]);
        let ticket = bed.ticket("ada", Purpose::PasswordReset);
        assert_eq!((ticket.state, ticket.closed_at), (State::Revoked, Some(bed.now)));
        assert_eq!(bed.details["ticket_id"], ticket.id.to_string());
    }
    assert!(bed.mails().is_empty() && bed.events().is_empty());
    assert_eq!(bed.refused("password.reset.inspect", json!({ "token": link })), Code::TokenRevoked);
    let complete = json!({ "token": link, "new_password": BETTER });
    assert_eq!(bed.refused("password.reset.complete", complete), Code::TokenRevoked);
    // The person can still ask for one of their own.
    bed.wait(60);
    let link = bed.reset_link("ada");
    bed.ok("password.reset.complete", json!({ "token": link, "new_password": BETTER }));
}

#[test]
fn a_code_dies_by_the_link_of_its_mail() {
    let mut bed = Bed::with_member("ada");
    let code = bed.reset_code("ada");
    let cancel = json!({ "token": cancel_token(&bed) });
    bed.ok(COMMAND, cancel);
    let complete = json!({ "user": { "id": "ada" }, "code": code, "new_password": BETTER });
    assert_eq!(bed.refused("password.reset.complete", complete), Code::TokenRevoked);
}

#[test]
fn the_reset_link_itself_cancels_too() {
    let mut bed = Bed::with_member("ada");
    let link = bed.reset_link("ada");
    assert_eq!(bed.ok(COMMAND, json!({ "token": link })), json!({ "cancelled": true }));
}

#[test]
fn a_cancel_token_does_nothing_else() {
    let mut bed = Bed::with_member("ada");
    bed.reset_link("ada");
    let token = cancel_token(&bed);
    assert_eq!(bed.refused("password.reset.inspect", json!({ "token": token })), Code::TokenInvalid);
    let complete = json!({ "token": token, "new_password": BETTER });
    assert_eq!(bed.refused("password.reset.complete", complete), Code::TokenInvalid);
}

#[test]
fn what_is_over_is_told_precisely() {
    let mut bed = Bed::with_member("ada");
    bed.reset_link("ada");
    let old = json!({ "token": cancel_token(&bed) });
    bed.wait(60);
    let link = bed.reset_link("ada");
    let new = json!({ "token": cancel_token(&bed) });
    let refusal = bed.run(COMMAND, old).unwrap_err();
    assert_eq!(
        (&refusal["code"], &refusal["details"]["newer_requested_at"]),
        (&json!("token_superseded"), &json!("2027-01-15T08:01:00.000Z"))
    );
    bed.ok("password.reset.complete", json!({ "token": link, "new_password": BETTER }));
    assert_eq!(bed.refused(COMMAND, new), Code::TokenUsed);
    bed.wait(60);
    let code = bed.reset_code("ada");
    let late = json!({ "token": cancel_token(&bed) });
    let wrong = if code == "00000000" { "11111111" } else { "00000000" };
    for _ in 0..5 {
        let _ = bed.run("password.reset.inspect", json!({ "user": { "id": "ada" }, "code": wrong }));
    }
    assert_eq!(bed.refused(COMMAND, late), Code::TooManyAttempts);
    bed.wait(60);
    bed.reset_link("ada");
    let late = json!({ "token": cancel_token(&bed) });
    bed.wait(24 * 3600);
    assert_eq!(bed.refused(COMMAND, late), Code::TokenExpired);
    bed.check_invariants();
}

#[test]
fn only_resets_are_cancelled_so() {
    let mut bed = Bed::default();
    bed.ok("invite.send", json!({ "user": { "id": "ada", "username": "ada", "email": "ada@example.com" } }));
    let invite = bed.ticket("ada", Purpose::Invite).clone();
    for use_ in TokenUse::ALL {
        let token = bed.keys.token(&invite.key_id, use_, invite.id).unwrap();
        assert_eq!(bed.refused(COMMAND, json!({ "token": token.expose_secret() })), Code::TokenInvalid, "{use_:?}");
    }
    let gone = bed.keys.token(&invite.key_id, TokenUse::Cancel, uuid::Uuid::from_u128(1)).unwrap();
    for token in ["", "x", gone.expose_secret()] {
        assert_eq!(bed.refused(COMMAND, json!({ "token": token })), Code::TokenInvalid);
    }
    assert_eq!(bed.ticket("ada", Purpose::Invite).state, State::Open);
    bed.reset_link("ada");
    let reset = bed.ticket("ada", Purpose::PasswordReset).clone();
    for use_ in [TokenUse::Invite, TokenUse::Verification, TokenUse::ChangePassword] {
        let token = bed.keys.token(&reset.key_id, use_, reset.id).unwrap();
        assert_eq!(bed.refused(COMMAND, json!({ "token": token.expose_secret() })), Code::TokenInvalid, "{use_:?}");
    }
}
