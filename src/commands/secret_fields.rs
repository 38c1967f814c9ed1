//! Which fields hold secrets.

/// Names of fields whose plain values are replaced before a message is kept anywhere.
pub const SECRET_FIELDS: &[&str] = &[
    "password",
    "new_password",
    "current_password",
    "temporary_password",
    "password_hash",
    "token",
    "change_token",
    "code",
];

/// Whether a field of that name holds a secret, or was meant to: `newPassword`, `new-password`, `passwd`, `tokens`. A name
/// that is misspelt is refused, and what stands in it is as secret.
pub fn is_secret_name(name: &str) -> bool {
    let name: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    name.ends_with("code") || SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// Parts of names of secrets.
pub const SECRET_NAMES: &[&str] = &["pass", "pwd", "token", "secret"];

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::commands::{ALL, Parsed, Unopened, find};
    use crate::domain::rejection::Code;
    use crate::keys::KeyRing;

    /// Every secret field of every command: contract, section 2, where they are marked with a star.
    const STARRED: [(&str, &[&str]); 7] = [
        ("email.verification.complete", &["token", "code"]),
        ("invite.accept", &["token", "new_password"]),
        ("password.change", &["current_password", "change_token", "new_password"]),
        ("password.check", &["new_password"]),
        ("password.reset.complete", &["token", "code", "new_password"]),
        ("password.set", &["new_password"]),
        ("session.login", &["password"]),
    ];

    #[test]
    fn every_secret_may_be_sealed_and_must_be_if_the_configuration_says_so() {
        let mut found: Vec<_> = ALL.iter().filter(|s| !s.secrets.is_empty()).map(|s| (s.name, s.secrets)).collect();
        found.sort_unstable();
        assert_eq!(found, STARRED);
        let keys = KeyRing::generate(crate::clock::now());
        let key = keys.sealing_key();
        let sealed = |text: &str| {
            let sealed = crate::keys::seal_to(&key.public_key, text).unwrap();
            serde_json::json!({ "sealed": sealed, "key_id": key.key_id })
        };
        let code = |name: &str, field: &str, value: &Value, require: bool| {
            let body = serde_json::json!({ field: value }).to_string();
            match find(name).unwrap().read(body.as_bytes(), &keys, require) {
                Ok(Parsed { ready: Err(Unopened { rejection, .. }), .. }) => {
                    assert!(rejection.message.contains(&format!("`{field}`")), "{}", rejection.message);
                    assert!(!rejection.message.contains("Geheim"), "{}", rejection.message);
                    Some(rejection.code)
                }
                // Opened; that other fields are missing comes later.
                Ok(_) => None,
                Err(invalid) => {
                    assert_eq!(invalid.code, Code::InvalidBody);
                    assert!(
                        invalid.detail.contains("missing field") && !invalid.detail.contains("Geheim"),
                        "{}",
                        invalid.detail
                    );
                    None
                }
            }
        };
        for (name, fields) in STARRED {
            for field in fields {
                let (plain, good) = (Value::from("Geheim"), sealed("Geheim"));
                assert_eq!(code(name, field, &plain, true), Some(Code::SealedRequired), "{name} {field}");
                assert_eq!(code(name, field, &plain, false), None, "{name} {field}");
                for require in [true, false] {
                    assert_eq!(code(name, field, &good, require), None, "{name} {field}");
                    let mut unknown = good.clone();
                    unknown["key_id"] = "gone".into();
                    let mut more = good.clone();
                    more["and"] = "more".into();
                    let mut broken = good.clone();
                    broken["sealed"] = "R2VoZWlt".into();
                    for bad in [
                        unknown,
                        more,
                        broken,
                        sealed("Ge\0heim"),
                        serde_json::json!({ "sealed": "" }),
                        serde_json::json!({}),
                    ] {
                        assert_eq!(code(name, field, &bad, require), Some(Code::SealedInvalid), "{name} {field} {bad}");
                    }
                }
            }
        }
        // Without a star: they come as they are, whatever the configuration says, and may be sealed.
        for (name, field) in [
            ("password.reset.inspect", "token"),
            ("password.reset.inspect", "code"),
            ("password.reset.cancel", "token"),
            ("invite.inspect", "token"),
        ] {
            assert_eq!(code(name, field, &Value::from("Geheim"), true), None, "{name} {field}");
            assert_eq!(code(name, field, &sealed("Geheim"), true), None, "{name} {field}");
        }
    }
}
