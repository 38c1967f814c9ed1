//! Password hashes that were made elsewhere: taken over, verified, and replaced by ours at the first sign-in.

use serde_json::{Value, json};

use crate::harness::{Client, Place};

/// What other libraries made of "correct horse": bcrypt (libxcrypt), passlib, hashlib, Django, Werkzeug, argon2-cffi.
const IMPORTED: &[(&str, &str)] = &[
    ("bcrypt", "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
    ("php", "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
    ("passlib", "$pbkdf2-sha256$1234$c29tZXNhbHRzb21lc2FsdA$zLMqhUAAKDWaD0EgQlA7RztqHsM6Wh0Q0IYXNA/k8jQ"),
    ("phc", "$pbkdf2-sha512$i=32768,l=32$c29tZXNhbHRzb21lc2FsdA$j1jk92oJdWAWHCdld02uGkUPdkQ0pnAXonFehOA2AyA"),
    ("django", "pbkdf2_sha256$1500$seasalt12$qlcDtUMb0dIVRJPwueC3DWl5/kubsdGx60rHDUddm6w="),
    (
        "werkzeug",
        "pbkdf2:sha256:1500$U6QaNEF45WTWVVG6$3ee9588248e636ac163e8e8d0940b3184771ac70f88d5d7bd7ba835c782027f2",
    ),
    ("scrypt", "$scrypt$ln=10,r=8,p=2$c29tZXNhbHRzb21lc2FsdA$ytETQei6Pjo6kngSMxouNKSWgZqup9i8n5isXNSvKKM"),
    (
        "argon2d",
        "$argon2d$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$QDJVuTLJwFKtxVpFgI7OZ+5vKNivE3/1uHdQRDQQ/6yODlcjGMbIPOWS6O+dwksnSfLLrWJYrbr5UrImMeWMag",
    ),
];

async fn import(client: &Client, id: &str, hash: &str) -> Value {
    let user = json!({ "id": id, "username": id, "email": format!("{id}@example.com"), "password_hash": hash });
    client.ask(("user.put", json!({ "user": user }))).await
}

#[tokio::test]
async fn imported_hashes_open_accounts_and_are_replaced_at_the_next_sign_in() {
    let place = Place::new().await;
    let _daemon = place.start().await;
    let client = place.client().await;
    for (id, hash) in IMPORTED {
        let reply = import(&client, id, hash).await;
        assert_eq!((&reply["ok"], &reply["result"]["user"]["has_password"]), (&json!(true), &json!(true)), "{reply}");
    }
    let stored =
        async |id: &str| -> String { place.value(&format!("select password_hash from users where id = '{id}'")).await };
    for (id, hash) in IMPORTED {
        let login = |password: &str| json!({ "user": { "id": id }, "password": password });
        assert_eq!(client.error("session.login", login("correct hors")).await, "invalid_credentials", "{id}");
        assert_eq!(stored(id).await, *hash, "a wrong password replaces nothing");
        client.ok("session.login", login("correct horse")).await;
        let ours = stored(id).await;
        assert!(ours.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{id}: {ours}");
        client.ok("session.login", login("correct horse")).await;
        assert_eq!(stored(id).await, ours, "once is enough");
        assert_eq!(client.error("session.login", login("correct hors")).await, "invalid_credentials", "{id}");
    }
}

#[tokio::test]
async fn a_hash_that_could_stall_the_daemon_is_refused_by_name() {
    let place = Place::new().await;
    let _daemon = place.start().await;
    let client = place.client().await;
    for (hash, said) in [
        ("$2b$31$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", "its cost is 31, and 4 to 14 are accepted"),
        (
            "pbkdf2_sha256$4000000000$seasalt12$qlcDtUMb0dIVRJPwueC3DWl5/kubsdGx60rHDUddm6w=",
            "its number of iterations is 4000000000, and 1 to 3000000 are accepted",
        ),
        (
            "$scrypt$ln=24,r=32,p=1$c29tZXNhbHRzb21lc2FsdA$ytETQei6Pjo6kngSMxouNKSWgZqup9i8n5isXNSvKKM",
            "its memory in KiB (N*r/8) is 67108864, and 0 to 262144 are accepted",
        ),
        (
            "$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$7spm2x4WHG8c8C+Y0OpAgx/lehOzaF6sfo6KPWr/D3Y",
            "its memory in KiB (m) is 4194304, and 8 to 262144 are accepted",
        ),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "it is of an unknown format"),
        ("$6$rounds=5000$salt$hash", "crypt(3) hashes of SHA-512 cannot be verified here"),
    ] {
        let reply = import(&client, "ada", hash).await;
        let error = &reply["error"];
        assert_eq!(error["code"], "invalid_body", "{reply}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("`user.password_hash`") && message.contains(said), "{message}");
        assert!(message.contains("let the person choose a new password"), "no way out: {message}");
        assert!(!message.contains("5f4dcc3b") && !message.contains("seasalt"), "{message}");
    }
    assert_eq!(place.count("users").await, 0);
}
