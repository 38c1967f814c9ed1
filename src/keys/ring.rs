//! The keys in memory.

use std::fmt;
use std::path::Path;

use base64::Engine;
use chrono::{DateTime, Utc};
use crypto_box::SecretKey;
use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::SecretString;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::derive::{Key, digest};
use super::file;
use super::sealed::{self, BASE64, PublicSealingKey, SEALING_ALGORITHM, UnsealError};
use super::token::{self, OpenedToken, TokenUse};
use crate::hashing::Pepper;

pub use super::file::KeysError;

/// One key of a kind that rotates.
#[derive(Clone)]
pub(super) struct NamedKey {
    pub(super) id: String,
    pub(super) created_at: DateTime<Utc>,
    /// Known, but not used yet.
    pub(super) standby: bool,
    /// When another one took its place; unknown where somebody edited the file.
    pub(super) replaced_at: Option<DateTime<Utc>>,
    pub(super) secret: Key,
}

/// All keys of the daemon. Wiped from memory when dropped; never shown by `Debug`.
#[derive(Clone)]
pub struct KeyRing {
    /// The current one makes new tokens, codes and signatures, all verify. There is always a current one.
    pub(super) token: Vec<NamedKey>,
    /// The current one is announced, all open. There is always a current one.
    pub(super) sealing: Vec<NamedKey>,
    pub(super) index: Key,
    /// The current one is used for new hashes, all verify. Mostly empty.
    pub(super) pepper: Vec<NamedKey>,
}

/// A kind of key that rotates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// Makes links and codes, and signs.
    Token,
    /// Secrets are sealed to it.
    Sealing,
    /// Goes into password hashes.
    Pepper,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Token, Self::Sealing, Self::Pepper];

    /// As the key file calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Sealing => "sealing",
            Self::Pepper => "pepper",
        }
    }
}

/// What a key is there for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Known, so that what another daemon makes with it is understood; not used here yet.
    Standby,
    /// New values are made with it.
    Current,
    /// What was made with it is still understood.
    Accepted,
}

/// What may be shown of a key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KeySummary {
    /// What it is for.
    pub kind: KeyKind,
    /// The key's id.
    pub id: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Whether it is in use.
    pub state: KeyState,
    /// When another one took its place.
    pub replaced_at: Option<DateTime<Utc>>,
}

impl KeyRing {
    /// Fresh keys from the operating system's random numbers: one token key, one sealing key, the index key, no pepper.
    ///
    /// # Panics
    /// When the operating system gives no random numbers: there is nothing safe to do without them.
    pub fn generate(now: DateTime<Utc>) -> Self {
        Self {
            token: vec![NamedKey::generate(now)],
            sealing: vec![NamedKey::generate(now)],
            index: random_key(),
            pepper: Vec::new(),
        }
    }

    /// The same with a fresh pepper in front. Passwords that are set from then on cannot be checked without the key file.
    ///
    /// # Panics
    /// As [`KeyRing::generate`].
    #[must_use]
    pub fn with_pepper(mut self, now: DateTime<Utc>) -> Self {
        self.pepper.insert(0, NamedKey::generate(now));
        self
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeysError`]: the file is missing, unreadable, open to everyone, or not a key file.
    pub fn load(path: &Path) -> Result<Self, KeysError> {
        file::load(path)
    }

    /// Writes a key file that only its owner can read. Missing directories are made; an existing file stays as it is.
    ///
    /// # Errors
    /// [`KeysError::Exists`], or what the file system says.
    pub fn save_new(&self, path: &Path) -> Result<(), KeysError> {
        file::save_new(self, path)
    }

    /// The id of the key that new tokens and codes are made with; to be kept with the ticket.
    pub fn token_key_id(&self) -> &str {
        &current(&self.token).id
    }

    /// The token of a ticket: [`TOKEN_LENGTH`](super::TOKEN_LENGTH) characters, safe in a URL. `None` if the key is gone.
    pub fn token(&self, key_id: &str, use_: TokenUse, ticket: Uuid) -> Option<SecretString> {
        find(&self.token, key_id).map(|key| token::make(&key.secret, use_, ticket))
    }

    /// What a token says, if one of the keys made it; blanks around it came with it when it was pasted. Anything else costs a few
    /// microseconds and no look at the database.
    pub fn open_token(&self, token: &str) -> Option<OpenedToken> {
        let (ticket, tag) = token::split(token.trim())?;
        self.token.iter().find_map(|key| {
            let use_ = token::use_of(&key.secret, ticket, &tag)?;
            Some(OpenedToken { use_, ticket, key_id: key.id.clone() })
        })
    }

    /// The code of a ticket: `length` uniformly distributed decimal digits. Another `length` gives another code, so the length
    /// belongs to what is kept with the ticket. `None` if the key is gone.
    pub fn code(&self, key_id: &str, ticket: Uuid, length: u8) -> Option<SecretString> {
        find(&self.token, key_id).map(|key| token::code(&key.secret, ticket, length))
    }

    /// A keyed fingerprint that stays the same over the years: of bodies, addresses, and other things too private to store.
    pub fn fingerprint(&self, label: &str, parts: &[&[u8]]) -> [u8; 16] {
        let mut short = [0; 16];
        let whole = digest(&self.index, "regrant/v1/fingerprint", &with_label(label, parts));
        short.copy_from_slice(&whole[..16]);
        short
    }

    /// The key that publishers are to seal secrets to.
    pub fn sealing_key(&self) -> PublicSealingKey {
        public(current(&self.sealing))
    }

    /// All keys that open sealed secrets, the announced one first.
    pub fn sealing_keys(&self) -> Vec<PublicSealingKey> {
        let announced = self.sealing_key();
        let others = self.sealing.iter().map(public).filter(|key| *key != announced);
        std::iter::once(announced.clone()).chain(others).collect()
    }

    /// Opens a secret that was sealed to the key `key_id`.
    ///
    /// # Errors
    /// [`UnsealError`], which holds nothing of the content.
    pub fn unseal(&self, key_id: &str, sealed_base64: &str) -> Result<SecretString, UnsealError> {
        let key = find(&self.sealing, key_id).ok_or(UnsealError::UnknownKey)?;
        sealed::open(&SecretKey::from_bytes(*key.secret), sealed_base64)
    }

    /// The peppers for [`crate::hashing::Options`]. Empty unless the key file has any.
    pub fn peppers(&self) -> Vec<Pepper> {
        self.pepper.iter().map(|key| Pepper::new(&key.id, key.secret.as_slice()).on_standby(key.standby)).collect()
    }

    /// Whether `other` may take the place of these keys in a running daemon: what must never change is the same.
    pub fn has_same_index(&self, other: &Self) -> bool {
        bool::from(self.index.ct_eq(other.index.as_slice()))
    }

    /// What may be shown of the keys, kind by kind, in the order of the file.
    pub fn summary(&self) -> Vec<KeySummary> {
        KeyKind::ALL
            .into_iter()
            .flat_map(|kind| {
                let keys = self.of(kind);
                let current = keys.iter().position(|key| !key.standby);
                keys.iter().enumerate().map(move |(n, key)| KeySummary {
                    kind,
                    id: key.id.clone(),
                    created_at: key.created_at,
                    state: match () {
                        () if key.standby => KeyState::Standby,
                        () if current == Some(n) => KeyState::Current,
                        () => KeyState::Accepted,
                    },
                    replaced_at: key.replaced_at,
                })
            })
            .collect()
    }

    pub(super) fn of(&self, kind: KeyKind) -> &[NamedKey] {
        match kind {
            KeyKind::Token => &self.token,
            KeyKind::Sealing => &self.sealing,
            KeyKind::Pepper => &self.pepper,
        }
    }

    pub(super) fn of_mut(&mut self, kind: KeyKind) -> &mut Vec<NamedKey> {
        match kind {
            KeyKind::Token => &mut self.token,
            KeyKind::Sealing => &mut self.sealing,
            KeyKind::Pepper => &mut self.pepper,
        }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = |keys: &[NamedKey]| keys.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
        f.debug_struct("KeyRing")
            .field("token", &ids(&self.token))
            .field("sealing", &ids(&self.sealing))
            .field("pepper", &ids(&self.pepper))
            .finish_non_exhaustive()
    }
}

impl NamedKey {
    pub(super) fn generate(now: DateTime<Utc>) -> Self {
        // 8 characters: as much as the `keyid` of an Argon2 PHC string may hold, and enough to never meet twice in one file.
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let mut random = [0_u8; 8];
        fill(&mut random);
        let id = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
        Self { id, created_at: now, standby: false, replaced_at: None, secret: random_key() }
    }
}

/// The one that new values are made with. A key file without one is refused, so the second choice is never needed.
pub(super) fn current(keys: &[NamedKey]) -> &NamedKey {
    keys.iter().find(|key| !key.standby).unwrap_or(&keys[0])
}

pub(super) fn find<'a>(keys: &'a [NamedKey], id: &str) -> Option<&'a NamedKey> {
    keys.iter().find(|key| key.id == id)
}

fn public(key: &NamedKey) -> PublicSealingKey {
    let public_key = BASE64.encode(SecretKey::from_bytes(*key.secret).public_key().as_bytes());
    PublicSealingKey { key_id: key.id.clone(), algorithm: SEALING_ALGORITHM, public_key }
}

pub(super) fn with_label<'a>(label: &'a str, parts: &[&'a [u8]]) -> Vec<&'a [u8]> {
    std::iter::once(label.as_bytes()).chain(parts.iter().copied()).collect()
}

fn random_key() -> Key {
    let mut key = Zeroizing::new([0; 32]);
    fill(key.as_mut_slice());
    key
}

fn fill(bytes: &mut [u8]) {
    SysRng.try_fill_bytes(bytes).expect("the operating system gives random numbers");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{codes_equal, seal_to};
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    fn ring() -> KeyRing {
        KeyRing::generate(crate::clock::now())
    }

    #[test]
    fn tokens_open_and_say_what_they_are() {
        let ring = ring();
        let ticket = Uuid::from_u128(1);
        let token = ring.token(ring.token_key_id(), TokenUse::Invite, ticket).unwrap();
        let opened = ring.open_token(token.expose_secret()).unwrap();
        assert_eq!(opened, OpenedToken { use_: TokenUse::Invite, ticket, key_id: ring.token_key_id().to_owned() });
        assert!(ring.token("gone", TokenUse::Invite, ticket).is_none());
        assert!(super::tests::ring().open_token(token.expose_secret()).is_none(), "another key file opens nothing");
    }

    #[test]
    fn a_rotated_ring_still_opens_what_the_older_key_made() {
        let mut ring = ring();
        let (old, ticket) = (ring.token_key_id().to_owned(), Uuid::from_u128(1));
        let token = ring.token(&old, TokenUse::PasswordReset, ticket).unwrap();
        let code = ring.code(&old, ticket, 8).unwrap();
        let sealing = ring.sealing_key();
        ring.token.insert(0, NamedKey::generate(crate::clock::now()));
        ring.sealing.insert(0, NamedKey::generate(crate::clock::now()));
        assert_ne!(ring.token_key_id(), old);
        assert_eq!(ring.open_token(token.expose_secret()).unwrap().key_id, old);
        assert!(codes_equal(&ring.code(&old, ticket, 8).unwrap(), code.expose_secret()));
        let sealed = seal_to(&sealing.public_key, "secret").unwrap();
        assert_eq!(ring.unseal(&sealing.key_id, &sealed).unwrap().expose_secret(), "secret");
        assert_eq!(ring.unseal("gone", &sealed).unwrap_err(), UnsealError::UnknownKey);
        assert_eq!(ring.unseal(&ring.sealing_key().key_id, &sealed).unwrap_err(), UnsealError::DoesNotOpen);
    }

    #[test]
    fn fingerprints_depend_on_everything() {
        let ring = ring();
        assert_eq!(ring.fingerprint("a", &[b"b", b"c"]), ring.clone().fingerprint("a", &[b"b", b"c"]));
        assert_ne!(ring.fingerprint("a", &[b"b", b"c"]), ring.fingerprint("a", &[b"bc"]));
        assert_ne!(ring.fingerprint("a", &[b"b"]), ring.fingerprint("ab", &[]));
        assert_ne!(ring.fingerprint("a", &[b"b"]), super::tests::ring().fingerprint("a", &[b"b"]));
    }

    #[test]
    fn debug_shows_ids_and_nothing_else() {
        let ring = KeyRing::generate(crate::clock::now()).with_pepper(crate::clock::now());
        let shown = format!("{ring:?} {:?}", ring.peppers());
        assert!(shown.contains(ring.token_key_id()));
        for key in
            ring.token.iter().chain(&ring.sealing).chain(&ring.pepper).map(|key| &key.secret).chain([&ring.index])
        {
            assert!(
                !shown.contains(&format!("{:?}", key.as_slice())) && !shown.contains(&BASE64.encode(key.as_slice()))
            );
            assert!(!shown.contains(&format!("{}, {}", key[0], key[1])));
        }
    }

    proptest! {
        #[test]
        fn no_altered_token_opens(at in 0_usize..64, with in "[A-Za-z0-9_-]", n: u128) {
            let ring = ring();
            let token = ring.token(ring.token_key_id(), TokenUse::PasswordReset, Uuid::from_u128(n)).unwrap();
            let mut altered = token.expose_secret().to_owned();
            altered.replace_range(at..=at, &with);
            prop_assert_eq!(ring.open_token(&altered).is_some(), altered == token.expose_secret());
        }

        #[test]
        fn anything_else_is_refused(text in ".{0,200}") {
            prop_assert!(ring().open_token(&text).is_none());
        }
    }
}
