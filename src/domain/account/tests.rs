use std::time::Duration;

use chrono::TimeDelta;

use super::*;
use crate::domain::ticket::{Method, Purpose, Requester, State, timestamp};

type Change = fn(&mut Account);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn account() -> Account {
    let profile =
        Profile { id: "ada".into(), username: "ada".into(), email: "ada@example.com".into(), ..Profile::default() };
    Account { dirty: false, ..Account::new(profile, at(0)) }
}

fn ticket(id: u128, purpose: Purpose) -> Ticket {
    Ticket {
        id: Uuid::from_u128(id),
        user_id: "ada".into(),
        purpose,
        method: Method::Link,
        key_id: "k".into(),
        state: State::Open,
        requester: Requester::Itself,
        requested_at: at(id.try_into().unwrap()),
        created_at: at(0),
        expires_at: at(3600),
        wrong_tries: 0,
        closed_at: None,
        newer_requested_at: None,
        dirty: false,
    }
}

#[test]
fn the_status_is_the_last_that_applies() {
    let mut account = account();
    assert_eq!(account.status(at(0)), Status::Active);
    let order: [(Status, Change); 5] = [
        (Status::Invited, |a| a.invitation = Invitation::Pending),
        (Status::ForcePasswordReset, |a| a.temporary = Some(Temporary::default())),
        (Status::Locked, |a| a.locked_until = Some(at(60))),
        (Status::Inactive, |a| a.active = false),
        (Status::Blocked, |a| a.blocked = true),
    ];
    for (status, change) in order {
        change(&mut account);
        assert_eq!(account.status(at(0)), status);
        assert_eq!(account.shown(at(0)).status, status);
    }
    (account.blocked, account.active, account.temporary) = (false, true, None);
    assert_eq!(account.status(at(60)), Status::Invited, "a lockout is over when its time is");
    assert!(account.shown(at(60)).locked_until.is_none());
    account.invitation = Invitation::Accepted;
    assert_eq!(account.status(at(60)), Status::Active);
}

#[test]
fn only_tickets_of_the_same_purpose_are_superseded() {
    let mut account = account();
    for (id, purpose) in [(1, Purpose::Invite), (2, Purpose::PasswordReset), (3, Purpose::PasswordReset)] {
        account.open_ticket(ticket(id, purpose), at(9));
    }
    let states: Vec<State> = account.tickets.iter().map(|t| t.state).collect();
    assert_eq!(states, [State::Open, State::Superseded, State::Open]);
    assert_eq!((account.tickets[1].newer_requested_at, account.tickets[1].closed_at), (Some(at(3)), Some(at(9))));
}

#[test]
fn a_superseded_ticket_tells_the_newest_request_also_when_only_the_next_is_on_record() {
    let mut account = account();
    let older =
        Ticket { state: State::Superseded, newer_requested_at: Some(at(2)), ..ticket(1, Purpose::PasswordReset) };
    let told = |account: &Account, ticket: &Ticket| {
        account.usable(ticket, at(0)).unwrap_err().details["newer_requested_at"].clone()
    };
    assert_eq!(told(&account, &older), timestamp(at(2)));
    account.tickets.push(ticket(5, Purpose::Verification));
    assert_eq!(told(&account, &older), timestamp(at(2)));
    account.tickets.push(ticket(7, Purpose::PasswordReset));
    assert_eq!(told(&account, &older), timestamp(at(7)));
}

#[test]
fn the_current_password_counts_as_the_first_of_the_remembered() {
    let mut account = account();
    for (i, history) in [(1, 3), (2, 3), (3, 3), (4, 3)] {
        let rules = ChangeRules { history, ..ChangeRules::default() };
        account.change_password(format!("h{i}"), ChangedBy::Itself, &rules, at(i));
    }
    for (history, remembered) in
        [(0, &[] as &[&str]), (1, &["h4"]), (2, &["h4", "h3"]), (3, &["h4", "h3", "h2"]), (9, &["h4", "h3", "h2"])]
    {
        assert_eq!(account.remembered_hashes(history), remembered);
    }
    let rules = ChangeRules { history: 0, ..ChangeRules::default() };
    account.change_password("h5".into(), ChangedBy::Itself, &rules, at(5));
    assert!(account.previous_hashes.is_empty(), "nothing is kept that no rule needs");
}

#[test]
fn the_kept_session_stays() {
    let mut account = account();
    account.password_hash = Some("h".into());
    for id in 1..=3 {
        account.sessions.push(Session::open(Uuid::from_u128(id), "ada", at(0), Duration::from_secs(60)));
    }
    account.sessions[0].expires_at = at(5);
    let rules = ChangeRules { end_sessions: true, except_session: Some(Uuid::from_u128(2)), ..ChangeRules::default() };
    let change = account.change_password("new".into(), ChangedBy::Itself, &rules, at(10));
    assert_eq!(change.ended, [Uuid::from_u128(3)], "the first had expired");
    assert!(account.has_live_session(at(10)) && !account.has_live_session(at(60)));
    assert_eq!(account.sessions[2].end_reason.as_deref(), Some("password_changed"));
}

#[test]
fn only_the_mailbox_proves_the_mailbox() {
    for (by, verified) in
        [(ChangedBy::Reset, true), (ChangedBy::Invite, true), (ChangedBy::Itself, false), (ChangedBy::Admin, false)]
    {
        let mut account = account();
        let change = account.change_password("h".into(), by, &ChangeRules::default(), at(1));
        assert_eq!((account.email_verified, change.verified), (verified, verified), "{by:?}");
        let change = account.change_password("i".into(), by, &ChangeRules::default(), at(2));
        assert!(!change.verified, "it is told once");
    }
}

#[test]
fn wrong_passwords_lock_at_the_last_that_is_allowed() {
    let mut account = account();
    let lockout = Duration::from_secs(900);
    let found: Vec<bool> = (0..7).map(|i| account.wrong_password(3, lockout, at(i)).is_some()).collect();
    assert_eq!(found, [false, false, true, false, false, true, false]);
    assert_eq!(account.locked_until, Some(at(5) + TimeDelta::seconds(900)));
    assert!(account.dirty);
}

#[test]
fn a_new_session_is_not_the_one_that_ends_whatever_its_id() {
    let mut account = account();
    let session = |id| Session::open(Uuid::from_u128(id), "ada", at(1), Duration::from_secs(9));
    assert!(account.open_session(session(7), 1, at(1)).is_empty());
    assert_eq!(account.open_session(session(3), 1, at(1)), [Uuid::from_u128(7)]);
    assert!(account.has_live_session(at(1)));
}

#[test]
fn what_changes_is_marked_for_writing() {
    let changes: [Change; 5] = [
        |a| a.touch(at(1)),
        |a| drop(a.force_logout(None, "x", at(1))),
        |a| drop(a.change_password("h".into(), ChangedBy::Admin, &ChangeRules::default(), at(1))),
        |a| assert!(a.wrong_password(3, Duration::ZERO, at(1)).is_none()),
        |a| drop(a.open_session(Session::open(Uuid::nil(), "ada", at(1), Duration::ZERO), 1, at(1))),
    ];
    for change in changes {
        let mut account = account();
        change(&mut account);
        assert!(account.dirty);
    }
    let mut account = account();
    let profile = account.profile.clone();
    assert!(!account.put(profile, None, at(1)) && !account.dirty);
    account.end_sessions(None, "x", at(1));
    assert!(!account.dirty);
}
