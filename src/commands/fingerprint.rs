//! What exactly was asked, as a keyed hash: by it a repeated command is told from another one under the same message id.
//!
//! Of what the body says, not of how it is written: blanks, the order of fields, fields that are `null`, and how often a secret
//! was sealed make no difference.

use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::keys::KeyRing;

use super::{SECRET_FIELDS, Spec, body};

impl Spec {
    /// The fingerprint of a body whose sealed secrets are opened, as far as this daemon can.
    pub(super) fn fingerprint(&self, fields: &Map<String, Value>, length: usize, keys: &KeyRing) -> Uuid {
        // As much as the body itself had: a buffer that grows leaves copies of secrets behind.
        let mut canonical = Zeroizing::new(Vec::with_capacity(length));
        write_object(fields, &mut canonical);
        self.keyed(&canonical, keys)
    }

    /// Whether a fingerprint is of this body as they were made before: of its bytes as they came, or of its fields in their own
    /// order if secrets in it were sealed. Such a command may have been answered before the daemon was upgraded.
    pub fn was_fingerprint(&self, fingerprint: Uuid, body: &[u8], keys: &KeyRing) -> bool {
        let opened = || {
            let mut fields = body::object(body).ok()?;
            body::unseal(&mut fields, SECRET_FIELDS, self.secrets, keys, false).ok()?;
            serde_json::to_vec(&fields).ok().map(Zeroizing::new)
        };
        self.keyed(body, keys) == fingerprint || opened().is_some_and(|body| self.keyed(&body, keys) == fingerprint)
    }

    fn keyed(&self, body: &[u8], keys: &KeyRing) -> Uuid {
        Uuid::from_bytes(keys.fingerprint("inbox.body", &[self.name.as_bytes(), body]))
    }
}

/// Writes an object with its fields in the order of their names, without blanks and without fields that are `null`.
fn write_object(fields: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut fields: Vec<(&String, &Value)> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    out.push(b'{');
    for (i, (name, value)) in fields.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_scalar(name, out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => write_object(fields, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(item, out);
            }
            out.push(b']');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar(value: &(impl serde::Serialize + ?Sized), out: &mut Vec<u8>) {
    // Nothing that is no container fails to be written into memory.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::find;
    use crate::keys::seal_to;

    fn spec() -> &'static Spec {
        find("session.login").unwrap()
    }

    fn fingerprint(body: &str, keys: &KeyRing) -> Uuid {
        spec().read(body.as_bytes(), keys, false).ok().unwrap().fingerprint
    }

    #[test]
    fn the_same_said_otherwise_is_the_same_command() {
        let keys = KeyRing::generate(crate::clock::now());
        let body = r#"{"user":{"id":"ada"},"password":"Grün/1","context":{"ip":"::1"}}"#;
        let first = fingerprint(body, &keys);
        for same in [
            r#" { "user" : {"id": "ada"}, "password": "Grün/1", "context": {"ip": "::1"} } "#,
            r#"{"context":{"ip":"::1"},"password":"Grün/1","user":{"id":"ada"}}"#,
            r#"{"user":{"id":"ada","email":null},"password":"Grün/1","context":{"locale":null,"ip":"::1"},"actor":null}"#,
            r#"{"user":{"id":"\u0061da"},"password":"Gr\u00fcn\/1","context":{"ip":"::1"}}"#,
        ] {
            assert_eq!(fingerprint(same, &keys), first, "{same}");
        }
        for other in [
            r#"{"user":{"id":"ada"},"password":"Grün/1"}"#,
            r#"{"user":{"id":"ada"},"password":"Grün/1","context":{"ip":"::2"}}"#,
            r#"{"user":{"id":"ada"},"password":"Grün/1 ","context":{"ip":"::1"}}"#,
            r#"{"user":{"username":"ada"},"password":"Grün/1","context":{"ip":"::1"}}"#,
        ] {
            assert_ne!(fingerprint(other, &keys), first, "{other}");
        }
    }

    #[test]
    fn one_value_never_passes_for_another() {
        let written = |text: &str| {
            let mut out = Vec::new();
            write_object(&body::object(text.as_bytes()).unwrap(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(r#"{"b": [1, 2.50, -3, true, null, "x\"\n"], "a": {"d": {}, "c": null}, "": ""}"#),
            r#"{"":"","a":{"d":{}},"b":[1,2.5,-3,true,null,"x\"\n"]}"#
        );
        let all = [
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":true}"#,
            r#"{"a":[]}"#,
            r#"{"a":[null]}"#,
        ];
        let distinct: std::collections::BTreeSet<String> = all.into_iter().map(written).collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn what_was_remembered_before_an_upgrade_is_known_again() {
        let keys = KeyRing::generate(crate::clock::now());
        let key = keys.sealing_key();
        let sealed = |password: &str| {
            let secret =
                serde_json::json!({ "sealed": seal_to(&key.public_key, password).unwrap(), "key_id": key.key_id });
            serde_json::json!({ "user": { "id": "ada" }, "password": secret }).to_string()
        };
        let plain = r#"{"user": {"id": "ada"}, "password": "Geheim"}"#;
        let was = |before: &str, body: &str| {
            spec().was_fingerprint(spec().keyed(before.as_bytes(), &keys), body.as_bytes(), &keys)
        };
        assert!(was(plain, plain));
        assert!(was(r#"{"user":{"id":"ada"},"password":"Geheim"}"#, &sealed("Geheim")));
        assert!(!was(r#"{"user":{"id":"ada"},"password":"Geheim"}"#, &sealed("Anderes")));
        assert!(!was(plain, r#"{"user": {"id": "eve"}, "password": "Geheim"}"#));
        assert!(!was(plain, "not even JSON"));
    }

    #[test]
    fn a_secret_that_must_be_sealed_by_now_is_the_same_command_as_before() {
        let keys = KeyRing::generate(crate::clock::now());
        let body = r#"{"user":{"id":"ada"},"password":"Geheim"}"#;
        let refused = spec().read(body.as_bytes(), &keys, true).ok().unwrap();
        assert!(refused.ready.is_err());
        assert_eq!(refused.fingerprint, fingerprint(body, &keys));
    }
}
