//! DKIM signatures (RFC 6376, RFC 8463).

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lettre::message::Message;
use lettre::message::dkim::{
    DkimCanonicalization, DkimCanonicalizationType, DkimConfig, DkimSigningAlgorithm, DkimSigningKey, dkim_sign,
};
use lettre::message::header::HeaderName;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// What the signature covers. `Reply-To` is listed even if a message has none: then nobody can add one.
/// `Content-Type` is not: lettre folds it in another way than it signs it.
const SIGNED: [&str; 7] = ["From", "Reply-To", "To", "Subject", "Date", "Message-ID", "MIME-Version"];

/// DER of `AlgorithmIdentifier { rsaEncryption, NULL }`, as in every PKCS#8 RSA key (RFC 8017 appendix A.1).
const RSA_IDENTIFIER: [u8; 15] = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0];
/// What precedes the 32 bytes of an Ed25519 seed in its PKCS#8 form (RFC 8410 section 7).
const ED25519_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A signing key with the DNS name it is published under, loaded once.
pub struct Dkim {
    config: DkimConfig,
    /// SHA-256 of the key's file.
    digest: [u8; 32],
}

impl fmt::Debug for Dkim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dkim([redacted])")
    }
}

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum DkimError {
    /// The file cannot be read.
    #[error("mail.dkim.key_file {path}: {source}", path = .path.display())]
    Unreadable {
        /// The configured file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file holds no key of a kind that is understood.
    #[error(
        "mail.dkim.key_file {path}: {reason}; make one with `openssl genrsa 2048` (RSA) or `openssl genpkey -algorithm ed25519`",
        path = .path.display()
    )]
    Key {
        /// The configured file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Domain or selector cannot stand in a DNS name.
    #[error("mail.dkim.{key}: `{value}` is not a DNS name in ASCII")]
    Name {
        /// `domain` or `selector`.
        key: &'static str,
        /// What was configured.
        value: String,
    },
}

impl Dkim {
    /// Reads an RSA key (PKCS#1 or PKCS#8 PEM) or an Ed25519 key (PKCS#8 PEM, or the bare seed in base64).
    ///
    /// # Errors
    ///
    /// [`DkimError`] says which setting is at fault and how to make a key.
    pub fn load(domain: &str, selector: &str, key_file: &Path) -> Result<Self, DkimError> {
        for (key, value) in [("domain", domain), ("selector", selector)] {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if value.is_empty() || !value.chars().all(fits) {
                return Err(DkimError::Name { key, value: value.to_owned() });
            }
        }
        let text = std::fs::read_to_string(key_file)
            .map_err(|source| DkimError::Unreadable { path: key_file.to_owned(), source })?;
        let text = Zeroizing::new(text);
        let key = signing_key(&text).map_err(|reason| DkimError::Key { path: key_file.to_owned(), reason })?;
        // Relaxed, since relays refold headers and trim line ends.
        let relaxed =
            DkimCanonicalization { header: DkimCanonicalizationType::Relaxed, body: DkimCanonicalizationType::Relaxed };
        let headers = SIGNED.map(HeaderName::new_from_ascii_str).to_vec();
        let config = DkimConfig::new(selector.to_owned(), domain.to_owned(), key, headers, relaxed);
        Ok(Self { config, digest: Sha256::digest(text.as_bytes()).into() })
    }

    /// Whether the file still holds what was read from it.
    pub fn is_in(&self, key_file: &Path) -> bool {
        std::fs::read(key_file).is_ok_and(|text| Sha256::digest(Zeroizing::new(text)).as_slice() == self.digest)
    }

    pub(super) fn sign(&self, message: &mut Message) {
        dkim_sign(message, &self.config);
    }
}

fn signing_key(text: &str) -> Result<DkimSigningKey, &'static str> {
    const UNKNOWN: &str = "this is neither an RSA nor an Ed25519 private key";
    let text = text.trim();
    if text.contains("ENCRYPTED") {
        return Err("the key is protected by a passphrase, which a daemon cannot type");
    }
    if text.starts_with("-----BEGIN RSA PRIVATE KEY-----") {
        return DkimSigningKey::new(text, DkimSigningAlgorithm::Rsa).map_err(|_| "the RSA key is damaged");
    }
    let Some(body) = text.strip_prefix("-----BEGIN PRIVATE KEY-----") else {
        return DkimSigningKey::new(text, DkimSigningAlgorithm::Ed25519).map_err(|_| UNKNOWN);
    };
    let base64 = body.split("-----END").next().unwrap_or_default();
    let base64: Zeroizing<String> = Zeroizing::new(base64.split_whitespace().collect());
    let der = Zeroizing::new(STANDARD.decode(base64.as_bytes()).map_err(|_| "the PEM text is damaged")?);
    if let Some(seed) = der.strip_prefix(&ED25519_PREFIX) {
        let seed = Zeroizing::new(STANDARD.encode(seed));
        return DkimSigningKey::new(&seed, DkimSigningAlgorithm::Ed25519).map_err(|_| "the Ed25519 key is damaged");
    }
    let pkcs1 = unwrap_rsa(&der).ok_or(UNKNOWN)?;
    let pem = Zeroizing::new(pkcs1_pem(pkcs1));
    DkimSigningKey::new(&pem, DkimSigningAlgorithm::Rsa).map_err(|_| "the RSA key is damaged")
}

/// The PKCS#1 key inside a PKCS#8 one. OpenSSL 3 writes the latter, lettre reads only the former.
fn unwrap_rsa(der: &[u8]) -> Option<&[u8]> {
    let at = der.windows(RSA_IDENTIFIER.len()).take(16).position(|window| window == RSA_IDENTIFIER)?;
    // An OCTET STRING of 256 to 65535 bytes: every RSA key of 512 to 16384 bits.
    let [4, 0x82, high, low, key @ ..] = &der[at + RSA_IDENTIFIER.len()..] else { return None };
    key.get(..usize::from(u16::from_be_bytes([*high, *low])))
}

fn pkcs1_pem(der: &[u8]) -> String {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let mut pem = String::with_capacity(base64.len() + base64.len() / 64 + 80);
    pem.push_str("-----BEGIN RSA PRIVATE KEY-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END RSA PRIVATE KEY-----\n");
    pem
}
