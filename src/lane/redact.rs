//! Takes plain secrets out of a body before it is kept as a dead letter. Sealed ones stay: only the daemon can open them.

use serde_json::Value;

use crate::commands::{SECRET_FIELDS, body};

/// What stands in a secret's place.
const REDACTED: &str = "[redacted]";

/// The body without plain secrets, or `None` if it has none and can be kept as it is.
pub fn redact(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() <= body::MAX_BODY
        && let Ok(map) = body::object(body)
    {
        let mut value = Value::Object(map);
        return replace(&mut value).then(|| value.to_string().into_bytes());
    }
    // What cannot be read with certainty (not JSON, a key twice) is kept whole only if it names no secret.
    if !has_secret_name(body) {
        return None;
    }
    if body.len() > body::MAX_BODY {
        return Some(REDACTED.as_bytes().to_vec());
    }
    let cleaned = serde_json::from_slice::<Value>(body).map(|mut value| {
        replace(&mut value);
        value.to_string()
    });
    Some(cleaned.unwrap_or_else(|_| REDACTED.to_owned()).into_bytes())
}

fn replace(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            let mut found = false;
            for (name, value) in map {
                if is_secret(name) {
                    if !is_sealed(value) && !value.is_null() {
                        *value = REDACTED.into();
                        found = true;
                    }
                } else {
                    found |= replace(value);
                }
            }
            found
        }
        Value::Array(items) => items.iter_mut().fold(false, |found, item| replace(item) | found),
        _ => false,
    }
}

fn is_secret(name: &str) -> bool {
    SECRET_FIELDS.iter().any(|secret| name.trim().eq_ignore_ascii_case(secret))
}

/// Exactly `{"sealed": text, "key_id": text}`: an object that merely has such fields may hide something in others.
fn is_sealed(value: &Value) -> bool {
    value.as_object().is_some_and(|map| {
        map.len() == 2
            && map.get("sealed").is_some_and(Value::is_string)
            && map.get("key_id").is_some_and(Value::is_string)
    })
}

/// Whether any secret's name occurs as a word, also where `\u0070` and the like spell it.
fn has_secret_name(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase();
    text.contains("\\u00") || SECRET_FIELDS.iter().any(|name| text.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(body: &str) -> Option<String> {
        redact(body.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn plain_secrets_go_and_sealed_ones_stay() {
        assert_eq!(redacted(r#"{"user":{"id":"a"},"usr":1}"#), None);
        assert_eq!(redacted("{not json"), None);
        assert_eq!(
            redacted(r#"{"new_password":"hunter2","user":{"id":"a"}}"#).unwrap(),
            r#"{"new_password":"[redacted]","user":{"id":"a"}}"#
        );
        assert_eq!(redacted(r#"{"a":[{"token":"x"}]}"#).unwrap(), r#"{"a":[{"token":"[redacted]"}]}"#);
        let sealed = r#"{"password":{"key_id":"k","sealed":"AAAA"}}"#;
        assert_eq!(redacted(sealed), None);
        let not_quite = r#"{"password":{"key_id":"k","sealed":"AAAA","plain":"hunter2"}}"#;
        assert!(!redacted(not_quite).unwrap().contains("hunter2"));
    }

    #[test]
    fn no_spelling_lets_a_secret_through() {
        for body in [
            r#"{"password": "hunter2""#,
            r#"{"PASSWORD": "hunter2"}"#,
            r#"{"p\u0061ssword": "hunter2"}"#,
            r#"{"p\u0061ssword": "hunter2""#,
            r#"{"password": "hunter2", "password": {"sealed": "A", "key_id": "k"}}"#,
            r#"{"password": ["hunter2"]}"#,
            "password=hunter2",
        ] {
            assert!(!redacted(body).unwrap().contains("hunter2"), "{body}");
        }
        let mut bytes = br#"{"password": "hunter2"#.to_vec();
        bytes.push(0xff);
        assert_eq!(redact(&bytes).unwrap(), REDACTED.as_bytes());
    }
}
