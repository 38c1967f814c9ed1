//! PBKDF2 (RFC 8018), as a PHC string, and as passlib, Django and Werkzeug write it.

use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{ImportError, Limits};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    fn named(name: &str) -> Option<Self> {
        match name {
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Bytes that one run of all iterations gives.
    const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// A PBKDF2 hash taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(in super::super) struct Pbkdf2Hash {
    hash: Hash,
    iterations: u32,
    salt: Vec<u8>,
    output: Vec<u8>,
}

const FORMAT: &str = "a PBKDF2 hash";

const fn malformed(fault: &'static str) -> ImportError {
    ImportError::Malformed { format: FORMAT, fault }
}

const UNKNOWN_HASH: ImportError = malformed("its hash function is not sha1, sha256 or sha512");
const NO_ITERATIONS: ImportError = malformed("its number of iterations is missing or not a number");

impl Pbkdf2Hash {
    /// `$pbkdf2-sha256$i=600000,l=32$<salt>$<hash>` (PHC), `$pbkdf2-sha256$29000$<salt>$<hash>` (passlib).
    pub(super) fn parse_phc(text: &str) -> Result<Self, ImportError> {
        let mut fields = text.split('$').skip(1);
        let hash = match fields.next() {
            Some("pbkdf2") => Hash::Sha1,
            name => name.and_then(|n| n.strip_prefix("pbkdf2-")).and_then(Hash::named).ok_or(UNKNOWN_HASH)?,
        };
        let parameters = fields.next().unwrap_or_default();
        let (iterations, length) = if parameters.contains('=') {
            let [iterations, length] = super::numbers(parameters, ["i", "l"])
                .ok_or(malformed("its parameters are not i=… and perhaps l=…"))?;
            (iterations, length)
        } else {
            (super::number(parameters), None)
        };
        let found = Self::new(hash, iterations, super::base64(fields.next()), super::base64(fields.next()))?;
        match length {
            _ if fields.next().is_some() => Err(malformed("something follows the hash")),
            Some(length) if usize::try_from(length) != Ok(found.output.len()) => {
                Err(malformed("its hash is not l bytes"))
            }
            _ => Ok(found),
        }
    }

    /// `pbkdf2_sha256$600000$<salt as it is>$<hash>`.
    pub(super) fn parse_django(text: &str) -> Result<Self, ImportError> {
        let mut fields = text.split('$');
        let hash = fields.next().and_then(|name| name.strip_prefix("pbkdf2_")).and_then(Hash::named);
        let iterations = fields.next().and_then(super::number);
        let salt = fields.next().map(|salt| salt.as_bytes().to_vec());
        let found = Self::new(hash.ok_or(UNKNOWN_HASH)?, iterations, salt, super::base64(fields.next()))?;
        if fields.next().is_some() { Err(malformed("something follows the hash")) } else { Ok(found) }
    }

    /// `pbkdf2:sha256:600000$<salt as it is>$<hash in hexadecimal digits>`.
    pub(super) fn parse_werkzeug(text: &str) -> Result<Self, ImportError> {
        let mut fields = text.split('$');
        let mut method = fields.next().unwrap_or_default().split(':').skip(1);
        let (hash, iterations) = (method.next().and_then(Hash::named), method.next().and_then(super::number));
        let salt = fields.next().map(|salt| salt.as_bytes().to_vec());
        let found = Self::new(hash.ok_or(UNKNOWN_HASH)?, iterations, salt, super::hexadecimal(fields.next()))?;
        let more = fields.next().is_some() || method.next().is_some();
        if more { Err(malformed("there is more than a method, a salt and a hash")) } else { Ok(found) }
    }

    fn new(
        hash: Hash,
        iterations: Option<u32>,
        salt: Option<Vec<u8>>,
        output: Option<Vec<u8>>,
    ) -> Result<Self, ImportError> {
        let within = |bytes: &Vec<u8>, least| (least..=64).contains(&bytes.len());
        Ok(Self {
            hash,
            iterations: iterations.ok_or(NO_ITERATIONS)?,
            salt: salt.filter(|salt| within(salt, 1)).ok_or(malformed("its salt is not 1 to 64 bytes"))?,
            output: output.filter(|hash| within(hash, 16)).ok_or(malformed("its hash is not 16 to 64 bytes"))?,
        })
    }

    /// The iterations that a verification takes: all of them again for each further piece of a long output.
    fn work(&self) -> u64 {
        u64::from(self.iterations) * self.output.len().div_ceil(self.hash.length()) as u64
    }

    pub(super) fn check(&self, limits: &Limits) -> Result<(), ImportError> {
        super::bound("number of iterations", self.work(), 1, limits.pbkdf2_iterations.into())
    }

    pub(super) fn milliseconds(&self) -> u64 {
        self.work() / if self.hash == Hash::Sha512 { 1000 } else { 2000 }
    }

    pub(in super::super) fn is_of(&self, password: &[u8]) -> bool {
        let mut output = Zeroizing::new(vec![0; self.output.len()]);
        match self.hash {
            Hash::Sha1 => pbkdf2_hmac::<Sha1>(password, &self.salt, self.iterations, &mut output),
            Hash::Sha256 => pbkdf2_hmac::<Sha256>(password, &self.salt, self.iterations, &mut output),
            Hash::Sha512 => pbkdf2_hmac::<Sha512>(password, &self.salt, self.iterations, &mut output),
        }
        output.ct_eq(&self.output).into()
    }
}
