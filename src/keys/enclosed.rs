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
pub struct EncloseError {
    bytes: usize,
}

impl KeyRing {
    /// Encloses a text with the current sealing key.
    ///
    /// # Errors
    /// [`EncloseError`]: whoever encloses a text must not go on without, or the row shows the person after all.
    pub fn enclose(&self, text: &str) -> Result<String, EncloseError> {
        let key = current(&self.sealing);
        let public_key = SecretKey::from_bytes(*key.secret).public_key();
        let sealed = public_key.seal(&mut OsRng, text.as_bytes()).map_err(|_| EncloseError { bytes: text.len() })?;
        Ok(format!("{}{SEPARATOR}{}", key.id, BASE64.encode(sealed)))
    }

    /// What was enclosed, if one of the sealing keys opens it.
    pub fn disclose(&self, enclosed: &str) -> Option<String> {
        let (id, sealed) = enclosed.split_once(SEPARATOR)?;
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
        let enclosed = keys.enclose(&text).unwrap();
        // Longer than what chance spells in base64.
        assert!(!enclosed.contains("subject") && !enclosed.starts_with('{'));
        assert_eq!(keys.disclose(&enclosed), Some(text));
        assert_eq!(KeyRing::generate(now).disclose(&enclosed), None);
        for not_enclosed in ["", "x", "{}", "a.b.c"] {
            assert_eq!(keys.disclose(not_enclosed), None);
        }
    }
}
