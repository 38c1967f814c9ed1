//! Takes plain secrets out of a body before it is kept as a dead letter. Sealed ones stay: only the daemon can open them.

use serde_json::Value;

use crate::commands::{SECRET_NAMES, body, is_secret_name};

/// What stands in a secret's place, or in that of a whole body.
pub const REDACTED: &str = "[redacted]";

/// The body without plain secrets, or `None` if it has none and can be kept as it is.
pub fn redact(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() <= body::MAX_BODY
        && let Ok(map) = body::object(body)
    {
        let mut value = Value::Object(map);
        return replace(&mut value).then(|| value.to_string().into_bytes());
    }
    // What cannot be read with certainty (not JSON, a key twice) is kept whole only if it names no secret. In another
    // encoding nobody knows what it names.
    let Ok(text) = str::from_utf8(body) else { return Some(REDACTED.as_bytes().to_vec()) };
    if !has_secret_name(text) {
        return None;
    }
    if body.len() <= body::MAX_BODY
        && let Ok(mut value @ Value::Object(_)) = serde_json::from_str(text)
    {
        replace(&mut value);
        return Some(value.to_string().into_bytes());
    }
    Some(REDACTED.as_bytes().to_vec())
}

fn replace(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            let mut found = false;
            for (name, value) in map {
                if is_secret_name(name) {
                    if !is_sealed(value) && !matches!(value, Value::Null | Value::Bool(_)) {
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
        // A document within the document.
        Value::String(text) if text.trim_start().starts_with(['{', '[']) && has_secret_name(text) => {
            *value = REDACTED.into();
            true
        }
        _ => false,
    }
}

/// Exactly `{"sealed": text, "key_id": text}`: an object that merely has such fields may hide something in others.
fn is_sealed(value: &Value) -> bool {
    value.as_object().is_some_and(|map| {
        map.len() == 2
            && map.get("sealed").is_some_and(Value::is_string)
            && map.get("key_id").is_some_and(Value::is_string)
    })
}

/// Whether any secret's name occurs, also where `\u0070` and the like spell it, and with zeros between the letters, as UTF-16 has
/// them.
fn has_secret_name(text: &str) -> bool {
    let letters: String = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    text.contains("\\u") || letters.contains("code") || SECRET_NAMES.iter().any(|name| letters.contains(name))
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
            r#"{"currentPassword": "hunter2"}"#,
            r#"{"newPassword": "hunter2"}"#,
            r#"{"new-password": "hunter2"}"#,
            r#"{"password_": "hunter2"}"#,
            r#"{" pass word": "hunter2"}"#,
            r#"{"passwd": "hunter2"}"#,
            r#"{"PWD": "hunter2"}"#,
            r#"{"pass": "hunter2"}"#,
            r#"{"tokens": ["hunter2"]}"#,
            r#"{"reset.token": {"value": "hunter2"}}"#,
            r#"{"resetCode": "hunter2"}"#,
            r#"{"client_secret": "hunter2"}"#,
            r#"{"body": " {\"password\": \"hunter2\"}"}"#,
            r#""{\"password\": \"hunter2\"}""#,
            r#"["password", "hunter2"]"#,
            "pass-word: hunter2",
        ] {
            assert!(!redacted(body).unwrap().contains("hunter2"), "{body}");
        }
        let mut bytes = br#"{"password": "hunter2"#.to_vec();
        bytes.push(0xff);
        assert_eq!(redact(&bytes).unwrap(), REDACTED.as_bytes());
    }

    #[test]
    fn another_encoding_is_kept_to_itself() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        for body in [utf16(r#"{"password":"hunter2"}"#), utf16("\u{feff}{\"password\":\"hunter2\"}"), vec![0xff, b'x']]
        {
            assert_eq!(redact(&body).unwrap(), REDACTED.as_bytes());
        }
    }

    #[test]
    fn what_only_sounds_like_a_secret_stays() {
        for body in [
            r#"{"reply_key":"k","method":"code","reason":"forgot the password","note":null}"#,
            r#"{"force_new_password":true,"token":null,"barcodes":1}"#,
        ] {
            assert_eq!(redacted(body), None);
        }
    }
}
