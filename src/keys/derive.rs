//! The one way in which keys are turned into other values: HMAC-SHA-256 (RFC 2104) over length-prefixed parts.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// A 256-bit key.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// Starts a MAC whose input begins with `label`, so that values made for one purpose never pass for another.
pub(super) fn mac(key: &Key, label: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
    // `new` takes the whole block (64 bytes); RFC 2104 fills a shorter key up with zeros.
    let mut block = Zeroizing::new([0_u8; 64]);
    block[..32].copy_from_slice(key.as_slice());
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    for part in std::iter::once(label.as_bytes()).chain(parts.iter().copied()) {
        // Without the length, ("ab", "c") and ("a", "bc") would be the same input.
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac
}

/// The finished MAC as bytes, for values that are meant to be shown or stored.
pub(super) fn digest(key: &Key, label: &str, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(mac(key, label, parts).finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_used_as_rfc_2104_says() {
        let key = Zeroizing::new([0x0b_u8; 32]);
        let mut plain = Hmac::<Sha256>::new_from_slice(key.as_slice()).unwrap();
        plain.update(&1_u64.to_le_bytes());
        plain.update(b"x");
        assert_eq!(digest(&key, "x", &[]).as_slice(), &plain.finalize().into_bytes()[..]);
    }

    #[test]
    fn where_one_part_ends_matters() {
        let key = Zeroizing::new([7_u8; 32]);
        assert_ne!(digest(&key, "l", &[b"ab", b"c"]), digest(&key, "l", &[b"a", b"bc"]));
        assert_ne!(digest(&key, "l", &[b"ab"]), digest(&key, "l", &[b"ab", b""]));
        assert_ne!(digest(&key, "la", &[b"b"]), digest(&key, "l", &[b"ab"]));
    }
}
