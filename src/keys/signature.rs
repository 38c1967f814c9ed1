//! Signatures that only holders of the key file can make, of what comes back through others' hands.
//!
//! They are made with the token key, which `keys rotate` replaces: whoever stole a key file signs nothing any more once its
//! token key is gone. The index key, which never changes, must not be able to.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;

use super::derive::{digest, mac};
use super::ring::{KeyRing, current, find, with_label};

/// Between the key's id and the tag; neither holds one.
const SEPARATOR: char = '.';
/// What separates signatures from everything else that is made with a token key.
const PURPOSE: &str = "regrant/v2/signature";

impl KeyRing {
    /// A signature: the id of the key and a tag (base64url, 43 characters).
    pub fn sign(&self, label: &str, parts: &[&[u8]]) -> String {
        let key = current(&self.token);
        let tag = digest(&key.secret, PURPOSE, &with_label(label, parts));
        format!("{}{SEPARATOR}{}", key.id, URL_SAFE_NO_PAD.encode(tag.as_slice()))
    }

    /// Whether `signature` is what [`KeyRing::sign`] gave, now or before a rotation, compared in constant time.
    pub fn verify(&self, label: &str, parts: &[&[u8]], signature: &str) -> bool {
        let Some((id, encoded)) = signature.split_once(SEPARATOR) else { return false };
        let mut tag = [0_u8; 32];
        let decoded =
            encoded.len() == 43 && URL_SAFE_NO_PAD.decode_slice(encoded, &mut tag).is_ok_and(|length| length == 32);
        decoded
            && find(&self.token, id)
                .is_some_and(|key| mac(&key.secret, PURPOSE, &with_label(label, parts)).verify_slice(&tag).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyKind, Step};

    fn ring() -> KeyRing {
        KeyRing::generate(crate::clock::now())
    }

    #[test]
    fn signatures_depend_on_everything() {
        let ring = ring();
        let signature = ring.sign("publisher", &[b"shop"]);
        assert!(ring.verify("publisher", &[b"shop"], &signature));
        assert!(!ring.verify("publisher", &[b"shop2"], &signature));
        assert!(!ring.verify("other", &[b"shop"], &signature));
        let (id, tag) = signature.split_once(SEPARATOR).unwrap();
        assert_eq!(id, ring.token_key_id());
        let a = "A".repeat(43);
        for wrong in ["", ".", "x", tag, &a, &format!("{id}.{a}"), &format!("x.{tag}"), &format!(".{tag}")] {
            assert!(!ring.verify("publisher", &[b"shop"], wrong), "{wrong}");
        }
        for wrong in [&signature[1..], &format!("{signature}="), &format!("{id}.{}", "A".repeat(60_000))] {
            assert!(!ring.verify("publisher", &[b"shop"], wrong), "{wrong}");
        }
    }

    #[test]
    fn the_index_key_alone_signs_nothing() {
        let ring = ring();
        // A thief's: the index key is the true one, all others are their own; one of them even has the right id.
        let mut thief = KeyRing { index: ring.index.clone(), ..self::ring() };
        thief.token[0].id = ring.token_key_id().to_owned();
        assert!(!ring.verify("publisher", &[b"shop"], &thief.sign("publisher", &[b"shop"])));
        // Neither by any way in which a key is turned into a signature, and none of them as signatures once were.
        for purpose in [PURPOSE, "regrant/v1/signature"] {
            let tag = digest(&ring.index, purpose, &with_label("publisher", &[b"shop"]));
            let tag = URL_SAFE_NO_PAD.encode(tag.as_slice());
            for signature in [format!("{}.{tag}", ring.token_key_id()), format!("index.{tag}"), format!(".{tag}"), tag]
            {
                assert!(!ring.verify("publisher", &[b"shop"], &signature), "{signature}");
            }
        }
    }

    #[test]
    fn what_was_signed_stays_so_until_its_key_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("regrant.keys");
        let before = ring();
        before.save_new(&path).unwrap();
        let signature = before.sign("publisher", &[b"shop"]);
        let at = |seconds: i64| chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let step = |step, now| KeyRing::rotate_file(&path, &[KeyKind::Token], step, now).unwrap().0;
        let rotated = step(Step::Replace, at(0));
        assert!(rotated.verify("publisher", &[b"shop"], &signature));
        assert!(
            !before.verify("publisher", &[b"shop"], &rotated.sign("publisher", &[b"shop"])),
            "a daemon not told yet"
        );
        let retired = step(Step::Retire(at(1)), at(2));
        assert!(!retired.verify("publisher", &[b"shop"], &signature));
        assert!(retired.verify("publisher", &[b"shop"], &rotated.sign("publisher", &[b"shop"])));
    }
}
