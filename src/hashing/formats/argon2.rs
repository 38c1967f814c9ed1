//! Argon2 (RFC 9106), as a PHC string: how new hashes are written too.

use std::fmt;

use argon2::{Algorithm, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{ImportError, Limits, bound};

const fn malformed(fault: &'static str) -> ImportError {
    ImportError::Malformed { format: "an Argon2 PHC string", fault }
}

/// An Argon2 PHC string taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(in super::super) struct Argon2Hash {
    pub(in super::super) algorithm: Algorithm,
    pub(in super::super) version: Version,
    pub(in super::super) memory_kib: u32,
    pub(in super::super) time_cost: u32,
    pub(in super::super) parallelism: u32,
    pub(in super::super) key_id: Vec<u8>,
    pub(in super::super) salt: Vec<u8>,
    pub(in super::super) output: Vec<u8>,
}

impl Argon2Hash {
    pub(in super::super) fn parse(text: &str) -> Result<Self, ImportError> {
        let algorithm = match text.split('$').nth(1).filter(|_| text.starts_with('$')) {
            Some("argon2id") => Algorithm::Argon2id,
            Some("argon2i") => Algorithm::Argon2i,
            Some("argon2d") => Algorithm::Argon2d,
            _ => return Err(malformed("it is none of argon2id, argon2i and argon2d")),
        };
        let mut fields = text.split('$').skip(2).peekable();
        // The version came late: without it, it is the first one.
        let version = match fields.next_if(|field| field.starts_with("v=")) {
            None | Some("v=16") => Version::V0x10,
            Some("v=19") => Version::V0x13,
            Some(_) => return Err(malformed("its version is neither 16 nor 19")),
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
            decode(fields.next(), 8..=64).ok_or(malformed("its salt is not 8 to 64 bytes in unpadded base64"))?;
        hash.output =
            decode(fields.next(), 16..=64).ok_or(malformed("its hash is not 16 to 64 bytes in unpadded base64"))?;
        if fields.next().is_some() {
            return Err(malformed("something follows the hash"));
        }
        Ok(hash)
    }

    fn parameters(&mut self, text: &str) -> Result<(), ImportError> {
        let mut seen = Vec::new();
        for parameter in text.split(',') {
            let (name, value) = parameter.split_once('=').ok_or(malformed("its parameters are not m=…,t=…,p=…"))?;
            if seen.contains(&name) {
                return Err(malformed("a parameter stands there twice"));
            }
            seen.push(name);
            let place = match name {
                "m" => &mut self.memory_kib,
                "t" => &mut self.time_cost,
                "p" => &mut self.parallelism,
                "keyid" => {
                    self.key_id =
                        decode(Some(value), 1..=8).ok_or(malformed("its keyid is not 1 to 8 bytes in base64"))?;
                    continue;
                }
                "data" => return Err(malformed("it has associated data, which is not supported")),
                _ => return Err(malformed("it has a parameter other than m, t, p and keyid")),
            };
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            *place = value.parse().ok().filter(|_| digits).ok_or(malformed("m, t or p is not a number"))?;
        }
        if ["m", "t", "p"].iter().all(|name| seen.contains(name)) {
            Ok(())
        } else {
            Err(malformed("m, t or p is missing"))
        }
    }

    /// Whether the costs are within the limits and possible at all.
    pub(in super::super) fn check(&self, limits: &Limits) -> Result<(), ImportError> {
        let (m, t, p) = (self.memory_kib.into(), self.time_cost.into(), u64::from(self.parallelism));
        bound("parallelism (p)", p, 1, limits.parallelism.into())?;
        bound("number of passes (t)", t, 1, limits.time_cost.into())?;
        bound("memory in KiB (m)", m, 8 * p, limits.memory_kib.into())?;
        bound("memory in KiB times passes (m*t)", m * t, 8, limits.work_kib)
    }

    pub(super) fn milliseconds(&self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.time_cost) / 2500
    }

    /// What the `argon2` crate takes.
    pub(in super::super) fn params(&self) -> Result<Params, argon2::Error> {
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
