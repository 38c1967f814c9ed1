use std::sync::LazyLock;

use chrono::DateTime;
use lettre::message::Mailbox;
use proptest::prelude::*;
use uuid::Uuid;

use super::dkim::{Dkim, DkimError};
use super::{AddressFault, BuildError, Built, Envelope, MAX_NAME, Parts, body, build, head, single_line};

const ID: Uuid = Uuid::from_u128(0x0192_f5b0_7c4e_7000_8000_0000_0000_002a);

static FROM: LazyLock<Mailbox> = LazyLock::new(|| "Example Accounts <no-reply@example.com>".parse().unwrap());
static REPLY_TO: LazyLock<Mailbox> = LazyLock::new(|| "Help <help@example.org>".parse().unwrap());

fn parts<'a>(change: impl FnOnce(&mut Parts<'a>)) -> Parts<'a> {
    let mut parts = Parts {
        id: ID,
        date: DateTime::from_timestamp(1_763_780_700, 0).unwrap(),
        from: &FROM,
        reply_to: Some(&REPLY_TO),
        to_name: Some("Anna Example"),
        to_address: "anna@example.net",
        subject: "Choose a new password",
        text: "Hello\nAnna",
        html: "<p>Hello Anna</p>",
    };
    change(&mut parts);
    parts
}

fn built<'a>(change: impl FnOnce(&mut Parts<'a>)) -> Result<Built, BuildError> {
    build(&parts(change), None)
}

fn text(built: &Built) -> String {
    String::from_utf8(built.bytes.clone()).unwrap()
}

/// The headers of a message, unfolded.
fn headers(built: &Built) -> Vec<String> {
    let text = text(built);
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    head.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect()
}

#[test]
fn a_whole_message() {
    let built = built(|_| {}).unwrap();
    insta::assert_snapshot!(text(&built).replace("\r\n", "\n"), @r#"
    Message-ID: <0192f5b0-7c4e-7000-8000-00000000002a@example.com>
    Date: Sat, 22 Nov 2025 03:05:00 +0000
    From: "Example Accounts" <no-reply@example.com>
    To: "Anna Example" <anna@example.net>
    Subject: Choose a new password
    Reply-To: Help <help@example.org>
    Auto-Submitted: auto-generated
    X-Auto-Response-Suppress: All
    MIME-Version: 1.0
    Content-Type: multipart/alternative;
     boundary="=_0192f5b07c4e7000800000000000002a"
    Content-Transfer-Encoding: 7bit

    --=_0192f5b07c4e7000800000000000002a
    Content-Type: text/plain; charset=utf-8
    Content-Transfer-Encoding: 7bit

    Hello
    Anna
    --=_0192f5b07c4e7000800000000000002a
    Content-Type: text/html; charset=utf-8
    Content-Transfer-Encoding: 7bit

    <p>Hello Anna</p>
    --=_0192f5b07c4e7000800000000000002a--
    "#);
    assert_eq!(built.message_id, "<0192f5b0-7c4e-7000-8000-00000000002a@example.com>");
    assert_eq!((built.envelope.from(), built.envelope.to()), ("no-reply@example.com", "anna@example.net"));
    assert!(!format!("{built:?} {:?}", built.envelope).contains("anna"));
}

#[test]
fn the_same_email_twice_is_the_same_bytes() {
    assert_eq!(built(|_| {}).unwrap().bytes, built(|_| {}).unwrap().bytes);
}

#[test]
fn no_text_starts_a_header() {
    let normal = headers(&built(|_| {}).unwrap()).len();
    for hostile in [
        "x\r\nBcc: evil@example.com",
        "x\nBcc: e@x.y",
        "x\rBcc: e@x.y",
        "x\r\n\r\nbody",
        "\0\u{85}\u{2028}",
        "é\r\n\r\nBcc: e@x.y\r\n",
    ] {
        let built = built(|parts| {
            parts.subject = hostile;
            parts.to_name = Some(hostile);
        })
        .unwrap();
        let headers = headers(&built);
        assert_eq!(headers.len(), normal, "{headers:#?}");
        assert!(
            !headers.iter().any(|header| header.starts_with("Bcc") || header.contains(['\r', '\n'])),
            "{headers:#?}"
        );
    }
}

#[test]
fn names_of_any_kind_stay_names() {
    for name in [
        "Evil <evil@example.com>, x",
        "\"quoted\" \\ back",
        "a, b; c",
        "=?utf-8?q?=0ABcc?=",
        "Ελένη 🦀",
        "evil@example.com",
        "\u{202e}",
        " ",
    ] {
        let built = built(|parts| parts.to_name = Some(name)).unwrap();
        let to = headers(&built).into_iter().find(|header| header.starts_with("To: ")).unwrap();
        assert!(to.ends_with("anna@example.net>") || to == "To: anna@example.net", "{to}");
        assert!(!to.contains("=?utf-8?q"), "{to}");
        assert!(to.is_ascii());
        assert_eq!(built.envelope.to(), "anna@example.net");
    }
}

#[test]
fn bodies_of_any_kind_are_ascii_with_crlf() {
    let long = "long ".repeat(1000);
    for body in ["", "\n.\n", "a\rb\nc\r\nd", "\0\u{7f}", "Ελένη 🦀\n", &long, "\r\n.\r\nQUIT\r\n"] {
        let built = built(|parts| (parts.text, parts.html) = (body, body)).unwrap();
        assert!(built.bytes.is_ascii() && !built.bytes.contains(&0));
        let text = text(&built);
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{text:?}");
        assert!(text.split("\r\n").all(|line| line.len() <= 998));
    }
}

/// What lettre makes of it.
fn by_lettre(parts: &Parts<'_>) -> String {
    let head = head(parts).unwrap();
    let mut bytes = Vec::new();
    body::alternative(&head.boundary, parts.text, parts.html, &mut bytes);
    String::from_utf8(head.message(bytes).unwrap().formatted()).unwrap()
}

#[test]
fn the_longest_headers_of_one_line_are_as_lettre_writes_them() {
    let subject = "Subject: ".len();
    for length in 0..120 {
        for word in ["a", "a ", "a b", "ab  ", "é", "é a ", "a, b", "\\", "\"a\" "] {
            let text: String = word.chars().cycle().take(length).collect();
            let parts = parts(|parts| (parts.subject, parts.to_name) = (&text, Some(text.as_str())));
            let own = self::text(&build(&parts, None).unwrap());
            assert_eq!(own, by_lettre(&parts), "{text:?}");
            let fits = text.is_ascii() && subject + text.trim().len() <= 76;
            assert!(!fits || own.contains(&format!("Subject: {}\r\n", text.trim())));
        }
    }
    for seconds in [0, 951_782_399, 951_782_400, 1_709_164_801, 4_102_444_800, 253_402_300_799] {
        let parts = parts(|parts| parts.date = DateTime::from_timestamp(seconds, 999_999_999).unwrap());
        assert_eq!(text(&build(&parts, None).unwrap()), by_lettre(&parts));
    }
}

proptest! {
    /// Its headers that are written without lettre's help are the same.
    #[test]
    fn every_message_is_as_lettre_writes_it(
        name in "(\\PC|[ a-zA-Z.,_\"\\\\=?\r\n\0-]){0,110}",
        subject in "(\\PC|[ a-zA-Z.=?é\r\n\0]){0,270}",
        sender in "[ a-zA-Zé.-]{0,80}",
        to in prop::sample::select(vec![
            "a@example.com", "élise@bücher.example", "\"a b\"@example.com", "x+y_z@[192.0.2.1]", " o'neill@EXAMPLE.com ",
        ]),
        seconds in 0_i64..4_000_000_000,
        names: [bool; 3],
    ) {
        let from = Mailbox::new(names[0].then_some(sender.clone()), "no-reply@bücher.example".parse().unwrap());
        let reply_to = Mailbox::new(names[1].then_some(sender), "help@example.org".parse().unwrap());
        let parts = parts(|parts| {
            *parts = Parts {
                from: &from,
                reply_to: names[2].then_some(&reply_to),
                to_name: Some(&name),
                to_address: to,
                subject: &subject,
                date: DateTime::from_timestamp(seconds, 0).unwrap(),
                ..*parts
            }
        });
        prop_assert_eq!(text(&build(&parts, None).unwrap()), by_lettre(&parts));
    }

    /// The short way of texts in ASCII is no other way.
    #[test]
    fn a_line_is_the_same_with_and_without_the_short_way(text in "[ a=?~]{0,12}", max in 0_usize..20) {
        // The first character is a blank for the long way, which is not part of the line.
        let long = single_line(&format!("\u{2028}{text}"), max + 1).into_owned();
        prop_assert_eq!(single_line(&text, max), long);
    }
}

#[test]
fn long_names_and_subjects_are_cut() {
    assert_eq!(single_line(&"é".repeat(500), MAX_NAME).chars().count(), MAX_NAME + 1);
    assert_eq!(single_line("  a\tb  ", 10), "a b");
    assert_eq!(single_line("exactly", 7), "exactly");
}

#[test]
fn addresses_that_cannot_be_written_to_are_final_errors() {
    let too_long = format!("a@{}.example", ["b".repeat(60).as_str(); 5].join("."));
    for address in [
        "",
        "anna",
        "@example.com",
        "a b@example.com",
        "a@b@c",
        "a@exa mple.com",
        "a\r\nb@example.com",
        "a@example.com>",
        "<a@example.com>",
        &too_long,
        "\"a>b\"@example.com",
    ] {
        let fault = built(|parts| parts.to_address = address).unwrap_err();
        assert!(matches!(fault, BuildError::Recipient(_)), "{address:?}: {fault}");
        assert!(fault.to_string().starts_with("the recipient's address cannot be written to: "));
    }
    let from = lettre::Address::new_dangerous("a\r\nb", "example.com");
    let to = "a@example.com".parse().unwrap();
    assert_eq!(Envelope::new(&from, &to).unwrap_err(), AddressFault::Unsafe);
}

#[test]
fn international_addresses() {
    let domain = built(|parts| parts.to_address = " anna@bücher.example ").unwrap();
    assert!(domain.bytes.is_ascii() && domain.envelope.is_ascii());
    assert_eq!(domain.envelope.to(), "anna@xn--bcher-kva.example");
    let local = built(|parts| parts.to_address = "élise@example.com").unwrap();
    assert!(!local.envelope.is_ascii());
    assert!(text(&local).contains("<élise@example.com>"));
}

/// Made with `openssl genrsa 1024` for this test.
const RSA_PKCS8: &str = include_str!("testdata/rsa_pkcs8.pem");
const RSA_PKCS1: &str = include_str!("testdata/rsa_pkcs1.pem");
const ED25519: &str = include_str!("testdata/ed25519.pem");

fn load(key: &str) -> Result<Dkim, DkimError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key).unwrap();
    Dkim::load("example.com", "s1", file.path())
}

fn signature(dkim: &Dkim) -> String {
    let built = build(&parts(|parts| parts.reply_to = None), Some(dkim)).unwrap();
    let header = headers(&built).into_iter().find(|header| header.starts_with("DKIM-Signature: ")).unwrap();
    header.replace(' ', "")
}

#[test]
fn signatures_in_every_kind_of_key_file() {
    let pkcs8 = signature(&load(RSA_PKCS8).unwrap());
    assert!(pkcs8.contains("a=rsa-sha256;d=example.com;s=s1;c=relaxed/relaxed"), "{pkcs8}");
    assert!(pkcs8.contains("h=from:reply-to:to:subject:date:message-id:mime-version;"), "{pkcs8}");
    let without_time = |signature: &str| {
        let (head, tail) = signature.split_once("t=").unwrap();
        format!("{head}{}", tail.split_once(";h=").unwrap().1.split_once("b=").unwrap().0)
    };
    assert_eq!(without_time(&signature(&load(RSA_PKCS1).unwrap())), without_time(&pkcs8));
    let ed25519 = signature(&load(ED25519).unwrap());
    assert!(ed25519.contains("a=ed25519-sha256;"), "{ed25519}");
    assert!(signature(&load("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap()).contains("a=ed25519-sha256;"));
}

#[test]
fn keys_that_cannot_sign_are_refused_with_the_way_out() {
    for key in [
        "",
        "hello",
        "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\n*\n",
    ] {
        let fault = load(key).unwrap_err();
        assert!(fault.to_string().contains("openssl gen"), "{fault}");
    }
    let fault = Dkim::load("example.com", "s1", "/no/such/file".as_ref()).unwrap_err();
    assert!(fault.to_string().contains("mail.dkim.key_file /no/such/file"), "{fault}");
    assert!(Dkim::load("exa mple", "s1", "/".as_ref()).unwrap_err().to_string().contains("mail.dkim.domain"));
    assert!(Dkim::load("example.com", "", "/".as_ref()).unwrap_err().to_string().contains("mail.dkim.selector"));
}

/// lettre's signing recurses once a character of the signed headers.
#[test]
fn the_longest_headers_can_be_signed_on_a_small_stack() {
    let dkim = load(RSA_PKCS8).unwrap();
    let name = "🦀".repeat(100_000);
    let sign =
        || build(&parts(|parts| (parts.subject, parts.to_name) = (&name, Some(name.as_str()))), Some(&dkim)).is_ok();
    let signed = std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().stack_size(2 << 20).spawn_scoped(scope, sign);
        worker.unwrap().join().unwrap()
    });
    assert!(signed);
}
