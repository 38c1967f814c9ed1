//! The key file and what is made from it: tokens, codes, fingerprints, signatures, sealed secrets.
//!
//! Everything that opens an account is derived from keys that are not in the database, so a copy of the database opens none.
//!
//! | key | used for | rotates |
//! | --- | --- | --- |
//! | token | tokens and codes of tickets, signatures | yes: the current one makes new ones, all are accepted |
//! | sealing | secrets sealed to the daemon (X25519) | yes: the current one is announced, all open |
//! | index | fingerprints, which must stay the same over years; nothing that gives anybody rights | never |
//! | pepper | the secret input of Argon2 (RFC 9106, section 3.1), optional | yes: a hash names its pepper |
//!
//! The current key of a kind is the first one in the file that is not on standby. Where several daemons share a database, one
//! must not make what another cannot read: new keys go onto standby in every file first, and are promoted afterwards (`rotate`).

mod at_rest;
mod derive;
mod file;
mod ring;
mod rotate;
mod sealed;
mod signature;
mod token;

pub use at_rest::EncryptError;
pub use ring::{KeyKind, KeyRing, KeyState, KeySummary, KeysError};
pub use rotate::{MAX_KEYS, Retired, Step};
pub use sealed::{MAX_SEALED_SECRET, PublicSealingKey, SEALING_ALGORITHM, UnsealError, seal_to};
pub use token::{OpenedToken, TOKEN_LENGTH, TokenUse, codes_equal};
