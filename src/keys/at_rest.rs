//! Text that only holders of the key file can read: for rows that must not show a person, and that the daemon must read
//! once more itself.

use base64::Engine;
use crypto_box::SecretKey;
use crypto_box::aead::OsRng;

use super::ring::{KeyRing, current};
use super::sealed::BASE64;

/// Between the key's id and the box; neither holds one.
const SEPARATOR: char = '.';

/// The cipher refused a text; it does so only with one that is too long for any box.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a text of {bytes} bytes could not be encrypted with the sealing key")]
pub struct EncryptError {
    bytes: usize,
}

impl KeyRing {
    /// Encrypts a text with the current sealing key.
    ///
    /// # Errors
    /// [`EncryptError`]: without it the row must not be written, or it shows the person after all.
    pub fn encrypt_at_rest(&self, text: &str) -> Result<String, EncryptError> {
        let key = current(&self.sealing);
        let public_key = SecretKey::from_bytes(*key.secret).public_key();
        let sealed = public_key.seal(&mut OsRng, text.as_bytes()).map_err(|_| EncryptError { bytes: text.len() })?;
        Ok(format!("{}{SEPARATOR}{}", key.id, BASE64.encode(sealed)))
    }

    /// What was encrypted, if one of the sealing keys opens it.
    pub fn decrypt_at_rest(&self, encrypted: &str) -> Option<String> {
        let (id, sealed) = encrypted.split_once(SEPARATOR)?;
        let key = self.sealing.iter().find(|key| key.id == id)?;
        let text = SecretKey::from_bytes(*key.secret).unseal(&BASE64.decode(sealed).ok()?).ok()?;
        String::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_keys_open_it() {
        let now = crate::clock::now();
        let keys = KeyRing::generate(now);
        let text = r#"{"subject":"ada"}"#.repeat(1000);
        let encrypted = keys.encrypt_at_rest(&text).unwrap();
        // Longer than what chance spells in base64.
        assert!(!encrypted.contains("subject") && !encrypted.starts_with('{'));
        assert_eq!(keys.decrypt_at_rest(&encrypted), Some(text));
        assert_eq!(KeyRing::generate(now).decrypt_at_rest(&encrypted), None);
        for not_encrypted in ["", "x", "{}", "a.b.c"] {
            assert_eq!(keys.decrypt_at_rest(not_encrypted), None);
        }
    }
}
