//! Tokens and codes: nothing of them is stored; both follow from a key and the ticket's id.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::derive::{Key, digest, mac};

/// The length of every token, in characters.
pub const TOKEN_LENGTH: usize = 64;

/// What a token may be used for. A token of one use is no token of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenUse {
    /// To choose a new password.
    PasswordReset,
    /// To withdraw a reset that somebody else asked for: "it was not me".
    Cancel,
    /// To accept an invitation.
    Invite,
    /// To prove a mailbox.
    Verification,
    /// To replace a temporary password.
    ChangePassword,
}

impl TokenUse {
    /// Every use.
    pub const ALL: [Self; 5] =
        [Self::PasswordReset, Self::Cancel, Self::Invite, Self::Verification, Self::ChangePassword];

    /// What separates the uses inside the derivation: to change one of these voids all tokens of that use.
    const fn label(self) -> &'static str {
        match self {
            Self::PasswordReset => "regrant/v1/token/password-reset",
            Self::Cancel => "regrant/v1/token/cancel",
            Self::Invite => "regrant/v1/token/invite",
            Self::Verification => "regrant/v1/token/verification",
            Self::ChangePassword => "regrant/v1/token/change-password",
        }
    }
}

/// What a genuine token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedToken {
    /// What it may be used for.
    pub use_: TokenUse,
    /// The ticket that it belongs to.
    pub ticket: Uuid,
    /// The key that made it.
    pub key_id: String,
}

/// base64url of the ticket's id (16 bytes) and its MAC (32 bytes): 48 bytes, so no padding and no spare bits.
pub(super) fn make(key: &Key, use_: TokenUse, ticket: Uuid) -> SecretString {
    let mut raw = Zeroizing::new([0_u8; 48]);
    raw[..16].copy_from_slice(ticket.as_bytes());
    raw[16..].copy_from_slice(digest(key, use_.label(), &[ticket.as_bytes()]).as_slice());
    URL_SAFE_NO_PAD.encode(raw.as_slice()).into()
}

/// The ticket's id and MAC of something shaped like a token.
pub(super) fn split(token: &str) -> Option<(Uuid, Zeroizing<[u8; 32]>)> {
    // The length comes first: what is not 64 bytes long costs nothing, however long it is.
    if token.len() != TOKEN_LENGTH {
        return None;
    }
    let mut raw = Zeroizing::new([0_u8; 48]);
    URL_SAFE_NO_PAD.decode_slice(token, raw.as_mut_slice()).ok().filter(|length| *length == raw.len())?;
    let (id, tag) = raw.split_at(16);
    Some((Uuid::from_slice(id).ok()?, Zeroizing::new(tag.try_into().ok()?)))
}

/// The use for which `key` made `tag`, found in constant time.
pub(super) fn use_of(key: &Key, ticket: Uuid, tag: &[u8; 32]) -> Option<TokenUse> {
    // Every use is tried, also after a hit, so that the time tells nothing.
    TokenUse::ALL.into_iter().fold(None, |found, use_| {
        let genuine = mac(key, use_.label(), &[ticket.as_bytes()]).verify_slice(tag).is_ok();
        if genuine { Some(use_) } else { found }
    })
}

/// `length` decimal digits, each equally likely.
pub(super) fn code(key: &Key, ticket: Uuid, length: u8) -> SecretString {
    let mut digits = Zeroizing::new(String::with_capacity(length.into()));
    let mut block = 0_u32;
    while digits.len() < length.into() {
        let bytes = digest(key, "regrant/v1/code", &[ticket.as_bytes(), &[length], &block.to_le_bytes()]);
        // 250 to 255 are left out: with them, 0 to 5 would come up more often than 6 to 9.
        let fair = bytes.iter().filter(|byte| **byte < 250).map(|byte| char::from(b'0' + byte % 10));
        let missing = usize::from(length) - digits.len();
        digits.extend(fair.take(missing));
        block += 1;
    }
    std::mem::take(&mut *digits).into()
}

/// Whether a person typed the code that was sent. Spaces, dashes and full-width digits (`１２３４`) are forgiven.
///
/// The comparison takes the same time whatever digits differ.
pub fn codes_equal(expected: &SecretString, typed: &str) -> bool {
    // A code has at most a few digits: what is much longer is none, and is not looked at.
    if typed.len() > 128 {
        return false;
    }
    let mut digits = Zeroizing::new(String::with_capacity(typed.len()));
    for c in typed.nfkc().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')) {
        if !c.is_ascii_digit() {
            return false;
        }
        digits.push(c);
    }
    let expected = expected.expose_secret();
    !expected.is_empty() && bool::from(digits.as_bytes().ct_eq(expected.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Zeroizing::new([byte; 32])
    }

    #[test]
    fn a_token_never_changes() {
        // A fixed vector, worked out with Python's hmac: links in mailboxes must survive every release.
        let token = make(&key(7), TokenUse::PasswordReset, Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001));
        assert_eq!(token.expose_secret(), "AZIAAAAAcACAAAAAAAAAAemUadCjKu7bEeyRf42KEKzBDbdOolaixc1pBf_0vT5B");
        assert_eq!(token.expose_secret().len(), TOKEN_LENGTH);
        assert_eq!(code(&key(7), Uuid::from_u128(1), 8).expose_secret(), "75246815");
    }

    #[test]
    fn a_token_is_of_one_use_and_one_key() {
        let ticket = Uuid::from_u128(42);
        for use_ in TokenUse::ALL {
            let token = make(&key(1), use_, ticket);
            let (found, tag) = split(token.expose_secret()).unwrap();
            assert_eq!(found, ticket);
            assert_eq!(use_of(&key(1), ticket, &tag), Some(use_));
            assert_eq!(use_of(&key(2), ticket, &tag), None);
            assert_eq!(use_of(&key(1), Uuid::from_u128(43), &tag), None);
        }
    }

    #[test]
    fn digits_are_equally_likely() {
        let mut seen = [0_u32; 10];
        for n in 0..2_000 {
            let digits = code(&key(3), Uuid::from_u128(n), 10);
            assert_eq!(digits.expose_secret().len(), 10);
            for digit in digits.expose_secret().bytes() {
                seen[usize::from(digit - b'0')] += 1;
            }
        }
        // 20,000 fair digits: chi-squared with 9 degrees of freedom is above 27.9 once in a thousand; the input is fixed.
        let chi: f64 = seen.iter().map(|n| (f64::from(*n) - 2_000.0).powi(2) / 2_000.0).sum();
        assert!(chi < 27.9, "{seen:?}: {chi}");
    }

    #[test]
    fn codes_keep_leading_zeros_and_depend_on_their_length() {
        let codes: Vec<_> = (0..200).map(|n| code(&key(9), Uuid::from_u128(n), 6)).collect();
        assert!(codes.iter().all(|code| code.expose_secret().len() == 6));
        assert!(codes.iter().any(|code| code.expose_secret().starts_with('0')));
        let long = code(&key(9), Uuid::from_u128(0), 8);
        assert!(!long.expose_secret().starts_with(codes[0].expose_secret()));
    }

    #[test]
    fn codes_may_be_typed_with_spaces_and_dashes() {
        let sent: SecretString = "01234567".to_owned().into();
        for typed in ["01234567", "0123 4567", " 0123-4567\n", "01\u{a0}23\u{2013}45 67", "０１２３４５６７"] {
            assert!(codes_equal(&sent, typed), "{typed:?}");
        }
        for typed in
            ["", "0123456", "012345678", "01234568", "1234567", "0123_4567", "O1234567", "01234567x", &" ".repeat(200)]
        {
            assert!(!codes_equal(&sent, typed), "{typed:?}");
        }
        assert!(!codes_equal(&String::new().into(), ""), "a missing code equals nothing");
    }
}
