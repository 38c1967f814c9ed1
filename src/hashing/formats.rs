//! Stored hashes: reading them, and saying which ones are accepted.

use std::fmt;

use argon2::{Algorithm, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// The longest stored hash that is read, in bytes.
const MAX_LENGTH: usize = 512;

/// How a stored hash was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashKind {
    /// Argon2id, Argon2i or Argon2d (RFC 9106), as a PHC string.
    Argon2,
}

/// What hashes that were made elsewhere may cost: each sign-in pays it, and a single one could stall the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub time_cost: u32,
    /// Lanes.
    pub parallelism: u32,
    /// Memory times passes, in KiB: what the time of a verification grows with.
    pub work_kib: u64,
}

impl Limits {
    /// What a hash that is stored already may cost: it was accepted once, or made with a configuration that has changed since,
    /// so this is what `[password.hashing]` accepts at most. Beyond it, the row is damaged.
    pub(super) const STORED: Self =
        Self { memory_kib: 1024 * 1024, time_cost: 100, parallelism: 64, work_kib: 100 * 1024 * 1024 };
}

impl Default for Limits {
    /// 256 MiB, 16 passes, 8 lanes, and 1 GiB of work: about half a second. libsodium's "moderate" (256 MiB, 3 passes) is within.
    fn default() -> Self {
        Self { memory_kib: 256 * 1024, time_cost: 16, parallelism: 8, work_kib: 1024 * 1024 }
    }
}

/// Why a hash that was made elsewhere is not accepted. Never holds any of the hash but its parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Nothing that is known.
    #[error(
        "it is of an unknown format; an Argon2 PHC string is accepted, such as $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>"
    )]
    UnknownFormat,
    /// Known, but without a verifier in this release.
    #[error("{0} hashes cannot be imported yet; Argon2 PHC strings can")]
    NotYet(&'static str),
    /// Begins like a PHC string and then does not follow the format.
    #[error("it begins like an Argon2 PHC string, but {0}")]
    Malformed(&'static str),
    /// A cost outside of the limits.
    #[error(
        "its {what} is {value}, and {min} to {max} are accepted: a higher cost could stall the daemon, a lower one protects nothing"
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
    let hash = Argon2Hash::parse(hash)?;
    hash.check(limits)?;
    if hash.key_id.is_empty() { Ok(HashKind::Argon2) } else { Err(ImportError::Keyed) }
}

/// An Argon2 PHC string taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Argon2Hash {
    pub(super) algorithm: Algorithm,
    pub(super) version: Version,
    pub(super) memory_kib: u32,
    pub(super) time_cost: u32,
    pub(super) parallelism: u32,
    pub(super) key_id: Vec<u8>,
    pub(super) salt: Vec<u8>,
    pub(super) output: Vec<u8>,
}

impl Argon2Hash {
    pub(super) fn parse(text: &str) -> Result<Self, ImportError> {
        use ImportError::Malformed;
        let algorithm = match text.split('$').nth(1).filter(|_| text.starts_with('$')) {
            Some("argon2id") => Algorithm::Argon2id,
            Some("argon2i") => Algorithm::Argon2i,
            Some("argon2d") => Algorithm::Argon2d,
            _ => return Err(other_format(text)),
        };
        if text.len() > MAX_LENGTH {
            return Err(Malformed("it is too long"));
        }
        let mut fields = text.split('$').skip(2).peekable();
        // The version came late: without it, it is the first one.
        let version = match fields.next_if(|field| field.starts_with("v=")) {
            None | Some("v=16") => Version::V0x10,
            Some("v=19") => Version::V0x13,
            Some(_) => return Err(Malformed("its version is neither 16 nor 19")),
        };
        let mut hash = Self {
            algorithm,
            version,
            memory_kib: 0,
            time_cost: 0,
            parallelism: 0,
            key_id: Vec::new(),
            salt: Vec::new(),
            output: Vec::new(),
        };
        hash.parameters(fields.next().unwrap_or_default())?;
        hash.salt =
            decode(fields.next(), 8..=64).ok_or(Malformed("its salt is not 8 to 64 bytes in unpadded base64"))?;
        hash.output =
            decode(fields.next(), 16..=64).ok_or(Malformed("its hash is not 16 to 64 bytes in unpadded base64"))?;
        if fields.next().is_some() {
            return Err(Malformed("something follows the hash"));
        }
        Ok(hash)
    }

    fn parameters(&mut self, text: &str) -> Result<(), ImportError> {
        use ImportError::Malformed;
        let mut seen = Vec::new();
        for parameter in text.split(',') {
            let (name, value) = parameter.split_once('=').ok_or(Malformed("its parameters are not m=…,t=…,p=…"))?;
            if seen.contains(&name) {
                return Err(Malformed("a parameter stands there twice"));
            }
            seen.push(name);
            let place = match name {
                "m" => &mut self.memory_kib,
                "t" => &mut self.time_cost,
                "p" => &mut self.parallelism,
                "keyid" => {
                    self.key_id =
                        decode(Some(value), 1..=8).ok_or(Malformed("its keyid is not 1 to 8 bytes in base64"))?;
                    continue;
                }
                "data" => return Err(Malformed("it has associated data, which is not supported")),
                _ => return Err(Malformed("it has a parameter other than m, t, p and keyid")),
            };
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            *place = value.parse().ok().filter(|_| digits).ok_or(Malformed("m, t or p is not a number"))?;
        }
        if ["m", "t", "p"].iter().all(|name| seen.contains(name)) {
            Ok(())
        } else {
            Err(Malformed("m, t or p is missing"))
        }
    }

    /// Whether the costs are within the limits and possible at all.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), ImportError> {
        let bound = |what, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(ImportError::OutOfBounds { what, value, min, max }) }
        };
        let (m, t, p) = (self.memory_kib.into(), self.time_cost.into(), u64::from(self.parallelism));
        bound("parallelism (p)", p, 1, limits.parallelism.into())?;
        bound("number of passes (t)", t, 1, limits.time_cost.into())?;
        bound("memory in KiB (m)", m, 8 * p, limits.memory_kib.into())?;
        bound("memory in KiB times passes (m*t)", m * t, 8, limits.work_kib)
    }

    /// What the `argon2` crate takes.
    pub(super) fn params(&self) -> Result<Params, argon2::Error> {
        Params::new(self.memory_kib, self.time_cost, self.parallelism, Some(self.output.len()))
    }
}

impl fmt::Display for Argon2Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (algorithm, version) = (self.algorithm.as_str(), u32::from(self.version));
        write!(f, "${algorithm}$v={version}$m={},t={},p={}", self.memory_kib, self.time_cost, self.parallelism)?;
        if !self.key_id.is_empty() {
            write!(f, ",keyid={}", STANDARD_NO_PAD.encode(&self.key_id))?;
        }
        write!(f, "${}${}", STANDARD_NO_PAD.encode(&self.salt), STANDARD_NO_PAD.encode(&self.output))
    }
}

fn decode(text: Option<&str>, length: std::ops::RangeInclusive<usize>) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text?).ok().filter(|bytes| length.contains(&bytes.len()))
}

fn other_format(text: &str) -> ImportError {
    const KNOWN: [(&str, &str); 12] = [
        ("$2a$", "bcrypt"),
        ("$2b$", "bcrypt"),
        ("$2x$", "bcrypt"),
        ("$2y$", "bcrypt"),
        ("bcrypt", "bcrypt"),
        ("$pbkdf2", "PBKDF2"),
        ("pbkdf2", "PBKDF2"),
        ("{PBKDF2", "PBKDF2"),
        ("$scrypt$", "scrypt"),
        ("scrypt", "scrypt"),
        ("$7$", "scrypt"),
        ("$s0$", "scrypt"),
    ];
    let known = KNOWN.iter().find(|(prefix, _)| text.starts_with(prefix));
    known.map_or(ImportError::UnknownFormat, |(_, name)| ImportError::NotYet(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str =
        "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$8H9c+ptKg2WLmt0XoUBh1k9jRiNAWLA8RpX/Mj0h9cI";

    fn refusal(hash: &str) -> String {
        check_importable(hash, &Limits::default()).unwrap_err().to_string()
    }

    #[test]
    fn phc_strings_are_read_and_written() {
        assert_eq!(check_importable(GOOD, &Limits::default()), Ok(HashKind::Argon2));
        for text in [
            GOOD.to_owned(),
            GOOD.replace("p=4", "p=4,keyid=a2V5cGVwcGU"),
            GOOD.replace("2id", "2d").replace("=19", "=16"),
        ] {
            assert_eq!(Argon2Hash::parse(&text).unwrap().to_string(), text);
        }
        let old = Argon2Hash::parse(&GOOD.replace("$v=19", "")).unwrap();
        assert_eq!(old.version, Version::V0x10);
    }

    #[test]
    fn costs_out_of_bounds_are_refused_by_name() {
        for (from, to, said) in [
            ("m=65536", "m=262145", "its memory in KiB (m) is 262145, and 32 to 262144 are accepted"),
            ("m=65536", "m=31", "its memory in KiB (m) is 31, and 32 to 262144"),
            ("m=65536", "m=4294967295", "its memory in KiB (m) is 4294967295"),
            ("t=3", "t=17", "its number of passes (t) is 17, and 1 to 16"),
            ("t=3", "t=0", "its number of passes (t) is 0"),
            ("p=4", "p=9", "its parallelism (p) is 9, and 1 to 8"),
            ("p=4", "p=0", "its parallelism (p) is 0"),
            ("m=65536,t=3", "m=262144,t=5", "its memory in KiB times passes (m*t) is 1310720, and 8 to 1048576"),
        ] {
            let refused = refusal(&GOOD.replace(from, to));
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn malformed_hashes_are_explained() {
        for (hash, said) in [
            (GOOD.replace("v=19", "v=20"), "version"),
            (GOOD.replace("t=3,", ""), "m, t or p is missing"),
            (GOOD.replace("t=3", "t=3,t=3"), "twice"),
            (GOOD.replace("t=3", "t=-3"), "not a number"),
            (GOOD.replace("t=3", "t=+3"), "not a number"),
            (GOOD.replace("t=3", "t=99999999999"), "not a number"),
            (GOOD.replace("t=3", "t=3,x=1"), "a parameter other than"),
            (GOOD.replace("t=3", "t=3,data=AAAA"), "associated data"),
            (GOOD.replace("m=65536,t=3,p=4", "nonsense"), "its parameters are not"),
            (GOOD.replace("c29t", "c2*t"), "its salt"),
            (GOOD.replace("$c29tZXNhbHRzb21lc2FsdA", "$c29t"), "its salt"),
            (GOOD[..GOOD.len() - 30].to_owned(), "its hash"),
            (format!("{GOOD}="), "its hash"),
            (format!("{GOOD}$"), "something follows"),
            (format!("{GOOD}\n"), "its hash"),
            (format!("{GOOD}{}", "A".repeat(60_000)), "too long"),
            (GOOD.replace("p=4", "p=4,keyid=AAAA"), "made with a secret key"),
        ] {
            let refused = refusal(&hash);
            assert!(refused.contains(said), "{refused} / {said}");
        }
    }

    #[test]
    fn formats_of_later_are_named_and_the_rest_refused() {
        for (hash, said) in [
            ("$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", "bcrypt hashes cannot be imported yet"),
            ("pbkdf2_sha256$600000$salt$aGFzaA==", "PBKDF2 hashes cannot"),
            ("$scrypt$ln=16,r=8,p=1$c2FsdA$aGFzaA", "scrypt hashes cannot"),
            ("", "unknown format"),
            ("argon2id$", "unknown format"),
            ("$argon2$", "unknown format"),
            ("5f4dcc3b5aa765d61d8327deb882cf99", "unknown format"),
            ("hunter2", "unknown format"),
        ] {
            let refused = refusal(hash);
            assert!(refused.contains(said) && !refused.contains("hunter2"), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(tail in "[$=,a-z0-9+/]{0,100}", any in ".{0,60}") {
            let _ = check_importable(&format!("$argon2id$v=19${tail}"), &Limits::default());
            let _ = check_importable(&any, &Limits::default());
        }
    }
}
