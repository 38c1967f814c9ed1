use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use chrono::TimeDelta;
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::*;
use crate::keys::{KeyState, TokenUse, codes_equal, seal_to};

const BOTH: &[KeyKind] = &[KeyKind::Token, KeyKind::Sealing];

fn at(days: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::days(days)
}

fn ring() -> KeyRing {
    KeyRing::generate(at(0))
}

fn states(ring: &KeyRing, kind: KeyKind) -> Vec<KeyState> {
    ring.summary().into_iter().filter(|key| key.kind == kind).map(|key| key.state).collect()
}

#[test]
fn what_was_made_before_stays_good() {
    let mut ring = ring();
    let (old, ticket) = (ring.token_key_id().to_owned(), Uuid::from_u128(7));
    let token = ring.token(&old, TokenUse::PasswordReset, ticket).unwrap();
    let code = ring.code(&old, ticket, 8).unwrap();
    let sealing = ring.sealing_key();
    let sealed = seal_to(&sealing.public_key, "geheim").unwrap();
    for day in 1..5 {
        ring.rotate(BOTH, Step::Replace, at(day)).unwrap();
        assert_eq!(ring.open_token(token.expose_secret()).unwrap().key_id, old);
        assert!(codes_equal(&ring.code(&old, ticket, 8).unwrap(), code.expose_secret()));
        assert_eq!(ring.unseal(&sealing.key_id, &sealed).unwrap().expose_secret(), "geheim");
    }
    assert_ne!(ring.token_key_id(), old);
    assert_ne!(ring.sealing_key(), sealing);
    assert_eq!(ring.sealing_keys().len(), 5);
    assert_eq!(states(&ring, KeyKind::Token)[..2], [KeyState::Current, KeyState::Accepted]);
    assert_eq!(ring.summary()[1].replaced_at, Some(at(4)));
}

#[test]
fn keys_on_standby_are_known_but_not_used() {
    let mut ring = ring();
    let before = (ring.token_key_id().to_owned(), ring.sealing_key());
    ring.rotate(BOTH, Step::Standby, at(1)).unwrap();
    assert_eq!((ring.token_key_id().to_owned(), ring.sealing_key()), before);
    assert_eq!(ring.sealing_keys()[0], before.1, "what is announced comes first");
    assert_eq!(states(&ring, KeyKind::Token), [KeyState::Standby, KeyState::Current]);
    // What another daemon, which uses it already, makes with it.
    let next = ring.token[0].id.clone();
    let token = ring.token(&next, TokenUse::Invite, Uuid::from_u128(1)).unwrap();
    assert_eq!(ring.open_token(token.expose_secret()).unwrap().key_id, next);
    for step in [Step::Replace, Step::Standby] {
        let refused = ring.clone().rotate(BOTH, step, at(1)).unwrap_err();
        assert!(refused.contains(&format!("the token key {next} is on standby")) && refused.contains("--promote"));
    }
    ring.rotate(BOTH, Step::Promote, at(2)).unwrap();
    assert_eq!(ring.token_key_id(), next);
    assert_eq!(states(&ring, KeyKind::Sealing), [KeyState::Current, KeyState::Accepted]);
    assert_eq!(ring.token[1].replaced_at, Some(at(2)), "from then on, not from when the next one was made");
    let refused = ring.rotate(BOTH, Step::Promote, at(3)).unwrap_err();
    assert!(refused.contains("no key is on standby") && refused.contains("--standby"), "{refused}");
}

#[test]
fn a_first_pepper_can_come_in_two_steps_too() {
    let mut ring = ring();
    ring.rotate(&[KeyKind::Pepper], Step::Standby, at(1)).unwrap();
    assert_eq!(states(&ring, KeyKind::Pepper), [KeyState::Standby]);
    assert_eq!(ring.token.len(), 1, "only what was asked for");
    ring.rotate(&[KeyKind::Pepper], Step::Promote, at(2)).unwrap();
    assert_eq!(states(&ring, KeyKind::Pepper), [KeyState::Current]);
}

#[test]
fn only_what_was_replaced_long_ago_is_retired() {
    let mut ring = ring();
    for day in [10, 20] {
        ring.rotate(&KeyKind::ALL, Step::Replace, at(day)).unwrap();
    }
    let ids: Vec<String> = ring.token.iter().map(|key| key.id.clone()).collect();
    assert_eq!(ring.rotate(&KeyKind::ALL, Step::Retire(at(10)), at(30)).unwrap(), []);
    let retired = ring.rotate(&[KeyKind::Token], Step::Retire(at(11)), at(30)).unwrap();
    assert_eq!(retired, [(KeyKind::Token, ids[2].clone())]);
    let retired = ring.rotate(&KeyKind::ALL, Step::Retire(at(99)), at(100)).unwrap();
    assert_eq!(retired.len(), 3, "{retired:?}");
    assert_eq!((ring.token.len(), ring.sealing.len()), (1, 1), "those in use stay");
    assert_eq!(ring.pepper.len(), 2, "a hash may be as old as its account");
    assert_eq!(ring.token_key_id(), ids[0]);
}

#[test]
fn there_is_a_limit_and_a_way_out() {
    let mut ring = ring();
    for day in 1..16 {
        ring.rotate(&[KeyKind::Token], Step::Replace, at(day)).unwrap();
    }
    let refused = ring.rotate(&[KeyKind::Token], Step::Replace, at(16)).unwrap_err();
    assert!(refused.contains("it has 16 token keys") && refused.contains("--retire"), "{refused}");
    ring.rotate(&[KeyKind::Token], Step::Retire(at(9)), at(16)).unwrap();
    ring.rotate(&[KeyKind::Token], Step::Replace, at(16)).unwrap();
}

#[test]
fn the_file_is_replaced_as_a_whole_and_keeps_its_permissions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("regrant.keys");
    let before = ring();
    before.save_new(&path).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("regrant.keys", &link).unwrap();
    for mode in [0o600, 0o640] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let old = fs::metadata(&path).unwrap();
        let (made, retired) = KeyRing::rotate_file(&link, BOTH, Step::Replace, at(1)).unwrap();
        assert_eq!(retired, []);
        let new = fs::metadata(&path).unwrap();
        assert_eq!(new.permissions().mode() & 0o7777, mode);
        assert_ne!(old.ino(), new.ino(), "another file: readers of the old one have it whole");
        let loaded = KeyRing::load(&path).unwrap();
        assert_eq!(loaded.summary(), made.summary());
        assert!(loaded.has_same_index(&before));
        assert!(!loaded.has_same_index(&ring()));
    }
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left behind");
    // Standby and the time of the replacement are written, too.
    KeyRing::rotate_file(&path, BOTH, Step::Standby, at(2)).unwrap();
    let loaded = KeyRing::load(&path).unwrap();
    assert_eq!(
        states(&loaded, KeyKind::Token),
        [KeyState::Standby, KeyState::Current, KeyState::Accepted, KeyState::Accepted]
    );
    assert_eq!(loaded.summary()[2].replaced_at, Some(at(1)));
}

#[test]
fn a_refusal_leaves_the_file_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("regrant.keys");
    assert!(matches!(KeyRing::rotate_file(&path, BOTH, Step::Replace, at(1)), Err(KeysError::Missing(_))));
    ring().save_new(&path).unwrap();
    let before = fs::read_to_string(&path).unwrap();
    let refused = KeyRing::rotate_file(&path, BOTH, Step::Promote, at(1)).unwrap_err().to_string();
    assert!(refused.starts_with(&path.display().to_string()) && refused.contains("no key is on standby"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
}

#[test]
fn two_at_once_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("regrant.keys");
    ring().save_new(&path).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..7 {
            scope.spawn(|| KeyRing::rotate_file(&path, BOTH, Step::Replace, at(1)).unwrap());
        }
    });
    let loaded = KeyRing::load(&path).unwrap();
    assert_eq!((loaded.token.len(), loaded.sealing.len()), (8, 8));
}
