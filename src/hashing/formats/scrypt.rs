//! scrypt (RFC 7914), as a PHC string, and as Django and Werkzeug write it.

use scrypt::{Params, scrypt};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{ImportError, Limits};

/// An scrypt hash taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(in super::super) struct ScryptHash {
    /// The binary logarithm of N.
    log_n: u32,
    r: u32,
    p: u32,
    salt: Vec<u8>,
    output: Vec<u8>,
}

const fn malformed(fault: &'static str) -> ImportError {
    ImportError::Malformed { format: "an scrypt hash", fault }
}

impl ScryptHash {
    /// `$scrypt$ln=17,r=8,p=1$<salt>$<hash>`.
    pub(super) fn parse_phc(text: &str) -> Result<Self, ImportError> {
        let mut fields = text.split('$').skip(2);
        let parameters = super::numbers(fields.next().unwrap_or_default(), ["ln", "r", "p"]);
        let parameters = parameters.ok_or(malformed("its parameters are not ln=…,r=…,p=…"))?;
        let found = Self::new(parameters, super::base64(fields.next()), super::base64(fields.next()))?;
        if fields.next().is_some() { Err(malformed("something follows the hash")) } else { Ok(found) }
    }

    /// `scrypt$16384$<salt as it is>$8$5$<hash>`: N, salt, r, p.
    pub(super) fn parse_django(text: &str) -> Result<Self, ImportError> {
        let mut fields = text.split('$').skip(1);
        let n = fields.next().and_then(super::number);
        let salt = fields.next().map(|salt| salt.as_bytes().to_vec());
        let (r, p) = (fields.next().and_then(super::number), fields.next().and_then(super::number));
        let found = Self::new([log2(n)?, r, p], salt, super::base64(fields.next()))?;
        if fields.next().is_some() { Err(malformed("something follows the hash")) } else { Ok(found) }
    }

    /// `scrypt:32768:8:1$<salt as it is>$<hash in hexadecimal digits>`.
    pub(super) fn parse_werkzeug(text: &str) -> Result<Self, ImportError> {
        let mut fields = text.split('$');
        let mut method = fields.next().unwrap_or_default().split(':').skip(1);
        let mut number = || method.next().and_then(super::number);
        let parameters = [log2(number())?, number(), number()];
        let salt = fields.next().map(|salt| salt.as_bytes().to_vec());
        let found = Self::new(parameters, salt, super::hexadecimal(fields.next()))?;
        let more = fields.next().is_some() || method.next().is_some();
        if more { Err(malformed("there is more than a method, a salt and a hash")) } else { Ok(found) }
    }

    fn new(parameters: [Option<u32>; 3], salt: Option<Vec<u8>>, output: Option<Vec<u8>>) -> Result<Self, ImportError> {
        let [Some(log_n), Some(r), Some(p)] = parameters else {
            return Err(malformed("its cost is not three numbers (N, r and p)"));
        };
        let within = |bytes: &Vec<u8>, least| (least..=64).contains(&bytes.len());
        let salt = salt.filter(|salt| within(salt, 1)).ok_or(malformed("its salt is not 1 to 64 bytes"))?;
        let output = output.filter(|hash| within(hash, 16)).ok_or(malformed("its hash is not 16 to 64 bytes"))?;
        Ok(Self { log_n, r, p, salt, output })
    }

    pub(super) fn check(&self, limits: &Limits) -> Result<(), ImportError> {
        // Each alone first: their product must not overflow.
        super::bound("N, as a power of two (ln)", self.log_n.into(), 1, 24)?;
        super::bound("block size (r)", self.r.into(), 1, 64)?;
        super::bound("parallelism (p)", self.p.into(), 1, 64)?;
        super::bound("memory in KiB (N*r/8)", self.memory_kib().into(), 0, limits.memory_kib.into())?;
        super::bound("memory in KiB times parallelism (N*r*p/8)", self.work_kib(), 0, limits.scrypt_work_kib)
    }

    /// 128 bytes for each of N blocks of size r. Within the bounds of `check`, at most 128 GiB.
    pub(super) fn memory_kib(&self) -> u32 {
        u32::try_from((u64::from(self.r) << self.log_n.min(24)) / 8).unwrap_or(u32::MAX)
    }

    /// The lanes are worked on one after the other, in the same memory.
    fn work_kib(&self) -> u64 {
        u64::from(self.memory_kib()) * u64::from(self.p)
    }

    pub(super) fn milliseconds(&self) -> u64 {
        self.work_kib() * 3 / 1024
    }

    pub(in super::super) fn is_of(&self, password: &[u8]) -> bool {
        let mut output = Zeroizing::new(vec![0; self.output.len()]);
        let Ok(log_n) = u8::try_from(self.log_n) else { return false };
        let made = Params::new(log_n, self.r, self.p)
            .is_ok_and(|params| scrypt(password, &self.salt, &params, &mut output).is_ok());
        made && bool::from(output.ct_eq(&self.output))
    }
}

/// The binary logarithm of what must be a power of two.
fn log2(n: Option<u32>) -> Result<Option<u32>, ImportError> {
    match n {
        Some(n) if n.is_power_of_two() => Ok(Some(n.ilog2())),
        Some(_) => Err(malformed("its N is not a power of two")),
        None => Ok(None),
    }
}
