//! Sealed secrets: libsodium's `crypto_box_seal` (X25519, XSalsa20-Poly1305, the nonce from `BLAKE2b`).

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use crypto_box::aead::OsRng;
use crypto_box::{PublicKey, SecretKey};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Serialize;
use zeroize::Zeroizing;

/// The algorithm's name, as announced with the public key.
pub const SEALING_ALGORITHM: &str = "x25519-xsalsa20-poly1305-sealedbox";

/// The largest secret that is opened or sealed, in bytes: four times the 256 characters that a password may have.
pub const MAX_SEALED_SECRET: usize = 4096;

/// What a sealed box adds to its content: the ephemeral public key (32) and the authenticator (16), in bytes.
const OVERHEAD: usize = 48;

/// Standard alphabet; writes padding and reads with or without: clients differ.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The key that publishers seal secrets to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "SealingKey")]
pub struct PublicSealingKey {
    /// The key's id, to be sent along as `key_id`.
    pub key_id: String,
    /// How to seal: `x25519-xsalsa20-poly1305-sealedbox`, which is libsodium's `crypto_box_seal`.
    pub algorithm: &'static str,
    /// The X25519 public key (RFC 7748), base64.
    pub public_key: String,
}

/// Why a sealed secret cannot be opened, or a secret not be sealed. Never holds any of the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// No sealing key has this id.
    #[error("no sealing key of this daemon has the given key_id; ask for the current one with `daemon.info`")]
    UnknownKey,
    /// Longer than [`MAX_SEALED_SECRET`] allows.
    #[error("it is too long: a sealed secret may hold {MAX_SEALED_SECRET} bytes")]
    TooLong,
    /// Not base64.
    #[error("it is not base64")]
    NotBase64,
    /// Sealed to another key, changed on its way, or no sealed box at all.
    #[error("it does not open with this key: it was sealed to another one, or changed on its way")]
    DoesNotOpen,
    /// The content is not text.
    #[error("its content is not UTF-8")]
    NotUtf8,
    /// The reply key is not 32 bytes in base64, or a point that would reveal the secret to everyone.
    #[error("reply_key is not a usable X25519 public key (32 bytes, base64)")]
    BadReplyKey,
}

/// Opens a sealed box.
pub(super) fn open(key: &SecretKey, sealed_base64: &str) -> Result<SecretString, UnsealError> {
    if sealed_base64.len() > (MAX_SEALED_SECRET + OVERHEAD).div_ceil(3) * 4 {
        return Err(UnsealError::TooLong);
    }
    let sealed = BASE64.decode(sealed_base64).map_err(|_| UnsealError::NotBase64)?;
    let plain = Zeroizing::new(key.unseal(&sealed).map_err(|_| UnsealError::DoesNotOpen)?);
    std::str::from_utf8(&plain).map(SecretString::from).map_err(|_| UnsealError::NotUtf8)
}

/// Seals a secret to a caller's X25519 public key, so that only the caller can read it in the reply.
///
/// # Errors
/// [`UnsealError::BadReplyKey`], [`UnsealError::TooLong`].
pub fn seal_to(reply_key_base64: &str, plain: &str) -> Result<String, UnsealError> {
    // 32 bytes are 44 characters; the bound keeps a huge string from being decoded.
    if reply_key_base64.len() > 44 {
        return Err(UnsealError::BadReplyKey);
    }
    if plain.len() > MAX_SEALED_SECRET {
        return Err(UnsealError::TooLong);
    }
    let bytes = BASE64.decode(reply_key_base64).map_err(|_| UnsealError::BadReplyKey)?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| UnsealError::BadReplyKey)?;
    if is_low_order(&bytes) {
        return Err(UnsealError::BadReplyKey);
    }
    let sealed =
        PublicKey::from_bytes(bytes).seal(&mut OsRng, plain.as_bytes()).map_err(|_| UnsealError::BadReplyKey)?;
    Ok(BASE64.encode(sealed))
}

/// The points with which a key agreement gives zero whatever the private key (RFC 7748, section 6.1): 0, 1, the two of order 8,
/// and p-1, p, p+1. A box sealed to one of them could be opened by anybody; libsodium refuses the same ones.
const LOW_ORDER: [[u8; 32]; 7] = [
    point(0x00, 0x00, 0x00),
    point(0x01, 0x00, 0x00),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    point(0xec, 0xff, 0x7f),
    point(0xed, 0xff, 0x7f),
    point(0xee, 0xff, 0x7f),
];

/// A point whose bytes, but for the first and the last, are all alike.
const fn point(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

fn is_low_order(point: &[u8; 32]) -> bool {
    let mut point = *point;
    // X25519 ignores the highest bit, so each point has two spellings.
    point[31] &= 0x7f;
    LOW_ORDER.contains(&point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto_box::SalsaBox;
    use crypto_box::aead::Aead;
    use secrecy::ExposeSecret;

    /// Made by libsodium 1.0.20 through `PyNaCl` 1.6: `SealedBox(PrivateKey(bytes(range(32))).public_key)`.
    const FROM_LIBSODIUM: &str =
        "EmWs222WqcitMxD/5lRwMPzU0WvY6zEw3/oOwmBVJg5iuiGHBrAcSejwVsbct5vYn4L1XIkx43yLQzu9oJYzegaaGMD/nrQfZw==";

    fn key() -> SecretKey {
        SecretKey::from_bytes(std::array::from_fn(|n| u8::try_from(n).unwrap()))
    }

    #[test]
    fn opens_what_libsodium_sealed() {
        assert_eq!(open(&key(), FROM_LIBSODIUM).unwrap().expose_secret(), "Pässwörd from libsodium");
        assert_eq!(
            open(&key(), FROM_LIBSODIUM.trim_end_matches('=')).unwrap().expose_secret(),
            "Pässwörd from libsodium"
        );
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_only() {
        let public = BASE64.encode(key().public_key().as_bytes());
        let sealed = seal_to(&public, "geheim").unwrap();
        assert_eq!(open(&key(), &sealed).unwrap().expose_secret(), "geheim");
        assert_eq!(open(&SecretKey::from_bytes([9; 32]), &sealed).unwrap_err(), UnsealError::DoesNotOpen);
        let mut raw = BASE64.decode(&sealed).unwrap();
        *raw.last_mut().unwrap() ^= 1;
        assert_eq!(open(&key(), &BASE64.encode(raw)).unwrap_err(), UnsealError::DoesNotOpen);
    }

    #[test]
    fn hostile_boxes_are_refused() {
        let public = key().public_key();
        let raw = |plain: &[u8]| BASE64.encode(public.seal(&mut OsRng, plain).unwrap());
        assert_eq!(open(&key(), "").unwrap_err(), UnsealError::DoesNotOpen);
        assert_eq!(open(&key(), "AAAA").unwrap_err(), UnsealError::DoesNotOpen);
        assert_eq!(open(&key(), "not base64!").unwrap_err(), UnsealError::NotBase64);
        assert_eq!(open(&key(), &"A".repeat(60_000)).unwrap_err(), UnsealError::TooLong);
        assert_eq!(open(&key(), &raw(&[0xff, 0xfe])).unwrap_err(), UnsealError::NotUtf8);
        assert!(open(&key(), &raw(&[b'a'; MAX_SEALED_SECRET])).is_ok());
        assert_eq!(open(&key(), &raw(&[b'a'; MAX_SEALED_SECRET + 3])).unwrap_err(), UnsealError::TooLong);
    }

    #[test]
    fn unusable_reply_keys_are_refused() {
        for text in ["", "AAAA", "not base64!", &"A".repeat(60_000)] {
            assert_eq!(seal_to(text, "x").unwrap_err(), UnsealError::BadReplyKey, "{text:.20}");
        }
    }

    #[test]
    fn reply_keys_that_would_reveal_the_secret_are_refused() {
        for mut point in LOW_ORDER {
            // The list is right: what one private key seals to such a point, another opens.
            let nonce = [0_u8; 24].into();
            let shared = |secret| SalsaBox::new(&PublicKey::from_bytes(point), &SecretKey::from_bytes([secret; 32]));
            let sealed = shared(1).encrypt(&nonce, &b"x"[..]).unwrap();
            assert!(shared(2).decrypt(&nonce, &sealed[..]).is_ok());
            assert_eq!(seal_to(&BASE64.encode(point), "x").unwrap_err(), UnsealError::BadReplyKey);
            point[31] |= 0x80;
            assert_eq!(seal_to(&BASE64.encode(point), "x").unwrap_err(), UnsealError::BadReplyKey);
        }
        assert!(!is_low_order(key().public_key().as_bytes()));
    }
}
