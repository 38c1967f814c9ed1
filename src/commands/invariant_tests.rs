//! What holds whatever commands come in whatever order.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::testing::{BETTER, Bed, GOOD};
use crate::domain::ticket::Purpose;

const PEOPLE: [&str; 3] = ["ada", "bob", "eve"];
const PASSWORDS: [&str; 4] = [GOOD, BETTER, "Third-Time-Lucky-33", "weak"];

#[derive(Debug, Clone)]
enum Step {
    Put {
        who: usize,
        email: usize,
        username: usize,
        verified: Option<bool>,
    },
    /// A command that needs no more than a name.
    Named(usize, &'static str),
    Request {
        user: Value,
        method: Option<&'static str>,
        by_support: bool,
        late: i64,
    },
    Complete {
        ticket: usize,
        password: usize,
    },
    Code {
        who: usize,
        right: bool,
        password: Option<usize>,
    },
    Inspect(usize),
    Set {
        who: usize,
        password: usize,
        temporary: bool,
    },
    Accept {
        ticket: usize,
        password: usize,
    },
    Login {
        user: Value,
        password: usize,
    },
    Logout(usize),
    ForceLogout(Vec<usize>),
    Change {
        user: Value,
        current: usize,
        new: usize,
    },
    /// By the change token of the ticket that was opened so many tickets ago.
    Replace {
        ticket: usize,
        new: usize,
    },
    /// Withdraws the reset ticket that was opened so many tickets ago.
    Cancel(usize),
    Wait(i64),
}

fn name() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (0..PEOPLE.len()).prop_map(|i| json!({ "id": PEOPLE[i] })),
        2 => (0..PEOPLE.len()).prop_map(|i| json!({ "username": PEOPLE[i] })),
        2 => (0..PEOPLE.len()).prop_map(|i| json!({ "email": format!("{}@example.com", PEOPLE[i]) })),
        1 => Just(json!({ "id": "ghost" })),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..PEOPLE.len();
    let password = || 0..PASSWORDS.len();
    let switch = prop::sample::select(vec!["user.block", "user.unblock", "user.deactivate", "user.activate"]);
    let method = prop::option::of(prop::sample::select(vec!["link", "code"]));
    let late = prop_oneof![Just(0_i64), Just(90), Just(7200)];
    let invite = prop::sample::select(vec!["invite.send", "invite.resend", "invite.revoke"]);
    let wait = prop_oneof![Just(1_i64), Just(61), Just(901), Just(3601), Just(90_000)];
    prop_oneof![
        2 => (who(), who(), who(), any::<Option<bool>>())
            .prop_map(|(who, email, username, verified)| Step::Put { who, email, username, verified }),
        2 => (who(), switch).prop_map(|(who, command)| Step::Named(who, command)),
        4 => (name(), method, any::<bool>(), late)
            .prop_map(|(user, method, by_support, late)| Step::Request { user, method, by_support, late }),
        4 => (0..8_usize, password()).prop_map(|(ticket, password)| Step::Complete { ticket, password }),
        3 => (who(), any::<bool>(), prop::option::of(password()))
            .prop_map(|(who, right, password)| Step::Code { who, right, password }),
        1 => (0..8_usize).prop_map(Step::Inspect),
        2 => (who(), password(), any::<bool>())
            .prop_map(|(who, password, temporary)| Step::Set { who, password, temporary }),
        2 => (who(), invite).prop_map(|(who, command)| Step::Named(who, command)),
        2 => (0..8_usize, password()).prop_map(|(ticket, password)| Step::Accept { ticket, password }),
        4 => (name(), password()).prop_map(|(user, password)| Step::Login { user, password }),
        1 => (0..8_usize).prop_map(Step::Logout),
        1 => prop::collection::vec(who(), 1..3).prop_map(Step::ForceLogout),
        2 => (name(), password(), password()).prop_map(|(user, current, new)| Step::Change { user, current, new }),
        2 => (0..4_usize, password()).prop_map(|(ticket, new)| Step::Replace { ticket, new }),
        1 => (0..8_usize).prop_map(Step::Cancel),
        1 => who().prop_map(|who| Step::Named(who, "password.temporary.issue")),
        1 => who().prop_map(|who| Step::Named(who, "session.impersonate")),
        1 => who().prop_map(|who| Step::Named(who, "user.erase")),
        2 => wait.prop_map(Step::Wait),
    ]
}

/// The token of the ticket that was opened so many tickets ago.
fn token(bed: &Bed, purpose: Purpose, back: usize) -> String {
    let mut ids: Vec<_> = bed.world.accounts().flat_map(|a| &a.tickets).filter(|t| t.purpose == purpose).collect();
    ids.sort_by_key(|t| std::cmp::Reverse(t.id));
    ids.get(back).map_or_else(|| "none".to_owned(), |ticket| bed.token_of(ticket))
}

fn command(bed: &mut Bed, step: &Step) -> Option<(&'static str, Value)> {
    bed.requested_at = None;
    Some(match step {
        Step::Put { who, email, username, verified } => {
            let (id, username) = (PEOPLE[*who], PEOPLE[*username]);
            let email = format!("{}@example.com", PEOPLE[*email]);
            let user = json!({ "id": id, "username": username, "email": email, "email_verified": verified });
            ("user.put", json!({ "user": user }))
        }
        Step::Named(who, command) => {
            let mut body = json!({ "user": { "id": PEOPLE[*who] } });
            if ["session.impersonate", "user.erase"].contains(command) {
                body["reason"] = json!("help");
            }
            (command, body)
        }
        Step::Request { user, method, by_support, late } => {
            bed.requested_at = Some(bed.now - chrono::TimeDelta::seconds(*late));
            let actor = by_support.then_some("system");
            (
                "password.reset.request",
                json!({ "user": user, "method": method, "actor": actor, "context": { "ip": "::1" } }),
            )
        }
        Step::Complete { ticket, password } => {
            let token = token(bed, Purpose::PasswordReset, *ticket);
            ("password.reset.complete", json!({ "token": token, "new_password": PASSWORDS[*password] }))
        }
        Step::Code { who, right, password } => {
            let user = json!({ "id": PEOPLE[*who] });
            let any = bed
                .world
                .account(PEOPLE[*who])
                .is_some_and(|a| a.tickets.iter().any(|t| t.purpose == Purpose::PasswordReset));
            let code = if *right && any { bed.code(PEOPLE[*who]) } else { "00000000".to_owned() };
            match password {
                None => ("password.reset.inspect", json!({ "user": user, "code": code })),
                Some(password) => {
                    let body = json!({ "user": user, "code": code, "new_password": PASSWORDS[*password] });
                    ("password.reset.complete", body)
                }
            }
        }
        Step::Inspect(ticket) => {
            ("password.reset.inspect", json!({ "token": token(bed, Purpose::PasswordReset, *ticket) }))
        }
        Step::Set { who, password, temporary } => {
            let (user, password) = (json!({ "id": PEOPLE[*who] }), PASSWORDS[*password]);
            ("password.set", json!({ "user": user, "new_password": password, "temporary": temporary }))
        }
        Step::Accept { ticket, password } => {
            let token = token(bed, Purpose::Invite, *ticket);
            ("invite.accept", json!({ "token": token, "new_password": PASSWORDS[*password] }))
        }
        Step::Login { user, password } => ("session.login", json!({ "user": user, "password": PASSWORDS[*password] })),
        Step::Logout(back) => {
            let mut sessions: Vec<_> = bed.world.accounts().flat_map(|a| &a.sessions).map(|s| s.id).collect();
            sessions.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
            ("session.logout", json!({ "session_id": sessions.get(*back)? }))
        }
        Step::ForceLogout(people) => {
            let users: Vec<Value> = people.iter().map(|who| json!({ "id": PEOPLE[*who] })).collect();
            ("session.force_logout", json!({ "users": users }))
        }
        Step::Change { user, current, new } => {
            let (current, new) = (PASSWORDS[*current], PASSWORDS[*new]);
            ("password.change", json!({ "user": user, "current_password": current, "new_password": new }))
        }
        Step::Replace { ticket, new } => {
            let token = token(bed, Purpose::PasswordChange, *ticket);
            ("password.change", json!({ "change_token": token, "new_password": PASSWORDS[*new] }))
        }
        Step::Cancel(ticket) => {
            ("password.reset.cancel", json!({ "token": token(bed, Purpose::PasswordReset, *ticket) }))
        }
        Step::Wait(seconds) => {
            bed.wait(*seconds);
            return None;
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// `Bed::run` checks of each command that a refusal changed nothing, that nothing changed before the proofs were
    /// there, and that no secret went anywhere; the invariants are checked after each step.
    #[test]
    fn the_world_stays_sound(steps in prop::collection::vec(step(), 1..40)) {
        let mut bed = Bed::default();
        bed.config.sessions.max_per_user = 2;
        bed.config.login.max_failures = 2;
        bed.config.password_reset.max_attempts = 2;
        bed.config.password_reset.max_per_day = 4;
        for id in &PEOPLE[..2] {
            bed.member(id);
        }
        let mut used = Vec::new();
        for step in &steps {
            let Some((name, body)) = command(&mut bed, step) else { continue };
            let answer = bed.run(name, body.clone());
            if ["password.reset.complete", "invite.accept"].contains(&name) && answer.is_ok() {
                let proof = (body["token"].clone(), body["user"].clone(), body["code"].clone());
                prop_assert!(!used.contains(&proof), "a token or code was used twice");
                used.push(proof);
            }
            if name == "session.login" && let Ok(session) = &answer {
                let who = session["user_id"].as_str().unwrap();
                let account = bed.account(who);
                let password = format!("hash of {}", body["password"].as_str().unwrap());
                prop_assert!(account.active && !account.blocked && !account.must_change_password());
                prop_assert_eq!(account.password_hash.as_deref(), Some(password.as_str()));
            }
            if name == "password.change" && answer.is_ok() {
                let hash = format!("hash of {}", body["new_password"].as_str().unwrap());
                let touched = bed.touched.iter().map(|id| bed.account(id));
                let mut free = touched.filter(|a| a.active && !a.blocked && !a.must_change_password());
                prop_assert!(free.any(|a| a.password_hash.as_ref() == Some(&hash)));
                prop_assert!(body["current_password"] != body["new_password"]);
                let token = (body["change_token"].clone(), Value::Null, Value::Null);
                prop_assert!(!used.contains(&token), "a change token was used twice");
                used.extend((!token.0.is_null()).then_some(token));
            }
            if name == "password.reset.request" && body["actor"].is_null() {
                prop_assert_eq!(answer, Ok(json!({ "accepted": true })));
            }
            bed.check_invariants();
        }
    }
}
