//! Hashes that other implementations made: passlib 1.7.4, Python's bcrypt 4.0.1 and hashlib (OpenSSL), libxcrypt 4.4,
//! Django 5.2, Werkzeug 3.1, argon2-cffi 25.1.

use super::HashKind::{self, Argon2, Bcrypt, Pbkdf2, Scrypt};

/// More than the 72 bytes that bcrypt looks at.
pub(super) const LONG: &str =
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxyz-and what follows 72 bytes";

/// Algorithm, password, hash.
#[rustfmt::skip]
pub(super) const VECTORS: &[(HashKind, &str, &str)] = &[
    // passlib bcrypt 2a
    (Bcrypt, "correct horse", "$2a$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
    // passlib bcrypt 2b
    (Bcrypt, "correct horse", "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
    // passlib bcrypt 2y
    (Bcrypt, "correct horse", "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
    // py-bcrypt
    (Bcrypt, "Grüße-가", "$2b$05$S0lk7gy1j1tuMjORW2pvs.uEImIq23O3pOruxFwQ3aZS.oBH8FUWO"),
    // bcrypt long
    (Bcrypt, LONG, "$2b$04$abcdefghijklmnopqrstuufHeA4Fq.encf94eJl9nyacODU6KGc1K"),
    // libxcrypt 2b long
    (Bcrypt, LONG, "$2b$04$abcdefghijklmnopqrstuufHeA4Fq.encf94eJl9nyacODU6KGc1K"),
    // libxcrypt 2y
    (Bcrypt, "Grüße-가", "$2y$04$abcdefghijklmnopqrstuuWSxiNfqupPEkIY8l90Q7CqyVWnjeTnK"),
    // bcrypt empty
    (Bcrypt, "", "$2b$04$abcdefghijklmnopqrstuubyCG3zY1GIXMyxfivm.ClDiInHzxjiq"),
    // django bcrypt
    (Bcrypt, "correct horse", "bcrypt$$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
    // django bcrypt_sha256
    (Bcrypt, LONG, "bcrypt_sha256$$2b$04$abcdefghijklmnopqrstuuSxYPWBEdq7pU1rlto2XjsjF4Cp0.iWm"),
    // passlib pbkdf2_sha1
    (Pbkdf2, "correct horse", "$pbkdf2$1234$c29tZXNhbHRzb21lc2FsdA$VGLX8iKwATKaBgRH2wQnZwT5HSg"),
    // passlib pbkdf2_sha256
    (Pbkdf2, "correct horse", "$pbkdf2-sha256$1234$c29tZXNhbHRzb21lc2FsdA$zLMqhUAAKDWaD0EgQlA7RztqHsM6Wh0Q0IYXNA/k8jQ"),
    // passlib pbkdf2_sha512
    (Pbkdf2, "correct horse", "$pbkdf2-sha512$1234$c29tZXNhbHRzb21lc2FsdA$C31tfKUFLU3Upl1363EqZ9z50osuOSPGjHHJKeg5qXusyBC95g1v2A94waaWe7oxUznRfRAeCGpUZStB7sysYw"),
    // passlib sha256 U
    (Pbkdf2, "Grüße-가", "$pbkdf2-sha256$29000$8PHy8/T19vf4.fr7/P3./w$03SznrNPj5Ul5up7jiPVW1GAKA5qMbWF5J/BDwGBpV4"),
    // django pbkdf2
    (Pbkdf2, "correct horse", "pbkdf2_sha256$1500$seasalt12$qlcDtUMb0dIVRJPwueC3DWl5/kubsdGx60rHDUddm6w="),
    // django pbkdf2 sha1
    (Pbkdf2, "correct horse", "pbkdf2_sha1$1500$seasalt12$K0x0yV8RRzIyUYEBnaw5F/zHTnY="),
    // hashlib phc
    (Pbkdf2, "correct horse", "$pbkdf2-sha256$i=1000,l=32$c29tZXNhbHRzb21lc2FsdA$f2yJk+Dph1FxQ+yhQ5KLmg1c5wfFtFU14dLQONYBoAE"),
    // hashlib phc
    (Pbkdf2, "correct horse", "$pbkdf2-sha512$i=32768,l=32$c29tZXNhbHRzb21lc2FsdA$j1jk92oJdWAWHCdld02uGkUPdkQ0pnAXonFehOA2AyA"),
    // hashlib phc
    (Pbkdf2, "correct horse", "$pbkdf2-sha1$i=777,l=32$c29tZXNhbHRzb21lc2FsdA$16H/xGLJUmxlOoWZhv646OdFrUFY45PwdErW8J7e9pI"),
    // werkzeug
    (Pbkdf2, "correct horse", "pbkdf2:sha256:1500$U6QaNEF45WTWVVG6$3ee9588248e636ac163e8e8d0940b3184771ac70f88d5d7bd7ba835c782027f2"),
    // werkzeug
    (Pbkdf2, "correct horse", "pbkdf2:sha512:1500$RCoE4hiUkXZ6zAmg$c09c26dac921e38ab46c7ed31b926c73f949ab35950bfadb4840492c912765415f384cc8251c52e271c67f5204d3ff34519847065f7d4de5dcee7ffbba7f5ac2"),
    // werkzeug
    (Pbkdf2, "correct horse", "pbkdf2:sha1:1500$QP9015PV1LqlY6ra$e57747864287c473fbe1b7b549c057f1b4cadc7b"),
    // werkzeug
    (Scrypt, "correct horse", "scrypt:1024:8:1$YwZ1sCHUuqm74hOe$c44a54f1d4c2b740b4f51281ef0bf97efb6bd4512efa090009f8d24480e6681483c9f16ada695924dcea9abb3572bd4d456941148ab1c5674afb6800168dc1af"),
    // passlib scrypt
    (Scrypt, "correct horse", "$scrypt$ln=10,r=8,p=2$c29tZXNhbHRzb21lc2FsdA$ytETQei6Pjo6kngSMxouNKSWgZqup9i8n5isXNSvKKM"),
    // hashlib scrypt phc
    (Scrypt, "Grüße-가", "$scrypt$ln=11,r=4,p=3$c29tZXNhbHRzb21lc2FsdA$NV1A+rK43qfNXk1eMUXZT9n35sboa3u9uaItssiK8BpBZ1qbslZA9ArxsqkRlRsn+gFQ5WH039n+LBS6EsuM9Q"),
    // django scrypt
    (Scrypt, "correct horse", "scrypt$1024$seasalt12$8$2$wKnc8FufRtVYMb9IXyFUaElVHsifp7Lze0kSEcqkDwp0i5OdGJB04vT6g8k2JDvvP5nNqNP2pgLQRuIfHDct7g=="),
    // django argon2
    (Argon2, "correct horse", "argon2$argon2id$v=19$m=64,t=1,p=1$c2Vhc2FsdDFzZWFzYWx0MQ$lf8cVB9iKCEyKVMI/ZQDWVUmts6oBelo2DYoT4FmAwg"),
];
