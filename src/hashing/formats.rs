//! Stored hashes: reading them, and saying which ones are accepted.
//!
//! | algorithm | written as | accepted up to |
//! | --- | --- | --- |
//! | Argon2id, i, d | `$argon2id$v=19$m=…,t=…,p=…$salt$hash`, Django's `argon2$argon2id$…` | 256 MiB, 16 passes, 8 lanes, `m*t` of 1 GiB |
//! | bcrypt | `$2a$`, `$2b$`, `$2y$`, Django's `bcrypt$$2b$…` and `bcrypt_sha256$$2b$…` | a cost of 14 |
//! | PBKDF2 with SHA-1, SHA-256, SHA-512 | `$pbkdf2-sha256$i=…$salt$hash`, passlib's `$pbkdf2-sha256$29000$…`, Django's `pbkdf2_sha256$…`, Werkzeug's `pbkdf2:sha256:…` | 3,000,000 iterations |
//! | scrypt | `$scrypt$ln=…,r=…,p=…$salt$hash`, Django's `scrypt$…`, Werkzeug's `scrypt:…` | 256 MiB, `N*r*p/8` KiB of 512 MiB |
//!
//! The bounds are about a second of one core. Everything but a current Argon2id hash is made anew at the next sign-in.

mod argon2;
mod bcrypt;
mod pbkdf2;
mod scrypt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

pub(super) use argon2::Argon2Hash;
pub(super) use bcrypt::BcryptHash;
pub(super) use pbkdf2::Pbkdf2Hash;
pub(super) use scrypt::ScryptHash;

/// The longest stored hash that is read, in bytes.
const MAX_LENGTH: usize = 512;

/// How a stored hash was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashKind {
    /// Argon2id, Argon2i or Argon2d (RFC 9106).
    Argon2,
    /// bcrypt.
    Bcrypt,
    /// PBKDF2 (RFC 8018) with SHA-1, SHA-256 or SHA-512.
    Pbkdf2,
    /// scrypt (RFC 7914).
    Scrypt,
}

/// What hashes that were made elsewhere may cost: each sign-in pays it, and a single one could stall the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory in KiB, of Argon2 and scrypt.
    pub memory_kib: u32,
    /// Passes of Argon2.
    pub time_cost: u32,
    /// Lanes of Argon2.
    pub parallelism: u32,
    /// Memory times passes of Argon2, in KiB: what the time of a verification grows with.
    pub work_kib: u64,
    /// Cost of bcrypt: the time doubles with each step.
    pub bcrypt_cost: u32,
    /// Iterations of PBKDF2, counted once for each block of its output.
    pub pbkdf2_iterations: u32,
    /// Memory times lanes of scrypt, in KiB: what the time of a verification grows with.
    pub scrypt_work_kib: u64,
}

impl Limits {
    /// What a hash that is stored already may cost: it was accepted once, or made with a configuration that has changed since,
    /// so this is what `[password.hashing]` accepts at most. Beyond it, the row is damaged.
    pub(super) const STORED: Self = Self {
        memory_kib: 1024 * 1024,
        time_cost: 100,
        parallelism: 64,
        work_kib: 100 * 1024 * 1024,
        bcrypt_cost: 16,
        pbkdf2_iterations: 10_000_000,
        scrypt_work_kib: 2 * 1024 * 1024,
    };
}

impl Default for Limits {
    /// About a second of one core each, and 256 MiB. libsodium's "moderate" (256 MiB, 3 passes) is within, and so are the
    /// defaults of every framework.
    fn default() -> Self {
        Self {
            memory_kib: 256 * 1024,
            time_cost: 16,
            parallelism: 8,
            work_kib: 1024 * 1024,
            bcrypt_cost: 14,
            pbkdf2_iterations: 3_000_000,
            scrypt_work_kib: 512 * 1024,
        }
    }
}

/// Why a hash that was made elsewhere is not accepted. Never holds any of the hash but its parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Nothing that is known.
    #[error(
        "it is of an unknown format; accepted are Argon2 and scrypt as PHC strings, bcrypt, and PBKDF2 as a PHC string or as \
         passlib, Django and Werkzeug write it. Leave it out, and let the person choose a new password"
    )]
    UnknownFormat,
    /// Known, but there is no verifier for it.
    #[error("{0} cannot be verified here; leave it out, and let the person choose a new password")]
    Unsupported(&'static str),
    /// Begins like a known format and then does not follow it.
    #[error("it begins like {format}, but {fault}")]
    Malformed {
        /// What it begins like.
        format: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A cost outside of the limits.
    #[error(
        "its {what} is {value}, and {min} to {max} are accepted: a higher cost could stall the daemon. Leave it out, and let the \
         person choose a new password"
    )]
    OutOfBounds {
        /// Which parameter.
        what: &'static str,
        /// What it is.
        value: u64,
        /// The least that is accepted.
        min: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// Made with a secret that nobody but the place where it was made has.
    #[error("it was made with a secret key (keyid), so it cannot be verified here")]
    Keyed,
}

/// Whether a hash that was made elsewhere can be taken over: of a known format and of a bearable cost.
///
/// # Errors
/// [`ImportError`], worded for the publisher.
pub fn check_importable(hash: &str, limits: &Limits) -> Result<HashKind, ImportError> {
    let hash = StoredHash::parse(hash)?;
    hash.check(limits)?;
    match hash {
        StoredHash::Argon2(hash) if !hash.key_id.is_empty() => Err(ImportError::Keyed),
        hash => Ok(hash.kind()),
    }
}

/// A stored hash taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum StoredHash {
    Argon2(Argon2Hash),
    Bcrypt(BcryptHash),
    Pbkdf2(Pbkdf2Hash),
    Scrypt(ScryptHash),
}

impl StoredHash {
    pub(super) fn parse(text: &str) -> Result<Self, ImportError> {
        /// What cannot be verified, or only with more than the hash. Before `KNOWN`, where a beginning is the same.
        const UNSUPPORTED: [(&str, &str); 9] = [
            ("$bcrypt-sha256$", "passlib's bcrypt-sha256 hashes"),
            ("{", "hashes in an LDAP scheme"),
            ("$7$", "scrypt hashes in the form $7$"),
            ("$s0$", "scrypt hashes in the form $s0$"),
            ("$y$", "yescrypt hashes"),
            ("$gy$", "yescrypt hashes"),
            ("$1$", "crypt(3) hashes of MD5"),
            ("$5$", "crypt(3) hashes of SHA-256"),
            ("$6$", "crypt(3) hashes of SHA-512"),
        ];
        let known: fn(&str) -> Result<Self, ImportError> = match text {
            _ if text.starts_with("$argon2") => |text| Argon2Hash::parse(text).map(Self::Argon2),
            _ if text.starts_with("argon2$argon2") => |text| Argon2Hash::parse(&text[6..]).map(Self::Argon2),
            _ if text.starts_with("$2") => |text| BcryptHash::parse(text, false).map(Self::Bcrypt),
            _ if text.starts_with("bcrypt$$2") => |text| BcryptHash::parse(&text[7..], false).map(Self::Bcrypt),
            _ if text.starts_with("bcrypt_sha256$$2") => |text| BcryptHash::parse(&text[14..], true).map(Self::Bcrypt),
            _ if text.starts_with("$pbkdf2") => |text| Pbkdf2Hash::parse_phc(text).map(Self::Pbkdf2),
            _ if text.starts_with("pbkdf2_") => |text| Pbkdf2Hash::parse_django(text).map(Self::Pbkdf2),
            _ if text.starts_with("pbkdf2:") => |text| Pbkdf2Hash::parse_werkzeug(text).map(Self::Pbkdf2),
            _ if text.starts_with("$scrypt$") => |text| ScryptHash::parse_phc(text).map(Self::Scrypt),
            _ if text.starts_with("scrypt$") => |text| ScryptHash::parse_django(text).map(Self::Scrypt),
            _ if text.starts_with("scrypt:") => |text| ScryptHash::parse_werkzeug(text).map(Self::Scrypt),
            _ => {
                let named = UNSUPPORTED.iter().find(|(prefix, _)| text.starts_with(prefix));
                return Err(named.map_or(ImportError::UnknownFormat, |(_, what)| ImportError::Unsupported(what)));
            }
        };
        if text.len() > MAX_LENGTH {
            return Err(ImportError::Malformed { format: "a known hash", fault: "it is too long" });
        }
        known(text)
    }

    fn kind(&self) -> HashKind {
        match self {
            Self::Argon2(_) => HashKind::Argon2,
            Self::Bcrypt(_) => HashKind::Bcrypt,
            Self::Pbkdf2(_) => HashKind::Pbkdf2,
            Self::Scrypt(_) => HashKind::Scrypt,
        }
    }

    /// Whether the costs are within the limits and possible at all.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), ImportError> {
        match self {
            Self::Argon2(hash) => hash.check(limits),
            Self::Bcrypt(hash) => hash.check(limits),
            Self::Pbkdf2(hash) => hash.check(limits),
            Self::Scrypt(hash) => hash.check(limits),
        }
    }

    /// The memory that a verification takes.
    pub(super) fn memory_kib(&self) -> u32 {
        match self {
            Self::Argon2(hash) => hash.memory_kib,
            Self::Scrypt(hash) => hash.memory_kib(),
            Self::Bcrypt(_) | Self::Pbkdf2(_) => 4,
        }
    }

    /// About how long a verification takes: good enough to tell a few milliseconds from a second.
    pub(super) fn milliseconds(&self) -> u64 {
        match self {
            Self::Argon2(hash) => hash.milliseconds(),
            Self::Bcrypt(hash) => hash.milliseconds(),
            Self::Pbkdf2(hash) => hash.milliseconds(),
            Self::Scrypt(hash) => hash.milliseconds(),
        }
    }
}

fn bound(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), ImportError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(ImportError::OutOfBounds { what, value, min, max }) }
}

/// Decimal digits only: `parse` alone takes a sign too.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `a=1,b=2`: the numbers of these names; `None` for anything else, and for a name that comes twice.
fn numbers<const N: usize>(text: &str, names: [&str; N]) -> Option<[Option<u32>; N]> {
    let mut found = [None; N];
    for parameter in text.split(',') {
        let (name, value) = parameter.split_once('=')?;
        let place = &mut found[names.iter().position(|known| *known == name)?];
        if place.replace(number(value)?).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Base64 with or without padding. passlib writes `.` for `+`.
fn base64(text: Option<&str>) -> Option<Vec<u8>> {
    const ANY: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    ANY.decode(text?.replace('.', "+")).ok()
}

fn hexadecimal(text: Option<&str>) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text?.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[cfg(test)]
mod tests;
