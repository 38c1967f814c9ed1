//! The key file and what is made from it: tokens, codes, fingerprints, signatures, sealed secrets.
//!
//! Everything that opens an account is derived from keys that are not in the database, so a copy of the database opens none.
//!
//! | key | used for | rotates |
//! | --- | --- | --- |
//! | token | tokens and codes of tickets | yes: the first one makes new ones, all are accepted |
//! | sealing | secrets sealed to the daemon (X25519) | yes: the first one is announced, all open |
//! | index | fingerprints and signatures that must stay the same over years | never |
//! | pepper | the secret input of Argon2 (RFC 9106, section 3.1), optional | yes: a hash names its pepper |

mod derive;
mod file;
mod ring;
mod sealed;
mod token;

pub use ring::{KeyRing, KeySummary, KeysError};
pub use sealed::{MAX_SEALED_SECRET, PublicSealingKey, SEALING_ALGORITHM, UnsealError, seal_to};
pub use token::{OpenedToken, TOKEN_LENGTH, TokenUse, codes_equal};
