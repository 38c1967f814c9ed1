//! bcrypt, as crypt(3) and everybody else writes it, and as Django does.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{ImportError, Limits};

/// How much of a password bcrypt looks at, in bytes.
const SIGNIFICANT: usize = 72;

/// Some libraries left spare bits in a salt's last character, which every implementation ignores.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::BCRYPT,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// A bcrypt hash taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(in super::super) struct BcryptHash {
    /// Whether it is of the password's SHA-256 in hexadecimal digits (Django's `bcrypt_sha256`).
    digested: bool,
    cost: u32,
    salt: [u8; 16],
    output: [u8; 23],
}

impl BcryptHash {
    /// `text` begins with `$2`.
    pub(super) fn parse(text: &str, digested: bool) -> Result<Self, ImportError> {
        let malformed = |fault| ImportError::Malformed { format: "a bcrypt hash", fault };
        let mut fields = text.split('$').skip(1);
        match fields.next() {
            // All three name the same algorithm; they differ in faults of old implementations that no other one shares.
            Some("2a" | "2b" | "2y") => {}
            Some("2x") => return Err(ImportError::Unsupported("bcrypt hashes of the faulty version 2x")),
            _ => return Err(malformed("its version is not 2a, 2b or 2y")),
        }
        let cost = fields.next().filter(|cost| cost.len() == 2).and_then(super::number);
        let cost = cost.ok_or(malformed("its cost is not two digits"))?;
        let rest = fields.next().filter(|rest| rest.len() == 53 && rest.is_ascii());
        let (salt, output) = rest.ok_or(malformed("its salt and hash are not 53 characters"))?.split_at(22);
        if fields.next().is_some() {
            return Err(malformed("something follows the hash"));
        }
        let decoded = |text| BASE64.decode(text).map_err(|_| malformed("its salt and hash are not in bcrypt's base64"));
        let exact = |_| malformed("its salt or hash has the wrong length");
        Ok(Self {
            digested,
            cost,
            salt: decoded(salt)?.try_into().map_err(exact)?,
            output: decoded(output)?.try_into().map_err(exact)?,
        })
    }

    pub(super) fn check(&self, limits: &Limits) -> Result<(), ImportError> {
        super::bound("cost", self.cost.into(), 4, limits.bcrypt_cost.into())
    }

    pub(super) fn milliseconds(&self) -> u64 {
        // 60 ms at a cost of 10, and twice as long with each step.
        (60 << self.cost.min(40)) >> 10
    }

    /// Whether it is the hash of `password`, of which bcrypt takes the first 72 bytes: so did whoever made the hash.
    pub(in super::super) fn is_of(&self, password: &[u8]) -> bool {
        let mut key = Zeroizing::new(Vec::with_capacity(SIGNIFICANT + 1));
        if self.digested {
            let digest = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(password)));
            for byte in digest.iter() {
                key.extend([byte >> 4, byte & 15].map(|half| b"0123456789abcdef"[usize::from(half)]));
            }
        } else {
            key.extend(password.iter().take(SIGNIFICANT));
        }
        // The key goes round and round up to its NUL: with another one inside, "a" and "a\0a" would be the same.
        let ambiguous = key.contains(&0);
        key.push(0);
        key.truncate(SIGNIFICANT);
        let output = Zeroizing::new(bcrypt::bcrypt(self.cost, self.salt, &key));
        bool::from(output[..self.output.len()].ct_eq(&self.output)) && !ambiguous
    }
}
